use proptest::prelude::*;

use super::*;

/// Position, rotation, a joint, a delta gripper, an absolute gripper, a slot without a use.
fn dual() -> Layout {
    Layout {
        width: 10,
        parts: vec![
            Part::Tool {
                position: 0,
                rotation: 3,
            },
            Part::Joint { slot: 6 },
            Part::Gripper {
                slot: 7,
                delta: true,
            },
            Part::Gripper {
                slot: 8,
                delta: false,
            },
        ],
    }
}

const ROWS: usize = 6;

fn tables() -> (Vec<f32>, Vec<f32>) {
    let number = |at: usize| f32::from(u16::try_from(at).unwrap());
    let mean = (0..ROWS * 10).map(|at| 0.01 * number(at) - 0.2).collect();
    let std = (0..ROWS * 10).map(|at| match at % 10 {
        9 => 0.0,
        slot => 0.02 + 0.01 * number(slot + at / 10),
    });
    (mean, std.collect())
}

fn codec(representation: ActionRepresentation) -> PrefixCodec {
    let (mean, std) = tables();
    let tables = Tables {
        mean: &mean,
        std: &std,
    };
    PrefixCodec::new(representation, dual(), tables).unwrap()
}

/// The worst error of a round trip: slots by difference, rotations by the angle between them.
fn worst(codec: &PrefixCodec, rows: &[f32], state: &[f32]) -> f64 {
    let normalised = codec.encode(rows, state).unwrap();
    let back = codec.decode(&normalised, state).unwrap();
    let mut worst: f64 = 0.0;
    for (row, back) in rows.chunks(10).zip(back.chunks(10)) {
        let wide = |row: &[f32]| row.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let (row, back) = (wide(row), wide(back));
        for slot in [0, 1, 2, 6, 7, 8] {
            worst = worst.max((row[slot] - back[slot]).abs());
        }
        let turn = |row: &[f64]| Quaternion::of_vector(Vector::read(row, 3));
        worst = worst.max(turn(&row).angle_to(turn(&back)));
        assert!(back[9].abs() < f64::EPSILON);
    }
    worst
}

/// Any pose: a metre around the base, any axis, an angle that is often near a half turn.
fn pose() -> impl Strategy<Value = [f32; 6]> {
    let angle = prop_oneof![
        0.0_f64..std::f64::consts::PI,
        std::f64::consts::PI - 1e-3..std::f64::consts::PI,
        Just(std::f64::consts::PI),
        0.0_f64..1e-6,
    ];
    let axis = prop::array::uniform3(-1.0_f64..1.0);
    (prop::array::uniform3(-1.0_f32..1.0), axis, angle).prop_map(|(position, axis, angle)| {
        let norm = Vector(axis).norm().max(1e-3);
        let axis = axis.map(|part| narrow(part / norm * angle));
        [position, axis].concat().try_into().unwrap()
    })
}

fn row() -> impl Strategy<Value = Vec<f32>> {
    (pose(), prop::array::uniform3(-3.2_f32..3.2)).prop_map(|(pose, rest)| {
        let mut row = pose.to_vec();
        row.extend(rest);
        row.push(0.0);
        row
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Reference A.8, property 2.
    #[test]
    fn a_round_trip_over_random_poses_is_exact_to_a_hundred_thousandth(
        rows in prop::collection::vec(row(), 1..=ROWS), state in row(),
    ) {
        let rows = rows.concat();
        for representation in [ActionRepresentation::EefDelta, ActionRepresentation::StepDelta] {
            let error = worst(&codec(representation), &rows, &state);
            prop_assert!(error <= 1e-5, "{representation:?}: {error}");
        }
    }

    #[test]
    fn a_vector_and_its_rotation_mean_the_same(pose in pose(), other in pose()) {
        let turn = |pose: [f32; 6]| {
            Quaternion::of_vector(Vector([pose[3], pose[4], pose[5]].map(f64::from)))
        };
        let (a, b) = (turn(pose), turn(other));
        prop_assert!(a.angle_to(Quaternion::of_vector(a.to_vector())) < 1e-9);
        prop_assert!(a.to_vector().norm() <= std::f64::consts::PI + 1e-12);
        let v = Vector([0.3, -0.2, 0.9]);
        let (one, two) = ((a * b).rotate(v), a.rotate(b.rotate(v)));
        prop_assert!((one - two).norm() < 1e-12);
    }
}

#[test]
fn joints_round_trip_in_both_representations() {
    let layout = Layout {
        width: 2,
        parts: vec![Part::Joint { slot: 0 }, Part::Joint { slot: 1 }],
    };
    let tables = Tables {
        mean: &[0.5, -0.5, 0.1, 0.2],
        std: &[0.1, 0.2, 0.3, 0.4],
    };
    for representation in [
        ActionRepresentation::JointAbsolute,
        ActionRepresentation::JointDelta,
    ] {
        let codec = PrefixCodec::new(representation, layout.clone(), tables).unwrap();
        let (rows, state) = ([1.0, -2.0, 3.0, 0.25], [0.5, 0.75]);
        let normalised = codec.encode(&rows, &state).unwrap();
        let back = codec.decode(&normalised, &state).unwrap();
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        assert!(rows.iter().zip(&back).all(near), "{back:?}");
        let first = match representation {
            ActionRepresentation::JointAbsolute => (1.0 - 0.5) / (0.1 + 1e-6),
            _ => (1.0 - 0.5 - 0.5) / (0.1 + 1e-6),
        };
        assert!((normalised[0] - first).abs() < 1e-5);
    }
}

#[test]
fn a_target_is_seen_from_the_tool() {
    // A tool turned by a quarter about z; the target lies one metre along the base's x.
    let quarter = narrow(std::f64::consts::FRAC_PI_2);
    let codec = PrefixCodec {
        mean: vec![],
        std: vec![],
        ..codec(ActionRepresentation::EefDelta)
    };
    let state = [0.0, 0.0, 0.0, 0.0, 0.0, quarter, 1.0, 0.5, 0.0, 0.0];
    let row = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.75, 1.0, 0.0];
    let seen = codec.relative(&row, &state).unwrap();
    let want = [0.0, -1.0, 0.0, 0.0, 0.0, -quarter, 2.0, 0.25, 1.0, 0.0];
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
    assert!(seen.iter().zip(&want).all(near), "{seen:?}");
}

#[test]
fn the_same_target_has_another_number_at_another_index_and_from_another_state() {
    let codec = codec(ActionRepresentation::EefDelta);
    let row = [0.3, 0.1, 0.2, 0.1, 0.2, 0.3, 1.0, 0.5, 0.0, 0.0];
    let state = [0.0; 10];
    let twice = codec.encode(&row.repeat(2), &state).unwrap();
    assert!((twice[0] - twice[10]).abs() > 0.1, "another table row");
    let moved = [0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let from_there = codec.encode(&row, &moved).unwrap();
    assert!((twice[0] - from_there[0]).abs() > 0.1, "another state");
}

#[test]
fn steps_count_from_row_to_row() {
    let codec = PrefixCodec {
        mean: vec![],
        std: vec![],
        ..codec(ActionRepresentation::StepDelta)
    };
    let mut rows = vec![0.0; 20];
    (rows[0], rows[10], rows[6], rows[16]) = (0.5, 0.75, 1.0, 3.0);
    let steps = codec.relative(&rows, &[0.0; 10]).unwrap();
    let got = vec![steps[0], steps[10], steps[6], steps[16]];
    assert_eq!(got, [0.5, 0.25, 1.0, 2.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let of = |parts: Vec<Part>, tables: Tables<'_>| {
        let layout = Layout { width: 4, parts };
        PrefixCodec::new(ActionRepresentation::JointDelta, layout, tables).map(|_| ())
    };
    let none = Tables {
        mean: &[],
        std: &[],
    };
    let joint = |slot| Part::Joint { slot };
    let tool = Part::Tool {
        position: 0,
        rotation: 3,
    };
    assert_eq!(of(vec![joint(0), joint(3)], none), Ok(()));
    let beyond = CodecError::Beyond { slot: 4, width: 4 };
    assert_eq!(of(vec![joint(4)], none), Err(beyond));
    let twice = CodecError::Twice { slot: 1 };
    assert_eq!(of(vec![joint(1), joint(1)], none), Err(twice));
    assert_eq!(of(vec![tool], none), Err(CodecError::ToolOfJoints));
    let uneven = Tables {
        mean: &[0.0; 4],
        std: &[1.0; 3],
    };
    assert!(matches!(of(vec![], uneven), Err(CodecError::Tables { .. })));
    let flat = Tables {
        mean: &[0.0; 8],
        std: &[1.0, 1.0, 1.0, 1.0, 1.0, 9e-5, 1.0, 1.0],
    };
    let where_ = CodecError::Flat { row: 1, slot: 1 };
    assert_eq!(of(vec![joint(1)], flat), Err(where_));
    assert_eq!(of(vec![joint(0)], flat), Ok(()), "nobody uses that slot");
    let codec = codec(ActionRepresentation::EefDelta);
    let too_many = vec![0.0; (ROWS + 1) * 10];
    for rows in [&too_many[..], &too_many[..9]] {
        let refused = codec.encode(rows, &[0.0; 10]);
        assert!(matches!(refused, Err(CodecError::Rows { .. })));
    }
    let mut broken = vec![0.0; 10];
    broken[3] = f32::NAN;
    assert_eq!(
        codec.decode(&broken, &[0.0; 10]),
        Err(CodecError::NotFinite)
    );
}

#[test]
fn a_prefix_covers_the_tick_in_which_the_chunk_arrives() {
    assert_eq!(rows_to_cover(10, 13), 4);
    assert_eq!(rows_to_cover(10, 10), 1);
    assert_eq!(rows_to_cover(10, 5), 0);
}
