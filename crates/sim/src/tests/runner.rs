//! Plays a policy on a world in virtual time, without guard or actors: look, think, play the chunk at
//! 30 Hz with straight lines between ticks, and again. As the strategy sync would, or as naive.

use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;
use vlad_cell::description::RobotDescription;
use vlad_cell::oracle::{Judgement, Oracle};
use vlad_cell::robot::{Measured, Robot};
use vlad_motion::policy::{
    Act, ActRequest, ActRows, ContextSink, ContextSource, Policy, PolicyError, Think, ThinkJob,
};
use vlad_wire::clock::SECOND;
use vlad_wire::id::TaskId;
use vlad_wire::msg::sense::{Observation, ObservationHead};
use vlad_wire::msg::task::{ActiveTask, Outcome};
use vlad_wire::msg::think::{ContextHead, ContextPart, ThinkRequest};

use crate::oracle::SimOracle;
use crate::policy::scripted::ScriptedPolicy;
use crate::robot::SimRobot;
use crate::world::SimWorld;

/// Servo periods between chunks: the pause of a decision, 100 ms.
const PAUSE_PERIODS: u64 = 24;

type Watcher = Box<dyn FnMut(&mut SimOracle)>;

/// How chunks meet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Play a chunk, stand, look.
    Sync,
    /// Look, play the old chunk for `delay` ticks, then `played` rows of the new one from its row
    /// `delay` on.
    Naive { delay: usize, played: usize },
}

/// What a run shows.
pub(super) struct Outcomes {
    pub(super) judgement: Judgement,
    pub(super) seconds: f64,
    /// Largest distance of a first row from its state: joints, grippers.
    pub(super) first_row: [f64; 2],
    /// Largest speed of the rows by part of the limits.
    pub(super) speed_part: f64,
}

pub(super) struct Runner {
    world: SimWorld,
    description: Arc<RobotDescription>,
    robot: SimRobot,
    oracle: SimOracle,
    think: Box<dyn Think>,
    act: Box<dyn Act>,
    /// Replaces the gripper commands, so that nothing can be grasped.
    pub(super) gripper_held_open: bool,
    pub(super) style: Style,
    /// Of the naive style: targets that are still played while the next decision is under way.
    rest: Vec<Vec<f64>>,
    /// Asks the oracle after every tick.
    watcher: Option<Watcher>,
    n_looks: u64,
    n_periods: u64,
    last: Vec<f64>,
}

#[derive(Default)]
struct Collected {
    head: Option<ContextHead>,
    parts: Vec<ContextPart>,
}

impl ContextSink for Collected {
    fn head(&mut self, _: usize, head: ContextHead) {
        self.head = Some(head);
    }

    fn part(&mut self, _: usize, part: ContextPart) {
        self.parts.push(part);
    }
}

impl ContextSource for Collected {
    fn head(&self) -> &ContextHead {
        self.head.as_ref().unwrap()
    }

    fn part(&self, index: u16) -> Result<ContextPart, PolicyError> {
        let part = self.parts.get(usize::from(index)).cloned();
        part.ok_or(PolicyError::Late { index })
    }
}

impl Runner {
    pub(super) fn new(world: SimWorld, description: &Arc<RobotDescription>) -> Self {
        let policy = ScriptedPolicy::new(Arc::clone(description)).unwrap();
        Self {
            robot: world.robot(),
            oracle: world.oracle(),
            think: policy.open_think().unwrap(),
            act: policy.open_act().unwrap(),
            description: Arc::clone(description),
            gripper_held_open: false,
            style: Style::Sync,
            rest: Vec::new(),
            watcher: None,
            n_looks: 0,
            n_periods: 0,
            last: description.home().to_vec(),
            world,
        }
    }

    /// Lets `watcher` look after every tick.
    pub(super) fn each_tick(&mut self, watcher: impl FnMut(&mut SimOracle) + 'static) {
        self.watcher = Some(Box::new(watcher));
    }

    /// Commands what was commanded last, for one servo period.
    pub(super) fn stand(&mut self) {
        self.command(self.last.clone());
    }

    pub(super) fn measured(&mut self) -> Measured {
        let mut measured = Measured::default();
        self.robot.read(&mut measured).unwrap();
        measured
    }

    /// Runs a task until the oracle decides or virtual time is up.
    pub(super) fn run(&mut self, instruction: &str, seconds_max: f64) -> Outcomes {
        let began_ns = self.world.now_ns();
        let (mut first_row, mut speed_part) = ([0.0_f64; 2], 0.0_f64);
        loop {
            let state = self.measured().position;
            let rows = self.decide(instruction).unwrap();
            let targets = self.targets(&rows);
            for (dof, (target, now)) in targets[0].iter().zip(&state).enumerate() {
                let gripper = self.is_gripper(dof);
                let most = &mut first_row[usize::from(gripper)];
                *most = most.max((target - now).abs());
            }
            for pair in targets.windows(2) {
                for (dof, (from, to)) in pair[0].iter().zip(&pair[1]).enumerate() {
                    let limit = self.description.limits()[dof].speed_max;
                    speed_part = speed_part.max((to - from).abs() * 30.0 / limit);
                }
            }
            self.play(&targets);
            let judgement = self.oracle.judge(&instruction.parse().unwrap());
            let seconds = (self.world.now_ns() - began_ns) as f64 * 1e-9;
            if judgement.outcome != Outcome::Open || seconds_max <= seconds {
                return Outcomes {
                    judgement,
                    seconds,
                    first_row,
                    speed_part,
                };
            }
        }
    }

    fn is_gripper(&self, dof: usize) -> bool {
        let mut arms = self.description.arms().iter();
        arms.any(|arm| arm.gripper_dof() == dof)
    }

    fn targets(&self, rows: &ActRows) -> Vec<Vec<f64>> {
        let slots = self.description.slots();
        let rows = rows.rows.chunks_exact(slots.width());
        rows.map(|row| slots.to_dofs(row).collect()).collect()
    }

    /// Looks and decides.
    pub(super) fn decide(&mut self, instruction: &str) -> Result<ActRows, PolicyError> {
        let state = self.measured().position;
        let job = ThinkJob {
            request: request(self.n_looks),
            observation: Arc::new(self.observe(&state)),
            task: task(instruction),
        };
        self.n_looks += 1;
        let mut context = Collected::default();
        self.think.think(&[job], &mut context).remove(0)?;
        let state = ContextSource::head(&context).state.clone();
        let request = ActRequest {
            context: Arc::new(context),
            state,
            prefix: Vec::new(),
            guidance: None,
            noise: Vec::new(),
            steps: 5,
        };
        self.act.act(&[request]).remove(0)
    }

    fn observe(&mut self, state: &[f64]) -> Observation {
        Observation {
            head: ObservationHead {
                seq: self.n_looks,
                tick: 0,
                captured_at_ns: self.world.now_ns(),
                views: Vec::new(),
                state: self.description.slots().to_slots(state),
                state_at_ns: self.world.now_ns(),
                truth: Some(self.oracle.truth()),
            },
            images: Vec::<Bytes>::new(),
        }
    }

    fn play(&mut self, targets: &[Vec<f64>]) {
        match self.style {
            Style::Sync => {
                self.ticks(targets);
                for _ in 0..PAUSE_PERIODS {
                    self.stand();
                }
            }
            Style::Naive { delay, played } => {
                let old = std::mem::take(&mut self.rest);
                for tick in 0..delay {
                    let target = old.get(tick).unwrap_or(&self.last).clone();
                    self.ticks(std::slice::from_ref(&target));
                }
                let switch = delay.min(targets.len());
                let end = (delay + played).min(targets.len());
                self.ticks(&targets[switch..end]);
                self.rest = targets[end..].to_vec();
            }
        }
    }

    /// Plays targets one tick each, no faster than the limits allow.
    fn ticks(&mut self, targets: &[Vec<f64>]) {
        let per_tick = self.description.servo_per_tick();
        for target in targets {
            let from = self.last.clone();
            let limits = self.description.limits().iter();
            let pairs = from.iter().zip(target).zip(limits);
            let target: Vec<f64> = pairs
                .map(|((from, to), limits)| {
                    from + (to - from).clamp(-limits.speed_max / 30.0, limits.speed_max / 30.0)
                })
                .collect();
            for period in 1..=per_tick {
                let part = f64::from(period) / f64::from(per_tick);
                let between = from.iter().zip(&target).map(|(a, b)| a + (b - a) * part);
                self.command(between.collect());
            }
            self.last = target;
            if let Some(watcher) = &mut self.watcher {
                watcher(&mut self.oracle);
            }
        }
    }

    fn command(&mut self, mut position: Vec<f64>) {
        if self.gripper_held_open {
            for arm in self.description.arms() {
                position[arm.gripper_dof()] = self.description.limits()[arm.gripper_dof()].max;
            }
        }
        self.robot.command(&position).unwrap();
        self.n_periods += 1;
        let now_ns = u128::from(self.n_periods) * u128::from(SECOND) / 240;
        self.world.advance_to(u64::try_from(now_ns).unwrap());
    }
}

pub(super) fn task(instruction: &str) -> ActiveTask {
    ActiveTask {
        id: TaskId(Ulid::from_parts(1, 1)),
        attempt: 1,
        epoch: 1,
        instruction: instruction.parse().unwrap(),
        seed: 0,
        deadline_ns: u64::MAX,
    }
}

fn request(id: u64) -> ThinkRequest {
    ThinkRequest {
        id,
        epoch: 1,
        task: TaskId(Ulid::from_parts(1, 1)),
        attempt: 1,
        requested_at_ns: 0,
        earliest_tick: 0,
        earliest_captured_ns: 0,
    }
}
