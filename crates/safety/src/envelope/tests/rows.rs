//! Rows of chunks: what is accepted, moved inside, refused.

use super::*;

const TICK_S: f64 = 0.125;
/// 1.0 rad long, so that shares are distances.
const UNIT: Limits = Limits {
    min: 0.0,
    max: 1.0,
    speed_max: 2.0,
    acceleration_max: 4.0,
    jerk_max: 64.0,
};

fn unit() -> Envelope {
    let shape = Shape {
        limits: vec![UNIT],
        workspace: open(),
        dt_s: DT_S,
    };
    Envelope::new(shape, &[0.5])
}

fn judge(before: f64, target: f64) -> (Result<u32, Breach>, f64) {
    let mut row = [target];
    let verdict = unit().judge(&[before], &mut row, TICK_S);
    (verdict, row[0])
}

#[test]
fn a_row_inside_passes_untouched() {
    for (before, target) in [(0.5, 0.5), (0.5, 0.52), (0.5, 0.48), (0.9, 0.8), (0.1, 0.2)] {
        assert_eq!(judge(before, target), (Ok(0), target));
    }
}

#[test]
fn a_target_is_as_far_as_the_speed_allows() {
    let limits = Limits {
        min: -9.0,
        max: 9.0,
        ..UNIT
    };
    let shape = Shape {
        limits: vec![JOINT, limits],
        ..joints(2, open())
    };
    let envelope = Envelope::new(shape, &[0.0, 0.0]);
    for sign in [-1.0, 1.0] {
        let reach = sign * 0.25;
        assert_eq!(
            envelope.judge(&[0.0, 0.0], &mut [0.0, reach], TICK_S),
            Ok(0)
        );
        let verdict = envelope.judge(&[0.0, 0.0], &mut [0.0, reach * (1.0 + 2e-9)], TICK_S);
        assert!(
            matches!(verdict, Err(Breach::Speed { dof: 1, ratio }) if 1.0 < ratio && ratio < 1.001)
        );
        let verdict = envelope.judge(&[0.0, 0.0], &mut [0.0, reach * 2.0], TICK_S);
        assert_eq!(verdict, Err(Breach::Speed { dof: 1, ratio: 2.0 }));
    }
    for tick_s in [0.0, f64::NAN] {
        let verdict = envelope.judge(&[0.0, 0.0], &mut [0.0, 0.0], tick_s);
        assert!(matches!(verdict, Err(Breach::Speed { dof: 0, .. })));
    }
}

/// Standing still, a target may be at the limit but for the skin, and up to 1 % beyond it.
#[test]
fn a_target_a_little_outside_is_moved_inside() {
    for (limit, inward) in [(0.0, 1.0), (1.0, -1.0)] {
        let edge = limit + inward * 1e-6;
        assert_eq!(judge(edge, edge), (Ok(0), edge));
        assert_eq!(judge(limit, limit), (Ok(flag::POSITION_CLAMPED), edge));
    }
}

/// 0.5 rad/s needs 0.5 rad/s · (0.5/4 + 4/64) / 2 = 46.875 mrad to stop.
#[test]
fn the_stop_of_a_rows_own_speed_has_room() {
    let margin = 0.5 / 2.0 * (0.5 / 4.0 + 4.0 / 64.0);
    let step = 0.0625;
    for (towards, limit) in [(-1.0, 0.0), (1.0, 1.0)] {
        let edge = limit - towards * (margin + 1e-6);
        let at = |target: f64| judge(target - towards * step, target);
        let (verdict, _) = at(edge - towards * 1e-9);
        assert_eq!(verdict, Ok(0));
        let (verdict, moved) = at(edge + towards * 1e-7);
        assert_eq!(verdict, Ok(flag::POSITION_CLAMPED));
        assert!((moved - edge).abs() < 1e-9);
        let (verdict, moved) = at(edge + towards * (0.01 - 1e-9));
        assert_eq!(verdict, Ok(flag::POSITION_CLAMPED));
        assert!((moved - edge).abs() < 1e-9);
        let (verdict, _) = at(edge + towards * (0.01 + 1e-9));
        assert!(
            matches!(verdict, Err(Breach::Position { dof: 0, ratio }) if (ratio - 0.01).abs() < 1e-8)
        );
        // Away from the limit no room is needed.
        let (verdict, _) = judge(limit - towards * 1e-6, limit - towards * (1e-6 + step));
        assert_eq!(verdict, Ok(0));
    }
}

#[test]
fn what_was_outside_before_may_stay_and_come_back() {
    for (limit, out) in [(0.0, -1.0), (1.0, 1.0)] {
        let found = limit + out * 0.5;
        assert_eq!(judge(found, found), (Ok(0), found));
        assert_eq!(judge(found, found - out * 0.1), (Ok(0), found - out * 0.1));
        assert_eq!(
            judge(found, found + out * 0.005),
            (Ok(flag::POSITION_CLAMPED), found)
        );
        let (verdict, _) = judge(found, found + out * 0.02);
        assert!(
            matches!(verdict, Err(Breach::Position { dof: 0, ratio }) if (ratio - 0.02).abs() < 1e-9)
        );
    }
}

/// A range too short for any stop at that speed: nothing to be moved to.
#[test]
fn no_room_for_a_stop_is_a_breach() {
    let limits = Limits { max: 0.01, ..UNIT };
    let shape = Shape {
        limits: vec![limits],
        ..joints(1, open())
    };
    let envelope = Envelope::new(shape, &[0.0]);
    let verdict = envelope.judge(&[0.0], &mut [0.009], 0.01);
    assert!(matches!(verdict, Err(Breach::Position { dof: 0, .. })));
    // The stop takes 1.0027 of a range of 1: 0.8 % too much, and nothing inside to move to.
    let limits = Limits {
        speed_max: 5.0,
        ..UNIT
    };
    let shape = Shape {
        limits: vec![limits],
        ..joints(1, open())
    };
    let envelope = Envelope::new(shape, &[0.0]);
    let verdict = envelope.judge(&[0.005 - 2.71e-4], &mut [0.005], 1e-4);
    assert!(matches!(verdict, Err(Breach::Position { dof: 0, ratio }) if ratio < 0.01));
    // A range of nothing holds its one position.
    let limits = Limits { max: 0.0, ..UNIT };
    let shape = Shape {
        limits: vec![limits],
        ..joints(1, open())
    };
    let envelope = Envelope::new(shape, &[0.0]);
    assert_eq!(envelope.judge(&[0.0], &mut [0.0], 0.01), Ok(0));
}

/// Shares are shares of the range, wherever it lies and however long it is.
#[test]
fn shares_count_from_a_range_that_lies_anywhere() {
    let judge = |(min, max): (f64, f64), before: f64, target: f64| {
        let limits = Limits { min, max, ..UNIT };
        let shape = Shape {
            limits: vec![limits],
            ..joints(1, open())
        };
        let mut row = [target];
        let verdict = Envelope::new(shape, &[before]).judge(&[before], &mut row, TICK_S);
        (verdict, row[0])
    };
    // A skin of two millionths of a radian.
    let edge = 0.5 - 2e-6;
    let (verdict, moved) = judge((-1.5, 0.5), edge, 0.5);
    assert_eq!(verdict, Ok(flag::POSITION_CLAMPED));
    assert!((moved - edge).abs() < 2e-6);
    // 0.05 of a range of 2.
    let (verdict, _) = judge((0.5, 2.5), 0.0, -0.05);
    assert!(
        matches!(verdict, Err(Breach::Position { dof: 0, ratio }) if (ratio - 0.025).abs() < 1e-12)
    );
    // One hundredth to the last bit is still moved.
    let (verdict, moved) = judge((0.5, 1.5), 0.0, -0.01);
    assert_eq!((verdict, moved), (Ok(flag::POSITION_CLAMPED), 0.0));
}

#[test]
fn what_is_no_number_is_named() {
    let envelope = envelope(&[0.0, 0.0]);
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let verdict = envelope.judge(&[0.0, 0.0], &mut [0.0, number], TICK_S);
        assert_eq!(verdict, Err(Breach::NotFinite { dof: 1 }));
        let verdict = envelope.judge(&[number, 0.0], &mut [0.0, 0.0], TICK_S);
        assert_eq!(verdict, Err(Breach::NotFinite { dof: 0 }));
    }
}

#[test]
fn a_row_has_as_many_targets_as_the_robot() {
    let envelope = envelope(&[0.0, 0.0]);
    let expected = Err(Breach::Width { expected: 2 });
    assert_eq!(envelope.judge(&[0.0; 2], &mut [0.0], TICK_S), expected);
    assert_eq!(envelope.judge(&[0.0; 2], &mut [0.0; 3], TICK_S), expected);
    assert_eq!(envelope.judge(&[0.0], &mut [0.0; 2], TICK_S), expected);
}

#[test]
fn flags_of_several_targets_add_up_and_the_workspace_sees_the_moved_row() {
    let workspace = Workspace {
        arms: vec![turnstile(0, 0.0)],
        inside: Some(Box3 {
            min_m: [-2.0; 3],
            max_m: [2.0, 1.0_f64.sin(), 2.0],
        }),
        ..open()
    };
    let shape = Shape {
        limits: vec![UNIT; 2],
        workspace,
        dt_s: DT_S,
    };
    let envelope = Envelope::new(shape, &[0.5, 0.5]);
    // The tool would be beyond the wall at 1.005 rad, and is not at 1 rad less the skin.
    let mut row = [0.98, 0.5];
    assert_eq!(envelope.judge(&[0.98, 0.5], &mut row, TICK_S), Ok(0));
    let mut row = [1.0, 0.5];
    let verdict = envelope.judge(&[1.0 - 1e-6, 0.5], &mut row, TICK_S);
    assert_eq!(verdict, Ok(flag::POSITION_CLAMPED));
    let wall = Workspace {
        inside: Some(Box3 {
            min_m: [-2.0; 3],
            max_m: [2.0, 0.5, 2.0],
        }),
        ..envelope.shape.workspace.clone()
    };
    let shape = Shape {
        workspace: wall,
        ..envelope.shape.clone()
    };
    let behind = Envelope::new(shape, &[0.5, 0.5]);
    let verdict = behind.judge(&[0.5, 0.5], &mut [0.55, 0.5], TICK_S);
    assert!(matches!(verdict, Err(Breach::OutsideBox { arm: 0, .. })));
    let verdict = behind.judge(&[0.7, 0.5], &mut [0.55, 0.5], TICK_S);
    assert!(matches!(verdict, Err(Breach::ToolSpeed { arm: 0, .. })));
}
