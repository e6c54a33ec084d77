//! The servo thread itself panics (F07). In real time, for it is a thread: the arm is on its way home when
//! the thread ends, its bus side ends with it, and the robot's own watchdog stops the arm.
//!
//! The world goes on by its own steps, so that how long the arm moves does not depend on how busy this
//! machine is.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use vlad_actors::actuator::servo::{
    Ask, Inbound, Outbound, ServoLink, ServoLoop, ServoThread, ThreadPlan,
};
use vlad_actors::actuator::settings::Shape;
use vlad_actors::actuator::{Actuator, ActuatorParts};
use vlad_actors::role::Core as _;
use vlad_bus::bus::Bus;
use vlad_bus::travel::Travel;
use vlad_bus::waker::Waker;
use vlad_cell::robot::{Measured, Robot, RobotError};
use vlad_sim::robot::SimRobot;
use vlad_sim::world::SimWorld;
use vlad_wire::clock::{MS, ManualClock, SECOND, SharedClock, SystemClock};
use vlad_wire::msg::command::{Park, Rearm};
use vlad_wire::stream::Row;

use super::finding::{Finding, Worst};
use super::processes::{STILL_RAD_S, VENDOR_STOP_MS};
use super::standard::millis;
use crate::config::{CellConfig, Config, Sources};
use crate::rehearsal::holder::signature;

/// How far the first joint is from home when the guard starts, so that it has a way to go.
const AWAY_RAD: f64 = 0.3;
/// On its way: well above what counts as standing.
const MOVING_RAD_S: f64 = 0.1;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// Longest step of the world between two looks: fewer than its watchdog waits for.
const STEP_NS: u64 = 20 * MS;
/// Looks before this gives up: many seconds on a busy machine.
const LOOKS_MAX: u32 = 20_000;

/// What ends the servo thread: its next command after the fuse was lit.
#[derive(Default)]
struct Fuse {
    lit: AtomicBool,
    commands: AtomicU64,
}

/// The world's robot behind a fuse.
struct Fused {
    inner: SimRobot,
    fuse: Arc<Fuse>,
}

impl Robot for Fused {
    fn n_dofs(&self) -> usize {
        self.inner.n_dofs()
    }

    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError> {
        self.inner.read(measured)
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        if self.fuse.lit.load(Ordering::Acquire) {
            // Not the macro: it would write a backtrace of an intended end.
            resume_unwind(Box::new("injected"));
        }
        self.fuse.commands.fetch_add(1, Ordering::AcqRel);
        self.inner.command(position)
    }

    fn watchdog(&self) -> Option<Duration> {
        self.inner.watchdog()
    }

    fn simulated(&self) -> bool {
        true
    }
}

/// The world, the guard's thread, and the one who looks at both.
struct Bench {
    world: SimWorld,
    eye: SimRobot,
    measured: Measured,
    clock: SharedClock,
    link: ServoLink,
    /// Nobody ever sends on it: waiting for it is a pause.
    pause: (SyncSender<()>, Receiver<()>),
    /// What became of the newest command, and whether the guard has seen the robot stand.
    answer: Option<bool>,
    stands: bool,
}

impl Bench {
    /// Lets a little time go by; gives the fastest joint's speed and the robot's stamp.
    fn look(&mut self) -> anyhow::Result<(f64, u64)> {
        let silent = self.pause.1.recv_timeout(PAUSE).is_err();
        ensure!(silent, "somebody cut the pause short");
        let ahead_ns = self.world.now_ns() + STEP_NS;
        self.world.advance_to(self.clock.now_ns().min(ahead_ns));
        while let Ok(outbound) = self.link.outbound.try_recv() {
            match outbound {
                Outbound::Sample(sample) => {
                    self.stands = sample.still_since_ns.is_some();
                    // The servo thread is gone when nobody takes it back.
                    drop(self.link.spare.try_send(sample));
                }
                Outbound::Answer(_, _, reply) => self.answer = Some(reply.done),
                Outbound::Spent(_) | Outbound::Notice(_) => {}
            }
        }
        self.eye.read(&mut self.measured)?;
        let speeds = self.measured.velocity.iter();
        let fastest = speeds.fold(0.0, |most: f64, speed| speed.abs().max(most));
        Ok((fastest, self.measured.sampled_at_ns))
    }

    fn until(
        &mut self,
        what: &str,
        mut seen: impl FnMut(&Self, f64) -> bool,
    ) -> anyhow::Result<()> {
        for _ in 0..LOOKS_MAX {
            let (speed, _) = self.look()?;
            if seen(self, speed) {
                return Ok(());
            }
        }
        anyhow::bail!("waited in vain: {what}")
    }

    fn ask(&mut self, ask: Ask) -> anyhow::Result<()> {
        self.answer = None;
        let asked = Inbound::Ask(1, Box::new(ask));
        ensure!(
            self.link.inbound.try_send(asked).is_ok(),
            "the servo thread takes nothing"
        );
        self.until("the guard answers", |bench, _| bench.answer.is_some())?;
        ensure!(self.answer == Some(true), "the guard refuses");
        Ok(())
    }
}

/// Lets the servo thread panic while the arm goes home.
///
/// # Errors
/// Parts that cannot be made, and a guard that does not move.
pub(super) fn panics(seed: u64) -> anyhow::Result<Finding> {
    let config = Config::load(&Sources::default())?;
    let cell = config.cells.first().context("no cell")?;
    let (mut bench, fuse, thread) = start(cell, seed)?;
    let by = signature;
    bench.ask(Ask::Rearm(Rearm {
        epoch: 1,
        by: by(),
        expected_pose: Vec::new(),
    }))?;
    bench.until("the robot stands", |bench, _| bench.stands)?;
    bench.ask(Ask::Park(Park { epoch: 2, by: by() }))?;
    bench.until("the arm moves", |_, speed| MOVING_RAD_S < speed)?;
    fuse.lit.store(true, Ordering::Release);
    bench.until("the servo thread ends", |_, _| thread.ended())?;
    let (died_ns, given) = (bench.world.now_ns(), fuse.commands.load(Ordering::Acquire));
    let mut last_ns = died_ns;
    while bench.world.now_ns() < died_ns + SECOND {
        let (speed, at_ns) = bench.look()?;
        if STILL_RAD_S < speed {
            last_ns = at_ns;
        }
    }
    let mut faults = Vec::new();
    if fuse.commands.load(Ordering::Acquire) != given {
        faults.push("commands after the end of the servo thread".to_owned());
    }
    if bus_side_lives(cell, (bench.link, thread))? {
        faults.push("the bus side goes on without its servo thread".to_owned());
    }
    let stood_ms = millis(last_ns.saturating_sub(died_ns));
    let figure = Worst::new("the vendor's stop, ms", stood_ms, VENDOR_STOP_MS);
    Ok(Finding::of(vec![figure], faults))
}

fn start(cell: &CellConfig, seed: u64) -> anyhow::Result<(Bench, Arc<Fuse>, ServoThread)> {
    let clock: SharedClock = Arc::new(SystemClock);
    let scene = cell.scenery.table().context("the cell has no table")?;
    let start_ns = clock.now_ns().saturating_sub(SECOND);
    let world = SimWorld::new(scene, &cell.robot, seed, start_ns)?;
    let mut hand = world.robot();
    let mut pose = cell.robot.home().to_vec();
    if let Some(first) = pose.first_mut() {
        *first += AWAY_RAD;
    }
    while world.now_ns() + STEP_NS < start_ns + SECOND {
        hand.command(&pose)?;
        world.advance_to(world.now_ns() + STEP_NS);
    }
    let fuse = Arc::new(Fuse::default());
    let robot = Box::new(Fused {
        inner: world.robot(),
        fuse: fuse.clone(),
    });
    let shape = Shape::new(&cell.robot);
    let (name, guard) = (cell.cell.name.clone(), cell.guard.clone());
    let (servo, link) = ServoLoop::new(name, guard, shape, robot)?;
    let plan = ThreadPlan {
        priority: 0,
        locks_memory: false,
    };
    let thread = ServoThread::start(servo, clock.clone(), Waker::new(), plan)?;
    let n_dofs = cell.robot.n_dofs();
    let bench = Bench {
        eye: world.robot(),
        world,
        measured: Measured {
            sampled_at_ns: 0,
            position: vec![0.0; n_dofs],
            velocity: vec![0.0; n_dofs],
        },
        clock,
        link,
        pause: sync_channel(1),
        answer: None,
        stands: false,
    };
    Ok((bench, fuse, thread))
}

/// Whether the actuator's core makes a step behind a thread that has ended.
fn bus_side_lives(
    cell: &CellConfig,
    (link, thread): (ServoLink, ServoThread),
) -> anyhow::Result<bool> {
    let clock = Arc::new(ManualClock::default());
    let bus = Bus::travelling(clock.clone(), Box::new(|_: &Row| Travel::once(0)));
    let parts = ActuatorParts {
        cell: cell.cell.name.clone(),
        robot: cell.robot.clone(),
        link,
        thread: Some(thread),
        session: 1,
    };
    let clock: SharedClock = clock;
    let mut core = Actuator::new(&bus, &clock, &Waker::new(), parts)?;
    Ok(core.step(0).is_ok())
}
