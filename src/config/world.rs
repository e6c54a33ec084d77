//! Where a simulated cell's world is: the setting `cell.world`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vlad_wire::text::via_text;

/// What stands before a socket's path.
const UNIX: &str = "unix:";
/// The world of this process.
const IN_PROCESS: &str = "in-process";

/// Where a simulated cell's world is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum World {
    /// In the process that runs perception and actuator.
    #[default]
    InProcess,
    /// In a process of its own, `vlad sim`, at this socket; written `unix:/path`.
    Unix(PathBuf),
}

/// A text that names no world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be in-process, or unix: and the absolute path of the socket that `vlad sim` serves")]
pub struct NoWorld;

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess => f.write_str(IN_PROCESS),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for World {
    type Err = NoWorld;

    fn from_str(text: &str) -> Result<Self, NoWorld> {
        if text == IN_PROCESS {
            return Ok(Self::InProcess);
        }
        let path = text.strip_prefix(UNIX).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
            .map(Self::Unix)
            .ok_or(NoWorld)
    }
}

impl Serialize for World {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        via_text::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for World {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        via_text::deserialize(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_is_here_or_at_an_absolute_path() {
        for good in ["in-process", "unix:/run/vlad/world.sock"] {
            assert_eq!(good.parse::<World>().unwrap().to_string(), good);
        }
        for bad in ["", "unix:", "unix:world.sock", "/run/world.sock", "tcp/1"] {
            assert_eq!(bad.parse::<World>(), Err(NoWorld), "{bad}");
        }
    }
}
