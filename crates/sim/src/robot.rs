//! The simulated arms as the guard sees them.
//!
//! The handle speaks to the world over a small port with locks of its own, so that the guard never
//! waits for a physics step. Dropping it sends nothing more: the world's watchdog stops the arm.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vlad_cell::robot::{Measured, Robot, RobotError};

use crate::world::servo::WATCHDOG;

/// Where commands wait for the next step, and the newest sample for the next read.
pub(crate) struct Port {
    n_dofs: usize,
    inbox: Mutex<Inbox>,
    measured: Mutex<Measured>,
}

struct Inbox {
    position: Vec<f64>,
    fresh: bool,
}

impl Port {
    pub(crate) fn new(n_dofs: usize) -> Self {
        Self {
            n_dofs,
            inbox: Mutex::new(Inbox {
                position: vec![0.0; n_dofs],
                fresh: false,
            }),
            measured: Mutex::new(Measured {
                sampled_at_ns: 0,
                position: vec![0.0; n_dofs],
                velocity: vec![0.0; n_dofs],
            }),
        }
    }

    /// Copies the newest command, if one came since the last call.
    pub(crate) fn take_command(&self, to: &mut [f64]) -> bool {
        let mut inbox = lock(&self.inbox);
        let fresh = std::mem::take(&mut inbox.fresh);
        if fresh {
            to.copy_from_slice(&inbox.position);
        }
        fresh
    }

    /// The newest sample, to be written by the world alone.
    pub(crate) fn measured(&self) -> MutexGuard<'_, Measured> {
        lock(&self.measured)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The simulated arms.
pub struct SimRobot {
    port: Arc<Port>,
}

impl SimRobot {
    pub(crate) fn new(port: Arc<Port>) -> Self {
        Self { port }
    }
}

impl Robot for SimRobot {
    fn n_dofs(&self) -> usize {
        self.port.n_dofs
    }

    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError> {
        let sample = self.port.measured();
        measured.sampled_at_ns = sample.sampled_at_ns;
        measured.position.clone_from(&sample.position);
        measured.velocity.clone_from(&sample.velocity);
        Ok(())
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        if position.len() != self.port.n_dofs {
            let (got, want) = (position.len(), self.port.n_dofs);
            return Err(RobotError::Driver(format!(
                "a command has {got} positions, the robot has {want} degrees of freedom"
            )));
        }
        if !position.iter().all(|x| x.is_finite()) {
            return Err(RobotError::Driver(
                "a command must hold finite positions only".to_owned(),
            ));
        }
        let mut inbox = lock(&self.port.inbox);
        inbox.position.copy_from_slice(position);
        inbox.fresh = true;
        Ok(())
    }

    fn watchdog(&self) -> Option<Duration> {
        Some(WATCHDOG)
    }

    fn simulated(&self) -> bool {
        true
    }
}
