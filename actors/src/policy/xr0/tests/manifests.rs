//! What is read before anything loads: the manifest, and how it fits checkpoint and cells.

use super::*;

fn refusal(tiny: &Tiny) -> String {
    tiny.open().unwrap_err().to_string()
}

#[test]
fn a_made_checkpoint_fits_the_robot_that_it_was_made_for() {
    let policy = Tiny::new(1).open().unwrap();
    let label = policy.label();
    assert_eq!(label.name.as_str(), "xr0-tiny-untrained");
    assert!(label.note.as_str().contains("untrained"), "{}", label.note);
    assert_eq!(
        (label.model_hash.len(), label.normaliser_hash.len()),
        (32, 32)
    );
}

#[test]
fn another_seed_is_another_model_with_the_same_statistics() {
    let (one, two) = (Tiny::new(1).open().unwrap(), Tiny::new(2).open().unwrap());
    assert_ne!(one.model_hash(), two.model_hash());
    assert_eq!(one.normaliser_hash(), two.normaliser_hash());
    assert_eq!(one.model_hash(), Tiny::new(1).open().unwrap().model_hash());
}

#[test]
fn a_checkpoint_without_a_manifest_is_refused_with_what_to_do() {
    let tiny = Tiny::new(1);
    std::fs::remove_file(tiny.dir.join(manifest::FILE)).unwrap();
    let text = refusal(&tiny);
    assert!(
        text.contains("no vlad.toml") && text.contains("vlad model synth"),
        "{text}"
    );
    let nowhere = Xr0Policy::open(Path::new("/nowhere"), &[], Devices::default());
    assert!(nowhere.unwrap_err().to_string().contains("no such folder"));
}

#[test]
fn a_manifest_that_is_none_is_refused_with_its_line() {
    let tiny = Tiny::new(1);
    tiny.edit("profile = \"A\"", "profile = \"C\"");
    let text = refusal(&tiny);
    assert!(
        text.contains("vlad.toml: ") && text.contains("profile = \"C\""),
        "{text}"
    );
}

/// One change each, and what its refusal must name.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "profile = \"A\"",
        "profile = \"B\"\nlocal_window = 4\nposition_gap = 10",
        "profile: B",
    ),
    (
        "\"joint_absolute\"",
        "\"joint_delta\"",
        "action_representation: joint_absolute",
    ),
    ("flow = true", "flow = false", "flow: must be true"),
    ("flow = true", "flow = true\nvjp = true", "vjp: "),
    (
        "flow = true",
        "flow = true\nself_test = { file = \"t\", sha256 = \"0\" }",
        "self_test: golden self-tests are not in this build",
    ),
    (
        "\"Ego View\"",
        "\"Ego <|im_end|> View\"",
        "views: the view label contains <|im_end|>",
    ),
    ("\"Ego View\"", "\"  \"", "views: the view label \"  \""),
    (
        "\"Right-Wrist View\"",
        "\"Left-Wrist View\"",
        "views: \"Left-Wrist View\" stands there 2 times",
    ),
    (
        "view = \"right_wrist\"",
        "view = \"left_wrist\"",
        "views: \"left_wrist\" stands there 2 times",
    ),
    (
        "horizon = 30",
        "horizon = 10",
        "dual_arm has horizon 10, but the rows of its statistics is 30",
    ),
    (
        "width = 32",
        "width = 30",
        "dual_arm has width 30, but the action_dim of config.json is 32",
    ),
    (
        "name = \"dual_arm\"",
        "name = \"one_arm\"",
        "one_arm is not among those of preprocessor_config.json: dual_arm",
    ),
    (
        "image_pixels_max = 16384",
        "image_pixels_max = 90000",
        "image_pixels_max: 90000 here and 16384",
    ),
    ("\"ego\"", "\"overhead\"", "the cell has no camera overhead"),
    (
        "\"left_joint_3\"",
        "\"left_joint_4\"",
        "slot 9 is left_joint_4 in rad here and left_joint_3",
    ),
    ("dt_ms = 33", "dt_ms = 43", "dt_ms: 43"),
];

#[test]
fn each_mismatch_is_named() {
    for (from, to, named) in CHANGES {
        let tiny = Tiny::new(1);
        tiny.edit(from, to);
        let text = refusal(&tiny);
        assert!(text.contains(named), "{named} is not in\n{text}");
        assert!(text.contains("vlad.toml: "), "{text}");
    }
}

#[test]
fn all_mismatches_are_listed_at_once() {
    let tiny = Tiny::new(1);
    // Those that touch different lines.
    let changes: Vec<_> = CHANGES
        .iter()
        .filter(|(from, ..)| *from != "flow = true" && *from != "\"Ego View\"")
        .collect();
    for (from, to, _) in &changes {
        tiny.edit(from, to);
    }
    let config = tiny.dir.join("config.json");
    let text = String::from_utf8(read(&config)).unwrap();
    std::fs::write(
        &config,
        text.replacen("\"action_dim\": 32", "\"action_dim\": \"x\"", 1),
    )
    .unwrap();
    let text = refusal(&tiny);
    assert!(
        text.contains("config.json: ") && text.contains("faults:"),
        "{text}"
    );
    // What the broken checkpoint says is beside what the manifest and the cell say.
    for named in [
        "profile: B",
        "action_representation",
        "camera overhead",
        "slot 9",
        "dt_ms: 43",
    ] {
        assert!(text.contains(named), "{named} is not in\n{text}");
    }
    assert!(text.contains("the cell's robot type dual_arm"), "{text}");
}

#[test]
fn each_label_that_the_prompt_cannot_hold_is_named() {
    let tiny = Tiny::new(1);
    tiny.edit("\"Ego View\"", "\"<|im_start|>\"");
    tiny.edit("\"Right-Wrist View\"", "\"<|image_pad|>\"");
    let text = refusal(&tiny);
    assert!(
        text.contains("<|im_start|>") && text.contains("<|image_pad|>"),
        "{text}"
    );
}

#[test]
fn a_manifest_that_is_no_regular_file_is_refused() {
    let tiny = Tiny::new(1);
    let path = tiny.dir.join(manifest::FILE);
    std::fs::remove_file(&path).unwrap();
    pipe(&path);
    let text = refusal(&tiny);
    assert!(text.contains("vlad.toml: is not a regular file"), "{text}");
}

/// What the system says is told once: by the error, not by its chain too.
#[test]
fn an_unreadable_manifest_is_told_once() {
    let dir = TempDir::new();
    let path = dir.0.join(manifest::FILE);
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let error = manifest::read(&dir.0).unwrap_err();
    assert!(matches!(error, Xr0Error::File { .. }), "{error}");
    let told = error.to_string();
    assert_eq!(told.matches("os error").count(), 1, "{told}");
    assert!(std::error::Error::source(&error).is_none());
}

#[test]
fn a_file_in_the_place_of_the_folder_is_told_so() {
    let tiny = Tiny::new(1);
    let file = tiny.dir.join("config.json");
    let text = manifest::read(&file).unwrap_err().to_string();
    assert!(text.contains("config.json: is a file"), "{text}");
    assert!(!text.contains("vlad.toml"), "{text}");
}

#[test]
fn cells_with_the_same_mismatch_name_it_once() {
    let tiny = Tiny::new(1);
    tiny.edit("\"ego\"", "\"overhead\"");
    let shape = cell_shape(&robot());
    let text = Xr0Policy::check(&tiny.dir, &[shape.clone(), shape])
        .unwrap_err()
        .to_string();
    assert_eq!(text.matches("camera overhead").count(), 1, "{text}");
}

#[test]
fn pinned_hashes_are_compared_with_the_files() {
    let tiny = Tiny::new(1);
    let policy = tiny.open().unwrap();
    let right = vlad_xr0::checkpoint::digest::hex(&policy.model_hash());
    tiny.edit(
        "flow = true",
        &format!("flow = true\nmodel_sha256 = \"{right}\""),
    );
    assert!(tiny.open().is_ok());
    tiny.edit(&right, &"0".repeat(64));
    let text = refusal(&tiny);
    assert!(
        text.contains("model_sha256: 000") && text.contains(&right),
        "{text}"
    );
}

#[test]
fn a_made_checkpoint_is_left_alone() {
    let temp = TempDir::new();
    let dir = temp.0.join("data/checkpoints/tiny");
    preset::ensure_tiny(&robot(), 1, &dir).unwrap();
    let made = read(&dir.join(manifest::FILE));
    std::fs::write(dir.join("mark"), "mine").unwrap();
    preset::ensure_tiny(&robot(), 2, &dir).unwrap();
    assert_eq!(read(&dir.join(manifest::FILE)), made);
    assert_eq!(read(&dir.join("mark")), b"mine");
    let again = preset::write(&robot(), (Preset::Tiny, 1), &dir, &mut |_, _| {});
    assert!(again.unwrap_err().to_string().contains("exists"));
}

#[test]
fn statistics_hold_targets_near_home_and_begin_and_end_there() {
    let robot = robot();
    let opened = Tiny::new(1);
    let checkpoint = Checkpoint::open(&opened.dir).unwrap();
    let table = &checkpoint.preprocessor().robot_types["dual_arm"];
    let (horizon, width) = (table.horizon(), table.width());
    assert_eq!((horizon, width), (30, 32));
    let home = robot.slots().to_slots(robot.home());
    let used = robot.slots().slots();
    for (at, (mean, std)) in table.mean().iter().zip(table.std()).enumerate() {
        let (row, slot) = (at / width, at % width);
        assert_eq!(mean.to_bits(), home[slot].to_bits());
        // Three deviations, twice: from one end of the wandering to the other.
        assert!(*std * 3.0 <= 0.0401);
        let edge = row == 0 || row == horizon - 1;
        assert!(!edge || *std * 3.0 <= 0.005, "row {row}: {std}");
        assert_eq!(used.contains(&slot), 1e-5 < *std, "row {row}, slot {slot}");
    }
}
