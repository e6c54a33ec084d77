//! The child that publishes parts: the brain's half of a hand-over.

use std::io::stdin;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::Builder;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use vlad_bus::buffer::Buffers;
use vlad_bus::bus::Bus;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_wire::clock::{Clock, MS, SystemClock};
use vlad_wire::codec::Packet;
use vlad_wire::id::CellId;
use vlad_wire::msg::think::ContextPart;
use vlad_wire::stream::{Contexts, Requests};

use super::child::{parse, say};
use super::payload::{N_PARTS, fill, head, pack};
use super::sink::Shortest;

/// Longest wait for the reader when the window is full: it may have died, or messages were lost.
const WINDOW_WAIT_NS: u64 = 100 * MS;

/// What a source is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Publish parts, each with the content of its number.
    Parts(Parts),
    /// Publish one whole context from memory that is warm, and say how long that took.
    Context(Whole),
    /// Publish nothing more; answer when that is understood.
    Halt,
}

/// Parts to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parts {
    /// Number of the first.
    pub first: u64,
    /// How many; a `Halt` ends it before.
    pub count: u64,
    /// Shortest and longest, bytes.
    pub sizes: (usize, usize),
    /// How many may be on the way before the reader has said that it has them; 0 never waits.
    pub window: u64,
}

/// A context to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Bytes of each part.
    pub n_bytes: usize,
    /// In buffers of the bus; else of the heap.
    pub shared: bool,
    /// With the checksum; without it readers of the stream refuse the parts.
    pub checked: bool,
}

/// What a source has done with an order.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Published {
    /// Number behind the last one.
    pub next: u64,
    /// Parts in shared memory.
    pub shared: u64,
    /// Parts for which the pool had no room.
    pub refused: u64,
    /// When the first byte was copied.
    pub from_ns: u64,
    /// When the last part was handed over.
    pub until_ns: u64,
}

struct Source {
    id: u64,
    buffers: Buffers,
    publisher: Publisher<Contexts>,
    acknowledged: Subscriber<Requests>,
    waker: Waker,
    orders: Receiver<String>,
    /// What contexts are copied from.
    memory: Vec<Vec<u8>>,
}

/// Publishes as it is told, until nobody tells any more.
///
/// # Errors
/// Orders that make no sense; a bus that cannot be used.
pub async fn run(bus: &Bus, cell: &CellId) -> anyhow::Result<()> {
    let waker = Waker::new();
    let (sender, orders) = sync_channel(4);
    Builder::new()
        .name("bench-orders".to_owned())
        .spawn(move || {
            for line in stdin().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
    let mut source = Source {
        id: SystemClock.now_ns(),
        buffers: bus.buffers(),
        publisher: bus.publisher::<Contexts>(cell, "0")?,
        acknowledged: bus.subscriber::<Requests>(cell, "", Some(waker.clone()))?,
        waker,
        orders,
        memory: Vec::new(),
    };
    say(&Published::default())?;
    // The channel is closed when the orders end.
    while let Ok(line) = source.orders.recv() {
        let published = match parse(&line)? {
            Order::Parts(parts) => source.publish(&parts).await?,
            Order::Context(whole) => source.context(whole)?,
            Order::Halt => Published::default(),
        };
        say(&published)?;
    }
    Ok(())
}

impl Source {
    async fn publish(&mut self, parts: &Parts) -> anyhow::Result<Published> {
        let before = self.buffers.counters();
        let from_ns = SystemClock.now_ns();
        let mut sizes = Shortest::new(parts.sizes);
        let end = parts.first.saturating_add(parts.count);
        let mut next = parts.first;
        let mut seen = parts.first;
        while next < end && self.orders.try_recv() == Err(TryRecvError::Empty) {
            if parts.window != 0 {
                seen = self.wait(next, seen, parts.window).await;
            }
            let n_bytes = sizes.of(next);
            let mut buffer = self.buffers.take(n_bytes + ContextPart::SEAL);
            let (content, _) = buffer.split_at_mut(n_bytes);
            fill(next, content);
            self.publisher
                .put_packed(pack(&head(self.id, next, n_bytes)?, buffer)?);
            next += 1;
        }
        let after = self.buffers.counters();
        Ok(Published {
            next,
            shared: after.shared - before.shared,
            refused: after.refused - before.refused,
            from_ns,
            until_ns: SystemClock.now_ns(),
        })
    }

    /// Waits until less than a window's parts are on the way, or the reader was silent for too
    /// long; gives the number up to which all have arrived or been given up.
    async fn wait(&mut self, next: u64, mut seen: u64, window: u64) -> u64 {
        let give_up_ns = SystemClock.now_ns() + WINDOW_WAIT_NS;
        loop {
            while let Some(request) = self.acknowledged.try_next() {
                seen = seen.max(request.id);
            }
            if next < seen.saturating_add(window) {
                return seen;
            }
            let left_ns = give_up_ns.saturating_sub(SystemClock.now_ns());
            if left_ns == 0 {
                return next;
            }
            let left = std::time::Duration::from_nanos(left_ns);
            // Late is as good as woken: the loop looks again.
            drop(tokio::time::timeout(left, self.waker.woken()).await);
        }
    }

    fn context(&mut self, whole: Whole) -> anyhow::Result<Published> {
        let n_bytes = whole.n_bytes;
        if self.memory.first().is_none_or(|part| part.len() != n_bytes) {
            let part = |number| {
                let mut bytes = vec![0; n_bytes];
                fill(number, &mut bytes);
                bytes
            };
            self.memory = (0..u64::from(N_PARTS)).map(part).collect();
        }
        let heap = Buffers::default();
        let buffers = if whole.shared { &self.buffers } else { &heap };
        let before = self.buffers.counters();
        let from_ns = SystemClock.now_ns();
        for (number, part) in (0..).zip(&self.memory) {
            let head = head(self.id, number, n_bytes)?;
            let mut buffer = buffers.take(n_bytes + ContextPart::SEAL);
            let (content, _) = buffer.split_at_mut(n_bytes);
            content.copy_from_slice(part);
            let packet = if whole.checked {
                pack(&head, buffer)?
            } else {
                Packet {
                    head: ContextPart::small(&head)?,
                    raw: buffer.freeze(),
                }
            };
            self.publisher.put_packed(packet);
        }
        let after = self.buffers.counters();
        Ok(Published {
            next: u64::from(N_PARTS),
            shared: after.shared - before.shared,
            refused: after.refused - before.refused,
            from_ns,
            until_ns: SystemClock.now_ns(),
        })
    }
}

/// Tells a source that is at work to stop, and takes what it has done.
///
/// # Errors
/// A source that has ended.
pub fn halt(
    source: &mut super::child::Child,
    patience: std::time::Duration,
) -> anyhow::Result<Published> {
    source.tell(&Order::Halt)?;
    source.answer(patience).context("the source does not halt")
}
