//! Mutated configurations: each ends with 78, and is told by file or flag, key and reason.

use std::path::Path;

use crate::support::process::{Ended, run_args, vlad, vlad_refused};
use crate::support::{TempDir, free_port};

const CELL: &str = include_str!("../../config/cells/demo.toml");
const ROBOT: &str = include_str!("../../config/robots/demo-dual-arm.toml");

/// What is wrong, and where it stands.
enum Wrong {
    /// A flag `--set`.
    Set(&'static str),
    /// A file on top, of this text.
    File(&'static str),
    /// The demo cell's file, with the first text replaced by the second.
    Cell(&'static str, &'static str),
    /// The demo robot's file, likewise.
    Robot(&'static str, &'static str),
}

/// Each mutation with the key and the reason that standard error must name.
const TABLE: &[(Wrong, &str, &str)] = &[
    (
        Wrong::Set("guard.think_timeout_ms=soon"),
        "guard.think_timeout_ms",
        "invalid",
    ),
    (
        Wrong::Set("guard.think_timeout_ms=-1"),
        "guard.think_timeout_ms",
        "invalid",
    ),
    (
        Wrong::Set("guard.think_timeout_ms=10"),
        "guard.think_timeout_ms",
        "50 to 60000",
    ),
    (
        Wrong::Set("guard.think_timeout_ms=600"),
        "guard.think_timeout_ms",
        "above expert.context",
    ),
    (
        Wrong::Set("expert.context_timeout_ms=3000"),
        "expert.context_timeout_ms",
        "below guard.think",
    ),
    (
        Wrong::Set("guard.reset_after_ms=499"),
        "guard.reset_after_ms",
        "500 to 60000",
    ),
    (
        Wrong::Set("guard.heartbeat_missed_max=0"),
        "guard.heartbeat_missed_max",
        "2 to 100",
    ),
    (
        Wrong::Set("guard.first_command_rad=0.0"),
        "guard.first_command_rad",
        "above 0",
    ),
    (
        Wrong::Set("guard.first_command_rad=nan"),
        "guard.first_command_rad",
        "above 0",
    ),
    (
        Wrong::Set("guard.pose_tolerance_deg=90"),
        "guard.pose_tolerance_deg",
        "at most at 10",
    ),
    (
        Wrong::Set("guard.overrun_maximum=3"),
        "guard.overrun_maximum",
        "unknown field",
    ),
    (
        Wrong::Set("perception.stale_ms=5"),
        "perception.stale_ms",
        "20 to 5000",
    ),
    (
        Wrong::Set("perception.skew_ms=0"),
        "perception.skew_ms",
        "1 to 1000",
    ),
    (
        Wrong::Set("perception.stale_ms=\"200\""),
        "perception.stale_ms",
        "invalid type",
    ),
    (
        Wrong::Set("perception.stale_ms=200.0"),
        "perception.stale_ms",
        "invalid type",
    ),
    (
        Wrong::Set("perception.stale_ms=true"),
        "perception.stale_ms",
        "invalid",
    ),
    (
        Wrong::Set("expert.strategy=guess"),
        "expert.strategy",
        "guess is no strategy",
    ),
    (
        Wrong::Set("expert.strategy=guided"),
        "expert.strategy",
        "vjp = false",
    ),
    (
        Wrong::Set("expert.strategy=clean-prefix"),
        "expert.strategy",
        "prefix_trained_max = 0",
    ),
    (Wrong::Set("expert.steps=0"), "expert.steps", "1 to 100"),
    (
        Wrong::Set("expert.ticks_per_decision=1000"),
        "expert.ticks_per_decision",
        "1 to 200",
    ),
    (
        Wrong::Set("daemon.policy=oracle"),
        "daemon.policy",
        "must be scripted or xr0 or twogate",
    ),
    (
        Wrong::Set("daemon.checkpoint=somewhere"),
        "daemon.checkpoint",
        "for the policy xr0",
    ),
    (
        Wrong::Set("brain.device=tpu"),
        "brain.device",
        "cpu or cuda:N",
    ),
    (
        Wrong::Set("expert.device=cuda:01"),
        "expert.device",
        "cpu or cuda:N",
    ),
    (Wrong::Set("expert.device=0"), "expert.device", "invalid"),
    (
        Wrong::Set("daemon.policy=Not A Name"),
        "daemon.policy",
        "begin with a letter",
    ),
    (
        Wrong::Set("daemon.cells=[]"),
        "daemon.cells",
        "at least one cell",
    ),
    (
        Wrong::Set("daemon.cells=[\"nowhere\"]"),
        "daemon.cells",
        "there is no nowhere",
    ),
    (
        Wrong::Set("cell.name=Demo"),
        "cell.name",
        "begin with a letter",
    ),
    (Wrong::Set("cell.kind=real"), "cell.kind", "unknown variant"),
    (
        Wrong::Set("daemon.policy=twogate"),
        "daemon.policy",
        "--cell twogate",
    ),
    (Wrong::Set("twogate.seed=1"), "twogate", "kind twogate"),
    (
        Wrong::Set("cell.robot=r2d2"),
        "cell.robot",
        "there is no r2d2",
    ),
    (Wrong::Set("surprise=1"), "surprise", "unknown field"),
    (
        Wrong::Set("robot.servo_hz=10.0"),
        "robot.servo_hz",
        "50 and 2000",
    ),
    (
        Wrong::Set("robot.policy_hz=70.0"),
        "robot.policy_hz",
        "divide servo_hz",
    ),
    (
        Wrong::Set("scene.table.height_m=9.0"),
        "scene.table.height_m",
        "0.1 and 2 m",
    ),
    (
        Wrong::Set("scene.spawn.x_m=[0.4, 0.2]"),
        "scene.spawn.x_m",
        "ascending",
    ),
    (Wrong::Set("scene=none"), "scene", "invalid type"),
    (Wrong::File("[guard\nthink_timeout_ms = 1"), "-", "TOML"),
    (
        Wrong::File("[daemon]\nbind = \"0.0.0.0:8640\"\n"),
        "daemon.bind",
        "loopback",
    ),
    (
        Wrong::File("[daemon]\nbind = \"8640\"\n"),
        "daemon.bind",
        "address and a port",
    ),
    (
        Wrong::File("[daemon]\nport = 8640\n"),
        "daemon.port",
        "unknown field",
    ),
    (
        Wrong::File("[perception]\nskew_ms = \"x\"\n"),
        "perception.skew_ms",
        "invalid",
    ),
    (
        Wrong::Cell("seed = 1", "seed = -1"),
        "scene.seed",
        "invalid",
    ),
    (
        Wrong::Cell("colour = \"red\"", "colour = \"pink\""),
        "scene.blocks[0].colour",
        "unknown",
    ),
    (
        Wrong::Cell("colour = \"green\"", "colour = \"red\""),
        "scene.blocks[1].colour",
        "twice",
    ),
    (
        Wrong::Cell("size_m = 0.04", "size_m = 0.4"),
        "scene.blocks[0].size_m",
        "0.01 and 0.2",
    ),
    (
        Wrong::Cell("side = \"right\"", "side = \"left\""),
        "scene.trays[1].side",
        "twice",
    ),
    (
        Wrong::Cell("arm_at_start = true", "arm_at_start = 1.5"),
        "cell.arm_at_start",
        "invalid",
    ),
    (
        Wrong::Cell("robot = \"demo-dual-arm\"\n", ""),
        "cell.robot",
        "missing",
    ),
    (
        Wrong::Robot("slot = 8\n", "slot = 7\n"),
        "robot.arms",
        "slot",
    ),
    (
        Wrong::Robot("home_deg = 25.0", "home_deg = 170.0"),
        "joint_1.home_deg",
        "range",
    ),
    (
        Wrong::Robot("range_deg = [-150.0, 150.0]", "range_deg = [150.0, -150.0]"),
        "joint_1.range_deg",
        "min",
    ),
    (
        Wrong::Robot("speed_max_deg_s = 150.0", "speed_max_deg_s = 9000.0"),
        "joint_1.speed_max_deg_s",
        "720",
    ),
    (
        Wrong::Robot("axis = [0.0, 0.0, 1.0]", "axis = [0.0, 0.0]"),
        "robot.arms[0].joints[0].axis",
        "invalid",
    ),
];

/// Gives the arguments that hold the mutation, and what its refusal names as its layer.
fn arguments(wrong: &Wrong, dir: &Path) -> (Vec<String>, String) {
    let write = |name: &str, text: &str| {
        let path = dir.join(name).display().to_string();
        std::fs::write(&path, text).unwrap();
        path
    };
    let mutate = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not there any more");
        text.replacen(from, to, 1)
    };
    match wrong {
        Wrong::Set(set) => (
            vec!["--set".to_owned(), (*set).to_owned()],
            format!("--set {set}"),
        ),
        Wrong::File(text) => {
            let path = write("odd.toml", text);
            (vec!["--config".to_owned(), path.clone()], path)
        }
        Wrong::Cell(from, to) => {
            let path = write("cell.toml", &mutate(CELL, from, to));
            (vec!["--cell".to_owned(), path.clone()], path)
        }
        Wrong::Robot(from, to) => {
            let robot = write("robot.toml", &mutate(ROBOT, from, to));
            let named = format!("robot = \"{robot}\"");
            let cell = write(
                "cell.toml",
                &mutate(CELL, "robot = \"demo-dual-arm\"", &named),
            );
            (vec!["--cell".to_owned(), cell], robot)
        }
    }
}

/// Says what is wrong with a refusal, if anything.
fn flaw(ended: &Ended, named: &[&str]) -> Option<String> {
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !ended.err.contains(**name))
        .collect();
    let fine = ended.code == 78 && ended.out.is_empty() && missing.is_empty();
    (!fine).then(|| {
        format!(
            "{named:?}: {}, lacks {missing:?}: {}",
            ended.code, ended.err
        )
    })
}

#[track_caller]
fn refused(ended: &Ended, named: &[&str]) {
    assert_eq!(flaw(ended, named), None);
}

/// `vlad run` and `vlad config check` refuse alike; nothing is left in the data folder.
#[test]
fn mutated_configurations_are_refused_with_layer_key_and_reason() {
    let dir = TempDir::new();
    let mut flaws = Vec::new();
    for (wrong, key, reason) in TABLE {
        let (args, layer) = arguments(wrong, dir.path());
        let data = dir.path().join("data");
        let mut run = run_args(&data, free_port());
        if layer.contains("odd.toml") {
            // The flag would win over the file's address.
            run.truncate(3);
        }
        run.extend(args.clone());
        // With the colon: the name of `--set` holds the key too.
        let named = [layer.as_str(), &format!("{key}: "), reason];
        flaws.extend(flaw(&vlad_refused(run), &named));
        flaws.extend(
            data.exists()
                .then(|| format!("{key}: the data folder was made")),
        );

        let check = args.iter().filter(|word| *word != "--config");
        let check = ["config", "check"]
            .map(str::to_owned)
            .into_iter()
            .chain(check.cloned());
        flaws.extend(flaw(&vlad(check), &named));
    }
    assert!(flaws.is_empty(), "{}", flaws.join("\n"));
    assert!(20 <= TABLE.len());
}

#[test]
fn files_that_cannot_be_read_are_refused_by_name() {
    let dir = TempDir::new();
    let absent = dir.path().join("absent.toml").display().to_string();
    refused(
        &vlad(["config", "check", &absent]),
        &[&absent, "No such file"],
    );
    refused(
        &vlad_refused(["run", "--config", &absent]),
        &[&absent, "No such file"],
    );
    refused(
        &vlad_refused(["run", "--cell", &absent]),
        &[&absent, "No such file"],
    );
    let huge = dir.path().join("huge.toml").display().to_string();
    std::fs::write(&huge, " ".repeat(2 << 20)).unwrap();
    refused(&vlad(["config", "check", &huge]), &[&huge, "at most"]);
    let binary = dir.path().join("binary.toml").display().to_string();
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    refused(&vlad(["config", "check", &binary]), &[&binary, "UTF-8"]);
}

/// Flags that make no daemon, with what their refusal must name.
const FLAGS: &[(&str, [&str; 3])] = &[
    (
        "--bind 0.0.0.0:8640",
        ["--bind ", "daemon.bind: ", "loopback"],
    ),
    ("--bind [::]:8640", ["--bind ", "daemon.bind: ", "loopback"]),
    (
        "--policy oracle",
        ["--policy ", "daemon.policy: ", "scripted"],
    ),
    (
        "--checkpoint nowhere",
        [
            "--checkpoint nowhere: ",
            "daemon.checkpoint: ",
            "no such folder",
        ],
    ),
    (
        "--policy scripted --checkpoint nowhere",
        [
            "--checkpoint nowhere: ",
            "daemon.checkpoint: ",
            "for the policy xr0",
        ],
    ),
    (
        "--set brain.device=cuda:4095",
        [
            "--set brain.device=cuda:4095: ",
            "brain.device: ",
            "no device cuda:4095; present: cpu",
        ],
    ),
    (
        "--checkpoint nowhere --role perception --role actuator --listen tcp/127.0.0.1:1",
        [
            "--checkpoint nowhere: ",
            "daemon.checkpoint: ",
            "brain and action-expert alone",
        ],
    ),
    (
        "--set expert.device=cuda:4095",
        [
            "--set expert.device=cuda:4095: ",
            "expert.device: ",
            "no device cuda:4095; present: cpu",
        ],
    ),
    (
        "--listen tcp/0.0.0.0:1",
        ["--listen: ", "tcp/0.0.0.0:1", "loopback"],
    ),
    (
        "--listen udp/127.0.0.1:1",
        ["--listen: ", "udp/127.0.0.1:1", "encrypted"],
    ),
    (
        "--connect tcp/127.0.0.1:65535",
        ["--connect: ", ":65535", "65534"],
    ),
    (
        "--connect tcp/example.org:7447",
        ["--connect: ", "example.org", "loopback"],
    ),
    ("--role brain", ["--role: ", "", "--listen or --connect"]),
    (
        "--role perception --listen tcp/127.0.0.1:1",
        ["--role: ", "perception", "one process"],
    ),
    (
        "--role actuator --listen tcp/127.0.0.1:1",
        ["--role: ", "actuator", "one process"],
    ),
    (
        "--role recorder --listen tcp/127.0.0.1:1",
        ["--role: ", "gateway", "data folder"],
    ),
    (
        "--cell twogate",
        ["config/default.toml", "daemon.policy: ", "--policy twogate"],
    ),
    (
        "--cell twogate --policy twogate --set cell.world=unix:/run/vlad/world.sock",
        ["--set cell.world=", "cell.world: ", "in-process"],
    ),
    (
        "--cell nowhere",
        ["--cell: ", "nowhere: ", "there is no nowhere"],
    ),
    (
        "--cell demo --cell demo",
        ["config/cells/demo.toml", "cell.name: ", "another"],
    ),
    (
        "--fault no.such.point",
        ["--fault: ", "no.such.point", "no such fail point"],
    ),
    ("--log vlad=loudly", ["--log: ", "vlad=loudly", "filter"]),
];

/// No second try would help, and nothing is made before the refusal.
#[test]
fn flags_that_make_no_daemon_are_refused() {
    let dir = TempDir::new();
    let data = dir.path().join("data").display().to_string();
    for (words, named) in FLAGS {
        let args = ["run", "--data", &data].into_iter().chain(words.split(' '));
        refused(&vlad_refused(args), named);
        assert!(!Path::new(&data).exists(), "{words}");
    }
}

/// A manifest with many faults: of its own, and against checkpoint and demo cell.
const MISFIT: &str = "\
name = \"misfit\"
note = \"fits nothing\"
profile = \"A\"
local_window = 4
position_gap = 10
flow = true
dt_ms = 20.0
image_pixels_max = 2000000
action_representation = \"eef_delta\"
slots = [{ slot = 0, joint = \"left_joint_1\", unit = \"rad\" }]
views = [{ view = \"overhead\", label = \"Overhead View\" }]

[[robot_types]]
name = \"one_arm\"
width = 32
horizon = 30
";

/// With a checkpoint that nothing fits, run and check refuse alike, and list everything at once.
#[test]
fn a_checkpoint_that_does_not_fit_is_refused_with_all_that_is_wrong() {
    let dir = TempDir::new();
    let checkpoint = dir.path().join("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/xr0-tiny/model");
    for file in std::fs::read_dir(fixture).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), checkpoint.join(file.file_name())).unwrap();
    }
    let data = dir.path().join("data");
    let refuse = |named: &[&str]| {
        let named_dir = checkpoint.display().to_string();
        let mut run = run_args(&data, free_port());
        run.extend(["--checkpoint".to_owned(), named_dir.clone()]);
        let ended = vlad_refused(run);
        refused(&ended, named);
        refused(
            &ended,
            &[&format!("--checkpoint {named_dir}: daemon.checkpoint: ")],
        );
        let set = format!("daemon.checkpoint={named_dir}");
        let check = ["config", "check", "--set", "daemon.policy=xr0", "--set"];
        let ended = vlad(check.into_iter().chain([set.as_str()]));
        refused(&ended, named);
        refused(&ended, &[&format!("--set {set}: daemon.checkpoint: ")]);
        assert!(!data.exists());
    };
    refuse(&["no vlad.toml", "vlad model synth"]);
    std::fs::write(checkpoint.join("vlad.toml"), MISFIT).unwrap();
    refuse(&[
        "faults:",
        "vlad.toml: profile: B needs",
        "vlad.toml: action_representation",
        "vlad.toml: robot_types: one_arm is not among",
        "vlad.toml: robot_types: the cell's robot type dual_arm",
        "vlad.toml: image_pixels_max: 2000000",
        "vlad.toml: views: the cell has no camera overhead",
        "vlad.toml: slots: slot 0 is left_joint_1",
        "slot 26 is unused here and right_joint_6",
        "vlad.toml: dt_ms: 20",
    ]);
}
