//! The simulated arms as the guard sees them.
//!
//! The handle speaks to the world over a small port with locks of its own, so that the guard never
//! waits for a physics step. Dropping it sends nothing more: the world's watchdog stops the arm.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vlad_cell::robot::{Measured, Robot, RobotError};

use crate::world::servo::WATCHDOG;

/// Where commands wait for the next step, and the newest sample for the next read.
pub(crate) struct Port {
    n_dofs: usize,
    inbox: Mutex<Inbox>,
    sampled: Mutex<Sampled>,
    newer: Condvar,
}

/// A sample, and the step of the world that gave it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sampled {
    /// Steps since the world's start; steps that were left out do not count.
    pub(crate) step: u64,
    pub(crate) measured: Measured,
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
            sampled: Mutex::new(Sampled {
                step: 0,
                measured: Measured {
                    sampled_at_ns: 0,
                    position: vec![0.0; n_dofs],
                    velocity: vec![0.0; n_dofs],
                },
            }),
            newer: Condvar::new(),
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

    /// The newest sample, to be written by the world alone, which then calls [`Port::announce`].
    pub(crate) fn sampled(&self) -> MutexGuard<'_, Sampled> {
        lock(&self.sampled)
    }

    /// Wakes those who wait for a newer sample.
    pub(crate) fn announce(&self) {
        self.newer.notify_all();
    }

    /// Waits for a sample of another time than `known_ns`, at most for `patience`, and copies it.
    pub(crate) fn wait_newer(&self, known_ns: u64, patience: Duration, to: &mut Sampled) -> bool {
        let old = |sampled: &mut Sampled| sampled.measured.sampled_at_ns == known_ns;
        let (sampled, timed_out) = self
            .newer
            .wait_timeout_while(lock(&self.sampled), patience, old)
            .unwrap_or_else(PoisonError::into_inner);
        if timed_out.timed_out() {
            return false;
        }
        to.clone_from(&sampled);
        true
    }

    /// Takes a command.
    ///
    /// # Errors
    /// [`RobotError::Driver`] for one of wrong length, or that is not finite.
    pub(crate) fn command(&self, position: &[f64]) -> Result<(), RobotError> {
        check_command(position, self.n_dofs)?;
        let mut inbox = lock(&self.inbox);
        inbox.position.copy_from_slice(position);
        inbox.fresh = true;
        Ok(())
    }
}

/// Refuses what no controller would take.
pub(crate) fn check_command(position: &[f64], n_dofs: usize) -> Result<(), RobotError> {
    if position.len() != n_dofs {
        let got = position.len();
        return Err(RobotError::Driver(format!(
            "a command has {got} positions, the robot has {n_dofs} degrees of freedom"
        )));
    }
    if !position.iter().all(|x| x.is_finite()) {
        return Err(RobotError::Driver(
            "a command must hold finite positions only".to_owned(),
        ));
    }
    Ok(())
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
        let sampled = self.port.sampled();
        measured.sampled_at_ns = sampled.measured.sampled_at_ns;
        measured.position.clone_from(&sampled.measured.position);
        measured.velocity.clone_from(&sampled.measured.velocity);
        Ok(())
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        self.port.command(position)
    }

    fn watchdog(&self) -> Option<Duration> {
        Some(WATCHDOG)
    }

    fn simulated(&self) -> bool {
        true
    }
}
