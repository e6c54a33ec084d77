//! The guard's modes and their one transition function.
//!
//! ```text
//!              rearm            chunk              planned gap, unfit, lease, pause
//!  disarmed ─────────► armed ─────────► running ─────────────────────────────► hold
//!     ▲                  ▲                 │  ▲                                 │ │
//!     │                  │ rearm           │  └──────────── chunk ──────────────┘ │
//!     │               stopped ◄── still ── stopping ◄── loss, time-out ───────────┘
//!     │ reset
//!     └────────── estopped, fault   (latched; reached from every mode)
//! ```
//!
//! Parking is `running` too, with a reason of its own: out of armed, stopped, or a hold that no task
//! has. It takes no chunks, and no loss of brain, expert, perception or lease concerns it.

use std::fmt;
use std::str::FromStr;

use crate::reason::{Reason, UnknownWord};

/// The guard's mode; the same words in code, on the wire and in REST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nobody has armed the guard: it commands nothing but the pose that it found.
    Disarmed,
    /// Ready for a first chunk.
    Armed,
    /// Playing accepted actions.
    Running,
    /// A controlled stop that the next valid chunk may leave.
    Hold,
    /// Braking after a loss.
    Stopping,
    /// Standing still after a loss; waits for a rearm.
    Stopped,
    /// Latched by an emergency stop.
    Estopped,
    /// Latched by a fault.
    Fault,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 8] = [
        Self::Disarmed,
        Self::Armed,
        Self::Running,
        Self::Hold,
        Self::Stopping,
        Self::Stopped,
        Self::Estopped,
        Self::Fault,
    ];

    /// The mode's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disarmed => "disarmed",
            Self::Armed => "armed",
            Self::Running => "running",
            Self::Hold => "hold",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Estopped => "estopped",
            Self::Fault => "fault",
        }
    }

    /// Whether only a named reset leaves the mode.
    pub fn latched(self) -> bool {
        matches!(self, Self::Estopped | Self::Fault)
    }

    /// Whether a chunk may be accepted at all.
    pub fn takes_chunks(self) -> bool {
        matches!(self, Self::Armed | Self::Running | Self::Hold)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or(UnknownWord)
    }
}

/// What happened to the guard. Epochs, poses and timers are checked before an event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A rearm with a new epoch and the expected pose.
    Rearm,
    /// A chunk passed every check; out of armed and hold E7 too.
    ChunkAccepted,
    /// The buffer ran out as planned: a slow strategy, and a decision is under way.
    PlannedGap,
    /// A planned gap lasted too long.
    ThinkTimedOut,
    /// Perception is unfit or silent.
    Unfit,
    /// Perception stayed so for too long.
    UnfitTimedOut,
    /// The buffer ran out unplanned.
    BufferEmpty,
    /// The next action exceeds the age limit.
    ActionTooOld,
    /// The brain is gone.
    BrainDied,
    /// The action expert is gone.
    ExpertDied,
    /// The lease ran out without renewal.
    LeaseLost,
    /// The lease was given back.
    LeaseReleased,
    /// A lease with a new epoch was granted.
    LeaseGranted,
    /// An operator's pause.
    Pause,
    /// An operator's resume, with a new epoch and the pose that was left.
    Resume,
    /// A chunk for armed or hold failed E7.
    FirstCommandJump,
    /// The robot stands still.
    Standstill,
    /// The robot's driver failed, or its state is late.
    RobotError,
    /// The servo loop was late too often.
    ServoOverrun,
    /// An emergency stop.
    Estop,
    /// A fault that latches.
    Fault(Reason),
    /// The robot does not follow its commands.
    FollowingError,
    /// The robot's measurements cannot be.
    Implausible,
    /// The envelope refused what was to be commanded, for too long.
    OutsideEnvelope,
    /// Too many chunks in a row contradict the ones before.
    Disagreement,
    /// The robot's own controller stopped it.
    VendorStop,
    /// The machine was asleep, or its clock stood still.
    ClockGap,
    /// An operator sends the robot home, with a new epoch; out of stopped with the expected pose.
    ParkStarted,
    /// The robot stands at its home pose.
    ParkDone,
    /// An operator's reset of a latched mode.
    Reset,
}

/// The guard's mode with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The mode.
    pub mode: Mode,
    /// Why it is in that mode.
    pub reason: Reason,
}

impl State {
    /// Where every guard starts.
    pub const START: Self = Self {
        mode: Mode::Disarmed,
        reason: Reason::Started,
    };

    fn to(mode: Mode, reason: Reason) -> Self {
        Self { mode, reason }
    }

    /// Whether a chunk may be accepted: as its mode says, but not on the way home.
    pub fn takes_chunks(self) -> bool {
        self.mode.takes_chunks() && self.reason != Reason::Parking
    }

    /// Whether a valid chunk may leave this hold without anything else.
    pub fn resumable(self) -> bool {
        self.mode == Mode::Hold
            && matches!(
                self.reason,
                Reason::Thinking | Reason::PerceptionUnfit | Reason::FirstCommandJump
            )
    }
}

/// Gives the state after `event`; a state that the event does not concern stays as it is.
pub fn transition(state: State, event: Event) -> State {
    if state.mode.latched() {
        return match event {
            Event::Reset => State::to(Mode::Disarmed, Reason::Reset),
            _ => state,
        };
    }
    match event {
        Event::Estop => State::to(Mode::Estopped, Reason::EmergencyStop),
        Event::VendorStop => State::to(Mode::Estopped, Reason::VendorStop),
        Event::Fault(reason) => State::to(Mode::Fault, reason),
        Event::ClockGap => State::to(Mode::Fault, Reason::ClockGap),
        _ => match state.mode {
            Mode::Disarmed | Mode::Stopped if event == Event::Rearm => {
                State::to(Mode::Armed, Reason::Rearmed)
            }
            Mode::Stopped if event == Event::ParkStarted => {
                State::to(Mode::Running, Reason::Parking)
            }
            Mode::Armed => from_armed(state, event),
            Mode::Running if state.reason == Reason::Parking => from_parking(state, event),
            Mode::Running => from_running(state, event),
            Mode::Hold => from_hold(state, event),
            Mode::Stopping if event == Event::Standstill => State::to(Mode::Stopped, state.reason),
            _ => state,
        },
    }
}

fn from_armed(state: State, event: Event) -> State {
    match event {
        Event::ChunkAccepted => State::to(Mode::Running, Reason::Playing),
        Event::ParkStarted => State::to(Mode::Running, Reason::Parking),
        // Nothing moves yet: the robot's own failure still takes the right to move away.
        _ => robots_own(event).map_or(state, |reason| State::to(Mode::Stopped, reason)),
    }
}

/// The way home needs the robot and the servo loop, nothing else.
fn from_parking(state: State, event: Event) -> State {
    match event {
        Event::ParkDone => State::to(Mode::Hold, Reason::Parked),
        // There is no task that a resume could go on with.
        Event::Pause => State::to(Mode::Hold, Reason::LeaseReleased),
        Event::ServoOverrun => State::to(Mode::Stopping, Reason::ServoOverrun),
        _ => stopping(state, robots_own(event)),
    }
}

fn from_running(state: State, event: Event) -> State {
    match event {
        Event::PlannedGap => State::to(Mode::Hold, Reason::Thinking),
        Event::Unfit => State::to(Mode::Hold, Reason::PerceptionUnfit),
        Event::LeaseLost => State::to(Mode::Hold, Reason::LeaseLost),
        Event::LeaseReleased => State::to(Mode::Hold, Reason::LeaseReleased),
        Event::Pause => State::to(Mode::Hold, Reason::Paused),
        Event::Disagreement => State::to(Mode::Hold, Reason::Disagreement),
        Event::FirstCommandJump => State::to(Mode::Hold, Reason::FirstCommandJump),
        _ => stopping(state, loss(event)),
    }
}

/// A hold between tasks (lease released or lost, parked) or for a person (paused, disagreement) is
/// idle: the loss of a policy or of the cameras costs nothing there. A hold inside a task ends in a
/// stop.
fn from_hold(state: State, event: Event) -> State {
    let inside_task = state.resumable();
    let for_a_person = matches!(state.reason, Reason::Paused | Reason::Disagreement);
    let between_tasks = matches!(
        state.reason,
        Reason::LeaseReleased | Reason::LeaseLost | Reason::Parked
    );
    match event {
        Event::ChunkAccepted if inside_task => State::to(Mode::Running, Reason::Playing),
        Event::LeaseReleased => State::to(Mode::Hold, Reason::LeaseReleased),
        Event::LeaseGranted if between_tasks => State::to(Mode::Hold, Reason::Thinking),
        Event::ParkStarted if between_tasks => State::to(Mode::Running, Reason::Parking),
        // What waits for a person is left by that person's resume, or with its task.
        Event::LeaseLost if inside_task => State::to(Mode::Hold, Reason::LeaseLost),
        Event::Pause if inside_task => State::to(Mode::Hold, Reason::Paused),
        Event::Resume if for_a_person => State::to(Mode::Hold, Reason::Thinking),
        Event::Disagreement if inside_task => State::to(Mode::Hold, Reason::Disagreement),
        Event::Unfit if inside_task => State::to(Mode::Hold, Reason::PerceptionUnfit),
        Event::UnfitTimedOut if state.reason == Reason::PerceptionUnfit => {
            State::to(Mode::Stopping, Reason::PerceptionLost)
        }
        Event::FirstCommandJump if inside_task => State::to(Mode::Hold, Reason::FirstCommandJump),
        Event::ThinkTimedOut if inside_task => State::to(Mode::Stopping, Reason::ThinkTimeout),
        Event::ServoOverrun => stopping(state, inside_task.then_some(Reason::ServoOverrun)),
        Event::BrainDied => stopping(state, inside_task.then_some(Reason::BrainLost)),
        Event::ExpertDied => stopping(state, inside_task.then_some(Reason::ExpertLost)),
        _ => stopping(state, robots_own(event)),
    }
}

/// Stops for a reason, if there is one.
fn stopping(state: State, reason: Option<Reason>) -> State {
    reason.map_or(state, |reason| State::to(Mode::Stopping, reason))
}

/// The reason of a loss that stops a task's motion at once, if the event is one.
fn loss(event: Event) -> Option<Reason> {
    match event {
        Event::BufferEmpty => Some(Reason::BufferEmpty),
        Event::ActionTooOld => Some(Reason::ActionTooOld),
        Event::BrainDied => Some(Reason::BrainLost),
        Event::ExpertDied => Some(Reason::ExpertLost),
        Event::ServoOverrun => Some(Reason::ServoOverrun),
        _ => robots_own(event),
    }
}

/// The reason of a failure of the robot itself, which concerns every mode that may move.
fn robots_own(event: Event) -> Option<Reason> {
    match event {
        Event::RobotError => Some(Reason::RobotError),
        Event::FollowingError => Some(Reason::FollowingError),
        Event::Implausible => Some(Reason::Implausible),
        Event::OutsideEnvelope => Some(Reason::OutsideEnvelope),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
