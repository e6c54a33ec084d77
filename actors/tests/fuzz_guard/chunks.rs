//! Chunks that fit, chunks that lie, and old ones again.

use ulid::Ulid;
use vlad_actors::actuator::settings::Shape;
use vlad_wire::id::{ChunkId, Epoch, TaskId, Tick};
use vlad_wire::msg::think::{Chunk, ChunkHead, Digest, Start, Strategy};
use vlad_wire::text::Name;

use super::draw::Draw;
use super::rows::rows;

/// The task of every story.
pub(crate) fn task() -> TaskId {
    TaskId(Ulid::from_parts(1, 1))
}

/// What a chunk that fits must know.
pub(crate) struct Moment<'g> {
    pub(crate) shape: &'g Shape,
    pub(crate) epoch: Epoch,
    pub(crate) now_ns: u64,
    pub(crate) tick: Tick,
    /// Whether the guard plays a task's chunks.
    pub(crate) running: bool,
    pub(crate) age_limit_ns: u64,
    /// How bad the policy of this story is: 0 to 2.
    pub(crate) malice: u64,
    /// Where the arm is commanded to be.
    pub(crate) command: &'g [f64],
}

/// The expert of a story: makes chunks, and remembers what it sent.
#[derive(Default)]
pub(crate) struct Expert {
    requests: u64,
    /// The last ones that were offered; a ring.
    sent: Vec<Chunk>,
    /// The last one that was accepted, with the tick of its row 0.
    accepted: Option<(Chunk, Tick)>,
}

/// How many chunks may come again.
const SENT_MAX: usize = 8;

impl Expert {
    /// A chunk to offer: most are new and fit the guard, but for one lie now and then.
    pub(crate) fn next(&mut self, draw: &mut Draw, now: &Moment<'_>) -> Chunk {
        if !self.sent.is_empty() && draw.once_in(20) {
            // Doubled, reordered, or kept back since another epoch.
            let at = draw.below(self.sent.len() as u64) as usize;
            return self.sent[at].clone();
        }
        let first = now.tick + draw.pick(&[1, 1, 1, 1, 2, 3, -2, -6, 8, 20]);
        // Out of standstill a bad chunk is refused by its first row: then the story would stand too.
        let gentle = !now.running && !draw.once_in(4);
        let malice = if gentle { 0 } else { now.malice };
        let from = self.before(now, first);
        let start = if now.running {
            Start::At(first)
        } else {
            Start::OnArrival
        };
        self.requests += 1;
        let mut chunk = Chunk {
            head: head(draw, now, (self.requests, start)),
            rows: rows(draw, now.shape, &from, malice),
        };
        if draw.once_in([50, 15, 5][malice as usize]) {
            lie(draw, now, &mut chunk.head);
        }
        self.keep(draw, &chunk);
        chunk
    }

    /// The chunk was accepted.
    pub(crate) fn accepted(&mut self, chunk: Chunk, first: Tick) {
        self.accepted = Some((chunk, first));
    }

    /// Where the arm should be before tick `first`: in motion on what was accepted, if that is known.
    fn before(&self, now: &Moment<'_>, first: Tick) -> Vec<f64> {
        let planned = self.accepted.as_ref().filter(|_| now.running);
        let row = planned.and_then(|(chunk, begin)| {
            let at = usize::try_from(first.max(now.tick + 1) - 1 - begin).ok()?;
            chunk.row(at)
        });
        match row {
            Some(row) => now.shape.slots.to_dofs(row).collect(),
            None => now.command.to_vec(),
        }
    }

    fn keep(&mut self, draw: &mut Draw, chunk: &Chunk) {
        if self.sent.len() < SENT_MAX {
            self.sent.push(chunk.clone());
        } else if draw.once_in(8) {
            let at = draw.below(SENT_MAX as u64) as usize;
            self.sent[at] = chunk.clone();
        }
    }
}

fn head(draw: &mut Draw, now: &Moment<'_>, (request, start): (u64, Start)) -> ChunkHead {
    let age_ns = match draw.below(8) {
        0 => now.age_limit_ns,
        1 => draw.below(now.age_limit_ns),
        _ => draw.below(now.age_limit_ns / 4),
    };
    ChunkHead {
        cell: Name::new("fuzzed").unwrap(),
        epoch: now.epoch,
        seq: request,
        id: ChunkId {
            epoch: now.epoch,
            request,
        },
        task: task(),
        attempt: 1,
        obs_seq: request,
        obs_tick: now.tick,
        view_captured_ns: vec![],
        captured_at_ns: now.now_ns.saturating_sub(age_ns),
        requested_at_ns: now.now_ns,
        acted_from_ns: now.now_ns,
        acted_until_ns: now.now_ns,
        start,
        horizon: now.shape.horizon as u16,
        width: now.shape.slots.width() as u16,
        prefix_len: draw.pick(&[0, 0, 0, 1, 3, 6]),
        frozen_len: 0,
        request_id: request,
        strategy: draw.pick(&[
            Strategy::Sync,
            Strategy::Naive,
            Strategy::Blend,
            Strategy::Guided,
            Strategy::CleanPrefix,
        ]),
        rate: draw.pick(&[1.0, 1.0, 1.0, 1.0, 0.5, 0.73, 0.05]),
        dt_ns: u64::from(now.shape.servo_per_tick) * now.shape.servo_ns,
        noise_seed: 0,
        model_hash: Digest::from(vec![1; 32]),
        normaliser_hash: Digest::from(vec![2; 32]),
        frame_convention: Name::new("joint_absolute").unwrap(),
        mac: None,
    }
}

/// Makes one field say something else.
fn lie(draw: &mut Draw, now: &Moment<'_>, head: &mut ChunkHead) {
    let ticks = [
        Tick::MIN,
        Tick::MAX,
        Tick::MAX - 3,
        0,
        -1,
        now.tick - 31,
        now.tick - 29,
        now.tick + 29,
        now.tick + 31,
        now.tick + 1000,
        draw.bits() as Tick,
    ];
    match draw.below(16) {
        0 => head.start = Start::OnArrival,
        1..=3 => head.start = Start::At(draw.pick(&ticks)),
        4 => head.prefix_len = draw.below(40) as u16,
        5 => head.frozen_len = draw.bits() as u16,
        6 => head.captured_at_ns = now.now_ns + draw.pick(&[1, 1_000_000, u64::MAX - now.now_ns]),
        7 => {
            let oldest_ns = now.now_ns.saturating_sub(now.age_limit_ns);
            head.captured_at_ns = draw.pick(&[oldest_ns, oldest_ns.saturating_sub(1), 0]);
        }
        8 => head.seq = draw.pick(&[0, head.seq.saturating_sub(1), u64::MAX]),
        9 => head.obs_seq = draw.pick(&[0, head.obs_seq.saturating_sub(2), u64::MAX]),
        10 => head.epoch = draw.pick(&[0, now.epoch.saturating_sub(1), now.epoch + 1, u64::MAX]),
        11 => {
            let long = draw.below(200) as usize;
            head.model_hash = Digest::from(vec![3; long]);
        }
        12 => head.horizon = draw.pick(&[0, 1, 29, 31, u16::MAX]),
        13 => head.width = draw.pick(&[0, 1, head.width + 1, u16::MAX]),
        14 => {
            let rates = [f64::NAN, -1.0, 0.0, 1e-300, 1e-6, 0.01, 1.000_001, 1e300];
            head.rate = draw.pick(&rates);
        }
        _ => match draw.below(4) {
            0 => head.attempt = 2,
            1 => head.task = TaskId(Ulid::from_parts(2, 2)),
            2 => head.cell = Name::new("other").unwrap(),
            _ => head.frame_convention = Name::new("joint_delta").unwrap(),
        },
    }
}
