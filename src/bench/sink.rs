//! The child that reads parts and looks at every byte: the action expert's half of a hand-over.

use std::collections::VecDeque;
use std::io::stdin;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::thread::Builder;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vlad_bus::bus::Bus;
use vlad_bus::waker::Waker;
use vlad_wire::id::CellId;
use vlad_wire::msg::think::ThinkRequest;
use vlad_wire::stream::{Contexts, Requests, Stream};

use super::child::say;
use super::payload::{is_intact, part};

/// Parts that are held after they were looked at, and looked at again before they are let go.
const HELD_MAX: usize = 8;

/// No task of anybody's.
const TASK: &str = "00000000000000000000000000";

/// What a sink has seen since it was started; it says this whenever a line comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Parts that arrived, each with a right checksum.
    pub parts: u64,
    /// Of these, in shared memory.
    pub shared: u64,
    /// Messages that were refused, by checksum or otherwise.
    pub malformed: u64,
    /// Messages that were overwritten by newer ones before they were read.
    pub overwritten: u64,
    /// Parts with a right checksum and another content than their number's.
    pub wrong: u64,
    /// Parts whose bytes have changed while they were held.
    pub changed: u64,
    /// Parts that never came, between two that did.
    pub missing: u64,
    /// Parts that came after a later one, or twice.
    pub disordered: u64,
    /// Number behind the last one that came.
    pub next: u64,
    /// Bytes of all parts.
    pub bytes: u64,
}

/// Sizes between two bounds that follow from a part's number.
#[derive(Debug, Clone, Copy)]
pub struct Shortest {
    shortest: usize,
    span: usize,
}

impl Shortest {
    /// Takes the shortest and the longest.
    pub fn new((shortest, longest): (usize, usize)) -> Self {
        Self {
            shortest,
            span: longest.saturating_sub(shortest).saturating_add(1),
        }
    }

    /// Gives the size of a part.
    pub fn of(&mut self, number: u64) -> usize {
        let spread = usize::try_from(number.wrapping_mul(0x9e37_79b9) >> 8).unwrap_or(0);
        self.shortest + spread % self.span
    }
}

/// Reads and looks, until nobody asks any more.
///
/// # Errors
/// A bus that cannot be used; a parent that has ended.
pub async fn run(bus: &Bus, cell: &CellId) -> anyhow::Result<()> {
    let waker = Waker::new();
    let (sender, asked) = sync_channel(4);
    let wake = waker.clone();
    Builder::new()
        .name("bench-orders".to_owned())
        .spawn(move || {
            for line in stdin().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
                wake.wake();
            }
            // So that it is seen that nothing comes any more.
            drop(sender);
            wake.wake();
        })?;
    let mut reader = bus.subscriber::<Contexts>(cell, "*", Some(waker.clone()))?;
    let acknowledge = bus.publisher::<Requests>(cell, "")?;
    let mut sink = Sink::default();
    say(&sink.seen)?;
    loop {
        let arrived = reader.try_next();
        let idle = arrived.is_none();
        if let Some((head, bytes)) = arrived.and_then(part) {
            sink.take(head.thinking, head.request_id, bytes);
            acknowledge.put(&acknowledgement(sink.seen.next)?);
        }
        // After each part: under load there is always another one.
        match asked.try_recv() {
            Ok(_) => {
                sink.look_again();
                say(&sink.with_counters(bus))?;
            }
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) if idle => waker.woken().await,
            Err(TryRecvError::Empty) => {}
        }
    }
}

#[derive(Default)]
struct Sink {
    seen: Seen,
    source: u64,
    held: VecDeque<(u64, Bytes)>,
}

impl Sink {
    fn take(&mut self, source: u64, number: u64, bytes: Bytes) {
        let seen = &mut self.seen;
        seen.parts += 1;
        seen.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        if !is_intact(number, &bytes) {
            seen.wrong += 1;
        }
        if source != self.source {
            // A source that was started again counts from anew.
            self.source = source;
        } else if number < seen.next {
            seen.disordered += 1;
        } else {
            seen.missing += number - seen.next;
        }
        seen.next = number + 1;
        self.held.push_back((number, bytes));
        if HELD_MAX < self.held.len()
            && let Some((number, bytes)) = self.held.pop_front()
            && !is_intact(number, &bytes)
        {
            seen.changed += 1;
        }
    }

    /// Looks at everything that is held, without letting it go.
    fn look_again(&mut self) {
        let changed = |(number, bytes): &&(u64, Bytes)| !is_intact(*number, bytes);
        let n_changed = self.held.iter().filter(changed).count();
        self.seen.changed += u64::try_from(n_changed).unwrap_or(0);
    }

    fn with_counters(&self, bus: &Bus) -> Seen {
        let rows = bus.counters();
        let row = rows.iter().find(|(key, _)| *key == Contexts::ROW.key);
        let row = row.map(|(_, row)| *row).unwrap_or_default();
        Seen {
            shared: row.received_shared,
            malformed: row.malformed,
            overwritten: row.overwritten,
            ..self.seen
        }
    }
}

/// Says up to which number all have come.
fn acknowledgement(next: u64) -> anyhow::Result<ThinkRequest> {
    Ok(ThinkRequest {
        id: next,
        epoch: 0,
        task: TASK.parse()?,
        attempt: 0,
        requested_at_ns: 0,
        earliest_tick: 0,
        earliest_captured_ns: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::payload::fill;
    use super::*;

    fn bytes(number: u64) -> Bytes {
        let mut bytes = vec![0; 64];
        fill(number, &mut bytes);
        bytes.into()
    }

    #[test]
    fn what_is_lost_late_or_of_another_number_is_counted() {
        let mut sink = Sink::default();
        for (number, content) in [(0, 0), (1, 1), (4, 4), (3, 3), (4, 9)] {
            sink.take(0, number, bytes(content));
        }
        let Seen {
            parts,
            wrong,
            missing,
            disordered,
            ..
        } = sink.seen;
        assert_eq!((parts, wrong, missing, disordered), (5, 1, 2, 1));
        sink.look_again();
        assert_eq!(sink.seen.changed, 1);
    }

    #[test]
    fn sizes_stay_within_their_bounds_and_differ() {
        let mut sizes = Shortest::new((400, 1700));
        let all: Vec<_> = (0..2000).map(|number| sizes.of(number)).collect();
        assert!(all.iter().all(|size| (400..=1700).contains(size)));
        assert!(all.iter().any(|size| *size < 500) && all.iter().any(|size| 1600 < *size));
        assert_eq!(Shortest::new((7, 7)).of(123), 7);
    }
}
