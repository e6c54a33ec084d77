//! Which chunks the guard takes (reference B.3, checks E1 to E9, in that order).

use vlad_motion::buffer::Inserted;
use vlad_safety::breach::Breach;
use vlad_safety::mode::{Event, Mode};
use vlad_safety::reason::Reason;
use vlad_wire::id::Tick;
use vlad_wire::msg::health::Severity;
use vlad_wire::msg::think::{Chunk, Start};

use super::{CHUNK_LATE, CHUNK_REFUSED, CHUNKS_DISAGREE, Guard, HASH_MAX, Notice, Words};

/// Largest number that any slot of any robot may hold (E2).
const MAGNITUDE_MAX: f32 = 1e3;
/// Chunks with unsound numbers in a row that latch a fault (E2).
const UNSOUND_MAX: u32 = 3;

/// A chunk that differs by more of its own large steps from what it replaces contradicts it (F33).
const DISAGREEMENT: f64 = 2.0;
/// Speed fraction while chunks disagree.
const CAUTION: f64 = 0.5;

/// Why a chunk was refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Refusal {
    /// The mode takes no chunks.
    Mode,
    /// Another shape or convention (E1).
    Shape,
    /// A number that is not finite, absurd, or implausible for its degree of freedom (E2).
    Unsound,
    /// No lease, another epoch, task, attempt, cell or model (E3).
    Identity,
    /// Not newer than the last one (E3).
    Order,
    /// Decided on too old an observation, or on one of the future (E4).
    Stale,
    /// Perception is unfit (E4).
    Blind,
    /// A row is outside the envelope (E5, E7 by tick, E8, E9).
    Outside(Breach, u16),
    /// The first action is too far from the robot (E7).
    Jump,
    /// The first row that would be played is too far from what is played before it for one tick, in
    /// motion (E7): so much too fast.
    Seam(Breach),
    /// Its prefix was over before it came, and it would jump by so many of its steps.
    Late(f64),
    /// All its ticks are over.
    Superseded,
}

impl Refusal {
    fn words(self) -> Words {
        Words::Plain(match self {
            Self::Outside(breach, row) => return Words::Outside(breach, row),
            Self::Seam(breach) => return Words::Seam(breach),
            Self::Late(ratio) => return Words::Late(ratio),
            Self::Mode => "the guard takes no chunks in this mode",
            Self::Shape => "the chunk has another shape than the robot type, or no speed",
            Self::Unsound => {
                "the chunk holds numbers that are not finite, absurdly large or far outside a range"
            }
            Self::Identity => "the chunk is of another epoch, task, cell or model",
            Self::Order => "the chunk is not newer than the last one",
            Self::Stale => "the chunk's observation is too old, or its stamp lies in the future",
            Self::Blind => "perception is unfit",
            Self::Jump => "the chunk's first action is too far from the robot",
            Self::Superseded => "the chunk's ticks are over",
        })
    }
}

impl Guard {
    /// Takes or refuses a chunk; gives the tick of its row 0.
    pub fn chunk(&mut self, chunk: &Chunk, now_ns: u64) -> Option<Tick> {
        let judged = self.judge(chunk, now_ns);
        match judged.and_then(|first| self.insert(chunk, first)) {
            Ok((first, overrun)) => {
                self.accept(chunk, (first, overrun), now_ns);
                Some(first)
            }
            Err(refusal) => {
                self.refuse(chunk, refusal, now_ns);
                None
            }
        }
    }

    fn judge(&mut self, chunk: &Chunk, now_ns: u64) -> Result<Tick, Refusal> {
        if !self.state.mode.takes_chunks() || self.state.reason == Reason::Parking {
            return Err(Refusal::Mode);
        }
        self.check_shape(chunk)?;
        self.check_numbers(chunk)?;
        self.check_identity(chunk)?;
        // A capture in the future would never grow too old.
        let age_ns = now_ns
            .checked_sub(chunk.head.captured_at_ns)
            .ok_or(Refusal::Stale)?;
        if self.config.action_age_ns() < age_ns {
            return Err(Refusal::Stale);
        }
        if !self.watch.sees(now_ns, self.config.silence_ns()) {
            return Err(Refusal::Blind);
        }
        let first = self.first_tick(chunk)?;
        self.check_rows(chunk, first)?;
        Ok(first)
    }

    fn first_tick(&self, chunk: &Chunk) -> Result<Tick, Refusal> {
        let from_standstill = self.state.mode == Mode::Armed || self.state.resumable();
        match chunk.head.start {
            Start::OnArrival if from_standstill => {
                self.check_jump(chunk)?;
                Ok(self.tick + 1)
            }
            Start::At(first) if self.state.mode == Mode::Running => {
                let end = first.saturating_add(Tick::from(chunk.head.horizon));
                if end <= self.tick + 1 {
                    Err(Refusal::Superseded)
                } else {
                    Ok(first)
                }
            }
            Start::OnArrival | Start::At(_) => Err(Refusal::Mode),
        }
    }

    fn check_shape(&self, chunk: &Chunk) -> Result<(), Refusal> {
        let head = &chunk.head;
        let fits = usize::from(head.horizon) == self.shape.horizon
            && usize::from(head.width) == self.shape.slots.width()
            && head.frame_convention.as_str() == "joint_absolute"
            && head.prefix_len < head.horizon
            && self.config.speed_min <= head.rate
            && head.rate <= 1.0;
        if fits { Ok(()) } else { Err(Refusal::Shape) }
    }

    fn check_numbers(&self, chunk: &Chunk) -> Result<(), Refusal> {
        let absurd = |x: &f32| !(x.is_finite() && x.abs() <= MAGNITUDE_MAX);
        let implausible = |row: &[f32]| {
            let mut dofs = self.shape.slots.to_dofs(row).zip(&self.shape.plausible);
            dofs.any(|(target, limits)| target < limits.min || limits.max < target)
        };
        let width = usize::from(chunk.head.width).max(1);
        if chunk.rows.iter().any(absurd) || chunk.rows.chunks(width).any(implausible) {
            return Err(Refusal::Unsound);
        }
        Ok(())
    }

    fn check_identity(&self, chunk: &Chunk) -> Result<(), Refusal> {
        let head = &chunk.head;
        let held = self.lease.ok_or(Refusal::Identity)?;
        let ours = head.cell == self.cell
            && (head.epoch, head.task, head.attempt) == (held.epoch, held.task, held.attempt);
        let hashes = [&head.model_hash, &head.normaliser_hash];
        // The guard keeps them, and takes no memory for that.
        if hashes.iter().any(|hash| HASH_MAX < hash.len()) {
            return Err(Refusal::Identity);
        }
        let first = self.lineage.obs_seq.is_none() && self.lineage.hashes.iter().all(Vec::is_empty);
        let mut pairs = self.lineage.hashes.iter().zip(hashes);
        let same_model = first || pairs.all(|(known, hash)| known.as_slice() == hash.as_slice());
        if !ours || !same_model {
            return Err(Refusal::Identity);
        }
        let newer = self.lineage.seq < head.seq && self.lineage.obs_seq < Some(head.obs_seq);
        if newer { Ok(()) } else { Err(Refusal::Order) }
    }

    /// E7. A gripper that holds something is commanded beyond where it is measured: the nearer of
    /// both counts.
    fn check_jump(&self, chunk: &Chunk) -> Result<(), Refusal> {
        let row = chunk.row(0).ok_or(Refusal::Shape)?;
        let now = self
            .measured
            .position
            .iter()
            .zip(&self.command)
            .zip(&self.shape.gripper);
        for (target, ((measured, command), gripper)) in self.shape.slots.to_dofs(row).zip(now) {
            let from_measured = (target - measured).abs();
            let near = if *gripper {
                from_measured.min((target - command).abs()) <= self.config.first_command_m
            } else {
                from_measured <= self.config.first_command_rad
            };
            if !near {
                return Err(Refusal::Jump);
            }
        }
        Ok(())
    }

    /// E5 to E9 of the rows that would be played: each after the row before it, the first after
    /// what is played up to then. A tick's speed and acceleration are those at the chunk's rate.
    fn check_rows(&mut self, chunk: &Chunk, first: Tick) -> Result<(), Refusal> {
        let running = self.state.mode == Mode::Running;
        let from = first.max(self.tick.saturating_add(1));
        let before = if running {
            self.buffer.peek(from.saturating_sub(1))
        } else {
            None
        };
        match before {
            Some(row) => self.before_row.copy_from_slice(row.target),
            None if running && self.playing.is_some() => {
                self.before_row.copy_from_slice(&self.target);
            }
            None => self.before_row.copy_from_slice(&self.command),
        }
        let tick_s = self.pace.tick_s(chunk.head.rate);
        let over = u16::try_from(from.saturating_sub(first)).unwrap_or(u16::MAX);
        for index in over..chunk.head.horizon {
            let row = chunk.row(usize::from(index)).ok_or(Refusal::Shape)?;
            // A gripper goes from open to closed in a row: its target is bounded when it is played (E10).
            let dofs = self.shape.slots.to_dofs(row).zip(&self.shape.gripper);
            let dofs = dofs.zip(self.judged.iter_mut().zip(&self.before_row));
            for ((target, gripper), (place, before)) in dofs {
                *place = if *gripper { *before } else { target };
            }
            self.envelope
                .judge(&self.before_row, &mut self.judged, tick_s)
                .map_err(|breach| match breach {
                    Breach::Speed { .. } | Breach::ToolSpeed { .. } if running && index == over => {
                        Refusal::Seam(breach)
                    }
                    _ => Refusal::Outside(breach, index),
                })?;
            self.before_row.copy_from_slice(&self.judged);
        }
        Ok(())
    }

    fn insert(&mut self, chunk: &Chunk, first: Tick) -> Result<(Tick, Option<f64>), Refusal> {
        if self.state.mode != Mode::Running {
            self.buffer.clear();
        }
        match self
            .buffer
            .insert(chunk, first, self.tick, &self.shape.slots)
        {
            Inserted::Accepted(_) => Ok((first, None)),
            Inserted::Overrun { ratio, .. } => Ok((first, Some(ratio))),
            Inserted::Dropped(ratio) => Err(Refusal::Late(ratio)),
            Inserted::Superseded => Err(Refusal::Superseded),
        }
    }

    fn accept(&mut self, chunk: &Chunk, (first, overrun): (Tick, Option<f64>), now_ns: u64) {
        let head = &chunk.head;
        self.counters.accepted += 1;
        self.lineage.unsound_in_row = 0;
        self.lineage.seq = head.seq;
        self.lineage.obs_seq = Some(head.obs_seq);
        let hashes = [&head.model_hash, &head.normaliser_hash];
        for (known, hash) in self.lineage.hashes.iter_mut().zip(hashes) {
            known.clear();
            known.extend_from_slice(hash);
        }
        // The expert conditions on this buffer, and asks again once it knows of it: at once, not at
        // the next tick, or a decision of half a horizon would leave a hole.
        self.changed = true;
        let words = match overrun {
            Some(ratio) => {
                self.counters.prefix_overruns += 1;
                Words::Overrun(first, ratio)
            }
            None => Words::FirstRow(first),
        };
        let about = (words, head.id);
        self.notice(Notice::of_chunk("chunk_accepted", Severity::Info, about));
        self.apply(Event::ChunkAccepted, now_ns);
        match self.buffer.disagreement() {
            Some(ratio) if DISAGREEMENT < ratio => {
                self.note_disagreement(Words::Disagree(Some(ratio)), chunk, now_ns);
            }
            Some(_) => {
                self.disagreeing = 0;
                self.pace.caution = 1.0;
            }
            None => {}
        }
    }

    /// What to say of a chunk that was refused for contradicting what is played: it would have jumped
    /// there, or it begins far from a robot that such a jump has let hold.
    fn contradicts(&self, chunk: &Chunk, refusal: Refusal) -> Option<Words> {
        match (refusal, chunk.head.start) {
            // Late chunks alone are the gate's: five of them in a row mean sync.
            (Refusal::Late(ratio), _) if 0 < self.disagreeing => Some(Words::Disagree(Some(ratio))),
            (Refusal::Seam(_) | Refusal::Outside(_, _), Start::At(first)) => {
                let slots = &self.shape.slots;
                let ratio = self.buffer.contradiction(chunk, first, self.tick, slots);
                // A row far behind a good seam says nothing of the policy's mind.
                (DISAGREEMENT < ratio).then_some(Words::Disagree(Some(ratio)))
            }
            (Refusal::Jump, _) if 0 < self.disagreeing => Some(Words::Disagree(None)),
            _ => None,
        }
    }

    /// F33: a policy that changes its mind with each chunk is slowed down, then held.
    fn note_disagreement(&mut self, words: Words, chunk: &Chunk, now_ns: u64) {
        let limit = self.config.disagreement_max;
        if limit == 0 {
            return;
        }
        self.disagreeing += 1;
        if self.disagreeing == limit.div_ceil(2) {
            self.pace.caution = CAUTION;
            let about = (words, chunk.head.id);
            self.notice(Notice::of_chunk(CHUNKS_DISAGREE, Severity::Warn, about));
        }
        if limit <= self.disagreeing {
            self.apply(Event::Disagreement, now_ns);
        }
    }

    fn refuse(&mut self, chunk: &Chunk, refusal: Refusal, now_ns: u64) {
        let contradiction = self.contradicts(chunk, refusal);
        let counters = &mut self.counters;
        match refusal {
            Refusal::Mode | Refusal::Blind => counters.not_now += 1,
            Refusal::Shape | Refusal::Identity => counters.wrong_identity += 1,
            Refusal::Unsound => counters.not_finite += 1,
            Refusal::Stale => counters.stale += 1,
            Refusal::Jump | Refusal::Seam(_) => counters.jumps += 1,
            Refusal::Order | Refusal::Superseded => counters.superseded += 1,
            Refusal::Outside(_, _) => counters.outside += 1,
            Refusal::Late(_) => counters.prefix_dropped += 1,
        }
        let kind = match refusal {
            Refusal::Late(_) => CHUNK_LATE,
            _ => CHUNK_REFUSED,
        };
        let about = (refusal.words(), chunk.head.id);
        self.notice(Notice::of_chunk(kind, Severity::Warn, about));
        match refusal {
            Refusal::Jump | Refusal::Seam(_) => self.apply(Event::FirstCommandJump, now_ns),
            Refusal::Unsound => {
                self.lineage.unsound_in_row += 1;
                if UNSOUND_MAX <= self.lineage.unsound_in_row {
                    self.apply(Event::Fault(Reason::BadChunks), now_ns);
                }
            }
            _ => {}
        }
        if let Some(words) = contradiction {
            self.note_disagreement(words, chunk, now_ns);
        }
    }
}
