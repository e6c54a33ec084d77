//! Memory that other processes of this host can map, in one segment of a fixed size.
//!
//! A piece is used again only when its count of holders, which lies in shared memory too, is zero:
//! a reader that stands still keeps what it holds, however long. The price is that what a killed
//! reader held stays lost until this process ends; zenoh's other rule, to take back what was not
//! confirmed for a tenth of a second, would change bytes under a reader that was only stopped.
//!
//! zenoh locks the segment into memory, here and in each reader, so the limit of locked memory
//! (`RLIMIT_MEMLOCK`) must allow it. A segment that a killed process left behind is removed by the
//! next process that opens a session with shared memory; one that anybody still holds is locked
//! and stays.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::shm::{
    AllocAlignment, PosixShmProviderBackend, ShmProvider, ShmProviderBuilder, ZShm, ZShmMut,
};

use crate::error::LinkError;

/// Pieces begin at multiples of 2⁶ bytes: a cache line, and no two pieces share one.
const ALIGNMENT_POW: u8 = 6;

/// One segment, and which of its pieces this process can still publish.
pub(crate) struct Pool {
    provider: ShmProvider<PosixShmProviderBackend>,
    /// Frozen pieces by address, so that a publisher finds the piece behind plain bytes.
    frozen: Mutex<BTreeMap<usize, ZShm>>,
}

/// A piece that is being filled.
pub(crate) struct PoolBuffer {
    piece: ZShmMut,
    pool: Arc<Pool>,
}

/// A filled piece: what owns the bytes that are given out.
struct Frozen {
    piece: ZShm,
    pool: Arc<Pool>,
}

impl Pool {
    /// Makes a segment of so many bytes; all of it is taken at once.
    pub(crate) fn new(n_bytes: usize) -> Result<Self, LinkError> {
        let alignment = AllocAlignment::new(ALIGNMENT_POW)?;
        let n_bytes = n_bytes.next_multiple_of(alignment.get_alignment_value().get());
        Ok(Self {
            provider: ShmProviderBuilder::default_backend((n_bytes, alignment)).wait()?,
            frozen: Mutex::default(),
        })
    }

    /// Gives a piece of so many bytes; `None` if there is no room, or nothing was asked for.
    pub(crate) fn take(self: &Arc<Self>, n_bytes: usize) -> Option<PoolBuffer> {
        // First, and not when the pool is full: what was read lately is still in the cache.
        self.provider.garbage_collect();
        let piece = self.provider.alloc(n_bytes).wait().ok()?;
        Some(PoolBuffer {
            piece,
            pool: Arc::clone(self),
        })
    }

    /// Gives the piece that is exactly these bytes.
    pub(crate) fn find(&self, bytes: &Bytes) -> Option<ZBytes> {
        let frozen = self.lock();
        let piece = frozen.get(&bytes.as_ptr().addr())?;
        (piece.len() == bytes.len()).then(|| piece.clone().into())
    }

    /// A panic elsewhere leaves a whole map behind: it stays in use.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, ZShm>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolBuffer {
    pub(crate) fn freeze(self) -> Bytes {
        let Self { piece, pool } = self;
        let piece = ZShm::from(piece);
        pool.lock().insert(piece.as_ptr().addr(), piece.clone());
        Bytes::from_owner(Frozen { piece, pool })
    }
}

impl Deref for PoolBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.piece
    }
}

impl DerefMut for PoolBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.piece
    }
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.pool.lock().remove(&self.piece.as_ptr().addr());
    }
}
