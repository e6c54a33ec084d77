//! The guard: the only part that may command the robot. Pure: it is told the time, the measured
//! state and what arrived, and gives the command of each servo tick.
//!
//! | | |
//! |---|---|
//! | in | chunks, commands, heartbeats, ends of liveliness tokens, measured state |
//! | out | one position by degree of freedom a servo tick; [`Notice`]s |
//! | period | servo rate; a policy tick is `servo_per_tick` of them |
//! | fails safe | every tick ends with an admitted target or a step of the stop |

use std::mem;

use vlad_cell::robot::Measured;
use vlad_motion::buffer::{Action, ChunkBuffer};
use vlad_motion::interpolate::Segment;
use vlad_safety::envelope::{admit, brake, flag};
use vlad_safety::mode::{Event, Mode, State, transition};
use vlad_wire::clock::MS;
use vlad_wire::id::{CellId, ChunkId, Epoch, Role, TaskId, Tick};
use vlad_wire::msg::execute::{Accepted, Executed, GuardCounters, GuardState, Source};
use vlad_wire::msg::health::{Alive, Severity};
use vlad_wire::msg::think::Digest;

use super::settings::{GuardConfig, Shape};
use super::watch::Watch;

mod chunks;
mod commands;

/// Slowest joint that still counts as moving, radians per second; encoders and contact jitter.
const STILL_RAD_S: f64 = 0.02;
/// The same for grippers, metres per second.
const STILL_M_S: f64 = 0.02;
/// Missing ticks in a row that end motion (reference B.5).
const MISSING_MAX: u32 = 2;
/// Kind of the event that says that a chunk was refused; the expert listens for it.
pub const CHUNK_REFUSED: &str = "chunk_refused";
/// Notices kept between two servo ticks; more are counted by the counters alone.
const NOTICES_MAX: usize = 32;

/// The lease that the guard granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    epoch: Epoch,
    task: TaskId,
    attempt: u32,
    ttl_ns: u64,
    expires_ns: u64,
}

/// Something worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What kind.
    pub kind: &'static str,
    /// How bad.
    pub severity: Severity,
    /// For a person.
    pub text: String,
    /// What to do about it.
    pub advice: Option<&'static str>,
    /// The chunk that it concerns.
    pub chunk: Option<ChunkId>,
    /// The task that held the lease then, with its try.
    pub task: Option<(TaskId, u32)>,
}

/// When a servo tick should have begun and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// By the absolute schedule.
    pub scheduled_ns: u64,
    /// By the clock.
    pub now_ns: u64,
}

/// What the last accepted chunk of a lease was, to refuse what does not follow it.
#[derive(Debug, Clone, Default)]
struct Lineage {
    seq: u64,
    obs_seq: Option<u64>,
    hashes: Option<(Digest, Digest)>,
    unsound_in_row: u32,
}

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
    segment: Segment,
    playing: Option<(ChunkId, u16)>,
    missing: u32,
    tick: Tick,
    step: u32,
    servo_tick: u64,
    played: u64,
    command: Vec<f64>,
    velocity: Vec<f64>,
    measured: Measured,
    still_since_ns: Option<u64>,
    blind_since_ns: Option<u64>,
    late_in_row: u32,
    counters: GuardCounters,
    notices: Vec<Notice>,
    changed: bool,
}

impl Guard {
    /// Makes a disarmed guard that commands the pose it finds.
    pub fn new(cell: CellId, config: GuardConfig, shape: Shape, found: &Measured) -> Self {
        let n_dofs = shape.limits.len();
        Self {
            cell,
            config,
            state: State::START,
            since_ns: found.sampled_at_ns,
            epoch: 0,
            lease: None,
            lineage: Lineage::default(),
            watch: Watch::default(),
            buffer: ChunkBuffer::default(),
            segment: Segment::default(),
            playing: None,
            missing: 0,
            tick: 0,
            step: 0,
            servo_tick: 0,
            played: 0,
            command: found.position.clone(),
            velocity: vec![0.0; n_dofs],
            measured: found.clone(),
            still_since_ns: None,
            blind_since_ns: None,
            late_in_row: 0,
            counters: GuardCounters::default(),
            notices: Vec::new(),
            changed: true,
            shape,
        }
    }

    /// Runs one servo tick: everything due by time, then one command. `None` as sample means that
    /// the robot could not be read; a sample with numbers that are none counts as the same.
    pub fn servo(&mut self, beat: Beat, sample: Option<&Measured>) -> Executed {
        let timely = |sample: &&Measured| self.is_timely(sample, beat.now_ns);
        match sample.filter(|sample| self.is_sound(sample)).filter(timely) {
            Some(sample) => self.measured.clone_from(sample),
            None => self.apply(Event::RobotError, beat.now_ns),
        }
        let mut flags = self.note_lateness(beat);
        self.follow_time(beat.now_ns);
        self.servo_tick += 1;
        self.step += 1;
        if self.shape.servo_per_tick < self.step {
            self.step = 1;
            self.tick += 1;
            self.begin_tick(beat.now_ns);
        }
        flags |= self.move_one_step();
        self.note_standstill(beat.now_ns);
        self.executed(beat, flags)
    }

    /// The positions to command, by degree of freedom.
    pub fn command_now(&self) -> &[f64] {
        &self.command
    }

    /// The mode and its reason.
    pub fn state(&self) -> State {
        self.state
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
    pub fn robot_failed(&mut self, now_ns: u64) {
        self.apply(Event::RobotError, now_ns);
    }

    /// Gives what happened since the last call, and whether the state changed.
    pub fn take_notices(&mut self) -> (Vec<Notice>, bool) {
        (mem::take(&mut self.notices), mem::take(&mut self.changed))
    }

    /// Period of the servo loop.
    pub fn servo_ns(&self) -> u64 {
        self.shape.servo_ns
    }

    /// Whether the policy tick has just begun.
    pub fn tick_begins(&self) -> bool {
        self.step == 1
    }

    /// Since when the robot stands still.
    pub fn still_since_ns(&self) -> Option<u64> {
        self.still_since_ns
    }

    /// The newest sound sample.
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// The buffer of accepted future targets.
    pub fn accepted(&self, now_ns: u64) -> Accepted {
        let newest = self.buffer.newest();
        let rows = self
            .buffer
            .ahead()
            .flat_map(|action| self.shape.slots.to_slots(&action.target));
        Accepted {
            epoch: self.epoch,
            sampled_at_ns: now_ns,
            tick: self.tick,
            mode: self.state.mode,
            reason: self.state.reason,
            chunk: newest.map(|(chunk, _)| chunk),
            strategy: newest.map(|(_, strategy)| strategy),
            played: self.played,
            width: u16::try_from(self.shape.slots.width()).unwrap_or(u16::MAX),
            rows: rows.collect(),
        }
    }

    /// The state for the stream `guard`; `ticks_per_s` is measured outside.
    pub fn guard_state(&self, now_ns: u64, ticks_per_s: f64) -> GuardState {
        GuardState {
            mode: self.state.mode,
            reason: self.state.reason,
            since_ns: self.since_ns,
            sent_at_ns: now_ns,
            epoch: self.epoch,
            lease: self.lease.map(|held| held.task),
            tick: self.tick,
            ticks_per_s,
            counters: self.counters,
        }
    }

    /// Whether a sample is no older than its limit; a robot that repeats an old one is not known.
    fn is_timely(&self, sample: &Measured, now_ns: u64) -> bool {
        let limit_ns = u64::from(self.config.state_late_max) * self.shape.servo_ns;
        now_ns.saturating_sub(sample.sampled_at_ns) <= limit_ns
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

    fn begin_tick(&mut self, now_ns: u64) {
        if self.state.mode != Mode::Running {
            return;
        }
        match self.buffer.take(self.tick) {
            Some(action) => self.begin_action(&action, now_ns),
            None if self.buffer.plans_gap()
                && self.watch.thinks(now_ns, self.config.silence_ns()) =>
            {
                self.apply(Event::PlannedGap, now_ns);
            }
            None => {
                self.playing = None;
                self.missing += 1;
                self.counters.stalled += 1;
                if MISSING_MAX <= self.missing {
                    self.apply(Event::BufferEmpty, now_ns);
                }
            }
        }
    }

    fn begin_action(&mut self, action: &Action, now_ns: u64) {
        if self.config.action_age_ns() < now_ns.saturating_sub(action.captured_at_ns) {
            self.counters.stale += 1;
            self.apply(Event::ActionTooOld, now_ns);
            return;
        }
        self.missing = 0;
        self.played += 1;
        self.playing = Some((action.chunk, action.index));
        self.segment.begin(&self.command, &action.target);
    }

    /// Moves the command by one servo period: along the segment, or down the velocity ramp.
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a servo period has fewer than 2^53 nanoseconds"
    )]
    fn move_one_step(&mut self) -> u32 {
        let dt_s = self.shape.servo_ns as f64 / 1e9;
        let follows = self.state.mode == Mode::Running && self.playing.is_some();
        let mut flags = if follows { 0 } else { flag::STOP };
        let dofs = self
            .shape
            .limits
            .iter()
            .zip(&mut self.command)
            .zip(&mut self.velocity);
        for (dof, ((limits, command), velocity)) in dofs.enumerate() {
            let slower = brake(limits, *velocity, dt_s);
            if !follows && slower == 0.0 {
                // Whoever stands stays, also outside the limits: only a chunk walks back from there.
                *velocity = 0.0;
                continue;
            }
            let target = if follows {
                self.segment.at(dof, self.step, self.shape.servo_per_tick)
            } else {
                *command + slower * dt_s
            };
            let (admitted, changed) = admit(limits, *command, target, dt_s);
            *velocity = (admitted - *command) / dt_s;
            *command = admitted;
            flags |= changed;
        }
        let clamped = flag::POSITION_CLAMPED | flag::SPEED_CLAMPED | flag::NOT_FINITE;
        self.counters.clamped += u64::from(flags & clamped != 0);
        flags
    }

    fn is_sound(&self, sample: &Measured) -> bool {
        let sound = |list: &[f64]| {
            list.len() == self.shape.limits.len() && list.iter().all(|x| x.is_finite())
        };
        sound(&sample.position) && sound(&sample.velocity)
    }

    fn note_lateness(&mut self, beat: Beat) -> u32 {
        if beat.now_ns.saturating_sub(beat.scheduled_ns) <= self.shape.servo_ns {
            self.late_in_row = 0;
            return 0;
        }
        self.counters.late += 1;
        self.late_in_row += 1;
        if self.config.overrun_max <= self.late_in_row {
            self.apply(Event::ServoOverrun, beat.now_ns);
        }
        flag::LATE
    }

    fn note_standstill(&mut self, now_ns: u64) {
        let commanded = self.velocity.iter().all(|speed| *speed == 0.0);
        let mut dofs = self.measured.velocity.iter().zip(&self.shape.gripper);
        let measured = dofs
            .all(|(speed, gripper)| speed.abs() < if *gripper { STILL_M_S } else { STILL_RAD_S });
        if !(commanded && measured) {
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

    fn executed(&self, beat: Beat, flags: u32) -> Executed {
        let playing = if flags & flag::STOP == 0 {
            self.playing
        } else {
            None
        };
        Executed {
            tick: self.tick,
            servo_tick: self.servo_tick,
            epoch: self.epoch,
            scheduled_at_ns: beat.scheduled_ns,
            woke_at_ns: beat.now_ns,
            sent_at_ns: beat.now_ns,
            source: if playing.is_some() {
                Source::Policy
            } else {
                Source::Hold
            },
            chunk: playing.map(|(chunk, _)| chunk),
            index: playing.map(|(_, index)| index),
            command: self.command.clone(),
            measured: self.measured.position.clone(),
            flags,
            mode: self.state.mode,
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
        }
        let severity = match self.state.mode {
            Mode::Stopping | Mode::Stopped | Mode::Estopped => Severity::Warn,
            Mode::Fault => Severity::Error,
            Mode::Disarmed | Mode::Armed | Mode::Running | Mode::Hold => Severity::Info,
        };
        self.notice(Notice {
            kind: "mode_changed",
            severity,
            text: format!("{}: {}", self.state.mode, self.state.reason.meaning()),
            advice: Some(self.state.reason.what_to_do()),
            chunk: None,
            task: None,
        });
    }

    /// Keeps something worth a line, with the task that holds the lease.
    fn notice(&mut self, notice: Notice) {
        let task = self.lease.map(|held| (held.task, held.attempt));
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(Notice { task, ..notice });
        }
    }
}

#[cfg(test)]
mod tests;
