//! What a link does, untyped: bytes on keys.
//!
//! Both links deliver into a [`slot::Slot`], which is the only queue of a reader and bounded by
//! the row of its stream. Nothing is decoded here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vlad_wire::codec::{Body, Packet};
use vlad_wire::stream::{Lane, Row};

use crate::buffer::Buffers;
use crate::error::BusError;
use crate::link::promise::Promise;
use crate::link::slot::{Item, Limits, Slot};

pub(crate) mod promise;
pub(crate) mod queue;
pub(crate) mod slot;
pub(crate) mod zenoh;

/// One way to carry bytes between publishers and readers.
pub(crate) trait Link: Send + Sync {
    /// Announces a publisher of a key.
    fn publish(&self, key: String, row: &Row) -> Result<Box<dyn Put>, BusError>;

    /// Delivers what is put on keys into the slot, while the feed lives.
    fn subscribe(
        &self,
        keys: &str,
        row: &Row,
        slot: Arc<Slot<Parcel>>,
    ) -> Result<Box<dyn Feed>, BusError>;

    /// Delivers what is asked under a key into the slot, while the feed lives.
    fn serve(
        &self,
        key: &str,
        row: &Row,
        slot: Arc<Slot<Question>>,
    ) -> Result<Box<dyn Feed>, BusError>;

    /// Asks; the promise is kept, or broken when nobody answers in time.
    fn ask(&self, key: &str, row: &Row, packet: Packet, timeout: Duration) -> Arc<Promise>;

    /// Puts any bytes on any key.
    fn put_raw(&self, key: &str, lane: Lane, packet: Packet) -> Result<(), BusError>;

    /// Shows a liveliness token while the feed lives.
    fn declare_token(&self, key: String) -> Result<Box<dyn Feed>, BusError>;

    /// Delivers which tokens come and go, with those that exist, while the feed lives.
    fn watch_tokens(
        &self,
        keys: &str,
        slot: Arc<Slot<TokenChange>>,
    ) -> Result<Box<dyn Feed>, BusError>;

    /// Gives out buffers for raw bytes; of the heap where the link shares no memory.
    fn buffers(&self) -> Buffers {
        Buffers::default()
    }

    /// Counts the peers that are connected.
    fn peers(&self) -> usize;

    /// Ends the link.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// A publisher of one key.
pub(crate) trait Put: Send + Sync {
    /// Hands a packet to the link; never blocks for a reader.
    fn put(&self, packet: Packet) -> Result<Handed, BusError>;
}

/// How a packet was handed to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    /// As bytes.
    Bytes,
    /// As a piece of shared memory.
    Shared,
}

/// A declaration; dropping it takes the declaration back.
pub(crate) trait Feed: Send {
    /// Moves what is due by now into the slot; of a link in real time everything already is.
    fn advance(&mut self) {}
}

/// The way back to who asked; dropping it unused tells them that there is no answer.
pub(crate) trait Reply: Send {
    /// Answers.
    fn send(self: Box<Self>, packet: Packet) -> Result<(), BusError>;
}

/// Something that was asked.
pub(crate) struct Question {
    pub(crate) parcel: Parcel,
    pub(crate) reply: Box<dyn Reply>,
}

/// A token that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenChange {
    pub(crate) key: String,
    pub(crate) alive: bool,
}

/// A packet as a link holds it: sizes are known, nothing is copied yet.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    /// Bytes of this process.
    Packet(Packet),
    /// Buffers of zenoh: small messages as payload alone, raw bytes with their head attached.
    Zenoh {
        payload: ::zenoh::bytes::ZBytes,
        attachment: Option<::zenoh::bytes::ZBytes>,
    },
}

impl Parcel {
    /// Gives the packet; contiguous buffers are taken over, others are copied once.
    pub(crate) fn into_packet(self) -> Packet {
        match self {
            Self::Packet(packet) => packet,
            Self::Zenoh {
                payload,
                attachment: None,
            } => Packet {
                head: zenoh::into_bytes(payload),
                raw: Bytes::new(),
            },
            Self::Zenoh {
                payload,
                attachment: Some(head),
            } => Packet {
                head: zenoh::into_bytes(head),
                raw: zenoh::into_bytes(payload),
            },
        }
    }
}

/// Packs a body, and refuses one that its readers would drop as too long.
pub(crate) fn pack<B: Body>(body: &B) -> Result<Packet, BusError> {
    let packet = body.pack()?;
    Limits::of::<B>().check((packet.head.len(), packet.raw.len()))?;
    Ok(packet)
}

impl Item for Parcel {
    fn sizes(&self) -> (usize, usize) {
        match self {
            Self::Packet(packet) => (packet.head.len(), packet.raw.len()),
            Self::Zenoh {
                payload,
                attachment: None,
            } => (payload.len(), 0),
            Self::Zenoh {
                payload,
                attachment: Some(head),
            } => (head.len(), payload.len()),
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self, Self::Zenoh { payload, .. } if payload.as_shm().is_some())
    }
}

impl Item for Question {
    fn sizes(&self) -> (usize, usize) {
        self.parcel.sizes()
    }
}

impl Item for TokenChange {
    fn sizes(&self) -> (usize, usize) {
        (self.key.len(), 0)
    }
}
