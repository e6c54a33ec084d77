//! Checkpoints as files: verified, shown, made and tried from a shell, without a daemon.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::TempDir;
use crate::support::process::{Ended, vlad};

/// The golden set that comes with the repository.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/xr0-tiny")
}

/// Runs `vlad model`.
fn model(words: &[&str]) -> Ended {
    vlad([&["model"], words].concat())
}

/// The same, which must end with 0.
#[track_caller]
fn done(words: &[&str]) -> String {
    let ended = model(words);
    assert_eq!(ended.code, 0, "{words:?} {}", ended.err);
    ended.out
}

#[track_caller]
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A checkpoint that vlad has made.
#[track_caller]
fn synth(dir: &TempDir, name: &str, seed: &str) -> PathBuf {
    let out = dir.path().join(name);
    done(&["synth", "--preset", "tiny", "--seed", seed, &text(&out)]);
    out
}

/// Every file of a directory with its bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                text(Path::new(path.file_name().unwrap())),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// A binary PPM whose pixels follow from their place.
fn picture(dir: &TempDir, name: &str, (height, width): (usize, usize)) -> String {
    let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
    let level = |i: usize| u8::try_from(i * 7 % 251).unwrap();
    bytes.extend((0..height * width * 3).map(level));
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    text(&path)
}

#[test]
fn verify_agrees_with_the_golden_set() {
    let out = done(&["verify", &text(&golden())]);
    for wanted in [
        "sync_v2_rope_bf16",
        "image_resized.1",
        "ids.9",
        "served/actions",
        "all agree",
    ] {
        assert!(out.contains(wanted), "{wanted} in\n{out}");
    }
    assert!(!out.contains("FAIL"), "{out}");
    assert!(!out.contains("skipped"), "{out}");
}

#[test]
fn verify_ends_with_1_and_names_what_disagrees() {
    let words = ["verify", &text(&golden()), "--tolerance", "0"];
    let ended = model(&words);
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(ended.err.contains("disagree: sync_b2 "), "{}", ended.err);
    assert!(ended.out.contains("FAIL sync_v2"), "{}", ended.out);

    let ended = model(&[&words[..], &["--json"]].concat());
    assert_eq!(ended.code, 1);
    let document = parsed(&ended.out);
    let keys: Vec<_> = document.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["cases", "skipped", "worst"]);
    assert_eq!(document["worst"]["limit"], json!(0.0));
    let failing = document["cases"].as_array().unwrap().iter();
    let failing: Vec<_> = failing
        .filter(|case| case["passed"] == json!(false))
        .collect();
    assert!(
        !failing.is_empty()
            && failing
                .iter()
                .all(|case| case["kind"] != json!("tokenizer"))
    );
}

#[test]
fn verify_names_a_file_that_is_missing() {
    let dir = TempDir::new();
    let set = dir.path().join("set");
    fs::create_dir(&set).unwrap();
    fs::copy(golden().join("manifest.json"), set.join("manifest.json")).unwrap();
    let ended = model(&["verify", &text(&set), "--json"]);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("model/config.json: "), "{}", ended.err);
}

#[test]
fn inspect_shows_a_checkpoint_without_a_manifest() {
    let dir = text(&golden().join("model"));
    let out = done(&["inspect", &dir]);
    for wanted in [
        "766736",
        "BF16",
        "tiny_short",
        "chunk of 4 actions",
        "vlad.toml",
        "none: ",
    ] {
        assert!(out.contains(wanted), "{wanted} in\n{out}");
    }
    let document = parsed(&done(&["inspect", &dir, "--json"]));
    assert_eq!(document["manifest"], Value::Null);
    assert_eq!(document["robot_types"]["tiny_short"]["horizon"], json!(4));
    assert_eq!(document["faults"], json!([]));
}

#[test]
fn inspect_lists_all_that_is_wrong() {
    let dir = TempDir::new();
    let checkpoint = synth(&dir, "broken", "1");
    fs::remove_file(checkpoint.join("tokenizer.json")).unwrap();
    let manifest = fs::read_to_string(checkpoint.join("vlad.toml")).unwrap();
    let manifest = manifest.replace("profile = \"A\"", "profile = \"B\"");
    fs::write(checkpoint.join("vlad.toml"), manifest).unwrap();
    let ended = model(&["inspect", &text(&checkpoint)]);
    assert_eq!(ended.code, 1, "{}", ended.out);
    for wanted in ["FAULT", "tokenizer.json: ", "vlad.toml: profile: B needs"] {
        assert!(ended.out.contains(wanted), "{wanted} in\n{}", ended.out);
    }
    let nowhere = model(&["inspect", "/nowhere", "--json"]);
    assert_eq!(nowhere.code, 1);
    assert!(
        !parsed(&nowhere.out)["faults"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

/// The same bytes from the same seed; what was made is whole, and says what it is.
#[test]
fn synth_is_deterministic() {
    let dir = TempDir::new();
    let first = synth(&dir, "first", "7");
    assert_eq!(files(&first), files(&synth(&dir, "again", "7")));
    assert_ne!(files(&first), files(&synth(&dir, "other", "8")));

    let again = model(&["synth", "--preset", "tiny", "--seed", "7", &text(&first)]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("exists"), "{}", again.err);
    let third = done(&[
        "synth",
        "--preset",
        "tiny",
        &text(&dir.path().join("third")),
    ]);
    assert!(
        third.contains("untrained") && third.contains("vlad.toml"),
        "{third}"
    );

    let document = parsed(&done(&["inspect", &text(&first), "--json"]));
    assert_eq!(document["faults"], json!([]));
    assert_eq!(document["manifest"]["profile"], json!("A"));
    assert_eq!(document["manifest"]["views"].as_array().unwrap().len(), 3);
    assert_eq!(document["manifest_origin"], json!("file"));
    let shown = done(&["inspect", &text(&first)]);
    assert!(
        shown.contains("untrained") && shown.contains("Left-Wrist View"),
        "{shown}"
    );
}

/// The weights are those of profile A, the manifest is another.
#[test]
fn synth_makes_a_manifest_of_profile_b() {
    let dir = TempDir::new();
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    let synth = ["synth", "--preset", "tiny", "--seed", "3"];
    done(&[&synth[..], &[&text(&a)]].concat());
    let told = done(&[&synth[..], &["--profile", "B", &text(&b)]].concat());
    assert!(told.contains("profile B"), "{told}");
    let document = |dir: &Path| parsed(&done(&["inspect", &text(dir), "--json"]));
    let (a, b_shown) = (document(&a), document(&b));
    let manifest = &b_shown["manifest"];
    for (key, value) in [
        ("profile", json!("B")),
        ("local_window", json!(4)),
        ("position_gap", json!(10)),
        ("prefix_trained_max", json!(6)),
    ] {
        assert_eq!(manifest[key], value, "{key}");
    }
    assert_eq!(a["manifest"]["profile"], json!("A"));
    assert_eq!(a["model_sha256"], b_shown["model_sha256"]);
    let shown = done(&["inspect", &text(&b)]);
    assert!(
        shown.contains("window 4, gap 10, prefix up to 6"),
        "{shown}"
    );
    let other = model(
        &[
            &synth[..],
            &["--profile", "C", &text(&dir.path().join("c"))],
        ]
        .concat(),
    );
    assert_eq!(other.code, 64, "{}", other.err);
}

/// Made, named in the manifest, passed; and failed by another network with the figures.
#[test]
fn a_self_test_passes_and_fails_by_name() {
    let dir = TempDir::new();
    let (own, other) = (synth(&dir, "own", "1"), synth(&dir, "other", "2"));
    let none = model(&["self-test", &text(&own)]);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("--write"), "{}", none.err);

    let made = parsed(&done(&["self-test", &text(&own), "--write", "--json"]));
    let (file, line) = (
        made["file"].as_str().unwrap(),
        made["line"].as_str().unwrap(),
    );
    for checkpoint in [&own, &other] {
        let path = checkpoint.join("vlad.toml");
        let manifest = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{line}\n{manifest}")).unwrap();
    }
    fs::copy(file, other.join("self-test.safetensors")).unwrap();

    let passed = done(&["self-test", &text(&own)]);
    assert!(
        passed.contains("brain") && passed.contains("cosine 1.000000"),
        "{passed}"
    );
    let figures = parsed(&done(&[
        "self-test",
        &text(&own),
        "--weights",
        "q8",
        "--json",
    ]));
    assert!(
        figures["action_expert"]["largest"].as_f64().unwrap() < 0.5,
        "{figures}"
    );
    let shown = done(&["inspect", &text(&own)]);
    assert!(shown.contains("self-test.safetensors"), "{shown}");

    let failed = model(&["self-test", &text(&other)]);
    assert_eq!(failed.code, 1, "{}", failed.out);
    assert!(
        failed
            .err
            .contains("the self-test of the brain fails: cosine"),
        "{}",
        failed.err
    );

    // A file that was changed since is seen before anything computes.
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
    let changed = model(&["inspect", &text(&own)]);
    assert_eq!(changed.code, 1);
    assert!(
        changed
            .out
            .contains("self-test.safetensors: has the SHA-256"),
        "{}",
        changed.out
    );
}

/// A released checkpoint comes without a manifest and is known by its robot types.
#[test]
fn inspect_knows_a_released_checkpoint_by_its_robot_types() {
    let dir = TempDir::new();
    let checkpoint = synth(&dir, "bridge", "1");
    fs::remove_file(checkpoint.join("vlad.toml")).unwrap();
    let path = checkpoint.join("preprocessor_config.json");
    let mut file = parsed(&fs::read_to_string(&path).unwrap());
    let rows = json!(vec![vec![0.5; 32]; 4]);
    file["action_config"] = json!({ "bridge_delta": { "mean": rows, "std": rows } });
    fs::write(&path, file.to_string()).unwrap();
    let repository = "XiaomiRobotics/Xiaomi-Robotics-0-SimplerEnv-WidowX";
    let document = parsed(&done(&["inspect", &text(&checkpoint), "--json"]));
    assert_eq!(
        document["manifest_origin"],
        json!({ "built_in": repository })
    );
    assert_eq!(
        document["manifest"]["views"][0]["label"],
        json!("Base View")
    );
    fs::write(checkpoint.join("vlad.toml"), "note = \"mine\"\n").unwrap();
    let shown = done(&["inspect", &text(&checkpoint)]);
    let wanted = format!("vlad.toml over the built-in one for {repository}");
    assert!(shown.contains(&wanted) && shown.contains("mine"), "{shown}");
}

/// A number that is none is found wherever it lies, and named by its place.
#[test]
fn inspect_names_a_weight_that_is_not_finite() {
    let dir = TempDir::new();
    let checkpoint = synth(&dir, "odd", "1");
    let path = checkpoint.join("model-00001-of-00001.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let n = bytes.len();
    // The last number: bf16.
    bytes[n - 2..].copy_from_slice(&0x7fc0_u16.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let ended = model(&["inspect", &text(&checkpoint)]);
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(ended.out.contains(" holds NaN at ["), "{}", ended.out);
}

/// Seeds, noise from a file, views by name or in order: the same decision, or another one.
#[test]
fn infer_gives_the_same_actions_for_the_same_inputs() {
    let dir = TempDir::new();
    let checkpoint = text(&synth(&dir, "tiny", "1"));
    let [ego, left, right] = [("a", (60, 80)), ("b", (48, 48)), ("c", (64, 96))]
        .map(|(name, size)| picture(&dir, name, size));
    let zeros = json!(vec![0.0; 32]).to_string();
    let infer = |further: &[&str]| {
        let words = [
            "infer",
            &checkpoint,
            "--state",
            &zeros,
            "--text",
            "Wander.",
            "--json",
        ];
        parsed(&done(&[&words[..], further].concat()))
    };
    let in_order = ["--image", &ego, "--image", &left, "--image", &right];
    let first = infer(&in_order);
    assert_eq!(
        (&first["horizon"], &first["width"]),
        (&json!(30), &json!(32))
    );
    assert_eq!(first["seed"], json!(0));
    assert_eq!(first["targets"].as_array().unwrap().len(), 30);
    let actions = |document: &Value| document["actions"].clone();
    assert!(actions(&first)[29][31].is_number());

    let [left, right] = [("left_wrist", &left), ("Right-Wrist View", &right)]
        .map(|(label, path)| format!("{label}={path}"));
    let ego = format!("ego={ego}");
    let by_name = infer(&[
        "--image", &right, "--image", &ego, "--image", &left, "--seed", "0",
    ]);
    assert_eq!(by_name, first);
    let other = infer(&[&in_order[..], &["--seed", "1"]].concat());
    assert_ne!(actions(&other), actions(&first));

    let noise = dir.path().join("noise.json");
    fs::write(&noise, json!(vec![vec![0.25; 32]; 30]).to_string()).unwrap();
    let given = infer(&[&in_order[..], &["--noise", &text(&noise)]].concat());
    assert_eq!(
        (&given["seed"], &given["noise"][29][31]),
        (&Value::Null, &json!(0.25))
    );
    assert_ne!(actions(&given), actions(&first));
}

/// Reads a stored f32 or u8 tensor of a golden case.
fn stored(case: &str, tensor: &str) -> (Vec<u64>, Vec<u8>) {
    let bytes = fs::read(golden().join(format!("{case}.safetensors"))).unwrap();
    let n = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header = parsed(std::str::from_utf8(&bytes[8..8 + n]).unwrap());
    let entry = &header[tensor];
    let at =
        |i: usize| 8 + n + usize::try_from(entry["data_offsets"][i].as_u64().unwrap()).unwrap();
    let shape = entry["shape"]
        .as_array()
        .unwrap()
        .iter()
        .map(|size| size.as_u64().unwrap());
    (shape.collect(), bytes[at(0)..at(1)].to_vec())
}

fn numbers(case: &str, tensor: &str) -> Vec<f32> {
    let (_, bytes) = stored(case, tensor);
    let words = bytes.chunks_exact(4);
    words
        .map(|word| f32::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

/// The command line is one more way to the golden numbers.
#[test]
fn infer_gives_the_golden_actions() {
    let dir = TempDir::new();
    let case = "sync_v1_short";
    let (shape, pixels) = stored(case, "image_raw.0");
    let mut ppm = format!("P6 {} {} 255\n", shape[1], shape[0]).into_bytes();
    ppm.extend(pixels);
    let image = dir.path().join("ego.ppm");
    fs::write(&image, ppm).unwrap();
    let noise = dir.path().join("noise.json");
    fs::write(&noise, json!(numbers(case, "noise")).to_string()).unwrap();
    let state = dir.path().join("state.json");
    fs::write(&state, json!(numbers(case, "state")).to_string()).unwrap();
    let image = format!("Ego View={}", text(&image));
    let words = [
        ["infer", &text(&golden().join("model"))],
        ["--image", &image],
        ["--state", &text(&state)],
        ["--text", "Open the top drawer."],
        ["--noise", &text(&noise)],
        ["--robot-type", "tiny_short"],
    ];
    let document = parsed(&done(&[words.as_flattened(), &["--json"]].concat()));
    assert_eq!(document["n_tokens"], json!(59));
    assert_eq!(document.get("targets"), None);
    let rows = document["actions"].as_array().unwrap().iter();
    let got: Vec<_> = rows
        .flat_map(|row| row.as_array().unwrap())
        .map(|x| x.as_f64().unwrap())
        .collect();
    let want = numbers(case, "actions_decoded");
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - f64::from(want)).abs() < 2e-5, "{got} {want}");
    }
}

/// One decision of the golden checkpoint from this image and state.
fn decision(image: &str, state: &str, further: &[&str]) -> Ended {
    let checkpoint = text(&golden().join("model"));
    let words = [
        "infer",
        &checkpoint,
        "--image",
        image,
        "--state",
        state,
        "--text",
        "Go.",
    ];
    model(&[&words[..], further].concat())
}

#[test]
fn infer_refuses_what_does_not_fit() {
    let dir = TempDir::new();
    let image = picture(&dir, "a.ppm", (64, 64));
    let labelled = format!("Ego View={image}");
    let no_image = format!("x={}", text(&golden().join("README.md")));
    let [zeros, short] = [8, 7].map(|n| json!(vec![0.0; n]).to_string());
    let noise = dir.path().join("noise.json");
    fs::write(&noise, "[[1, 2], [3]]").unwrap();
    let noise = text(&noise);
    let tiny = ["--robot-type", "tiny_short"];
    let with = |further: &[&'static str]| [&tiny[..], further].concat();
    for (image, state, further, wanted) in [
        (image.as_str(), zeros.as_str(), with(&[]), "label"),
        ("Ego View=/nowhere.png", &zeros, with(&[]), "/nowhere.png"),
        (&no_image, &zeros, with(&[]), "neither PNG, JPEG nor"),
        (&labelled, &short, with(&[]), "7 slots"),
        (&labelled, "/nowhere.json", with(&[]), "/nowhere.json"),
        (&labelled, "[1, true]", with(&[]), "true is no number"),
        (
            &labelled,
            &zeros,
            with(&["--device", "cuda:9"]),
            "present: cpu",
        ),
        (
            &labelled,
            &zeros,
            vec!["--robot-type", "nobody"],
            "no robot type nobody",
        ),
        (&labelled, &zeros, vec![], "tiny_all"),
        (
            &labelled,
            &zeros,
            [&tiny[..], &["--noise", &noise]].concat(),
            "same length",
        ),
    ] {
        let ended = decision(image, state, &further);
        assert_eq!(ended.code, 1, "{wanted}: {}", ended.err);
        assert!(ended.err.contains(wanted), "{wanted} in {}", ended.err);
    }
}

/// A named pipe would keep the command waiting for ever.
#[test]
fn infer_reads_regular_files_alone() {
    let dir = TempDir::new();
    let image = format!("Ego View={}", picture(&dir, "a.ppm", (64, 64)));
    let pipe = dir.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let (pipe, piped) = (text(&pipe), format!("Ego View={}", text(&pipe)));
    for (image, state, further) in [
        (&piped, "[0]", &[][..]),
        (&image, &pipe, &[]),
        (&image, "[0]", &["--noise", &pipe]),
    ] {
        let ended = decision(image, state, further);
        assert_eq!(ended.code, 1, "{}", ended.err);
        let named = format!("{pipe} is not a regular file");
        assert!(ended.err.contains(&named), "{}", ended.err);
    }
}

/// What is no folder is told so, once, and not by a file that it cannot hold.
#[test]
fn a_file_in_the_place_of_a_checkpoint_is_told_so() {
    let dir = TempDir::new();
    let image = picture(&dir, "a.ppm", (64, 64));
    let config = text(&golden().join("model/config.json"));
    let infer = ["infer", &config, "--image", &image];
    let infer = [&infer[..], &["--state", "[0]", "--text", "Go."]].concat();
    let inspect = vec!["inspect", &config];
    for words in [infer, inspect] {
        let ended = model(&words);
        let told = [ended.out, ended.err].concat();
        assert_eq!(ended.code, 1, "{told}");
        assert!(!told.contains("config.json/vlad.toml"), "{told}");
        assert!(
            told.contains("folder") || told.contains("directory"),
            "{told}"
        );
    }
}

#[test]
fn help_has_no_markup_around_names() {
    let told = [["synth"], ["infer"]].map(|words| done(&[&words[..], &["--help"]].concat()));
    let told = [&told[..], &[done(&["--help"])]].concat().concat();
    let plain = told.contains("PyTorch") && !told.contains("`PyTorch`");
    assert!(plain, "{told}");
}

#[test]
fn infer_refuses_the_instructions_that_the_daemon_refuses() {
    let checkpoint = text(&golden().join("model"));
    let long = "a".repeat(2049);
    for (said, wanted) in [
        ("", "must not be empty"),
        ("Go.\nStop.", "control character"),
        (long.as_str(), "at most 2048"),
    ] {
        let words = ["infer", &checkpoint, "--image", "a.png", "--state", "[0]"];
        let ended = model(&[&words[..], &["--text", said]].concat());
        assert_eq!(ended.code, 64, "{}", ended.err);
        assert!(ended.err.contains(wanted), "{wanted} in {}", ended.err);
    }
}

#[test]
fn infer_refuses_a_line_that_makes_no_sense() {
    for (image, further, wanted) in [
        ("a.png", &["--device", "abacus"][..], "abacus"),
        ("a.png", &["--seed", "1", "--noise", "n.json"], "--seed"),
        ("a.png", &["--steps", "0"], "steps"),
        ("", &[], "LABEL=FILE"),
    ] {
        let ended = decision(image, "[0]", further);
        assert_eq!(ended.code, 64, "{wanted}: {}", ended.err);
        assert!(ended.err.contains(wanted), "{wanted} in {}", ended.err);
    }
}
