//! The layers that the three networks share; each is declared once.
//!
//! All are made of differentiable operations. Statistics, softmax and rotation run in f32 whatever
//! the weights' type is, as in the reference (§6.6).

use candle_core::{D, DType, Tensor};
use candle_nn::VarBuilder;

use crate::error::Result;

/// Weights by name, of one place in the checkpoint.
pub type Weights<'a> = VarBuilder<'a>;

/// `x·Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `(in, out)`, the stored `(out, in)` turned; see [`turned`].
    weight_t: Tensor,
    bias: Option<Tensor>,
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
        Self::new(&weights.get((n_out, n_in), "weight")?, None)
    }

    /// Makes one from a weight `(out, in)` and a bias `(out)` at hand.
    ///
    /// # Errors
    /// A weight that is no matrix.
    pub fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(Self {
            weight_t: turned(weight)?,
            bias,
        })
    }

    /// `(…, in)` → `(…, out)`.
    ///
    /// # Errors
    /// Another last dimension than `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n_in, n_out) = self.weight_t.dims2()?;
        let mut shape = x.dims().to_vec();
        let rows = x.elem_count() / n_in.max(1);
        let y = x.reshape((rows, n_in))?.matmul(&self.weight_t)?; // (rows, out)
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        if let Some(last) = shape.last_mut() {
            *last = n_out;
        }
        Ok(y.reshape(shape)?)
    }
}

/// Turns a weight. On a processor in memory too: with AVX-512 a product of ten rows with a turned
/// weight takes a third of the time (`benches/stages.rs`). A GPU's library takes it either way.
fn turned(weight: &Tensor) -> Result<Tensor> {
    let view = weight.t()?;
    Ok(if view.device().is_cpu() {
        view.contiguous()?
    } else {
        view
    })
}

/// `x / rms(x) · w`, the statistic in f32 (reference §5).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Loads `weight`, of the size of the normalised dimension.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        let weight = weights.get(size, "weight")?;
        Ok(Self { weight, eps })
    }

    /// `(…, size)` → the same shape.
    ///
    /// # Errors
    /// Another last dimension than `size`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
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
}

impl LayerNorm {
    /// Loads `weight` and `bias`, of the size of the normalised dimension.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        let weight = weights.get(size, "weight")?;
        let bias = weights.get(size, "bias")?;
        Ok(Self { weight, bias, eps })
    }

    /// `(…, size)` → the same shape.
    ///
    /// # Errors
    /// Another last dimension than `size`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
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

/// Attention whose key and value heads are each shared by `h / kv` query heads in a row.
///
/// # Shapes
/// `q`: `(b, h, n, d)`; `k`, `v`: `(b, kv, m, d)`; `bias`, added to the scores: broadcast to
/// `(b, h, n, m)`, 0 or −∞; the result: `(b, n, h·d)`.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (b, h, n, d) = q.dims4()?;
    let (_, kv, m, _) = k.dims4()?;
    let grouped = q.contiguous()?.reshape((b, kv, h / kv * n, d))?;
    let k_t = k.transpose(2, 3)?.contiguous()?; // (b, kv, d, m)
    let scale = (d as f64).powf(-0.5);
    let scores = (grouped.matmul(&k_t)? * scale)?.reshape((b, h, n, m))?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let weights = candle_nn::ops::softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?;
    let weights = weights
        .to_dtype(q.dtype())?
        .reshape((b, kv, h / kv * n, m))?;
    let mixed = weights.matmul(&v.contiguous()?)?.reshape((b, h, n, d))?;
    Ok(mixed
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b, n, h * d))?)
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
