//! A folder of a run, removed at its end.

use std::fs;
use std::path::PathBuf;

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
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What remains is in the system's temporary files.
        drop(fs::remove_dir_all(&self.0));
    }
}
