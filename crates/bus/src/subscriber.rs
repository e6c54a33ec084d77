//! Reads the bodies of one stream.

use std::marker::PhantomData;
use std::sync::Arc;

use vlad_wire::codec::unpack;
use vlad_wire::stream::Stream;

use crate::link::slot::Slot;
use crate::link::{Feed, Parcel};

/// Reads the bodies of one stream, and keeps as many as its row says.
pub struct Subscriber<S> {
    feed: Box<dyn Feed>,
    slot: Arc<Slot<Parcel>>,
    malformed: u64,
    stream: PhantomData<fn() -> S>,
}

impl<S: Stream> Subscriber<S> {
    pub(crate) fn new(feed: Box<dyn Feed>, slot: Arc<Slot<Parcel>>) -> Self {
        Self {
            feed,
            slot,
            malformed: 0,
            stream: PhantomData,
        }
    }

    /// Takes and decodes the oldest sample that is kept; `None` if there is none by now.
    ///
    /// What is no body of the stream is dropped and counted, and the next one is tried.
    pub fn try_next(&mut self) -> Option<S::Body> {
        self.feed.advance();
        while let Some(parcel) = self.slot.take() {
            match unpack(parcel.into_packet()) {
                Ok(body) => return Some(body),
                Err(error) => {
                    self.slot.counters().count_malformed();
                    self.malformed += 1;
                    tracing::debug!(stream = S::ROW.key, %error, "dropped a sample");
                }
            }
        }
        None
    }

    /// Counts what this reader dropped as no body of the stream; the row's counter has it too.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }
}
