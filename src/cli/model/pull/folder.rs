//! The folder that appears whole: until then it lies beside its place as `NAME.partial`, locked by
//! the one who fills it.
//!
//! A partial folder stays when its pull ends early, by whatever, and the same command goes on with
//! it. `pulled.json` in it says what it is for.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use super::listing::Wanted;
use crate::cli::model::size;

/// Says in the folder where its files are from.
pub(super) const NOTE: &str = "pulled.json";
/// Longest note.
const NOTE_MAX: u64 = 64 << 10;
/// Room that is left to others.
const SPARE_BYTES: u64 = 64 << 20;

/// Where a folder's files are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// `OWNER/NAME`.
    pub(super) repository: String,
    /// The commit.
    pub(super) revision: String,
}

/// A folder that is not whole yet.
pub(super) struct Partial {
    path: PathBuf,
    out: PathBuf,
    /// Its lock goes with it.
    _locked: File,
}

/// Proves that nothing is where the folder shall appear.
///
/// # Errors
/// Whatever is there; a name that is none.
pub(super) fn check_free(out: &Path) -> anyhow::Result<()> {
    // Looked at without following links: a dangling one is in the way too.
    ensure!(
        fs::symlink_metadata(out).is_err(),
        "{} exists already: remove it, or name another folder with --out",
        out.display()
    );
    ensure!(
        out.file_name().is_some(),
        "{} names no folder",
        out.display()
    );
    Ok(())
}

impl Partial {
    /// Makes the partial folder, or takes the one that an earlier pull of the same has left.
    ///
    /// # Errors
    /// Another pull at work on it; one that is of something else; what the system says.
    pub(super) fn open(out: &Path, note: &Note) -> anyhow::Result<Self> {
        let mut name = out.file_name().map(OsString::from).unwrap_or_default();
        name.push(".partial");
        let path = out.with_file_name(name);
        if let Some(parent) = parent(&path) {
            let made = fs::create_dir_all(parent);
            made.with_context(|| format!("cannot make {}", parent.display()))?;
        }
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => {}
        }
        let locked = lock(&path)?;
        let partial = Self {
            path,
            out: out.to_owned(),
            _locked: locked,
        };
        partial.check_note(note)?;
        Ok(partial)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn check_note(&self, note: &Note) -> anyhow::Result<()> {
        let path = self.path.join(NOTE);
        let other = || {
            format!(
                "{} is the rest of something else: remove it, or name another folder with --out",
                self.path.display()
            )
        };
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= NOTE_MAX => {
                let text = fs::read_to_string(&path).with_context(other)?;
                // A cut in the first moment leaves an empty one.
                if !text.trim().is_empty() {
                    let found: Note = serde_json::from_str(&text).with_context(other)?;
                    ensure!(found == *note, other());
                    return Ok(());
                }
            }
            Ok(_) => bail!(other()),
            Err(_) => {
                let entries = fs::read_dir(&self.path).with_context(other)?;
                ensure!(entries.count() == 0, other());
            }
        }
        let text = format!("{}\n", serde_json::to_string_pretty(note)?);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Proves that there is room for the rest of these files, and nothing beside them.
    ///
    /// # Errors
    /// A disk that is too full; files of nobody.
    pub(super) fn check_room(&self, files: &[Wanted]) -> anyhow::Result<()> {
        let cannot = || format!("cannot read {}", self.path.display());
        for entry in fs::read_dir(&self.path).with_context(cannot)? {
            let name = entry.with_context(cannot)?.file_name();
            let is_known = name == NOTE || files.iter().any(|file| *file.name == *name);
            ensure!(
                is_known,
                "{} is not of this pull: move it away",
                self.path.join(&name).display()
            );
        }
        let rest = files.iter().fold(0_u64, |rest, file| {
            let have = fs::symlink_metadata(self.path.join(&file.name));
            let have = have.map_or(0, |metadata| metadata.len());
            rest.saturating_add(file.size.saturating_sub(have))
        });
        let system = statvfs(&self.path).with_context(cannot)?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        let needed = rest.saturating_add(SPARE_BYTES);
        let (needed_text, free_text) = (size(needed), size(free));
        ensure!(
            needed <= free,
            "{} has {free_text} free, {needed_text} are needed",
            self.path.display()
        );
        Ok(())
    }

    /// Lets the folder appear under its name.
    ///
    /// # Errors
    /// A name that was taken meanwhile; what the system says.
    pub(super) fn appear(self) -> anyhow::Result<()> {
        check_free(&self.out)?;
        let cannot = || format!("cannot make {}", self.out.display());
        sync(&self.path).with_context(cannot)?;
        fs::rename(&self.path, &self.out).with_context(cannot)?;
        sync(parent(&self.out).unwrap_or(Path::new("."))).with_context(cannot)
    }
}

/// The folder that something lies in; none if that is the current one.
fn parent(path: &Path) -> Option<&Path> {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
}

/// Makes names durable, as the files are.
fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let cannot = || format!("cannot open {}", dir.display());
    let busy = || format!("another pull writes {}: wait for its end", dir.display());
    let file = File::open(dir).with_context(cannot)?;
    match file.try_lock() {
        // A file system without locks: then two pulls at a time are on their own.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => bail!(busy()),
    }
    // It may have appeared, under its name, between the opening and the lock.
    let (own, named) = (
        file.metadata().with_context(cannot)?,
        fs::symlink_metadata(dir),
    );
    let named = named.with_context(busy)?;
    ensure!((own.dev(), own.ino()) == (named.dev(), named.ino()), busy());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(revision: &str) -> Note {
        Note {
            repository: "a/b".to_owned(),
            revision: revision.to_owned(),
        }
    }

    fn told<T>(result: anyhow::Result<T>) -> String {
        result.err().map(|error| format!("{error:#}")).unwrap()
    }

    /// One at a time, for one thing, and it appears where nothing was.
    #[test]
    fn a_partial_folder_is_one_pulls_alone() {
        let dir = std::env::temp_dir().join(format!("vlad-folder-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let out = dir.join("in/out");
        let partial = Partial::open(&out, &note("1")).unwrap();
        assert!(told(Partial::open(&out, &note("1"))).contains("another pull"));
        drop(partial);
        assert!(told(Partial::open(&out, &note("2"))).contains("something else"));
        let partial = Partial::open(&out, &note("1")).unwrap();
        fs::write(partial.path().join("mine.txt"), "").unwrap();
        assert!(told(partial.check_room(&[])).contains("mine.txt"));
        fs::remove_file(partial.path().join("mine.txt")).unwrap();
        partial.check_room(&[]).unwrap();
        fs::create_dir(&out).unwrap();
        assert!(told(partial.appear()).contains("exists already"));
        fs::remove_dir(&out).unwrap();
        let partial = Partial::open(&out, &note("1")).unwrap();
        partial.appear().unwrap();
        assert!(out.join(NOTE).is_file() && !dir.join("in/out.partial").exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_taken() {
        let dir = std::env::temp_dir().join(format!("vlad-folder-else-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("out.partial/own")).unwrap();
        let out = dir.join("out");
        assert!(told(Partial::open(&out, &note("1"))).contains("something else"));
        fs::remove_dir(dir.join("out.partial/own")).unwrap();
        fs::write(dir.join("out.partial").join(NOTE), "").unwrap();
        Partial::open(&out, &note("1")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
