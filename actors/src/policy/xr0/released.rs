//! Manifests of the released checkpoints, compiled in (reference §0.3, §3, §7.7).
//!
//! A downloaded checkpoint has none beside it: it is recognised by the robot types of its action
//! statistics, which no two of them share.

use std::collections::BTreeSet;

use vlad_wire::manifest::{Manifest, Publication};

use super::error::Xr0Error;

/// A file of `config/manifests/`, and its text.
const FILES: [(&str, &str); 6] = [
    (
        "libero.toml",
        include_str!("../../../../config/manifests/libero.toml"),
    ),
    (
        "calvin-abcd.toml",
        include_str!("../../../../config/manifests/calvin-abcd.toml"),
    ),
    (
        "calvin-abc.toml",
        include_str!("../../../../config/manifests/calvin-abc.toml"),
    ),
    (
        "simpler-google.toml",
        include_str!("../../../../config/manifests/simpler-google.toml"),
    ),
    (
        "simpler-widowx.toml",
        include_str!("../../../../config/manifests/simpler-widowx.toml"),
    ),
    (
        "pretrain.toml",
        include_str!("../../../../config/manifests/pretrain.toml"),
    ),
];

/// A released checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Released {
    /// Short name, such as `libero`: that of its file in `config/manifests/`.
    pub short: &'static str,
    /// What it can do and how to feed it.
    pub manifest: Manifest,
    /// Repository on the hub, `organisation/name`.
    pub repository: String,
    /// The commit that the manifest was written for.
    pub revision: String,
    /// The manifest's keys, so that another file may override some.
    pub(super) table: toml::Table,
}

/// Gives all released checkpoints that are known.
///
/// # Errors
/// None: the files are compiled in, and read by a test.
pub fn released() -> Result<Vec<Released>, Xr0Error> {
    FILES.iter().map(|(file, text)| read(file, text)).collect()
}

/// Gives the released checkpoint with exactly these robot types, if there is one.
pub(super) fn with_robot_types(names: &BTreeSet<String>) -> Result<Option<Released>, Xr0Error> {
    let fits = |released: &Released| {
        let types = released.manifest.robot_types.iter();
        let types: BTreeSet<_> = types.map(|known| known.name.to_string()).collect();
        types == *names
    };
    Ok(released()?.into_iter().find(fits))
}

fn read(file: &'static str, text: &str) -> Result<Released, Xr0Error> {
    let odd = |problem: String| Xr0Error::input(format!("config/manifests/{file}: {problem}"));
    let table: toml::Table = toml::from_str(text).map_err(|error| odd(error.to_string()))?;
    let manifest: Manifest = toml::from_str(text).map_err(|error| odd(error.to_string()))?;
    let Some(Publication {
        repository,
        revision,
    }) = manifest.published.clone()
    else {
        return Err(odd("published: is not given".to_owned()));
    };
    Ok(Released {
        short: file.strip_suffix(".toml").unwrap_or(file),
        manifest,
        repository,
        revision,
        table,
    })
}

#[cfg(test)]
mod tests;
