use proptest::prelude::*;

use super::*;

fn echo(challenge: u64, heard_at_ns: u64) -> Echo {
    Echo {
        challenge,
        heard_at_ns,
    }
}

/// Two hosts: the local clock shows the guard's less `offset_ns`, going `ppm` too fast.
struct Hosts {
    offset: Offset,
    offset_ns: i64,
    ppm: i64,
}

impl Hosts {
    fn local(&self, guard_ns: u64) -> u64 {
        let drift = i64::try_from(guard_ns).unwrap() / 1_000_000 * self.ppm;
        guard_ns.saturating_add_signed(drift - self.offset_ns)
    }

    /// A heartbeat and the message that answers it, with their delays.
    fn round(&mut self, guard_ns: u64, nth: u64, (there_ns, back_ns): (u64, u64)) {
        self.offset.sent(nth, self.local(guard_ns));
        let heard_ns = guard_ns + there_ns;
        let arrived_ns = self.local(heard_ns + back_ns);
        self.offset.heard(heard_ns, echo(nth, heard_ns), arrived_ns);
    }

    fn error_ns(&self, guard_ns: u64) -> u64 {
        self.offset
            .to_guard(self.local(guard_ns))
            .abs_diff(guard_ns)
    }
}

proptest! {
    /// Whatever offset, drift and delays are: after a minute the error is below half a round trip and
    /// what widening costs.
    #[test]
    fn another_hosts_stamps_are_told_on_the_guards_clock(
        offset_ns in prop_oneof![-3_000_000_000_000_i64..-50_000_000, 50_000_000_i64..3_000_000_000_000],
        ppm in -50_i64..=50,
        delays in proptest::collection::vec((0_u64..30_000_000, 0_u64..30_000_000), 50..200),
    ) {
        let mut hosts = Hosts { offset: Offset::default(), offset_ns, ppm };
        let start_ns = 4_000 * SECOND;
        let mut at_ns = start_ns;
        let mut best_ns = u64::MAX;
        for (nth, delay) in delays.iter().enumerate() {
            at_ns += 20 * MS;
            hosts.round(at_ns, u64::try_from(nth).unwrap() + 1, *delay);
            best_ns = best_ns.min(delay.0.max(delay.1));
        }
        // Either bound may be the tight one; the other is at most its own best delay away.
        let there = delays.iter().map(|delay| delay.0).min().unwrap();
        let back = delays.iter().map(|delay| delay.1).min().unwrap();
        let widened = u64::try_from(delays.len()).unwrap() * 20 * MS * 300 / 1_000_000;
        prop_assert!(hosts.error_ns(at_ns) <= there.max(back) + widened + MS);
        prop_assert!(hosts.offset.fault().is_none() || 10 * MS < u64::midpoint(there, back) + widened + MS);
    }

    /// On one host no delay makes two clocks of one.
    #[test]
    fn one_clock_stays_one(delays in proptest::collection::vec((0_u64..500_000_000, 0_u64..500_000_000), 1..100)) {
        let mut hosts = Hosts { offset: Offset::default(), offset_ns: 0, ppm: 0 };
        let mut at_ns = SECOND;
        for (nth, delay) in delays.iter().enumerate() {
            at_ns += 20 * MS;
            hosts.round(at_ns, u64::try_from(nth).unwrap() + 1, *delay);
            prop_assert_eq!(hosts.offset.to_guard(at_ns), at_ns);
            prop_assert_eq!(hosts.offset.fault(), None);
        }
    }
}

#[test]
fn stamps_of_another_clock_wait_for_an_echo_and_wide_bounds_are_a_fault() {
    let mut offset = Offset::default();
    assert_eq!(offset.fault(), None, "nothing was heard: others say so");
    assert!(!offset.ready());
    offset.heard(100 * SECOND, echo(0, 0), 7 * SECOND);
    assert!(offset.fault().unwrap().contains("not known"));
    offset.sent(5, 7 * SECOND);
    offset.heard(
        100 * SECOND,
        echo(5, 100 * SECOND + 30 * MS),
        7 * SECOND + MS,
    );
    let wide = offset.fault().unwrap();
    assert!(wide.contains("known to 15 ms"), "{wide}");
    offset.sent(6, 8 * SECOND);
    offset.heard(
        101 * SECOND,
        echo(6, 101 * SECOND + MS),
        8 * SECOND + 2 * MS,
    );
    assert_eq!(offset.fault(), None);
}

#[test]
fn a_clock_that_was_set_is_learnt_anew() {
    let mut hosts = Hosts {
        offset: Offset::default(),
        offset_ns: 50_000_000_000,
        ppm: 0,
    };
    for nth in 1..20 {
        hosts.round((100 + nth) * SECOND, nth, (MS, MS));
    }
    hosts.offset_ns = 20_000_000_000;
    for nth in 20..40 {
        hosts.round((100 + nth) * SECOND, nth, (MS, MS));
    }
    assert!(hosts.error_ns(150 * SECOND) <= 2 * MS);
    assert_eq!(hosts.offset.fault(), None);
}
