//! Grippers: what a decoded number means, and what it commands (reference §7.7).
//!
//! ```text
//!            decoded          command
//!  closed ─────────────┐   ┌─ command_closed
//!            threshold │ → │ whole, or in proportion without one
//!  open   ─────────────┘   └─ command_open
//! ```

use serde::{Deserialize, Serialize};

/// One gripper among the actions' slots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gripper {
    /// Which slot.
    pub slot: usize,
    /// Decoded number of an open gripper.
    pub open: f64,
    /// Decoded number of a closed gripper.
    pub closed: f64,
    /// What the robot's controller takes for open.
    pub command_open: f64,
    /// What the robot's controller takes for closed.
    pub command_closed: f64,
    /// Where it is one or the other: a number beyond it towards `open` opens, any other closes.
    /// Without it the command is in proportion, between the two ends.
    pub threshold: Option<f64>,
}

impl Gripper {
    /// Gives the command of a decoded number.
    pub fn command(&self, decoded: f64) -> f64 {
        if let Some(threshold) = self.threshold {
            let opens = if self.closed < self.open {
                threshold < decoded
            } else {
                decoded < threshold
            };
            return if opens {
                self.command_open
            } else {
                self.command_closed
            };
        }
        let openness = ((decoded - self.closed) / (self.open - self.closed)).clamp(0.0, 1.0);
        self.command_closed + openness * (self.command_open - self.command_closed)
    }

    /// Says what is wrong with it.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let ends = [
            self.open,
            self.closed,
            self.command_open,
            self.command_closed,
        ];
        let numbers = ends.into_iter().chain(self.threshold);
        let same = |a: f64, b: f64| (a - b).abs() < f64::EPSILON;
        if !numbers.into_iter().all(f64::is_finite) {
            return Some("must hold finite numbers");
        }
        if same(self.open, self.closed) || same(self.command_open, self.command_closed) {
            return Some("must tell open from closed");
        }
        let (low, high) = (self.open.min(self.closed), self.open.max(self.closed));
        let between = |threshold: f64| low < threshold && threshold < high;
        let beyond = self.threshold.is_some_and(|threshold| !between(threshold));
        beyond.then_some("must have its threshold between open and closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Google robot of `SimplerEnv`: 0 closed, 1 open, and the controller takes −1 for open.
    const FRACTAL: Gripper = Gripper {
        slot: 6,
        open: 1.0,
        closed: 0.0,
        command_open: -1.0,
        command_closed: 1.0,
        threshold: None,
    };

    #[track_caller]
    fn check(gripper: Gripper, cases: &[(f64, f64)]) {
        for (decoded, command) in cases {
            let found = gripper.command(*decoded);
            assert!((found - command).abs() < 1e-12, "{decoded}: {found}");
        }
    }

    #[test]
    fn without_a_threshold_the_command_is_in_proportion_and_clipped() {
        // clip(−(2g − 1), −1, 1)
        check(
            FRACTAL,
            &[
                (0.0, 1.0),
                (0.25, 0.5),
                (1.0, -1.0),
                (1.5, -1.0),
                (-2.0, 1.0),
            ],
        );
    }

    #[test]
    fn with_a_threshold_it_is_one_or_the_other() {
        let bridge = Gripper {
            command_open: 1.0,
            command_closed: -1.0,
            threshold: Some(0.5),
            ..FRACTAL
        };
        // 2·(g > 0.5) − 1
        check(bridge, &[(0.0, -1.0), (0.5, -1.0), (0.51, 1.0), (7.0, 1.0)]);
        let inverted = Gripper {
            open: -1.0,
            closed: 1.0,
            threshold: Some(0.0),
            ..FRACTAL
        };
        check(inverted, &[(-0.1, -1.0), (0.0, 1.0), (0.9, 1.0)]);
    }

    #[test]
    fn a_gripper_that_tells_nothing_apart_is_refused() {
        assert_eq!(None, FRACTAL.problem());
        let bad = [
            Gripper {
                open: 0.0,
                ..FRACTAL
            },
            Gripper {
                command_open: 1.0,
                ..FRACTAL
            },
            Gripper {
                closed: f64::NAN,
                ..FRACTAL
            },
            Gripper {
                threshold: Some(1.0),
                ..FRACTAL
            },
        ];
        for gripper in bad {
            assert!(gripper.problem().is_some(), "{gripper:?}");
        }
    }
}
