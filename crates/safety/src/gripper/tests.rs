#![expect(clippy::float_cmp, reason = "targets pass untouched or not at all")]

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 30;

fn filter() -> FlipFilter {
    FlipFilter::new(0.04, 0.01, SECOND)
}

#[test]
fn four_reversals_a_second_pass_and_the_fifth_waits() {
    let mut filter = filter();
    for (tick, wanted) in [(0, 0.0), (1, 0.08), (2, 0.0), (3, 0.08)] {
        assert_eq!(filter.admit(tick, wanted), wanted);
    }
    // Frozen open until the reversal of tick 0 is a second old.
    for tick in 4..SECOND {
        assert_eq!(filter.admit(tick, 0.0), 0.08);
    }
    assert_eq!(filter.admit(SECOND, 0.0), 0.0);
    // The next free one is that of tick 1.
    assert_eq!(filter.admit(SECOND, 0.08), 0.0);
    assert_eq!(filter.admit(SECOND + 1, 0.08), 0.08);
    assert_eq!(filter.admit(SECOND + 1, 0.0), 0.08);
    assert_eq!(filter.admit(SECOND + 2, 0.0), 0.0);
    assert_eq!(filter.admit(SECOND + 3, 0.08), 0.08);
    assert_eq!(filter.admit(SECOND + 4, 0.0), 0.08);
}

#[test]
fn going_on_in_one_direction_is_no_reversal() {
    let mut filter = filter();
    for tick in 0..20_u8 {
        let wanted = 0.04 + f64::from(tick) * 1e-3;
        assert_eq!(filter.admit(u64::from(tick), wanted), wanted);
    }
    for tick in 20..80_u8 {
        let wanted = 0.04 - f64::from(tick) * 1e-3;
        assert_eq!(filter.admit(u64::from(tick), wanted), wanted);
    }
}

#[test]
fn trembling_below_a_stroke_passes() {
    let mut filter = FlipFilter::new(0.25, 0.125, SECOND);
    for tick in 0..100_u64 {
        let wanted = if tick % 2 == 0 { 0.5 } else { 0.375 };
        assert_eq!(filter.admit(tick, wanted), wanted);
    }
    // A stroke and the last bit more counts: four pass, the fifth is held.
    for (tick, wanted) in [(200, 0.374_999), (201, 0.5), (202, 0.25), (203, 0.5)] {
        assert_eq!(filter.admit(tick, wanted), wanted);
    }
    assert_eq!(filter.admit(204, 0.374_999), 0.5);
    assert_eq!(filter.admit(205, 0.375), 0.375);
}

/// A slow closing in small steps counts as one movement back from the farthest opening.
#[test]
fn small_steps_back_add_up_to_a_reversal() {
    let mut filter = FlipFilter::new(0.5, 0.125, SECOND);
    for cycle in 0..2_u64 {
        for (step, wanted) in [0.45, 0.4, 0.35, 0.4, 0.45, 0.5].into_iter().enumerate() {
            let tick = cycle * 6 + u64::try_from(step).unwrap();
            assert_eq!(filter.admit(tick, wanted), wanted);
        }
    }
    // Four reversals are made: the way back ends where it becomes one.
    assert_eq!(filter.admit(12, 0.4), 0.4);
    assert_eq!(filter.admit(13, 0.3), 0.4);
}

#[test]
fn what_is_no_number_keeps_the_last_target() {
    let mut filter = filter();
    assert_eq!(filter.admit(0, f64::NAN), 0.04);
    assert_eq!(filter.admit(0, 0.05), 0.05);
    for wanted in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(filter.admit(1, wanted), 0.05);
    }
}

#[test]
fn a_squeeze_is_bounded_and_opening_is_not() {
    assert_eq!(squeeze(0.0, 0.5, 0.125), 0.375);
    assert_eq!(squeeze(0.375, 0.5, 0.125), 0.375);
    assert_eq!(squeeze(0.4, 0.5, 0.125), 0.4);
    assert_eq!(squeeze(0.9, 0.5, 0.125), 0.9);
    assert_eq!(squeeze(0.1, f64::NAN, 0.125), 0.1);
}

proptest! {
    /// Among the targets that come out, no window of a second has more than four reversals of a
    /// stroke.
    #[test]
    fn no_second_has_five_reversals(wanted in prop::collection::vec(0.0..0.08_f64, 1..200)) {
        let mut filter = filter();
        let mut told = vec![0.04];
        for (tick, wanted) in wanted.into_iter().enumerate() {
            told.push(filter.admit(u64::try_from(tick).unwrap(), wanted));
        }
        let (mut flips, mut extreme, mut opening) = (Vec::new(), 0.04_f64, true);
        for (tick, position) in told.into_iter().enumerate() {
            let ahead = if opening { position - extreme } else { extreme - position };
            if ahead < -0.01 {
                flips.push(tick);
                opening = !opening;
            }
            if !(-0.01..=0.0).contains(&ahead) {
                extreme = position;
            }
        }
        for five in flips.windows(FLIPS_MAX + 1) {
            prop_assert!(30 <= five[FLIPS_MAX] - five[0]);
        }
    }
}
