//! Commands: queries with answers.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use vlad_wire::codec::{Packet, unpack};
use vlad_wire::stream::Command;

use crate::counters::RowCounters;
use crate::error::BusError;
use crate::link::promise::Promise;
use crate::link::slot::Slot;
use crate::link::{Feed, Link, Question, Reply, pack};

/// Serves one command.
pub struct Server<C> {
    feed: Box<dyn Feed>,
    slot: Arc<Slot<Question>>,
    command: PhantomData<fn() -> C>,
}

/// Something that was asked; dropping it tells the asker that there is no answer.
pub struct Asked<C: Command> {
    /// What was asked.
    pub ask: C::Ask,
    reply: Box<dyn Reply>,
    slot: Arc<Slot<Question>>,
}

/// Gives one command.
pub struct Client<C> {
    link: Arc<dyn Link>,
    key: String,
    counters: Arc<RowCounters>,
    command: PhantomData<fn() -> C>,
}

/// An answer that is on its way.
pub struct Pending<C> {
    promise: Arc<Promise>,
    counters: Arc<RowCounters>,
    command: PhantomData<fn() -> C>,
}

impl<C: Command> Server<C> {
    pub(crate) fn new(feed: Box<dyn Feed>, slot: Arc<Slot<Question>>) -> Self {
        Self {
            feed,
            slot,
            command: PhantomData,
        }
    }

    /// Takes the oldest ask; `None` if there is none by now.
    ///
    /// What cannot be read is dropped and counted, its asker gets no answer, and the next one is
    /// tried.
    pub fn try_next(&mut self) -> Option<Asked<C>> {
        self.feed.advance();
        while let Some(Question { parcel, reply }) = self.slot.take() {
            match unpack(parcel.into_packet()) {
                Ok(ask) => {
                    return Some(Asked {
                        ask,
                        reply,
                        slot: Arc::clone(&self.slot),
                    });
                }
                Err(error) => {
                    self.slot.counters().count_malformed();
                    tracing::debug!(command = C::ROW.key, %error, "dropped an ask");
                }
            }
        }
        None
    }
}

impl<C: Command> Asked<C> {
    /// Answers; failures are counted as `put_failed`, and the asker gets no answer.
    pub fn answer(self, answer: &C::Answer) {
        let reply = self.reply;
        let sent = pack(answer).and_then(|packet| reply.send(packet));
        self.slot.counters().count_put(sent.is_ok());
        if let Err(error) = sent {
            tracing::debug!(command = C::ROW.key, %error, "not answered");
        }
    }
}

impl<C: Command> Client<C> {
    pub(crate) fn new(link: Arc<dyn Link>, key: String, counters: Arc<RowCounters>) -> Self {
        Self {
            link,
            key,
            counters,
            command: PhantomData,
        }
    }

    /// Asks whoever serves the command, and waits for the answer at most `timeout`, of the virtual
    /// clock where the link is a queue. What cannot be packed is an error of the answer.
    pub fn ask(&self, ask: &C::Ask, timeout: Duration) -> Pending<C> {
        match pack(ask) {
            Ok(packet) => self.ask_raw(packet, timeout),
            Err(error) => {
                self.counters.count_put(false);
                let promise = Promise::new(None);
                promise.break_with(error);
                self.pending(promise)
            }
        }
    }

    /// Asks with any bytes, past every check: for fault scenarios and tests.
    pub fn ask_raw(&self, packet: Packet, timeout: Duration) -> Pending<C> {
        self.counters.count_put(true);
        self.pending(self.link.ask(&self.key, &C::ROW, packet, timeout))
    }

    fn pending(&self, promise: Arc<Promise>) -> Pending<C> {
        Pending {
            promise,
            counters: Arc::clone(&self.counters),
            command: PhantomData,
        }
    }
}

impl<C: Command> Pending<C> {
    /// Takes the answer if it is there; `None` if not yet, and after it was taken.
    ///
    /// # Errors
    /// [`BusError::NoAnswer`] if nobody serves the command or the time is up, [`BusError::Codec`]
    /// if the answer cannot be read, [`BusError::Send`] if the link refused the ask.
    pub fn try_take(&mut self) -> Option<Result<C::Answer, BusError>> {
        let parcel = match self.promise.take()? {
            Ok(parcel) => parcel,
            Err(error) => return Some(Err(error)),
        };
        let answer = unpack(parcel.into_packet());
        if answer.is_err() {
            self.counters.count_malformed();
        }
        Some(answer.map_err(BusError::Codec))
    }

    /// Waits for the answer. On a queue it ends only after somebody else moves the clock: use
    /// [`Pending::try_take`] there.
    ///
    /// # Errors
    /// As [`Pending::try_take`]; [`BusError::NoAnswer`] if the answer was taken before.
    pub async fn wait(mut self) -> Result<C::Answer, BusError> {
        loop {
            if let Some(answer) = self.try_take() {
                return answer;
            }
            if self.promise.is_spent() {
                return Err(BusError::NoAnswer);
            }
            self.promise.settled().await;
        }
    }
}
