//! Products with weights that are not learned, in a computation that is gone back through.
//!
//! The library's product gives back a gradient of the weight too, as large as the weight itself and
//! read by nobody, and its quantised products give back nothing at all. Here the forward product is
//! the served one, whatever the weight is held as, and what comes back goes to the input alone.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Shape, Storage, Tensor,
};

use crate::error::Result;

/// What a product gives back: a gradient `(rows, out)` → `(rows, in)`.
pub(super) type Back = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>;

/// Enters a finished product of `x` into `x`'s history.
///
/// # Errors
/// What the device says.
pub(super) fn enter(x: &Tensor, product: Tensor, back: Back) -> Result<Tensor> {
    Ok(x.apply_op1(Frozen { product, back })?)
}

struct Frozen {
    product: Tensor,
    back: Back,
}

impl Frozen {
    /// The numbers of the product, copied; `of` picks the device's storage.
    fn numbers<S: BackendStorage>(
        &self,
        of: impl Fn(&Storage) -> Option<&S>,
    ) -> candle_core::Result<(S, Shape)> {
        let product = self.product.contiguous()?;
        let (storage, layout) = product.storage_and_layout();
        match (of(&storage), layout.contiguous_offsets()) {
            (Some(numbers), Some((0, _))) => {
                Ok((numbers.try_clone(layout)?, layout.shape().clone()))
            }
            _ => candle_core::bail!("a product that does not lie as it was computed"),
        }
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-product"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.numbers(|storage| match storage {
            Storage::Cpu(numbers) => Some(numbers),
            _ => None,
        })
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.numbers(|storage| match storage {
            Storage::Cuda(numbers) => Some(numbers),
            _ => None,
        })
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
    ) -> candle_core::Result<(MetalStorage, Shape)> {
        self.numbers(|storage| match storage {
            Storage::Metal(numbers) => Some(numbers),
            _ => None,
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, back: &Tensor) -> candle_core::Result<Option<Tensor>> {
        (self.back)(back)
            .map(Some)
            .map_err(candle_core::Error::wrap)
    }
}
