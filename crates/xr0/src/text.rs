//! The text model: token embeddings and image tokens → keys and values of every layer.
//!
//! Paper: Qwen3 with interleaved MRoPE and DeepStack, as in Qwen3-VL. Reference §5. `b` prompts of
//! `s` tokens, right-padded; `H` the model's width. No text is generated: one prefill is all.
//!
//! The served form computes nothing that nobody reads: of the last layer only keys and values, and
//! no final norm. And it computes the tokens before the first image only once: they see
//! themselves alone, so that their keys and values are the same in every prompt that begins with
//! them. What is kept was computed by the very same operations, so that a chunk does not depend on
//! what was asked before.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Tensor};

use crate::config::{Config, TextConfig};
use crate::context::KvLayer;
use crate::error::{Error, Result};
use crate::nn::linear::{Embedding, Linear};
use crate::nn::weights::{Path, Weights};
use crate::nn::{RmsNorm, SwiGlu, attend, attention_bias};
use crate::prompt::Rows;
use crate::rope::{Mrope, Tables};
use crate::trace::Trace;
use crate::vision::ImageTokens;

/// Beginnings of prompts whose keys and values are kept: one for each first label is enough.
const OPENINGS_KEPT: usize = 4;

/// The text model.
#[derive(Debug)]
pub struct TextModel {
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    last: Last,
    mrope: Mrope,
    image_token: u32,
    hidden_size: usize,
    path: Path,
    dtype: DType,
    device: candle_core::Device,
    openings: Mutex<Vec<Arc<Opening>>>,
}

/// The last layer, and what is behind it.
#[derive(Debug)]
enum Last {
    /// All of it.
    Whole { layer: Box<Layer>, norm: RmsNorm },
    /// Its keys and values: what the action expert reads.
    KeysAndValues {
        input_layernorm: RmsNorm,
        heads: KeysAndValues,
    },
}

/// The tokens before the first image, and what each layer computed for them.
#[derive(Debug)]
struct Opening {
    ids: Vec<u32>,
    kv: Vec<KvLayer>,
}

/// Embeddings that replace those of some tokens.
#[derive(Debug, Clone, Copy)]
pub struct Swapped<'a> {
    /// Which of the `b·s` tokens.
    pub tokens: &'a [usize],
    /// `(n, H)`.
    pub embeddings: &'a Tensor,
}

/// Takes the layers that the action expert reads, by their place among all, as each is computed.
pub type Ready<'a> = dyn FnMut(usize, KvLayer) -> Result<()> + 'a;

impl TextModel {
    /// Loads `vlm.model.language_model`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, config: &Config, mrope: Mrope) -> Result<Self> {
        let text = config.text();
        let embed_tokens = Embedding::load(
            &weights.pp("embed_tokens"),
            text.vocab_size,
            text.hidden_size,
        )?;
        let at = |index: usize| weights.pp("layers").pp(index);
        let last = text.num_hidden_layers.saturating_sub(1);
        let layers = (0..last).map(|index| Layer::load(&at(index), text));
        Ok(Self {
            embed_tokens,
            layers: layers.collect::<Result<_>>()?,
            last: Last::load((weights, &at(last)), text)?,
            mrope,
            image_token: config.image_token(),
            hidden_size: text.hidden_size,
            path: weights.path(),
            dtype: weights.dtype(),
            device: weights.device().clone(),
            openings: Mutex::default(),
        })
    }

    /// Runs the prefill in its served form: hands over keys and values of each layer from `first` on.
    ///
    /// # Errors
    /// Image tokens that do not match the placeholders in number; what `ready` says.
    pub fn prefill(
        &self,
        rows: &Rows,
        images: &ImageTokens,
        first: usize,
        ready: &mut Ready<'_>,
    ) -> Result<()> {
        let opening = self.opening(rows)?;
        self.pass(rows, opening, images, &mut |index, kv| {
            if first <= index {
                ready(index, kv)?;
            }
            Ok(())
        })
    }

    /// Hands over keys and values of every layer; computes the tokens behind the opening alone.
    fn pass(
        &self,
        rows: &Rows,
        opening: Option<Arc<Opening>>,
        images: &ImageTokens,
        ready: &mut Ready<'_>,
    ) -> Result<()> {
        let known = opening.as_ref().map_or(0, |opening| opening.ids.len());
        let own = rows.from_column(known);
        let mut pass = Pass::new(self, (rows, &own), known)?;
        pass.opening = opening;
        let places = Places::new(&own.ids, self.image_token, images.embeds.dim(0)?)?;
        let mut x = self.embed(&own, &places, &images.embeds)?; // (b, s - known, H)
        for (index, layer) in self.layers.iter().enumerate() {
            let kv;
            (x, kv) = layer.forward(&x, &pass, index)?;
            ready(index, kv)?;
            x = places.deepened(x, images, index)?;
        }
        let last = self.last.keys_and_values(&x, &pass)?;
        ready(self.layers.len(), pass.whole(self.layers.len(), &last)?)
    }

    /// Runs every layer, and gives the hidden states behind the final norm, `(b, s, H)`. Keys and
    /// values of the layers from `first` on go to `ready`. Differentiable in the plain form.
    ///
    /// # Errors
    /// A model that was loaded in its served form; as [`TextModel::prefill`].
    pub fn forward(
        &self,
        (rows, images): (&Rows, &ImageTokens),
        (first, swapped): (usize, Option<&Swapped<'_>>),
        trace: &mut dyn Trace,
        ready: &mut Ready<'_>,
    ) -> Result<Tensor> {
        let Last::Whole { layer, norm } = &self.last else {
            return Err(Error::input(
                "the served form has no hidden states: load the plain one",
            ));
        };
        let pass = Pass::new(self, (rows, rows), 0)?;
        let (cos, sin) = pass.tables.twice()?;
        trace.take("text.rope_cos", None, &cos);
        trace.take("text.rope_sin", None, &sin);
        let places = Places::new(&rows.ids, self.image_token, images.embeds.dim(0)?)?;
        let mut x = self.embed(rows, &places, &images.embeds)?; // (b, s, H)
        if let Some(swapped) = swapped {
            x = swap(&x, swapped)?;
        }
        let mut kept = |index: usize, kv: &KvLayer, trace: &mut dyn Trace| {
            trace.take(&format!("kv.{index}.k"), None, &kv.k);
            trace.take(&format!("kv.{index}.v"), None, &kv.v);
            if first <= index {
                ready(index, kv.clone())?;
            }
            Ok::<(), Error>(())
        };
        for (index, layer) in self.layers.iter().chain([&**layer]).enumerate() {
            trace.take("text.layer_in", Some(index), &x);
            let kv;
            (x, kv) = layer.forward(&x, &pass, index)?;
            kept(index, &kv, trace)?;
            x = places.deepened(x, images, index)?;
        }
        trace.take("text.layer_in", Some(self.layers.len() + 1), &x);
        let hidden = norm.forward(&x)?;
        trace.take("text.final_norm", None, &hidden);
        Ok(hidden)
    }

    /// `hidden × embed_tokensᵀ`: what the next token would be, `(…, vocabulary)`.
    ///
    /// # Errors
    /// Hidden states of another width.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.embed_tokens.products(hidden)
    }

    /// What is known of the tokens before the first image, if all prompts begin with the same ones.
    fn opening(&self, rows: &Rows) -> Result<Option<Arc<Opening>>> {
        let image = rows.ids.iter().position(|id| *id == self.image_token);
        let n = image.unwrap_or(0).min(rows.width.saturating_sub(1));
        let ids = rows.ids[..n].to_vec();
        let same = |row: usize| rows.ids[row * rows.width..].starts_with(&ids);
        if n == 0 || !(0..rows.n).all(same) {
            return Ok(None);
        }
        let kept = || self.openings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opening) = kept().iter().find(|opening| opening.ids == ids) {
            return Ok(Some(Arc::clone(opening)));
        }
        let opening = Arc::new(self.open(rows.opening(n))?);
        let mut kept = kept();
        if OPENINGS_KEPT <= kept.len() {
            kept.remove(0);
        }
        kept.push(Arc::clone(&opening));
        Ok(Some(opening))
    }

    /// Computes an opening: one row without images.
    fn open(&self, row: Rows) -> Result<Opening> {
        let none = ImageTokens::none(self.hidden_size, (self.dtype, &self.device))?;
        let mut kv = Vec::with_capacity(self.layers.len() + 1);
        self.pass(&row, None, &none, &mut |_, layer| {
            kv.push(layer);
            Ok(())
        })?;
        Ok(Opening { ids: row.ids, kv })
    }

    /// Token embeddings, with the image tokens in the places of their placeholders.
    fn embed(&self, rows: &Rows, places: &Places, images: &Tensor) -> Result<Tensor> {
        let ids = Tensor::new(rows.ids.as_slice(), &self.device)?;
        let words = self.embed_tokens.rows(&ids, self.dtype)?; // (b·s, H)
        let both = Tensor::cat(&[&words, images], 0)?; // (b·s + M, H)
        let from = Tensor::new(places.from.as_slice(), &self.device)?;
        let hidden = words.dim(1)?;
        Ok(both
            .index_select(&from, 0)?
            .reshape((rows.n, rows.width, hidden))?)
    }
}

/// Puts other embeddings in the places of some tokens.
fn swap(x: &Tensor, swapped: &Swapped<'_>) -> Result<Tensor> {
    let (b, s, hidden) = x.dims3()?;
    let mut from: Vec<u32> = (0..(b * s) as u32).collect();
    for (row, token) in swapped.tokens.iter().enumerate() {
        let place = from.get_mut(*token);
        let place = place.ok_or_else(|| Error::input("there is no such token to replace"))?;
        *place = (b * s + row) as u32;
    }
    let both = Tensor::cat(&[&x.reshape((b * s, hidden))?, swapped.embeddings], 0)?;
    let from = Tensor::new(from, x.device())?;
    Ok(both.index_select(&from, 0)?.reshape((b, s, hidden))?)
}

/// What all layers of one prefill share.
struct Pass {
    /// Of the tokens that are computed.
    tables: Tables,
    /// `(b, 1, computed, s)`: 0 or −∞.
    bias: Tensor,
    path: Path,
    /// Of the tokens before them.
    opening: Option<Arc<Opening>>,
}

impl Pass {
    /// `own` are the columns of `rows` behind the first `known`.
    fn new(model: &TextModel, (rows, own): (&Rows, &Rows), known: usize) -> Result<Self> {
        Ok(Self {
            tables: model.mrope.tables(&own.positions, (own.n, own.width))?,
            bias: causal(rows, known, model.dtype, &model.device)?,
            path: model.path,
            opening: None,
        })
    }

    /// The layer's keys and values of all tokens: those of the opening, then its own.
    fn whole(&self, index: usize, own: &KvLayer) -> Result<KvLayer> {
        let Some(opening) = &self.opening else {
            return Ok(own.clone());
        };
        let b = own.k.dim(0)?;
        let both = |known: &Tensor, own: &Tensor| -> Result<Tensor> {
            let known = known.repeat((b, 1, 1, 1))?;
            Ok(Tensor::cat(&[&known, own], 2)?)
        };
        let known = &opening.kv[index];
        Ok(KvLayer {
            k: both(&known.k, &own.k)?,
            v: both(&known.v, &own.v)?,
        })
    }
}

/// Causal, and never at padding: `(b, 1, s - known, s)`, 0 or −∞.
fn causal(rows: &Rows, known: usize, dtype: DType, device: &candle_core::Device) -> Result<Tensor> {
    let (b, s) = (rows.n, rows.width);
    let mut may = Vec::with_capacity(b * (s - known) * s);
    for row in 0..b {
        let real = &rows.mask[row * s..(row + 1) * s];
        for query in known..s {
            may.extend((0..s).map(|key| u8::from(key <= query && real[key] == 1)));
        }
    }
    attention_bias(&Tensor::from_vec(may, (b, 1, s - known, s), device)?, dtype)
}

/// Where the image tokens stand among the `b·s` tokens of a batch.
struct Places {
    /// For each token its row in `[words; images]`.
    from: Vec<u32>,
    /// For each token its row in `[images; one row of zeros]`.
    image: Vec<u32>,
}

impl Places {
    fn new(ids: &[u32], image_token: u32, n_images: usize) -> Result<Self> {
        let (words, n) = (ids.len() as u32, n_images as u32);
        let mut places = Self {
            from: (0..words).collect(),
            image: vec![n; ids.len()],
        };
        let mut next = 0;
        for (token, _) in ids.iter().enumerate().filter(|(_, id)| **id == image_token) {
            places.from[token] = words + next;
            places.image[token] = next;
            next += 1;
        }
        if next == n {
            Ok(places)
        } else {
            Err(Error::input(format!(
                "the prompt has {next} image tokens and the images have {n}"
            )))
        }
    }

    /// Adds the DeepStack feature of layer `index`, if there is one, at the image tokens.
    fn deepened(&self, x: Tensor, images: &ImageTokens, index: usize) -> Result<Tensor> {
        let (b, s, _) = x.dims3()?;
        Ok(match images.deepstack.get(index) {
            Some(feature) => (x + self.spread(feature, (b, s))?)?,
            None => x,
        })
    }

    /// `(M, H)` features → `(b, s, H)`: at the image tokens the feature, elsewhere zero.
    fn spread(&self, feature: &Tensor, (b, s): (usize, usize)) -> Result<Tensor> {
        let hidden = feature.dim(1)?;
        let zero = Tensor::zeros((1, hidden), feature.dtype(), feature.device())?;
        let image = Tensor::new(self.image.as_slice(), feature.device())?;
        let spread = Tensor::cat(&[feature, &zero], 0)?.index_select(&image, 0)?;
        Ok(spread.reshape((b, s, hidden))?)
    }
}

/// One transformer layer, pre-norm.
#[derive(Debug, Clone)]
struct Layer {
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
    self_attn: Attention,
    mlp: SwiGlu,
}

impl Layer {
    fn load(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        let norm = |name| RmsNorm::load(&weights.pp(name), hidden, eps);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            self_attn: Attention::load(&weights.pp("self_attn"), config)?,
            mlp: SwiGlu::load(&weights.pp("mlp"), hidden, config.intermediate_size)?,
        })
    }

    /// `(b, computed, H)` → the same shape, and keys and values of all tokens.
    fn forward(&self, x: &Tensor, pass: &Pass, index: usize) -> Result<(Tensor, KvLayer)> {
        let normed = self.input_layernorm.forward(x)?;
        let kv = self.self_attn.heads.forward(&normed, pass)?;
        let kv = pass.whole(index, &kv)?;
        let x = (x + self.self_attn.forward(&normed, &kv, pass)?)?;
        let inner = self
            .mlp
            .forward(&self.post_attention_layernorm.forward(&x)?)?;
        Ok(((x + inner)?, kv))
    }
}

impl Last {
    fn load((model, layer): (&Weights, &Weights), config: &TextConfig) -> Result<Self> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        Ok(match model.path() {
            Path::Plain => Self::Whole {
                layer: Box::new(Layer::load(layer, config)?),
                norm: RmsNorm::load(&model.pp("norm"), hidden, eps)?,
            },
            Path::Served => Self::KeysAndValues {
                input_layernorm: RmsNorm::load(&layer.pp("input_layernorm"), hidden, eps)?,
                heads: KeysAndValues::load(&layer.pp("self_attn"), config)?,
            },
        })
    }

    /// Of the tokens that are computed.
    fn keys_and_values(&self, x: &Tensor, pass: &Pass) -> Result<KvLayer> {
        let (norm, heads) = match self {
            Self::Whole { layer, .. } => (&layer.input_layernorm, &layer.self_attn.heads),
            Self::KeysAndValues {
                input_layernorm,
                heads,
            } => (input_layernorm, heads),
        };
        heads.forward(&norm.forward(x)?, pass)
    }
}

/// Keys behind their norm and rotation, raw values: what the cache holds.
#[derive(Debug, Clone)]
struct KeysAndValues {
    k_proj: Linear,
    v_proj: Linear,
    k_norm: RmsNorm,
    head_dim: usize,
}

impl KeysAndValues {
    fn load(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let (hidden, d) = (config.hidden_size, config.head_dim);
        let keys = config.num_key_value_heads * d;
        let load = |name| Linear::load_without_bias(&weights.pp(name), hidden, keys);
        Ok(Self {
            k_proj: load("k_proj")?,
            v_proj: load("v_proj")?,
            k_norm: RmsNorm::load(&weights.pp("k_norm"), d, config.rms_norm_eps)?,
            head_dim: d,
        })
    }

    /// `(b, n, H)` → each `(b, kv, n, d)`.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<KvLayer> {
        let k = heads(&self.k_proj.forward(x)?, self.head_dim)?;
        let k = self.k_norm.forward(&k)?.transpose(1, 2)?;
        let v = heads(&self.v_proj.forward(x)?, self.head_dim)?;
        Ok(KvLayer {
            k: pass.tables.rotate(&k, pass.path)?,
            v: v.transpose(1, 2)?.contiguous()?,
        })
    }
}

/// Grouped-query attention with a norm on each head of queries and keys.
#[derive(Debug, Clone)]
struct Attention {
    q_proj: Linear,
    heads: KeysAndValues,
    o_proj: Linear,
    q_norm: RmsNorm,
}

impl Attention {
    fn load(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let (hidden, d) = (config.hidden_size, config.head_dim);
        let queries = config.num_attention_heads * d;
        let load = |name, n_in, n_out| Linear::load_without_bias(&weights.pp(name), n_in, n_out);
        Ok(Self {
            q_proj: load("q_proj", hidden, queries)?,
            heads: KeysAndValues::load(weights, config)?,
            o_proj: load("o_proj", queries, hidden)?,
            q_norm: RmsNorm::load(&weights.pp("q_norm"), d, config.rms_norm_eps)?,
        })
    }

    fn forward(&self, x: &Tensor, kv: &KvLayer, pass: &Pass) -> Result<Tensor> {
        let q = heads(&self.q_proj.forward(x)?, self.heads.head_dim)?;
        let q = self.q_norm.forward(&q)?.transpose(1, 2)?;
        let q = pass.tables.rotate(&q, pass.path)?; // (b, h, n, d)
        let mixed = attend(&q, &[(&kv.k, &kv.v)], Some(&pass.bias), pass.path)?;
        self.o_proj.forward(&mixed)
    }
}

/// `(b, s, heads·d)` → `(b, s, heads, d)`.
fn heads(x: &Tensor, head_dim: usize) -> Result<Tensor> {
    let (b, s, _) = x.dims3()?;
    Ok(x.reshape((b, s, (), head_dim))?)
}
