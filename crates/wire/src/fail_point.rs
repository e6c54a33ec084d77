//! The table of named fail points: where a fault can be injected on purpose.
//!
//! Off unless `vlad run --fault NAME[@N]` names one; refused when a cell has a real robot.

/// One place where a fault can be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailPoint {
    /// Name on the command line.
    pub name: &'static str,
    /// What happens there.
    pub effect: &'static str,
}

/// Every fail point; empty until the first fault scenario needs one.
pub const FAIL_POINTS: &[FailPoint] = &[];
