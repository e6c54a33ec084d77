//! Which tensor goes into which file, and what the file's header says.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::layout::TensorSpec;

/// Bytes of a bf16 number.
const NUMBER: u64 = 2;

/// One file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// Its name.
    pub(super) file: String,
    /// Its tensors in the order of their bytes, which is that of their names.
    pub(super) tensors: Vec<TensorSpec>,
}

/// Distributes tensors, in their order, over files of at most `limit` bytes of tensors.
pub(super) fn plan(specs: Vec<TensorSpec>, limit: u64) -> Vec<Planned> {
    let mut groups: Vec<Vec<TensorSpec>> = Vec::new();
    let mut filled = 0;
    for spec in specs {
        let size = bytes(&spec);
        match groups.last_mut() {
            Some(group) if size <= limit.saturating_sub(filled) => {
                group.push(spec);
                filled += size;
            }
            _ => {
                groups.push(vec![spec]);
                filled = size;
            }
        }
    }
    let count = groups.len();
    let planned = groups.into_iter().zip(1..).map(|(mut tensors, number)| {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Planned {
            file: format!("model-{number:05}-of-{count:05}.safetensors"),
            tensors,
        }
    });
    planned.collect()
}

/// Bytes of a tensor in the file.
pub(super) fn bytes(spec: &TensorSpec) -> u64 {
    NUMBER.saturating_mul(spec.elements())
}

/// Gives what stands before the tensors of a file: a length, and a header of whole eight bytes.
pub(super) fn head(planned: &Planned) -> Result<Vec<u8>> {
    let mut from = 0;
    let mut infos = Vec::with_capacity(planned.tensors.len());
    for spec in &planned.tensors {
        let to = from + bytes(spec) as usize;
        let shape = spec.shape.clone();
        let info = TensorInfo {
            dtype: Dtype::BF16,
            shape,
            data_offsets: (from, to),
        };
        infos.push((spec.name.clone(), info));
        from = to;
    }
    let format = Some([("format".to_owned(), "pt".to_owned())].into());
    let header = Metadata::new(format, infos);
    let header = header.map_err(|error| Error::input(format!("{}: {error}", planned.file)))?;
    let header = serde_json::to_vec(&header);
    let mut header = header.map_err(|error| Error::input(format!("{}: {error}", planned.file)))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.append(&mut header);
    Ok(head)
}

/// Gives the index over all files.
pub(super) fn index(shards: &[Planned]) -> Value {
    let all = || {
        shards
            .iter()
            .flat_map(|shard| shard.tensors.iter().map(move |spec| (shard, spec)))
    };
    let places: BTreeMap<_, _> = all()
        .map(|(shard, spec)| (&*spec.name, &*shard.file))
        .collect();
    json!({
        "metadata": {
            "total_parameters": all().map(|(_, spec)| spec.elements()).sum::<u64>(),
            "total_size": all().map(|(_, spec)| bytes(spec)).sum::<u64>(),
        },
        "weight_map": places,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Part;

    fn spec(name: &str, elements: usize) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            shape: vec![elements],
            part: Part::Text,
        }
    }

    #[test]
    fn a_file_takes_tensors_until_the_next_would_not_fit() {
        let specs = || {
            vec![
                spec("d", 4),
                spec("c", 1),
                spec("b", 1),
                spec("a", 9),
                spec("e", 1),
            ]
        };
        let names = |limit| -> Vec<Vec<String>> {
            let plan = plan(specs(), limit).into_iter();
            plan.map(|shard| shard.tensors.into_iter().map(|spec| spec.name).collect())
                .collect()
        };
        // 8, 2, 2, 18 and 2 bytes.
        assert_eq!(vec![vec!["b", "c", "d"], vec!["a"], vec!["e"]], names(12));
        assert_eq!(
            vec![vec!["c", "d"], vec!["b"], vec!["a"], vec!["e"]],
            names(11)
        );
        assert_eq!(vec![vec!["a", "b", "c", "d", "e"]], names(32));
    }

    #[test]
    fn files_are_numbered_from_one() {
        let files = plan(vec![spec("a", 1), spec("b", 1)], 2).into_iter();
        let files: Vec<_> = files.map(|shard| shard.file).collect();
        assert_eq!(
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors"
            ],
            *files
        );
    }
}
