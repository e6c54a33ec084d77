//! One way of the point from the start to the goal: what was drawn, and what happened.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use vlad_motion::noise::standard_normal;

use super::{FIRST_GATE_M, GATE_RADIUS_M, GOAL_X_M, SECOND_GATE_M, STEPS_PER_TICK};

/// Ticks after which an episode is over.
pub const TICKS_MAX: u32 = 200;
/// Standard deviation of the start's offset, metres.
const START_SPREAD_M: f64 = 0.004;
/// Ticks among which the goal's jump is drawn.
const JUMP_TICKS: std::ops::Range<u64> = 20..80;
/// How far the goal jumps to either side, metres.
const JUMP_M: f64 = 0.12;
/// The goal is reached when the point is at most this far before it, metres,
const BEFORE_M: f64 = 0.015;
/// and less than this beside it.
const BESIDE_M: f64 = 0.02;
/// A command this far from the one that let the point stand is its first motion, metres: above
/// rounding.
const FIRST_MOTION_M: f64 = 1e-6;
/// The point is back at the start within this, metres.
const BACK_M: f64 = 0.02;

/// What is drawn for an episode. Another strategy with the same plan meets the same scene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpisodePlan {
    /// What it was drawn from.
    pub seed: u64,
    /// Where the point starts, beside x = 0, metres.
    pub start_y_m: f64,
    /// The tick at whose end the goal jumps.
    pub jump_tick: u32,
    /// Where it jumps to along y, metres; 0 for an episode without a jump.
    pub jump_y_m: f64,
}

impl EpisodePlan {
    /// Draws an episode. The numbers are our own: numpy's generator cannot be had.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let n_ticks = JUMP_TICKS.end - JUMP_TICKS.start;
        let jump_tick = JUMP_TICKS.start + rng.next_u64() % n_ticks;
        let side = if rng.next_u64() % 2 == 0 { 1.0 } else { -1.0 };
        let drawn = standard_normal(rng.next_u64(), 1);
        let offset = drawn.first().copied().unwrap_or(0.0);
        Self {
            seed,
            start_y_m: START_SPREAD_M * f64::from(offset),
            jump_tick: jump_tick as u32,
            jump_y_m: side * JUMP_M,
        }
    }
}

/// An episode as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    plan: EpisodePlan,
    /// The command that lets the point stand at the start, metres.
    start_m: [f64; 2],
    started: bool,
    /// Steps since the first motion.
    n_steps: u32,
    collided: bool,
    /// The tick at whose end the goal was reached.
    done_tick: Option<u32>,
    /// The step before which the goal jumped.
    jumped: bool,
}

impl Episode {
    pub(super) fn new(plan: EpisodePlan, start_m: [f64; 2]) -> Self {
        Self {
            plan,
            start_m,
            started: false,
            n_steps: 0,
            collided: false,
            done_tick: None,
            jumped: false,
        }
    }

    /// What was drawn for it.
    pub fn plan(&self) -> &EpisodePlan {
        &self.plan
    }

    /// Whether the first motion has begun.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whole ticks since the first motion.
    pub fn tick(&self) -> u32 {
        self.n_steps / STEPS_PER_TICK
    }

    /// Whether the goal has jumped.
    pub fn jumped(&self) -> bool {
        self.jumped
    }

    pub(super) fn jump(&mut self) {
        self.jumped = true;
    }

    /// Where the goal is along y, metres.
    pub fn goal_y_m(&self) -> f64 {
        if self.jumped { self.plan.jump_y_m } else { 0.0 }
    }

    /// Whether the point touched a gate on its way.
    pub fn collided(&self) -> bool {
        self.collided
    }

    /// The tick at whose end the goal was reached, with a collision or without.
    pub fn done_tick(&self) -> Option<u32> {
        self.done_tick
    }

    /// Whether the goal was reached without a collision.
    pub fn succeeded(&self) -> bool {
        self.done_tick.is_some() && !self.collided
    }

    /// Whether nothing more is judged: the goal was reached, or the time is up.
    pub fn over(&self) -> bool {
        self.done_tick.is_some() || TICKS_MAX <= self.tick()
    }

    /// Whether the next episode may begin with the point where it is.
    pub(super) fn may_follow(&self, [x, y]: [f64; 2]) -> bool {
        self.over() && x.hypot(y) < BACK_M
    }

    /// The episode of the next seed, with the point where its command lets it stand.
    pub(super) fn next(&self, start_m: [f64; 2]) -> Self {
        let plan = EpisodePlan::from_seed(self.plan.seed.wrapping_add(1));
        let start_y_m = start_m[1];
        Self::new(EpisodePlan { start_y_m, ..plan }, start_m)
    }

    /// Sees the first motion; before a step.
    pub(super) fn watch_start(&mut self, target_m: [f64; 2]) {
        let [x, y] = self.start_m;
        self.started |= FIRST_MOTION_M < (target_m[0] - x).hypot(target_m[1] - y);
    }

    /// Judges the point's position after a step.
    pub(super) fn note(&mut self, [x, y]: [f64; 2]) {
        if !self.started || self.over() {
            return;
        }
        let touches = |[gate_x, gate_y]: [f64; 2]| (x - gate_x).hypot(y - gate_y) < GATE_RADIUS_M;
        self.collided |= touches(FIRST_GATE_M) || touches(SECOND_GATE_M);
        let tick = self.tick();
        self.n_steps += 1;
        if !self.n_steps.is_multiple_of(STEPS_PER_TICK) {
            return;
        }
        // A tick's end: the goal jumps first, then it is judged, as the reference does.
        self.jumped |= tick == self.plan.jump_tick;
        if GOAL_X_M - BEFORE_M < x && (y - self.goal_y_m()).abs() < BESIDE_M {
            self.done_tick = Some(tick);
        }
    }
}
