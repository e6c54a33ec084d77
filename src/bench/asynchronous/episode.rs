//! One run: the guard is armed, a task leases the cell, the point goes to the goal.

use std::time::Duration;

use anyhow::ensure;
use vlad_actors::stepped::{Conditions, Stepped, SteppedParts};
use vlad_bus::command::{Client, Pending};
use vlad_bus::publisher::Publisher;
use vlad_cell::camera::Camera;
use vlad_sim::twogate::TwoGateWorld;
use vlad_sim::twogate::oracle::INSTRUCTION;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::msg::command::{Answer, Lease, Rearm, Signature};
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::stream::{Command, LeaseCommand, RearmCommand, Tasks};
use vlad_wire::text::{Instruction, Note};

use super::contender::Contender;
use super::ear::Ear;
use super::figures::Ran;
use super::ground::Ground;
use super::travel::{Cause, PERIOD_NS, Road, ahead};

/// Time of the clock at the start: later than the world's.
const START_NS: u64 = SECOND;
/// Servo periods until the roles know each other.
const ACQUAINTANCE: u32 = 300;
/// Longest run, servo periods: an episode has 2000, and before it the first decision.
const PERIODS_MAX: u32 = 9000;
/// Servo periods after the end in which the last things are said.
const LAST_WORDS: u32 = 12;
/// The task of every run: its seed alone differs.
const TASK: &str = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A";
/// Longest wait for an answer of the guard.
const ANSWER: Duration = Duration::from_secs(1);

/// What is tried.
#[derive(Debug, Clone)]
pub struct Trial {
    /// How chunks meet.
    pub contender: Contender,
    /// The delay that is meant, ticks.
    pub delay_ticks: u32,
    /// How long decisions take.
    pub cause: Cause,
    /// Seed of the episode and of the policy's noise.
    pub seed: u64,
}

/// Runs one episode.
///
/// # Errors
/// A part that cannot be made, and a guard that refuses to begin.
pub fn run(ground: &Ground, trial: Trial) -> anyhow::Result<Ran> {
    let world_start_ns = START_NS - ahead(trial.delay_ticks) * PERIOD_NS;
    let world = TwoGateWorld::new(&ground.robot, trial.seed, world_start_ns)?;
    let road = Road::new(trial.cause);
    let mut stepped = make(ground, &world, (trial.contender, &road))?;
    let mut ear = Ear::new(&stepped, &ground.cell)?;
    let mut gateway = Gateway::new(&stepped, ground, trial.seed)?;
    gateway.begin(&mut stepped)?;
    let clock = stepped.clock();
    let mut left = LAST_WORDS;
    for _ in 0..PERIODS_MAX {
        gateway.renew(clock.now_ns());
        stepped.step()?;
        ear.listen();
        let episode = world.episode();
        ear.watch(&episode, clock.now_ns());
        if episode.over() {
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    Ok(ear.conclude(&world.episode(), road.given()))
}

fn make(
    ground: &Ground,
    world: &TwoGateWorld,
    (contender, road): (Contender, &Road),
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
        expert: contender.expert(&ground.expert),
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
