//! Opens a link and gives out typed publishers, readers, servers, clients and tokens.

use std::sync::Arc;

use vlad_wire::clock::SharedClock;
use vlad_wire::codec::Packet;
use vlad_wire::id::{CellId, Role};
use vlad_wire::stream::{Command, Lane, Row, Stream, token_key, token_keys};

use crate::buffer::Buffers;
use crate::command::{Client, Server};
use crate::config::ZenohConfig;
use crate::counters::{Counters, StreamCounters};
use crate::error::BusError;
use crate::link::Link;
use crate::link::queue::Queue;
use crate::link::slot::{Limits, Slot};
use crate::link::zenoh::Zenoh;
use crate::liveliness::{AliveToken, AliveWatch, WATCH_KEEP, WATCH_LIMITS};
use crate::publisher::Publisher;
use crate::subscriber::Subscriber;
use crate::travel::Travel;
use crate::waker::Waker;

/// The bus of one process; clones share the link.
#[derive(Clone)]
pub struct Bus {
    link: Arc<dyn Link>,
    counters: Arc<Counters>,
}

impl Bus {
    /// Opens a session of zenoh. Peers that it connects to need not be there yet: they are called
    /// until they are, and [`Bus::peers`] and liveliness tokens tell when.
    ///
    /// # Errors
    /// [`BusError::Endpoint`] for an endpoint that is not allowed, [`BusError::Open`] with the
    /// endpoints if one is taken, [`BusError::Runtime`] outside a runtime of several threads.
    pub async fn zenoh(config: ZenohConfig) -> Result<Self, BusError> {
        Ok(Self::over(Arc::new(Zenoh::open(&config).await?)))
    }

    /// Opens an in-process bus in virtual time: a message of a row that is put at `now` can be read
    /// when the clock shows `now + delay_ns(row)`; those of equal time in the order of putting.
    /// `u64::MAX` loses the message. Liveliness takes no time.
    pub fn queue(
        clock: SharedClock,
        delay_ns: impl Fn(&Row) -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self::travelling(clock, move |row| Travel::once(delay_ns(row)))
    }

    /// As [`Bus::queue`], for latency that is injected: `travel` is called once for each message that
    /// is put, question and answer, in the order of sending, so that it may count and draw. Messages of
    /// one row overtake each other where their travels say so.
    pub fn travelling(
        clock: SharedClock,
        travel: impl Fn(&Row) -> Travel + Send + Sync + 'static,
    ) -> Self {
        Self::over(Arc::new(Queue::new(clock, Box::new(travel))))
    }

    fn over(link: Arc<dyn Link>) -> Self {
        Self {
            link,
            counters: Arc::new(Counters::new()),
        }
    }

    /// Announces a publisher; `part` names the view, role or part where the row's key has one, and
    /// is ignored where it has none.
    ///
    /// # Errors
    /// [`BusError::Part`] if `part` is no plain name, [`BusError::Key`] if the link refuses the key.
    pub fn publisher<S: Stream>(
        &self,
        cell: &CellId,
        part: &str,
    ) -> Result<Publisher<S>, BusError> {
        check_part(&S::ROW, part)?;
        let put = self.link.publish(S::key(cell, part), &S::ROW)?;
        Ok(Publisher::new(put, self.counters.of(&S::ROW)))
    }

    /// Reads a stream; the part `*` reads every part. The waker, if any, is woken at each arrival;
    /// on a queue when something is put, which may be before it can be read.
    ///
    /// # Errors
    /// [`BusError::Part`] if `part` is neither `*` nor a plain name, [`BusError::Key`] if the link
    /// refuses the key.
    pub fn subscriber<S: Stream>(
        &self,
        cell: &CellId,
        part: &str,
        waker: Option<Waker>,
    ) -> Result<Subscriber<S>, BusError> {
        if part != EVERY_PART {
            check_part(&S::ROW, part)?;
        }
        let counters = self.counters.of(&S::ROW);
        let slot = Arc::new(Slot::new(
            S::ROW.keep,
            Limits::of::<S::Body>(),
            counters,
            waker,
        ));
        let feed = self
            .link
            .subscribe(&S::key(cell, part), &S::ROW, Arc::clone(&slot))?;
        Ok(Subscriber::new(feed, slot))
    }

    /// Serves a command.
    ///
    /// # Errors
    /// [`BusError::Key`] if the link refuses the key.
    pub fn server<C: Command>(
        &self,
        cell: &CellId,
        waker: Option<Waker>,
    ) -> Result<Server<C>, BusError> {
        let counters = self.counters.of(&C::ROW);
        let slot = Arc::new(Slot::new(
            C::ROW.keep,
            Limits::of::<C::Ask>(),
            counters,
            waker,
        ));
        let feed = self.link.serve(&C::key(cell), &C::ROW, Arc::clone(&slot))?;
        Ok(Server::new(feed, slot))
    }

    /// Gives commands to whoever serves them.
    ///
    /// # Errors
    /// None today; a link may refuse the key.
    pub fn client<C: Command>(&self, cell: &CellId) -> Result<Client<C>, BusError> {
        Ok(Client::new(
            Arc::clone(&self.link),
            C::key(cell),
            self.counters.of(&C::ROW),
        ))
    }

    /// Shows a token as long as it is held and this process lives.
    ///
    /// # Errors
    /// [`BusError::Key`] if the link refuses the key.
    pub fn declare_alive(
        &self,
        cell: &CellId,
        role: Role,
        session: u64,
    ) -> Result<AliveToken, BusError> {
        Ok(AliveToken::new(
            self.link.declare_token(token_key(cell, role, session))?,
        ))
    }

    /// Watches the tokens of a cell; those that exist already are reported too.
    ///
    /// # Errors
    /// [`BusError::Key`] if the link refuses the key.
    pub fn watch_alive(&self, cell: &CellId, waker: Option<Waker>) -> Result<AliveWatch, BusError> {
        let slot = Arc::new(Slot::new(WATCH_KEEP, WATCH_LIMITS, Arc::default(), waker));
        let feed = self
            .link
            .watch_tokens(&token_keys(cell), Arc::clone(&slot))?;
        Ok(AliveWatch::new(feed, slot))
    }

    /// Gives out buffers for the raw bytes of large bodies, to be filled in place: in memory that is
    /// shared with the processes of this host where the session has some, else of the heap.
    ///
    /// For parts of contexts; a body that was filled elsewhere travels as well, copied.
    pub fn buffers(&self) -> Buffers {
        self.link.buffers()
    }

    /// Gives the counters of every row of the table, by the row's key.
    pub fn counters(&self) -> Vec<(&'static str, StreamCounters)> {
        self.counters.read()
    }

    /// Counts the zenoh peers that are connected; 0 for a queue.
    pub fn peers(&self) -> usize {
        self.link.peers()
    }

    /// Puts any bytes on any key, past every check: for fault scenarios and tests.
    ///
    /// # Errors
    /// [`BusError::Key`] or [`BusError::Send`] if the link refuses the key or the message.
    pub fn put_raw(&self, key: &str, lane: Lane, packet: Packet) -> Result<(), BusError> {
        self.link.put_raw(key, lane, packet)
    }

    /// Ends the link; what is published after it goes nowhere.
    pub async fn close(&self) {
        self.link.close().await;
    }
}

/// The part that stands for every part.
const EVERY_PART: &str = "*";

/// Longest part: as long as a name.
const PART_MAX: usize = 32;

/// Refuses a part that would be more than one segment of a key, or a pattern.
fn check_part(row: &Row, part: &str) -> Result<(), BusError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let fits = !part.is_empty() && part.len() <= PART_MAX && part.chars().all(plain);
    if fits || !row.key.contains('{') {
        Ok(())
    } else {
        Err(BusError::Part {
            row: row.key,
            part: part.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use vlad_wire::stream::{Frames, Joints};

    use super::*;

    #[test]
    fn a_part_is_one_plain_segment() {
        for good in ["ego", "7", "left_wrist", "action-expert"] {
            assert!(check_part(&Frames::ROW, good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            "**",
            "a/b",
            "a*",
            "$*",
            "Ego",
            "a b",
            "?x",
            "#",
            &"a".repeat(33),
        ] {
            assert!(check_part(&Frames::ROW, bad).is_err(), "{bad}");
        }
        assert!(check_part(&Joints::ROW, "").is_ok());
    }
}
