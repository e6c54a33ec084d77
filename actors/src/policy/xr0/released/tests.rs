//! Every file of `config/manifests/`, against the table of the reference.

use vlad_wire::manifest::image::ImageStep;
use vlad_wire::manifest::instruction::Case;
use vlad_wire::manifest::{ActionRepresentation, Profile};

use super::*;

/// Short name, robot types with their chunk lengths, views in order, commit (reference §0.3).
type Row = (
    &'static str,
    &'static [(&'static str, usize)],
    &'static [&'static str],
    &'static str,
);

const TABLE: [Row; 6] = [
    (
        "libero",
        &[("libero_all", 10)],
        &["Base View", "Left-Wrist View"],
        "fc04bbdcc53e498695cfad95d1199091396ef55b",
    ),
    (
        "calvin-abcd",
        &[("calvin_abcd_orig", 10)],
        &["Base View", "Left-Wrist View"],
        "1161227fbcde104c7333ccf684695d3612df2d26",
    ),
    (
        "calvin-abc",
        &[("calvin_abc_orig", 10)],
        &["Base View", "Left-Wrist View"],
        "3e64bfa35ab26c00cb5572e3f174a2421a85577d",
    ),
    (
        "simpler-google",
        &[("fractal_delta", 4)],
        &["Ego View"],
        "3b6b1bf65cf9ffbf0865a9abc0b66ee338e0bee6",
    ),
    (
        "simpler-widowx",
        &[("bridge_delta", 4)],
        &["Base View"],
        "3f25b13ea6007d44466e6ea9d2ffe460876142c5",
    ),
    (
        "pretrain",
        &[
            ("agibot_pt_v3", 30),
            ("droid_pt", 15),
            ("midata_mix_ann_pt_v1", 30),
            ("molmoact_pt", 15),
        ],
        &[],
        "50276c277f7d5c9b1a52fcecdea79045568c6916",
    ),
];

fn one(short: &str) -> Released {
    let all = released().unwrap();
    all.into_iter().find(|one| one.short == short).unwrap()
}

#[test]
fn every_manifest_is_valid_and_says_what_the_table_says() {
    let all = released().unwrap();
    assert_eq!(all.len(), TABLE.len());
    for (released, (short, robots, views, revision)) in all.iter().zip(TABLE) {
        let manifest = &released.manifest;
        assert_eq!(manifest.faults(), [], "{short}");
        assert_eq!((released.short, &*released.revision), (short, revision));
        assert!(
            released
                .repository
                .starts_with("XiaomiRobotics/Xiaomi-Robotics-0-"),
            "{}",
            released.repository
        );
        let types = manifest.robot_types.iter();
        let types: Vec<_> = types.map(|t| (t.name.as_str(), t.horizon)).collect();
        assert_eq!(types, robots, "{short}");
        assert!(
            manifest.robot_types.iter().all(|t| t.width == 32),
            "{short}"
        );
        let labels = manifest.views.iter().map(|view| view.label.as_str());
        assert_eq!(labels.collect::<Vec<_>>(), views, "{short}");
        assert_eq!(manifest.profile, Profile::A, "{short}");
        assert!(manifest.rope_inv_freq_bf16 && manifest.flow, "{short}");
        assert_eq!(manifest.prefix_trained_max, 0, "{short}");
        // The checkpoint's own limits hold: nobody has published them.
        let limits = (manifest.image_pixels_min, manifest.image_pixels_max);
        assert_eq!(limits, (None, None), "{short}");
    }
}

#[test]
fn every_file_of_the_folder_is_compiled_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/manifests");
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let there: BTreeSet<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let known: BTreeSet<_> = FILES.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(there, known);
}

#[test]
fn each_is_recognised_by_its_robot_types_and_by_nothing_less() {
    for (short, robots, ..) in TABLE {
        let names: BTreeSet<_> = robots.iter().map(|(name, _)| (*name).to_owned()).collect();
        let found = with_robot_types(&names).unwrap().unwrap();
        assert_eq!(found.short, short);
        let more = names.iter().cloned().chain(["own".to_owned()]).collect();
        assert_eq!(with_robot_types(&more).unwrap(), None);
    }
    assert_eq!(with_robot_types(&BTreeSet::new()).unwrap(), None);
}

#[test]
fn benchmarks_have_seven_actions_that_are_steps() {
    for (short, robots, ..) in TABLE.into_iter().filter(|row| row.0 != "pretrain") {
        let manifest = one(short).manifest;
        let steps = Some(ActionRepresentation::StepDelta);
        assert_eq!(manifest.action_representation, steps, "{short}");
        assert_eq!(manifest.action_slots(), [0, 1, 2, 3, 4, 5, 6], "{short}");
        let [gripper] = *manifest.grippers else {
            panic!("{short} has one gripper");
        };
        assert_eq!(gripper.slot, 6, "{short}");
        let horizon = u16::try_from(robots[0].1).unwrap();
        assert_eq!(manifest.replan_steps, Some(horizon), "{short}");
    }
}

/// Open, closed and in between, as the benchmarks' clients command them (reference §7.7).
#[test]
fn grippers_command_what_the_clients_command() {
    let cases: [(&str, [(f64, f64); 4]); 4] = [
        (
            "libero",
            [(-1.0, -1.0), (1.0, 1.0), (0.5, 0.5), (-0.2, -0.2)],
        ),
        (
            "calvin-abc",
            [(0.3, 1.0), (-0.3, -1.0), (1.0, 1.0), (0.0, -1.0)],
        ),
        (
            "simpler-widowx",
            [(0.6, 1.0), (0.5, -1.0), (1.0, 1.0), (0.0, -1.0)],
        ),
        (
            "simpler-google",
            [(1.0, -1.0), (0.0, 1.0), (0.25, 0.5), (2.0, -1.0)],
        ),
    ];
    for (short, numbers) in cases {
        let gripper = one(short).manifest.grippers[0];
        for (decoded, command) in numbers {
            let found = gripper.command(decoded);
            assert!(
                (found - command).abs() < 1e-12,
                "{short} {decoded}: {found}"
            );
        }
    }
}

/// Which numbers the state has (reference §7.7).
#[test]
fn states_have_the_slots_of_the_table() {
    for (short, wanted) in [
        (
            "libero",
            &[(0, "eef_x"), (3, "eef_rx"), (7, "finger_2")][..],
        ),
        ("calvin-abcd", &[(3, "tcp_roll"), (6, "gripper_width")]),
        ("simpler-widowx", &[(5, "eef_yaw"), (7, "gripper_openness")]),
        (
            "simpler-google",
            &[(6, "eef_qw"), (7, "gripper_closedness")],
        ),
    ] {
        let state = one(short).manifest.state;
        for (slot, name) in wanted {
            let found = state.iter().find(|quantity| quantity.slot == *slot);
            assert_eq!(found.unwrap().name.as_str(), *name, "{short}");
        }
    }
    // Nothing stands in slot 6 of the WidowX arm's.
    let widowx = one("simpler-widowx").manifest.state;
    assert!(widowx.iter().all(|quantity| quantity.slot != 6));
}

#[test]
fn sentences_and_images_are_prepared_as_by_the_clients() {
    let crop = ImageStep::CentreCrop { ratio: 0.95 };
    let resize = |width| ImageStep::Resize { width, height: 256 };
    for (short, case, steps) in [
        ("libero", Case::Capitalize, vec![ImageStep::Rotate180]),
        ("calvin-abcd", Case::Capitalize, vec![crop]),
        ("calvin-abc", Case::Capitalize, vec![crop]),
        ("simpler-google", Case::FirstUpper, vec![resize(320), crop]),
        ("simpler-widowx", Case::FirstUpper, vec![resize(256), crop]),
    ] {
        let manifest = one(short).manifest;
        assert_eq!(manifest.instruction.case, case, "{short}");
        assert!(manifest.instruction.full_stop, "{short}");
        for view in &manifest.views {
            assert_eq!(view.steps, steps, "{short}");
        }
    }
}
