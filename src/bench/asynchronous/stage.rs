//! One run as it goes: the world, all cores around it, and the gateway's part.

use vlad_actors::expert::ExpertConfig;
use vlad_actors::stepped::{Conditions, Stepped, SteppedParts};
use vlad_cell::camera::Camera;
use vlad_motion::planner::Replanning;
use vlad_sim::twogate::TwoGateWorld;
use vlad_sim::twogate::episode::EpisodePlan;
use vlad_sim::twogate::oracle::INSTRUCTION;
use vlad_wire::clock::SECOND;

use super::contender::Contender;
use super::ear::Ear;
use super::ground::Ground;
use super::travel::{Cause, PERIOD_NS, Road, ahead};
use crate::rehearsal::holder::{self, Holder};

/// Time of the clock at the start: later than the world's.
const START_NS: u64 = SECOND;

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
    holder: Holder,
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
        let mut holder = Holder::new(&stepped, &ground.cell, (INSTRUCTION, trial.seed))?;
        for _ in 0..holder::acquaintance(&stepped) {
            stepped.step()?;
        }
        holder.begin(&mut stepped)?;
        Ok(Self {
            world,
            ear,
            road,
            stepped,
            holder,
        })
    }

    /// Goes on by a servo period; gives the time after it.
    ///
    /// # Errors
    /// A core that cannot go on.
    pub(in crate::bench) fn step(&mut self) -> anyhow::Result<u64> {
        let clock = self.stepped.clock();
        self.holder.renew(clock.now_ns());
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
