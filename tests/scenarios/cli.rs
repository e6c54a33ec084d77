//! The client commands against a daemon.

use serde_json::{Value, json};
use vlad_wire::stream::STREAMS;

use crate::support::process::{Daemon, Ended, data_in, vlad};
use crate::support::{TempDir, until};

/// Runs a client command against a daemon.
fn client(daemon: &Daemon, words: &[&str]) -> Ended {
    let url = daemon.server().url();
    vlad(words.iter().copied().chain(["--server", url.as_str()]))
}

/// The same, which must end with 0 and print one JSON document.
#[track_caller]
fn document(daemon: &Daemon, words: &[&str]) -> Value {
    let ended = client(daemon, &[words, &["--json"]].concat());
    assert_eq!(ended.code, 0, "{words:?} {}", ended.err);
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.out))
}

/// Everything that a person can do with the cell, from a shell.
#[test]
fn the_commands_do_a_task_and_show_it() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    let put = "put the red block in the left tray";
    let task = document(
        &daemon,
        &["task", "submit", put, "--wait", "--label", "shift=day"],
    );
    assert_eq!(
        (&task["state"], &task["labels"]["shift"]),
        (&json!("succeeded"), &json!("day"))
    );
    let id = task["id"].as_str().unwrap();
    assert_eq!(document(&daemon, &["task", "show", id]), task);
    let list = document(&daemon, &["task", "list", "--state", "succeeded"]);
    assert_eq!(list["items"], json!([task]));

    let dance = client(&daemon, &["task", "submit", "dance", "--wait"]);
    assert_eq!(dance.code, 1);
    assert!(dance.err.contains("did not succeed"), "{}", dance.err);
    let over = client(&daemon, &["task", "cancel", id]);
    assert_eq!(over.code, 1, "{}", over.out);
    assert!(
        over.err.contains("conflict") || over.err.contains("state"),
        "{}",
        over.err
    );

    let episode = task["episodes"][0].as_str().unwrap();
    let listed = document(&daemon, &["episode", "list"]);
    let ids: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["id"])
        .collect();
    assert!(ids.contains(&&json!(episode)), "{ids:?}");
    assert_eq!(
        document(&daemon, &["episode", "show", episode])["task"],
        json!(id)
    );
    let text = client(&daemon, &["episode", "show", episode]).out;
    assert!(text.contains(put) && text.contains("ego images"), "{text}");

    let status = client(&daemon, &["cell", "status"]).out;
    for wanted in ["scripted", "action-expert", "joints"] {
        assert!(status.contains(wanted), "{wanted} in\n{status}");
    }
    stop_and_go_on(&daemon);
    daemon.term();
}

/// E-stop, reset and rearm, and a task that waits meanwhile.
fn stop_and_go_on(daemon: &Daemon) {
    let by = ["--operator", "ada", "--reason", "a story"];
    assert_eq!(document(daemon, &["cell", "estop"])["mode"], "estopped");
    daemon
        .cell()
        .wait_mode("it is shown", |mode| mode == "estopped");
    assert_eq!(
        document(daemon, &["cell", "status", "demo"])["mode"],
        "estopped"
    );
    let refused = client(daemon, &[&["cell", "rearm"], &by[..]].concat());
    assert_eq!(refused.code, 1, "{}", refused.out);
    let waiting = document(daemon, &["task", "submit", "dance"]);
    let waiting = waiting["id"].as_str().unwrap().to_owned();
    assert_eq!(
        document(daemon, &["task", "cancel", &waiting])["state"],
        "cancelled"
    );
    let reset = [&["cell", "reset"], &by[..]].concat();
    until("the guard takes the reset", || {
        (client(daemon, &reset).code == 0).then_some(())
    });
    assert_eq!(
        document(daemon, &[&["cell", "rearm"], &by[..]].concat())["mode"],
        "armed"
    );
}

#[test]
fn the_streams_are_printed_as_the_architecture_has_them() {
    let printed = vlad(["cell", "streams"]);
    assert_eq!(printed.code, 0, "{}", printed.err);
    let architecture = include_str!("../../ARCHITECTURE.md");
    assert_eq!(printed.out.lines().count(), STREAMS.len() + 2);
    assert!(
        architecture.contains(printed.out.trim_end()),
        "{}",
        printed.out
    );
    let machine: Value = serde_json::from_str(&vlad(["cell", "streams", "--json"]).out).unwrap();
    assert_eq!(machine["items"].as_array().unwrap().len(), STREAMS.len());
}

#[test]
fn a_daemon_that_is_not_there_is_said_with_a_hint() {
    for words in [
        ["cell", "status"].as_slice(),
        &["task", "list"],
        &["task", "submit", "put the red block in the left tray"],
        &["episode", "list"],
        &["cell", "estop"],
    ] {
        // Nobody can listen on port 0.
        let server = ["--server", "http://127.0.0.1:0"];
        let ended = vlad(words.iter().chain(&server));
        assert_eq!(ended.code, 1, "{words:?}");
        assert!(
            ended.err.contains("start one with `vlad`"),
            "{words:?} {}",
            ended.err
        );
        assert_eq!(ended.out, "", "{words:?}");
    }
}

#[test]
fn slips_of_the_keyboard_end_with_64() {
    for words in [
        ["fly"].as_slice(),
        &["task"],
        &["task", "submit"],
        &["task", "submit", ""],
        &["task", "submit", "a\nb"],
        &["task", "show", "7"],
        &["task", "list", "--state", "flying"],
        &["task", "list", "--limit", "0"],
        &["cell", "reset"],
        &["cell", "reset", "--operator", "ada"],
        &["cell", "status", "..%2f"],
        &["episode", "show", "../../etc"],
        &["run", "--role", "cook"],
        &["run", "--bind", "8640"],
        &["run", "--set", "noequalsign"],
        &["--role", "brain", "cell", "status"],
        &["cell", "status", "--server", "https://example.com"],
    ] {
        let ended = vlad(words);
        assert_eq!(ended.code, 64, "{words:?} {}", ended.err);
        assert!(!ended.err.is_empty(), "{words:?}");
    }
    assert_eq!(vlad(["--help"]).code, 0);
    assert_eq!(vlad(["--version"]).code, 0);
}

#[test]
fn a_good_configuration_is_printed_with_the_layer_of_each_key() {
    let dir = TempDir::new();
    let file = dir.path().join("mine.toml").display().to_string();
    std::fs::write(&file, "[expert]\nsteps = 7\n[guard]\noverrun_max = 100\n").unwrap();
    let good = vlad(["config", "check", &file, "--set", "expert.strategy=naive"]);
    assert_eq!((good.code, good.err.as_str()), (0, ""));
    for line in [
        "daemon.policy = \"scripted\"  # config/default.toml".to_owned(),
        "brain.device = \"cpu\"  # config/default.toml".to_owned(),
        "expert.device = \"cpu\"  # config/default.toml".to_owned(),
        "robot.servo_hz = 240.0  # config/robots/demo-dual-arm.toml".to_owned(),
        "perception.stale_ms = 500  # config/cells/demo.toml".to_owned(),
        format!("expert.steps = 7  # {file}"),
        format!("guard.overrun_max = 100  # {file}"),
        "expert.strategy = \"naive\"  # --set expert.strategy=naive".to_owned(),
    ] {
        assert!(
            good.out.lines().any(|other| other == line),
            "{line} in\n{}",
            good.out
        );
    }
    let machine = vlad(["config", "check", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&machine.out).unwrap();
    assert_eq!(
        document["demo"]["cell.name"]["set_by"],
        "config/cells/demo.toml"
    );
}
