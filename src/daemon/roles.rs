//! What each role is made from: one factory a role, called at each of its starts.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest as _, Sha256};
use vlad_actors::actuator::servo::{ServoLoop, ServoThread};
use vlad_actors::actuator::settings::Shape;
use vlad_actors::actuator::{Actuator, ActuatorParts};
use vlad_actors::brain::{Brain, BrainParts, Placement};
use vlad_actors::expert::refusals::Refusals;
use vlad_actors::expert::{Expert, ExpertParts};
use vlad_actors::gateway::cell::CellSpec;
use vlad_actors::gateway::desk::SharedDeskServer;
use vlad_actors::gateway::{Gateway, GatewayParts};
use vlad_actors::perception::{Perception, PerceptionParts};
use vlad_actors::recorder::{Recorder, RecorderParts};
use vlad_actors::role::{Core, CoreError, Factory, RoleSpec};
use vlad_bus::bus::Bus;
use vlad_bus::waker::Waker;
use vlad_motion::policy::Policy;
use vlad_sim::realtime::RealtimeWorld;
use vlad_store::episodes::EpisodeStore;
use vlad_store::lock::DataDir;
use vlad_store::tasks::TaskStore;
use vlad_wire::clock::SharedClock;
use vlad_wire::id::Role;
use vlad_wire::msg::think::Digest;
use vlad_wire::text::Name;

use crate::config::{CellConfig, Config};
use crate::motion_report::{CellShape, CellShapes};

use super::policy::expert_cell;
use super::world::CellWorld;

/// What all roles stand on.
#[derive(Clone)]
pub struct Ground {
    /// The settings.
    pub config: Arc<Config>,
    /// The bus.
    pub bus: Bus,
    /// The clock.
    pub clock: SharedClock,
    /// Contexts that the action expert of this process refused.
    pub refusals: Arc<Refusals>,
    policy: Option<Arc<dyn Policy>>,
    worlds: Vec<CellWorld>,
}

/// The data folder and what lies in it.
pub struct Storage {
    /// The folder, locked as long as this lives.
    pub dir: Arc<DataDir>,
    /// The episode log.
    pub episodes: EpisodeStore,
    /// The clock of the task store.
    pub clock: SharedClock,
}

impl Ground {
    /// Makes the simulated worlds; `policy` is there where the brain or the action expert runs.
    ///
    /// # Errors
    /// What keeps a world from being made.
    pub fn new(
        config: Config,
        policy: Option<Arc<dyn Policy>>,
        bus: Bus,
        clock: SharedClock,
    ) -> anyhow::Result<Self> {
        let now_ns = clock.now_ns();
        let worlds = config.cells.iter();
        let worlds = worlds
            .map(|cell| CellWorld::new(cell, now_ns))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            config: Arc::new(config),
            bus,
            clock,
            refusals: Arc::default(),
            policy,
            worlds,
        })
    }

    /// Lets the simulated worlds run in real time, until the result is dropped.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn run_worlds(&self) -> std::io::Result<Vec<RealtimeWorld>> {
        let worlds = self.worlds.iter();
        worlds
            .filter_map(|world| world.run(&self.clock).transpose())
            .collect()
    }

    fn cells(&self) -> impl Iterator<Item = (&CellConfig, &CellWorld)> {
        self.config.cells.iter().zip(&self.worlds)
    }

    /// A number that differs from start to start of a role: time, and the process.
    fn session(&self) -> u64 {
        self.clock.now_ns() ^ (u64::from(std::process::id()) << 44)
    }
}

/// Gives the specifications of `roles`, in the order of their start: the guard first.
///
/// # Errors
/// A role that lacks something.
pub fn specs(
    ground: &Ground,
    roles: &[Role],
    storage: Option<&Storage>,
    (gateway_waker, desk): (Waker, SharedDeskServer),
) -> anyhow::Result<Vec<RoleSpec>> {
    let order = [
        Role::Recorder,
        Role::Actuator,
        Role::Perception,
        Role::Brain,
        Role::ActionExpert,
        Role::Gateway,
    ];
    let mut specs = Vec::new();
    for role in order.into_iter().filter(|role| roles.contains(role)) {
        let waker = if role == Role::Gateway {
            gateway_waker.clone()
        } else {
            Waker::new()
        };
        let storage = || storage.context("this role needs the data folder");
        let policy = || ground.policy.clone().context("this role needs a policy");
        let (factory, period_ms) = match role {
            Role::Perception => (perception(ground.clone()), 8),
            Role::Brain => (brain(ground.clone(), policy()?), 10),
            Role::ActionExpert => (expert(ground.clone(), policy()?), 5),
            Role::Actuator => (actuator(ground.clone()), 10),
            Role::Recorder => (recorder(ground.clone(), storage()?.episodes.clone()), 10),
            Role::Gateway => (gateway(ground.clone(), storage()?, desk.clone()), 20),
        };
        let period = Duration::from_millis(period_ms);
        specs.push(RoleSpec {
            role,
            factory,
            waker,
            period,
            clock: ground.clock.clone(),
        });
    }
    Ok(specs)
}

type Cores = Vec<Box<dyn Core>>;

fn perception(ground: Ground) -> Factory {
    Arc::new(move |_| {
        let session = ground.session();
        let mut cores = Cores::new();
        for (cell, world) in ground.cells() {
            let cameras = world.cameras().map_err(|error| failed(&error))?;
            let parts = PerceptionParts {
                cell: cell.cell.name.clone(),
                cameras,
                oracle: Some(world.oracle()),
                robot: cell.robot.clone(),
                config: cell.perception.clone(),
                session,
            };
            cores.push(Box::new(Perception::new(
                &ground.bus,
                &ground.clock,
                parts,
            )?));
        }
        Ok(Box::new(cores))
    })
}

fn brain(ground: Ground, policy: Arc<dyn Policy>) -> Factory {
    Arc::new(move |waker| {
        let parts = BrainParts {
            cells: ground
                .config
                .cells
                .iter()
                .map(|cell| cell.cell.name.clone())
                .collect(),
            policy: policy.clone(),
            placement: Placement::Thread,
            stream_layers: ground.config.brain.stream_layers,
            session: ground.session(),
        };
        Ok(Box::new(Brain::new(
            &ground.bus,
            &ground.clock,
            waker,
            parts,
        )?))
    })
}

fn expert(ground: Ground, policy: Arc<dyn Policy>) -> Factory {
    Arc::new(move |waker| {
        let cells = ground.config.cells.iter().map(expert_cell);
        let parts = ExpertParts {
            cells: cells.collect(),
            policy: policy.clone(),
            placement: Placement::Thread,
            config: ground.config.expert.clone(),
            refusals: ground.refusals.clone(),
            session: ground.session(),
        };
        Ok(Box::new(Expert::new(
            &ground.bus,
            &ground.clock,
            waker,
            parts,
        )?))
    })
}

fn actuator(ground: Ground) -> Factory {
    Arc::new(move |waker| {
        let session = ground.session();
        let mut cores = Cores::new();
        for (cell, world) in ground.cells() {
            let name = cell.cell.name.clone();
            let shape = Shape::new(&cell.robot);
            let robot = world.robot().map_err(|error| failed(&error))?;
            let plan = cell.guard.thread_plan();
            let (servo, link) = ServoLoop::new(name.clone(), cell.guard.clone(), shape, robot)
                .map_err(|error| CoreError::Failed(error.to_string()))?;
            let thread = ServoThread::start(servo, ground.clock.clone(), waker.clone(), plan)
                .map_err(|error| CoreError::Failed(error.to_string()))?;
            let parts = ActuatorParts {
                cell: name,
                robot: cell.robot.clone(),
                link,
                thread: Some(thread),
                session,
            };
            cores.push(Box::new(Actuator::new(
                &ground.bus,
                &ground.clock,
                waker,
                parts,
            )?));
        }
        Ok(Box::new(cores))
    })
}

fn recorder(ground: Ground, episodes: EpisodeStore) -> Factory {
    Arc::new(move |_| {
        let session = ground.session();
        let mut cores = Cores::new();
        for cell in &ground.config.cells {
            let parts = RecorderParts {
                cell: cell.cell.name.clone(),
                store: episodes.clone(),
                config_hash: config_hash(cell),
                session,
            };
            cores.push(Box::new(Recorder::new(&ground.bus, &ground.clock, parts)?));
        }
        Ok(Box::new(cores))
    })
}

fn gateway(ground: Ground, storage: &Storage, desk: SharedDeskServer) -> Factory {
    let (dir, clock) = (storage.dir.clone(), storage.clock.clone());
    let armed_once = Arc::new(AtomicBool::new(false));
    // One gateway at a time: the task store is opened again at each start, and only then.
    let opening = Mutex::new(());
    Arc::new(move |waker| {
        let _one = opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = TaskStore::open(dir.path(), clock.clone())
            .map_err(|error| CoreError::Failed(error.to_string()))?;
        let interrupted = store
            .recover()
            .map_err(|error| CoreError::Failed(error.to_string()))?;
        for task in interrupted {
            tracing::warn!(task = %task.id, state = %task.state, "found after a crash");
        }
        let strategy = ground.config.expert.strategy.name();
        let strategy = Name::new(strategy).map_err(|e| CoreError::Failed(e.to_string()))?;
        let cells = ground.config.cells.iter().map(|cell| CellSpec {
            id: cell.cell.name.clone(),
            robot: cell.robot.clone(),
            simulated: true,
            arm_at_start: cell.cell.arm_at_start,
            strategy: strategy.clone(),
        });
        let parts = GatewayParts {
            cells: cells.collect(),
            store,
            desk: desk.clone(),
            armed_once: armed_once.clone(),
            session: ground.session(),
        };
        Ok(Box::new(Gateway::new(
            &ground.bus,
            &ground.clock,
            waker,
            parts,
        )?))
    })
}

fn failed(error: &anyhow::Error) -> CoreError {
    CoreError::Failed(format!("{error:#}"))
}

/// The cells as the metrics of their episodes need them.
pub fn shapes(config: &Config) -> CellShapes {
    let ticks = config.expert.ticks_per_decision;
    let cells = config.cells.iter();
    cells
        .map(|cell| {
            let shape = CellShape::new(cell, ticks, config_hash(cell));
            (cell.cell.name.clone(), shape)
        })
        .collect()
}

/// Digest of the merged settings, so that an episode says under which it was made.
fn config_hash(cell: &CellConfig) -> Digest {
    let mut hasher = Sha256::new();
    for (key, value, _) in cell.merged.keys() {
        hasher.update(format!("{key}={value}\n"));
    }
    Digest::from(hasher.finalize().to_vec())
}
