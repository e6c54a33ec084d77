//! The one table of streams: the only place where a key, a rate or a staleness bound is spelled.
//!
//! Keys stand under `vlad/{cell}/`. [`STREAMS`] feeds `vlad cell streams`, ARCHITECTURE.md, the
//! health checks and the recorder; a stream's type makes a wrong body a compile error.

use crate::codec::{Body, Small};
use crate::id::{CellId, Role};
use crate::msg::{command, execute, health, sense, task, think};

/// How often a stream speaks; the cell's own rates are resolved when its configuration is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many times a second.
    Hz(u16),
    /// The cell's servo rate.
    Servo,
    /// The cell's policy rate.
    Policy,
    /// The view's own rate.
    Camera,
    /// Once a decision.
    Decision,
    /// At every change.
    Change,
}

/// When a sample is too old to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// After so many periods of the stream.
    Periods(u16),
    /// After so many milliseconds.
    Ms(u16),
    /// After the cell's `action_age_limit_ms`.
    ActionAge,
    /// Never: it holds until the next one.
    Never,
}

/// What a slow reader keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest sample of each key.
    Latest,
    /// The newest so many, oldest dropped first and counted.
    Ring(u16),
}

/// Which link carries it; small urgent messages never wait behind images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Commands, heartbeats, chunks: their own link.
    Control,
    /// Everything of some size.
    Bulk,
}

/// How the recorder logs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// Not at all.
    No,
    /// Every message.
    Yes,
    /// Only heads; images in segment files.
    Heads,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Key below `vlad/{cell}/`; `{…}` stands for one segment.
    pub key: &'static str,
    /// Body, for people.
    pub body: &'static str,
    /// Who speaks.
    pub from: &'static str,
    /// Who listens.
    pub to: &'static str,
    /// Nominal rate.
    pub rate: Rate,
    /// When a sample is too old.
    pub stale: Stale,
    /// What a slow reader keeps.
    pub keep: Keep,
    /// Which link.
    pub lane: Lane,
    /// Whether it is logged.
    pub logged: Logged,
    /// Latency budget of this arrow on one host, milliseconds, 0 where none matters.
    pub budget_ms: u16,
    /// What it holds.
    pub doc: &'static str,
}

/// A stream of the table.
pub trait Stream: Send + Sync + 'static {
    /// What it carries.
    type Body: Body;
    /// Its row.
    const ROW: Row;

    /// The full key; `part` fills the row's `{…}`, and is ignored where there is none.
    fn key(cell: &CellId, part: &str) -> String {
        full_key(&Self::ROW, cell, part)
    }
}

/// A command of the table: a query with an answer.
pub trait Command: Send + Sync + 'static {
    /// What is asked.
    type Ask: Small;
    /// What is answered.
    type Answer: Small;
    /// Its row.
    const ROW: Row;

    /// The full key.
    fn key(cell: &CellId) -> String {
        full_key(&Self::ROW, cell, "")
    }
}

fn full_key(row: &Row, cell: &CellId, part: &str) -> String {
    let stem = row.key.split('{').next().unwrap_or(row.key);
    if stem.len() == row.key.len() {
        format!("vlad/{cell}/{stem}")
    } else {
        format!("vlad/{cell}/{stem}{part}")
    }
}

macro_rules! streams {
    (
        streams { $($(#[doc = $doc:literal])+ $name:ident: $body:ty = {
            key $key:literal, $from:literal => $to:literal, $rate:expr, $stale:expr, $keep:expr,
            $lane:ident, $logged:ident, budget $budget:literal
        };)+ }
        commands { $($(#[doc = $cdoc:literal])+ $cname:ident: $ask:ty = { key $ckey:literal };)+ }
    ) => {
        $($(#[doc = $doc])+
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Stream for $name {
            type Body = $body;
            const ROW: Row = Row {
                key: $key, body: stringify!($body), from: $from, to: $to, rate: $rate,
                stale: $stale, keep: $keep, lane: Lane::$lane, logged: Logged::$logged,
                budget_ms: $budget, doc: concat!($($doc),+),
            };
        })+
        $($(#[doc = $cdoc])+
        #[derive(Debug, Clone, Copy)]
        pub struct $cname;

        impl Command for $cname {
            type Ask = $ask;
            type Answer = command::Answer;
            const ROW: Row = Row {
                key: $ckey, body: stringify!($ask), from: "gateway", to: "actuator",
                rate: Rate::Change, stale: Stale::Never, keep: Keep::Ring(16),
                lane: Lane::Control, logged: Logged::Yes, budget_ms: 0,
                doc: concat!($($cdoc),+),
            };
        })+

        /// Every stream, then every command.
        pub const STREAMS: &[Row] = &[$($name::ROW,)+ $($cname::ROW,)+];
    };
}

streams! {
    streams {
        /// One image with its capture stamp.
        Frames: sense::Frame = { key "frame/{view}", "perception" => "recorder, gateway",
            Rate::Camera, Stale::Periods(6), Keep::Latest, Bulk, Heads, budget 5 };
        /// Measured state at servo rate: guard clock, tick, standstill.
        Joints: sense::JointState = { key "joints",
            "actuator" => "perception, action-expert, gateway, recorder",
            Rate::Servo, Stale::Periods(5), Keep::Ring(120), Control, Yes, budget 2 };
        /// What the cell does now: task, attempt, epoch, instruction, seed, deadline, or none.
        Tasks: task::TaskNow = { key "task",
            "gateway" => "perception, brain, action-expert, recorder",
            Rate::Hz(2), Stale::Ms(2000), Keep::Latest, Control, Yes, budget 0 };
        /// Images of all views and proprioceptive state; of a simulated cell also the truth.
        Observations: sense::Observation = { key "obs", "perception" => "brain, recorder",
            Rate::Camera, Stale::Ms(200), Keep::Ring(8), Bulk, Heads, budget 10 };
        /// Think now; one in flight.
        Requests: think::ThinkRequest = { key "request", "action-expert" => "brain, recorder",
            Rate::Decision, Stale::ActionAge, Keep::Ring(4), Control, Yes, budget 2 };
        /// What the brain hands over: a head, then one part per KV layer.
        Contexts: think::Context = { key "context/{part}", "brain" => "action-expert, recorder (head)",
            Rate::Decision, Stale::ActionAge, Keep::Ring(258), Bulk, Heads, budget 60 };
        /// Future actions as absolute targets, each with its tick.
        Chunks: think::Chunk = { key "chunk", "action-expert" => "actuator, recorder",
            Rate::Decision, Stale::ActionAge, Keep::Ring(8), Control, Yes, budget 30 };
        /// The guard's buffer of accepted future targets; the prefix is read from it.
        AcceptedTargets: execute::Accepted = { key "accepted", "actuator" => "action-expert, recorder",
            Rate::Policy, Stale::Ms(200), Keep::Ring(16), Control, Yes, budget 2 };
        /// What was commanded and measured at each servo tick, one message a policy tick.
        ExecutedActions: execute::ExecutedTicks = { key "executed", "actuator" => "recorder, gateway",
            Rate::Policy, Stale::Ms(500), Keep::Ring(64), Bulk, Yes, budget 0 };
        /// The scene's oracle on the running task; simulated cells only.
        Verdicts: task::Verdict = { key "verdict", "perception" => "gateway, recorder",
            Rate::Hz(10), Stale::Ms(1000), Keep::Latest, Control, Yes, budget 0 };
        /// The guard's mode with its reason, at every change and ten times a second.
        Guards: execute::GuardState = { key "guard", "actuator" => "recorder, gateway",
            Rate::Hz(10), Stale::Ms(1000), Keep::Ring(64), Control, Yes, budget 0 };
        /// Everything worth a line.
        Events: health::Event = { key "event", "all" => "recorder, gateway, action-expert",
            Rate::Change, Stale::Never, Keep::Ring(256), Control, Yes, budget 0 };
        /// Heartbeat: sequence, challenge, version, inference in flight, fitness.
        Heartbeats: health::Alive = { key "alive/{role}", "all" => "actuator, gateway, all (actuator's)",
            Rate::Hz(50), Stale::Periods(5), Keep::Latest, Control, No, budget 0 };
    }
    commands {
        /// Grants, renews or releases the right to command the cell.
        LeaseCommand: command::Lease = { key "cmd/lease" };
        /// Leaves disarmed or stopped.
        RearmCommand: command::Rearm = { key "cmd/rearm" };
        /// Goes on after a pause.
        ResumeCommand: command::Resume = { key "cmd/resume" };
        /// Holds at the next safe point.
        PauseCommand: command::Pause = { key "cmd/pause" };
        /// Goes to the park pose.
        ParkCommand: command::Park = { key "cmd/park" };
        /// Changes the speed fraction.
        SpeedCommand: command::Speed = { key "cmd/speed" };
        /// Stops now, and latches.
        EstopCommand: command::Estop = { key "cmd/estop" };
        /// Leaves a latched mode.
        ResetCommand: command::Reset = { key "cmd/reset" };
    }
}

/// Gives the key of a role's liveliness token, which vanishes with its process.
pub fn token_key(cell: &CellId, role: Role, session: u64) -> String {
    format!("vlad/{cell}/token/{role}/{session}")
}

/// Gives the key expression of all liveliness tokens of a cell.
pub fn token_keys(cell: &CellId) -> String {
    format!("vlad/{cell}/token/*/*")
}

/// Reads role and session back from a token's key.
pub fn parse_token_key(key: &str) -> Option<(Role, u64)> {
    let mut segments = key.rsplit('/');
    let session = segments.next()?.parse().ok()?;
    let role = segments.next()?.parse().ok()?;
    (segments.next()? == "token").then_some((role, session))
}

/// The rates that only a cell's configuration knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellRates {
    /// Servo periods per second.
    pub servo_hz: f64,
    /// Policy ticks per second.
    pub policy_hz: f64,
    /// Frames per second of the fastest camera.
    pub camera_hz: f64,
    /// Oldest action that may be sent, milliseconds.
    pub action_age_limit_ms: f64,
}

impl CellRates {
    /// The demo cell's rates, for tables that name no cell.
    pub const NOMINAL: Self = Self {
        servo_hz: 240.0,
        policy_hz: 30.0,
        camera_hz: 30.0,
        action_age_limit_ms: 700.0,
    };
}

impl Row {
    /// Messages per second, if the row has a fixed rate.
    pub fn hz(&self, rates: &CellRates) -> Option<f64> {
        match self.rate {
            Rate::Hz(hz) => Some(f64::from(hz)),
            Rate::Servo => Some(rates.servo_hz),
            Rate::Policy => Some(rates.policy_hz),
            Rate::Camera => Some(rates.camera_hz),
            Rate::Decision | Rate::Change => None,
        }
    }

    /// Age in milliseconds at which a sample is stale, if ever.
    pub fn stale_ms(&self, rates: &CellRates) -> Option<f64> {
        match self.stale {
            Stale::Periods(n) => self.hz(rates).map(|hz| f64::from(n) * 1000.0 / hz),
            Stale::Ms(ms) => Some(f64::from(ms)),
            Stale::ActionAge => Some(rates.action_age_limit_ms),
            Stale::Never => None,
        }
    }
}

/// Gives the table as aligned Markdown: what `vlad cell streams` prints and ARCHITECTURE.md holds.
pub fn markdown(rates: &CellRates) -> String {
    let number = |x: Option<f64>, none: &str| x.map_or(none.to_owned(), |x| format!("{x:.0}"));
    let mut out = String::from(
        "| stream | from → to | Hz | stale after ms | budget ms | a slow reader keeps | logged |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in STREAMS {
        let keep = match row.keep {
            Keep::Latest => "newest".to_owned(),
            Keep::Ring(n) => format!("newest {n}"),
        };
        let logged = match row.logged {
            Logged::No => "no",
            Logged::Yes => "yes",
            Logged::Heads => "heads",
        };
        let rate = if row.rate == Rate::Decision {
            "a decision"
        } else {
            "a change"
        };
        let budget = (row.budget_ms != 0).then(|| f64::from(row.budget_ms));
        let line = format!(
            "| `{}` | {} → {} | {} | {} | {} | {keep} | {logged} |\n",
            row.key,
            row.from,
            row.to,
            number(row.hz(rates), rate),
            number(row.stale_ms(rates), "never"),
            number(budget, "–"),
        );
        out.push_str(&line);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::text::Name;

    #[test]
    fn keys_are_unique() {
        let keys: HashSet<_> = STREAMS.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), STREAMS.len());
    }

    #[test]
    fn a_sample_is_fresh_for_longer_than_a_period() {
        for row in STREAMS {
            let rates = CellRates::NOMINAL;
            if let (Some(hz), Some(stale_ms)) = (row.hz(&rates), row.stale_ms(&rates)) {
                assert!(1000.0 / hz < stale_ms, "{}", row.key);
            }
        }
    }

    #[test]
    fn a_key_has_its_cell_and_part() {
        let cell = Name::new("demo").unwrap();
        assert_eq!(Frames::key(&cell, "ego"), "vlad/demo/frame/ego");
        assert_eq!(Joints::key(&cell, "ignored"), "vlad/demo/joints");
        assert_eq!(EstopCommand::key(&cell), "vlad/demo/cmd/estop");
    }

    #[test]
    fn a_token_key_reads_back() {
        let cell = Name::new("demo").unwrap();
        let key = token_key(&cell, Role::ActionExpert, 7);
        assert_eq!(parse_token_key(&key), Some((Role::ActionExpert, 7)));
        assert_eq!(parse_token_key("vlad/demo/token/nobody/7"), None);
    }

    #[test]
    fn the_printed_table_has_each_row() {
        let table = markdown(&CellRates::NOMINAL);
        assert_eq!(table.lines().count(), STREAMS.len() + 2);
        assert!(table.contains("| `joints` |"));
    }
}
