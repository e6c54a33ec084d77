//! What the guard has to say. It says it without allocating: the words are put together outside.

use std::fmt;

use vlad_safety::breach::Breach;
use vlad_safety::mode::{Mode, State};
use vlad_wire::id::{ChunkId, Epoch, TaskId, Tick};
use vlad_wire::msg::health::Severity;

/// Something worth a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// What kind.
    pub kind: &'static str,
    /// How bad.
    pub severity: Severity,
    /// For a person.
    pub words: Words,
    /// What to do about it.
    pub advice: Option<&'static str>,
    /// The chunk that it concerns.
    pub chunk: Option<ChunkId>,
    /// The task that held the lease then, with its try.
    pub task: Option<(TaskId, u32)>,
}

/// What a notice says, before it is text.
#[derive(Debug, Clone, PartialEq)]
pub enum Words {
    /// As it is.
    Plain(&'static str),
    /// The mode changed; how long the stored stop takes from there, seconds.
    Mode(State, f64),
    /// A chunk was accepted: the tick of its row 0.
    FirstRow(Tick),
    /// A chunk was accepted although its prefix was over: the tick of its row 0, and the jump over
    /// its own large step.
    Overrun(Tick, f64),
    /// A chunk was refused because its prefix was over and it would jump by so many of its steps.
    Late(f64),
    /// Chunk after chunk differs from what it replaces, by so many of its steps, or, without a number,
    /// from where the robot holds; half speed now.
    Disagree(Option<f64>),
    /// A chunk was refused: what is outside, and in which row.
    Outside(Breach, u16),
    /// A chunk was refused: its first row is too far from what is played.
    Seam(Breach),
    /// A lease was granted.
    Granted(TaskId, u32, Epoch),
    /// A lease was given back.
    Released(Epoch),
    /// The operator's speed fraction changed.
    Speed(f64),
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Mode(state, stop_s) if 0.0 < *stop_s => write!(
                f,
                "{}: {}; standstill in {:.0} ms",
                state.mode,
                state.reason.meaning(),
                stop_s * 1e3
            ),
            Self::Mode(state, _) => write!(f, "{}: {}", state.mode, state.reason.meaning()),
            Self::FirstRow(tick) => write!(f, "row 0 is for tick {tick}"),
            Self::Overrun(tick, ratio) => write!(
                f,
                "row 0 is for tick {tick}; it came after its prefix was over, and its seam is {ratio:.1} of its steps"
            ),
            Self::Late(ratio) => write!(
                f,
                "the chunk came after its prefix was over and would jump by {ratio:.1} of its steps"
            ),
            Self::Disagree(None) => {
                f.write_str("chunks begin far from where the robot holds: half speed")
            }
            Self::Disagree(Some(ratio)) => write!(
                f,
                "chunks differ from what they replace, by {ratio:.1} of their steps: half speed"
            ),
            Self::Outside(breach, row) => write!(f, "row {row}: {breach}"),
            Self::Seam(breach) => write!(f, "the chunk does not meet what is played: {breach}"),
            Self::Granted(task, attempt, epoch) => {
                write!(f, "task {task}, try {attempt}, epoch {epoch}")
            }
            Self::Released(epoch) => write!(f, "epoch {epoch}"),
            Self::Speed(rate) => write!(f, "{:.0} % of full speed", rate * 100.0),
        }
    }
}

impl Notice {
    /// A line that nothing needs to be done about.
    pub(super) fn info(kind: &'static str, words: Words) -> Self {
        Self {
            kind,
            severity: Severity::Info,
            words,
            advice: None,
            chunk: None,
            task: None,
        }
    }

    /// A line about a chunk.
    pub(super) fn of_chunk(
        kind: &'static str,
        severity: Severity,
        (words, chunk): (Words, ChunkId),
    ) -> Self {
        Self {
            severity,
            chunk: Some(chunk),
            ..Self::info(kind, words)
        }
    }

    /// The mode changed; the stored stop takes `stop_s` seconds.
    pub(super) fn mode_changed(state: State, stop_s: f64) -> Self {
        let severity = match state.mode {
            Mode::Stopping | Mode::Stopped | Mode::Estopped => Severity::Warn,
            Mode::Fault => Severity::Error,
            Mode::Disarmed | Mode::Armed | Mode::Running | Mode::Hold => Severity::Info,
        };
        Self {
            severity,
            advice: Some(state.reason.what_to_do()),
            ..Self::info("mode_changed", Words::Mode(state, stop_s))
        }
    }
}
