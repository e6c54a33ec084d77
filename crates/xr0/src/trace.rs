//! Looks into a computation: every intermediate result that has a name.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::error::Result;

/// Takes intermediate results by name; the names are the golden fixtures'.
pub trait Trace {
    /// Takes one.
    fn take(&mut self, name: &str, index: Option<usize>, tensor: &Tensor);
}

/// Looks at nothing: what serving uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blind;

impl Trace for Blind {
    fn take(&mut self, _name: &str, _index: Option<usize>, _tensor: &Tensor) {}
}

/// Keeps everything, as `name` or `name.index`.
#[derive(Debug, Default)]
pub struct Kept {
    tensors: BTreeMap<String, Tensor>,
}

impl Trace for Kept {
    fn take(&mut self, name: &str, index: Option<usize>, tensor: &Tensor) {
        let name = index.map_or_else(|| name.to_owned(), |index| format!("{name}.{index}"));
        self.tensors.insert(name, tensor.clone());
    }
}

impl Kept {
    /// Gives a kept tensor.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Gives a kept tensor as f32 on the CPU.
    ///
    /// # Errors
    /// What the copy from the device says.
    pub fn f32(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(tensor) = self.tensors.get(name) else {
            return Ok(None);
        };
        let tensor = tensor.to_dtype(DType::F32)?;
        Ok(Some(tensor.to_device(&candle_core::Device::Cpu)?))
    }
}
