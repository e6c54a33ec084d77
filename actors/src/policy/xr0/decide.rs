//! One decision from files: the same prefill, the same context bytes, the same sampler and the same
//! targets as the daemon's two halves, without a bus between them.

use std::path::Path;

use serde::Serialize;
use vlad_motion::noise::standard_normal;
use vlad_motion::policy::PolicyError;
use vlad_wire::manifest::{Manifest, ViewLabel};
use vlad_wire::text::Instruction;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::context::bytes::Encoding;
use vlad_xr0::context::{Context, KvLayer};
use vlad_xr0::device::DeviceName;
use vlad_xr0::error::Error;
use vlad_xr0::preprocess::RgbImage;
use vlad_xr0::prompt::prompt;

use super::error::Xr0Error;
use super::manifest::{self, images};
use super::sampler::{Inputs as SamplerInputs, Sampler};
use super::setup::Half;
use super::think::{Prefill, Question, Seen};

/// An image, and which of the prompt's it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The cell's view or its label in the prompt; without it the order counts.
    pub label: Option<String>,
    /// What the camera saw.
    pub pixels: RgbImage,
}

/// Where the sampler starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Noise {
    /// Drawn as the daemon draws a chunk's: the seed in its head is this one.
    Seed(u64),
    /// `(horizon, width)`, row-major.
    Given(Vec<f32>),
}

/// What one decision is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Either all with a label, or none: then in the prompt's order.
    pub images: Vec<Image>,
    /// `(state_dim)`: in slots, radians and metres, never normalised.
    pub state: Vec<f32>,
    /// The bare sentence, as a task holds it.
    pub text: Instruction,
    /// Where the sampler starts.
    pub noise: Noise,
    /// The robot type; may be left out where there is only one.
    pub robot_type: Option<String>,
    /// Actions that are already decided, absolute and in slots: the chunk's first rows (profile B).
    pub prefix: Vec<Vec<f32>>,
    /// Euler steps.
    pub steps: usize,
    /// Where both halves compute, and what their weights are kept as.
    pub half: Half,
    /// How the context becomes bytes between them.
    pub encoding: Encoding,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    /// The robot type.
    pub robot_type: String,
    /// Rows of the chunk.
    pub horizon: usize,
    /// Slots of a row.
    pub width: usize,
    /// The prompt's text; `<|image_pad|>` stands for each image once.
    pub prompt: String,
    /// Tokens of the prompt, those of the images included.
    pub n_tokens: usize,
    /// Largest position id of the prompt.
    pub p_end: u32,
    /// Seed of the noise, if it was drawn.
    pub seed: Option<u64>,
    /// Where the sampler started, `(horizon, width)`.
    pub noise: Vec<f32>,
    /// Decoded actions, `(horizon, width)`; what stands in inactive slots means nothing.
    pub actions: Vec<f32>,
    /// Absolute targets in slots, `(horizon, width)`, where a manifest says what the actions count
    /// from: joint positions are what a guard gets, tool poses are in the base's axes.
    pub targets: Option<Vec<f32>>,
}

/// Makes one decision with the checkpoint in `dir`. With a manifest views, robot types and targets
/// come from there; without one, or where it names no views, each image needs its label.
///
/// # Errors
/// A checkpoint that does not fit its manifest, inputs that do not fit the checkpoint, or a
/// computation that fails.
pub fn decide(dir: &Path, inputs: &Inputs) -> Result<Decided, Xr0Error> {
    let (manifest, checkpoint) = match manifest::read(dir)? {
        Some(_) => {
            let fitting = manifest::fit(dir, &[])?;
            (Some(fitting.manifest), fitting.checkpoint)
        }
        None => (None, Checkpoint::open(dir)?),
    };
    let profile = manifest.as_ref().map(manifest::profile);
    let profile = profile.unwrap_or_default();
    let robot_type = robot_type(manifest.as_ref(), &checkpoint, inputs)?;
    let images = match &manifest {
        Some(manifest) if !manifest.views.is_empty() => {
            by_manifest(manifest, &checkpoint, &inputs.images)?
        }
        _ => by_label(&inputs.images)?,
    };
    let rule = manifest.as_ref().map(|manifest| manifest.instruction);
    let question = Question {
        images,
        instruction: rule.unwrap_or_default().apply(inputs.text.as_str()),
    };
    let prefix_max = manifest
        .as_ref()
        .map_or(0, |known| known.prefix_trained_max);
    if usize::from(prefix_max) < inputs.prefix.len() {
        let n = inputs.prefix.len();
        return Err(Xr0Error::input(format!(
            "a prefix of {n} actions; the manifest's prefix_trained_max is {prefix_max}"
        )));
    }
    let how = (profile, inputs.half);
    let sampler = Sampler::open(&checkpoint, manifest.as_ref(), &robot_type, how)?;
    let (horizon, width) = sampler.shape();
    let (seed, noise) = match &inputs.noise {
        Noise::Seed(seed) => (Some(*seed), standard_normal(*seed, horizon * width)),
        Noise::Given(noise) => (None, noise.clone()),
    };
    let prefill = Prefill::open(&checkpoint, profile, inputs.half)?;
    let context = context(&prefill, &question, inputs.encoding)?;
    let given = SamplerInputs {
        source: &context,
        state: &inputs.state,
        prefix: &inputs.prefix,
        guidance: None,
        noise: &noise,
        steps: inputs.steps,
    };
    sampler.check(&given)?;
    let actions = sampler.actions(&[given])?.concat();
    let labels: Vec<_> = question.images.iter().map(|seen| seen.label).collect();
    Ok(Decided {
        robot_type,
        horizon,
        width,
        prompt: prompt(&labels, &question.instruction),
        n_tokens: context.tokens.width(),
        p_end: context.tokens.p_end.first().copied().unwrap_or(0),
        seed,
        noise,
        targets: sampler.targets(&actions, &inputs.state)?,
        actions,
    })
}

/// The context of one question, through its bytes.
pub(super) fn context(
    prefill: &Prefill,
    question: &Question<'_>,
    encoding: Encoding,
) -> Result<Context, Xr0Error> {
    let prepared = prefill.prepare(&[question])?;
    let mut layers = Vec::new();
    prefill.run(&prepared, &mut |_, layer| {
        let read = through_bytes(&layer, encoding);
        layers.push(read.map_err(|error| PolicyError::Decide(error.to_string()))?);
        Ok(())
    })?;
    let tokens = prepared.tokens;
    Ok(Context { tokens, layers })
}

fn through_bytes(layer: &KvLayer, encoding: Encoding) -> Result<KvLayer, Error> {
    let form = layer.form(encoding)?;
    let n_bytes = form.n_bytes();
    let mut bytes = vec![0; n_bytes.ok_or_else(|| Error::input("a layer is too large"))?];
    layer.write(encoding, &mut bytes)?;
    KvLayer::read(&form, &bytes, &DeviceName::Cpu.open()?)
}

/// The robot type that was asked for, or the only one.
fn robot_type(
    manifest: Option<&Manifest>,
    checkpoint: &Checkpoint,
    inputs: &Inputs,
) -> Result<String, Xr0Error> {
    let of_manifest = manifest.map(|manifest| {
        let names = manifest
            .robot_types
            .iter()
            .map(|known| known.name.to_string());
        names.collect::<Vec<_>>()
    });
    let of_tables = || {
        checkpoint
            .preprocessor()
            .robot_types
            .keys()
            .cloned()
            .collect()
    };
    let known = of_manifest.unwrap_or_else(of_tables);
    match (&inputs.robot_type, known.as_slice()) {
        (Some(asked), _) if known.contains(asked) => Ok(asked.clone()),
        (Some(asked), _) => Err(Xr0Error::input(format!(
            "there is no robot type {asked}; there are: {}",
            known.join(", ")
        ))),
        (None, [only]) => Ok(only.clone()),
        (None, many) => Err(Xr0Error::input(format!(
            "say which robot type: there are {}",
            many.join(", ")
        ))),
    }
}

/// Images with their labels, in the manifest's order.
fn by_manifest<'a>(
    manifest: &'a Manifest,
    checkpoint: &Checkpoint,
    images: &[Image],
) -> Result<Vec<Seen<'a>>, Xr0Error> {
    let views: Vec<_> = manifest
        .views
        .iter()
        .map(|view| view.view.as_str())
        .collect();
    if images.len() != views.len() {
        let (n, views) = (images.len(), views.join(", "));
        return Err(Xr0Error::input(format!(
            "{n} images, the manifest's views are {views}"
        )));
    }
    let unlabelled = images.iter().filter(|image| image.label.is_none()).count();
    if unlabelled != 0 && unlabelled != images.len() {
        return Err(Xr0Error::input("label all images or none"));
    }
    let mut placed = vec![None; views.len()];
    for (order, image) in images.iter().enumerate() {
        let idx = match &image.label {
            None => order,
            Some(label) => place(manifest, label).ok_or_else(|| {
                let views = views.join(", ");
                Xr0Error::input(format!("there is no view {label}; the views are {views}"))
            })?,
        };
        let free = placed.get_mut(idx).filter(|free| free.is_none());
        let free = free.ok_or_else(|| {
            let view = views.get(idx).copied().unwrap_or_default();
            Xr0Error::input(format!("two images are of the view {view}"))
        })?;
        *free = Some(image.pixels.clone());
    }
    // As many images as views, each at a place of its own: none is left.
    let preprocessor = checkpoint.preprocessor();
    let ordered = manifest.views.iter().zip(placed);
    let seen = |(view, pixels): (&'a ViewLabel, Option<RgbImage>)| {
        Some(Seen {
            label: view.label.as_str(),
            image: images::prepared(view, pixels?),
            limits: Some(images::limits(manifest, view, preprocessor)),
        })
    };
    Ok(ordered.filter_map(seen).collect())
}

/// Which view of the manifest a label means: its name first, else its label in the prompt.
fn place(manifest: &Manifest, label: &str) -> Option<usize> {
    let mut views = manifest.views.iter();
    let by_name = views.position(|view| view.view.as_str() == label);
    by_name.or_else(|| {
        let mut views = manifest.views.iter();
        views.position(|view| view.label.as_str() == label)
    })
}

/// Images in their own order, each with the label that it has.
fn by_label(images: &[Image]) -> Result<Vec<Seen<'_>>, Xr0Error> {
    let labelled = images.iter().map(|image| {
        let label = image.label.as_deref().ok_or_else(|| {
            Xr0Error::input("no manifest names views: each image needs its label in the prompt")
        })?;
        Ok(Seen {
            label,
            image: image.pixels.clone(),
            limits: None,
        })
    });
    labelled.collect()
}
