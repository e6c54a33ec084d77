//! Why the guard waits, stops or goes on: one table for events, REST, command line and page.

use std::fmt;
use std::str::FromStr;

/// Why the guard is in its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The guard has just started; nobody has armed it.
    Started,
    /// An operator, or `arm_at_start`, armed the guard.
    Rearmed,
    /// A valid chunk is being played.
    Playing,
    /// A planned gap: the last chunk ran out while the next decision is being made.
    Thinking,
    /// The next decision took longer than `guard.think_timeout_ms`.
    ThinkTimeout,
    /// Perception reports that its cameras cannot be trusted, or is silent.
    PerceptionUnfit,
    /// Perception stayed unfit or silent for longer than `guard.unfit_timeout_ms`.
    PerceptionLost,
    /// The buffer of accepted actions ran out, and nobody had planned that.
    BufferEmpty,
    /// The next action is older than the cell's `action_age_limit_ms`.
    ActionTooOld,
    /// The brain's process or actor is gone.
    BrainLost,
    /// The action expert's process or actor is gone.
    ExpertLost,
    /// The gateway stopped renewing its lease.
    LeaseLost,
    /// The task is over, or was cancelled.
    LeaseReleased,
    /// An operator asked for a pause.
    Paused,
    /// The first action after a stop lies too far from the measured pose (E7).
    FirstCommandJump,
    /// An emergency stop was asked for.
    EmergencyStop,
    /// Three chunks in a row held numbers that no robot may be told (E2).
    BadChunks,
    /// The robot's driver reported an error, or its state came late.
    RobotError,
    /// The servo loop missed its schedule too often.
    ServoOverrun,
    /// The robot does not go where it is told (E11).
    FollowingError,
    /// The robot's measurements are not what a robot can do (F41).
    Implausible,
    /// The motion led out of the envelope for too long (E6, E8, E9).
    OutsideEnvelope,
    /// Chunk after chunk contradicts the one before (F33).
    Disagreement,
    /// The robot's own controller stopped it (F43).
    VendorStop,
    /// The machine was asleep, or its clock stood still (F23).
    ClockGap,
    /// The robot is going to its home pose.
    Parking,
    /// The robot is at its home pose, and no task holds the cell.
    Parked,
    /// An operator reset a latched mode.
    Reset,
}

/// Every reason with its name in lower case, what it means, and what to do about it.
const TABLE: [(Reason, &str, &str, &str); 28] = [
    (
        Reason::Started,
        "started",
        "the guard has started and is not armed",
        "look at the cell, then rearm it",
    ),
    (
        Reason::Rearmed,
        "rearmed",
        "the guard is armed and waits for a task",
        "submit a task",
    ),
    (
        Reason::Playing,
        "playing",
        "a task is being done",
        "nothing",
    ),
    (
        Reason::Thinking,
        "thinking",
        "the policy is deciding what to do next",
        "nothing: the next chunk goes on by itself",
    ),
    (
        Reason::ThinkTimeout,
        "think_timeout",
        "the policy did not decide in time",
        "see whether brain and action expert are overloaded, then rearm",
    ),
    (
        Reason::PerceptionUnfit,
        "perception_unfit",
        "the cameras cannot be trusted, or perception is silent",
        "nothing if it lasts under a second; else check the cameras",
    ),
    (
        Reason::PerceptionLost,
        "perception_lost",
        "the cameras could not be trusted for too long",
        "check the cameras and the perception log, then rearm",
    ),
    (
        Reason::BufferEmpty,
        "buffer_empty",
        "actions ran out while none was on its way",
        "see whether brain and action expert are alive and fast enough, then rearm",
    ),
    (
        Reason::ActionTooOld,
        "action_too_old",
        "the next action was decided on an observation that is too old",
        "reduce the delay between camera and motor, then rearm",
    ),
    (
        Reason::BrainLost,
        "brain_lost",
        "the brain's process is gone",
        "wait until it is back, or start it, then rearm",
    ),
    (
        Reason::ExpertLost,
        "expert_lost",
        "the action expert's process is gone",
        "wait until it is back, or start it, then rearm",
    ),
    (
        Reason::LeaseLost,
        "lease_lost",
        "the gateway no longer renews its lease",
        "see whether the gateway is alive; its next task brings a new lease",
    ),
    (
        Reason::LeaseReleased,
        "lease_released",
        "no task holds the cell",
        "submit a task",
    ),
    (
        Reason::Paused,
        "paused",
        "an operator paused the cell",
        "resume the task, or cancel it",
    ),
    (
        Reason::FirstCommandJump,
        "first_command_jump",
        "the first action lies too far from where the robot is",
        "nothing: the next chunk that starts at the robot's pose goes on",
    ),
    (
        Reason::EmergencyStop,
        "emergency_stop",
        "somebody stopped the cell in an emergency",
        "clear the danger, then reset with your name and the reason, then rearm",
    ),
    (
        Reason::BadChunks,
        "bad_chunks",
        "the policy sent numbers that no robot may be told",
        "check the checkpoint and its manifest, then reset with your name and the reason",
    ),
    (
        Reason::RobotError,
        "robot_error",
        "the robot's driver failed, or its state came late",
        "check the robot and its cable, then rearm (from fault: reset first)",
    ),
    (
        Reason::ServoOverrun,
        "servo_overrun",
        "the servo loop was late too often",
        "take load off this machine, then rearm",
    ),
    (
        Reason::FollowingError,
        "following_error",
        "the robot does not go where it is told",
        "see whether it is blocked, overloaded or was touched, then rearm",
    ),
    (
        Reason::Implausible,
        "implausible",
        "the robot's measured positions are not what it can do",
        "check encoders and cables, then rearm",
    ),
    (
        Reason::OutsideEnvelope,
        "outside_envelope",
        "the motion led out of the limits, the workspace or too near another arm",
        "see which limit the event before names, look at the scene, then rearm or park",
    ),
    (
        Reason::Disagreement,
        "disagreement",
        "each decision contradicts the one before",
        "look at the scene and the checkpoint, then resume the task or cancel it",
    ),
    (
        Reason::VendorStop,
        "vendor_stop",
        "the robot's own controller stopped it",
        "clear its stop at the robot, then reset with your name and the reason, then rearm",
    ),
    (
        Reason::ClockGap,
        "clock_gap",
        "the machine was asleep, or its clock stood still",
        "switch suspend off, look at the cell, then reset with your name and the reason",
    ),
    (
        Reason::Parking,
        "parking",
        "the robot goes to its home pose",
        "nothing; a pause or an emergency stop ends it",
    ),
    (
        Reason::Parked,
        "parked",
        "the robot is at its home pose, and no task holds the cell",
        "submit a task",
    ),
    (
        Reason::Reset,
        "reset",
        "an operator reset the guard",
        "look at the cell, then rearm it",
    ),
];

impl Reason {
    /// Every reason, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The name on the wire, in REST and in logs.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What happened, for a person.
    pub fn meaning(self) -> &'static str {
        self.row().2
    }

    /// What a person can do about it.
    pub fn what_to_do(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> &'static (Self, &'static str, &'static str, &'static str) {
        // A test proves that each reason has its row; the first one stands in for the impossible.
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no [`Reason`] or no mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord;

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown word")
    }
}

impl std::error::Error for UnknownWord {}

impl FromStr for Reason {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        TABLE
            .iter()
            .find(|row| row.1 == text)
            .map(|row| row.0)
            .ok_or(UnknownWord)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    #[expect(
        clippy::as_conversions,
        reason = "the number of a variant is asked for"
    )]
    fn each_reason_has_its_own_row_and_name() {
        let names: HashSet<_> = Reason::all().map(Reason::name).collect();
        assert_eq!(names.len(), TABLE.len());
        for reason in Reason::all() {
            assert_eq!(reason.to_string().parse(), Ok(reason));
            assert!(!reason.meaning().is_empty() && !reason.what_to_do().is_empty());
        }
        let meanings: HashSet<_> = Reason::all().map(Reason::meaning).collect();
        assert_eq!(meanings.len(), TABLE.len());
        assert!(Reason::EmergencyStop.what_to_do().contains("then reset"));
        assert!(Reason::BufferEmpty.what_to_do().ends_with("then rearm"));
        // The last variant's number proves that no variant lacks a row.
        assert_eq!(Reason::Reset as usize + 1, TABLE.len());
    }

    #[test]
    fn an_unknown_word_is_refused() {
        assert_eq!("sideways".parse::<Reason>(), Err(UnknownWord));
        assert_eq!(UnknownWord.to_string(), "unknown word");
    }
}
