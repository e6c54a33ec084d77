//! What stands between guard and robot in a rehearsal: it writes down every command, and makes the
//! robot fail as it is told.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vlad_cell::robot::{Measured, Robot, RobotError};

/// How a robot fails.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Trouble {
    /// It does not.
    #[default]
    None,
    /// The link to its controller is gone.
    Disconnected,
    /// Its controller stopped it.
    ProtectiveStop,
    /// Its driver reports an error.
    Driver,
    /// It repeats its last sample, with its stamp.
    OldState,
    /// It repeats its last positions under new stamps.
    Stuck,
    /// One encoder reads so much more than it should, radians.
    Jump(f64),
    /// One encoder reads what is no number.
    NotANumber,
    /// A hand holds one degree of freedom so far from where it is told to be, radians.
    Hand(usize, f64),
    /// A gripper's fingers stay where they are when they are told to close farther.
    Jammed,
}

#[derive(Debug, Default)]
struct Written {
    trouble: Trouble,
    /// One list a guard; one entry a command.
    commands: Vec<Vec<Vec<f64>>>,
    /// Numbers of the commands that put the robot where it was measured, by guard.
    placed: Vec<BTreeSet<usize>>,
}

impl Written {
    /// Writes a command down. What it was put to was measured in this servo tick or the one before.
    fn write(&mut self, position: &[f64], measured: [&[f64]; 2]) {
        let (Some(list), Some(placed)) = (self.commands.last_mut(), self.placed.last_mut()) else {
            return;
        };
        if let Some(before) = list.last()
            && before.as_slice() != position
        {
            let is = |dof: usize, now: f64, list: &[f64]| {
                list.get(dof).is_some_and(|x| x.to_bits() == now.to_bits())
            };
            let mut dofs = position.iter().enumerate();
            if dofs.all(|(dof, now)| {
                is(dof, *now, before) || measured.iter().any(|found| is(dof, *now, found))
            }) {
                placed.insert(list.len());
            }
        }
        list.push(position.to_vec());
    }
}

/// The witness; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Mutex<Written>>);

impl Witness {
    /// Makes the robot fail so from the next call on.
    pub fn tell(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    /// Every command, by guard: each guard that is started begins a list.
    pub fn commands(&self) -> Vec<Vec<Vec<f64>>> {
        self.lock().commands.clone()
    }

    /// The same with the numbers of those that differ from the one before only where they are, to the last
    /// bit, what was measured: the robot is told to be where it is.
    pub fn placed(&self) -> Vec<(Vec<Vec<f64>>, BTreeSet<usize>)> {
        let written = self.lock();
        let lists = written.commands.iter().cloned();
        lists.zip(written.placed.iter().cloned()).collect()
    }

    /// Commands given so far.
    pub fn n_commands(&self) -> usize {
        self.lock().commands.iter().map(Vec::len).sum()
    }

    /// Puts the witness around a robot; `gripper` is the dof that jams.
    pub fn around(&self, inner: Box<dyn Robot>, gripper: usize) -> Box<dyn Robot> {
        let mut written = self.lock();
        written.commands.push(Vec::new());
        written.placed.push(BTreeSet::new());
        drop(written);
        Box::new(Watched {
            witness: self.clone(),
            last: Measured::default(),
            before: Vec::new(),
            inner,
            gripper,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    witness: Witness,
    inner: Box<dyn Robot>,
    last: Measured,
    /// Positions of the sample before the last one.
    before: Vec<f64>,
    gripper: usize,
}

impl Robot for Watched {
    fn n_dofs(&self) -> usize {
        self.inner.n_dofs()
    }

    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError> {
        let trouble = self.witness.lock().trouble;
        match trouble {
            Trouble::Disconnected => return Err(RobotError::Disconnected),
            Trouble::ProtectiveStop => {
                return Err(RobotError::ProtectiveStop("somebody came in".to_owned()));
            }
            Trouble::Driver => return Err(RobotError::Driver("checksum".to_owned())),
            _ => {}
        }
        self.before.clone_from(&self.last.position);
        self.inner.read(measured)?;
        match trouble {
            Trouble::OldState => measured.clone_from(&self.last),
            Trouble::Stuck => {
                measured.position.clone_from(&self.last.position);
                measured.velocity.clone_from(&self.last.velocity);
            }
            Trouble::Jump(by) => {
                if let Some(first) = measured.position.first_mut() {
                    *first += by;
                }
            }
            Trouble::NotANumber => {
                if let Some(first) = measured.position.first_mut() {
                    *first = f64::NAN;
                }
            }
            _ => self.last.clone_from(measured),
        }
        Ok(())
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        let mut written = self.witness.lock();
        written.write(position, [&self.last.position, &self.before]);
        let mut position = position.to_vec();
        match written.trouble {
            Trouble::Jammed => {
                let fingers = position.get_mut(self.gripper);
                if let (Some(place), Some(now)) = (fingers, self.last.position.get(self.gripper)) {
                    *place = place.max(*now);
                }
            }
            Trouble::Hand(dof, by_rad) => {
                if let Some(place) = position.get_mut(dof) {
                    *place += by_rad;
                }
            }
            _ => {}
        }
        self.inner.command(&position)
    }

    fn watchdog(&self) -> Option<Duration> {
        self.inner.watchdog()
    }

    fn simulated(&self) -> bool {
        true
    }
}
