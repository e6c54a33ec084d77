//! Weights by name, read from the mapped shards when a layer asks for them.
//!
//! So only one tensor exists twice at a time: nine gigabytes of bf16 become one copy in the type
//! that the network computes in, and layers may turn or quantise a weight as they take it.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use half::bf16;

use crate::checkpoint::shard::Shard;
use crate::layout::TensorSpec;

/// Some tensors of a checkpoint's shards.
pub(super) struct Stored {
    shards: Arc<[Shard]>,
    shapes: HashMap<String, Vec<usize>>,
}

impl Stored {
    /// Offers these tensors and no other.
    pub(super) fn new(shards: Arc<[Shard]>, specs: impl Iterator<Item = TensorSpec>) -> Self {
        Self {
            shards,
            shapes: specs.map(|spec| (spec.name, spec.shape)).collect(),
        }
    }

    fn read(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let missing = || candle_core::Error::CannotFindTensor {
            path: name.to_owned(),
        };
        let shape = self.shapes.get(name).ok_or_else(|| missing().bt())?;
        let holds = |shard: &&Shard| shard.tensor(name).is_some();
        let shard = self.shards.iter().find(holds);
        let shard = shard.ok_or_else(|| missing().bt())?;
        let stored = shard.tensor(name).ok_or_else(|| missing().bt())?;
        let copied = copy(stored, (shape, dtype), device);
        // Its bytes are in this process now, in the type that is computed in.
        shard.release(name);
        copied
    }
}

/// Copies a tensor's bytes to a device, as `dtype`.
fn copy(
    (from, bytes): (DType, &[u8]),
    (shape, dtype): (&[usize], DType),
    device: &Device,
) -> candle_core::Result<Tensor> {
    if let (DType::BF16, DType::F32, Device::Cpu) = (from, dtype, device) {
        // Released weights on the processor: straight from the file, without a copy between.
        let pairs = bytes.as_chunks::<2>().0.iter();
        let numbers: Vec<_> = pairs
            .map(|pair| bf16::from_le_bytes(*pair).to_f32())
            .collect();
        return Tensor::from_vec(numbers, shape, device);
    }
    Tensor::from_raw_buffer(bytes, from, shape, device)?.to_dtype(dtype)
}

/// Gives a tensor back if it has the shape that a layer asks for.
pub(crate) fn of_shape(tensor: Tensor, shape: Shape, name: &str) -> candle_core::Result<Tensor> {
    if tensor.shape() == &shape {
        return Ok(tensor);
    }
    Err(candle_core::Error::UnexpectedShape {
        msg: format!("shape mismatch for {name}"),
        expected: shape,
        got: tensor.shape().clone(),
    }
    .bt())
}

impl SimpleBackend for Stored {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        of_shape(self.read(name, dtype, device)?, shape, name)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.read(name, dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }
}
