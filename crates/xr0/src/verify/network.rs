//! Runs the network for a case, a batch at once, and gives every number that has a name.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::dit::layout::{Kind, Prefix};
use crate::error::Result;
use crate::model::decision::Decision;
use crate::model::{ActionExpert, Options, Profile, Vlm};
use crate::nn::weights::{Path, WeightType};
use crate::normaliser::Normaliser;
use crate::preprocess::resize::resize;
use crate::preprocess::{RgbImage, smart_resize};
use crate::prompt::prompt;
use crate::trace::{Blind, Kept};

use super::array::Array;
use super::case::{NetworkKeys, PrefixKeys, SyncKeys};
use super::inputs::{Stored, is_input, mask, normaliser, prompts, real_tokens};
use super::judge::Judge;
use super::set::Set;

/// A checkpoint's network on one of the two paths.
pub(super) struct Network<'a> {
    checkpoint: &'a Checkpoint,
    path: Path,
    vlm: Vlm,
    expert: ActionExpert,
}

/// What came of a case.
struct Computed {
    /// Every number that is stored and was computed.
    arrays: BTreeMap<String, Array>,
    /// `(b, s)`: which tokens are real.
    mask: Array,
}

impl<'a> Network<'a> {
    /// Loads both halves in f32.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    pub(super) fn load(checkpoint: &'a Checkpoint, rope_bf16: bool, path: Path) -> Result<Self> {
        let options = Options {
            profile: Profile {
                rope_inv_freq_bf16: rope_bf16,
                ..Profile::default()
            },
            device: Device::Cpu,
            weights: WeightType::F32,
            path,
        };
        Ok(Self {
            checkpoint,
            path,
            vlm: Vlm::load(checkpoint, &options)?,
            expert: ActionExpert::load(checkpoint, &options)?,
        })
    }

    /// Runs a case and holds what it stores against what came out: all of it on the plain path, what
    /// serving gives on the served one.
    ///
    /// # Errors
    /// A file of the set that cannot be used.
    pub(super) fn verify(
        &mut self,
        set: &Set,
        keys: &NetworkKeys,
        judge: &mut Judge<'_>,
    ) -> Result<()> {
        let mut stored = Stored::read(set, judge.case, keys.base.as_deref())?;
        self.expert
            .set_kind(keys.prefix.map_or(Kind::A, PrefixKeys::kind));
        let first = self.checkpoint.config().first_context_layer();
        if self.path == Path::Plain {
            let off = first.abs_diff(keys.sync.dit_first_kv_layer) as f64;
            judge.compare("dit_first_kv_layer", Ok(off));
            judge.compare("prompts", compare_prompts(&keys.sync));
        }
        let result = self.run(keys, &stored);
        let mask = stored.get("attention_mask").cloned();
        if self.path == Path::Served {
            stored
                .own
                .retain(|name, _| is_input(name) || is_served(name, first));
        }
        let names = stored.own.keys().filter(|name| !is_input(name));
        if let Some(computed) = judge.outcome(result, names) {
            // The stored mask is the judge's; only where there is none, ours must do.
            let mask = mask.unwrap_or(computed.mask);
            judge.compare_all(&stored.own, is_input, &computed.arrays, Some(&mask));
        }
        Ok(())
    }

    /// Runs the case: context, sampler, one velocity.
    fn run(&self, keys: &NetworkKeys, stored: &Stored) -> Result<Computed> {
        let normaliser = normaliser(self.checkpoint, &keys.sync.robot_type)?;
        let images = stored.images(&keys.sync)?;
        let prompts = prompts(&keys.sync, &images)?;
        let mut traces = [Kept::default(), Kept::default(), Kept::default()];
        let [context_trace, sample_trace, probe_trace] = &mut traces;
        // As in serving: nobody looks.
        let is_plain = self.path == Path::Plain;
        let context = if is_plain {
            self.vlm.context(&prompts, context_trace)?
        } else {
            self.vlm.context(&prompts, &mut Blind)?
        };
        let decision = decision(keys, stored, normaliser)?;
        let actions = self.expert.sample(&context, &decision, sample_trace)?;

        let mut arrays = self.layers(&context)?;
        arrays.insert("action_mask".to_owned(), Array::computed(&decision.mask)?);
        arrays.insert("actions".to_owned(), Array::computed(&actions)?);
        let decoded = each_sample(&actions, |sample| match keys.prefix {
            None => normaliser.decode(sample),
            Some(_) => normaliser.decode_masked(sample),
        })?;
        arrays.insert("actions_decoded".to_owned(), decoded);
        if let Some(raw) = stored.own.get("prefix_raw") {
            let encoded = each_sample(&raw.to_tensor()?, |sample| normaliser.encode(sample))?;
            arrays.insert("prefix_encoded".to_owned(), encoded);
        }
        if let (Some(x), Some(t)) = (stored.get("probe.x"), stored.get("probe.t")) {
            let point = (&x.to_tensor()?, t.values.as_slice());
            let v = (self.expert).velocity(&context, &decision, point, probe_trace)?;
            arrays.insert("probe.v".to_owned(), Array::computed(&v)?);
        }
        for (i, image) in images.iter().enumerate() {
            arrays.insert(format!("image_resized.{i}"), self.resized(image)?);
        }
        // What the sampler's last step left under the names of the probe is not the probe's.
        for name in stored.own.keys().filter(|name| !is_input(name)) {
            if let Some(tensor) = traces.iter().rev().find_map(|trace| trace.get(name)) {
                arrays
                    .entry(name.clone())
                    .or_insert(Array::computed(tensor)?);
            }
        }
        Ok(Computed {
            arrays,
            mask: real_tokens(&context.tokens),
        })
    }

    /// Keys and values as the action expert gets them.
    fn layers(&self, context: &Context) -> Result<BTreeMap<String, Array>> {
        let first = self.checkpoint.config().first_context_layer();
        let mut arrays = BTreeMap::new();
        for (index, layer) in context.layers.iter().enumerate() {
            let index = first + index;
            arrays.insert(format!("kv.{index}.k"), Array::computed(&layer.k)?);
            arrays.insert(format!("kv.{index}.v"), Array::computed(&layer.v)?);
        }
        Ok(arrays)
    }

    fn resized(&self, image: &RgbImage) -> Result<Array> {
        let settings = self.checkpoint.preprocessor();
        let factor = settings.patch_size * settings.merge_size;
        let (height, width) = smart_resize(image.height, image.width, factor, settings.limits)?;
        let pixels = resize(image, height, width).pixels;
        Ok(Array::new(&[height, width, 3], &pixels))
    }
}

/// What the sampler starts from.
fn decision(keys: &NetworkKeys, stored: &Stored, normaliser: &Normaliser) -> Result<Decision> {
    let n = keys.sync.instructions.len();
    let length = keys.prefix.map_or(0, |prefix| prefix.prefix_length);
    let prefix = if length == 0 {
        None
    } else {
        Some(Prefix {
            rows: stored.tensor("action_source")?,
            lengths: vec![length; n],
            hidden: Vec::new(),
        })
    };
    Ok(Decision {
        state: stored.tensor("state")?,
        mask: mask(normaliser, n)?,
        noise: stored.tensor("noise")?,
        prefix,
        steps: keys.num_steps,
    })
}

/// What serving gives: layers that the expert reads, one velocity, actions.
fn is_served(name: &str, first_layer: usize) -> bool {
    let layer = name
        .strip_prefix("kv.")
        .and_then(|rest| rest.split('.').next());
    let layer = layer.and_then(|index| index.parse::<usize>().ok());
    layer.is_some_and(|layer| first_layer <= layer)
        || ["actions", "actions_decoded", "probe.v"].contains(&name)
}

/// Counts prompts that differ from the stored ones.
fn compare_prompts(sync: &SyncKeys) -> std::result::Result<f64, String> {
    let built = sync.views.iter().zip(&sync.instructions);
    let built = built.map(|(views, instruction)| {
        let views: Vec<_> = views.iter().map(String::as_str).collect();
        prompt(&views, instruction)
    });
    let built: Vec<_> = built.collect();
    if built.len() != sync.prompts.len() {
        return Err(format!(
            "{} are stored, {} were built",
            sync.prompts.len(),
            built.len()
        ));
    }
    let differing = built
        .iter()
        .zip(&sync.prompts)
        .filter(|(built, stored)| built != stored);
    Ok(differing.count() as f64)
}

/// Applies a codec sample by sample: `(b, rows, width)`.
fn each_sample(values: &Tensor, codec: impl Fn(&[f32]) -> Result<Vec<f32>>) -> Result<Array> {
    let shape = values.dims().to_vec();
    let mut all = Vec::new();
    for sample in 0..shape.first().copied().unwrap_or(0) {
        let sample: Vec<f32> = values.get(sample)?.flatten_all()?.to_vec1()?;
        all.extend(codec(&sample)?);
    }
    Ok(Array::new(&shape, &all))
}
