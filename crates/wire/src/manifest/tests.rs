//! A manifest alone, and beside a cell.

use super::faults::ManifestFault;
use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn label(slot: usize, joint: &str, unit: &str) -> SlotLabel {
    SlotLabel {
        slot,
        joint: name(joint),
        unit: name(unit),
    }
}

fn manifest() -> Manifest {
    Manifest {
        name: name("tiny"),
        note: Note::new("untrained").unwrap(),
        published: None,
        profile: Profile::A,
        local_window: None,
        position_gap: None,
        rope_inv_freq_bf16: false,
        dt_ms: Some(33.333),
        robot_types: vec![RobotType {
            name: name("dual_arm"),
            width: 8,
            horizon: 30,
        }],
        action_representation: Some(ActionRepresentation::JointAbsolute),
        slots: vec![label(6, "gripper", "m"), label(7, "joint_1", "rad")],
        views: vec![ViewLabel {
            view: name("ego"),
            label: Note::new("Ego View").unwrap(),
            tokens_max: None,
            steps: Vec::new(),
        }],
        state: Vec::new(),
        actions: Vec::new(),
        grippers: Vec::new(),
        instruction: InstructionRule::default(),
        image_pixels_min: None,
        image_pixels_max: Some(90_000),
        replan_steps: None,
        prefix_trained_max: 0,
        flow: true,
        vjp: false,
        model_sha256: None,
        normaliser_sha256: None,
        self_test: None,
    }
}

fn cell() -> CellShape {
    let manifest = manifest();
    CellShape {
        robot_type: manifest.robot_types[0].clone(),
        slots: manifest.slots,
        views: vec![name("wrist"), name("ego")],
        dt_ms: 33.333,
    }
}

#[test]
fn a_good_pair_has_no_fault() {
    assert_eq!(manifest().faults(), []);
    assert_eq!(manifest().mismatches(&cell()), []);
}

#[test]
fn all_faults_are_listed_at_once() {
    let bad = Manifest {
        dt_ms: Some(f64::NAN),
        prefix_trained_max: 6,
        vjp: true,
        flow: false,
        model_sha256: Some("xyz".to_owned()),
        slots: vec![label(1, "a", "rad"), label(1, "b", "rad")],
        ..manifest()
    };
    let text: Vec<_> = bad.faults().iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 5, "{text:?}");
    assert!(text.iter().any(|t| t.starts_with("dt_ms")));
    assert!(text.contains(&"slots: slot 1 is used twice".to_owned()));
}

#[test]
fn all_mismatches_are_listed_at_once() {
    let other = CellShape {
        robot_type: RobotType {
            horizon: 10,
            ..cell().robot_type
        },
        slots: vec![label(6, "gripper", "rad")],
        views: vec![],
        dt_ms: 20.0,
    };
    let faults = manifest().mismatches(&other);
    assert_eq!(faults.len(), 5, "{faults:?}");
    assert!(faults.contains(&ManifestFault::View(name("ego"))));
}

type Change = fn(&mut Manifest);

/// One change each, and what must be said of it.
const CASES: &[(Change, &str)] = &[
    (|m| m.robot_types.clear(), "robot_types: must not be empty"),
    (
        |m| m.robot_types.push(m.robot_types[0].clone()),
        "robot_types: \"dual_arm\" stands there 2 times",
    ),
    (|m| m.robot_types[0].horizon = 0, "robot_types: has a shape"),
    (|m| m.replan_steps = Some(0), "replan_steps: must lie in"),
    (|m| m.replan_steps = Some(31), "replan_steps: must lie in"),
    (|m| m.profile = Profile::B, "profile: B needs local_window"),
    (
        |m| m.position_gap = Some(10),
        "profile: B needs local_window",
    ),
    (|m| m.slots.clear(), "slots: must not be empty"),
    (
        |m| m.state = vec![quantity(8, "eef_x")],
        "state: slot 8 lies beyond the width 8",
    ),
    (
        |m| m.actions = vec![quantity(1, "a"), quantity(1, "b")],
        "actions: slot 1 is used twice",
    ),
    (
        |m| m.grippers = vec![gripper(3)],
        "grippers: slot 3 is no action's",
    ),
    (
        |m| m.views.push(m.views[0].clone()),
        "views: \"Ego View\" stands there 2 times",
    ),
    (
        |m| m.views[0].tokens_max = Some(4097),
        "views: ego: tokens_max",
    ),
    (
        |m| m.views[0].steps = vec![ImageStep::CentreCrop { ratio: f64::NAN }],
        "views: ego: centre_crop: ratio NaN",
    ),
    (
        |m| {
            let (width, height) = (0, 256);
            m.views[0].steps = vec![ImageStep::Resize { width, height }];
        },
        "views: ego: resize to 0 x 256",
    ),
    (
        |m| m.image_pixels_max = Some(0),
        "image_pixels_max: must lie in",
    ),
    (
        |m| m.image_pixels_min = Some(90_001),
        "image_pixels_min: must not exceed image_pixels_max, 90000",
    ),
    (
        |m| m.normaliser_sha256 = Some("g".repeat(64)),
        "normaliser_sha256: must be 64",
    ),
    (
        |m| m.self_test = Some(self_test("a", "0")),
        "self_test: its sha256",
    ),
    (
        |m| m.self_test = Some(self_test("../a", &"0".repeat(64))),
        "self_test: its file",
    ),
    (
        |m| m.published = Some(publication("name", &"0".repeat(40))),
        "published: its repository",
    ),
    (
        |m| m.published = Some(publication("a/b", "main")),
        "published: its revision",
    ),
];

#[test]
fn each_field_out_of_its_range_is_named() {
    for (change, said) in CASES {
        let mut bad = manifest();
        change(&mut bad);
        let text: Vec<_> = bad.faults().iter().map(ToString::to_string).collect();
        assert!(
            text.iter().any(|fault| fault.starts_with(said)),
            "{said}: {text:?}"
        );
    }
}

#[test]
fn profile_b_leaves_a_free_action_of_every_chunk() {
    let b = Manifest {
        profile: Profile::B,
        local_window: Some(4),
        position_gap: Some(10),
        prefix_trained_max: 29,
        ..manifest()
    };
    assert_eq!(b.faults(), []);
    let full = Manifest {
        prefix_trained_max: 30,
        ..b.clone()
    };
    assert_eq!(full.faults().len(), 1, "{:?}", full.faults());
    let wide = Manifest {
        position_gap: Some(257),
        ..b
    };
    assert!(wide.faults()[0].to_string().starts_with("position_gap"));
}

#[test]
fn the_slots_of_an_action_follow_from_what_a_row_means() {
    let joints = manifest();
    assert_eq!(joints.action_slots(), [6, 7]);
    let steps = Manifest {
        action_representation: Some(ActionRepresentation::StepDelta),
        actions: vec![quantity(0, "delta_x"), quantity(2, "gripper")],
        grippers: vec![gripper(2)],
        ..joints
    };
    assert_eq!(steps.action_slots(), [0, 2]);
    assert_eq!(steps.faults(), []);
}

#[test]
fn what_a_manifest_does_not_say_keeps_it_from_a_cell_and_from_nothing_else() {
    let silent = Manifest {
        dt_ms: None,
        views: Vec::new(),
        action_representation: None,
        slots: Vec::new(),
        ..manifest()
    };
    assert_eq!(silent.faults(), []);
    let text: Vec<_> = silent
        .mismatches(&cell())
        .iter()
        .map(ToString::to_string)
        .collect();
    for said in [
        "dt_ms: is not given",
        "views: none are given",
        "action_representation: is not",
    ] {
        assert!(
            text.iter().any(|fault| fault.starts_with(said)),
            "{said}: {text:?}"
        );
    }
}

fn quantity(slot: usize, text: &str) -> Quantity {
    Quantity {
        slot,
        name: name(text),
        unit: name("one"),
    }
}

fn gripper(slot: usize) -> Gripper {
    Gripper {
        slot,
        open: 1.0,
        closed: 0.0,
        command_open: 1.0,
        command_closed: -1.0,
        threshold: Some(0.5),
    }
}

fn self_test(file: &str, sha256: &str) -> SelfTest {
    SelfTest {
        file: file.to_owned(),
        sha256: sha256.to_owned(),
    }
}

fn publication(repository: &str, revision: &str) -> Publication {
    Publication {
        repository: repository.to_owned(),
        revision: revision.to_owned(),
    }
}
