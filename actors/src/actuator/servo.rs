//! The guard's own thread: an absolute schedule, the robot, and two bounded channels.
//!
//! The same [`ServoLoop`] runs on a thread (real time) and under `stepped` (virtual time). What
//! does not fit in a channel is dropped and counted: the servo path never waits for anybody. It
//! allocates and frees nothing: samples go round between both sides, and what arrives goes back to
//! be freed. It takes no lock: the channels are arrays with atomic places whose other ends never
//! block, and the bus side is woken by unparking a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mm::MlockAllFlags;
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::clock_gettime;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use vlad_bus::waker::Waker;
use vlad_cell::robot::{Measured, Robot, RobotError};
use vlad_wire::clock::{SECOND, SharedClock};
use vlad_wire::id::{CellId, Role, Tick};
use vlad_wire::msg::command::{Estop, Lease, Park, Pause, Rearm, Reset, Resume, Speed};
use vlad_wire::msg::execute::{Accepted, Executed, GuardState};
use vlad_wire::msg::health::Alive;
use vlad_wire::msg::think::Chunk;

use super::guard::commands::Reply;
use super::guard::notice::Notice;
use super::guard::{Beat, Failure, Guard};
use super::settings::{GuardConfig, Shape};

/// What may wait for the next servo tick.
const INBOUND_MAX: usize = 64;
/// Samples that go round: half a second of servo ticks at 1 kHz.
const SAMPLES: usize = 512;
/// What may wait for the bus side: all samples, and what else they may have with them.
const OUTBOUND_MAX: usize = 2 * SAMPLES;

/// Longest stop of any robot, and some: after it the thread ends and the vendor's watchdog acts.
const WIND_DOWN_NS: u64 = 3 * SECOND;

/// What goes to the guard.
#[derive(Debug)]
pub enum Inbound {
    /// A chunk.
    Chunk(Box<Chunk>),
    /// A heartbeat.
    Heard(Box<Alive>),
    /// A challenge that was sent.
    Challenged(u64),
    /// The end of a role's liveliness token.
    Died(Role, u64),
    /// A command, and the number that its answer will carry.
    Ask(u64, Box<Ask>),
}

/// A command.
#[derive(Debug)]
pub enum Ask {
    /// See [`Lease`].
    Lease(Lease),
    /// See [`Rearm`].
    Rearm(Rearm),
    /// See [`Resume`].
    Resume(Resume),
    /// See [`Pause`].
    Pause(Pause),
    /// See [`Park`].
    Park(Park),
    /// See [`Speed`].
    Speed(Speed),
    /// See [`Estop`].
    Estop(Estop),
    /// See [`Reset`].
    Reset(Reset),
}

/// What comes from the guard. Whatever owns memory goes back to the bus side to be freed: the
/// servo path frees nothing, as it allocates nothing.
#[derive(Debug)]
pub enum Outbound {
    /// One servo tick.
    Sample(Box<Sample>),
    /// What became of a command, with its number.
    Answer(u64, Box<Ask>, Reply),
    /// A chunk or a heartbeat that is no longer needed.
    Spent(Inbound),
    /// Something worth a line.
    Notice(Notice),
}

/// What one servo tick gave. Made once and used again and again.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What was commanded and measured.
    pub executed: Executed,
    /// The robot's stamp.
    pub sampled_at_ns: u64,
    /// Measured speeds, by degree of freedom.
    pub velocity: Vec<f64>,
    /// Since when the robot stands still.
    pub still_since_ns: Option<u64>,
    /// Speed fraction of this policy tick.
    pub rate: f64,
    /// Whether the mode or its reason changed.
    pub changed: bool,
    /// Whether [`Sample::accepted`] and [`Sample::state`] are this tick's: at a change, and at the
    /// first servo tick of a policy tick.
    pub whole: bool,
    /// The buffer.
    pub accepted: Accepted,
    /// The guard's state.
    pub state: GuardState,
}

/// The guard with its robot.
pub struct ServoLoop {
    guard: Guard,
    robot: Box<dyn Robot>,
    measured: Measured,
    inbound: Receiver<Inbound>,
    outbound: SyncSender<Outbound>,
    spare: Receiver<Box<Sample>>,
    meter: TickMeter,
    dropped: u64,
}

/// The bus side's ends of the channels.
#[derive(Debug)]
pub struct ServoLink {
    /// To the guard.
    pub inbound: SyncSender<Inbound>,
    /// From the guard.
    pub outbound: Receiver<Outbound>,
    /// Samples that were read, to be used again.
    pub spare: SyncSender<Box<Sample>>,
}

impl ServoLoop {
    /// Reads the robot's pose and makes a disarmed guard of it.
    ///
    /// # Errors
    /// [`RobotError`] if the robot cannot be read, has another number of degrees of freedom, or has
    /// no watchdog that would stop it without us and is no simulation (E12).
    pub fn new(
        cell: CellId,
        config: GuardConfig,
        shape: Shape,
        mut robot: Box<dyn Robot>,
    ) -> Result<(Self, ServoLink), RobotError> {
        let n_dofs = shape.limits.len();
        check_robot(robot.as_ref(), n_dofs)?;
        let mut measured = Measured {
            sampled_at_ns: 0,
            position: vec![0.0; n_dofs],
            velocity: vec![0.0; n_dofs],
        };
        robot.read(&mut measured)?;
        if !measured.position.iter().all(|x| x.is_finite()) {
            return Err(RobotError::Driver(
                "it measures a position that is no number".to_owned(),
            ));
        }
        let (in_tx, inbound) = sync_channel(INBOUND_MAX);
        let (outbound, out_rx) = sync_channel(OUTBOUND_MAX);
        let (spare_tx, spare) = sync_channel(SAMPLES);
        let guard = Guard::new(cell, config, shape, &measured);
        for _ in 0..SAMPLES {
            // There is room for all of them.
            drop(spare_tx.try_send(Box::new(guard.empty_sample())));
        }
        let servo = Self {
            guard,
            robot,
            measured,
            inbound,
            outbound,
            spare,
            meter: TickMeter::default(),
            dropped: 0,
        };
        Ok((
            servo,
            ServoLink {
                inbound: in_tx,
                outbound: out_rx,
                spare: spare_tx,
            },
        ))
    }

    /// Runs one servo tick. Gives `false` when the bus side is gone.
    pub fn beat(&mut self, beat: Beat) -> bool {
        let connected = self.take_inbound(beat.now_ns);
        let read = self.robot.read(&mut self.measured);
        let state = match &read {
            Ok(()) => Ok(&self.measured),
            Err(error) => Err(Failure::of(error)),
        };
        let flags = self.guard.servo(beat, state);
        if let Err(error) = self.robot.command(self.guard.command_now()) {
            self.guard.robot_failed(Failure::of(&error), beat.now_ns);
        }
        self.report(beat, flags);
        connected
    }

    /// Brings motion to an end, because the bus side is ending or gone; `true` at standstill.
    pub(crate) fn wind_down(&mut self, now_ns: u64) -> bool {
        self.guard.wind_down(now_ns);
        self.guard.still_since_ns().is_some()
    }

    fn take_inbound(&mut self, now_ns: u64) -> bool {
        loop {
            let inbound = match self.inbound.try_recv() {
                Ok(inbound) => inbound,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            };
            match &inbound {
                Inbound::Chunk(chunk) => {
                    self.guard.chunk(chunk, now_ns);
                }
                Inbound::Heard(alive) => self.guard.heard(alive, now_ns),
                Inbound::Challenged(challenge) => self.guard.challenged(*challenge),
                Inbound::Died(role, session) => self.guard.died(*role, *session, now_ns),
                Inbound::Ask(_, _) => {}
            }
            if let Inbound::Ask(number, ask) = inbound {
                let reply = self.guard.ask(&ask, now_ns);
                self.send(Outbound::Answer(number, ask, reply));
            } else {
                self.send(Outbound::Spent(inbound));
            }
        }
    }

    fn report(&mut self, beat: Beat, flags: u32) {
        let ticks_per_s = self.meter.ticks_per_s(self.guard.tick(), beat.now_ns);
        while let Some(notice) = self.guard.next_notice() {
            self.send(Outbound::Notice(notice));
        }
        let Ok(mut sample) = self.spare.try_recv() else {
            self.dropped += 1;
            return;
        };
        self.guard.fill(&mut sample, beat, flags);
        sample.state.ticks_per_s = ticks_per_s;
        sample.state.counters.dropped = self.dropped;
        self.send(Outbound::Sample(sample));
    }

    fn send(&mut self, outbound: Outbound) {
        if let Err(TrySendError::Full(_)) = self.outbound.try_send(outbound) {
            self.dropped += 1;
        }
    }
}

/// Longest time after which a robot's controller must stop it by itself (E12).
const WATCHDOG_MAX: Duration = Duration::from_millis(200);

fn check_robot(robot: &dyn Robot, n_dofs: usize) -> Result<(), RobotError> {
    if robot.n_dofs() != n_dofs {
        let text = format!("it has {} dofs, its description {n_dofs}", robot.n_dofs());
        return Err(RobotError::Driver(text));
    }
    let watched = robot.watchdog().is_some_and(|after| after <= WATCHDOG_MAX);
    if watched {
        Ok(())
    } else {
        let text = "its controller has no watchdog that stops it within 200 ms without commands";
        Err(RobotError::Driver(text.to_owned()))
    }
}

/// Counts policy ticks over the last second or so.
#[derive(Debug, Default)]
struct TickMeter {
    since: Option<(Tick, u64)>,
    last: f64,
}

impl TickMeter {
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "ticks and nanoseconds of one second fit in 53 bits"
    )]
    fn ticks_per_s(&mut self, tick: Tick, now_ns: u64) -> f64 {
        let (tick_then, then_ns) = *self.since.get_or_insert((tick, now_ns));
        let passed_ns = now_ns.saturating_sub(then_ns);
        if SECOND <= passed_ns {
            self.last = (tick - tick_then) as f64 * 1e9 / passed_ns as f64;
            self.since = Some((tick, now_ns));
        }
        self.last
    }
}

/// How the servo thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadPlan {
    /// Priority under `SCHED_FIFO`, 1 to 99; 0 leaves the thread as ordinary as any other.
    pub priority: u8,
    /// Whether all memory of the process is locked, so that no page of the servo path is ever read
    /// from a disk.
    pub locks_memory: bool,
}

/// The thread of a servo loop; asked to end when dropped, and joined.
#[derive(Debug)]
pub struct ServoThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ServoThread {
    /// Starts the thread, and one that wakes the bus side for it.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread, or denies priority or locked memory.
    pub fn start(
        servo: ServoLoop,
        clock: SharedClock,
        waker: Waker,
        plan: ThreadPlan,
    ) -> std::io::Result<Self> {
        if plan.locks_memory {
            rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let bell = Bell::start(waker)?;
        let (ready_tx, ready_rx) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("servo".to_owned())
            .spawn(move || {
                let granted = raise(plan.priority);
                let runs = granted.is_ok();
                // The starter waits for it.
                drop(ready_tx.send(granted));
                if runs {
                    run(servo, &clock, &stopped, &bell);
                }
            })?;
        let granted = ready_rx.recv();
        let started = Self {
            stop,
            thread: Some(thread),
        };
        match granted {
            Ok(Ok(())) => Ok(started),
            Ok(Err(text)) => Err(std::io::Error::other(text)),
            Err(_) => Err(std::io::Error::other("the servo thread ended at once")),
        }
    }

    /// Asks the thread to bring the robot to standstill and then to end.
    pub fn wind_down(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether the thread has ended, by a panic for instance.
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

fn raise(priority: u8) -> Result<(), String> {
    if priority == 0 {
        return Ok(());
    }
    let denied = |error: &dyn std::fmt::Debug| {
        format!(
            "the system denies real-time priority {priority} ({error:?}): set LimitRTPRIO, or \
             guard.realtime_priority = 0"
        )
    };
    let value = ThreadPriorityValue::try_from(priority).map_err(|error| denied(&error))?;
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(value),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
    .map_err(|error| denied(&error))
}

fn run(mut servo: ServoLoop, clock: &SharedClock, stopped: &AtomicBool, bell: &Bell) {
    let period_ns = servo.guard.servo_ns();
    let mut scheduled_ns = clock.now_ns();
    let mut ending_since_ns = None;
    loop {
        scheduled_ns += period_ns;
        sleep_until(scheduled_ns);
        let now_ns = clock.now_ns();
        let connected = servo.beat(Beat {
            scheduled_ns,
            now_ns,
            suspended_ns: suspended_ns(),
        });
        bell.ring();
        if !connected || stopped.load(Ordering::Acquire) {
            let since_ns = *ending_since_ns.get_or_insert(now_ns);
            if servo.wind_down(now_ns) || since_ns + WIND_DOWN_NS < now_ns {
                break;
            }
        }
        // No catch-up burst: what was missed is missed, and counted as lateness.
        let behind = now_ns.saturating_sub(scheduled_ns) / period_ns;
        scheduled_ns += behind * period_ns;
    }
}

/// How long the machine has been suspended since it started: the monotonic clock stands still then,
/// the other does not.
fn suspended_ns() -> u64 {
    let ns = |id| {
        let at = clock_gettime(id);
        let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
        seconds * SECOND + u64::try_from(at.tv_nsec).unwrap_or(0)
    };
    // The later one first: the difference can only come out smaller than it is.
    let boot_ns = ns(ClockId::Boottime);
    boot_ns.saturating_sub(ns(ClockId::Monotonic))
}

/// Wakes the bus side from a thread of its own: a waker takes a lock, unparking a thread does not.
#[derive(Debug)]
struct Bell {
    ringer: Thread,
    ends: Arc<AtomicBool>,
}

impl Bell {
    fn start(waker: Waker) -> std::io::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = std::thread::Builder::new()
            .name("servo-bell".to_owned())
            .spawn(move || {
                while !ended.load(Ordering::Acquire) {
                    std::thread::park();
                    waker.wake();
                }
            })?;
        Ok(Self {
            ringer: thread.thread().clone(),
            ends,
        })
    }

    fn ring(&self) {
        self.ringer.unpark();
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        self.ring();
    }
}

impl Drop for ServoThread {
    fn drop(&mut self) {
        self.wind_down();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was already seen as its end.
            drop(thread.join());
        }
    }
}

/// Sleeps until an absolute time of the monotonic clock, so that errors do not add up.
fn sleep_until(at_ns: u64) {
    let at = rustix::thread::Timespec {
        tv_sec: i64::try_from(at_ns / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at_ns % SECOND).unwrap_or(0),
    };
    while clock_nanosleep_absolute(ClockId::Monotonic, &at) == Err(Errno::INTR) {}
}
