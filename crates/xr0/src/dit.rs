//! The action expert's network: a diffusion transformer that attends to the text model's cache.
//!
//! Paper: XR-0, arXiv:2602.12684, the diffusion transformer. Reference §6, profile A: plain causal
//! mask, positions without a gap. `b` samples, `T` actions of `A` slots, `n = T + 2` tokens
//! `[sink, state, a_0 … a_{T−1}]`, `h` the width.

use candle_core::{D, DType, Device, Tensor};

use crate::config::{Config, DitConfig};
use crate::context::{Context, KvLayer};
use crate::error::{Error, Result};
use crate::layout::{ADALN_ROWS, DIT_MLP_RATIO, TIME_FREQUENCIES};
use crate::nn::{Linear, Projector, RmsNorm, SwiGlu, Weights, attend, attention_bias};
use crate::rope::{Mrope, Tables};
use crate::trace::Trace;

/// Epsilon of every norm; not configurable.
const EPS: f64 = 1e-6;
/// Tokens before the actions: sink and state.
const FIRST_ACTION: usize = 2;

/// The diffusion transformer with its projectors.
#[derive(Debug, Clone)]
pub struct Dit {
    layers: Vec<Layer>,
    sink: Tensor,
    state_projector: Projector,
    action_projector: Projector,
    action_output_layer: Projector,
    t_embedder: TimeEmbedder,
    t_projector: Linear,
    mrope: Mrope,
    config: DitConfig,
    slots: (usize, usize),
    dtype: DType,
    device: Device,
}

/// What does not change over the sampler's steps.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// The cache, each head repeated for the query heads that share it.
    kv: Vec<KvLayer>,
    /// `(b, n, d)`.
    tables: Tables,
    /// `(b, 1, n, s + n)`: 0 or −∞, cache columns first.
    bias: Tensor,
    /// `(b, 1, h)`.
    state_embed: Tensor,
    /// `(b, T, A)`.
    action_mask: Tensor,
}

impl Dit {
    /// Loads `dit` and the heads beside it.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, config: &Config, mrope: Mrope) -> Result<Self> {
        let dit = &config.dit_config;
        let h = dit.hidden_size;
        let layers = (0..dit.num_hidden_layers)
            .map(|index| Layer::load(&weights.pp("dit.layers").pp(index), dit))
            .collect::<Result<_>>()?;
        let projector = |name, n_in, n_out| Projector::load(&weights.pp(name), n_in, n_out);
        Ok(Self {
            layers,
            sink: weights.get((1, h), "sink.weight")?,
            state_projector: projector("state_projector", config.state_dim, h)?,
            action_projector: projector("action_projector", config.action_dim, h)?,
            action_output_layer: projector("action_output_layer", h, config.action_dim)?,
            t_embedder: TimeEmbedder::load(&weights.pp("t_embedder.mlp"), h)?,
            t_projector: Linear::load(&weights.pp("t_projector.layers.0"), h, ADALN_ROWS * h)?,
            mrope,
            config: dit.clone(),
            slots: (config.state_dim, config.action_dim),
            dtype: weights.dtype(),
            device: weights.device().clone(),
        })
    }

    /// Prepares a decision: `state` `(b, 1, state_dim)`, raw; `action_mask` `(b, T, A)`.
    ///
    /// # Errors
    /// A context, state or mask that does not fit the network.
    pub fn condition(
        &self,
        context: &Context,
        (state, action_mask): (&Tensor, &Tensor),
        trace: &mut dyn Trace,
    ) -> Result<Conditions> {
        let (b, horizon) = self.check(context, state, action_mask)?;
        let n = FIRST_ACTION + horizon;
        let positions: Vec<u32> = (context.p_end.iter())
            .flat_map(|p_end| (0..n as u32).map(move |token| p_end + 1 + token))
            .collect();
        let positions = [positions.clone(), positions.clone(), positions];
        let tables = self.mrope.tables(&positions, (b, n))?;
        let may = may_attend(&context.mask, n, &self.device)?;
        let state_embed = self.state_projector.forward(&self.enter(state)?)?; // (b, 1, h)
        let axes: Vec<i64> = positions.iter().flatten().map(|p| i64::from(*p)).collect();
        let axes = Tensor::from_vec(axes, (3, b, n), &self.device)?;
        trace.take("dit.position_ids", None, &axes);
        trace.take("dit.rope_cos", None, &tables.cos);
        trace.take("dit.rope_sin", None, &tables.sin);
        trace.take("dit.attn_mask", None, &may);
        trace.take("state_embed", None, &state_embed);
        Ok(Conditions {
            kv: self.shared_cache(context)?,
            tables,
            bias: attention_bias(&may, self.dtype)?,
            state_embed,
            action_mask: self.enter(action_mask)?,
        })
    }

    /// Velocity of `x` `(b, T, A)` at the times `t`, one a sample; f32, like `x`.
    ///
    /// # Errors
    /// Another shape than the conditions were made for.
    pub fn velocity(
        &self,
        x: &Tensor,
        t: &[f64],
        conditions: &Conditions,
        trace: &mut dyn Trace,
    ) -> Result<Tensor> {
        let (b, horizon, _) = x.dims3()?;
        let modulation = self.modulation(t, trace)?; // (b, 6, h)
        let masked = (self.enter(x)? * &conditions.action_mask)?;
        let actions = self.action_projector.forward(&masked)?; // (b, T, h)
        let sink = self.sink.unsqueeze(0)?.repeat((b, 1, 1))?;
        let mut h = Tensor::cat(&[&sink, &conditions.state_embed, &actions], 1)?; // (b, n, h)
        trace.take("dit.tokens_in", None, &h);
        for (index, (layer, kv)) in self.layers.iter().zip(&conditions.kv).enumerate() {
            h = layer.forward(&h, &modulation, kv, conditions)?;
            trace.take("dit.layer_out", Some(index), &h);
        }
        let actions = h.narrow(1, FIRST_ACTION, horizon)?.contiguous()?;
        let velocity = self.action_output_layer.forward(&actions)?; // (b, T, A)
        Ok(velocity.to_dtype(x.dtype())?.to_device(x.device())?)
    }

    /// Shift, scale and gate for attention, then for the MLP: `(b, 6, h)` (reference §6.2).
    fn modulation(&self, t: &[f64], trace: &mut dyn Trace) -> Result<Tensor> {
        let freqs = time_freqs(t, &self.device)?.to_dtype(self.dtype)?; // (b, 256)
        trace.take("dit.time_freqs", None, &freqs);
        let hidden = self.t_embedder.forward(&freqs)?; // (b, h)
        trace.take("dit.time_hidden", None, &hidden);
        let modulation = self.t_projector.forward(&hidden)?; // (b, 6h)
        let modulation = modulation.reshape((t.len(), ADALN_ROWS, self.config.hidden_size))?;
        trace.take("dit.time_mod", None, &modulation);
        Ok(modulation)
    }

    /// Repeats each cached head for the query heads in a row that share it.
    fn shared_cache(&self, context: &Context) -> Result<Vec<KvLayer>> {
        let shared =
            self.config.hidden_size / self.config.head_dim / self.config.num_key_value_heads;
        let repeat = |x: &Tensor| -> Result<Tensor> {
            let (b, kv, s, d) = x.dims4()?;
            let each = self.enter(x)?.unsqueeze(2)?.expand((b, kv, shared, s, d))?;
            Ok(each.contiguous()?.reshape((b, kv * shared, s, d))?)
        };
        let layer = |kv: &KvLayer| -> Result<KvLayer> {
            Ok(KvLayer {
                k: repeat(&kv.k)?,
                v: repeat(&kv.v)?,
            })
        };
        context.layers.iter().map(layer).collect()
    }

    /// Brings an input to the network's device and type.
    fn enter(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(&self.device)?.to_dtype(self.dtype)?)
    }

    /// Checks shapes where data enters; gives batch and horizon.
    fn check(&self, context: &Context, state: &Tensor, mask: &Tensor) -> Result<(usize, usize)> {
        let (b, horizon, width) = mask.dims3()?;
        let (state_dim, action_dim) = self.slots;
        let s = context.mask.first().map_or(0, Vec::len);
        let cache = [b, self.config.num_key_value_heads, s, self.config.head_dim];
        let cached = |kv: &KvLayer| kv.k.dims() == cache && kv.v.dims() == cache;
        let checks = [
            (
                width == action_dim,
                "the action mask has another width than the model's actions",
            ),
            (
                state.dims() == [b, 1, state_dim],
                "the state must be (batch, 1, state_dim)",
            ),
            (
                context.layers.len() == self.layers.len(),
                "the context has another number of layers than the action expert",
            ),
            (
                context.mask.iter().all(|row| row.len() == s)
                    && context.mask.len() == b
                    && context.p_end.len() == b,
                "the context's mask and positions do not fit the batch",
            ),
            (
                context.layers.iter().all(cached),
                "the context's keys and values have another shape than the model's",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, problem)) => Err(Error::input(*problem)),
            None => Ok((b, horizon)),
        }
    }
}

/// Which cached and own tokens each token sees: `(b, 1, n, s + n)`, 1 or 0.
///
/// Every token sees the prompt's real tokens; among themselves they are causal.
fn may_attend(mask: &[Vec<bool>], n: usize, device: &Device) -> Result<Tensor> {
    let s = mask.first().map_or(0, Vec::len);
    let mut may = Vec::with_capacity(mask.len() * n * (s + n));
    for row in mask {
        for query in 0..n {
            may.extend(row.iter().map(|real| u8::from(*real)));
            may.extend((0..n).map(|key| u8::from(key <= query)));
        }
    }
    Ok(Tensor::from_vec(may, (mask.len(), 1, n, s + n), device)?)
}

/// Cosines, then sines, of `1000·t` at 128 frequencies: `(b, 256)`, in f32.
fn time_freqs(t: &[f64], device: &Device) -> Result<Tensor> {
    let half = TIME_FREQUENCIES / 2;
    let log = -(10_000f64.ln() as f32);
    let freqs: Vec<f32> = (0..half)
        .map(|k| (log * k as f32 / half as f32).exp())
        .collect();
    let mut embedding = Vec::with_capacity(t.len() * TIME_FREQUENCIES);
    for t in t {
        let u = *t as f32 * 1000.0;
        embedding.extend(freqs.iter().map(|g| (u * g).cos()));
        embedding.extend(freqs.iter().map(|g| (u * g).sin()));
    }
    Ok(Tensor::from_vec(
        embedding,
        (t.len(), TIME_FREQUENCIES),
        device,
    )?)
}

/// `W₂·silu(W₀·e)`, without bias.
#[derive(Debug, Clone)]
struct TimeEmbedder {
    first: Linear,
    second: Linear,
}

impl TimeEmbedder {
    fn load(weights: &Weights, hidden: usize) -> Result<Self> {
        Ok(Self {
            first: Linear::load_without_bias(&weights.pp(0), TIME_FREQUENCIES, hidden)?,
            second: Linear::load_without_bias(&weights.pp(2), hidden, hidden)?,
        })
    }

    fn forward(&self, embedding: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(embedding)?.silu()?)
    }
}

/// One layer: two branches modulated by time; `middle` and `final` normalise the stream itself.
#[derive(Debug, Clone)]
struct Layer {
    adaln_table: Tensor,
    input_layernorm: RmsNorm,
    middle_layernorm: RmsNorm,
    post_layernorm: RmsNorm,
    final_layernorm: RmsNorm,
    attn: Attention,
    mlp: SwiGlu,
}

impl Layer {
    fn load(weights: &Weights, config: &DitConfig) -> Result<Self> {
        let h = config.hidden_size;
        let norm = |name| RmsNorm::load(&weights.pp(name), h, EPS);
        Ok(Self {
            adaln_table: weights.get((ADALN_ROWS, h), "adaln_table")?,
            input_layernorm: norm("input_layernorm")?,
            middle_layernorm: norm("middle_layernorm")?,
            post_layernorm: norm("post_layernorm")?,
            final_layernorm: norm("final_layernorm")?,
            attn: Attention::load(&weights.pp("attn"), config)?,
            mlp: SwiGlu::load(&weights.pp("mlp"), h, DIT_MLP_RATIO * h)?,
        })
    }

    /// Reference §6.3. `h`: `(b, n, h)`; `modulation`: `(b, 6, h)`.
    fn forward(
        &self,
        h: &Tensor,
        modulation: &Tensor,
        kv: &KvLayer,
        conditions: &Conditions,
    ) -> Result<Tensor> {
        let rows = modulation.broadcast_add(&self.adaln_table)?; // (b, 6, h)
        let row = |index| rows.narrow(1, index, 1); // (b, 1, h)
        let modulate = |x: Tensor, shift: Tensor, scale: Tensor| {
            x.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(&shift)
        };
        let y = modulate(self.input_layernorm.forward(h)?, row(0)?, row(1)?)?;
        let y = self.attn.forward(&y, kv, conditions)?;
        let h = self
            .middle_layernorm
            .forward(&(h + y.broadcast_mul(&row(2)?)?)?)?;
        let y = modulate(self.post_layernorm.forward(&h)?, row(3)?, row(4)?)?;
        let y = self.mlp.forward(&y)?;
        self.final_layernorm
            .forward(&(&h + y.broadcast_mul(&row(5)?)?)?)
    }
}

/// Attention over the cached tokens and its own.
#[derive(Debug, Clone)]
struct Attention {
    qkv_proj: Linear,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    head_dim: usize,
}

impl Attention {
    fn load(weights: &Weights, config: &DitConfig) -> Result<Self> {
        let (h, d) = (config.hidden_size, config.head_dim);
        Ok(Self {
            qkv_proj: Linear::load(&weights.pp("qkv_proj"), h, 3 * h)?,
            o_proj: Linear::load_without_bias(&weights.pp("o_proj"), h, h)?,
            q_norm: RmsNorm::load(&weights.pp("q_norm"), d, EPS)?,
            k_norm: RmsNorm::load(&weights.pp("k_norm"), d, EPS)?,
            head_dim: d,
        })
    }

    fn forward(&self, y: &Tensor, kv: &KvLayer, conditions: &Conditions) -> Result<Tensor> {
        let (b, n, h) = y.dims3()?;
        let heads = h / self.head_dim;
        let qkv = self.qkv_proj.forward(y)?; // (b, n, 3h): all queries, all keys, all values
        let qkv = qkv.reshape((b, n, 3, heads, self.head_dim))?;
        let part = |index| -> Result<Tensor> {
            let own = qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?;
            Ok(own.contiguous()?) // (b, heads, n, d)
        };
        let q = conditions.tables.rotate(&self.q_norm.forward(&part(0)?)?)?;
        let k = conditions.tables.rotate(&self.k_norm.forward(&part(1)?)?)?;
        let k = Tensor::cat(&[&kv.k, &k], D::Minus2)?; // (b, heads, s + n, d)
        let v = Tensor::cat(&[&kv.v, &part(2)?], D::Minus2)?;
        self.o_proj
            .forward(&attend(&q, &k, &v, Some(&conditions.bias))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zero_is_ones_then_zeros() {
        let embedding = time_freqs(&[0.0, 0.2], &Device::Cpu).unwrap();
        let rows = embedding.to_vec2::<f32>().unwrap();
        assert!(
            rows[0][..128]
                .iter()
                .all(|x| (x - 1.0).abs() < f32::EPSILON)
        );
        assert!(rows[0][128..].iter().all(|x| x.abs() < f32::EPSILON));
        assert!((rows[1][0] - 200f32.cos()).abs() < 1e-6);
    }

    #[test]
    fn tokens_see_the_real_prompt_and_what_came_before() {
        let may = may_attend(&[vec![true, false]], 3, &Device::Cpu).unwrap();
        let rows = may.reshape((3, 5)).unwrap().to_vec2::<u8>().unwrap();
        assert_eq!(rows, [[1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 1, 1, 1]]);
    }
}
