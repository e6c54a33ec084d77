//! What each kind of connection is given.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vlad_cell::camera::Camera;
use vlad_cell::oracle::Oracle;
use vlad_wire::id::View;

use super::Hall;
use crate::robot::Sampled;
use crate::served::parcel::{self, ParcelError};
use crate::served::words::{Answer, Command, Question, Reply, Sample};

/// How long a thread waits for the world before it looks whether the server ends.
const LOOK: Duration = Duration::from_millis(100);

/// Why a connection ended.
pub(super) enum End {
    /// For what it sent.
    Malformed(String),
    /// By itself, or with the server.
    Gone(String),
}

impl From<ParcelError> for End {
    fn from(error: ParcelError) -> Self {
        match error {
            ParcelError::Malformed(_) => Self::Malformed(error.to_string()),
            ParcelError::Io(_) => Self::Gone(error.to_string()),
        }
    }
}

/// The right to command the robot, as long as it lives.
struct Seat<'a>(&'a AtomicBool);

impl<'a> Seat<'a> {
    fn take(taken: &'a AtomicBool) -> Option<Self> {
        let was = taken.swap(true, Ordering::AcqRel);
        (!was).then_some(Self(taken))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Hall {
    fn welcome(&self, stream: &mut UnixStream) -> Result<(), End> {
        self.counters.welcomed.fetch_add(1, Ordering::AcqRel);
        // From here on a client may be silent for as long as it likes.
        stream
            .set_read_timeout(None)
            .map_err(|error| End::Gone(error.to_string()))?;
        Ok(parcel::write(stream, &Reply::Welcome)?)
    }

    fn ends(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn host_commander(&self, stream: &mut UnixStream) -> Result<(), End> {
        let Some(_seat) = Seat::take(&self.robot_taken) else {
            let why = "another client commands the robot: there is one guard at a time";
            self.refuse(stream, why);
            return Ok(());
        };
        self.welcome(stream)?;
        while !self.ends() {
            let command: Command = parcel::read(stream)?;
            self.world
                .port()
                .command(&command.position)
                .map_err(|error| End::Malformed(error.to_string()))?;
            self.counters.commands.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    pub(super) fn host_watcher(&self, stream: &mut UnixStream) -> Result<(), End> {
        self.welcome(stream)?;
        let mut sampled = Sampled::default();
        // No sample of a world has this stamp: the first one goes out at once.
        let mut known_ns = u64::MAX;
        while !self.ends() {
            if self.world.port().wait_newer(known_ns, LOOK, &mut sampled) {
                known_ns = sampled.measured.sampled_at_ns;
                parcel::write(stream, &sample(&sampled))?;
            }
        }
        Ok(())
    }

    pub(super) fn host_viewer(&self, stream: &mut UnixStream, view: &View) -> Result<(), End> {
        let mut cameras = self.world.cameras().into_iter();
        let Some(mut camera) = cameras.find(|camera| camera.info().view == *view) else {
            self.refuse(stream, "the world has no such camera");
            return Ok(());
        };
        self.welcome(stream)?;
        let mut sampled = Sampled::default();
        let mut known_ns = u64::MAX;
        while !self.ends() {
            if !self.world.port().wait_newer(known_ns, LOOK, &mut sampled) {
                continue;
            }
            known_ns = sampled.measured.sampled_at_ns;
            match camera.newest() {
                Ok(Some(frame)) => parcel::write(stream, &frame)?,
                Ok(None) => {}
                Err(error) => return Err(End::Gone(error.to_string())),
            }
        }
        Ok(())
    }

    pub(super) fn host_asker(&self, stream: &mut UnixStream) -> Result<(), End> {
        self.welcome(stream)?;
        let mut oracle = self.world.oracle();
        while !self.ends() {
            let answer = match parcel::read(stream)? {
                Question::Judge(instruction) => {
                    let judgement = oracle.judge(&instruction);
                    Answer::Judgement {
                        outcome: judgement.outcome,
                        reason: judgement.reason,
                    }
                }
                Question::Truth => Answer::Truth(oracle.truth()),
            };
            parcel::write(stream, &answer)?;
        }
        Ok(())
    }
}

fn sample(sampled: &Sampled) -> Sample {
    Sample {
        step: sampled.step,
        sampled_at_ns: sampled.measured.sampled_at_ns,
        position: sampled.measured.position.clone(),
        velocity: sampled.measured.velocity.clone(),
    }
}
