//! The guard's own thread: an absolute schedule, the robot, and two bounded channels.
//!
//! The same [`ServoLoop`] runs on a thread (real time) and under `stepped` (virtual time). What
//! does not fit in a channel is dropped and counted: the servo path never waits for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use vlad_bus::waker::Waker;
use vlad_cell::robot::{Measured, Robot, RobotError};
use vlad_wire::clock::{SECOND, SharedClock};
use vlad_wire::id::{CellId, Role, Tick};
use vlad_wire::msg::command::{Answer, Estop, Lease, Pause, Rearm, Reset, Resume};
use vlad_wire::msg::execute::{Accepted, Executed, GuardState};
use vlad_wire::msg::health::Alive;
use vlad_wire::msg::think::Chunk;

use super::guard::{Beat, Guard, Notice};
use super::settings::{GuardConfig, Shape};

/// What may wait for the next servo tick.
const INBOUND_MAX: usize = 64;
/// What may wait for the bus side: half a second of servo ticks at 1 kHz.
const OUTBOUND_MAX: usize = 512;

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
    Ask(u64, Ask),
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
    /// See [`Estop`].
    Estop(Estop),
    /// See [`Reset`].
    Reset(Reset),
    /// A command that this guard does not offer.
    Other,
}

/// What comes from the guard.
#[derive(Debug)]
pub enum Outbound {
    /// One servo tick.
    Sample(Box<Sample>),
    /// An answer with its command's number.
    Answer(u64, Answer),
    /// The mode or its reason changed.
    Changed(Box<GuardState>),
    /// Something worth a line.
    Notice(Notice),
}

/// What one servo tick gave.
#[derive(Debug)]
pub struct Sample {
    /// What was commanded and measured.
    pub executed: Executed,
    /// The robot's stamp.
    pub sampled_at_ns: u64,
    /// Measured speeds, by degree of freedom.
    pub velocity: Vec<f64>,
    /// Since when the robot stands still.
    pub still_since_ns: Option<u64>,
    /// At the first servo tick of a policy tick: buffer and state.
    pub tick: Option<Box<(Accepted, GuardState)>>,
}

/// The guard with its robot.
pub struct ServoLoop {
    guard: Guard,
    robot: Box<dyn Robot>,
    measured: Measured,
    inbound: Receiver<Inbound>,
    outbound: SyncSender<Outbound>,
    waker: Waker,
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
}

impl ServoLoop {
    /// Reads the robot's pose and makes a disarmed guard of it.
    ///
    /// # Errors
    /// [`RobotError`] if the robot cannot be read, or has another number of degrees of freedom.
    pub fn new(
        cell: CellId,
        config: GuardConfig,
        shape: Shape,
        mut robot: Box<dyn Robot>,
        waker: Waker,
    ) -> Result<(Self, ServoLink), RobotError> {
        let n_dofs = shape.limits.len();
        if robot.n_dofs() != n_dofs {
            let text = format!("it has {} dofs, its description {n_dofs}", robot.n_dofs());
            return Err(RobotError::Driver(text));
        }
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
        let guard = Guard::new(cell, config, shape, &measured);
        let meter = TickMeter::default();
        let servo = Self {
            guard,
            robot,
            measured,
            inbound,
            outbound,
            waker,
            meter,
            dropped: 0,
        };
        Ok((
            servo,
            ServoLink {
                inbound: in_tx,
                outbound: out_rx,
            },
        ))
    }

    /// Runs one servo tick. Gives `false` when the bus side is gone.
    pub fn beat(&mut self, beat: Beat) -> bool {
        let connected = self.take_inbound(beat.now_ns);
        let read = self.robot.read(&mut self.measured).is_ok();
        let executed = self.guard.servo(beat, read.then_some(&self.measured));
        if self.robot.command(self.guard.command_now()).is_err() {
            self.guard.robot_failed(beat.now_ns);
        }
        self.report(executed, beat.now_ns);
        connected
    }

    /// Brings motion to an end, because the bus side is ending or gone; `true` at standstill.
    fn wind_down(&mut self, now_ns: u64) -> bool {
        self.guard.wind_down(now_ns);
        self.guard.still_since_ns().is_some()
    }

    fn take_inbound(&mut self, now_ns: u64) -> bool {
        loop {
            match self.inbound.try_recv() {
                Ok(Inbound::Chunk(chunk)) => {
                    self.guard.chunk(&chunk, now_ns);
                }
                Ok(Inbound::Heard(alive)) => self.guard.heard(&alive, now_ns),
                Ok(Inbound::Challenged(challenge)) => self.guard.challenged(challenge),
                Ok(Inbound::Died(role, session)) => self.guard.died(role, session, now_ns),
                Ok(Inbound::Ask(number, ask)) => {
                    let answer = self.answer(&ask, now_ns);
                    self.send(Outbound::Answer(number, answer));
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn answer(&mut self, ask: &Ask, now_ns: u64) -> Answer {
        match ask {
            Ask::Lease(lease) => self.guard.lease(lease, now_ns),
            Ask::Rearm(rearm) => self.guard.rearm(rearm, now_ns),
            Ask::Resume(resume) => self.guard.resume(resume, now_ns),
            Ask::Pause(pause) => self.guard.pause(pause, now_ns),
            Ask::Estop(estop) => self.guard.estop(estop, now_ns),
            Ask::Reset(reset) => self.guard.reset(reset, now_ns),
            Ask::Other => self.guard.decline(),
        }
    }

    fn report(&mut self, executed: Executed, now_ns: u64) {
        let (notices, changed) = self.guard.take_notices();
        let ticks_per_s = self.meter.ticks_per_s(executed.tick, now_ns);
        if changed {
            let state = self.guard.guard_state(now_ns, ticks_per_s);
            self.send(Outbound::Changed(Box::new(state)));
        }
        for notice in notices {
            self.send(Outbound::Notice(notice));
        }
        let tick = (changed || self.guard.tick_begins()).then(|| {
            let state = self.guard.guard_state(now_ns, ticks_per_s);
            Box::new((self.guard.accepted(now_ns), state))
        });
        self.send(Outbound::Sample(Box::new(Sample {
            executed,
            sampled_at_ns: self.guard.measured().sampled_at_ns,
            velocity: self.guard.measured().velocity.clone(),
            still_since_ns: self.guard.still_since_ns(),
            tick,
        })));
        self.waker.wake();
    }

    fn send(&mut self, outbound: Outbound) {
        if let Err(TrySendError::Full(_)) = self.outbound.try_send(outbound) {
            self.dropped += 1;
        }
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

/// The thread of a servo loop; asked to end when dropped, and joined.
#[derive(Debug)]
pub struct ServoThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ServoThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says when it cannot start a thread.
    pub fn start(mut servo: ServoLoop, clock: SharedClock) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let period_ns = servo.guard.servo_ns();
        let thread = std::thread::Builder::new()
            .name("servo".to_owned())
            .spawn(move || {
                let mut scheduled_ns = clock.now_ns();
                let mut ending_since_ns = None;
                loop {
                    scheduled_ns += period_ns;
                    sleep_until(scheduled_ns);
                    let now_ns = clock.now_ns();
                    let connected = servo.beat(Beat {
                        scheduled_ns,
                        now_ns,
                    });
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
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
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
