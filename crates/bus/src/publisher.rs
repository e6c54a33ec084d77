//! Publishes the bodies of one stream.

use std::marker::PhantomData;
use std::sync::Arc;

use vlad_wire::stream::Stream;

use crate::counters::RowCounters;
use crate::link::{Put, pack};

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
        let sent = pack(body).and_then(|packet| self.put.put(packet));
        self.counters.count_put(sent.is_ok());
        if let Err(error) = sent {
            tracing::debug!(stream = S::ROW.key, %error, "not published");
        }
    }
}
