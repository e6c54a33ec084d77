//! The two halves, each loaded by itself: the vision-language model (the brain) and the action
//! expert.
//!
//! Each has two forms ([`Path`]). What the served form keeps between decisions (image tokens of a
//! frame that did not change, the beginning of the prompt, moments of the flow) was computed by the same
//! operations that would compute it again: a decision depends on its inputs alone, to the bit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::context::{Context, KvLayer, Source, Tokens};
use crate::dit::layout::Kind;
use crate::dit::{Dit, Moment};
use crate::error::{Error, Result};
use crate::flow::{self, Pull};
use crate::frames::{FrameKey, Frames};
use crate::layout::Part;
use crate::model::decision::Decision;
use crate::nn::weights::{Path, WeightType, Weights};
use crate::preprocess::{Grid, ImageLimits, PreprocessorConfig, RgbImage};
use crate::prompt::{self, Row, Rows};
use crate::rope::Mrope;
use crate::text::{Swapped, TextModel};
use crate::tokenizer::Tokenizer;
use crate::trace::{Blind, Trace};
use crate::vision::{ImageTokens, VisionTower, pixel_values};

pub mod decision;

/// Prompts of the largest batch: attention's memory grows with them.
pub const BATCH_MAX: usize = 16;
/// Euler steps whose moments are computed when the network is loaded: the released sampler's.
const STEPS: usize = 5;
/// Numbers of steps whose moments are kept: that of the settings, and those of tests at the start.
const STEP_COUNTS_KEPT: usize = 4;

/// What a manifest says about a checkpoint that its files do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// Whether the rotary frequencies are rounded to bf16 (reference §6.6).
    pub rope_inv_freq_bf16: bool,
    /// How the action expert was trained.
    pub kind: Kind,
}

/// How a half is loaded.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the checkpoint's files do not say.
    pub profile: Profile,
    /// Where it computes.
    pub device: Device,
    /// What its large weights are held as.
    pub weights: WeightType,
    /// Which form it takes.
    pub path: Path,
}

impl Options {
    /// The plain form in f32 on the processor: for training and for looking inside.
    pub fn plain() -> Self {
        Self {
            profile: Profile::default(),
            device: Device::Cpu,
            weights: WeightType::F32,
            path: Path::Plain,
        }
    }

    /// The served form, with the type of weights that the device takes by itself.
    pub fn served(device: Device) -> Self {
        Self {
            profile: Profile::default(),
            weights: WeightType::of(&device),
            device,
            path: Path::Served,
        }
    }

    /// The checkpoint's weights of these parts, as these options hold them.
    fn of(&self, checkpoint: &Checkpoint, parts: &[Part]) -> VarBuilder<'static> {
        checkpoint.weights(parts, self.weights.compute(&self.device), &self.device)
    }

    fn weights<'a>(&self, builder: VarBuilder<'a>) -> Weights<'a> {
        Weights::new(builder, self.weights, self.path)
    }
}

/// One image of a prompt.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Its label in the prompt, such as `Ego View`.
    pub label: &'a str,
    /// What the camera saw.
    pub image: &'a RgbImage,
    /// How large it may be; `None`: as the checkpoint says.
    pub limits: Option<ImageLimits>,
}

/// What the brain is asked: images and a sentence.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    /// In the prompt's order.
    pub views: Vec<View<'a>>,
    /// The bare sentence.
    pub instruction: &'a str,
}

/// A batch of prompts, ready for the prefill.
#[derive(Debug)]
pub struct Prepared {
    /// Token ids and positions.
    pub rows: Rows,
    /// What the action expert must know of them.
    pub tokens: Tokens,
    /// Patches of each image.
    pub grids: Vec<Grid>,
    images: Vec<Seen>,
}

/// An image of a prompt.
#[derive(Debug)]
enum Seen {
    /// `(patches, values)`, to be kept under this name.
    Now(FrameKey, Tensor),
    /// Its tokens are known: it is the very image of an earlier prompt.
    Before(Arc<ImageTokens>),
}

/// What the plain form gives of a batch.
#[derive(Debug)]
pub struct Forward {
    /// What the action expert reads.
    pub context: Context,
    /// `(b, s, H)`: behind the final norm.
    pub hidden: Tensor,
}

/// The vision-language model with its preprocessing.
#[derive(Debug)]
pub struct Vlm {
    config: Config,
    preprocessor: PreprocessorConfig,
    tokenizer: Tokenizer,
    pad_id: u32,
    visual: VisionTower,
    language_model: TextModel,
    frames: Mutex<Frames>,
    path: Path,
    dtype: DType,
    device: Device,
}

impl Vlm {
    /// Loads its part of a checkpoint, and nothing of the action expert.
    ///
    /// # Errors
    /// What is wrong with the checkpoint, or a device without room.
    pub fn load(checkpoint: &Checkpoint, options: &Options) -> Result<Self> {
        let builder = options.of(checkpoint, &[Part::Vision, Part::Text]);
        Self::with_weights(checkpoint, builder, options)
    }

    /// Makes it with weights from elsewhere, such as the variables of a training run; names are the
    /// checkpoint's, from its root.
    ///
    /// # Errors
    /// As [`Vlm::load`].
    pub fn with_weights(
        checkpoint: &Checkpoint,
        builder: VarBuilder<'_>,
        options: &Options,
    ) -> Result<Self> {
        let config = checkpoint.config().clone();
        let weights = options.weights(builder);
        let model = weights.pp("vlm.model");
        let rounded = options.profile.rope_inv_freq_bf16;
        let mrope = Mrope::new(&config, rounded, &options.device)?;
        let tokenizer = checkpoint.tokenizer().clone();
        let pad_id = tokenizer.id("<|endoftext|>");
        Ok(Self {
            // First what needs most memory while it is loaded.
            language_model: TextModel::load(&model.pp("language_model"), &config, mrope)?,
            visual: VisionTower::load(&model.pp("visual"), &config, rounded)?,
            preprocessor: checkpoint.preprocessor().clone(),
            pad_id: pad_id.ok_or_else(|| Error::input("tokenizer.json has no <|endoftext|>"))?,
            tokenizer,
            config,
            frames: Mutex::default(),
            path: options.path,
            dtype: weights.dtype(),
            device: options.device.clone(),
        })
    }

    /// Turns prompts into tokens, positions and pixels.
    ///
    /// # Errors
    /// Images or a sentence that cannot be a prompt, no prompt, or more than [`BATCH_MAX`].
    pub fn prepare(&self, prompts: &[Prompt<'_>]) -> Result<Prepared> {
        let mut grids: Vec<Grid> = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        for prompt in prompts {
            rows.push(self.row(prompt, &mut grids)?);
        }
        let views = prompts.iter().flat_map(|prompt| &prompt.views);
        self.prepared(&rows, grids, views)
    }

    /// The same for token rows of one's own, with their images in the rows' order.
    ///
    /// # Errors
    /// An image that cannot be one, or rows that are no batch.
    pub fn prepare_rows(&self, rows: &[Row], images: &[&RgbImage]) -> Result<Prepared> {
        let views: Vec<_> = images
            .iter()
            .map(|image| View {
                label: "",
                image,
                limits: None,
            })
            .collect();
        let grids = images.iter().map(|image| self.preprocessor.grid(image));
        self.prepared(rows, grids.collect::<Result<_>>()?, views.iter())
    }

    /// Not before every prompt is known to be short enough are pixels looked at.
    fn prepared<'a>(
        &self,
        rows: &[Row],
        grids: Vec<Grid>,
        views: impl Iterator<Item = &'a View<'a>>,
    ) -> Result<Prepared> {
        if rows.is_empty() || BATCH_MAX < rows.len() {
            let n = rows.len();
            return Err(Error::input(format!(
                "a batch has 1 to {BATCH_MAX} prompts, not {n}"
            )));
        }
        let images = views.map(|view| self.seen(view)).collect::<Result<_>>()?;
        let rows = prompt::pad(rows, self.pad_id);
        Ok(Prepared {
            tokens: tokens_of(&rows),
            rows,
            grids,
            images,
        })
    }

    /// Computes keys and values of a batch: one prefill, no text is generated. `ready` gets what the
    /// action expert's layer `index` reads, in order, as soon as it is computed.
    ///
    /// # Errors
    /// What the device or `ready` says.
    pub fn prefill(
        &self,
        prepared: &Prepared,
        trace: &mut dyn Trace,
        ready: &mut dyn FnMut(usize, KvLayer) -> Result<()>,
    ) -> Result<()> {
        let first = self.config.first_context_layer();
        let mut ready = |index: usize, layer| ready(index - first, layer);
        match self.path {
            Path::Plain => {
                let images = self.look(prepared, trace)?;
                let given = (&prepared.rows, &images);
                let model = &self.language_model;
                model.forward(given, (first, None), trace, &mut ready)?;
                Ok(())
            }
            Path::Served => {
                let images = self.look_again(prepared)?;
                let model = &self.language_model;
                model.prefill(&prepared.rows, &images, first, &mut ready)
            }
        }
    }

    /// Computes the whole context of a batch of prompts.
    ///
    /// # Errors
    /// As [`Vlm::prepare`] and [`Vlm::prefill`].
    pub fn context(&self, prompts: &[Prompt<'_>], trace: &mut dyn Trace) -> Result<Context> {
        let prepared = self.prepare(prompts)?;
        let mut layers = Vec::new();
        self.prefill(&prepared, trace, &mut |_, layer| {
            layers.push(layer);
            Ok(())
        })?;
        let tokens = prepared.tokens;
        Ok(Context { tokens, layers })
    }

    /// The plain form as a whole, with the last hidden states; differentiable. Embeddings of some
    /// tokens may be replaced.
    ///
    /// # Errors
    /// A model that was loaded in its served form; what the device says.
    pub fn forward(
        &self,
        prepared: &Prepared,
        swapped: Option<&Swapped<'_>>,
        trace: &mut dyn Trace,
    ) -> Result<Forward> {
        let images = self.look(prepared, trace)?;
        let mut layers = Vec::new();
        let hidden = self.language_model.forward(
            (&prepared.rows, &images),
            (self.config.first_context_layer(), swapped),
            trace,
            &mut |_, layer| {
                layers.push(layer);
                Ok(())
            },
        )?;
        let tokens = prepared.tokens.clone();
        Ok(Forward {
            context: Context { tokens, layers },
            hidden,
        })
    }

    /// `hidden × embed_tokensᵀ`: what the next token would be, `(…, vocabulary)`.
    ///
    /// # Errors
    /// Hidden states of another width.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.language_model.logits(hidden)
    }

    /// Images that did not have to be computed, since the very same one was seen before.
    pub fn frames_known(&self) -> u64 {
        self.frames
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .known()
    }

    /// Tokens of one prompt; its images' grids go behind those of the prompts before it.
    fn row(&self, prompt: &Prompt<'_>, grids: &mut Vec<Grid>) -> Result<Row> {
        let labels: Vec<_> = prompt.views.iter().map(|view| view.label).collect();
        prompt::check(&self.tokenizer, &labels, prompt.instruction)?;
        let own = (prompt.views.iter())
            .map(|view| self.preprocessor.grid_within(view.image, view.limits))
            .collect::<Result<Vec<_>>>()?;
        let text = prompt::prompt(&labels, prompt.instruction);
        let row = prompt::row(&self.tokenizer, &self.config, &text, &own)?;
        grids.extend(own);
        Ok(row)
    }

    /// An image's pixels, or its tokens if it was seen before.
    fn seen(&self, view: &View<'_>) -> Result<Seen> {
        let key = FrameKey::of(view.image, view.limits);
        if self.path == Path::Served {
            let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(tokens) = frames.get(&key) {
                return Ok(Seen::Before(tokens));
            }
        }
        let pixels = self
            .preprocessor
            .pixel_rows_within(view.image, view.limits)?;
        let width = self.preprocessor.row_width();
        let pixels = pixel_values(pixels.rows, width, (self.dtype, &self.device))?;
        Ok(Seen::Now(key, pixels))
    }

    /// All images at once, in the plain form.
    fn look(&self, prepared: &Prepared, trace: &mut dyn Trace) -> Result<ImageTokens> {
        let pixels = prepared.images.iter().filter_map(|image| match image {
            Seen::Now(_, pixels) => Some(pixels),
            Seen::Before(_) => None,
        });
        let pixels = Tensor::cat(&pixels.collect::<Vec<_>>(), 0)?;
        trace.take("pixel_values", None, &pixels);
        trace_inputs(&prepared.rows, &prepared.grids, trace)?;
        self.visual.forward(&pixels, &prepared.grids, trace)
    }

    /// Image by image, in the served form: those that were seen before are not computed again. Each
    /// by itself, so that its tokens are the same whatever stands beside it.
    fn look_again(&self, prepared: &Prepared) -> Result<ImageTokens> {
        let mut all = Vec::with_capacity(prepared.images.len());
        for (image, grid) in prepared.images.iter().zip(&prepared.grids) {
            all.push(match image {
                Seen::Before(tokens) => Arc::clone(tokens),
                Seen::Now(key, pixels) => {
                    let tokens = self.visual.forward(pixels, &[*grid], &mut Blind)?;
                    let tokens = Arc::new(tokens);
                    let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
                    frames.keep(*key, Arc::clone(&tokens));
                    tokens
                }
            });
        }
        if all.is_empty() {
            let hidden = self.config.text().hidden_size;
            return ImageTokens::none(hidden, (self.dtype, &self.device));
        }
        ImageTokens::joined(&all)
    }
}

fn tokens_of(rows: &Rows) -> Tokens {
    let own = |row: usize| row * rows.width..(row + 1) * rows.width;
    let largest = |row| {
        let axes = rows.positions.iter().flat_map(|axis| &axis[own(row)]);
        axes.copied().max().unwrap_or(0)
    };
    Tokens {
        p_end: (0..rows.n).map(largest).collect(),
        mask: (0..rows.n)
            .map(|row| rows.mask[own(row)].iter().map(|real| *real == 1).collect())
            .collect(),
    }
}

fn trace_inputs(rows: &Rows, grids: &[Grid], trace: &mut dyn Trace) -> Result<()> {
    let shape = (rows.n, rows.width);
    let wide = |values: &[u32]| values.iter().map(|v| i64::from(*v)).collect::<Vec<_>>();
    let ids = Tensor::from_vec(wide(&rows.ids), shape, &Device::Cpu)?;
    trace.take("input_ids", None, &ids);
    let mask = Tensor::from_vec(rows.mask.clone(), shape, &Device::Cpu)?;
    trace.take("attention_mask", None, &mask);
    let axes: Vec<_> = rows.positions.iter().flat_map(|axis| wide(axis)).collect();
    let axes = Tensor::from_vec(axes, (3, rows.n, rows.width), &Device::Cpu)?;
    trace.take("position_ids", None, &axes);
    let sizes = grids
        .iter()
        .flat_map(|grid| [1, grid.rows as i64, grid.columns as i64]);
    let sizes = Tensor::from_vec(sizes.collect::<Vec<_>>(), (grids.len(), 3), &Device::Cpu)?;
    trace.take("image_grid_thw", None, &sizes);
    Ok(())
}

/// The action expert: the diffusion transformer with its sampler.
#[derive(Debug)]
pub struct ActionExpert {
    dit: Dit,
    kind: Kind,
    path: Path,
    /// By number of steps, for all samples alike.
    moments: Mutex<BTreeMap<usize, Arc<[Moment]>>>,
}

impl ActionExpert {
    /// Loads its part of a checkpoint, and nothing of the vision-language model.
    ///
    /// # Errors
    /// What is wrong with the checkpoint, or a device without room.
    pub fn load(checkpoint: &Checkpoint, options: &Options) -> Result<Self> {
        let builder = options.of(checkpoint, &[Part::ActionExpert]);
        Self::with_weights(checkpoint.config(), builder, options)
    }

    /// Makes it with weights from elsewhere, such as the variables of a training run; names are the
    /// checkpoint's, from its root.
    ///
    /// # Errors
    /// As [`ActionExpert::load`].
    pub fn with_weights(
        config: &Config,
        builder: VarBuilder<'_>,
        options: &Options,
    ) -> Result<Self> {
        let Profile {
            rope_inv_freq_bf16,
            kind,
        } = options.profile;
        let mrope = Mrope::new(config, rope_inv_freq_bf16, &options.device)?;
        let expert = Self {
            dit: Dit::load(&options.weights(builder), config, mrope)?,
            kind,
            path: options.path,
            moments: Mutex::default(),
        };
        if options.path == Path::Served {
            expert.moments(STEPS)?;
        }
        Ok(expert)
    }

    /// Takes the network for one of the other kind; no weight differs between them.
    pub fn set_kind(&mut self, kind: Kind) {
        self.kind = kind;
    }

    /// Denoises a chunk: `(b, T, action_dim)`, f32 on the CPU, still normalised. Prefix rows stay as
    /// they are, to the bit.
    ///
    /// # Errors
    /// Inputs that do not fit the network, a context that does not come, or a computation that fails.
    pub fn sample(
        &self,
        source: &dyn Source,
        decision: &Decision,
        trace: &mut dyn Trace,
    ) -> Result<Tensor> {
        let given = decision.given();
        let conditions = self.dit.condition(source, &given, self.kind, trace)?;
        let moments = self.moments(decision.steps)?;
        let actions = flow::sample(&decision.start()?, decision.steps, trace, |x, step| {
            let moment = &moments[step];
            self.dit.velocity(x, moment, &conditions, &mut Blind)
        })?;
        Ok(actions.to_device(&Device::Cpu)?)
    }

    /// Denoises a chunk as [`ActionExpert::sample`] does, pulled towards known actions. It takes the
    /// weights as they are held, in both forms: nothing is loaded twice. Its numbers are those of
    /// differentiable operations, a little off the served form's.
    ///
    /// # Errors
    /// As [`ActionExpert::sample`]; a prefix besides; a guidance of another shape.
    pub fn sample_guided(
        &self,
        source: &dyn Source,
        decision: &Decision,
        pull: &Pull,
    ) -> Result<Tensor> {
        if decision.prefix.is_some() {
            return Err(Error::input("a prefix and guidance at once"));
        }
        let given = decision.given();
        let conditions = self.dit.condition(source, &given, self.kind, &mut Blind)?;
        let moments = self.moments(decision.steps)?;
        let actions = flow::guided(&decision.start()?, decision.steps, pull, |x, step| {
            self.dit
                .velocity(x, &moments[step], &conditions, &mut Blind)
        })?;
        Ok(actions.to_device(&Device::Cpu)?)
    }

    /// Velocity of `x` `(b, T, action_dim)` at the times `t`, one a sample.
    ///
    /// # Errors
    /// Inputs that do not fit the network, or a computation that fails.
    pub fn velocity(
        &self,
        source: &dyn Source,
        decision: &Decision,
        (x, t): (&Tensor, &[f64]),
        trace: &mut dyn Trace,
    ) -> Result<Tensor> {
        let given = decision.given();
        let conditions = self.dit.condition(source, &given, self.kind, trace)?;
        let moment = self.dit.moment(t, trace)?;
        self.dit.velocity(x, &moment, &conditions, trace)
    }

    /// The moments of a sampler of so many steps. They depend on the weights alone: the served form
    /// computes them once, the plain one each time, since the weights may be learning.
    fn moments(&self, steps: usize) -> Result<Arc<[Moment]>> {
        let kept = || self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&steps) {
            return Ok(Arc::clone(known));
        }
        let times = flow::times(steps);
        let moments = times.iter().map(|t| self.dit.moment(&[*t], &mut Blind));
        let moments: Arc<[Moment]> = moments.collect::<Result<_>>()?;
        if self.path == Path::Served {
            let mut kept = kept();
            if STEP_COUNTS_KEPT <= kept.len() {
                kept.pop_first();
            }
            kept.insert(steps, Arc::clone(&moments));
        }
        Ok(moments)
    }
}
