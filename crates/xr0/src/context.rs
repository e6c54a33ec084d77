//! The context: what the brain hands to the action expert (reference §5, "what the DiT reads").

use candle_core::{DType, Device, Tensor};
use half::bf16;

use crate::error::{Error, Result};

/// Keys and values of one text layer, of `b` prompts of `s` tokens.
#[derive(Debug, Clone)]
pub struct KvLayer {
    /// `(b, kv_heads, s, head_dim)`: behind the key norm and the rotation.
    pub k: Tensor,
    /// `(b, kv_heads, s, head_dim)`.
    pub v: Tensor,
}

/// A context of `b` prompts.
#[derive(Debug, Clone)]
pub struct Context {
    /// The layers that the action expert reads, in its own order.
    pub layers: Vec<KvLayer>,
    /// Largest position id of each prompt; the expert's tokens continue behind it.
    pub p_end: Vec<u32>,
    /// `(b, s)`: which tokens are real.
    pub mask: Vec<Vec<bool>>,
}

/// One layer of a context of one prompt, as numbers that can travel.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerBytes {
    /// Type of the numbers.
    pub dtype: DType,
    /// `[2, kv_heads, s, head_dim]`: keys, then values.
    pub shape: [usize; 4],
    /// Row-major, little endian.
    pub bytes: Vec<u8>,
}

impl Context {
    /// Gives layer `index` of a context of one prompt in the model's own type: exact.
    ///
    /// # Errors
    /// A context of several prompts, or no such layer.
    pub fn layer_bytes(&self, index: usize) -> Result<LayerBytes> {
        let layer = self.layers.get(index);
        let layer =
            layer.ok_or_else(|| Error::input(format!("the context has no layer {index}")))?;
        let both = Tensor::cat(&[&layer.k, &layer.v], 0)?.to_device(&Device::Cpu)?;
        let (two, kv, s, d) = both.dims4()?;
        if two != 2 {
            return Err(Error::input(
                "only a context of one prompt can be handed over",
            ));
        }
        let flat = both.flatten_all()?;
        let bytes = match flat.dtype() {
            DType::F32 => flat
                .to_vec1::<f32>()?
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect(),
            DType::BF16 => flat
                .to_vec1::<bf16>()?
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect(),
            other => {
                return Err(Error::input(format!(
                    "a context cannot travel as {other:?}"
                )));
            }
        };
        Ok(LayerBytes {
            dtype: flat.dtype(),
            shape: [two, kv, s, d],
            bytes,
        })
    }
}

impl KvLayer {
    /// Makes a layer of one prompt from what [`Context::layer_bytes`] gave.
    ///
    /// # Errors
    /// Bytes that do not fit the shape, or another type than f32 or bf16.
    pub fn from_bytes(layer: &LayerBytes, device: &Device) -> Result<Self> {
        let [two, kv, s, d] = layer.shape;
        let n_bytes = [kv, s, d]
            .iter()
            .try_fold(2 * layer.dtype.size_in_bytes(), |n, dim| {
                n.checked_mul(*dim)
            });
        let fits = two == 2
            && n_bytes == Some(layer.bytes.len())
            && matches!(layer.dtype, DType::F32 | DType::BF16);
        if !fits {
            return Err(Error::input(
                "a layer's bytes do not fit its type and shape",
            ));
        }
        let both = Tensor::from_raw_buffer(&layer.bytes, layer.dtype, &[2, kv, s, d], device)?;
        Ok(Self {
            k: both.narrow(0, 0, 1)?,
            v: both.narrow(0, 1, 1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(dtype: DType) -> Context {
        let tensor = |from: f32| {
            let values = Tensor::arange(from, from + 24.0, &Device::Cpu).unwrap();
            values
                .reshape((1, 2, 3, 4))
                .unwrap()
                .to_dtype(dtype)
                .unwrap()
        };
        Context {
            layers: vec![KvLayer {
                k: tensor(0.0),
                v: tensor(0.5),
            }],
            p_end: vec![2],
            mask: vec![vec![true; 3]],
        }
    }

    #[test]
    fn a_layer_survives_the_journey_bit_for_bit() {
        for dtype in [DType::F32, DType::BF16] {
            let context = context(dtype);
            let bytes = context.layer_bytes(0).unwrap();
            assert_eq!(bytes.shape, [2, 2, 3, 4]);
            let back = KvLayer::from_bytes(&bytes, &Device::Cpu).unwrap();
            let values = |t: &Tensor| {
                let flat = t.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                flat.to_vec1::<f32>().unwrap()
            };
            assert_eq!(values(&back.k), values(&context.layers[0].k));
            assert_eq!(values(&back.v), values(&context.layers[0].v));
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        let good = context(DType::F32).layer_bytes(0).unwrap();
        let short = LayerBytes {
            bytes: good.bytes[1..].to_vec(),
            ..good.clone()
        };
        let odd = LayerBytes {
            shape: [1, 4, 3, 4],
            ..good.clone()
        };
        let huge = LayerBytes {
            shape: [2, usize::MAX, 3, 4],
            ..good.clone()
        };
        let alien = LayerBytes {
            dtype: DType::U32,
            ..good
        };
        for bad in [short, odd, huge, alien] {
            assert!(KvLayer::from_bytes(&bad, &Device::Cpu).is_err());
        }
    }
}
