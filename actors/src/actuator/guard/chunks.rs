//! Which chunks the guard takes (reference B.3, checks E1 to E4 and E7, in that order).

use vlad_motion::buffer::Inserted;
use vlad_safety::mode::{Event, Mode};
use vlad_safety::reason::Reason;
use vlad_wire::id::Tick;
use vlad_wire::msg::health::Severity;
use vlad_wire::msg::think::{Chunk, Start};

use super::{CHUNK_REFUSED, Guard, Notice};

/// Largest number that any slot of any robot may hold (E2).
const MAGNITUDE_MAX: f32 = 1e3;
/// Chunks with unsound numbers in a row that latch a fault (E2).
const UNSOUND_MAX: u32 = 3;

/// Why a chunk was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The mode takes no chunks.
    Mode,
    /// Another shape or convention (E1).
    Shape,
    /// A number that is not finite or absurd (E2).
    Unsound,
    /// No lease, another epoch, task, attempt, cell or model (E3).
    Identity,
    /// Not newer than the last one (E3).
    Order,
    /// Decided on too old an observation, or on one of the future (E4).
    Stale,
    /// Perception is unfit (E4).
    Blind,
    /// The first action is too far from the robot (E7).
    Jump,
    /// All its ticks are over.
    Superseded,
}

impl Refusal {
    fn text(self) -> &'static str {
        match self {
            Self::Mode => "the guard takes no chunks in this mode",
            Self::Shape => "the chunk has another shape than the robot type",
            Self::Unsound => "the chunk holds numbers that are not finite or absurdly large",
            Self::Identity => "the chunk is of another epoch, task, cell or model",
            Self::Order => "the chunk is not newer than the last one",
            Self::Stale => "the chunk's observation is too old, or its stamp lies in the future",
            Self::Blind => "perception is unfit",
            Self::Jump => "the chunk's first action is too far from the robot",
            Self::Superseded => "the chunk's ticks are over",
        }
    }
}

impl Guard {
    /// Takes or refuses a chunk; gives the tick of its row 0.
    pub fn chunk(&mut self, chunk: &Chunk, now_ns: u64) -> Option<Tick> {
        let judged = self.judge(chunk, now_ns);
        match judged.and_then(|first| self.insert(chunk, first)) {
            Ok(first) => {
                self.accept(chunk, first, now_ns);
                Some(first)
            }
            Err(refusal) => {
                self.refuse(chunk, refusal, now_ns);
                None
            }
        }
    }

    fn judge(&self, chunk: &Chunk, now_ns: u64) -> Result<Tick, Refusal> {
        if !self.state.mode.takes_chunks() {
            return Err(Refusal::Mode);
        }
        self.check_shape(chunk)?;
        if !chunk
            .rows
            .iter()
            .all(|x| x.is_finite() && x.abs() <= MAGNITUDE_MAX)
        {
            return Err(Refusal::Unsound);
        }
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
        let fits = usize::from(chunk.head.horizon) == self.shape.horizon
            && usize::from(chunk.head.width) == self.shape.slots.width()
            && chunk.head.frame_convention.as_str() == "joint_absolute"
            && chunk.head.prefix_len < chunk.head.horizon;
        if fits { Ok(()) } else { Err(Refusal::Shape) }
    }

    fn check_identity(&self, chunk: &Chunk) -> Result<(), Refusal> {
        let head = &chunk.head;
        let held = self.lease.ok_or(Refusal::Identity)?;
        let ours = head.cell == self.cell
            && (head.epoch, head.task, head.attempt) == (held.epoch, held.task, held.attempt);
        let same_model = self
            .lineage
            .hashes
            .as_ref()
            .is_none_or(|(model, normaliser)| {
                *model == head.model_hash && *normaliser == head.normaliser_hash
            });
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

    fn insert(&mut self, chunk: &Chunk, first: Tick) -> Result<Tick, Refusal> {
        if self.state.mode != Mode::Running {
            self.buffer.clear();
        }
        match self
            .buffer
            .insert(chunk, first, self.tick, &self.shape.slots)
        {
            Inserted::Accepted(_) => Ok(first),
            Inserted::Superseded => Err(Refusal::Superseded),
        }
    }

    fn accept(&mut self, chunk: &Chunk, first: Tick, now_ns: u64) {
        let head = &chunk.head;
        self.counters.accepted += 1;
        self.lineage.unsound_in_row = 0;
        self.lineage.seq = head.seq;
        self.lineage.obs_seq = Some(head.obs_seq);
        self.lineage.hashes = Some((head.model_hash.clone(), head.normaliser_hash.clone()));
        self.notice(Notice {
            kind: "chunk_accepted",
            severity: Severity::Info,
            text: format!("row 0 is for tick {first}"),
            advice: None,
            chunk: Some(head.id),
            task: None,
        });
        self.apply(Event::ChunkAccepted, now_ns);
    }

    fn refuse(&mut self, chunk: &Chunk, refusal: Refusal, now_ns: u64) {
        let counters = &mut self.counters;
        match refusal {
            Refusal::Mode | Refusal::Blind => counters.not_now += 1,
            Refusal::Shape | Refusal::Identity => counters.wrong_identity += 1,
            Refusal::Unsound => counters.not_finite += 1,
            Refusal::Stale => counters.stale += 1,
            Refusal::Jump => counters.jumps += 1,
            Refusal::Order | Refusal::Superseded => counters.superseded += 1,
        }
        self.notice(Notice {
            kind: CHUNK_REFUSED,
            severity: Severity::Warn,
            text: refusal.text().to_owned(),
            advice: None,
            chunk: Some(chunk.head.id),
            task: None,
        });
        match refusal {
            Refusal::Jump => self.apply(Event::FirstCommandJump, now_ns),
            Refusal::Unsound => {
                self.lineage.unsound_in_row += 1;
                if UNSOUND_MAX <= self.lineage.unsound_in_row {
                    self.apply(Event::Fault(Reason::BadChunks), now_ns);
                }
            }
            _ => {}
        }
    }
}
