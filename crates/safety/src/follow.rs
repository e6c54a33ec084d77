//! Whether the robot goes where it is told (reference E11), and measures what can be (F41).

use crate::envelope::Limits;

/// Factor of what a joint can move in a period that a measurement may differ from the last one;
/// reference F41.
const PLAUSIBLE: f64 = 1.5;

/// When a robot counts as not following.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest distance between measured and commanded position, radians or metres (E11: 0.1 rad).
    pub error: f64,
    /// Servo ticks in a row that it must be exceeded (E11: 50 ms).
    pub ticks: u32,
    /// Servo ticks by which the robot follows its commands.
    pub lag: usize,
}

/// Compares what was measured with what was commanded a lag ago.
#[derive(Debug, Clone)]
pub struct Following {
    tolerance: Tolerance,
    dofs: usize,
    /// The last `lag + 1` commands, one after the other; a ring.
    commanded: Vec<f64>,
    /// Where the next command goes.
    next: usize,
    /// Whether the ring holds commands all over.
    filled: bool,
    /// Ticks in a row beyond the tolerance, by degree of freedom.
    beyond: Vec<u32>,
}

impl Following {
    /// Makes a watch over `dofs` degrees of freedom. All memory is taken here.
    pub fn new(tolerance: Tolerance, dofs: usize) -> Self {
        let commands = tolerance.lag.saturating_add(1);
        Self {
            tolerance,
            dofs,
            commanded: vec![0.0; commands.saturating_mul(dofs)],
            next: 0,
            filled: false,
            beyond: vec![0; dofs],
        }
    }

    /// Forgets the past: after a pause in which nothing was noted.
    pub fn restart(&mut self) {
        self.next = 0;
        self.filled = false;
        self.beyond.fill(0);
    }

    /// Notes one servo tick; gives the first degree of freedom that does not follow.
    ///
    /// Nothing is compared until the lag is over. A measurement that is not finite, or missing,
    /// does not follow.
    pub fn note(&mut self, commanded: &[f64], measured: &[f64]) -> Option<usize> {
        let start = self.next * self.dofs;
        for (slot, command) in self
            .commanded
            .iter_mut()
            .skip(start)
            .zip(commanded.iter().take(self.dofs))
        {
            *slot = *command;
        }
        self.next += 1;
        if self.tolerance.lag < self.next {
            (self.next, self.filled) = (0, true);
        }
        if !self.filled {
            return None;
        }
        // The slot that is written next holds the oldest command.
        let oldest = self.commanded.iter().skip(self.next * self.dofs);
        let measured = measured.iter().chain(std::iter::repeat(&f64::NAN));
        let mut lost = None;
        for (dof, ((command, measured), beyond)) in
            oldest.zip(measured).zip(&mut self.beyond).enumerate()
        {
            let follows = (measured - command).abs() <= self.tolerance.error;
            *beyond = if follows { 0 } else { beyond.saturating_add(1) };
            if lost.is_none() && self.tolerance.ticks <= *beyond {
                lost = Some(dof);
            }
        }
        lost
    }
}

/// Whether a robot can have come from one measured position to the next in `dt_s` seconds: all are
/// finite, and none moved more than 1.5 times its largest speed (F41).
pub fn plausible(before: &[f64], now: &[f64], limits: &[Limits], dt_s: f64) -> bool {
    before.len() == now.len()
        && before
            .iter()
            .zip(now)
            .zip(limits)
            .all(|((before, now), limits)| {
                (now - before).abs() <= PLAUSIBLE * limits.speed_max * dt_s
            })
}

#[cfg(test)]
mod tests;
