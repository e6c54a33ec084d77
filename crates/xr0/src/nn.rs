//! The layers that the three networks share; each is declared once.
//!
//! Every layer has two forms, chosen when it is loaded ([`Path`]): *plain* is made of differentiable
//! operations alone, for training and for looking at every intermediate result; *served* uses the
//! library's fused operations, but for an input that keeps its history: that is gone back through, and
//! fused operations keep none. Statistics, softmax and rotation run in f32 whatever the weights' type
//! is, as in the reference (§6.6).
//!
//! | module | holds |
//! |---|---|
//! | [`weights`] | where weights come from, and in which form a network takes them |
//! | [`linear`] | products with weights in f32, bf16, eight or four bits |
//! | `frozen` | how such products are gone back through |
//! | here | norms, MLPs, attention |

use candle_core::{D, DType, Tensor};

use crate::error::Result;
use crate::nn::linear::Linear;
use crate::nn::weights::{Path, Weights};

mod frozen;
pub mod linear;
pub mod weights;

/// `x / rms(x) · w`, the statistic in f32 (reference §5).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
    path: Path,
}

impl RmsNorm {
    /// Loads `weight`, of the size of the normalised dimension.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: weights.get(size, "weight")?,
            eps,
            path: weights.path(),
        })
    }

    /// `(…, size)` → the same shape.
    ///
    /// # Errors
    /// Another last dimension than `size`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.path.fuses(x) {
            let x = x.contiguous()?;
            return Ok(candle_nn::ops::rms_norm(&x, &self.weight, self.eps as f32)?);
        }
        let wide = x.to_dtype(DType::F32)?;
        let variance = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = wide.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        Ok(normed.to_dtype(x.dtype())?.broadcast_mul(&self.weight)?)
    }
}

/// `(x − mean) / std · w + b`, the statistics in f32.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
    path: Path,
}

impl LayerNorm {
    /// Loads `weight` and `bias`, of the size of the normalised dimension.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: weights.get(size, "weight")?,
            bias: weights.get(size, "bias")?,
            eps,
            path: weights.path(),
        })
    }

    /// `(…, size)` → the same shape.
    ///
    /// # Errors
    /// Another last dimension than `size`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.path == Path::Served {
            let (x, eps) = (x.contiguous()?, self.eps as f32);
            return Ok(candle_nn::ops::layer_norm(
                &x,
                &self.weight,
                &self.bias,
                eps,
            )?);
        }
        let wide = x.to_dtype(DType::F32)?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        let normed = normed.to_dtype(x.dtype())?.broadcast_mul(&self.weight)?;
        Ok(normed.broadcast_add(&self.bias)?)
    }
}

/// `down(silu(gate(x)) · up(x))`, of the text model and of the action expert.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "the checkpoint's names")]
pub struct SwiGlu {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl SwiGlu {
    /// Loads the three projections, `hidden` wide outside and `inner` wide inside.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, hidden: usize, inner: usize) -> Result<Self> {
        let load = |name, n_in, n_out| Linear::load_without_bias(&weights.pp(name), n_in, n_out);
        Ok(Self {
            gate_proj: load("gate_proj", hidden, inner)?,
            up_proj: load("up_proj", hidden, inner)?,
            down_proj: load("down_proj", inner, hidden)?,
        })
    }

    /// `(…, hidden)` → the same shape.
    ///
    /// # Errors
    /// Another last dimension than `hidden`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gated = (self.gate_proj.forward(x)?.silu()? * self.up_proj.forward(x)?)?;
        self.down_proj.forward(&gated)
    }
}

/// Two linear layers without bias with a tanh-GELU between them: the projectors of state, action
/// and velocity (reference §6.1).
#[derive(Debug, Clone)]
pub struct Projector {
    first: Linear,
    second: Linear,
}

impl Projector {
    /// Loads `layers.0` (`n_in` → `n_out`) and `layers.2` (`n_out` → `n_out`).
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, n_in: usize, n_out: usize) -> Result<Self> {
        let layers = weights.pp("layers");
        Ok(Self {
            first: Linear::load_without_bias(&layers.pp(0), n_in, n_out)?,
            second: Linear::load_without_bias(&layers.pp(2), n_out, n_out)?,
        })
    }

    /// `(…, n_in)` → `(…, n_out)`.
    ///
    /// # Errors
    /// Another last dimension than `n_in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.gelu()?)
    }
}

/// Keys and values of some tokens, each `(b, kv, m, d)`.
pub type KeysValues<'a> = (&'a Tensor, &'a Tensor);

/// Attention whose key and value heads are each shared by `h / kv` query heads in a row.
///
/// Keys and values may stand in several places, such as a cache and the tokens' own: they count as
/// one sequence, in this order, and are not copied together.
///
/// # Shapes
/// `q`: `(b, h, n, d)`; `seen`: `m` tokens altogether; `bias`, added to the scores: broadcast to
/// `(b, h, n, m)`, 0 or −∞; the result: `(b, n, h·d)`.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn attend(
    q: &Tensor,
    seen: &[KeysValues<'_>],
    bias: Option<&Tensor>,
    path: Path,
) -> Result<Tensor> {
    let (b, h, n, d) = q.dims4()?;
    let kv = seen.first().map_or(Ok(h), |(k, _)| k.dim(1))?;
    let grouped = q.contiguous()?.reshape((b, kv, h / kv * n, d))?;
    let scale = (d as f64).powf(-0.5);
    let score = |k: &Tensor| -> Result<Tensor> {
        let k_t = k.transpose(2, 3)?; // (b, kv, d, m)
        let k_t = if path == Path::Served {
            k_t
        } else {
            k_t.contiguous()?
        };
        Ok((grouped.matmul(&k_t)? * scale)?.reshape((b, h, n, ()))?)
    };
    let scores = seen.iter().map(|(k, _)| score(k));
    let scores = Tensor::cat(&scores.collect::<Result<Vec<_>>>()?, D::Minus1)?; // (b, h, n, m)
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let shares = softmax(&scores.to_dtype(DType::F32)?, path)?.to_dtype(q.dtype())?;
    let mut mixed: Option<Tensor> = None;
    let mut first = 0;
    for (_, v) in seen {
        let m = v.dim(2)?;
        let shares = shares.narrow(D::Minus1, first, m)?.contiguous()?;
        let part = shares
            .reshape((b, kv, h / kv * n, m))?
            .matmul(&v.contiguous()?)?;
        mixed = Some(match mixed {
            Some(mixed) => (mixed + part)?,
            None => part,
        });
        first += m;
    }
    let mixed = match mixed {
        Some(mixed) => mixed.reshape((b, h, n, d))?,
        None => q.zeros_like()?,
    };
    Ok(mixed
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b, n, h * d))?)
}

fn softmax(scores: &Tensor, path: Path) -> Result<Tensor> {
    Ok(if path.fuses(scores) {
        candle_nn::ops::softmax_last_dim(&scores.contiguous()?)?
    } else {
        candle_nn::ops::softmax(scores, D::Minus1)?
    })
}

/// Turns "may attend" (1 or 0, u8) into what [`attend`] adds to its scores: 0 or −∞.
///
/// # Errors
/// What the device says.
pub fn attention_bias(may_attend: &Tensor, dtype: DType) -> Result<Tensor> {
    let zeros = Tensor::zeros(may_attend.shape(), dtype, may_attend.device())?;
    let never = Tensor::full(f32::NEG_INFINITY, may_attend.shape(), may_attend.device())?;
    Ok(may_attend.where_cond(&zeros, &never.to_dtype(dtype)?)?)
}
