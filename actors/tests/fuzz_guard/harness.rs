//! Stories of adversarial chunks, told to the real guard and judged by its commands.
//!
//! | module | holds |
//! |---|---|
//! | [`cells`] | the robots |
//! | [`rows`], [`chunks`] | what is offered |
//! | [`story`] | what happens around it: commands, losses, gaps of time, a robot in trouble |
//! | [`judge`] | what must hold after each servo tick |
//!
//! A story is a function of seed and number alone.

use vlad_wire::msg::execute::GuardCounters;

#[path = "cells.rs"]
mod cells;
#[path = "chunks.rs"]
mod chunks;
#[path = "draw.rs"]
mod draw;
#[path = "judge.rs"]
mod judge;
#[path = "rows.rs"]
mod rows;
#[path = "story.rs"]
mod story;

use draw::Draw;
pub(crate) use judge::Seen;
use story::Story;

/// Which stories to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Seed of all.
    pub(crate) seed: u64,
    /// Number of the first.
    pub(crate) story: u64,
    /// Chunks to offer at least.
    pub(crate) chunks: u64,
}

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Stories.
    pub(crate) stories: u64,
    /// Chunks that were offered.
    pub(crate) offered: u64,
    /// By the judge.
    pub(crate) seen: Seen,
    /// Chunks that were accepted, and those refused, by the guard's own counters.
    pub(crate) accepted: u64,
    /// See `accepted`: E2; E1 and E3; age; jumps and seams; order; mode or blindness; rows outside;
    /// late with a jump.
    pub(crate) refused: [u64; 8],
}

/// A promise that was broken.
#[derive(Debug)]
pub(crate) struct Violation {
    /// The story that shows it.
    pub(crate) story: u64,
    /// What is wrong.
    pub(crate) what: String,
}

/// Tells stories until enough chunks were offered.
pub(crate) fn tell(plan: Plan) -> Result<Tally, Violation> {
    let shapes = cells::shapes();
    let mut tally = Tally::default();
    while tally.offered < plan.chunks {
        let number = plan.story + tally.stories;
        let shape = &shapes[(number % shapes.len() as u64) as usize];
        let mut story = Story::new(Draw::new(plan.seed, number), shape);
        story.tell().map_err(|what| Violation {
            story: number,
            what,
        })?;
        let (seen, counters) = story.tally();
        tally.add(&Tally::of(story.offered, seen, &counters));
    }
    Ok(tally)
}

impl Tally {
    /// One story's.
    fn of(offered: u64, seen: Seen, counters: &GuardCounters) -> Self {
        Self {
            stories: 1,
            offered,
            seen,
            accepted: counters.accepted,
            refused: [
                counters.not_finite,
                counters.wrong_identity,
                counters.stale,
                counters.jumps,
                counters.superseded,
                counters.not_now,
                counters.outside,
                counters.prefix_dropped,
            ],
        }
    }

    /// Adds what other stories gave.
    pub(crate) fn add(&mut self, other: &Self) {
        self.stories += other.stories;
        self.offered += other.offered;
        self.seen.add(&other.seen);
        self.accepted += other.accepted;
        for (sum, refused) in self.refused.iter_mut().zip(other.refused) {
            *sum += refused;
        }
    }
}
