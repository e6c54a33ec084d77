//! The action expert's network: a diffusion transformer that attends to the text model's cache.
//!
//! Paper: XR-0, arXiv:2602.12684, the diffusion transformer. Reference §6. `b` samples, `T` actions of
//! `A` slots, `n = T + 2` tokens `[sink, state, a_0 … a_{T−1}]`, `h` the width.
//!
//! | module | holds |
//! |---|---|
//! | [`layout`] | the two profiles: where each token stands, and whom it sees |
//! | here | the network |

use std::cell::OnceCell;

use candle_core::{DType, Device, Tensor};

use crate::config::{Config, DitConfig};
use crate::context::{KvLayer, Source};
use crate::dit::layout::{FIRST_ACTION, Kind, Prefix};
use crate::error::{Error, Result};
use crate::layout::{ADALN_ROWS, DIT_MLP_RATIO, TIME_FREQUENCIES};
use crate::nn::linear::Linear;
use crate::nn::weights::{Path, Weights};
use crate::nn::{Projector, RmsNorm, SwiGlu, attend, attention_bias};
use crate::rope::{Mrope, Tables};
use crate::trace::Trace;

pub mod layout;

/// Epsilon of every norm; not configurable.
const EPS: f64 = 1e-6;

/// The diffusion transformer with its projectors.
#[derive(Debug)]
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

/// What a decision is made on, beside the context.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// `(b, 1, state_dim)`: raw.
    pub state: &'a Tensor,
    /// `(b, T, A)`: 1 where the robot type has an action.
    pub action_mask: &'a Tensor,
    /// The actions that are already decided.
    pub prefix: Option<&'a Prefix>,
}

/// What does not change over the sampler's steps. Layers of the cache are asked for as the first
/// step comes to them.
pub struct Conditions<'a> {
    source: &'a dyn Source,
    /// The cache, each head repeated for the query heads that share it.
    kv: Vec<OnceCell<KvLayer>>,
    /// `(b, n, d)`.
    tables: Tables,
    /// `(b, 1, n, s + n)`: 0 or −∞, cache columns first.
    bias: Tensor,
    /// `(b, 1, h)`.
    state_embed: Tensor,
    /// `(b, T, A)`.
    action_mask: Tensor,
    /// `(b, T, 1)`: 0 on the prefix, 1 behind it; absent where there is none.
    free: Option<Tensor>,
}

/// A moment of the flow: what modulates each layer then, `(b or 1, 6, h)`.
#[derive(Debug, Clone)]
pub struct Moment(Vec<Tensor>);

impl Dit {
    /// Loads `dit` and the heads beside it.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, config: &Config, mrope: Mrope) -> Result<Self> {
        let dit = &config.dit_config;
        let h = dit.hidden_size;
        let weights = weights.clone().for_few_rows();
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

    /// Prepares a decision.
    ///
    /// # Errors
    /// A context, state, mask or prefix that does not fit the network; a prefix in profile A.
    pub fn condition<'a>(
        &self,
        source: &'a dyn Source,
        given: &Given<'_>,
        kind: Kind,
        trace: &mut dyn Trace,
    ) -> Result<Conditions<'a>> {
        let (b, horizon) = self.check(source, given)?;
        let lengths = kind.lengths(given.prefix, (b, horizon))?;
        let n = FIRST_ACTION + horizon;
        let tokens = source.tokens();
        let positions = kind.positions(&tokens.p_end, &lengths, horizon);
        let positions = [positions.clone(), positions.clone(), positions];
        let tables = self.mrope.tables(&positions, (b, n))?;
        let hidden = given.prefix.map_or(&[][..], |prefix| &prefix.hidden);
        let may = kind.may_attend(&tokens.mask, (&lengths, hidden), horizon);
        let may = Tensor::from_vec(may, (b, 1, n, tokens.width() + n), &self.device)?;
        let state_embed = self.state_projector.forward(&self.enter(given.state)?)?; // (b, 1, h)
        self.trace(&positions, (&tables, &may, &state_embed), trace)?;
        Ok(Conditions {
            source,
            kv: vec![OnceCell::new(); self.layers.len()],
            tables,
            bias: attention_bias(&may, self.dtype)?,
            state_embed,
            action_mask: self.enter(given.action_mask)?,
            free: layout::free(&lengths, horizon, &self.device)?,
        })
    }

    fn trace(
        &self,
        positions: &[Vec<u32>; 3],
        (tables, may, state_embed): (&Tables, &Tensor, &Tensor),
        trace: &mut dyn Trace,
    ) -> Result<()> {
        let (cos, sin) = tables.twice()?;
        let axes: Vec<i64> = positions.iter().flatten().map(|p| i64::from(*p)).collect();
        let axes = Tensor::from_vec(axes, (3, cos.dim(0)?, cos.dim(1)?), &self.device)?;
        trace.take("dit.position_ids", None, &axes);
        trace.take("dit.rope_cos", None, &cos);
        trace.take("dit.rope_sin", None, &sin);
        trace.take("dit.attn_mask", None, may);
        trace.take("state_embed", None, state_embed);
        Ok(())
    }

    /// Velocity of `x` `(b, T, A)` at a moment; f32, like `x`; 0 on the prefix.
    ///
    /// # Errors
    /// Another shape than the conditions were made for; a layer of the context that does not come.
    pub fn velocity(
        &self,
        x: &Tensor,
        moment: &Moment,
        conditions: &Conditions<'_>,
        trace: &mut dyn Trace,
    ) -> Result<Tensor> {
        let (b, horizon, _) = x.dims3()?;
        let masked = (self.enter(x)? * &conditions.action_mask)?;
        let actions = self.action_projector.forward(&masked)?; // (b, T, h)
        let sink = self.sink.unsqueeze(0)?.repeat((b, 1, 1))?;
        let mut h = Tensor::cat(&[&sink, &conditions.state_embed, &actions], 1)?; // (b, n, h)
        trace.take("dit.tokens_in", None, &h);
        for (index, (layer, modulation)) in self.layers.iter().zip(&moment.0).enumerate() {
            let kv = self.cached(conditions, index)?;
            h = layer.forward(&h, modulation, kv, conditions)?;
            trace.take("dit.layer_out", Some(index), &h);
        }
        let actions = h.narrow(1, FIRST_ACTION, horizon)?.contiguous()?;
        let velocity = self.action_output_layer.forward(&actions)?; // (b, T, A)
        let velocity = velocity.to_dtype(x.dtype())?.to_device(x.device())?;
        Ok(match &conditions.free {
            Some(free) => velocity.broadcast_mul(&free.to_device(x.device())?)?,
            None => velocity,
        })
    }

    /// The cache that a layer reads; asked for once.
    fn cached<'a>(&self, conditions: &'a Conditions<'_>, index: usize) -> Result<&'a KvLayer> {
        let cell = &conditions.kv[index];
        if let Some(kv) = cell.get() {
            return Ok(kv);
        }
        let kv = conditions.source.layer(index)?;
        let tokens = conditions.source.tokens();
        let fits = [
            tokens.p_end.len(),
            self.config.num_key_value_heads,
            tokens.width(),
            self.config.head_dim,
        ];
        if kv.k.dims() != fits || kv.v.dims() != fits {
            return Err(Error::input(format!(
                "layer {index} of the context has the shape {:?}, not {fits:?}",
                kv.k.dims()
            )));
        }
        let kv = self.shared(&kv.to(&self.device, self.dtype)?)?;
        Ok(cell.get_or_init(|| kv))
    }

    /// What modulates the layers at the times `t`, one a sample or one for all (reference §6.2).
    ///
    /// # Errors
    /// What the device says.
    pub fn moment(&self, t: &[f64], trace: &mut dyn Trace) -> Result<Moment> {
        let modulation = self.modulation(t, trace)?; // (b, 6, h)
        let of = |layer: &Layer| Ok(modulation.broadcast_add(&layer.adaln_table)?);
        Ok(Moment(self.layers.iter().map(of).collect::<Result<_>>()?))
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
    fn shared(&self, kv: &KvLayer) -> Result<KvLayer> {
        let shared =
            self.config.hidden_size / self.config.head_dim / self.config.num_key_value_heads;
        if shared == 1 {
            return Ok(kv.clone());
        }
        let repeat = |x: &Tensor| -> Result<Tensor> {
            let (b, kv, s, d) = x.dims4()?;
            let each = x.unsqueeze(2)?.expand((b, kv, shared, s, d))?;
            Ok(each.contiguous()?.reshape((b, kv * shared, s, d))?)
        };
        Ok(KvLayer {
            k: repeat(&kv.k)?,
            v: repeat(&kv.v)?,
        })
    }

    /// Brings an input to the network's device and type.
    fn enter(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(&self.device)?.to_dtype(self.dtype)?)
    }

    /// Checks shapes where data enters; gives batch and horizon.
    fn check(&self, source: &dyn Source, given: &Given<'_>) -> Result<(usize, usize)> {
        let (b, horizon, width) = given.action_mask.dims3()?;
        let (state_dim, action_dim) = self.slots;
        let tokens = source.tokens();
        let s = tokens.width();
        let checks = [
            (
                width == action_dim,
                "the action mask has another width than the model's actions",
            ),
            (
                given.state.dims() == [b, 1, state_dim],
                "the state must be (batch, 1, state_dim)",
            ),
            (
                tokens.mask.iter().all(|row| row.len() == s)
                    && tokens.mask.len() == b
                    && tokens.p_end.len() == b,
                "the context's mask and positions do not fit the batch",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, problem)) => Err(Error::input(*problem)),
            None => Ok((b, horizon)),
        }
    }
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

    /// Reference §6.3. `h`: `(b, n, h)`; `modulation`: `(b or 1, 6, h)`, the table in it.
    fn forward(
        &self,
        h: &Tensor,
        modulation: &Tensor,
        kv: &KvLayer,
        conditions: &Conditions<'_>,
    ) -> Result<Tensor> {
        let row = |index| modulation.narrow(1, index, 1); // (b or 1, 1, h)
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
    path: Path,
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
            path: weights.path(),
        })
    }

    fn forward(&self, y: &Tensor, kv: &KvLayer, conditions: &Conditions<'_>) -> Result<Tensor> {
        let (b, n, h) = y.dims3()?;
        let heads = h / self.head_dim;
        let qkv = self.qkv_proj.forward(y)?; // (b, n, 3h): all queries, all keys, all values
        let qkv = qkv.reshape((b, n, 3, heads, self.head_dim))?;
        let part = |index| -> Result<Tensor> {
            let own = qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?;
            Ok(own.contiguous()?) // (b, heads, n, d)
        };
        let rotated = |norm: &RmsNorm, index| -> Result<Tensor> {
            let normed = norm.forward(&part(index)?)?;
            conditions.tables.rotate(&normed, self.path)
        };
        let (q, k) = (rotated(&self.q_norm, 0)?, rotated(&self.k_norm, 1)?);
        let v = part(2)?;
        let seen = [(&kv.k, &kv.v), (&k, &v)]; // s + n tokens
        let mixed = attend(&q, &seen, Some(&conditions.bias), self.path)?;
        self.o_proj.forward(&mixed)
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
}
