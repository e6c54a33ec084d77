//! The in-process link in virtual time: what is put now is visible when the clock says so.
//!
//! Made for cores that run on one thread: order is (delivery time, then order of putting), so a
//! run is the same every time. Nobody sleeps here; whoever moves the clock asks the readers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use vlad_wire::clock::SharedClock;
use vlad_wire::codec::Packet;
use vlad_wire::stream::{Lane, Row};
use zenoh::key_expr::{OwnedKeyExpr, keyexpr};

use crate::error::{BusError, LinkError};
use crate::link::promise::{Debt, Expiry, Promise, TimedReply};
use crate::link::slot::{Item, Slot};
use crate::link::{Feed, Handed, Link, Parcel, Put, Question, TokenChange};
use crate::travel::Travel;

/// Most messages that are on their way to one reader: ten seconds of the fastest stream.
const IN_FLIGHT_MAX: usize = 4096;

/// How a message of a row travels; called once for each message.
pub(crate) type Delay = Box<dyn Fn(&Row) -> Travel + Send + Sync>;

/// The in-process link.
#[derive(Clone)]
pub(crate) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    clock: SharedClock,
    delay: Delay,
    board: Mutex<Board>,
}

/// Who listens. Readers hold their inbox; the board forgets those that are gone.
#[derive(Default)]
struct Board {
    n_put: u64,
    readers: Vec<Weak<Inbox<Parcel>>>,
    servers: Vec<Weak<Inbox<Question>>>,
    tokens: BTreeSet<String>,
    watchers: Vec<Weak<Watcher>>,
}

/// What is on its way to one reader, by delivery time and order of putting.
struct Inbox<T> {
    keys: OwnedKeyExpr,
    row: Row,
    clock: SharedClock,
    in_flight: Mutex<BTreeMap<(u64, u64), (String, T)>>,
    slot: Arc<Slot<T>>,
}

struct Watcher {
    keys: OwnedKeyExpr,
    slot: Arc<Slot<TokenChange>>,
}

/// A panic elsewhere leaves whole maps and lists behind: they stay in use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(key: &str) -> Result<OwnedKeyExpr, BusError> {
    let parsed = OwnedKeyExpr::new(key);
    parsed.map_err(|source: LinkError| BusError::Key {
        key: key.to_owned(),
        source,
    })
}

impl<T: Item> Inbox<T> {
    fn hears(&self, key: &keyexpr) -> bool {
        self.keys.intersects(key)
    }

    fn send(&self, due_ns: u64, n_put: u64, key: &str, item: T) {
        let mut in_flight = lock(&self.in_flight);
        let lost = if in_flight.len() < IN_FLIGHT_MAX {
            None
        } else {
            in_flight.pop_first()
        };
        in_flight.insert((due_ns, n_put), (key.to_owned(), item));
        drop(in_flight);
        if lost.is_some() {
            self.slot.counters().count_overwritten();
        }
        // What is due leaves the map even if the reader never asks.
        self.deliver();
        self.slot.wake();
    }

    /// Moves what is due by now into the slot, in order.
    fn deliver(&self) {
        let now_ns = self.clock.now_ns();
        loop {
            let mut in_flight = lock(&self.in_flight);
            let Some(entry) = in_flight.first_entry() else {
                return;
            };
            if now_ns < entry.key().0 {
                return;
            }
            let (key, item) = entry.remove();
            drop(in_flight);
            self.slot.offer(&key, item);
        }
    }
}

impl<T: Item> Feed for Arc<Inbox<T>> {
    fn advance(&mut self) {
        self.deliver();
    }
}

impl Shared {
    /// Gives when a message of a row that is sent now arrives; `None` if it is lost.
    fn due_ns(&self, row: &Row) -> Option<u64> {
        self.in_ns((self.delay)(row).after_ns)
    }

    fn in_ns(&self, delay_ns: u64) -> Option<u64> {
        (delay_ns != u64::MAX).then(|| self.clock.now_ns().saturating_add(delay_ns))
    }

    fn put(&self, key: &keyexpr, row: Option<&Row>, packet: &Packet) {
        let mut board = lock(&self.board);
        // Two numbers a message: its second copy comes after it where both arrive at once.
        board.n_put += 2;
        let n_put = board.n_put;
        board.readers.retain(|reader| reader.strong_count() != 0);
        let hearing: Vec<_> = board
            .readers
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|r| r.hears(key))
            .collect();
        drop(board);
        let Some(row) = row.or(hearing.first().map(|reader| &reader.row)) else {
            return;
        };
        let travel = (self.delay)(row);
        let first = self.in_ns(travel.after_ns);
        let twin = travel.twin_after_ns.and_then(|after| self.in_ns(after));
        for (due_ns, n_put) in [(first, n_put), (twin, n_put + 1)] {
            let Some(due_ns) = due_ns else { continue };
            for reader in &hearing {
                reader.send(due_ns, n_put, key.as_str(), Parcel::Packet(packet.clone()));
            }
        }
    }

    fn inbox<T: Item>(
        &self,
        keys: &str,
        row: &Row,
        slot: Arc<Slot<T>>,
    ) -> Result<Arc<Inbox<T>>, BusError> {
        Ok(Arc::new(Inbox {
            keys: parse(keys)?,
            row: *row,
            clock: Arc::clone(&self.clock),
            in_flight: Mutex::default(),
            slot,
        }))
    }

    fn tell(&self, key: &str, alive: bool) {
        let mut board = lock(&self.board);
        let changed = if alive {
            board.tokens.insert(key.to_owned())
        } else {
            board.tokens.remove(key)
        };
        board.watchers.retain(|watcher| watcher.strong_count() != 0);
        let watchers: Vec<_> = board.watchers.iter().filter_map(Weak::upgrade).collect();
        drop(board);
        if changed {
            for watcher in watchers {
                watcher.tell(key, alive);
            }
        }
    }
}

impl Watcher {
    fn tell(&self, key: &str, alive: bool) {
        if keyexpr::new(key).is_ok_and(|key| self.keys.intersects(key)) {
            self.slot.offer(
                key,
                TokenChange {
                    key: key.to_owned(),
                    alive,
                },
            );
        }
    }
}

impl Queue {
    pub(crate) fn new(clock: SharedClock, delay: Delay) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                delay,
                board: Mutex::default(),
            }),
        }
    }
}

impl Link for Queue {
    fn publish(&self, key: String, row: &Row) -> Result<Box<dyn Put>, BusError> {
        let key = parse(&key)?;
        Ok(Box::new(QueuePut {
            shared: Arc::clone(&self.shared),
            key,
            row: *row,
        }))
    }

    fn subscribe(
        &self,
        keys: &str,
        row: &Row,
        slot: Arc<Slot<Parcel>>,
    ) -> Result<Box<dyn Feed>, BusError> {
        let inbox = self.shared.inbox(keys, row, slot)?;
        lock(&self.shared.board)
            .readers
            .push(Arc::downgrade(&inbox));
        Ok(Box::new(inbox))
    }

    fn serve(
        &self,
        key: &str,
        row: &Row,
        slot: Arc<Slot<Question>>,
    ) -> Result<Box<dyn Feed>, BusError> {
        let inbox = self.shared.inbox(key, row, slot)?;
        lock(&self.shared.board)
            .servers
            .push(Arc::downgrade(&inbox));
        Ok(Box::new(inbox))
    }

    fn ask(&self, key: &str, row: &Row, packet: Packet, timeout: Duration) -> Arc<Promise> {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let clock = Arc::clone(&self.shared.clock);
        let at_ns = clock.now_ns().saturating_add(timeout_ns);
        let promise = Promise::new(Some(Expiry { clock, at_ns }));
        // Breaks the promise on every way out that hands it to nobody.
        let debt = Debt::new(&promise);
        let Ok(key) = keyexpr::new(key) else {
            return promise;
        };
        let mut board = lock(&self.shared.board);
        board.n_put += 2;
        let n_put = board.n_put;
        board.servers.retain(|server| server.strong_count() != 0);
        let server = board
            .servers
            .iter()
            .filter_map(Weak::upgrade)
            .find(|s| s.hears(key));
        drop(board);
        let Some(server) = server else { return promise };
        let Some(due_ns) = self.shared.due_ns(row) else {
            debt.lose();
            return promise;
        };
        let (shared, row) = (Arc::clone(&self.shared), *row);
        let reply = Box::new(TimedReply {
            debt,
            due_ns: move || shared.due_ns(&row),
        });
        let question = Question {
            parcel: Parcel::Packet(packet),
            reply,
        };
        server.send(due_ns, n_put, key.as_str(), question);
        promise
    }

    fn put_raw(&self, key: &str, _lane: Lane, packet: Packet) -> Result<(), BusError> {
        let key = parse(key)?;
        self.shared.put(&key, None, &packet);
        Ok(())
    }

    fn declare_token(&self, key: String) -> Result<Box<dyn Feed>, BusError> {
        parse(&key)?;
        self.shared.tell(&key, true);
        Ok(Box::new(QueueToken {
            shared: Arc::clone(&self.shared),
            key,
        }))
    }

    fn watch_tokens(
        &self,
        keys: &str,
        slot: Arc<Slot<TokenChange>>,
    ) -> Result<Box<dyn Feed>, BusError> {
        let watcher = Arc::new(Watcher {
            keys: parse(keys)?,
            slot,
        });
        let mut board = lock(&self.shared.board);
        board.watchers.push(Arc::downgrade(&watcher));
        let tokens = board.tokens.clone();
        drop(board);
        for key in &tokens {
            watcher.tell(key, true);
        }
        Ok(Box::new(watcher))
    }

    fn peers(&self) -> usize {
        0
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(ready(()))
    }
}

struct QueuePut {
    shared: Arc<Shared>,
    key: OwnedKeyExpr,
    row: Row,
}

impl Put for QueuePut {
    fn put(&self, packet: Packet) -> Result<Handed, BusError> {
        self.shared.put(&self.key, Some(&self.row), &packet);
        Ok(Handed::Bytes)
    }
}

struct QueueToken {
    shared: Arc<Shared>,
    key: String,
}

impl Drop for QueueToken {
    fn drop(&mut self) {
        self.shared.tell(&self.key, false);
    }
}

impl Feed for QueueToken {}
impl Feed for Arc<Watcher> {}
