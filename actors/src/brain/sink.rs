//! Publishes contexts as a policy computes them, from the worker's thread.
//!
//! Fills in what a policy does not know: times, and the number of the thinking.

use std::collections::BTreeMap;

use tracing::warn;
use vlad_bus::buffer::Buffers;
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_motion::policy::{ContextSink, PolicyError};
use vlad_wire::clock::SharedClock;
use vlad_wire::codec::{Body, Packet};
use vlad_wire::id::CellId;
use vlad_wire::msg::think::{Context, ContextHead, ContextPart, PartHead};
use vlad_wire::stream::Contexts;

/// The publishers of all cells, and buffers for what they send.
pub(super) struct Publishers {
    bus: Bus,
    buffers: Buffers,
    cells: BTreeMap<CellId, OfCell>,
}

struct OfCell {
    head: Publisher<Contexts>,
    /// One for each part that was ever sent.
    parts: Vec<Publisher<Contexts>>,
}

impl Publishers {
    pub(super) fn new(bus: &Bus, cells: &[CellId]) -> Result<Self, BusError> {
        let of_cell = |cell: &CellId| {
            let head = bus.publisher(cell, "head")?;
            let parts = Vec::new();
            Ok((cell.clone(), OfCell { head, parts }))
        };
        Ok(Self {
            bus: bus.clone(),
            buffers: bus.buffers(),
            cells: cells.iter().map(of_cell).collect::<Result<_, BusError>>()?,
        })
    }

    fn put(&mut self, cell: &CellId, place: Place, message: Message) -> Result<(), BusError> {
        let Some(of_cell) = self.cells.get_mut(cell) else {
            return Ok(());
        };
        let publisher = match place {
            Place::Head => Some(&of_cell.head),
            Place::Part(index) => {
                let index = usize::from(index);
                while of_cell.parts.len() <= index {
                    let part = format!("p{}", of_cell.parts.len());
                    of_cell.parts.push(self.bus.publisher(cell, &part)?);
                }
                of_cell.parts.get(index)
            }
        };
        match (publisher, message) {
            (Some(publisher), Message::Body(body)) => publisher.put(&body),
            (Some(publisher), Message::Packed(packet)) => publisher.put_packed(packet),
            (None, _) => {}
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Place {
    Head,
    Part(u16),
}

enum Message {
    Body(Context),
    /// Written in place.
    Packed(Packet),
}

/// Takes the contexts of one call of a policy.
pub(super) struct Sink<'a> {
    publishers: &'a mut Publishers,
    clock: &'a SharedClock,
    /// Of each job.
    cells: &'a [CellId],
    thinking: u64,
    from_ns: u64,
    /// What is not published before the end of the call.
    held: Option<Vec<(usize, Place, Message)>>,
}

impl<'a> Sink<'a> {
    /// Publishes as things become ready.
    pub(super) fn new(
        publishers: &'a mut Publishers,
        clock: &'a SharedClock,
        (cells, thinking): (&'a [CellId], u64),
    ) -> Self {
        Self {
            publishers,
            clock,
            cells,
            thinking,
            from_ns: clock.now_ns(),
            held: None,
        }
    }

    /// Publishes nothing before [`Sink::release`].
    pub(super) fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    /// Ends the call: publishes what was held of the jobs that came out well.
    pub(super) fn release(mut self, results: &[Result<(), PolicyError>]) {
        for (job, place, message) in self.held.take().into_iter().flatten() {
            if matches!(results.get(job), Some(Ok(()))) {
                self.send(job, place, message);
            }
        }
    }

    fn send(&mut self, job: usize, place: Place, message: Message) {
        if let Some(held) = &mut self.held {
            held.push((job, place, message));
            return;
        }
        let Some(cell) = self.cells.get(job) else {
            return;
        };
        if let Err(error) = self.publishers.put(cell, place, message) {
            warn!(%cell, %error, "a part of the context is not published");
        }
    }

    fn stamp(&self, head: &mut PartHead) {
        head.thinking = self.thinking;
        head.ready_at_ns = self.clock.now_ns();
    }
}

impl ContextSink for Sink<'_> {
    fn head(&mut self, job: usize, mut head: ContextHead) {
        head.thinking = self.thinking;
        head.thought_from_ns = self.from_ns;
        head.prepared_at_ns = self.clock.now_ns();
        let message = Message::Body(Context::Head(Box::new(head)));
        self.send(job, Place::Head, message);
    }

    fn part(&mut self, job: usize, mut part: ContextPart) {
        self.stamp(&mut part.head);
        let place = Place::Part(part.head.index);
        self.send(job, place, Message::Body(Context::Part(part)));
    }

    fn write(
        &mut self,
        job: usize,
        mut head: PartHead,
        write: &mut dyn FnMut(&mut [u8]) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        self.stamp(&mut head);
        let odd = |problem: String| PolicyError::Decide(problem);
        let n_bytes = head
            .n_bytes()
            .and_then(|n| n.checked_add(ContextPart::SEAL));
        let fitting = n_bytes.filter(|n| *n <= Context::RAW_MAX);
        let n_bytes = fitting.ok_or_else(|| {
            let (name, most) = (&head.name, Context::RAW_MAX);
            odd(format!(
                "{name} is larger than the {most} bytes of a message"
            ))
        })?;
        let unwritable = |error: vlad_wire::codec::CodecError| odd(error.to_string());
        let small = ContextPart::small(&head).map_err(unwritable)?;
        let mut raw = self.publishers.buffers.take(n_bytes);
        let (data, _) = raw.split_at_mut(n_bytes - ContextPart::SEAL);
        write(data)?;
        ContextPart::seal(&small, &mut raw).map_err(unwritable)?;
        let packet = Packet {
            head: small,
            raw: raw.freeze(),
        };
        self.send(job, Place::Part(head.index), Message::Packed(packet));
        Ok(())
    }
}
