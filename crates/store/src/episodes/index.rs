//! Opens the sled index and checks the layout's number.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::{EpisodeError, LAYOUT};

/// sled's page cache; its default is 1 GiB, and the log is written far more than read.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A second net under the recorder's own flush.
const FLUSH_EVERY_MS: u64 = 1000;

/// How often, and how far apart, an index that is still closing is asked for: two seconds in all,
/// several times the longest that a loaded machine took.
const CLOSE_TRIES: u32 = 200;
const CLOSE_WAIT: Duration = Duration::from_millis(10);

/// Opens the index, and waits for an earlier handle of this process to close.
///
/// sled's own threads hold its file lock for some moments after the last handle is dropped. No other
/// process has it: the data folder is locked.
pub(super) fn open(path: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    let (_sender, never) = sync_channel::<()>(0);
    for _ in 0..CLOSE_TRIES {
        match config.open() {
            // The error has no kind of its own in this release of sled.
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                let _ = never.recv_timeout(CLOSE_WAIT);
            }
            other => return other,
        }
    }
    config.open()
}

/// Writes the layout's number into a new index, and refuses one that this build does not know.
pub(super) fn check_layout(db: &sled::Db) -> Result<(), EpisodeError> {
    let tree = db.open_tree("layout")?;
    match tree.get("layout")? {
        None => {
            tree.insert("layout", &LAYOUT.to_be_bytes())?;
            Ok(())
        }
        Some(number) if number == LAYOUT.to_be_bytes() => Ok(()),
        Some(other) => Err(EpisodeError::Layout {
            found: match <[u8; 4]>::try_from(other.as_ref()) {
                Ok(number) => u32::from_be_bytes(number).to_string(),
                Err(_) => "that cannot be read".to_owned(),
            },
        }),
    }
}
