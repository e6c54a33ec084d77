//! What a chunk or a pose violates, in words that a person understands.

use std::fmt;

use crate::workspace::Unfit;

/// The first rule that a row of targets, or a pose, breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Breach {
    /// The row has another number of degrees of freedom than the robot.
    Width {
        /// The robot's.
        expected: usize,
    },
    /// A target is not a finite number (E2).
    NotFinite {
        /// Degree of freedom.
        dof: usize,
    },
    /// A target, with the stop from its speed, lies outside the position limits (E5).
    Position {
        /// Degree of freedom.
        dof: usize,
        /// By how much of the range.
        ratio: f64,
    },
    /// A target is farther from the one before than the joint can go in a policy tick (E7).
    Speed {
        /// Degree of freedom.
        dof: usize,
        /// Speed as a multiple of the limit.
        ratio: f64,
    },
    /// A tool is faster than allowed (E8).
    ToolSpeed {
        /// Arm.
        arm: usize,
        /// Speed as a multiple of the limit.
        ratio: f64,
    },
    /// A tool or an elbow is outside the box that it must stay in (E8).
    OutsideBox {
        /// Arm.
        arm: usize,
        /// Metres outside.
        by_m: f64,
    },
    /// A tool or an elbow is inside a keep-out box (E8).
    KeepOut {
        /// Arm.
        arm: usize,
        /// Metres inside.
        by_m: f64,
    },
    /// Two arms are nearer to each other than the clearance (E9).
    TooNear {
        /// The second arm of the pair.
        arm: usize,
        /// Metres nearer than allowed.
        by_m: f64,
    },
    /// The workspace cannot be checked; so nothing is allowed.
    Unchecked(Unfit),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Width { expected } => write!(f, "the row does not have {expected} targets"),
            Self::NotFinite { dof } => {
                write!(f, "the target of degree of freedom {dof} is not a number")
            }
            Self::Position { dof, ratio } => write!(
                f,
                "degree of freedom {dof} would leave its range, or could not stop inside it, by {:.1} % of the range",
                ratio * 100.0
            ),
            Self::Speed { dof, ratio } => write!(
                f,
                "degree of freedom {dof} would move at {ratio:.2} times its largest speed"
            ),
            Self::ToolSpeed { arm, ratio } => write!(
                f,
                "the tool of arm {arm} would move at {ratio:.2} times its largest speed"
            ),
            Self::OutsideBox { arm, by_m } => write!(
                f,
                "arm {arm} would leave the workspace by {:.1} mm",
                by_m * 1e3
            ),
            Self::KeepOut { arm, by_m } => write!(
                f,
                "arm {arm} would enter a keep-out box by {:.1} mm",
                by_m * 1e3
            ),
            Self::TooNear { arm, by_m } => write!(
                f,
                "arm {arm} would come {:.1} mm nearer to another arm than the clearance",
                by_m * 1e3
            ),
            Self::Unchecked(unfit) => write!(f, "the workspace cannot be checked: {unfit}"),
        }
    }
}

impl std::error::Error for Breach {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_breach_names_its_place_and_excess() {
        let by_m = 0.0125;
        let rows = [
            (
                Breach::Width { expected: 14 },
                "the row does not have 14 targets",
            ),
            (
                Breach::NotFinite { dof: 3 },
                "the target of degree of freedom 3 is not a number",
            ),
            (
                Breach::Position {
                    dof: 2,
                    ratio: 0.031,
                },
                "degree of freedom 2 would leave its range, or could not stop inside it, by 3.1 % of the range",
            ),
            (
                Breach::Speed { dof: 1, ratio: 1.5 },
                "degree of freedom 1 would move at 1.50 times its largest speed",
            ),
            (
                Breach::ToolSpeed { arm: 1, ratio: 2.0 },
                "the tool of arm 1 would move at 2.00 times its largest speed",
            ),
            (
                Breach::OutsideBox { arm: 0, by_m },
                "arm 0 would leave the workspace by 12.5 mm",
            ),
            (
                Breach::KeepOut { arm: 0, by_m },
                "arm 0 would enter a keep-out box by 12.5 mm",
            ),
            (
                Breach::TooNear { arm: 1, by_m },
                "arm 1 would come 12.5 mm nearer to another arm than the clearance",
            ),
            (
                Breach::Unchecked(Unfit::Arms),
                "the workspace cannot be checked: it has more than 4 arms",
            ),
        ];
        for (breach, words) in rows {
            assert_eq!(breach.to_string(), words);
        }
    }
}
