//! Runs the network for a case, a batch at once, and gives every number that has a name.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::model::{ActionExpert, Decision, Profile, Prompt, View, Vlm};
use crate::normaliser::Normaliser;
use crate::preprocess::resize::resize;
use crate::preprocess::{RgbImage, smart_resize};
use crate::prompt::prompt;
use crate::trace::Kept;

use super::array::Array;
use super::judge::Judge;
use super::set::{NetworkKeys, Set};
use super::tables::image;

/// Stored tensors that go into the network; what comes out of it is compared.
const INPUTS: [&str; 4] = ["noise", "probe.t", "probe.x", "state"];
/// Images before the resize, likewise.
const INPUT_IMAGES: &str = "image_raw.";

/// The networks of a checkpoint, loaded when a case needs them; one at a time stays in memory.
pub(super) struct Networks<'a> {
    checkpoint: &'a Checkpoint,
    loaded: Option<Network<'a>>,
}

struct Network<'a> {
    checkpoint: &'a Checkpoint,
    profile: Profile,
    vlm: Vlm,
    expert: ActionExpert,
}

/// What is stored for a case, its base's where it has none of its own.
struct Stored<'a> {
    own: &'a BTreeMap<String, Array>,
    base: &'a BTreeMap<String, Array>,
}

/// What came of a case.
struct Computed {
    /// Every number that is stored and was computed.
    arrays: BTreeMap<String, Array>,
    /// `(b, s)`: which tokens are real.
    mask: Array,
}

impl<'a> Networks<'a> {
    /// Begins with none loaded.
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            checkpoint,
            loaded: None,
        }
    }

    /// Runs a case and holds all that it stores against what came out.
    ///
    /// # Errors
    /// A file of the set that cannot be used, or weights that cannot be loaded.
    pub(super) fn verify(
        &mut self,
        set: &Set,
        keys: &NetworkKeys,
        judge: &mut Judge<'_>,
    ) -> Result<()> {
        let own = set.tensors(&keys.name)?;
        let base = match &keys.base {
            Some(base) => set.tensors(base)?,
            None => BTreeMap::new(),
        };
        let stored = Stored {
            own: &own,
            base: &base,
        };
        let network = self.load(keys.rope_bf16)?;
        judge.compare("dit_first_kv_layer", Ok(network.off_by_layers(keys)));
        judge.compare("prompts", compare_prompts(keys));
        match network.run(keys, &stored) {
            Ok(computed) => {
                // The stored mask is the judge's; only where there is none, ours must do.
                let mask = stored.get("attention_mask").unwrap_or(&computed.mask);
                judge.compare_all(&own, is_input, &computed.arrays, Some(mask));
            }
            Err(error) => {
                judge.compare("run", Err(error.to_string()));
                // Each by name: nothing that is stored goes by without a verdict.
                for name in own.keys().filter(|name| !is_input(name)) {
                    judge.compare(name, Err("was not computed: the run failed".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, rope_inv_freq_bf16: bool) -> Result<&Network<'a>> {
        let profile = Profile { rope_inv_freq_bf16 };
        let fits = |network: &Network<'_>| network.profile.rope_inv_freq_bf16 == rope_inv_freq_bf16;
        let network = match self.loaded.take() {
            Some(network) if fits(&network) => network,
            // The other network is gone before this one asks for memory.
            _ => Network {
                checkpoint: self.checkpoint,
                profile,
                vlm: Vlm::load(self.checkpoint, profile, &Device::Cpu)?,
                expert: ActionExpert::load(self.checkpoint, profile, &Device::Cpu)?,
            },
        };
        Ok(self.loaded.insert(network))
    }
}

impl Network<'_> {
    fn off_by_layers(&self, keys: &NetworkKeys) -> f64 {
        let own = self.checkpoint.config().first_context_layer();
        own.abs_diff(keys.sync.dit_first_kv_layer) as f64
    }

    /// Runs the case: context, sampler, one velocity.
    fn run(&self, keys: &NetworkKeys, stored: &Stored<'_>) -> Result<Computed> {
        let settings = self.checkpoint.preprocessor();
        let normaliser = settings
            .robot_types
            .get(&keys.sync.robot_type)
            .ok_or_else(|| {
                Error::input(format!(
                    "the checkpoint has no robot type {}",
                    keys.sync.robot_type
                ))
            })?;
        let images = stored.images(keys.sync.views.iter().map(Vec::len).sum())?;
        let mut traces = [Kept::default(), Kept::default(), Kept::default()];
        let [context_trace, sample_trace, probe_trace] = &mut traces;

        let context = self.vlm.context(&prompts(keys, &images)?, context_trace)?;
        let n = keys.sync.instructions.len();
        let mask = mask(normaliser, n)?;
        let decision = Decision {
            state: stored.need("state")?.to_tensor()?,
            mask: mask.clone(),
            noise: stored.need("noise")?.to_tensor()?,
            steps: keys.num_steps,
        };
        let actions = self.expert.sample(&context, &decision, sample_trace)?;

        let mut arrays = BTreeMap::from([
            ("action_mask".to_owned(), Array::computed(&mask)?),
            ("actions_decoded".to_owned(), decode(normaliser, &actions)?),
            ("actions".to_owned(), Array::computed(&actions)?),
        ]);
        if let (Some(x), Some(t)) = (stored.get("probe.x"), stored.get("probe.t")) {
            let point = (&x.to_tensor()?, t.values.as_slice());
            let v = self
                .expert
                .velocity(&context, &decision, point, probe_trace)?;
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
            mask: real_tokens(&context),
        })
    }

    fn resized(&self, image: &RgbImage) -> Result<Array> {
        let settings = self.checkpoint.preprocessor();
        let factor = settings.patch_size * settings.merge_size;
        let (height, width) = smart_resize(image.height, image.width, factor, settings.limits)?;
        Ok(Array::new(
            &[height, width, 3],
            &resize(image, height, width).pixels,
        ))
    }
}

impl<'a> Stored<'a> {
    fn get(&self, name: &str) -> Option<&'a Array> {
        self.own.get(name).or_else(|| self.base.get(name))
    }

    fn need(&self, name: &str) -> Result<&'a Array> {
        self.get(name)
            .ok_or_else(|| Error::input(format!("the input {name} is not stored")))
    }

    fn images(&self, n: usize) -> Result<Vec<RgbImage>> {
        let names = (0..n).map(|i| format!("{INPUT_IMAGES}{i}"));
        let images = names.map(|name| {
            image(self.need(&name)?).ok_or_else(|| Error::input(format!("{name} is no image")))
        });
        images.collect()
    }
}

fn is_input(name: &str) -> bool {
    INPUTS.contains(&name) || name.starts_with(INPUT_IMAGES)
}

/// Hands the images out, in prompt order.
fn prompts<'a>(keys: &'a NetworkKeys, images: &'a [RgbImage]) -> Result<Vec<Prompt<'a>>> {
    let (views, instructions) = (&keys.sync.views, &keys.sync.instructions);
    if views.len() != instructions.len() {
        let (views, instructions) = (views.len(), instructions.len());
        return Err(Error::input(format!(
            "views has {views} entries, instructions {instructions}"
        )));
    }
    let mut images = images.iter();
    let prompts = views
        .iter()
        .zip(instructions)
        .map(|(labels, instruction)| Prompt {
            views: labels
                .iter()
                .zip(&mut images)
                .map(|(label, image)| View { label, image })
                .collect(),
            instruction,
        });
    Ok(prompts.collect())
}

/// Counts prompts that differ from the stored ones.
fn compare_prompts(keys: &NetworkKeys) -> std::result::Result<f64, String> {
    let sync = &keys.sync;
    let built = sync
        .views
        .iter()
        .zip(&sync.instructions)
        .map(|(views, instruction)| {
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

/// The robot type's mask, once a sample: `(b, horizon, width)`.
fn mask(normaliser: &Normaliser, n: usize) -> Result<Tensor> {
    let shape = (1, normaliser.horizon(), normaliser.width());
    let one = Tensor::from_vec(normaliser.mask(), shape, &Device::Cpu)?;
    Ok(one.repeat((n, 1, 1))?)
}

/// De-normalises sample by sample: `(b, horizon, width)`.
fn decode(normaliser: &Normaliser, actions: &Tensor) -> Result<Array> {
    let shape = actions.dims().to_vec();
    let mut decoded = Vec::new();
    for sample in 0..shape.first().copied().unwrap_or(0) {
        let sample: Vec<f32> = actions.get(sample)?.flatten_all()?.to_vec1()?;
        decoded.extend(normaliser.decode(&sample)?);
    }
    Ok(Array::new(&shape, &decoded))
}

/// The context's own mask: `(b, s)`.
fn real_tokens(context: &Context) -> Array {
    let n_tokens = context.mask.first().map_or(0, Vec::len);
    let flags: Vec<_> = context
        .mask
        .iter()
        .flatten()
        .map(|real| u8::from(*real))
        .collect();
    Array::new(&[context.mask.len(), n_tokens], &flags)
}
