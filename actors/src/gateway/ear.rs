//! What the gateway hears of one cell, and how often.

use std::collections::BTreeMap;

use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::{CellId, Role};
use vlad_wire::msg::execute::GuardState;
use vlad_wire::msg::health::{Alive, Event};
use vlad_wire::msg::sense::{Frame, JointState};
use vlad_wire::msg::task::Verdict;
use vlad_wire::stream::{
    Events, ExecutedActions, Frames, Guards, Heartbeats, Joints, Stream, Verdicts,
};
use vlad_wire::text::Name;

use super::view::StreamView;

/// Counts messages of one stream.
#[derive(Debug, Default)]
struct Meter {
    since_ns: u64,
    count: u32,
    rate_hz: f64,
    newest_ns: u64,
}

impl Meter {
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a second of nanoseconds fits in 53 bits"
    )]
    fn count(&mut self, sampled_at_ns: u64, now_ns: u64) {
        self.count += 1;
        self.newest_ns = self.newest_ns.max(sampled_at_ns);
        let passed_ns = now_ns.saturating_sub(self.since_ns);
        if SECOND <= passed_ns {
            self.rate_hz = f64::from(self.count) * 1e9 / passed_ns as f64;
            (self.since_ns, self.count) = (now_ns, 0);
        }
    }
}

impl Meter {
    /// The rate, or none once a stream has been silent for two seconds.
    fn rate_now_hz(&self, now_ns: u64) -> f64 {
        let silent = 2 * SECOND < now_ns.saturating_sub(self.since_ns);
        if silent { 0.0 } else { self.rate_hz }
    }
}

/// Gives an age in milliseconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "ages of years fit in 53 bits"
)]
pub(super) fn age_ms(now_ns: u64, at_ns: u64) -> f64 {
    now_ns.saturating_sub(at_ns) as f64 / MS as f64
}

/// The newest of everything that is said in one cell.
pub(super) struct Ear {
    joints_in: Subscriber<Joints>,
    guard_in: Subscriber<Guards>,
    alive_in: Subscriber<Heartbeats>,
    verdict_in: Subscriber<Verdicts>,
    frames_in: Subscriber<Frames>,
    executed_in: Subscriber<ExecutedActions>,
    events_in: Subscriber<Events>,
    /// Newest joints.
    pub(super) joints: Option<JointState>,
    /// Newest state of the guard.
    pub(super) guard: Option<GuardState>,
    /// Newest heartbeat by role, and when it came.
    pub(super) alive: BTreeMap<Role, (Alive, u64)>,
    /// Newest verdict.
    pub(super) verdict: Option<Verdict>,
    /// Newest frame by view.
    pub(super) frames: BTreeMap<Name, Frame>,
    meters: BTreeMap<String, Meter>,
}

impl Ear {
    pub(super) fn new(bus: &Bus, cell: &CellId, waker: &Waker) -> Result<Self, BusError> {
        let wake = || Some(waker.clone());
        Ok(Self {
            joints_in: bus.subscriber(cell, "", None)?,
            guard_in: bus.subscriber(cell, "", wake())?,
            alive_in: bus.subscriber(cell, "*", None)?,
            verdict_in: bus.subscriber(cell, "", wake())?,
            frames_in: bus.subscriber(cell, "*", None)?,
            executed_in: bus.subscriber(cell, "", None)?,
            events_in: bus.subscriber(cell, "", wake())?,
            joints: None,
            guard: None,
            alive: BTreeMap::new(),
            verdict: None,
            frames: BTreeMap::new(),
            meters: BTreeMap::new(),
        })
    }

    /// Takes everything that came.
    pub(super) fn listen(&mut self, now_ns: u64) {
        while let Some(joints) = self.joints_in.try_next() {
            self.meter(Joints::ROW.key.to_owned(), joints.sampled_at_ns, now_ns);
            self.joints = Some(joints);
        }
        while let Some(guard) = self.guard_in.try_next() {
            self.meter(Guards::ROW.key.to_owned(), guard.sent_at_ns, now_ns);
            self.guard = Some(guard);
        }
        while let Some(alive) = self.alive_in.try_next() {
            self.alive.insert(alive.role, (alive, now_ns));
        }
        while let Some(verdict) = self.verdict_in.try_next() {
            self.meter(Verdicts::ROW.key.to_owned(), verdict.judged_at_ns, now_ns);
            self.verdict = Some(verdict);
        }
        while let Some(frame) = self.frames_in.try_next() {
            let key = Frames::ROW.key.replace("{view}", frame.head.view.as_str());
            self.meter(key, frame.head.captured_at_ns, now_ns);
            self.frames.insert(frame.head.view.clone(), frame);
        }
        while let Some(executed) = self.executed_in.try_next() {
            let sent_ns = executed.ticks.last().map_or(0, |tick| tick.sent_at_ns);
            self.meter(ExecutedActions::ROW.key.to_owned(), sent_ns, now_ns);
        }
    }

    /// Gives the next event.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events_in.try_next()
    }

    /// Gives rate and age of every stream that was heard.
    pub(super) fn streams(&self, now_ns: u64) -> Vec<StreamView> {
        let view = |(key, meter): (&String, &Meter)| StreamView {
            key: key.clone(),
            rate_hz: meter.rate_now_hz(now_ns),
            age_ms: age_ms(now_ns, meter.newest_ns),
        };
        self.meters.iter().map(view).collect()
    }

    fn meter(&mut self, key: String, sampled_at_ns: u64, now_ns: u64) {
        self.meters
            .entry(key)
            .or_default()
            .count(sampled_at_ns, now_ns);
    }
}
