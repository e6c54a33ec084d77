//! The text model: token embeddings and image tokens → keys and values of every layer.
//!
//! Paper: Qwen3 with interleaved MRoPE and DeepStack, as in Qwen3-VL. Reference §5. `b` prompts of
//! `s` tokens, right-padded; `H` the model's width. No text is generated: one prefill is all.

use candle_core::Tensor;

use crate::config::{Config, TextConfig};
use crate::context::KvLayer;
use crate::error::{Error, Result};
use crate::nn::{Linear, RmsNorm, SwiGlu, Weights, attend, attention_bias};
use crate::prompt::Rows;
use crate::rope::{Mrope, Tables};
use crate::trace::Trace;
use crate::vision::ImageTokens;

/// The text model.
#[derive(Debug, Clone)]
pub struct TextModel {
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    mrope: Mrope,
    image_token: u32,
}

impl TextModel {
    /// Loads `vlm.model.language_model`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, config: &Config, mrope: Mrope) -> Result<Self> {
        let text = config.text();
        let layers = (0..text.num_hidden_layers)
            .map(|index| Layer::load(&weights.pp("layers").pp(index), text))
            .collect::<Result<_>>()?;
        let size = (text.vocab_size, text.hidden_size);
        Ok(Self {
            embed_tokens: weights.get(size, "embed_tokens.weight")?,
            layers,
            norm: RmsNorm::load(&weights.pp("norm"), text.hidden_size, text.rms_norm_eps)?,
            mrope,
            image_token: config.image_token(),
        })
    }

    /// Runs the prefill and gives keys and values of the layers from `first` on.
    ///
    /// # Errors
    /// Image tokens that do not match the placeholders in number.
    pub fn forward(
        &self,
        rows: &Rows,
        images: &ImageTokens,
        first: usize,
        trace: &mut dyn Trace,
    ) -> Result<Vec<KvLayer>> {
        let (b, s) = (rows.n, rows.width);
        let places = Places::new(&rows.ids, self.image_token, images.embeds.dim(0)?)?;
        let tables = self.mrope.tables(&rows.positions, (b, s))?;
        trace.take("text.rope_cos", None, &tables.cos);
        trace.take("text.rope_sin", None, &tables.sin);
        let bias = self.attention_bias(rows)?;
        let mut x = self.embed(rows, &places, &images.embeds)?; // (b, s, H)
        let mut cache = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            trace.take("text.layer_in", Some(index), &x);
            let kv;
            (x, kv) = layer.forward(&x, &tables, &bias)?;
            trace.take(&format!("kv.{index}.k"), None, &kv.k);
            trace.take(&format!("kv.{index}.v"), None, &kv.v);
            if first <= index {
                cache.push(kv);
            }
            if let Some(feature) = images.deepstack.get(index) {
                x = (x + places.spread(feature, (b, s))?)?;
            }
        }
        trace.take("text.layer_in", Some(self.layers.len()), &x);
        trace.take("text.final_norm", None, &self.norm.forward(&x)?);
        Ok(cache)
    }

    /// Token embeddings, with the image tokens in the places of their placeholders.
    fn embed(&self, rows: &Rows, places: &Places, images: &Tensor) -> Result<Tensor> {
        let device = self.embed_tokens.device();
        let ids = Tensor::new(rows.ids.as_slice(), device)?;
        let words = self.embed_tokens.index_select(&ids, 0)?; // (b·s, H)
        let both = Tensor::cat(&[&words, images], 0)?; // (b·s + M, H)
        let from = Tensor::new(places.from.as_slice(), device)?;
        let hidden = self.embed_tokens.dim(1)?;
        Ok(both
            .index_select(&from, 0)?
            .reshape((rows.n, rows.width, hidden))?)
    }

    /// Causal, and never at padding: `(b, 1, s, s)`, 0 or −∞.
    fn attention_bias(&self, rows: &Rows) -> Result<Tensor> {
        let (b, s) = (rows.n, rows.width);
        let mut may = vec![0u8; b * s * s];
        for (index, cell) in may.iter_mut().enumerate() {
            let (row, query, key) = (index / (s * s), index / s % s, index % s);
            *cell = u8::from(key <= query && rows.mask[row * s + key] == 1);
        }
        let device = self.embed_tokens.device();
        attention_bias(
            &Tensor::from_vec(may, (b, 1, s, s), device)?,
            self.embed_tokens.dtype(),
        )
    }
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

    fn forward(&self, x: &Tensor, tables: &Tables, bias: &Tensor) -> Result<(Tensor, KvLayer)> {
        let normed = self.input_layernorm.forward(x)?;
        let kv = self.self_attn.keys_and_values(&normed, tables)?;
        let x = (x + self.self_attn.forward(&normed, &kv, tables, bias)?)?;
        let inner = self
            .mlp
            .forward(&self.post_attention_layernorm.forward(&x)?)?;
        Ok(((x + inner)?, kv))
    }
}

/// Grouped-query attention with a norm on each head of queries and keys.
#[derive(Debug, Clone)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    head_dim: usize,
}

impl Attention {
    fn load(weights: &Weights, config: &TextConfig) -> Result<Self> {
        let (hidden, d) = (config.hidden_size, config.head_dim);
        let queries = config.num_attention_heads * d;
        let keys = config.num_key_value_heads * d;
        let load = |name, n_in, n_out| Linear::load_without_bias(&weights.pp(name), n_in, n_out);
        Ok(Self {
            q_proj: load("q_proj", hidden, queries)?,
            k_proj: load("k_proj", hidden, keys)?,
            v_proj: load("v_proj", hidden, keys)?,
            o_proj: load("o_proj", queries, hidden)?,
            q_norm: RmsNorm::load(&weights.pp("q_norm"), d, config.rms_norm_eps)?,
            k_norm: RmsNorm::load(&weights.pp("k_norm"), d, config.rms_norm_eps)?,
            head_dim: d,
        })
    }

    /// Keys behind their norm and rotation, raw values: what the cache holds.
    fn keys_and_values(&self, x: &Tensor, tables: &Tables) -> Result<KvLayer> {
        let k = self
            .k_norm
            .forward(&self.heads(&self.k_proj.forward(x)?)?)?;
        Ok(KvLayer {
            k: tables.rotate(&k.transpose(1, 2)?)?, // (b, kv, s, d)
            v: self
                .heads(&self.v_proj.forward(x)?)?
                .transpose(1, 2)?
                .contiguous()?,
        })
    }

    fn forward(&self, x: &Tensor, kv: &KvLayer, tables: &Tables, bias: &Tensor) -> Result<Tensor> {
        let q = self
            .q_norm
            .forward(&self.heads(&self.q_proj.forward(x)?)?)?;
        let q = tables.rotate(&q.transpose(1, 2)?)?; // (b, h, s, d)
        self.o_proj.forward(&attend(&q, &kv.k, &kv.v, Some(bias))?)
    }

    /// `(b, s, heads·d)` → `(b, s, heads, d)`.
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        let (b, s, _) = x.dims3()?;
        Ok(x.reshape((b, s, (), self.head_dim))?)
    }
}
