//! The guard: the only part that may command the robot. Pure: it is told the time, the measured
//! state and what arrived, and gives the command of each servo tick.
//!
//! | | |
//! |---|---|
//! | in | chunks, commands, heartbeats, ends of liveliness tokens, measured state |
//! | out | one position by degree of freedom a servo tick; [`Notice`]s |
//! | period | servo rate; at speed r a policy tick is `servo_per_tick / r` of them |
//! | fails safe | every tick ends with a motion that the envelope admitted, or a step of its stored stop |
//!
//! | module | holds |
//! |---|---|
//! | `chunks` | which chunks are taken: E1 to E9 |
//! | `commands` | what people and the gateway may ask |
//! | `motion` | from the buffer to the command of a servo tick |
//! | `report` | what the bus side is told |
//!
//! After construction nothing here allocates or frees.

use std::collections::VecDeque;

use vlad_cell::robot::{Measured, RobotError};
use vlad_motion::buffer::ChunkBuffer;
use vlad_motion::interpolate::Interpolator;
use vlad_safety::envelope::{Envelope, Motion, flag};
use vlad_safety::follow::{Following, plausible};
use vlad_safety::gripper::FlipFilter;
use vlad_safety::mode::{Event, Mode, State, transition};
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::{CellId, ChunkId, Epoch, Role, TaskId, Tick};
use vlad_wire::msg::execute::GuardCounters;
use vlad_wire::msg::health::Alive;

use super::settings::{GuardConfig, Shape};
use super::watch::Watch;
use motion::Pace;
use notice::{Notice, Words};

mod chunks;
pub mod commands;
mod motion;
pub mod notice;
mod report;

/// Slowest joint that still counts as moving, radians per second; encoders and contact jitter.
const STILL_RAD_S: f64 = 0.02;
/// The same for grippers, metres per second.
const STILL_M_S: f64 = 0.02;
/// Missing ticks in a row that end motion (reference B.5).
const MISSING_MAX: u32 = 2;
/// Kind of the event that says that a chunk was refused; the expert listens for it.
pub const CHUNK_REFUSED: &str = "chunk_refused";
/// Kind of the event that says that chunk after chunk contradicts the one before.
pub const CHUNKS_DISAGREE: &str = "chunks_disagree";
/// The same of a chunk that came after its prefix was over and would have jumped.
pub const CHUNK_LATE: &str = "chunk_late";
/// Notices kept between two servo ticks; more are counted by the counters alone.
const NOTICES_MAX: usize = 32;
/// A machine that was suspended for longer must not go on by itself (F23).
const SUSPENDED_MAX_NS: u64 = 100 * MS;

/// The lease that the guard granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    epoch: Epoch,
    task: TaskId,
    attempt: u32,
    ttl_ns: u64,
    expires_ns: u64,
}

/// When a servo tick should have begun and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// By the absolute schedule.
    pub scheduled_ns: u64,
    /// By the clock.
    pub now_ns: u64,
    /// How long the machine has been suspended since it started.
    pub suspended_ns: u64,
}

/// Why the robot could not be read or commanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The link or the driver failed.
    Robot,
    /// Its own controller stopped it: a protective or an emergency stop (F43).
    VendorStop,
}

impl Failure {
    /// Sorts a driver's error.
    pub fn of(error: &RobotError) -> Self {
        match error {
            RobotError::ProtectiveStop(_) => Self::VendorStop,
            RobotError::Disconnected | RobotError::Driver(_) => Self::Robot,
        }
    }

    fn event(self) -> Event {
        match self {
            Self::Robot => Event::RobotError,
            Self::VendorStop => Event::VendorStop,
        }
    }
}

/// What the last accepted chunk of a lease was, to refuse what does not follow it.
#[derive(Debug, Clone, Default)]
struct Lineage {
    seq: u64,
    obs_seq: Option<u64>,
    /// Hashes of model and normaliser; empty before the first chunk.
    hashes: [Vec<u8>; 2],
    unsound_in_row: u32,
}

impl Lineage {
    fn new() -> Self {
        Self {
            hashes: [0, 1].map(|_| Vec::with_capacity(HASH_MAX)),
            ..Self::default()
        }
    }

    /// Begins anew, keeping its memory.
    fn restart(&mut self) {
        self.hashes.iter_mut().for_each(Vec::clear);
        self.resume();
    }

    /// Begins anew under another epoch of the same task.
    fn resume(&mut self) {
        self.seq = 0;
        self.obs_seq = None;
        self.unsound_in_row = 0;
    }
}

/// Longest hash of a model, bytes.
const HASH_MAX: usize = 64;

/// The guard's whole state.
#[derive(Debug)]
pub struct Guard {
    cell: CellId,
    config: GuardConfig,
    shape: Shape,
    state: State,
    since_ns: u64,
    epoch: Epoch,
    lease: Option<Held>,
    lineage: Lineage,
    watch: Watch,
    buffer: ChunkBuffer,
    interpolator: Interpolator,
    envelope: Envelope,
    following: Following,
    /// By degree of freedom; `None` for what is no gripper.
    flips: Vec<Option<FlipFilter>>,
    pace: Pace,
    playing: Option<(ChunkId, u16)>,
    /// Chunks in a row that differed widely from what they replaced or would have (F33).
    disagreeing: u32,
    /// Earliest capture behind what is played.
    captured_at_ns: u64,
    missing: u32,
    /// Servo tick at which parking began.
    parking_since: u64,
    /// Servo ticks in a row whose motion the envelope refused.
    refused_in_row: u32,
    tick: Tick,
    servo_tick: u64,
    played: u64,
    /// Where the tick before should have ended and where this one should.
    before: Vec<f64>,
    target: Vec<f64>,
    /// A row that is judged, and the one before it.
    judged: Vec<f64>,
    before_row: Vec<f64>,
    wanted: Vec<Motion>,
    /// Positions of the envelope's motion: what the robot is told.
    command: Vec<f64>,
    measured: Measured,
    still_since_ns: Option<u64>,
    blind_since_ns: Option<u64>,
    suspended_ns: Option<u64>,
    late_in_row: u32,
    /// When the late servo ticks of the last second began.
    late_ns: VecDeque<u64>,
    counters: GuardCounters,
    notices: VecDeque<Notice>,
    changed: bool,
}

impl Guard {
    /// Makes a disarmed guard that commands the pose it finds.
    pub fn new(cell: CellId, config: GuardConfig, shape: Shape, found: &Measured) -> Self {
        let n_dofs = shape.limits.len();
        let flips = found.position.iter().zip(&shape.gripper);
        Self {
            cell,
            state: State::START,
            since_ns: found.sampled_at_ns,
            epoch: 0,
            lease: None,
            lineage: Lineage::new(),
            watch: Watch::default(),
            buffer: ChunkBuffer::new(n_dofs, config.late_chunk_rule),
            interpolator: Interpolator::new(&shape.limits, &shape.snaps),
            envelope: Envelope::new(shape.envelope(), &found.position),
            following: Following::new(shape.tolerance(&config), n_dofs),
            flips: flips
                .map(|(found, gripper)| gripper.then(|| shape.flip_filter(*found)))
                .collect(),
            pace: Pace::new(shape.servo_per_tick, shape.servo_ns),
            playing: None,
            disagreeing: 0,
            captured_at_ns: 0,
            missing: 0,
            parking_since: 0,
            refused_in_row: 0,
            tick: 0,
            servo_tick: 0,
            played: 0,
            before: found.position.clone(),
            target: found.position.clone(),
            judged: found.position.clone(),
            before_row: found.position.clone(),
            wanted: vec![Motion::default(); n_dofs],
            command: found.position.clone(),
            measured: found.clone(),
            still_since_ns: None,
            blind_since_ns: None,
            suspended_ns: None,
            late_in_row: 0,
            late_ns: VecDeque::with_capacity(to_usize(config.overrun_per_s_max)),
            counters: GuardCounters::default(),
            notices: VecDeque::with_capacity(NOTICES_MAX),
            changed: true,
            config,
            shape,
        }
    }

    /// Runs one servo tick: everything due by time, then one command. A sample with numbers that
    /// are none, that is old, or that no robot can have moved to counts as a robot that cannot be
    /// read. Gives the [`flag`]s.
    pub fn servo(&mut self, beat: Beat, sample: Result<&Measured, Failure>) -> u32 {
        match sample {
            Ok(sample) if self.is_sound(sample) && self.is_timely(sample, beat.now_ns) => {
                if self.is_plausible(sample) {
                    self.measure(sample);
                } else {
                    self.counters.implausible += 1;
                    self.apply(Event::Implausible, beat.now_ns);
                }
            }
            Ok(_) => self.apply(Event::RobotError, beat.now_ns),
            Err(failure) => self.apply(failure.event(), beat.now_ns),
        }
        let mut flags = self.note_lateness(beat);
        self.note_suspension(beat);
        self.follow_time(beat.now_ns);
        self.servo_tick += 1;
        if self.pace.advance() {
            self.tick += 1;
            self.begin_tick(beat.now_ns);
        }
        self.note_age(beat.now_ns);
        flags |= self.move_one_step(beat.now_ns);
        self.note_following(beat.now_ns);
        self.note_standstill(beat.now_ns);
        flags
    }

    /// The positions to command, by degree of freedom.
    pub fn command_now(&self) -> &[f64] {
        &self.command
    }

    /// The mode and its reason.
    pub fn state(&self) -> State {
        self.state
    }

    /// The policy tick.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Takes a heartbeat.
    pub fn heard(&mut self, alive: &Alive, now_ns: u64) {
        self.watch.heard(alive, now_ns);
    }

    /// Remembers a challenge that was sent.
    pub fn challenged(&mut self, challenge: u64) {
        self.watch.challenged(challenge);
    }

    /// Takes the end of a role's liveliness token.
    pub fn died(&mut self, role: Role, session: u64, now_ns: u64) {
        if !self.watch.died(role, session) {
            return;
        }
        match role {
            Role::Brain => self.apply(Event::BrainDied, now_ns),
            Role::ActionExpert => self.apply(Event::ExpertDied, now_ns),
            // Perception's silence is followed by time, like its unfitness.
            Role::Perception | Role::Actuator | Role::Recorder | Role::Gateway => {}
        }
    }

    /// Brings motion to hold because nobody is left to speak to: the bus side is ending or gone.
    pub fn wind_down(&mut self, now_ns: u64) {
        self.lease = None;
        self.apply(Event::LeaseLost, now_ns);
    }

    /// Takes the robot's refusal of a command.
    pub fn robot_failed(&mut self, failure: Failure, now_ns: u64) {
        self.apply(failure.event(), now_ns);
    }

    /// Gives the oldest thing worth a line that was not given yet.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Period of the servo loop.
    pub fn servo_ns(&self) -> u64 {
        self.shape.servo_ns
    }

    /// Since when the robot stands still.
    pub fn still_since_ns(&self) -> Option<u64> {
        self.still_since_ns
    }

    /// The newest sound sample.
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// Keeps a sound sample. By parts: a derived `clone_from` would take new memory for each list.
    fn measure(&mut self, sample: &Measured) {
        self.measured.sampled_at_ns = sample.sampled_at_ns;
        self.measured.position.clone_from(&sample.position);
        self.measured.velocity.clone_from(&sample.velocity);
    }

    /// Whether a sample is younger than its limit, so that a robot which repeats its last one is known in
    /// as many servo ticks; a robot that repeats an old one is not known.
    fn is_timely(&self, sample: &Measured, now_ns: u64) -> bool {
        let limit_ns = u64::from(self.config.state_late_max) * self.shape.servo_ns;
        now_ns.saturating_sub(sample.sampled_at_ns) < limit_ns
    }

    fn is_sound(&self, sample: &Measured) -> bool {
        let sound = |list: &[f64]| {
            list.len() == self.shape.limits.len() && list.iter().all(|x| x.is_finite())
        };
        sound(&sample.position) && sound(&sample.velocity)
    }

    /// Whether the joints can have moved from the last sound sample to this one (F41).
    fn is_plausible(&self, sample: &Measured) -> bool {
        let passed_ns = sample
            .sampled_at_ns
            .saturating_sub(self.measured.sampled_at_ns);
        let dt_s = seconds(passed_ns.max(self.shape.servo_ns));
        let (before, now) = (&self.measured.position, &sample.position);
        plausible(before, now, &self.shape.plausible, dt_s)
    }

    /// Everything that time alone decides: silence, leases, time-outs.
    fn follow_time(&mut self, now_ns: u64) {
        if self.lease.is_some_and(|held| held.expires_ns <= now_ns) {
            self.lease = None;
            self.apply(Event::LeaseLost, now_ns);
        }
        if self.watch.sees(now_ns, self.config.silence_ns()) {
            self.blind_since_ns = None;
        } else {
            let blind_since_ns = *self.blind_since_ns.get_or_insert(now_ns);
            self.apply(Event::Unfit, now_ns);
            // Counted from the hold at the earliest: an idle cell may be blind for as long as it likes.
            let since_ns = blind_since_ns.max(self.since_ns);
            if u64::from(self.config.unfit_timeout_ms) * MS <= now_ns.saturating_sub(since_ns) {
                self.apply(Event::UnfitTimedOut, now_ns);
            }
        }
        let held_ns = now_ns.saturating_sub(self.since_ns);
        if self.state.mode == Mode::Hold && u64::from(self.config.think_timeout_ms) * MS <= held_ns
        {
            self.apply(Event::ThinkTimedOut, now_ns);
        }
    }

    fn note_lateness(&mut self, beat: Beat) -> u32 {
        let second_ago_ns = beat.now_ns.saturating_sub(SECOND);
        while self.late_ns.front().is_some_and(|at| *at < second_ago_ns) {
            self.late_ns.pop_front();
        }
        if beat.now_ns.saturating_sub(beat.scheduled_ns) <= self.shape.servo_ns {
            self.late_in_row = 0;
            return 0;
        }
        self.counters.late += 1;
        self.late_in_row += 1;
        if self.late_ns.len() < to_usize(self.config.overrun_per_s_max) {
            self.late_ns.push_back(beat.now_ns);
        }
        let often = to_usize(self.config.overrun_per_s_max) <= self.late_ns.len();
        if self.config.overrun_max <= self.late_in_row || often {
            self.apply(Event::ServoOverrun, beat.now_ns);
        }
        flag::LATE
    }

    fn note_suspension(&mut self, beat: Beat) {
        let before_ns = self.suspended_ns.replace(beat.suspended_ns);
        let gap_ns = beat
            .suspended_ns
            .saturating_sub(before_ns.unwrap_or(beat.suspended_ns));
        if SUSPENDED_MAX_NS < gap_ns {
            self.apply(Event::ClockGap, beat.now_ns);
        }
    }

    /// E11: what moves must follow what it is told.
    fn note_following(&mut self, now_ns: u64) {
        if self
            .following
            .note(&self.command, &self.measured.position)
            .is_some()
        {
            self.apply(Event::FollowingError, now_ns);
            self.following.restart();
        }
    }

    fn note_standstill(&mut self, now_ns: u64) {
        let mut dofs = self.measured.velocity.iter().zip(&self.shape.gripper);
        let measured = dofs
            .all(|(speed, gripper)| speed.abs() < if *gripper { STILL_M_S } else { STILL_RAD_S });
        if !(self.envelope.still() && measured) {
            self.still_since_ns = None;
            return;
        }
        if self.still_since_ns.is_none() {
            self.still_since_ns = Some(now_ns);
        }
        if self.state.mode == Mode::Stopping {
            self.apply(Event::Standstill, now_ns);
        }
    }

    /// The one place where the mode changes.
    fn apply(&mut self, event: Event, now_ns: u64) {
        let before = self.state;
        self.state = transition(before, event);
        if self.state == before {
            return;
        }
        self.changed = true;
        self.since_ns = now_ns;
        if before.mode == Mode::Running {
            self.buffer.clear();
            self.playing = None;
            self.missing = 0;
            self.refused_in_row = 0;
        }
        // A hold for a chunk that jumped does not end what it began (F33).
        let plays_on = matches!(
            self.state.reason,
            Reason::Playing | Reason::FirstCommandJump
        );
        if !plays_on {
            self.disagreeing = 0;
            self.pace.caution = 1.0;
        }
        let stop_s = self.envelope.stop_time_s();
        self.notice(Notice::mode_changed(self.state, stop_s));
    }

    /// Keeps something worth a line, with the task that holds the lease.
    fn notice(&mut self, notice: Notice) {
        let task = self.lease.map(|held| (held.task, held.attempt));
        if self.notices.len() < NOTICES_MAX {
            self.notices.push_back(Notice { task, ..notice });
        }
    }
}

/// Nanoseconds in seconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "spans of a motion have fewer than 2^53 nanoseconds"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
