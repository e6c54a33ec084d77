//! The action expert's half: context, state and noise → absolute targets. Loads the diffusion
//! transformer with its heads alone.

use std::sync::Arc;

use vlad_motion::policy::{Act, ActRequest, ActRows, ContextFault, PolicyError};
use vlad_wire::msg::think::Digest;
use vlad_xr0::checkpoint::digest::hex;
use vlad_xr0::context::Source;
use vlad_xr0::self_test::SelfTest;

use super::received::Received;
use super::sampler::{Inputs, Sampler};
use super::shelf::Shelf;

/// The action expert's half, for the cells of one manifest.
pub(super) struct Xr0Act {
    pub(super) sampler: Sampler,
    /// Tried when the half is warmed up.
    pub(super) self_test: Option<SelfTest>,
    /// Longest prefix that it was trained with.
    pub(super) prefix_max: usize,
    /// Whether it takes guidance.
    pub(super) guidance: bool,
    /// Where contexts lie that are handed over by reference.
    pub(super) shelf: Option<Arc<Shelf>>,
    pub(super) model_hash: Digest,
}

impl Act for Xr0Act {
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
        let received: Vec<_> = requests.iter().map(|one| self.received(one)).collect();
        let sound: Vec<_> = (requests.iter().zip(&received))
            .filter_map(|(request, received)| Some((request, received.as_ref().ok()?)))
            .collect();
        let mut chunks = self.chunks(&sound).into_iter();
        let nothing = || Err(PolicyError::Decide("nothing came out".to_owned()));
        let each = received.into_iter().map(|received| match received {
            Ok(_) => chunks.next().unwrap_or_else(nothing),
            Err(error) => Err(error),
        });
        each.collect()
    }

    fn warm_up(&mut self) -> Result<(), PolicyError> {
        self.sampler.warm_up()?;
        let golden = self.self_test.as_ref();
        let tried = golden.map_or(Ok(()), |golden| self.sampler.try_golden(golden));
        tried.map_err(|error| PolicyError::Open(error.to_string()))
    }

    fn rehearse(&mut self, steps: u16) -> Result<bool, PolicyError> {
        self.sampler.rehearse(usize::from(steps)).map(|()| true)
    }
}

impl Xr0Act {
    /// Checks what can be checked of a request before anything is computed.
    fn received<'a>(&'a self, request: &'a ActRequest) -> Result<Received<'a>, PolicyError> {
        let decide = |problem: String| PolicyError::Decide(problem);
        let (n, most) = (request.prefix.len(), self.prefix_max);
        if most < n {
            return Err(decide(match most {
                0 => "the checkpoint takes no prefix: it was trained without".to_owned(),
                _ => format!("a prefix of {n} actions, it was trained with at most {most}"),
            }));
        }
        if request.guidance.is_some() && !self.guidance {
            let problem = "the checkpoint takes no guidance: its manifest says vjp = false";
            return Err(decide(problem.to_owned()));
        }
        let theirs = &request.context.head().model_hash;
        if *theirs != self.model_hash {
            let (theirs, ours) = (hex(theirs), hex(&self.model_hash));
            let problem = format!(
                "the brain's checkpoint has the hash {theirs}, the action expert's {ours}: both \
                 must load the same files"
            );
            return Err(PolicyError::context(ContextFault::OtherModel, problem));
        }
        let received = Received::new(
            request.context.as_ref(),
            &self.sampler.form,
            self.shelf.as_deref(),
        )?;
        self.sampler.check(&inputs(request, &received))?;
        Ok(received)
    }

    /// All at once, but for guided ones. If that fails, each by itself, so that one whose context is bad or late does not
    /// keep the others from their chunk.
    fn chunks(&self, sound: &[(&ActRequest, &Received<'_>)]) -> Vec<Result<ActRows, PolicyError>> {
        let batch: Vec<_> = sound
            .iter()
            .map(|(request, received)| inputs(request, *received))
            .collect();
        let guided = batch.iter().any(|one| one.guidance.is_some());
        let whole = match (batch.as_slice(), sound) {
            ([], _) => return Vec::new(),
            ([_], [(_, received)]) => return vec![self.chunk(&batch, received)],
            _ => (!guided).then(|| self.sampler.actions(&batch)),
        };
        if let Some(Ok(decoded)) = whole {
            let each = decoded.iter().zip(sound);
            return each
                .map(|(decoded, (request, _))| self.rows(decoded, &request.state))
                .collect();
        }
        let alone = batch.chunks(1).zip(sound);
        alone
            .map(|(one, (_, received))| self.chunk(one, received))
            .collect()
    }

    /// One by itself, which says why it cannot be made.
    fn chunk(&self, one: &[Inputs<'_>], received: &Received<'_>) -> Result<ActRows, PolicyError> {
        // What an earlier try says of it is over.
        drop(received.failed());
        let decoded = self.sampler.actions(one);
        let decoded = decoded.map_err(|error| received.failed().unwrap_or(error))?;
        let state = one.first().map_or(&[][..], |inputs| inputs.state);
        self.rows(&decoded.concat(), state)
    }

    fn rows(&self, decoded: &[f32], state: &[f32]) -> Result<ActRows, PolicyError> {
        let (horizon, width) = self.sampler.shape();
        let decide = |problem: &str| PolicyError::Decide(problem.to_owned());
        let too_large = |_| decide("the chunk is too large");
        let targets = self.sampler.targets(decoded, state)?;
        Ok(ActRows {
            horizon: u16::try_from(horizon).map_err(too_large)?,
            width: u16::try_from(width).map_err(too_large)?,
            rows: targets.ok_or_else(|| decide("the manifest does not say what a row means"))?,
        })
    }
}

/// What a request's chunk is sampled from.
pub(super) fn inputs<'a>(request: &'a ActRequest, source: &'a dyn Source) -> Inputs<'a> {
    Inputs {
        source,
        state: &request.state,
        prefix: &request.prefix,
        guidance: request.guidance.as_ref(),
        noise: &request.noise,
        steps: usize::from(request.steps),
    }
}
