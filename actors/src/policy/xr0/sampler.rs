//! The action expert's network on its own threads, for one robot type: normalised numbers in and
//! out, and what stands between them and actions (reference §7.6).

use tracing::info;
use vlad_motion::policy::{Guidance, PolicyError};
use vlad_wire::manifest::Manifest;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::context::bytes::{LayerForm, Number};
use vlad_xr0::context::{Context, Joined, KvLayer, Source, Tokens};
use vlad_xr0::device::DeviceName;
use vlad_xr0::dit::layout::Kind;
use vlad_xr0::error::Error;
use vlad_xr0::flow::Pull;
use vlad_xr0::model::decision::Decision;
use vlad_xr0::model::{ActionExpert, Profile};
use vlad_xr0::nn::weights::WeightType;
use vlad_xr0::normaliser::Normaliser;
use vlad_xr0::self_test::SelfTest;
use vlad_xr0::trace::Blind;

use super::error::Xr0Error;
use super::pool::Pool;
use super::rows::Rows;
use super::setup::Half;
use super::thought::Form;

/// Tokens of the warm-up's context: those of a few small images.
const BLANK_TOKENS: u32 = 256;
/// Euler steps of the warm-up.
const BLANK_STEPS: usize = 1;

/// The action expert, for one robot type.
pub(super) struct Sampler {
    expert: ActionExpert,
    weights: WeightType,
    rows: Rows,
    normaliser: Normaliser,
    mask: Vec<f32>,
    state_dim: usize,
    kind: Kind,
    pub(super) form: Form,
    pub(super) pool: Pool,
}

/// What one decision is made from.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// The context; its layers may still be arriving.
    pub(super) source: &'a dyn Source,
    /// `(state_dim)`: in slots, never normalised.
    pub(super) state: &'a [f32],
    /// Actions that are already decided, absolute and in slots, one row a tick.
    pub(super) prefix: &'a [Vec<f32>],
    /// Targets that it is pulled to, absolute and in slots.
    pub(super) guidance: Option<&'a Guidance>,
    /// `(horizon, width)` standard normal numbers, row-major.
    pub(super) noise: &'a [f32],
    /// Euler steps.
    pub(super) steps: usize,
}

fn decide(problem: impl std::fmt::Display) -> PolicyError {
    PolicyError::Decide(problem.to_string())
}

impl Sampler {
    /// Loads the weights, and takes the tables of `robot_type`. What a row means stands in the
    /// manifest.
    pub(super) fn open(
        checkpoint: &Checkpoint,
        manifest: Option<&Manifest>,
        robot_type: &str,
        (profile, half): (Profile, Half),
    ) -> Result<Self, Xr0Error> {
        let normaliser = checkpoint.preprocessor().robot_types.get(robot_type);
        let normaliser = normaliser.ok_or_else(|| {
            Xr0Error::input(format!("the checkpoint has no robot type {robot_type}"))
        })?;
        let rows = manifest.map(|manifest| Rows::of(manifest, normaliser.width()));
        let pool = Pool::new("act")?;
        let form = Form::new(checkpoint.config())?;
        let options = half.options(profile)?;
        let expert = pool.run(|| ActionExpert::load(checkpoint, &options))?;
        Ok(Self {
            expert,
            weights: options.weights,
            rows: rows.transpose()?.unwrap_or(Rows::Unknown),
            normaliser: normaliser.clone(),
            mask: normaliser.mask(),
            state_dim: checkpoint.config().state_dim,
            kind: profile.kind,
            form,
            pool,
        })
    }

    /// Tries the golden decision's second half.
    pub(super) fn try_golden(&self, golden: &SelfTest) -> Result<(), Error> {
        let tried = self
            .pool
            .run(|| golden.check_expert(&self.expert, self.weights))?;
        info!(deviation = %tried, "the action expert computes the golden chunk");
        Ok(())
    }

    /// Rows and slots of a chunk.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.normaliser.horizon(), self.normaliser.width())
    }

    /// Checks the numbers that a decision is made from, but for the context.
    ///
    /// # Errors
    /// [`PolicyError::Decide`] with the first thing that does not fit.
    pub(super) fn check(&self, inputs: &Inputs<'_>) -> Result<(), PolicyError> {
        let (horizon, width) = self.shape();
        if inputs.state.len() != self.state_dim {
            let (n, want) = (inputs.state.len(), self.state_dim);
            let problem = format!("the state has {n} slots, the network reads {want}");
            return Err(decide(problem));
        }
        if inputs.noise.len() != horizon * width {
            let n = inputs.noise.len();
            let problem = format!("the noise has {n} numbers, not {horizon} × {width}");
            return Err(decide(problem));
        }
        if inputs.steps == 0 {
            return Err(decide("the sampler needs at least one step"));
        }
        if let Some(row) = inputs.prefix.iter().find(|row| row.len() != width) {
            let n = row.len();
            let problem = format!(
                "a prefix with a row of {n} slots does not fit a chunk of {horizon} × {width}"
            );
            return Err(decide(problem));
        }
        let rows = inputs.prefix.len();
        if horizon <= rows {
            let problem =
                format!("a prefix of {rows} rows does not fit a chunk of {horizon} × {width}");
            return Err(decide(problem));
        }
        if let Some(guidance) = inputs.guidance {
            self.check_guidance(guidance, rows)?;
        }
        let numbers = inputs.state.iter().chain(inputs.noise);
        let mut numbers = numbers.chain(inputs.prefix.iter().flatten());
        if numbers.all(|number| number.is_finite()) {
            Ok(())
        } else {
            let problem = "state, prefix or noise holds a number that is not finite";
            Err(decide(problem))
        }
    }

    fn check_guidance(&self, guidance: &Guidance, prefix: usize) -> Result<(), PolicyError> {
        let (horizon, width) = self.shape();
        let weights = &guidance.weights;
        let fits = guidance.target.len() == horizon * width && weights.len() == horizon;
        let problem = if prefix != 0 {
            "a prefix and guidance at once"
        } else if !fits {
            "guidance needs a target for every number of the chunk, and a weight for every row"
        } else if !guidance.target.iter().all(|target| target.is_finite()) {
            "a target of the guidance is not finite"
        } else if !weights.iter().all(|weight| (0.0..=1.0).contains(weight)) {
            "a weight of the guidance does not lie in 0 to 1"
        } else if !(0.0..=f32::MAX).contains(&guidance.beta) {
            "the largest guidance weight must be finite and not negative"
        } else {
            return Ok(());
        };
        Err(decide(problem))
    }

    /// Gives the absolute targets of decoded actions, both `(horizon, width)`; `None` where the
    /// manifest does not say what they count from.
    ///
    /// # Errors
    /// [`PolicyError::Decide`] for numbers that are no chunk.
    pub(super) fn targets(
        &self,
        decoded: &[f32],
        state: &[f32],
    ) -> Result<Option<Vec<f32>>, PolicyError> {
        self.rows
            .absolute(decoded, (state, self.normaliser.width()))
    }

    /// Samples a chunk for each decision, all at once, and decodes them: each `(horizon, width)`.
    ///
    /// # Errors
    /// [`PolicyError::Decide`] if one of them cannot be made: then none is.
    pub(super) fn actions(&self, batch: &[Inputs<'_>]) -> Result<Vec<Vec<f32>>, PolicyError> {
        let (horizon, width) = self.shape();
        let normalised = self.normalised(batch)?;
        let chunks = normalised.chunks(horizon * width);
        chunks.map(|chunk| self.decode(chunk)).collect()
    }

    /// The same before decoding, one chunk behind the other.
    pub(super) fn normalised(&self, batch: &[Inputs<'_>]) -> Result<Vec<f32>, PolicyError> {
        let decisions = batch.iter().map(|inputs| self.decision(inputs));
        let decisions = decisions.collect::<Result<Vec<_>, _>>()?;
        let alone = match (batch, decisions.as_slice()) {
            ([one], [decision]) => Some((one, decision, self.pull(one)?)),
            _ if batch.iter().any(|inputs| inputs.guidance.is_some()) => {
                return Err(decide("guided decisions are made one by one"));
            }
            _ => None,
        };
        let normalised = self.pool.run(|| -> Result<Vec<f32>, Error> {
            let chunk = match alone {
                Some((one, decision, Some(pull))) => {
                    self.expert.sample_guided(one.source, decision, &pull)?
                }
                Some((one, decision, None)) => {
                    self.expert.sample(one.source, decision, &mut Blind)?
                }
                None => {
                    let sources = batch.iter().map(|inputs| inputs.source);
                    let joined = Joined::new(sources.collect());
                    let decision = Decision::joined(&decisions)?;
                    self.expert.sample(&joined, &decision, &mut Blind)?
                }
            };
            Ok(chunk.flatten_all()?.to_vec1()?)
        });
        normalised.map_err(decide)
    }

    /// What a decision is pulled to, in the network's own numbers; slots without a use pull nowhere.
    fn pull(&self, inputs: &Inputs<'_>) -> Result<Option<Pull>, PolicyError> {
        let Some(guidance) = inputs.guidance else {
            return Ok(None);
        };
        let (horizon, width) = self.shape();
        let seen = self.rows.relative(&guidance.target, inputs.state)?;
        let target = match self.kind {
            Kind::A => self.normaliser.encode_plainly(&seen),
            Kind::B { .. } => self.normaliser.encode(&seen),
        };
        let each = guidance.weights.iter();
        let each = each.flat_map(|weight| std::iter::repeat_n(weight, width));
        let weights: Vec<_> = each
            .zip(&self.mask)
            .map(|(weight, mask)| weight * mask)
            .collect();
        let numbers = (target.map_err(decide)?, weights);
        let pull = Pull::one(numbers, horizon, guidance.beta.into());
        pull.map(Some).map_err(decide)
    }

    fn decision(&self, inputs: &Inputs<'_>) -> Result<Decision, PolicyError> {
        let (horizon, _) = self.shape();
        let given = (self.mask.as_slice(), inputs.noise);
        let decision = Decision::one(inputs.state, given, horizon, inputs.steps).map_err(decide)?;
        if inputs.prefix.is_empty() {
            return Ok(decision);
        }
        let seen = self.rows.relative(&inputs.prefix.concat(), inputs.state)?;
        let prefix = self.normaliser.encode(&seen).map_err(decide)?;
        decision.with_prefix(&prefix).map_err(decide)
    }

    /// Profile A decodes without the mask, profile B with it (reference §7.6).
    fn decode(&self, normalised: &[f32]) -> Result<Vec<f32>, PolicyError> {
        let decoded = match self.kind {
            Kind::A => self.normaliser.decode(normalised),
            Kind::B { .. } => self.normaliser.decode_masked(normalised),
        };
        let decoded = decoded.map_err(decide)?;
        let (_, width) = self.shape();
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

    /// Decides once on a context of zeros, so that what is slow once is over.
    ///
    /// # Errors
    /// As [`Sampler::rehearse`].
    pub(super) fn warm_up(&self) -> Result<(), PolicyError> {
        self.rehearse(BLANK_STEPS)
    }

    /// Decides once on a context of zeros, in so many steps.
    ///
    /// # Errors
    /// [`PolicyError::Open`] if what comes out is not finite, or nothing does.
    pub(super) fn rehearse(&self, steps: usize) -> Result<(), PolicyError> {
        let (horizon, width) = self.shape();
        let opened = self.blank().map_err(decide).and_then(|context| {
            let inputs = Inputs {
                source: &context,
                state: &vec![0.0; self.state_dim],
                prefix: &[],
                guidance: None,
                noise: &vec![0.0; horizon * width],
                steps,
            };
            self.actions(&[inputs])
        });
        let failed = |error| PolicyError::Open(format!("a decision about nothing failed: {error}"));
        opened.map(drop).map_err(failed)
    }

    fn blank(&self) -> Result<Context, Error> {
        let n_tokens = usize::try_from(BLANK_TOKENS).unwrap_or(0);
        let form = LayerForm {
            number: Number::F32,
            shape: self.form.shape(n_tokens),
        };
        let n_bytes = form.n_bytes();
        let zeros = vec![0; n_bytes.ok_or_else(|| Error::input("a layer is too large"))?];
        let layer = KvLayer::read(&form, &zeros, &DeviceName::Cpu.open()?)?;
        Ok(Context {
            tokens: Tokens {
                p_end: vec![BLANK_TOKENS - 1],
                mask: vec![vec![true; n_tokens]],
            },
            layers: vec![layer; self.form.n_parts()],
        })
    }
}
