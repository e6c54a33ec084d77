//! The brain's half: where the point is and where the goal truly is → two plans.

use vlad_motion::policy::{ContextSink, PolicyError, Think, ThinkJob};
use vlad_wire::msg::sense::ObservationHead;

use super::plan::{Mixture, mixture, pack};
use super::{Row, WIDTH};
use crate::policy::handover;
use crate::twogate::GOAL;

pub(super) struct TwoGateThink;

impl Think for TwoGateThink {
    fn think(
        &mut self,
        jobs: &[ThinkJob],
        sink: &mut dyn ContextSink,
    ) -> Vec<Result<(), PolicyError>> {
        let each = |(idx, job)| context(job, idx, sink);
        jobs.iter().enumerate().map(each).collect()
    }
}

fn context(job: &ThinkJob, idx: usize, sink: &mut dyn ContextSink) -> Result<(), PolicyError> {
    let head = &job.observation.head;
    let mixture = decide(head).map_err(|problem| PolicyError::Decide(problem.to_owned()))?;
    let part = pack(job.request.id, &mixture);
    let part = part.map_err(|error| PolicyError::Decide(error.to_string()))?;
    sink.head(idx, handover::head(job, super::model_hash()));
    sink.part(idx, part);
    Ok(())
}

fn decide(head: &ObservationHead) -> Result<Mixture, &'static str> {
    let truth = head
        .truth
        .as_deref()
        .ok_or("the observation holds no true objects; twogate works on its own cell only")?;
    let goal = truth.iter().find(|object| object.name.as_str() == GOAL);
    let goal = goal.ok_or("the observation holds no goal; twogate works on its own cell only")?;
    let position = position(&head.state).ok_or("the state is no place of a point")?;
    let [_, goal_y_m, _] = goal.pose.position_m;
    if !goal_y_m.is_finite() {
        return Err("the goal's place is not finite");
    }
    Ok(mixture(position, goal_y_m))
}

/// Reads a state of two finite slots.
pub(super) fn position(state: &[f32]) -> Option<Row> {
    let row: [f32; WIDTH] = state.try_into().ok()?;
    let row = row.map(f64::from);
    row.iter().all(|value| value.is_finite()).then_some(row)
}
