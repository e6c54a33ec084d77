//! How long a decision takes, before the first real one: the strategy gate begins with it.
//!
//! It is the action expert's half alone, so it is a lower bound: what observation, brain and ways
//! add is in the first real decision's delay. That one begins from standstill, and raises what the
//! gate holds at once.

use vlad_motion::policy::{Act, PolicyError};
use vlad_wire::clock::SharedClock;

/// Decisions about nothing whose times are taken: the fewest that a percentile means something of.
const REHEARSALS: usize = 5;

/// Gives the times of some decisions about nothing with `steps` Euler steps, nanoseconds. Empty
/// where the policy has nothing worth timing, and where the clock stands still meanwhile, as in
/// virtual time.
///
/// # Errors
/// What the policy says: then it cannot decide at all.
pub(super) fn rehearse(
    act: &mut dyn Act,
    clock: &SharedClock,
    steps: u16,
) -> Result<Vec<u64>, PolicyError> {
    let mut times = Vec::with_capacity(REHEARSALS);
    for _ in 0..REHEARSALS {
        let from_ns = clock.now_ns();
        if !act.rehearse(steps)? {
            break;
        }
        times.push(clock.now_ns().saturating_sub(from_ns));
    }
    times.retain(|time_ns| 0 < *time_ns);
    Ok(times)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vlad_motion::policy::{ActRequest, ActRows};
    use vlad_wire::clock::{Clock, MS, ManualClock};

    use super::*;

    /// Takes so long, and counts.
    struct Slow {
        clock: Arc<ManualClock>,
        takes_ns: u64,
        steps: Vec<u16>,
        fails: bool,
    }

    impl Act for Slow {
        fn act(&mut self, _: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
            Vec::new()
        }

        fn rehearse(&mut self, steps: u16) -> Result<bool, PolicyError> {
            self.steps.push(steps);
            self.clock.advance_to(self.clock.now_ns() + self.takes_ns);
            if self.fails {
                return Err(PolicyError::Open("no numbers".to_owned()));
            }
            Ok(true)
        }
    }

    struct Nothing;

    impl Act for Nothing {
        fn act(&mut self, _: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
            Vec::new()
        }
    }

    fn slow(takes_ns: u64) -> (Slow, SharedClock) {
        let clock = Arc::new(ManualClock::default());
        let slow = Slow {
            clock: clock.clone(),
            takes_ns,
            steps: Vec::new(),
            fails: false,
        };
        (slow, clock)
    }

    #[test]
    fn five_decisions_of_the_settings_steps_are_timed() {
        let (mut act, clock) = slow(80 * MS);
        assert_eq!(rehearse(&mut act, &clock, 4).unwrap(), [80 * MS; 5]);
        assert_eq!(act.steps, [4; 5]);
    }

    #[test]
    fn a_clock_that_stands_still_and_a_policy_without_one_feed_nothing() {
        let (mut act, clock) = slow(0);
        assert!(rehearse(&mut act, &clock, 5).unwrap().is_empty());
        assert_eq!(act.steps.len(), REHEARSALS);
        assert!(rehearse(&mut Nothing, &clock, 5).unwrap().is_empty());
    }

    #[test]
    fn a_policy_that_cannot_decide_is_found_here() {
        let (mut act, clock) = slow(MS);
        act.fails = true;
        assert!(rehearse(&mut act, &clock, 5).is_err());
    }
}
