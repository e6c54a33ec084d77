//! What a case is fed: its stored inputs, and its base's where it has none of its own.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::checkpoint::Checkpoint;
use crate::context::Tokens;
use crate::error::{Error, Result};
use crate::model::{Prompt, View};
use crate::normaliser::Normaliser;
use crate::preprocess::RgbImage;
use crate::prompt::Rows;

use super::array::Array;
use super::case::SyncKeys;
use super::set::Set;
use super::tables::image;

/// Images before the resize.
const IMAGES: &str = "image_raw.";

/// What is stored for a case and for its base.
#[derive(Debug)]
pub(super) struct Stored {
    /// The case's own.
    pub(super) own: BTreeMap<String, Array>,
    base: BTreeMap<String, Array>,
}

impl Stored {
    /// Reads the tensors of a case and of its base.
    ///
    /// # Errors
    /// A file that is not listed or cannot be read.
    pub(super) fn read(set: &Set, case: &str, base: Option<&str>) -> Result<Self> {
        Ok(Self {
            own: set.tensors(case)?,
            base: match base {
                Some(base) => set.tensors(base)?,
                None => BTreeMap::new(),
            },
        })
    }

    /// Gives what is stored under a name.
    pub(super) fn get(&self, name: &str) -> Option<&Array> {
        self.own.get(name).or_else(|| self.base.get(name))
    }

    /// Gives what is stored under a name.
    ///
    /// # Errors
    /// Nothing is.
    pub(super) fn need(&self, name: &str) -> Result<&Array> {
        self.get(name)
            .ok_or_else(|| Error::input(format!("the input {name} is not stored")))
    }

    /// As [`Self::need`], as an f32 tensor.
    ///
    /// # Errors
    /// Nothing is.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        self.need(name)?.to_tensor()
    }

    /// Gives the images of all prompts, in their order.
    ///
    /// # Errors
    /// One that is missing or is no image.
    pub(super) fn images(&self, keys: &SyncKeys) -> Result<Vec<RgbImage>> {
        let n = keys.views.iter().map(Vec::len).sum();
        let names = (0..n).map(|i| format!("{IMAGES}{i}"));
        let images = names.map(|name| {
            image(self.need(&name)?).ok_or_else(|| Error::input(format!("{name} is no image")))
        });
        images.collect()
    }
}

/// Says whether a stored tensor of a case of the kinds `sync` and `async` goes into the network.
pub(super) fn is_input(name: &str) -> bool {
    let inputs = [
        "action_source",
        "noise",
        "prefix_raw",
        "probe.t",
        "probe.x",
        "state",
    ];
    inputs.contains(&name) || name.starts_with(IMAGES)
}

/// Hands the images out, in prompt order.
///
/// # Errors
/// Another number of views than of instructions.
pub(super) fn prompts<'a>(keys: &'a SyncKeys, images: &'a [RgbImage]) -> Result<Vec<Prompt<'a>>> {
    let SyncKeys {
        views,
        instructions,
        ..
    } = keys;
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
                .map(|(label, image)| View {
                    label,
                    image,
                    limits: None,
                })
                .collect(),
            instruction,
        });
    Ok(prompts.collect())
}

/// Gives the tables of a robot type.
///
/// # Errors
/// A robot type that the checkpoint does not have.
pub(super) fn normaliser<'a>(checkpoint: &'a Checkpoint, robot: &str) -> Result<&'a Normaliser> {
    let found = checkpoint.preprocessor().robot_types.get(robot);
    found.ok_or_else(|| Error::input(format!("the checkpoint has no robot type {robot}")))
}

/// The robot type's mask, once a sample: `(n, horizon, width)`.
///
/// # Errors
/// What the computation says.
pub(super) fn mask(normaliser: &Normaliser, n: usize) -> Result<Tensor> {
    let shape = (1, normaliser.horizon(), normaliser.width());
    let one = Tensor::from_vec(normaliser.mask(), shape, &Device::Cpu)?;
    Ok(one.repeat((n, 1, 1))?)
}

/// Which tokens are real: `(b, s)`.
pub(super) fn real_tokens(tokens: &Tokens) -> Array {
    let n_tokens = tokens.mask.first().map_or(0, Vec::len);
    let flags: Vec<_> = tokens
        .mask
        .iter()
        .flatten()
        .map(|real| u8::from(*real))
        .collect();
    Array::new(&[tokens.mask.len(), n_tokens], &flags)
}

/// Ids, mask and positions of a batch, under the names that follow `prefix`.
pub(super) fn token_arrays(rows: &Rows, prefix: &str) -> [(String, Array); 3] {
    let shape = [rows.n, rows.width];
    let positions: Vec<_> = rows.positions.iter().flatten().copied().collect();
    [
        (format!("{prefix}input_ids"), Array::new(&shape, &rows.ids)),
        (
            format!("{prefix}attention_mask"),
            Array::new(&shape, &rows.mask),
        ),
        (
            format!("{prefix}position_ids"),
            Array::new(&[3, rows.n, rows.width], &positions),
        ),
    ]
}
