//! A folder of a run, removed at its end.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// See the module.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it among the system's temporary files.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let unique = format!(
            "vlad-fault-{name}-{}-{}",
            std::process::id(),
            ulid::Ulid::new()
        );
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// A folder inside it.
    ///
    /// # Errors
    /// What the system says.
    pub fn sub(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// What another folder's files hold now, in a folder inside it: what is left when a process is killed.
    ///
    /// # Errors
    /// What the system says.
    pub fn copy(&self, from: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let to = self.sub(name)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let inside = format!("{name}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.copy(&entry.path(), &inside)?;
            } else {
                fs::copy(entry.path(), self.0.join(&inside))?;
            }
        }
        Ok(to)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What remains is in the system's temporary files.
        drop(fs::remove_dir_all(&self.0));
    }
}
