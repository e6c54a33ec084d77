//! The recorder: every stream → episode log.
//!
//! | | |
//! |---|---|
//! | in | every logged stream of the table |
//! | out | the episode log; `alive/recorder` |
//! | period | 10 ms, on its own thread |
//! | fails safe | it reads rings that drop their oldest: it never back-pressures motion |
//!
//! An episode begins when the stream `task` names a task, and ends when it says how that ended.
//! Frames are stored as JPEG; the very pixels that a context was computed from without loss.

use std::collections::VecDeque;

use tracing::{info, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::subscriber::Subscriber;
use vlad_store::episode::{Ending, EpisodeMeta, ImageData, Stamp, StoredImage};
use vlad_store::episodes::{EpisodeError, EpisodeStore};
use vlad_store::record::RecordKind;
use vlad_store::{jpeg, png};
use vlad_wire::clock::{MS, SECOND, SharedClock};
use vlad_wire::codec::{Body, Packet, encode};
use vlad_wire::id::{CellId, EpisodeId, Role, Tick};
use vlad_wire::msg::health::{PolicyLabel, Severity};
use vlad_wire::msg::sense::{Frame, Observation};
use vlad_wire::msg::task::{ActiveTask, EndedTask, TaskNow};
use vlad_wire::msg::think::{Context, Digest};
use vlad_wire::stream::{
    AcceptedTargets, Chunks, Contexts, Events, ExecutedActions, Frames, Guards, Heartbeats, Joints,
    Observations, Requests, Tasks, Verdicts,
};
use vlad_wire::text::{Name, Note};

use crate::pulse::{Condition, Pulse};
use crate::role::{Core, CoreError};

/// JPEG quality of previews: artefacts that no eye sees at a third of the size of 95.
const JPEG_QUALITY: u8 = 85;
/// Observations kept until it is known whether a context was computed from them: a second.
const OBSERVATIONS_KEPT: usize = 30;
/// How long the pixels of a context may take to come after it.
const PIXELS_NS: u64 = SECOND;
/// How long an episode goes on after its task ended, so that it shows the stop.
const AFTERMATH_NS: u64 = 500 * MS;
/// How long the word on a task's end may take.
const END_NS: u64 = 3 * SECOND;
/// Longest time that a record stays unflushed.
const FLUSH_NS: u64 = SECOND;

/// Everything that one cell's recorder is made from.
pub struct RecorderParts {
    /// The cell.
    pub cell: CellId,
    /// The log.
    pub store: EpisodeStore,
    /// Digest of the merged configuration.
    pub config_hash: Digest,
    /// Differs from start to start.
    pub session: u64,
}

/// Pixels that a context was computed from and that have not come yet.
struct Wanted {
    obs_seq: u64,
    at_ns: u64,
}

struct Live {
    id: EpisodeId,
    over_since_ns: Option<u64>,
    dropped: u64,
    not_replayable_from_ns: Option<u64>,
}

struct Streams {
    tasks: Subscriber<Tasks>,
    observations: Subscriber<Observations>,
    frames: Subscriber<Frames>,
    requests: Subscriber<Requests>,
    contexts: Subscriber<Contexts>,
    chunks: Subscriber<Chunks>,
    accepted: Subscriber<AcceptedTargets>,
    executed: Subscriber<ExecutedActions>,
    joints: Subscriber<Joints>,
    verdicts: Subscriber<Verdicts>,
    guards: Subscriber<Guards>,
    events: Subscriber<Events>,
    heartbeats: Subscriber<Heartbeats>,
}

/// One cell's recorder.
pub struct Recorder {
    cell: CellId,
    store: EpisodeStore,
    config_hash: Digest,
    clock: SharedClock,
    pulse: Pulse,
    streams: Streams,
    recent: VecDeque<Observation>,
    wanted: Vec<Wanted>,
    policy: Option<PolicyLabel>,
    ended: Option<EndedTask>,
    live: Option<Live>,
    next_flush_ns: u64,
    urgent: bool,
}

impl Streams {
    fn new(bus: &Bus, cell: &CellId) -> Result<Self, BusError> {
        Ok(Self {
            tasks: bus.subscriber(cell, "", None)?,
            observations: bus.subscriber(cell, "", None)?,
            frames: bus.subscriber(cell, "*", None)?,
            requests: bus.subscriber(cell, "", None)?,
            contexts: bus.subscriber(cell, "head", None)?,
            chunks: bus.subscriber(cell, "", None)?,
            accepted: bus.subscriber(cell, "", None)?,
            executed: bus.subscriber(cell, "", None)?,
            joints: bus.subscriber(cell, "", None)?,
            verdicts: bus.subscriber(cell, "", None)?,
            guards: bus.subscriber(cell, "", None)?,
            events: bus.subscriber(cell, "", None)?,
            heartbeats: bus.subscriber(cell, Role::ActionExpert.name(), None)?,
        })
    }
}

impl Recorder {
    /// Opens the streams of one cell.
    ///
    /// # Errors
    /// [`BusError`] if the bus refuses.
    pub fn new(bus: &Bus, clock: &SharedClock, parts: RecorderParts) -> Result<Self, BusError> {
        let RecorderParts {
            cell,
            store,
            config_hash,
            session,
        } = parts;
        Ok(Self {
            pulse: Pulse::new(bus, &cell, Role::Recorder, session)?,
            streams: Streams::new(bus, &cell)?,
            cell,
            store,
            config_hash,
            clock: clock.clone(),
            recent: VecDeque::new(),
            wanted: Vec::new(),
            policy: None,
            ended: None,
            live: None,
            next_flush_ns: 0,
            urgent: false,
        })
    }

    fn follow_task(&mut self, now_ns: u64) {
        while let Some(now) = self.streams.tasks.try_next() {
            self.ended.clone_from(&now.last);
            let running = now.task.as_ref().map(ActiveTask::episode);
            if let Some(live) = &mut self.live
                && running != Some(live.id)
            {
                live.over_since_ns.get_or_insert(now_ns);
            }
            if running.is_some() && running != self.live.as_ref().map(|live| live.id) {
                self.finish_episode();
                self.begin(&now, now_ns);
            }
            self.record(RecordKind::Task, stamp(now.sent_at_ns), now.pack().ok());
        }
        let Some(over_ns) = self.live.as_ref().and_then(|live| live.over_since_ns) else {
            return;
        };
        let waited_ns = now_ns.saturating_sub(over_ns);
        let known = self.ending().is_some();
        if (known && AFTERMATH_NS <= waited_ns) || END_NS <= waited_ns {
            self.finish_episode();
        }
    }

    fn begin(&mut self, now: &TaskNow, now_ns: u64) {
        let Some(task) = &now.task else { return };
        let meta = EpisodeMeta {
            id: task.episode(),
            cell: self.cell.clone(),
            instruction: task.instruction.clone(),
            epoch: task.epoch,
            seed: task.seed,
            began_at_ns: now_ns,
            began_at_ms: self.clock.wall_ns() / MS,
            policy: self.policy.clone(),
            model_hash: self.policy.as_ref().map(|policy| policy.model_hash.clone()),
            normaliser_hash: self
                .policy
                .as_ref()
                .map(|policy| policy.normaliser_hash.clone()),
            config_hash: Some(self.config_hash.clone()),
            n_threads: std::thread::available_parallelism()
                .ok()
                .and_then(|n| u16::try_from(n.get()).ok()),
            package: Note::cleaned(env!("CARGO_PKG_VERSION")),
        };
        match self.store.begin(&meta) {
            Ok(()) => {
                info!(cell = %self.cell, episode = %meta.id, "episode begins");
                self.live = Some(Live {
                    id: meta.id,
                    over_since_ns: None,
                    dropped: 0,
                    not_replayable_from_ns: None,
                });
            }
            // A recorder that was restarted in mid-episode: its first half is marked as recovered.
            Err(EpisodeError::Over(_)) => {}
            Err(error) => warn!(episode = %meta.id, %error, "no episode"),
        }
    }

    fn ending(&self) -> Option<&EndedTask> {
        let live = self.live.as_ref()?;
        self.ended.as_ref().filter(|ended| ended.episode == live.id)
    }

    fn finish_episode(&mut self) {
        let known = self.ending().cloned();
        let Some(live) = self.live.take() else { return };
        let unknown = || Name::new("unknown").ok();
        let (state, reason) = known.map_or((None, None), |e| (Some(e.state), Some(e.reason)));
        let Some(outcome) = state.or_else(unknown) else {
            return;
        };
        info!(cell = %self.cell, episode = %live.id, %outcome, "episode ends");
        let ending = Ending {
            outcome,
            reason,
            ended_at_ns: self.clock.now_ns(),
            ended_at_ms: self.clock.wall_ns() / MS,
            not_replayable_from_ns: live.not_replayable_from_ns,
            dropped: live.dropped,
        };
        if let Err(error) = self.store.finish(&live.id, &ending) {
            warn!(episode = %live.id, %error, "the episode is not finished");
        }
    }

    /// Writes one message, if an episode is open. What cannot be written is counted.
    fn record(&mut self, kind: RecordKind, stamp: Stamp, packet: Option<Packet>) {
        let Some(live) = &mut self.live else { return };
        let written =
            packet.is_some_and(|packet| self.store.append(&live.id, kind, stamp, &packet).is_ok());
        live.dropped += u64::from(!written);
    }

    fn take_decisions(&mut self) {
        while let Some(request) = self.streams.requests.try_next() {
            let stamp = stamp(request.requested_at_ns);
            self.record(RecordKind::Request, stamp, request.pack().ok());
        }
        while let Some(message) = self.streams.contexts.try_next() {
            let Context::Head(head) = &message else {
                continue;
            };
            let stamp = Stamp {
                at_ns: head.prepared_at_ns,
                tick: Some(head.obs_tick),
            };
            self.wanted.push(Wanted {
                obs_seq: head.obs_seq,
                at_ns: head.prepared_at_ns,
            });
            self.record(RecordKind::Context, stamp, message.pack().ok());
        }
        while let Some(chunk) = self.streams.chunks.try_next() {
            let stamp = Stamp {
                at_ns: chunk.head.acted_until_ns,
                tick: Some(chunk.head.obs_tick),
            };
            self.record(RecordKind::Chunk, stamp, chunk.pack().ok());
        }
    }

    fn take_motion(&mut self) {
        while let Some(joints) = self.streams.joints.try_next() {
            let stamp = at(joints.sampled_at_ns, joints.tick);
            self.record(RecordKind::Joints, stamp, joints.pack().ok());
        }
        while let Some(accepted) = self.streams.accepted.try_next() {
            let stamp = at(accepted.sampled_at_ns, accepted.tick);
            self.record(RecordKind::Accepted, stamp, accepted.pack().ok());
        }
        while let Some(executed) = self.streams.executed.try_next() {
            let last = executed.ticks.last();
            let stamp = last.map_or(stamp(0), |tick| at(tick.sent_at_ns, tick.tick));
            self.record(RecordKind::Executed, stamp, executed.pack().ok());
        }
        while let Some(guard) = self.streams.guards.try_next() {
            self.urgent |= guard.since_ns == guard.sent_at_ns;
            self.record(
                RecordKind::Guard,
                at(guard.sent_at_ns, guard.tick),
                guard.pack().ok(),
            );
        }
        while let Some(event) = self.streams.events.try_next() {
            self.urgent |= event.severity != Severity::Info;
            self.record(RecordKind::Event, stamp(event.at_ns), event.pack().ok());
        }
        while let Some(verdict) = self.streams.verdicts.try_next() {
            let stamp = at(verdict.judged_at_ns, verdict.tick);
            self.record(RecordKind::Verdict, stamp, verdict.pack().ok());
        }
    }

    fn take_images(&mut self) {
        while let Some(alive) = self.streams.heartbeats.try_next() {
            self.policy = alive.policy;
        }
        while let Some(observation) = self.streams.observations.try_next() {
            let head = &observation.head;
            let packet = encode(head).ok().map(|head| Packet {
                head,
                raw: bytes::Bytes::new(),
            });
            self.record(
                RecordKind::Observation,
                at(head.captured_at_ns, head.tick),
                packet,
            );
            if OBSERVATIONS_KEPT <= self.recent.len() {
                self.recent.pop_front();
            }
            self.recent.push_back(observation);
        }
        while let Some(frame) = self.streams.frames.try_next() {
            if self.live.is_some() {
                let data = jpeg::encode(&frame, JPEG_QUALITY).ok();
                self.store_image(&frame, false, data.map(|data| ImageData::Jpeg(data.into())));
            }
        }
    }

    /// Keeps the pixels that contexts were computed from, without loss. Pixels that do not come
    /// within a second were lost: from there on the episode cannot be replayed, and says so.
    fn keep_pixels(&mut self, now_ns: u64) {
        for wanted in std::mem::take(&mut self.wanted) {
            let is_it = |observation: &&Observation| observation.head.seq == wanted.obs_seq;
            match (self.recent.iter().find(is_it).cloned(), &mut self.live) {
                (Some(observation), Some(_)) => self.store_lossless(&observation),
                (None, Some(live)) if wanted.at_ns + PIXELS_NS < now_ns => {
                    live.dropped += 1;
                    live.not_replayable_from_ns.get_or_insert(wanted.at_ns);
                }
                (None, Some(_)) => self.wanted.push(wanted),
                (_, None) => {}
            }
        }
    }

    fn store_lossless(&mut self, observation: &Observation) {
        for (head, pixels) in observation.head.views.iter().zip(&observation.images) {
            let frame = Frame {
                head: head.clone(),
                pixels: pixels.clone(),
            };
            let data = png::encode_fast(&frame).ok();
            self.store_image(&frame, true, data.map(|data| ImageData::Png(data.into())));
        }
    }

    fn store_image(&mut self, frame: &Frame, for_context: bool, data: Option<ImageData>) {
        let Some(live) = &mut self.live else { return };
        let written = data.is_some_and(|data| {
            let head = frame.head.clone();
            let image = StoredImage {
                n: head.seq,
                head,
                for_context,
                data,
            };
            self.store.append_image(&live.id, &image).is_ok()
        });
        live.dropped += u64::from(!written);
    }

    fn flush(&mut self, now_ns: u64) {
        if self.live.is_none() || (!self.urgent && now_ns < self.next_flush_ns) {
            return;
        }
        self.urgent = false;
        self.next_flush_ns = now_ns + FLUSH_NS;
        if let Err(error) = self.store.flush() {
            warn!(%error, "the episode log cannot be flushed");
        }
    }
}

impl Core for Recorder {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        self.follow_task(now_ns);
        self.take_images();
        self.take_decisions();
        self.keep_pixels(now_ns);
        self.take_motion();
        self.flush(now_ns);
        self.pulse.beat(&Condition::fit(), now_ns);
        Ok(())
    }

    fn finish(&mut self, now_ns: u64) -> bool {
        self.follow_task(now_ns);
        self.take_images();
        self.take_decisions();
        self.keep_pixels(now_ns);
        self.take_motion();
        self.finish_episode();
        true
    }
}

fn stamp(at_ns: u64) -> Stamp {
    Stamp { at_ns, tick: None }
}

fn at(at_ns: u64, tick: Tick) -> Stamp {
    Stamp {
        at_ns,
        tick: Some(tick),
    }
}
