//! One run as it goes: the world, all cores around it, and the gateway's part.

use std::time::Duration;

use anyhow::ensure;
use vlad_actors::expert::ExpertConfig;
use vlad_actors::stepped::{Conditions, Stepped, SteppedParts};
use vlad_bus::command::{Client, Pending};
use vlad_bus::publisher::Publisher;
use vlad_cell::camera::Camera;
use vlad_motion::planner::Replanning;
use vlad_sim::twogate::TwoGateWorld;
use vlad_sim::twogate::episode::EpisodePlan;
use vlad_sim::twogate::oracle::INSTRUCTION;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::msg::command::{Answer, Lease, Rearm, Signature};
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::stream::{Command, LeaseCommand, RearmCommand, Tasks};
use vlad_wire::text::{Instruction, Note};

use super::contender::Contender;
use super::ear::Ear;
use super::ground::Ground;
use super::travel::{Cause, PERIOD_NS, Road, ahead};

/// Time of the clock at the start: later than the world's.
const START_NS: u64 = SECOND;
/// Servo periods until the roles know each other.
const ACQUAINTANCE: u32 = 300;
/// The task of every run: its seed alone differs.
const TASK: &str = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A";
/// Longest wait for an answer of the guard.
const ANSWER: Duration = Duration::from_secs(1);

/// What is tried.
#[derive(Debug, Clone)]
pub struct Trial {
    /// How chunks meet.
    pub contender: Contender,
    /// When the next decision is asked for.
    pub replanning: Replanning,
    /// The delay that is meant, ticks.
    pub delay_ticks: u32,
    /// How long decisions take.
    pub cause: Cause,
    /// Seed of the episode and of the policy's noise.
    pub seed: u64,
    /// Whether the goal jumps by the episode's own plan.
    pub jumps: bool,
}

/// A run that has begun: the guard is armed, and a task leases the cell.
pub(in crate::bench) struct Stage {
    pub(in crate::bench) world: TwoGateWorld,
    pub(in crate::bench) ear: Ear,
    pub(super) road: Road,
    stepped: Stepped,
    gateway: Gateway,
}

impl Stage {
    /// Begins a run.
    ///
    /// # Errors
    /// A part that cannot be made, and a guard that refuses to begin.
    pub(in crate::bench) fn new(ground: &Ground, trial: Trial) -> anyhow::Result<Self> {
        let world_start_ns = START_NS - ahead(trial.delay_ticks) * PERIOD_NS;
        let world = TwoGateWorld::new(&ground.robot, trial.seed, world_start_ns)?;
        if !trial.jumps {
            let plan = *world.episode().plan();
            world.begin(EpisodePlan {
                jump_tick: u32::MAX,
                ..plan
            });
        }
        let expert = ExpertConfig {
            replanning: trial.replanning,
            ..trial.contender.expert(&ground.expert)
        };
        let road = Road::new(trial.cause);
        let mut stepped = make(ground, &world, (trial.contender, expert, &road))?;
        let ear = Ear::new(&stepped, &ground.cell)?;
        let gateway = Gateway::new(&stepped, ground, trial.seed)?;
        gateway.begin(&mut stepped)?;
        Ok(Self {
            world,
            ear,
            road,
            stepped,
            gateway,
        })
    }

    /// Goes on by a servo period; gives the time after it.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub(in crate::bench) fn step(&mut self) -> anyhow::Result<u64> {
        let clock = self.stepped.clock();
        self.gateway.renew(clock.now_ns());
        self.stepped.step()?;
        self.ear.listen();
        Ok(clock.now_ns())
    }
}

fn make(
    ground: &Ground,
    world: &TwoGateWorld,
    (contender, expert, road): (Contender, ExpertConfig, &Road),
) -> anyhow::Result<Stepped> {
    let mut cameras: Vec<Box<dyn Camera>> = Vec::new();
    for camera in world.cameras() {
        cameras.push(Box::new(camera));
    }
    let moving = world.clone();
    let parts = SteppedParts {
        cell: ground.cell.clone(),
        description: ground.robot.clone(),
        robot: Box::new(world.robot()),
        cameras,
        oracle: Some(Box::new(world.oracle())),
        advance: Box::new(move |now_ns| moving.advance_to(now_ns)),
        policy: ground.policy(contender)?,
        guard: ground.guard.clone(),
        perception: ground.perception.clone(),
        expert,
    };
    let road = road.clone();
    let conditions = Conditions {
        start_ns: START_NS,
        travel: Box::new(move |row| road.travel(row)),
    };
    Ok(Stepped::under(parts, conditions)?)
}

/// The gateway's part, without a store: arms, leases, says the task.
struct Gateway {
    rearm: Client<RearmCommand>,
    lease: Client<LeaseCommand>,
    tasks: Publisher<Tasks>,
    renewal: Option<Pending<LeaseCommand>>,
    task: ActiveTask,
    next_ns: u64,
}

impl Gateway {
    fn new(stepped: &Stepped, ground: &Ground, seed: u64) -> anyhow::Result<Self> {
        let (bus, cell) = (stepped.bus(), &ground.cell);
        Ok(Self {
            rearm: bus.client(cell)?,
            lease: bus.client(cell)?,
            tasks: bus.publisher(cell, "")?,
            renewal: None,
            task: ActiveTask {
                id: TASK.parse()?,
                attempt: 1,
                epoch: 2,
                instruction: Instruction::new(INSTRUCTION)?,
                seed,
                deadline_ns: u64::MAX,
            },
            next_ns: 0,
        })
    }

    fn begin(&self, stepped: &mut Stepped) -> anyhow::Result<()> {
        for _ in 0..ACQUAINTANCE {
            stepped.step()?;
        }
        let by = Signature {
            operator: Note::cleaned("bench"),
            reason: Note::cleaned("a run in virtual time"),
        };
        let rearm = Rearm {
            epoch: 1,
            by,
            expected_pose: Vec::new(),
        };
        done(&answer(self.rearm.ask(&rearm, ANSWER), stepped)?)?;
        let grant = Lease::Grant {
            epoch: self.task.epoch,
            task: self.task.id,
            attempt: self.task.attempt,
            ttl_ms: 2000,
        };
        done(&answer(self.lease.ask(&grant, ANSWER), stepped)?)
    }

    /// Keeps the lease, and says the task.
    fn renew(&mut self, now_ns: u64) {
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + 500 * MS;
        let ask = Lease::Renew {
            epoch: self.task.epoch,
        };
        self.renewal = Some(self.lease.ask(&ask, ANSWER));
        self.tasks.put(&TaskNow {
            sent_at_ns: now_ns,
            task: Some(self.task.clone()),
            last: None,
        });
    }
}

fn answer<C: Command<Answer = Answer>>(
    mut pending: Pending<C>,
    stepped: &mut Stepped,
) -> anyhow::Result<Answer> {
    for _ in 0..ACQUAINTANCE {
        stepped.step()?;
        if let Some(answer) = pending.try_take() {
            return Ok(answer?);
        }
    }
    anyhow::bail!("the guard does not answer")
}

fn done(answer: &Answer) -> anyhow::Result<()> {
    ensure!(answer.done, "the guard refuses: {}", answer.text);
    Ok(())
}
