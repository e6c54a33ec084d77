//! Products with weights, which may be held in less memory than they are computed in.
//!
//! | held as | on a processor | on a GPU |
//! |---|---|---|
//! | f32 | turned in memory | as stored |
//! | bf16 | tiles, each widened just before its product | as stored, computed in bf16 |
//! | eight bits | tiles likewise; candle's quantised product for few rows | quantised product |
//! | four bits | quantised product, 31 rows at a time | quantised product |
//!
//! A tile is `TILE` outputs: widened it fits the core's own cache, and threads work on tiles beside
//! each other. A sum over inputs is never cut, so results do not depend on how the work is split.
//!
//! An input that keeps its history, since somebody asks what it changes, gets the same numbers, and
//! gives its gradient back whatever the weight is held as; a weight that is no variable gets none.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Module, Tensor};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::{Error, Result};
use crate::nn::frozen;
use crate::nn::weights::{Path, WeightType, Weights};

/// Outputs of a tile: 256 × 2560 numbers in f32 are 2.5 MB.
const TILE: usize = 256;
/// Most rows of one product with four-bit weights on a processor. For more candle unpacks the weight
/// into bytes, which takes 37 MB instead of 18 for 2560 × 9728 and is no faster (`benches/stages.rs`).
const FOUR_BIT_ROWS: usize = 31;

/// `x·Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    kernel: Kernel,
    bias: Option<Tensor>,
    n_in: usize,
    n_out: usize,
}

/// The weight `(out, in)`, as it is held.
#[derive(Debug, Clone)]
enum Kernel {
    /// `(in, out)` in the type that is computed in; see [`turned`].
    Turned(Tensor),
    /// Pieces of up to [`TILE`] outputs.
    Tiles(Arc<[Tile]>),
    /// Blocks with scales, multiplied as they are.
    Quantised(QMatMul),
}

/// Some outputs' weights, widened when they are used.
#[derive(Debug)]
enum Tile {
    /// `(in, outputs)`, bf16, turned in memory.
    Bf16(Tensor),
    /// `(outputs, in)`.
    Blocks(QTensor),
}

impl Linear {
    /// Loads `weight` and `bias`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, n_in: usize, n_out: usize) -> Result<Self> {
        let bias = Some(weights.get(n_out, "bias")?);
        Ok(Self {
            bias,
            ..Self::load_without_bias(weights, n_in, n_out)?
        })
    }

    /// Loads `weight`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load_without_bias(weights: &Weights, n_in: usize, n_out: usize) -> Result<Self> {
        let dtype = stored_type(weights);
        Self::new(&weights.get_as((n_out, n_in), "weight", dtype)?, weights)
    }

    /// Makes one without a bias from a weight `(out, in)` at hand, held as `weights` are.
    ///
    /// # Errors
    /// A weight that is no matrix.
    pub fn new(weight: &Tensor, weights: &Weights) -> Result<Self> {
        let (n_out, n_in) = weight.dims2()?;
        Ok(Self {
            kernel: Kernel::new(weight, weights)?,
            bias: None,
            n_in,
            n_out,
        })
    }

    /// Adds a bias `(out)`.
    #[must_use]
    pub fn with_bias(self, bias: Tensor) -> Self {
        Self {
            bias: Some(bias),
            ..self
        }
    }

    /// `(…, in)` → `(…, out)`.
    ///
    /// # Errors
    /// Another last dimension than `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let rows = x.elem_count() / self.n_in.max(1);
        let y = self.kernel.times(&x.reshape((rows, self.n_in))?)?; // (rows, out)
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        if let Some(last) = shape.last_mut() {
            *last = self.n_out;
        }
        Ok(y.reshape(shape)?)
    }
}

/// The type that a large weight is read as.
pub(super) fn stored_type(weights: &Weights) -> DType {
    match weights.held() {
        WeightType::Bf16 => DType::BF16,
        WeightType::F32 | WeightType::Q8 | WeightType::Q4 => weights.dtype(),
    }
}

impl Kernel {
    fn new(weight: &Tensor, weights: &Weights) -> Result<Self> {
        let on_processor = weights.device().is_cpu();
        let blocks = blocks(weights.held(), weight.dim(1)?);
        Ok(match (weights.held(), blocks) {
            (WeightType::Bf16, _) if on_processor => {
                Self::tiles(weight, |tile| Ok(Tile::Bf16(tile.t()?.contiguous()?)))?
            }
            (_, Some(GgmlDType::Q8_0)) if on_processor && !weights.few_rows() => {
                // The library quantises all numbers that lie behind a view: so they are copied first.
                let eight =
                    |tile: &Tensor| QTensor::quantize(&tile.force_contiguous()?, GgmlDType::Q8_0);
                Self::tiles(weight, |tile| Ok(Tile::Blocks(eight(tile)?)))?
            }
            (_, Some(blocks)) => {
                let cpu = weight.to_device(&candle_core::Device::Cpu)?;
                let quantised = QTensor::quantize_onto(&cpu, blocks, weights.device())?;
                Self::Quantised(QMatMul::from_qtensor(quantised)?)
            }
            (_, None) => Self::Turned(turned(weight, weights.path())?),
        })
    }

    fn tiles(weight: &Tensor, hold: impl Fn(&Tensor) -> Result<Tile>) -> Result<Self> {
        let n_out = weight.dim(0)?;
        let firsts = (0..n_out).step_by(TILE);
        let tile = |first| hold(&weight.narrow(0, first, TILE.min(n_out - first))?);
        Ok(Self::Tiles(
            firsts.map(tile).collect::<Result<Vec<_>>>()?.into(),
        ))
    }

    /// `(rows, in)` → `(rows, out)`.
    fn times(&self, x: &Tensor) -> Result<Tensor> {
        let learns = matches!(self, Self::Turned(weight) if weight.track_op());
        if !x.track_op() || learns {
            return self.product(x);
        }
        let kernel = self.clone();
        let back = Box::new(move |gradient: &Tensor| kernel.times_turned(gradient));
        frozen::enter(x, self.product(&x.detach())?, back)
    }

    fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Turned(weight) => Ok(x.matmul(weight)?),
            Self::Tiles(tiles) => {
                let x = x.contiguous()?;
                let parts = tiles.par_iter().map(|tile| tile.times(&x));
                Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)?)
            }
            Self::Quantised(weight) => {
                let dtype = x.dtype();
                let x = x.to_dtype(DType::F32)?.contiguous()?;
                Ok(quantised(&x, weight)?.to_dtype(dtype)?)
            }
        }
    }

    /// `(rows, out)` → `(rows, in)`: the product with the weight itself, as a gradient goes back.
    fn times_turned(&self, y: &Tensor) -> Result<Tensor> {
        let y = y.contiguous()?;
        match self {
            Self::Turned(weight) => Ok(y.matmul(&weight.t()?)?),
            Self::Tiles(tiles) => {
                let (mut sum, mut first) = (None::<Tensor>, 0);
                for tile in tiles.iter() {
                    let weight = tile.weight(&y)?; // (outputs, in)
                    let n = weight.dim(0)?;
                    let part = y.narrow(1, first, n)?.contiguous()?.matmul(&weight)?;
                    sum = Some(match sum {
                        Some(sum) => (sum + part)?,
                        None => part,
                    });
                    first += n;
                }
                sum.ok_or_else(|| Error::input("a weight without outputs"))
            }
            Self::Quantised(weight) => {
                let weight = match weight {
                    QMatMul::QTensor(blocks) => blocks.dequantize(y.device())?,
                    QMatMul::Tensor(weight) | QMatMul::TensorF16(weight) => weight.clone(),
                };
                Ok(y.matmul(&weight.to_dtype(y.dtype())?)?)
            }
        }
    }
}

impl Tile {
    /// `(rows, in)` → `(rows, outputs)`.
    fn times(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Bf16(weight) => x.matmul(&weight.to_dtype(DType::F32)?)?,
            Self::Blocks(weight) => x.matmul(&weight.dequantize(x.device())?.t()?)?,
        })
    }

    /// `(outputs, in)`, on the device and in the type of `like`.
    fn weight(&self, like: &Tensor) -> Result<Tensor> {
        let weight = match self {
            Self::Bf16(weight) => weight.t()?.to_dtype(like.dtype())?,
            Self::Blocks(weight) => weight.dequantize(like.device())?.to_dtype(like.dtype())?,
        };
        Ok(weight)
    }
}

/// Which blocks a weight with rows of `n_in` numbers is cut into; `None`: it stays as it is.
fn blocks(held: WeightType, n_in: usize) -> Option<GgmlDType> {
    let wanted: &[GgmlDType] = match held {
        WeightType::F32 | WeightType::Bf16 => &[],
        WeightType::Q8 => &[GgmlDType::Q8_0],
        WeightType::Q4 => &[GgmlDType::Q4K, GgmlDType::Q8_0],
    };
    let fits = |blocks: &&GgmlDType| n_in.is_multiple_of(blocks.block_size());
    wanted.iter().find(fits).copied()
}

fn quantised(x: &Tensor, weight: &QMatMul) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let four_bits = matches!(weight, QMatMul::QTensor(weight) if weight.dtype() == GgmlDType::Q4K);
    if !four_bits || rows <= FOUR_BIT_ROWS || !x.device().is_cpu() {
        return Ok(weight.forward(x)?);
    }
    let firsts = (0..rows).step_by(FOUR_BIT_ROWS);
    let part = |first| -> Result<Tensor> {
        let own = x.narrow(0, first, FOUR_BIT_ROWS.min(rows - first))?;
        Ok(weight.forward(&own.contiguous()?)?)
    };
    Ok(Tensor::cat(
        &firsts.map(part).collect::<Result<Vec<_>>>()?,
        0,
    )?)
}

/// Turns a weight. To serve on a processor in memory too: with AVX-512 a product of ten rows with a
/// turned weight takes a third of the time (`benches/stages.rs`). A GPU's library takes it either way,
/// and the plain form looks at the weight itself, which may be learning.
fn turned(weight: &Tensor, path: Path) -> Result<Tensor> {
    let view = weight.t()?;
    Ok(if view.device().is_cpu() && path == Path::Served {
        view.contiguous()?
    } else {
        view
    })
}

/// Rows of a table by number, such as the embeddings of tokens.
#[derive(Debug, Clone)]
pub enum Embedding {
    /// `(n, width)`, f32 or bf16.
    Table(Tensor),
    /// The same in eight-bit blocks.
    Blocks(Arc<QTensor>),
}

impl Embedding {
    /// Loads `weight`, `n` rows of `width` numbers.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, n: usize, width: usize) -> Result<Self> {
        let table = weights.get_as((n, width), "weight", stored_type(weights))?;
        let quantise = matches!(weights.held(), WeightType::Q8 | WeightType::Q4)
            && weights.device().is_cpu()
            && width.is_multiple_of(GgmlDType::Q8_0.block_size());
        Ok(if quantise {
            Self::Blocks(Arc::new(QTensor::quantize(&table, GgmlDType::Q8_0)?))
        } else {
            Self::Table(table)
        })
    }

    /// `(k)` numbers of rows → `(k, width)`.
    ///
    /// # Errors
    /// A row that does not exist.
    pub fn rows(&self, numbers: &Tensor, dtype: DType) -> Result<Tensor> {
        Ok(match self {
            Self::Table(table) => table.index_select(numbers, 0)?.to_dtype(dtype)?,
            Self::Blocks(table) => table.embedding(numbers)?.to_dtype(dtype)?,
        })
    }

    /// `(…, width)` → `(…, n)`: the product with every row.
    ///
    /// # Errors
    /// Another width.
    pub fn products(&self, x: &Tensor) -> Result<Tensor> {
        let table = match self {
            Self::Table(table) => table.to_dtype(x.dtype())?,
            Self::Blocks(table) => table.dequantize(x.device())?.to_dtype(x.dtype())?,
        };
        Ok(x.broadcast_matmul(&table.t()?)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;
    use candle_nn::VarBuilder;

    use super::*;

    /// A weight of 300 outputs and 512 inputs whose numbers bf16 holds, in several forms.
    fn linear(held: WeightType, few_rows: bool) -> Linear {
        let numbers: Vec<f32> = (0..300 * 512u32)
            .map(|i| half::bf16::from_f32(f32::sin(i as f32)).to_f32())
            .collect();
        let weight = Tensor::from_vec(numbers, (300, 512), &Device::Cpu).unwrap();
        let named = HashMap::from([("weight".to_owned(), weight)]);
        let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
        let weights = Weights::new(builder, held, Path::Served);
        let weights = if few_rows {
            weights.for_few_rows()
        } else {
            weights
        };
        Linear::load_without_bias(&weights, 512, 300).unwrap()
    }

    fn product(linear: &Linear, rows: usize) -> Vec<f32> {
        let x: Vec<f32> = (0..rows * 512).map(|i| (i as f32 * 0.7).cos()).collect();
        let x = Tensor::from_vec(x, (rows, 512), &Device::Cpu).unwrap();
        let y = linear.forward(&x).unwrap();
        assert_eq!(y.dims(), [rows, 300]);
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
        let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        gaps.fold(0.0, f32::max)
    }

    #[test]
    fn bf16_weights_give_the_products_of_f32() {
        for rows in [1, 3, 40] {
            let (exact, half) = (
                linear(WeightType::F32, false),
                linear(WeightType::Bf16, false),
            );
            let gap = largest_difference(&product(&exact, rows), &product(&half, rows));
            assert!(gap < 1e-4, "{rows} rows: {gap}");
        }
    }

    #[test]
    fn fewer_bits_stay_near_in_every_form() {
        // Products of 512 terms of about a half each have a deviation of about eleven.
        for (held, limit) in [(WeightType::Q8, 0.5), (WeightType::Q4, 4.0)] {
            for few_rows in [false, true] {
                for rows in [1, 31, 40] {
                    let exact = product(&linear(WeightType::F32, few_rows), rows);
                    let near = product(&linear(held, few_rows), rows);
                    let gap = largest_difference(&exact, &near);
                    assert!(0.0 < gap && gap < limit, "{held}, {rows} rows: {gap}");
                }
            }
        }
    }

    #[test]
    fn the_plain_form_computes_with_the_weight_as_it_is_now() {
        let weight = candle_core::Var::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
        let builder = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let weights = Weights::new(builder, WeightType::F32, Path::Plain);
        let linear = Linear::new(weight.as_tensor(), &weights).unwrap();
        let x = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
        let product = || linear.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(product(), [[3.0, 3.0]]);
        weight.set(&(weight.as_tensor() * 2.0).unwrap()).unwrap();
        assert_eq!(product(), [[6.0, 6.0]]);
    }

    /// `x·Wᵀ` is linear: its gradient of `Σ e ⊙ (x·Wᵀ)` is `e·W`, however the weight is held.
    #[test]
    fn what_goes_back_through_a_product_goes_through_the_weight_as_it_is_held() {
        for held in [
            WeightType::F32,
            WeightType::Bf16,
            WeightType::Q8,
            WeightType::Q4,
        ] {
            for few_rows in [false, true] {
                let linear = linear(held, few_rows);
                let x = Tensor::zeros((3, 512), DType::F32, &Device::Cpu).unwrap();
                let x = candle_core::Var::from_tensor(&x).unwrap();
                let e: Vec<f32> = (0..3 * 300).map(|i| (i as f32 * 0.3).cos()).collect();
                let e = Tensor::from_vec(e, (3, 300), &Device::Cpu).unwrap();
                let y = linear.forward(x.as_tensor()).unwrap();
                let sum = (y * &e).unwrap().sum_all().unwrap();
                let gradients = sum.backward().unwrap();
                let gradient = gradients.get(&x).unwrap();
                // Input by input: what the product of a unit vector with the weight is.
                let eye = Tensor::eye(512, DType::F32, &Device::Cpu).unwrap();
                let weight = linear.forward(&eye.narrow(0, 0, 5).unwrap()).unwrap(); // (5, out)
                let expected = e.matmul(&weight.t().unwrap()).unwrap(); // (3, 5)
                let ours = gradient.narrow(1, 0, 5).unwrap().contiguous().unwrap();
                let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let gap = largest_difference(&numbers(&ours), &numbers(&expected));
                // A unit vector is rounded to eight bits too where blocks are multiplied as they are.
                assert!(gap < 0.1, "{held}, few rows {few_rows}: {gap}");
            }
        }
    }

    #[test]
    fn an_input_that_keeps_its_history_gets_the_same_numbers_to_the_bit() {
        for held in [
            WeightType::F32,
            WeightType::Bf16,
            WeightType::Q8,
            WeightType::Q4,
        ] {
            let linear = linear(held, true);
            let x: Vec<f32> = (0..2 * 512).map(|i| (i as f32 * 0.7).cos()).collect();
            let x = Tensor::from_vec(x, (2, 512), &Device::Cpu).unwrap();
            let kept = candle_core::Var::from_tensor(&x).unwrap();
            let numbers = |x: &Tensor| {
                let y = linear.forward(x).unwrap();
                y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            assert_eq!(numbers(&x), numbers(kept.as_tensor()), "{held}");
        }
    }

    #[test]
    fn a_row_that_is_no_multiple_of_a_block_stays_as_it_is() {
        assert_eq!(blocks(WeightType::Q4, 512), Some(GgmlDType::Q4K));
        assert_eq!(blocks(WeightType::Q4, 96), Some(GgmlDType::Q8_0));
        assert_eq!(blocks(WeightType::Q8, 80), None);
        assert_eq!(blocks(WeightType::Bf16, 512), None);
    }
}
