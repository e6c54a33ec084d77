//! One safetensors file: a length, a JSON header, and the tensors' bytes.
//!
//! ```text
//! 0        8             8 + n                       end
//! │ n: u64 │ JSON header │ tensors, without any gap   │
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use candle_core::DType;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::IgnoredAny;

use crate::checkpoint::digest::Digest;
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
    range: Range<usize>,
}

/// A mapped file and what its header says.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The file's name.
    pub(crate) name: String,
    /// Its tensors by name; none if the header is wrong.
    pub(crate) tensors: Option<BTreeMap<String, Stored>>,
    map: Map,
}

impl Shard {
    /// Maps a file and reads its header; what is wrong goes to `faults`.
    pub(crate) fn open(dir: &Path, name: &str, faults: &mut Vec<String>) -> Option<Self> {
        let mapped = read::open(&dir.join(name)).and_then(|(file, _)| {
            let unmapped = |error| read::Unreadable::Other(format!("cannot be mapped: {error}"));
            Map::new(&file).map_err(unmapped)
        });
        let map = match mapped {
            Ok(map) => map,
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
            map,
        })
    }

    /// Gives a tensor's number type and bytes.
    pub(crate) fn tensor(&self, name: &str) -> Option<(DType, &[u8])> {
        let stored = self.tensors.as_ref()?.get(name)?;
        let bytes = self.map.bytes().get(stored.range.clone())?;
        Some((candle_dtype(stored.dtype)?, bytes))
    }

    /// Fingerprints the file; reads all of it.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.name, self.map.bytes())
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
    let header: Metadata =
        serde_json::from_slice(json).map_err(|error| format!("its header is wrong: {error}"))?;
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
