//! The self-test's file.
//!
//! ```text
//! image.0, image.1, …   u8  (height, width, 3)
//! state, mask, noise    f32
//! prefix                f32 (n, action_dim), if there is one
//! k.0, v.0, k.1, …      f32 (1, kv_heads, tokens, head_dim), for each layer of the action expert
//! actions               f32 (horizon, action_dim), normalised
//! ```
//! One key of the metadata, `self_test`, has the rest as JSON: several would stand there in an order
//! that changes from run to run, and the file has a fingerprint.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::tensor::{SafeTensors, TensorView};
use safetensors::{Dtype, serialize};
use serde::{Deserialize, Serialize};

use crate::context::{Context, KvLayer, Tokens};
use crate::error::{Error, Result};
use crate::preprocess::{ImageLimits, RgbImage};
use crate::prompt::TOKENS_MAX;

use super::deviation::Tolerances;
use super::{Image, Question, SelfTest};

/// The metadata's key.
const KEY: &str = "self_test";
/// The layout's number; another one is refused.
const LAYOUT: u32 = 1;
/// More images or layers are a lie.
const PARTS_MAX: usize = 512;
/// More Euler steps are a lie: a decision takes five.
const STEPS_MAX: usize = 100;

/// What stands in the metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    layout: u32,
    /// Label and limits of each image.
    images: Vec<(String, Option<[usize; 2]>)>,
    instruction: String,
    horizon: usize,
    steps: usize,
    n_layers: usize,
    p_end: u32,
    n_tokens: usize,
    tolerances: Tolerances,
}

impl Facts {
    /// Holds what is only said, and stands in no tensor, to what a decision can have.
    fn check(&self) -> Result<(), String> {
        if self.layout != LAYOUT {
            let layout = self.layout;
            return Err(format!(
                "it has the layout {layout}, this build reads {LAYOUT}"
            ));
        }
        if PARTS_MAX < self.images.len().max(self.n_layers) {
            return Err(format!("it has more than {PARTS_MAX} images or layers"));
        }
        if self.n_layers == 0 {
            return Err("it has no layers".to_owned());
        }
        let (n_tokens, steps, p_end) = (self.n_tokens, self.steps, self.p_end);
        if !(1..=TOKENS_MAX).contains(&n_tokens) {
            return Err(format!("it has {n_tokens} tokens, not 1 to {TOKENS_MAX}"));
        }
        if usize::try_from(p_end).is_ok_and(|p_end| n_tokens <= p_end) {
            return Err(format!(
                "position {p_end} cannot be the last of {n_tokens} tokens"
            ));
        }
        if !(1..=STEPS_MAX).contains(&steps) {
            return Err(format!("it has {steps} steps, not 1 to {STEPS_MAX}"));
        }
        Ok(())
    }
}

/// Gives the file's bytes.
pub(super) fn compose(test: &SelfTest) -> Result<Vec<u8>> {
    let question = &test.question;
    let facts = Facts {
        layout: LAYOUT,
        images: question.images.iter().map(facts_of).collect(),
        instruction: question.instruction.clone(),
        horizon: question.horizon,
        steps: question.steps,
        n_layers: test.context.layers.len(),
        p_end: test.context.tokens.p_end.first().copied().unwrap_or(0),
        n_tokens: test.context.tokens.width(),
        tolerances: test.tolerances.clone(),
    };
    let facts = serde_json::to_string(&facts).map_err(|error| Error::input(error.to_string()))?;
    let mut stored = Vec::new();
    for (i, image) in question.images.iter().enumerate() {
        let RgbImage {
            height,
            width,
            pixels,
        } = &image.pixels;
        let shape = vec![*height, *width, 3];
        stored.push((format!("image.{i}"), Dtype::U8, shape, pixels.clone()));
    }
    let width = question.mask.len() / question.horizon.max(1);
    let rows = |values: &[f32]| vec![values.len() / width.max(1), width];
    let mut floats = |name: String, shape: Vec<usize>, values: &[f32]| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        stored.push((name, Dtype::F32, shape, bytes.collect()));
    };
    floats("state".into(), vec![question.state.len()], &question.state);
    floats("mask".into(), rows(&question.mask), &question.mask);
    floats("noise".into(), rows(&question.noise), &question.noise);
    floats("actions".into(), rows(&test.actions), &test.actions);
    if !question.prefix.is_empty() {
        floats("prefix".into(), rows(&question.prefix), &question.prefix);
    }
    for (i, layer) in test.context.layers.iter().enumerate() {
        for (name, x) in [("k", &layer.k), ("v", &layer.v)] {
            let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
            floats(format!("{name}.{i}"), x.dims().to_vec(), &values);
        }
    }
    let mut views = Vec::with_capacity(stored.len());
    for (name, dtype, shape, bytes) in &stored {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        let view = view.map_err(|error| Error::input(format!("{name}: {error}")))?;
        views.push((name.clone(), view));
    }
    let metadata = HashMap::from([(KEY.to_owned(), facts)]);
    serialize(views, Some(metadata)).map_err(|error| Error::input(error.to_string()))
}

fn facts_of(image: &Image) -> (String, Option<[usize; 2]>) {
    let limits = image.limits;
    let limits = limits.map(|limits| [limits.min_pixels, limits.max_pixels]);
    (image.label.clone(), limits)
}

/// Writes a new file, on disk when this returns.
pub(super) fn create(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file's bytes.
pub(super) fn parse(bytes: &[u8]) -> Result<SelfTest, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().as_ref();
    let facts = metadata.and_then(|metadata| metadata.get(KEY));
    let facts = facts.ok_or_else(|| format!("its metadata has no {KEY}"))?;
    let facts: Facts = serde_json::from_str(facts).map_err(|error| error.to_string())?;
    facts.check()?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let layers = (0..facts.n_layers).map(|i| layer(&tensors, i, facts.n_tokens));
    let context = Context {
        layers: layers.collect::<Result<_, String>>()?,
        tokens: Tokens {
            p_end: vec![facts.p_end],
            mask: vec![vec![true; facts.n_tokens]],
        },
    };
    let images = facts.images.iter().enumerate();
    let images = images.map(|(i, facts)| image(&tensors, i, facts));
    let (shape, mask) = floats(&tensors, "mask")?;
    let (of_noise, noise) = floats(&tensors, "noise")?;
    let (of_actions, actions) = floats(&tensors, "actions")?;
    // What is allocated later has these sizes: all of them are stored, and none is nothing.
    let rows = matches!(*shape.as_slice(), [horizon, _] if horizon == facts.horizon);
    if !rows || mask.is_empty() || of_noise != shape || of_actions != shape {
        return Err("mask, noise and actions are not rows alike".to_owned());
    }
    let prefix = tensors.names().contains(&"prefix");
    let prefix = prefix.then(|| floats(&tensors, "prefix")).transpose()?;
    let question = Question {
        images: images.collect::<Result<_, String>>()?,
        instruction: facts.instruction,
        state: floats(&tensors, "state")?.1,
        mask,
        noise,
        horizon: facts.horizon,
        prefix: prefix.map(|(_, rows)| rows).unwrap_or_default(),
        steps: facts.steps,
    };
    Ok(SelfTest {
        question,
        context,
        actions,
        tolerances: facts.tolerances,
    })
}

fn image(
    tensors: &SafeTensors<'_>,
    index: usize,
    (label, limits): &(String, Option<[usize; 2]>),
) -> Result<Image, String> {
    let name = format!("image.{index}");
    let view = tensors.tensor(&name).map_err(|error| error.to_string())?;
    let ([height, width, 3], Dtype::U8) = (view.shape(), view.dtype()) else {
        return Err(format!("{name} is no image"));
    };
    let pixels = RgbImage::new(*height, *width, view.data().to_vec());
    Ok(Image {
        label: label.clone(),
        pixels: pixels.map_err(|error| format!("{name}: {error}"))?,
        limits: limits.map(|[min_pixels, max_pixels]| ImageLimits {
            min_pixels,
            max_pixels,
        }),
    })
}

/// A tensor's shape and numbers, all of them finite.
fn floats(tensors: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>), String> {
    let view = tensors.tensor(name).map_err(|error| error.to_string())?;
    if view.dtype() != Dtype::F32 {
        return Err(format!("{name} must be F32, it is {}", view.dtype()));
    }
    let words = view.data().as_chunks().0.iter();
    let values: Vec<_> = words.map(|word| f32::from_le_bytes(*word)).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(format!("{name} holds a number that is not finite"));
    }
    Ok((view.shape().to_vec(), values))
}

fn layer(tensors: &SafeTensors<'_>, index: usize, n_tokens: usize) -> Result<KvLayer, String> {
    let one = |name: String| {
        let (shape, values) = floats(tensors, &name)?;
        let [1, _, tokens, _] = *shape.as_slice() else {
            return Err(format!("{name} has the shape {shape:?}"));
        };
        if tokens != n_tokens {
            return Err(format!("{name} has {tokens} tokens, not {n_tokens}"));
        }
        Tensor::from_vec(values, shape, &Device::Cpu).map_err(|error| error.to_string())
    };
    Ok(KvLayer {
        k: one(format!("k.{index}"))?,
        v: one(format!("v.{index}"))?,
    })
}
