//! The action expert's half: rows from a mixture of plans, by the mixture's flow.

use std::collections::BTreeMap;
use std::sync::Arc;

use vlad_motion::policy::{Act, ActRequest, ActRows, ContextFault, Guidance, PolicyError};

use super::flow::{Pull, Sampler};
use super::plan::{SCALE_M, unpack};
use super::think::position;
use super::{HORIZON, Row, WIDTH};

/// Most Euler steps: ten times what a flow policy takes.
const STEPS_MAX: u16 = 50;
/// Samplers that are kept: one for each length of prefix, and room for another number of steps.
const SAMPLERS_MAX: usize = 2 * HORIZON;

pub(super) struct TwoGateAct {
    prefix_max: usize,
    /// By length of prefix and number of steps. They depend on nothing else: keeping them changes
    /// no chunk.
    samplers: BTreeMap<(usize, u16), Arc<Sampler>>,
}

impl TwoGateAct {
    pub(super) fn new(prefix_max: usize) -> Self {
        Self {
            prefix_max,
            samplers: BTreeMap::new(),
        }
    }

    fn sampler(&mut self, n_prefix: usize, n_steps: u16) -> Result<Arc<Sampler>, PolicyError> {
        if !(1..=STEPS_MAX).contains(&n_steps) {
            let problem = format!("{n_steps} Euler steps, 1 to {STEPS_MAX} are possible");
            return Err(PolicyError::Decide(problem));
        }
        let key = (n_prefix, n_steps);
        if let Some(sampler) = self.samplers.get(&key) {
            return Ok(Arc::clone(sampler));
        }
        let sampler = Sampler::new(n_prefix, n_steps);
        let sampler = sampler.ok_or_else(|| decide("its covariance is none"))?;
        if SAMPLERS_MAX <= self.samplers.len() {
            self.samplers.clear();
        }
        let sampler = Arc::new(sampler);
        self.samplers.insert(key, Arc::clone(&sampler));
        Ok(sampler)
    }

    fn rows(&mut self, request: &ActRequest) -> Result<ActRows, PolicyError> {
        if request.context.head().model_hash != super::model_hash() {
            let problem = "it is not of the policy twogate";
            return Err(PolicyError::context(ContextFault::OtherModel, problem));
        }
        let n_prefix = request.prefix.len();
        if self.prefix_max < n_prefix {
            let most = self.prefix_max;
            let problem = format!("a prefix of {n_prefix} rows, {most} at most");
            return Err(PolicyError::Decide(problem));
        }
        if 0 < n_prefix && request.guidance.is_some() {
            return Err(decide("a prefix and guidance at once"));
        }
        let anchor = position(&request.state)
            .ok_or_else(|| decide("a state that is no place of a point"))?;
        let noise = normalised(&request.noise, [0.0; WIDTH], 1.0)
            .filter(|noise| noise.len() == HORIZON)
            .ok_or_else(|| decide("noise that is not thirty pairs of numbers"))?;
        let accepted = request.prefix.iter().flatten().copied();
        let mut rows: Vec<f32> = accepted.collect();
        let prefix = normalised(&rows, anchor, SCALE_M)
            .filter(|prefix| prefix.len() == n_prefix)
            .ok_or_else(|| decide("a prefix whose rows are no places"))?;
        let guidance = request.guidance.as_ref();
        let pull = guidance
            .map(|guidance| pull(guidance, anchor))
            .transpose()?;
        let sampler = self.sampler(n_prefix, request.steps)?;
        let part = request.context.part(0)?;
        let mixture = unpack(&part)
            .map_err(|problem| PolicyError::context(ContextFault::Unshaped, problem))?;
        for action in sampler.sample(&mixture, &noise, &prefix, pull.as_ref()) {
            let target = |i: usize| (action[i] * SCALE_M + anchor[i]) as f32;
            rows.extend([target(0), target(1)]);
        }
        Ok(ActRows {
            horizon: HORIZON as u16,
            width: WIDTH as u16,
            rows,
        })
    }
}

impl Act for TwoGateAct {
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
        requests.iter().map(|request| self.rows(request)).collect()
    }
}

fn decide(what: &str) -> PolicyError {
    PolicyError::Decide(what.to_owned())
}

/// Guidance in the flow's own units.
fn pull(guidance: &Guidance, anchor: Row) -> Result<Pull, PolicyError> {
    let target = normalised(&guidance.target, anchor, SCALE_M)
        .filter(|target| target.len() == HORIZON)
        .ok_or_else(|| decide("a guidance target that is not thirty places"))?;
    let weights: Vec<f64> = guidance.weights.iter().map(|w| f64::from(*w)).collect();
    let weights_fit = weights.len() == HORIZON && weights.iter().all(|w| (0.0..=1.0).contains(w));
    let beta_fits = 0.0 <= guidance.beta && guidance.beta.is_finite();
    if !weights_fit || !beta_fits {
        return Err(decide(
            "guidance weights that are not thirty numbers in 0 to 1",
        ));
    }
    Ok(Pull {
        target,
        weights,
        beta: f64::from(guidance.beta),
    })
}

/// Pairs of finite numbers as distances from `anchor` in units of `scale`; `None` of anything else.
fn normalised(values: &[f32], anchor: Row, scale: f64) -> Option<Vec<Row>> {
    let (pairs, rest) = values.as_chunks::<WIDTH>();
    let fits = rest.is_empty() && values.iter().all(|value| value.is_finite());
    let row = |pair: &[f32; WIDTH]| -> Row {
        std::array::from_fn(|i| (f64::from(pair[i]) - anchor[i]) / scale)
    };
    fits.then(|| pairs.iter().map(row).collect())
}
