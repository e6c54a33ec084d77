//! One safetensors file: a length, a JSON header, and the tensors' bytes.
//!
//! ```text
//! 0        8             8 + n                       end
//! │ n: u64 │ JSON header │ tensors, without any gap   │
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use candle_core::DType;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::checkpoint::map::Map;
use crate::checkpoint::read;
use crate::checkpoint::unique::Unique;

/// Bytes before the header: its length.
const LENGTH: usize = 8;
/// The format's own bound on a header, bytes.
const HEADER_MAX: u64 = 100_000_000;

/// A tensor of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its number type.
    pub(crate) dtype: Dtype,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Where its bytes lie in the file.
    pub(super) range: Range<usize>,
}

/// A mapped file and what its header says.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The file's name.
    pub(crate) name: String,
    /// Its tensors by name; none if the header is wrong.
    pub(crate) tensors: Option<BTreeMap<String, Stored>>,
    pub(super) file: File,
    map: Map,
}

impl Shard {
    /// Maps a file and reads its header; what is wrong goes to `faults`.
    pub(crate) fn open(dir: &Path, name: &str, faults: &mut Vec<String>) -> Option<Self> {
        let mapped = read::open(&dir.join(name)).and_then(|(file, _)| {
            let unmapped = |error| read::Unreadable::Other(format!("cannot be mapped: {error}"));
            Ok((Map::new(&file).map_err(unmapped)?, file))
        });
        let (map, file) = match mapped {
            Ok(mapped) => mapped,
            Err(unreadable) => {
                faults.push(unreadable.problem());
                return None;
            }
        };
        let tensors = match header(map.bytes()) {
            Ok(tensors) => Some(tensors),
            Err(problem) => {
                faults.push(problem);
                None
            }
        };
        Some(Self {
            name: name.to_owned(),
            tensors,
            file,
            map,
        })
    }

    /// Gives a tensor's number type and bytes.
    pub(crate) fn tensor(&self, name: &str) -> Option<(DType, &[u8])> {
        let stored = self.tensors.as_ref()?.get(name)?;
        let bytes = self.map.bytes().get(stored.range.clone())?;
        Some((candle_dtype(stored.dtype)?, bytes))
    }

    /// Lets go of the memory behind a tensor's bytes, until they are looked at again.
    pub(crate) fn release(&self, name: &str) {
        let stored = self.tensors.as_ref().and_then(|tensors| tensors.get(name));
        if let Some(stored) = stored {
            self.map.release(stored.range.clone());
        }
    }
}

/// The number types that weights may have.
pub(crate) fn candle_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        Dtype::F32 => Some(DType::F32),
        _ => None,
    }
}

/// Reads a header.
fn header(file: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    let (json, start) = json(file)?;
    let names: Unique<IgnoredAny> =
        serde_json::from_slice(json).map_err(|error| format!("its header is no JSON: {error}"))?;
    let twice = names
        .repeated
        .iter()
        .map(|name| format!("its header names {name} twice"));
    let twice: Vec<_> = twice.collect();
    if !twice.is_empty() {
        return Err(twice.join(", "));
    }
    // The format's own checks: offsets without gap or overlap, sizes that are shape times type.
    let header: Metadata = serde_json::from_slice(json).map_err(|error| {
        let problem = misfit(json).unwrap_or_else(|| error.to_string());
        format!("its header is wrong: {problem}")
    })?;
    let described = (header.data_len() as u64).saturating_add(start as u64);
    if described != file.len() as u64 {
        let fault = if (file.len() as u64) < described {
            "truncated"
        } else {
            "too long"
        };
        let length = file.len();
        return Err(format!(
            "is {fault}: its header describes {described} bytes, it has {length}"
        ));
    }
    let stored = header.tensors().into_iter().map(|(name, info)| {
        let (from, to) = info.data_offsets;
        let range = start + from..start + to;
        (
            name,
            Stored {
                dtype: info.dtype,
                shape: info.shape.clone(),
                range,
            },
        )
    });
    Ok(stored.collect())
}

/// Names the first tensor whose bytes are not where and as many as they should be; nothing if that is
/// not what is wrong.
fn misfit(json: &[u8]) -> Option<String> {
    let all: BTreeMap<String, Value> = serde_json::from_slice(json).ok()?;
    let tensors = all.into_iter().filter(|(name, _)| name != "__metadata__");
    let read = |(name, info)| Some((name, serde_json::from_value::<TensorInfo>(info).ok()?));
    let mut tensors = tensors.map(read).collect::<Option<Vec<_>>>()?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let (mut end, mut before) = (0, String::new());
    for (name, info) in tensors {
        let (from, to) = info.data_offsets;
        if from < end {
            return Some(format!("{name} begins at byte {from}, inside of {before}"));
        }
        if end < from {
            let gap = from - end;
            return Some(format!(
                "{name} begins at byte {from}, behind a gap of {gap}"
            ));
        }
        let numbers = info
            .shape
            .iter()
            .try_fold(1_usize, |n, side| n.checked_mul(*side));
        let bits = numbers.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        let bytes = to.checked_sub(from)?;
        if bits != bytes.checked_mul(8) {
            let (shape, dtype) = (info.shape, info.dtype);
            return Some(format!(
                "{name} has {bytes} bytes, which shape {shape:?} of {dtype} does not"
            ));
        }
        (end, before) = (to, name);
    }
    None
}

/// Cuts the header out, and gives where the tensors start.
fn json(file: &[u8]) -> Result<(&[u8], usize), String> {
    let length = file.len();
    let short = || format!("is truncated: {length} bytes are no safetensors file");
    let (head, rest) = file.split_first_chunk::<LENGTH>().ok_or_else(short)?;
    let header = u64::from_le_bytes(*head);
    if HEADER_MAX < header {
        return Err(format!(
            "says its header has {header} bytes, at most {HEADER_MAX} are read"
        ));
    }
    let json = usize::try_from(header)
        .ok()
        .and_then(|header| rest.get(..header));
    let json = json.ok_or_else(|| {
        format!(
            "is truncated: its header should have {header} bytes, {} follow",
            rest.len()
        )
    })?;
    Ok((json, LENGTH + json.len()))
}
