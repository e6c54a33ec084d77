//! What is read before anything loads: the manifest, and how it fits checkpoint and cells.

use vlad_wire::manifest::Profile;
use vlad_wire::manifest::instruction::InstructionRule;

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
    let nowhere = Xr0Policy::open(Path::new("/nowhere"), &[], Setup::default());
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
        "profile = \"A\"\nlocal_window = 4\nposition_gap = 10",
        "profile: B needs local_window and position_gap, A has neither",
    ),
    (
        "\"joint_absolute\"",
        "\"eef_delta\"",
        "action_representation: joint_absolute and joint_delta alone",
    ),
    ("flow = true", "flow = false", "flow: must be true"),
    ("flow = true", "flow = false", "vjp: needs a flow"),
    (
        "flow = true",
        "flow = true\nself_test = { file = \"../t\", sha256 = \"0\" }",
        "self_test: its file must be the name of a file beside vlad.toml",
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
    let told = error.to_string();
    assert!(told.contains("vlad.toml: cannot be read: "), "{told}");
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

/// A tiny checkpoint whose robot type bears another name, without a manifest.
fn renamed(robot_type: &str) -> Tiny {
    let tiny = Tiny::new(1);
    std::fs::remove_file(tiny.dir.join(manifest::FILE)).unwrap();
    let path = tiny.dir.join("preprocessor_config.json");
    let text = String::from_utf8(read(&path)).unwrap();
    let text = text.replacen("\"dual_arm\"", &format!("{robot_type:?}"), 1);
    std::fs::write(&path, text).unwrap();
    tiny
}

fn origin(tiny: &Tiny) -> manifest::Origin {
    manifest::find(&tiny.dir).unwrap().unwrap().origin
}

#[test]
fn a_released_checkpoint_has_its_built_in_manifest() {
    let tiny = renamed("bridge_delta");
    let repository = "XiaomiRobotics/Xiaomi-Robotics-0-SimplerEnv-WidowX".to_owned();
    assert_eq!(origin(&tiny), manifest::Origin::BuiltIn(repository));
    let read = manifest::read(&tiny.dir).unwrap().unwrap();
    assert_eq!(read.name.as_str(), "xr0-simpler-widowx");
    // It is compared with the files as one that was written by hand.
    let text = refusal(&tiny);
    for named in [
        "bridge_delta has horizon 4, but the rows of its statistics is 30",
        "slot 0 of bridge_delta is an action's, but its std in row 0",
        "joint_absolute and joint_delta alone drive a cell",
        "the cell has no camera third_view",
        "dt_ms: 200",
    ] {
        assert!(text.contains(named), "{named} is not in\n{text}");
    }
}

#[test]
fn a_file_beside_a_released_checkpoint_overrides_key_by_key() {
    let tiny = renamed("bridge_delta");
    let own =
        "note = \"mine\"\nreplan_steps = 2\ninstruction = { full_stop = false }\nstate = []\n";
    std::fs::write(tiny.dir.join(manifest::FILE), own).unwrap();
    let repository = "XiaomiRobotics/Xiaomi-Robotics-0-SimplerEnv-WidowX".to_owned();
    assert_eq!(origin(&tiny), manifest::Origin::FileOverBuiltIn(repository));
    let read = manifest::read(&tiny.dir).unwrap().unwrap();
    let built_in = released::released().unwrap();
    let built_in = built_in.iter().find(|one| one.short == "simpler-widowx");
    let wanted = Manifest {
        note: read.note.clone(),
        replan_steps: Some(2),
        state: Vec::new(),
        instruction: InstructionRule {
            full_stop: false,
            ..built_in.unwrap().manifest.instruction
        },
        ..built_in.unwrap().manifest.clone()
    };
    assert_eq!(read.note.as_str(), "mine");
    assert_eq!(read, wanted);
}

#[test]
fn a_file_that_overrides_with_nonsense_is_refused_with_the_key() {
    let tiny = renamed("bridge_delta");
    for (own, named) in [
        ("profile = \"C\"", "profile"),
        ("colour = \"red\"", "unknown field `colour`"),
        ("instruction = 7", "instruction"),
        ("views = [", "views = ["),
    ] {
        std::fs::write(tiny.dir.join(manifest::FILE), own).unwrap();
        let text = refusal(&tiny);
        let told = text.contains("vlad.toml: ") && text.contains(named);
        assert!(told, "{named} is not in\n{text}");
    }
}

#[test]
fn the_base_model_drives_no_cell_until_a_manifest_says_how() {
    let base = released::released().unwrap().pop().unwrap().manifest;
    let faults = base.mismatches(&cell_shape(&robot()));
    let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
    for named in [
        "action_representation: is not given",
        "views: none are given",
        "dt_ms: is not given",
    ] {
        assert!(
            text.iter().any(|fault| fault.starts_with(named)),
            "{text:?}"
        );
    }
}

fn limits_of(manifest: &Manifest, view: usize, dir: &Path) -> (usize, usize) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let view = &manifest.views[view];
    let limits = manifest::images::limits(manifest, view, checkpoint.preprocessor());
    (limits.min_pixels, limits.max_pixels)
}

#[test]
fn the_manifest_decides_on_sizes_and_a_view_on_its_tokens() {
    let tiny = Tiny::new(1);
    let mut manifest = manifest::read(&tiny.dir).unwrap().unwrap();
    // The checkpoint's: 1024 to 16384 pixels.
    manifest.image_pixels_max = None;
    assert_eq!(limits_of(&manifest, 0, &tiny.dir), (1024, 16384));
    manifest.image_pixels_max = Some(9000);
    manifest.image_pixels_min = Some(2048);
    manifest.views[1].tokens_max = Some(5);
    manifest.views[2].tokens_max = Some(500);
    assert_eq!(limits_of(&manifest, 0, &tiny.dir), (2048, 9000));
    assert_eq!(limits_of(&manifest, 1, &tiny.dir), (2048, 5 * 32 * 32));
    assert_eq!(limits_of(&manifest, 2, &tiny.dir), (2048, 9000));
}

#[test]
fn profile_b_resizes_by_limits_of_its_own() {
    let tiny = Tiny::new(1);
    tiny.edit(
        "image_pixels_max = 16384",
        "image_pixels_max = 90000\nimage_pixels_min = 512",
    );
    let text = refusal(&tiny);
    assert!(text.contains("which profile A does not exceed"), "{text}");
    assert!(text.contains("below which profile A does not go"), "{text}");
    let b = "profile = \"B\"\nlocal_window = 4\nposition_gap = 10\nprefix_trained_max = 6";
    tiny.edit("profile = \"A\"", b);
    Xr0Policy::check(&tiny.dir, &[cell_shape(&robot())]).unwrap();
    tiny.edit(
        "label = \"Ego View\"",
        "label = \"Ego View\", tokens_max = 0",
    );
    assert!(refusal(&tiny).contains("views: ego: tokens_max must lie in 1 to"));
}

/// The profile is the manifest's alone.
#[test]
fn a_made_checkpoint_of_profile_b_takes_a_prefix() {
    let (a, temp) = (Tiny::new(1), TempDir::new());
    let dir = temp.0.join("b");
    preset::write_as(
        &robot(),
        (Preset::Tiny, 1, Profile::B),
        &dir,
        &mut |_, _| {},
    )
    .unwrap();
    Xr0Policy::check(&dir, &[cell_shape(&robot())]).unwrap();
    let b = manifest::read(&dir).unwrap().unwrap();
    assert_eq!((b.profile, b.prefix_trained_max), (Profile::B, 6));
    assert_eq!((b.local_window, b.position_gap), (Some(4), Some(10)));
    let a_manifest = manifest::read(&a.dir).unwrap().unwrap();
    assert_eq!(
        (a_manifest.profile, a_manifest.prefix_trained_max),
        (Profile::A, 0)
    );
    let digest = |dir: &Path| Checkpoint::open(dir).unwrap().model_digest().unwrap();
    assert_eq!(digest(&a.dir), digest(&dir));
}
