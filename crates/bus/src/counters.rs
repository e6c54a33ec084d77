//! What was received, dropped and refused, by row of the streams table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vlad_wire::stream::{Row, STREAMS};

/// How often something happened on the streams of one row, since the bus was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Samples and asks that reached a reader of this bus; each reader counts its own.
    pub received: u64,
    /// Of these, dropped because they were too long or no message of the row.
    pub malformed: u64,
    /// Of these, dropped for newer ones before they were read.
    pub overwritten: u64,
    /// Of those received, in memory that is shared with their publisher; the others were copied.
    pub received_shared: u64,
    /// Samples, asks and answers that were handed to the link.
    pub put: u64,
    /// Samples, asks and answers that could not be packed or handed over.
    pub put_failed: u64,
    /// Of those put, in shared memory; a reader that cannot map it is sent a copy.
    pub put_shared: u64,
}

/// The live counters of one row.
#[derive(Debug, Default)]
pub(crate) struct RowCounters {
    received: AtomicU64,
    malformed: AtomicU64,
    overwritten: AtomicU64,
    received_shared: AtomicU64,
    put: AtomicU64,
    put_failed: AtomicU64,
    put_shared: AtomicU64,
}

impl RowCounters {
    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_overwritten(&self) {
        self.overwritten.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_put(&self, sent: bool) {
        let counter = if sent { &self.put } else { &self.put_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_received_shared(&self) {
        self.received_shared.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_put_shared(&self) {
        self.put_shared.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> StreamCounters {
        StreamCounters {
            received: self.received.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            overwritten: self.overwritten.load(Ordering::Relaxed),
            received_shared: self.received_shared.load(Ordering::Relaxed),
            put: self.put.load(Ordering::Relaxed),
            put_failed: self.put_failed.load(Ordering::Relaxed),
            put_shared: self.put_shared.load(Ordering::Relaxed),
        }
    }
}

/// The live counters of every row of the table.
#[derive(Debug)]
pub(crate) struct Counters {
    rows: Vec<(&'static str, Arc<RowCounters>)>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let rows = STREAMS
            .iter()
            .map(|row| (row.key, Arc::default()))
            .collect();
        Self { rows }
    }

    /// Gives the counters of a row; one that is not in the table counts for itself alone.
    pub(crate) fn of(&self, row: &Row) -> Arc<RowCounters> {
        let found = self.rows.iter().find(|(key, _)| *key == row.key);
        found
            .map(|(_, counters)| Arc::clone(counters))
            .unwrap_or_default()
    }

    pub(crate) fn read(&self) -> Vec<(&'static str, StreamCounters)> {
        self.rows
            .iter()
            .map(|(key, counters)| (*key, counters.read()))
            .collect()
    }
}
