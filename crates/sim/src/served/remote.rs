//! Reaches a served world and opens its drivers.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vlad_cell::camera::CameraInfo;
use vlad_cell::description::RobotDescription;

use super::camera::RemoteCamera;
use super::oracle::RemoteOracle;
use super::parcel::{self, ParcelError};
use super::robot::{RemoteRobot, Watch};
use super::words::{Hello, Reply, Wish, fingerprint};
use crate::scene::Scene;

/// How long a world may take for its first words.
const HELLO_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries to reach a world that is gone.
pub(crate) const RETRY: Duration = Duration::from_millis(200);

/// Why a driver of a served world cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody serves there.
    #[error("no world is served at {path} ({source}): start `vlad sim --socket {path}` first")]
    Unreachable {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server refused, in its words.
    #[error("the world at {path} refuses: {why}")]
    Refused {
        /// Where.
        path: PathBuf,
        /// Its words.
        why: String,
    },
    /// The server said something else.
    #[error("the world at {path} does not speak as this build does: {source}")]
    Strange {
        /// Where.
        path: PathBuf,
        /// What came.
        source: ParcelError,
    },
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A world that another process serves.
#[derive(Debug, Clone)]
pub struct RemoteWorld {
    door: Door,
    n_dofs: usize,
    cameras: Vec<CameraInfo>,
}

/// Where to knock, and what to say there.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    path: PathBuf,
    fingerprint: u64,
}

impl RemoteWorld {
    /// Names a served world; nothing is opened yet.
    pub fn new(path: &Path, robot: &RobotDescription, scene: &Scene) -> Self {
        let cameras = robot.cameras().iter().map(|camera| CameraInfo {
            view: camera.view.clone(),
            width: camera.width,
            height: camera.height,
            rate_hz: camera.rate_hz,
            serial: Some(camera.view.clone()),
        });
        Self {
            door: Door {
                path: path.to_owned(),
                fingerprint: fingerprint(robot, scene),
            },
            n_dofs: robot.n_dofs(),
            cameras: cameras.collect(),
        }
    }

    /// Opens the robot, with its first sample; one process at a time can.
    ///
    /// # Errors
    /// [`RemoteError`] if nobody serves there, or another client commands the robot.
    pub fn robot(&self) -> Result<RemoteRobot, RemoteError> {
        RemoteRobot::open(self.door.clone(), self.n_dofs)
    }

    /// Opens a look at the robot for one who does not command it.
    ///
    /// # Errors
    /// [`RemoteError`] if nobody serves there.
    pub fn watch(&self) -> Result<Watch, RemoteError> {
        Watch::open(self.door.clone(), self.n_dofs)
    }

    /// Opens the cameras, in the description's order.
    ///
    /// # Errors
    /// [`RemoteError`] if nobody serves there.
    pub fn cameras(&self) -> Result<Vec<RemoteCamera>, RemoteError> {
        let infos = self.cameras.iter().cloned();
        infos
            .map(|info| RemoteCamera::open(self.door.clone(), info))
            .collect()
    }

    /// Gives the oracle, which connects when it is first asked.
    pub fn oracle(&self) -> RemoteOracle {
        RemoteOracle::new(self.door.clone())
    }
}

impl Door {
    /// Connects and says what for; the stream has the time limit of the first words.
    pub(crate) fn knock(&self, wish: Wish) -> Result<UnixStream, RemoteError> {
        let unreachable = |source| RemoteError::Unreachable {
            path: self.path.clone(),
            source,
        };
        let strange = |source| self.strange(source);
        let mut stream = UnixStream::connect(&self.path).map_err(unreachable)?;
        stream
            .set_read_timeout(Some(HELLO_PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(HELLO_PATIENCE)))
            .map_err(unreachable)?;
        let hello = Hello {
            wish,
            fingerprint: self.fingerprint,
        };
        // A server that refuses at once may have closed already: its words are still there to read.
        let said = parcel::write(&mut stream, &hello);
        match parcel::read(&mut stream) {
            Ok(Reply::Welcome) => said.map(|()| stream).map_err(strange),
            Ok(Reply::Refused(why)) => Err(RemoteError::Refused {
                path: self.path.clone(),
                why: why.to_string(),
            }),
            Err(source) => Err(strange(source)),
        }
    }
    pub(crate) fn strange(&self, source: ParcelError) -> RemoteError {
        RemoteError::Strange {
            path: self.path.clone(),
            source,
        }
    }
}
