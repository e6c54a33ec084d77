//! A golden decision that travels with a checkpoint: inputs, and what the network made of them.
//!
//! It is computed once, in f32 on the differentiable path, and compared whenever the network is loaded:
//! what changed since (a file, a library, a device) is seen before a robot moves. Each half is tried
//! by itself, since they may run in different processes: the brain computes the context of the
//! stored prompt, the action expert a chunk from the *stored* context.
//!
//! | module | holds |
//! |---|---|
//! | [`deviation`] | how far results are apart, and how far they may be |
//! | `file` | the safetensors file: tensors, and one JSON text in its metadata |

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::digest::{hex, sha256};
use crate::checkpoint::read;
use crate::context::{Context, Source};
use crate::error::{Error, Result};
use crate::model::decision::Decision;
use crate::model::{ActionExpert, Prompt, View, Vlm};
use crate::nn::weights::WeightType;
use crate::preprocess::{ImageLimits, RgbImage};
use crate::trace::Blind;

use deviation::{Deviation, Tolerances};

pub mod deviation;
mod file;
#[cfg(test)]
mod tests;

/// Largest file; a context of the released network with 400 tokens has 105 MB.
const BYTES_MAX: u64 = 1 << 30;

/// An image of the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its label in the prompt.
    pub label: String,
    /// What the camera saw.
    pub pixels: RgbImage,
    /// Bounds on its area; without them the checkpoint's own.
    pub limits: Option<ImageLimits>,
}

/// What the decision is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// In the prompt's order.
    pub images: Vec<Image>,
    /// The sentence as the prompt holds it.
    pub instruction: String,
    /// `(state_dim)`, in slots.
    pub state: Vec<f32>,
    /// `(horizon, action_dim)`: 1 for the slots that move.
    pub mask: Vec<f32>,
    /// `(horizon, action_dim)`: where the sampler starts.
    pub noise: Vec<f32>,
    /// Rows of the chunk.
    pub horizon: usize,
    /// Normalised rows that are given, `(n, action_dim)`, row-major; none for profile A.
    pub prefix: Vec<f32>,
    /// Euler steps.
    pub steps: usize,
}

/// A golden decision.
#[derive(Debug, Clone)]
pub struct SelfTest {
    question: Question,
    /// Of the stored prompt: f32 on the processor.
    context: Context,
    /// `(horizon, action_dim)`, normalised.
    actions: Vec<f32>,
    tolerances: Tolerances,
}

impl SelfTest {
    /// Computes the golden decision: by halves on the differentiable path in f32, that later ones
    /// are compared with what is exact.
    ///
    /// # Errors
    /// A question that does not fit the network; a result that is not finite.
    pub fn record(vlm: &Vlm, expert: &ActionExpert, question: Question) -> Result<Self> {
        let context = context(vlm, &question)?;
        let actions = actions(expert, &question, &context)?;
        let mut all = vec![actions.as_slice()];
        let layers = layers(&context)?;
        all.extend(layers.iter().map(Vec::as_slice));
        if all.into_iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::input(
                "the network gives numbers that are not finite: no self-test can be made of them",
            ));
        }
        Ok(Self {
            question,
            context,
            actions,
            tolerances: Tolerances::default(),
        })
    }

    /// Reads a file, if it has this SHA-256 (hexadecimal).
    ///
    /// # Errors
    /// A file that cannot be read, is another one, or is no self-test.
    pub fn open(path: &Path, digest: &str) -> Result<Self> {
        let unfit = |problem: String| Error::input(format!("{}: {problem}", path.display()));
        let bytes = read::bounded(path, BYTES_MAX).map_err(|cannot| unfit(cannot.problem()))?;
        let found = hex(&sha256(&bytes));
        if !found.eq_ignore_ascii_case(digest) {
            return Err(unfit(format!(
                "has the SHA-256 {found}, the manifest says {digest}: fetch the file again, or \
                 write it anew with `vlad model self-test --write`"
            )));
        }
        file::parse(&bytes).map_err(|problem| unfit(format!("is no self-test: {problem}")))
    }

    /// Writes it to a new file and gives its SHA-256, hexadecimal. The same decision gives the same
    /// bytes.
    ///
    /// # Errors
    /// A file that exists, or what the system says.
    pub fn write(&self, path: &Path) -> Result<String> {
        let bytes = file::compose(self)?;
        file::create(path, &bytes).map_err(|cause| Error::File {
            path: path.to_owned(),
            cause,
        })?;
        Ok(hex(&sha256(&bytes)))
    }

    /// Gives what the decision is made from.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Compares the brain's half: the context of the stored prompt.
    ///
    /// # Errors
    /// A result farther away than weights of this type may be, with the figures; a computation that
    /// fails.
    pub fn check_vlm(&self, vlm: &Vlm, weights: WeightType) -> Result<Deviation> {
        let got = context(vlm, &self.question)?;
        if got.tokens != self.context.tokens {
            return Err(Error::input(format!(
                "the self-test's prompt has {} tokens here, and had {}: tokenizer or image sizes are \
                 not those that it was made with",
                got.tokens.width(),
                self.context.tokens.width()
            )));
        }
        let (want, got) = (layers(&self.context)?, layers(&got)?);
        let pairs = want.iter().zip(&got);
        let one = pairs.map(|(want, got)| Deviation::of(want, got));
        let worst = one.reduce(Deviation::worse).unwrap_or_default();
        if want.len() != got.len() {
            let (n, wanted) = (got.len() / 2, want.len() / 2);
            return Err(Error::input(format!(
                "the context has {n} layers here, and had {wanted}"
            )));
        }
        self.tolerances.judge("the brain", worst, weights)
    }

    /// Compares the action expert's half: the chunk from the stored context.
    ///
    /// # Errors
    /// As [`SelfTest::check_vlm`].
    pub fn check_expert(&self, expert: &ActionExpert, weights: WeightType) -> Result<Deviation> {
        let got = actions(expert, &self.question, &self.context)?;
        // Inactive slots hold junk that no robot sees (reference §7.4).
        let active = |values: &[f32]| -> Vec<f32> {
            let masked = values.iter().zip(&self.question.mask);
            let active = masked.filter(|(_, mask)| 0.0 < **mask);
            active.map(|(value, _)| *value).collect()
        };
        let deviation = Deviation::of(&active(&self.actions), &active(&got));
        self.tolerances
            .judge("the action expert", deviation, weights)
    }
}

/// The context of the question's prompt.
fn context(vlm: &Vlm, question: &Question) -> Result<Context> {
    let views = question.images.iter().map(|image| View {
        label: &image.label,
        image: &image.pixels,
        limits: image.limits,
    });
    let prompt = Prompt {
        views: views.collect(),
        instruction: &question.instruction,
    };
    let Context { tokens, layers } = vlm.context(&[prompt], &mut Blind)?;
    let layers = layers
        .iter()
        .map(|layer| layer.to(&Device::Cpu, DType::F32));
    Ok(Context {
        tokens,
        layers: layers.collect::<Result<_>>()?,
    })
}

/// The chunk that the expert makes of a context: `(horizon, action_dim)`, normalised.
fn actions(expert: &ActionExpert, question: &Question, context: &dyn Source) -> Result<Vec<f32>> {
    let given = (question.mask.as_slice(), question.noise.as_slice());
    let decision = Decision::one(&question.state, given, question.horizon, question.steps)?;
    let decision = match question.prefix.as_slice() {
        [] => decision,
        rows => decision.with_prefix(rows)?,
    };
    let chunk: Tensor = expert.sample(context, &decision, &mut Blind)?;
    Ok(chunk.flatten_all()?.to_vec1()?)
}

/// Keys and values of every layer, keys first: what is compared one by one, as their sizes differ.
fn layers(context: &Context) -> Result<Vec<Vec<f32>>> {
    let tensors = context.layers.iter().flat_map(|layer| [&layer.k, &layer.v]);
    let flat = tensors.map(|x| Ok(x.flatten_all()?.to_vec1()?));
    flat.collect()
}
