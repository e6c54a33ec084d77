//! Publishes the bodies of one stream.

use std::marker::PhantomData;
use std::sync::Arc;

use vlad_wire::codec::Packet;
use vlad_wire::stream::Stream;

use crate::counters::RowCounters;
use crate::error::BusError;
use crate::link::slot::Limits;
use crate::link::{Handed, Put, pack};

/// Publishes the bodies of one stream, under one key.
pub struct Publisher<S> {
    put: Box<dyn Put>,
    counters: Arc<RowCounters>,
    stream: PhantomData<fn() -> S>,
}

impl<S: Stream> Publisher<S> {
    pub(crate) fn new(put: Box<dyn Put>, counters: Arc<RowCounters>) -> Self {
        Self {
            put,
            counters,
            stream: PhantomData,
        }
    }

    /// Packs and sends a body; does not wait for readers.
    ///
    /// What cannot be packed, is longer than the stream allows or is refused by the link is
    /// counted as `put_failed`. A body that was handed over may still be lost on the way: readers
    /// notice by their row's staleness.
    pub fn put(&self, body: &S::Body) {
        self.hand_over(pack(body));
    }

    /// Sends a body that its sender packed itself, the raw bytes in place: in a
    /// [`Buffer`](crate::buffer::Buffer) of [`Bus::buffers`](crate::bus::Bus::buffers), frozen.
    /// Then nothing is copied here, and where the buffer lies in shared memory neither on the way.
    ///
    /// Lengths are checked, the content is not: readers refuse what is no body. Otherwise as
    /// [`Publisher::put`].
    pub fn put_packed(&self, packet: Packet) {
        let limits = Limits::of::<S::Body>();
        let checked = limits.check((packet.head.len(), packet.raw.len()));
        self.hand_over(checked.map(|()| packet).map_err(BusError::Codec));
    }

    fn hand_over(&self, packet: Result<Packet, BusError>) {
        let sent = packet.and_then(|packet| self.put.put(packet));
        self.counters.count_put(sent.is_ok());
        match sent {
            Ok(Handed::Bytes) => {}
            Ok(Handed::Shared) => self.counters.count_put_shared(),
            Err(error) => tracing::debug!(stream = S::ROW.key, %error, "not published"),
        }
    }
}
