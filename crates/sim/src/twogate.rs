//! TwoGate's scene.

/// Length of a policy tick, seconds.
pub(crate) const TICK_S: f64 = 1.0 / 30.0;
/// Middle of the first gate, metres.
pub const FIRST_GATE_M: [f64; 2] = [0.45, 0.0];
/// Middle of the second gate, metres.
pub const SECOND_GATE_M: [f64; 2] = [1.05, 0.0];
/// Where the goal is along x, metres.
pub const GOAL_X_M: f64 = 1.6;
/// Name of the goal among the true objects.
pub const GOAL: &str = "goal";
