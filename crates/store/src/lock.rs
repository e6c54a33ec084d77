//! One daemon per data folder.
//!
//! The lock is the kernel's (`flock`): it goes with the process, however that ends, so that no
//! stale file keeps a restarted daemon out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A data folder that no other daemon has.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held open: the lock is released when it closes.
    _lock: File,
}

/// Why a data folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "{} is in use by the daemon with pid {pid}; stop that one, or choose another folder \
         with --data", path.display()
    )]
    Held {
        /// The folder.
        path: PathBuf,
        /// The holder, as it wrote itself down; `unknown` if it has not yet.
        pid: String,
    },
    /// The folder cannot be made, opened or locked.
    #[error("cannot use the data folder {}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl DataDir {
    /// Makes the folder (mode 0700) if there is none, and takes it.
    ///
    /// # Errors
    /// [`LockError::Held`] if another daemon has it, [`LockError::Io`] if it cannot be used.
    pub fn open(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("vlad.lock"))
            .map_err(io)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(LockError::Held {
                    path: path.to_owned(),
                    pid: holder(&mut lock),
                });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        lock.set_len(0).map_err(io)?;
        writeln!(lock, "{}", std::process::id()).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads who holds the lock; bounded, since anybody may have written the file.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(16).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => pid.to_string(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::temp::TempDir;

    #[test]
    fn a_second_daemon_is_refused_with_folder_and_pid() {
        let temp = TempDir::new();
        let path = temp.path().join("a/data");
        let first = DataDir::open(&path).unwrap();
        let text = DataDir::open(&path).unwrap_err().to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(
            text.contains(&format!("pid {};", std::process::id())),
            "{text}"
        );
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn a_new_folder_is_its_owners_alone() {
        let temp = TempDir::new();
        let path = temp.path().join("data");
        let dir = DataDir::open(&path).unwrap();
        let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let temp = TempDir::new();
        let file = temp.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = DataDir::open(&file.join("data")).unwrap_err();
        assert!(error.to_string().contains("file/data"), "{error}");
    }
}
