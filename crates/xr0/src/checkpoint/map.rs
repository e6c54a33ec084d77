//! Maps a weight file into memory: the crate's only `unsafe`.

use std::fs::File;
use std::ops::Range;

use memmap2::{Mmap, UncheckedAdvice};

/// A file's bytes, read from disk when they are looked at.
#[derive(Debug)]
pub(super) struct Map(Mmap);

impl Map {
    /// Maps an open file.
    #[expect(
        unsafe_code,
        reason = "mapping is the only way not to copy nine gigabytes at start"
    )]
    pub(super) fn new(file: &File) -> std::io::Result<Self> {
        // SAFETY: the bytes are only read, as plain numbers for which every bit pattern is valid,
        // through a shared view. The crate writes no mapped file: what it makes goes to a
        // directory of another name first. A foreign process that changes or truncates a shard in
        // place can still change what is seen, or end this process with SIGBUS; that breaks the
        // contract of `Checkpoint::open`, and no program that maps files can rule it out.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self(map))
    }

    /// Gives the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Lets go of the memory behind some bytes; they are read from disk again when they are looked at.
    #[expect(
        unsafe_code,
        reason = "else every weight that was copied would stay in memory beside its copy"
    )]
    pub(super) fn release(&self, range: Range<usize>) {
        // SAFETY: the map is a shared, read-only view of a file, so that no page of it holds anything
        // that the file does not: a page that is let go comes back with the same bytes. That is as
        // true of the neighbours on the first and the last page.
        let advised = unsafe {
            self.0
                .unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
        };
        // Advice alone: memory that is not let go is still right.
        drop(advised);
    }
}
