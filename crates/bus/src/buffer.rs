//! Buffers for large raw bytes, which their producer fills in place.
//!
//! Where the session shares memory with the processes of this host, a buffer lies in a pool that
//! they can map: what is filled in here is read there, and only its description travels. A reader
//! that cannot map it is sent the bytes, without anybody noticing but the counters. Without shared
//! memory, and when the pool has no room, a buffer lies on the heap.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};

use crate::link::zenoh::pool::{Pool, PoolBuffer};

/// Gives out buffers; clones share the pool and the counters.
#[derive(Clone, Default)]
pub struct Buffers {
    pool: Option<Arc<Pool>>,
    counters: Arc<Counters>,
}

/// Where buffers came from, since the bus was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BufferCounters {
    /// Buffers in shared memory.
    pub shared: u64,
    /// Buffers on the heap because the pool had no room: readers hold too much of it, or one was
    /// killed while it held some.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    shared: AtomicU64,
    refused: AtomicU64,
}

/// Bytes that nobody else can see yet.
pub struct Buffer(Memory);

enum Memory {
    Heap(BytesMut),
    Shared(PoolBuffer),
}

impl Buffers {
    /// Gives out buffers of a pool.
    pub(crate) fn of_pool(pool: Arc<Pool>) -> Self {
        Self {
            pool: Some(pool),
            counters: Arc::default(),
        }
    }

    /// Gives a buffer of so many bytes; what is in it before it is filled is not said. Does not
    /// wait: without room in the pool the buffer is one of the heap, which is counted.
    ///
    /// The address is a multiple of 64 in shared memory.
    pub fn take(&self, n_bytes: usize) -> Buffer {
        let heap = || Buffer(Memory::Heap(BytesMut::zeroed(n_bytes)));
        let Some(pool) = &self.pool else {
            return heap();
        };
        if let Some(buffer) = pool.take(n_bytes) {
            self.counters.shared.fetch_add(1, Ordering::Relaxed);
            Buffer(Memory::Shared(buffer))
        } else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            heap()
        }
    }

    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.pool.as_deref()
    }

    /// Tells whether there is a pool in shared memory.
    pub fn are_shared(&self) -> bool {
        self.pool.is_some()
    }

    /// Gives where buffers came from so far.
    pub fn counters(&self) -> BufferCounters {
        BufferCounters {
            shared: self.counters.shared.load(Ordering::Relaxed),
            refused: self.counters.refused.load(Ordering::Relaxed),
        }
    }
}

impl Buffer {
    /// Ends the filling. Bodies carry the bytes as any others; a publisher of the same bus
    /// recognises them as long as they are whole, and then sends no copy.
    pub fn freeze(self) -> Bytes {
        match self.0 {
            Memory::Heap(bytes) => bytes.freeze(),
            Memory::Shared(buffer) => buffer.freeze(),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Shared(buffer) => buffer,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Heap(bytes) => bytes,
            Memory::Shared(buffer) => buffer,
        }
    }
}
