//! The verdict on TwoGate, and where its things truly are.

use vlad_cell::oracle::{Judgement, Oracle};
use vlad_wire::msg::sense::{PoseQuat, TrueObject};
use vlad_wire::msg::task::Outcome;
use vlad_wire::text::{Instruction, Name, Note};

use super::episode::{Episode, TICKS_MAX};
use super::{FIRST_GATE_M, GATE_RADIUS_M, GOAL, GOAL_X_M, SECOND_GATE_M, TwoGateWorld};

/// What the cell understands; every sentence with the word `gates` is taken for it.
pub const INSTRUCTION: &str = "pass both gates and go to the goal";

/// The one who knows.
pub struct TwoGateOracle {
    world: TwoGateWorld,
}

impl TwoGateOracle {
    pub(super) fn new(world: TwoGateWorld) -> Self {
        Self { world }
    }
}

impl Oracle for TwoGateOracle {
    fn judge(&mut self, instruction: &Instruction) -> Judgement {
        judge(&self.world.episode(), instruction.as_str())
    }

    fn truth(&mut self) -> Vec<TrueObject> {
        let goal_y_m = self.world.lock().episode().goal_y_m();
        let gate_m = 2.0 * GATE_RADIUS_M;
        let objects = [
            object(GOAL, "goal", [GOAL_X_M, goal_y_m], 0.0),
            object("first_gate", "gate", FIRST_GATE_M, gate_m),
            object("second_gate", "gate", SECOND_GATE_M, gate_m),
        ];
        objects.into_iter().flatten().collect()
    }
}

/// A point that touched a gate has lost, even if it goes on and arrives.
fn judge(episode: &Episode, instruction: &str) -> Judgement {
    let mut words = instruction.split(|c: char| !c.is_alphabetic());
    let (outcome, reason) = if !words.any(|word| word.eq_ignore_ascii_case("gates")) {
        let problem = format!("this cell understands: {INSTRUCTION}");
        (Outcome::Lost, problem)
    } else if episode.collided() {
        (Outcome::Lost, "the point touched a gate".to_owned())
    } else if let Some(tick) = episode.done_tick() {
        let reason = format!("the point is at the goal after {tick} ticks");
        (Outcome::Done, reason)
    } else if episode.over() {
        let reason = format!("the point is not at the goal after {TICKS_MAX} ticks");
        (Outcome::Lost, reason)
    } else if episode.started() {
        (Outcome::Open, "the point is on its way".to_owned())
    } else {
        (Outcome::Open, "the point waits at the start".to_owned())
    };
    Judgement {
        outcome,
        reason: Note::cleaned(&reason),
    }
}

/// `None` if a word is no name, which these are.
fn object(name: &str, kind: &str, [x, y]: [f64; 2], size_m: f64) -> Option<TrueObject> {
    Some(TrueObject {
        name: Name::new(name).ok()?,
        kind: Name::new(kind).ok()?,
        label: Name::new(name).ok()?,
        pose: PoseQuat {
            position_m: [x, y, 0.0],
            quaternion_xyzw: [0.0, 0.0, 0.0, 1.0],
        },
        size_m: [size_m; 3],
    })
}
