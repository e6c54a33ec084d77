//! The action expert's half: context, state and noise → absolute targets. Loads the diffusion
//! transformer with its heads alone.

use vlad_motion::policy::{Act, ActRequest, ActRows, PolicyError};
use vlad_wire::manifest::SlotLabel;
use vlad_wire::msg::think::Digest;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::checkpoint::digest::hex;
use vlad_xr0::context::{Context, KvLayer};
use vlad_xr0::device::DeviceName;
use vlad_xr0::error::Error;
use vlad_xr0::model::{ActionExpert, Decision, Profile};
use vlad_xr0::normaliser::Normaliser;
use vlad_xr0::trace::Blind;

use super::error::Xr0Error;
use super::pool::Pool;
use super::thought::{Form, Layer, Thought};

/// The action expert on its own threads, for one robot type.
pub(super) struct Sampler {
    expert: ActionExpert,
    normaliser: Normaliser,
    mask: Vec<f32>,
    state_dim: usize,
    form: Form,
    pub(super) pool: Pool,
}

/// What one decision is made from, beside the context.
pub(super) struct Inputs<'a> {
    /// `(state_dim)`: in slots, never normalised.
    pub(super) state: &'a [f32],
    /// `(horizon, width)` standard normal numbers, row-major.
    pub(super) noise: &'a [f32],
    /// Euler steps.
    pub(super) steps: usize,
}

impl Sampler {
    /// Loads the weights, and takes the tables of `robot_type`.
    pub(super) fn open(
        checkpoint: &Checkpoint,
        robot_type: &str,
        (profile, device): (Profile, DeviceName),
    ) -> Result<Self, Xr0Error> {
        let normaliser = checkpoint.preprocessor().robot_types.get(robot_type);
        let normaliser = normaliser.ok_or_else(|| {
            Xr0Error::input(format!("the checkpoint has no robot type {robot_type}"))
        })?;
        let pool = Pool::new("act")?;
        let form = Form::new(checkpoint.config())?;
        let expert = pool.run(|| ActionExpert::load(checkpoint, profile, &device.open()?))?;
        Ok(Self {
            expert,
            normaliser: normaliser.clone(),
            mask: normaliser.mask(),
            state_dim: checkpoint.config().state_dim,
            form,
            pool,
        })
    }

    /// Rows and slots of a chunk.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.normaliser.horizon(), self.normaliser.width())
    }

    /// Samples one chunk and decodes it (reference §7.6, profile A): `(horizon, width)`.
    pub(super) fn actions(
        &self,
        thought: &Thought,
        inputs: &Inputs<'_>,
    ) -> Result<Vec<f32>, PolicyError> {
        let decide = |problem: String| PolicyError::Decide(problem);
        let (horizon, width) = self.shape();
        if inputs.state.len() != self.state_dim {
            let (n, want) = (inputs.state.len(), self.state_dim);
            return Err(decide(format!(
                "the state has {n} slots, the network reads {want}"
            )));
        }
        if inputs.noise.len() != horizon * width {
            let n = inputs.noise.len();
            return Err(decide(format!(
                "the noise has {n} numbers, not {horizon} × {width}"
            )));
        }
        let numbers = inputs.state.iter().chain(inputs.noise);
        if !numbers.into_iter().all(|number| number.is_finite()) {
            return Err(decide(
                "state or noise holds a number that is not finite".to_owned(),
            ));
        }
        let layers = thought.layers.iter().map(Layer::numbers);
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let normalised = self.pool.run(|| -> Result<Vec<f32>, Error> {
            let cpu = DeviceName::Cpu.open()?;
            let layers = layers.iter().map(|layer| KvLayer::from_bytes(layer, &cpu));
            let context = Context {
                layers: layers.collect::<Result<_, Error>>()?,
                p_end: vec![thought.p_end],
                mask: vec![thought.tokens.clone()],
            };
            let given = (self.mask.as_slice(), inputs.noise);
            let decision = Decision::one(inputs.state, given, horizon, inputs.steps)?;
            let chunk = self.expert.sample(&context, &decision, &mut Blind)?;
            Ok(chunk.flatten_all()?.to_vec1()?)
        });
        let decoded = normalised.and_then(|numbers| self.normaliser.decode(&numbers));
        let decoded = decoded.map_err(|error: Error| decide(error.to_string()))?;
        match decoded.iter().position(|value| !value.is_finite()) {
            Some(at) => {
                let (row, slot) = (at / width, at % width);
                Err(decide(format!(
                    "row {row}, slot {slot} of the chunk is not finite"
                )))
            }
            None => Ok(decoded),
        }
    }
}

/// Makes absolute targets of decoded actions that are joint positions: the slots with a joint, and
/// 0 in the others, whose numbers mean nothing (reference §7.4).
pub(super) fn targets(decoded: &[f32], slots: &[SlotLabel], width: usize) -> Vec<f32> {
    let used = |slot: usize| slots.iter().any(|label| label.slot == slot);
    let in_slot = |(at, value): (usize, &f32)| if used(at % width) { *value } else { 0.0 };
    decoded.iter().enumerate().map(in_slot).collect()
}

/// The action expert's half, for the cells of one manifest.
pub(super) struct Xr0Act {
    pub(super) sampler: Sampler,
    pub(super) slots: Vec<SlotLabel>,
    pub(super) model_hash: Digest,
}

impl Act for Xr0Act {
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
        requests.iter().map(|request| self.chunk(request)).collect()
    }
}

impl Xr0Act {
    fn chunk(&self, request: &ActRequest) -> Result<ActRows, PolicyError> {
        let decide = |problem: &str| PolicyError::Decide(problem.to_owned());
        if !request.prefix.is_empty() {
            return Err(decide("profile A takes no prefix: it was trained without"));
        }
        if request.guidance.is_some() {
            return Err(decide("this build takes no guidance"));
        }
        let theirs = &request.context.head().model_hash;
        if *theirs != self.model_hash {
            let (theirs, ours) = (hex(theirs), hex(&self.model_hash));
            return Err(PolicyError::Context(format!(
                "the brain's checkpoint has the hash {theirs}, the action expert's {ours}: both \
                 must load the same files"
            )));
        }
        let thought = Thought::received(request.context.as_ref(), &self.sampler.form)?;
        let inputs = Inputs {
            state: &request.state,
            noise: &request.noise,
            steps: usize::from(request.steps),
        };
        let decoded = self.sampler.actions(&thought, &inputs)?;
        let (horizon, width) = self.sampler.shape();
        let size = |n: usize| u16::try_from(n).map_err(|_| decide("the chunk is too large"));
        Ok(ActRows {
            horizon: size(horizon)?,
            width: size(width)?,
            rows: targets(&decoded, &self.slots, width),
        })
    }
}
