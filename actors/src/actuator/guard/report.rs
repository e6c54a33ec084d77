//! What the bus side is told, written into memory that goes round.

use vlad_safety::envelope::flag;
use vlad_safety::reason::Reason;
use vlad_wire::id::TaskId;
use vlad_wire::msg::execute::{Accepted, Executed, GuardState, Source};
use vlad_wire::robot_type::HORIZON_MAX;

use super::{Beat, Guard};
use crate::actuator::servo::Sample;

impl Guard {
    /// A sample with room for everything that it will ever hold.
    pub fn empty_sample(&self) -> Sample {
        let n_dofs = self.command.len();
        let executed = Executed {
            tick: 0,
            servo_tick: 0,
            epoch: 0,
            scheduled_at_ns: 0,
            woke_at_ns: 0,
            sent_at_ns: 0,
            source: Source::Hold,
            chunk: None,
            index: None,
            command: vec![0.0; n_dofs],
            measured: vec![0.0; n_dofs],
            flags: 0,
            mode: self.state.mode,
        };
        let width = self.shape.slots.width();
        let accepted = Accepted {
            epoch: 0,
            sampled_at_ns: 0,
            tick: 0,
            mode: self.state.mode,
            reason: self.state.reason,
            chunk: None,
            strategy: None,
            played: 0,
            width: u16::try_from(width).unwrap_or(u16::MAX),
            rows: Vec::with_capacity(HORIZON_MAX * width),
        };
        Sample {
            executed,
            sampled_at_ns: 0,
            velocity: vec![0.0; n_dofs],
            still_since_ns: None,
            rate: 1.0,
            changed: false,
            whole: false,
            accepted,
            state: self.guard_state(0),
        }
    }

    /// Writes one servo tick; what must not be lost until it was told is forgotten here.
    pub fn fill(&mut self, sample: &mut Sample, beat: Beat, flags: u32) {
        self.fill_executed(&mut sample.executed, beat, flags);
        sample.sampled_at_ns = self.measured.sampled_at_ns;
        sample.velocity.copy_from_slice(&self.measured.velocity);
        sample.still_since_ns = self.still_since_ns;
        sample.rate = self.pace.rate;
        sample.changed = std::mem::take(&mut self.changed);
        sample.whole = sample.changed || self.pace.begins();
        if sample.whole {
            self.fill_accepted(&mut sample.accepted, beat.now_ns);
            sample.state = self.guard_state(beat.now_ns);
        }
    }

    /// The buffer of accepted future targets.
    pub(super) fn fill_accepted(&self, accepted: &mut Accepted, now_ns: u64) {
        let newest = self.buffer.newest();
        accepted.epoch = self.epoch;
        accepted.sampled_at_ns = now_ns;
        accepted.tick = self.tick;
        accepted.mode = self.state.mode;
        accepted.reason = self.state.reason;
        accepted.chunk = newest.map(|(chunk, _)| chunk);
        accepted.strategy = newest.map(|(_, strategy)| strategy);
        accepted.played = self.played;
        accepted.rows.clear();
        let width = self.shape.slots.width();
        for row in self.buffer.ahead().take(HORIZON_MAX) {
            let from = accepted.rows.len();
            accepted.rows.resize(from + width, 0.0);
            if let Some(slots) = accepted.rows.get_mut(from..) {
                self.shape.slots.write_slots(row.target, slots);
            }
        }
    }

    /// The state for the stream `guard`; what is measured outside is left at zero.
    pub(super) fn guard_state(&self, now_ns: u64) -> GuardState {
        let lease: Option<TaskId> = self.lease.map(|held| held.task);
        GuardState {
            mode: self.state.mode,
            reason: self.state.reason,
            since_ns: self.since_ns,
            sent_at_ns: now_ns,
            epoch: self.epoch,
            lease,
            tick: self.tick,
            ticks_per_s: 0.0,
            counters: self.counters,
            speed_limit: self.pace.limit,
            stop_ms: self.envelope.stop_time_s() * 1e3,
        }
    }

    fn fill_executed(&self, executed: &mut Executed, beat: Beat, flags: u32) {
        let follows = flags & flag::STOP == 0;
        let playing = self.playing.filter(|_| follows);
        executed.tick = self.tick;
        executed.servo_tick = self.servo_tick;
        executed.epoch = self.epoch;
        executed.scheduled_at_ns = beat.scheduled_ns;
        executed.woke_at_ns = beat.now_ns;
        executed.sent_at_ns = beat.now_ns;
        executed.source = if playing.is_some() {
            Source::Policy
        } else if follows && self.state.reason == Reason::Parking {
            Source::Park
        } else {
            Source::Hold
        };
        executed.chunk = playing.map(|(chunk, _)| chunk);
        executed.index = playing.map(|(_, index)| index);
        executed.command.copy_from_slice(&self.command);
        executed.measured.copy_from_slice(&self.measured.position);
        executed.flags = flags;
        executed.mode = self.state.mode;
    }
}
