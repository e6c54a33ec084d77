//! The two halves, each loaded by itself: the vision-language model (the brain) and the action
//! expert.

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::context::{Context, KvLayer};
use crate::device::compute_dtype;
use crate::dit::Dit;
use crate::error::{Error, Result};
use crate::flow;
use crate::layout::Part;
use crate::preprocess::{Grid, PreprocessorConfig, RgbImage};
use crate::prompt::{self, Row, Rows};
use crate::rope::Mrope;
use crate::text::TextModel;
use crate::tokenizer::Tokenizer;
use crate::trace::{Blind, Trace};
use crate::vision::{VisionTower, pixel_values};

/// What a manifest says about a checkpoint that its files do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// Whether the rotary frequencies are rounded to bf16 (reference §6.6).
    pub rope_inv_freq_bf16: bool,
}

/// One image of a prompt.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Its label in the prompt, such as `Ego View`.
    pub label: &'a str,
    /// What the camera saw.
    pub image: &'a RgbImage,
}

/// What the brain is asked: images and a sentence.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    /// In the prompt's order.
    pub views: Vec<View<'a>>,
    /// The bare sentence.
    pub instruction: &'a str,
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
    dtype: DType,
    device: Device,
}

impl Vlm {
    /// Loads its part of a checkpoint, and nothing of the action expert.
    ///
    /// # Errors
    /// What is wrong with the checkpoint, or a device without room.
    pub fn load(checkpoint: &Checkpoint, profile: Profile, device: &Device) -> Result<Self> {
        let config = checkpoint.config().clone();
        let dtype = compute_dtype(device);
        let weights = checkpoint.weights(&[Part::Vision, Part::Text], dtype, device);
        let model = weights.pp("vlm.model");
        let rounded = profile.rope_inv_freq_bf16;
        let mrope = Mrope::new(&config, rounded, device)?;
        let tokenizer = checkpoint.tokenizer().clone();
        let pad_id = tokenizer.id("<|endoftext|>");
        Ok(Self {
            visual: VisionTower::load(&model.pp("visual"), &config, rounded)?,
            language_model: TextModel::load(&model.pp("language_model"), &config, mrope)?,
            preprocessor: checkpoint.preprocessor().clone(),
            pad_id: pad_id.ok_or_else(|| Error::input("tokenizer.json has no <|endoftext|>"))?,
            tokenizer,
            config,
            dtype,
            device: device.clone(),
        })
    }

    /// Computes the context of a batch of prompts: one prefill, no text is generated.
    ///
    /// # Errors
    /// Images or a sentence that cannot be a prompt, or a computation that fails.
    pub fn context(&self, prompts: &[Prompt<'_>], trace: &mut dyn Trace) -> Result<Context> {
        let mut grids: Vec<Grid> = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        for prompt in prompts {
            rows.push(self.row(prompt, &mut grids)?);
        }
        // Not before every prompt is known to be short enough.
        let mut pixels = Vec::new();
        for view in prompts.iter().flat_map(|prompt| &prompt.views) {
            pixels.extend(self.preprocessor.pixel_rows(view.image)?.rows);
        }
        let rows = prompt::pad(&rows, self.pad_id);
        let width = self.preprocessor.row_width();
        let pixels = pixel_values(pixels, width, (self.dtype, &self.device))?;
        trace.take("pixel_values", None, &pixels);
        trace_inputs(&rows, &grids, trace)?;
        let images = self.visual.forward(&pixels, &grids, trace)?;
        let first = self.config.first_context_layer();
        let layers = self.language_model.forward(&rows, &images, first, trace)?;
        Ok(context_of(&rows, layers))
    }

    /// Tokens of one prompt; its images' grids go behind those of the prompts before it.
    fn row(&self, prompt: &Prompt<'_>, grids: &mut Vec<Grid>) -> Result<Row> {
        let labels: Vec<_> = prompt.views.iter().map(|view| view.label).collect();
        prompt::check(&self.tokenizer, &labels, prompt.instruction)?;
        let own = (prompt.views.iter())
            .map(|view| self.preprocessor.grid(view.image))
            .collect::<Result<Vec<_>>>()?;
        let text = prompt::prompt(&labels, prompt.instruction);
        let row = prompt::row(&self.tokenizer, &self.config, &text, &own)?;
        grids.extend(own);
        Ok(row)
    }
}

fn context_of(rows: &Rows, layers: Vec<KvLayer>) -> Context {
    let own = |row: usize| row * rows.width..(row + 1) * rows.width;
    let largest = |row| {
        let axes = rows.positions.iter().flat_map(|axis| &axis[own(row)]);
        axes.copied().max().unwrap_or(0)
    };
    Context {
        layers,
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

/// What the action expert decides on beside the context; f32.
#[derive(Debug, Clone)]
pub struct Decision {
    /// `(b, 1, state_dim)`: raw, never normalised.
    pub state: Tensor,
    /// `(b, T, action_dim)`: 1 where the robot type has an action.
    pub mask: Tensor,
    /// `(b, T, action_dim)`: where the sampler starts.
    pub noise: Tensor,
    /// Euler steps.
    pub steps: usize,
}

impl Decision {
    /// Makes a decision of one sample from plain numbers, row-major: `state` is `(state_dim)`,
    /// `mask` and `noise` are `(horizon, action_dim)`.
    ///
    /// # Errors
    /// A mask or noise that is not `horizon` rows of the same width.
    pub fn one(
        state: &[f32],
        (mask, noise): (&[f32], &[f32]),
        horizon: usize,
        steps: usize,
    ) -> Result<Self> {
        if mask.len() != noise.len() || horizon == 0 || !mask.len().is_multiple_of(horizon) {
            let (n_mask, n_noise) = (mask.len(), noise.len());
            return Err(Error::input(format!(
                "a mask of {n_mask} and a noise of {n_noise} numbers are not {horizon} rows alike"
            )));
        }
        let rows = (1, horizon, mask.len() / horizon);
        Ok(Self {
            state: Tensor::from_slice(state, (1, 1, state.len()), &Device::Cpu)?,
            mask: Tensor::from_slice(mask, rows, &Device::Cpu)?,
            noise: Tensor::from_slice(noise, rows, &Device::Cpu)?,
            steps,
        })
    }
}

/// The action expert: the diffusion transformer with its sampler.
#[derive(Debug)]
pub struct ActionExpert {
    dit: Dit,
}

impl ActionExpert {
    /// Loads its part of a checkpoint, and nothing of the vision-language model.
    ///
    /// # Errors
    /// What is wrong with the checkpoint, or a device without room.
    pub fn load(checkpoint: &Checkpoint, profile: Profile, device: &Device) -> Result<Self> {
        let config = checkpoint.config();
        let dtype = compute_dtype(device);
        let weights = checkpoint.weights(&[Part::ActionExpert], dtype, device);
        let mrope = Mrope::new(config, profile.rope_inv_freq_bf16, device)?;
        Ok(Self {
            dit: Dit::load(&weights, config, mrope)?,
        })
    }

    /// Denoises a chunk: `(b, T, action_dim)`, f32 on the CPU, still normalised.
    ///
    /// # Errors
    /// Inputs that do not fit the network, or a computation that fails.
    pub fn sample(
        &self,
        context: &Context,
        decision: &Decision,
        trace: &mut dyn Trace,
    ) -> Result<Tensor> {
        let given = (&decision.state, &decision.mask);
        let conditions = self.dit.condition(context, given, trace)?;
        if decision.noise.dims() != decision.mask.dims() {
            return Err(Error::input("the noise must have the action mask's shape"));
        }
        let batch = context.p_end.len();
        let noise = decision.noise.to_dtype(DType::F32)?;
        let actions = flow::sample(&noise, decision.steps, trace, |x, t| {
            self.dit
                .velocity(x, &vec![t; batch], &conditions, &mut Blind)
        })?;
        Ok(actions.to_device(&Device::Cpu)?)
    }

    /// Velocity of `x` `(b, T, action_dim)` at the times `t`, one a sample.
    ///
    /// # Errors
    /// Inputs that do not fit the network, or a computation that fails.
    pub fn velocity(
        &self,
        context: &Context,
        decision: &Decision,
        (x, t): (&Tensor, &[f64]),
        trace: &mut dyn Trace,
    ) -> Result<Tensor> {
        let given = (&decision.state, &decision.mask);
        let conditions = self.dit.condition(context, given, trace)?;
        self.dit.velocity(x, t, &conditions, trace)
    }
}
