//! A task from the post to its browsable episode, over a restart of the daemon.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::cell::{Task, submission};
use crate::support::events::Events;
use crate::support::http::Server;
use crate::support::process::{Daemon, data_in};
use crate::support::{TempDir, until};

const INSTRUCTION: &str = "put the red block in the left tray";
/// Images of a view that are looked at one by one.
const BROWSED: usize = 12;

/// Waits until the recorder has closed a task's only episode, and gives it.
fn finished_episode(server: &Server, task: &Value) -> Value {
    let id = task["episodes"][0].as_str().unwrap().to_owned();
    until("the episode is finished", || {
        let answer = server.get(&format!("/v1/episodes/{id}"));
        if answer.status == 404 {
            return None;
        }
        let episode = answer.json(200);
        (episode["state"] == "finished").then_some(episode)
    })
}

fn decode(bytes: &[u8]) -> (u16, u16, Vec<u8>) {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let pixels = decoder.decode().expect("a JPEG");
    let info = decoder.info().unwrap();
    (info.width, info.height, pixels)
}

/// Follows an episode's images from the first one by their links; gives path and bytes of each.
fn browse(server: &Server, episode: &Value) -> BTreeMap<String, Vec<u8>> {
    let mut images = BTreeMap::new();
    for (view, of_view) in episode["views"].as_object().unwrap() {
        let mut path = of_view["first"].as_str().unwrap().to_owned();
        for n in 0..BROWSED {
            let image = server.get(&path);
            assert_eq!(
                (image.status, image.header("content-type")),
                (200, "image/jpeg"),
                "{path}"
            );
            let (width, height, pixels) = decode(&image.bytes);
            assert_eq!((width, height), (256, 256), "{path}");
            let shades: BTreeSet<_> = pixels.iter().collect();
            assert!(16 < shades.len(), "{path} shows nothing");
            let link = image.header("link").to_owned();
            images.insert(path, image.bytes);
            let next = link
                .strip_prefix('<')
                .and_then(|rest| rest.split_once(">; rel=\"next\""));
            path = next
                .unwrap_or_else(|| panic!("{view}: the album ends after {n}"))
                .0
                .to_owned();
        }
        let last = format!(
            "/v1/episodes/{}/frames/{view}/{}",
            episode["id"].as_str().unwrap(),
            of_view["last_n"]
        );
        let last = server.get(&last);
        assert_eq!(
            (last.status, last.header("link")),
            (200, ""),
            "the last image leads nowhere"
        );
    }
    images
}

/// The demo block is put in the tray, watched by cameras, events, metrics and the episode log; a
/// restart on the same folder shows the very same.
#[test]
fn a_posted_task_is_done_logged_and_there_after_a_restart() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    let (server, cell) = (daemon.server(), daemon.cell());
    let mut events = Events::follow(server);
    let task = cell.does(INSTRUCTION);
    events.wait("task_started", INSTRUCTION);
    events.wait_modes(&["running", "hold"]);
    events.wait("task_ended", "succeeded");
    assert!(
        task["reason"]
            .as_str()
            .unwrap()
            .contains("rests in the left tray"),
        "{task}"
    );

    let episode = finished_episode(server, &task);
    assert_eq!(episode["outcome"], "succeeded");
    assert_eq!(
        (&episode["task"], &episode["instruction"]),
        (&task["id"], &json!(INSTRUCTION))
    );
    assert_eq!(episode["policy"]["name"], "scripted");
    let listed = server.get("/v1/episodes").json(200);
    assert_eq!(listed["items"][0]["id"], episode["id"]);
    for kind in [
        "observation",
        "context",
        "chunk",
        "executed",
        "joints",
        "guard",
        "event",
    ] {
        let count = episode["records"]
            .get(kind)
            .and_then(Value::as_u64)
            .unwrap_or(0);
        assert!(0 < count, "no {kind} in {}", episode["records"]);
    }
    for view in episode["views"].as_object().unwrap().values() {
        assert!(
            view["context_frames"]
                .as_u64()
                .is_some_and(|frames| 0 < frames),
            "{view}"
        );
    }
    let images = browse(server, &episode);
    daemon.term();

    let daemon = Daemon::start(&data_in(&dir));
    let server = daemon.server();
    let path = format!("/v1/tasks/{}", task["id"].as_str().unwrap());
    assert_eq!(server.get(&path).json(200), task);
    let path = format!("/v1/episodes/{}", episode["id"].as_str().unwrap());
    assert_eq!(server.get(&path).json(200), episode);
    for (path, bytes) in images {
        assert!(
            server.get(&path).bytes == bytes,
            "{path} is another image after the restart"
        );
    }
    daemon.term();
}

/// What does not succeed says why; the same key is the same task.
#[test]
fn tasks_that_cannot_succeed_say_why_and_a_key_is_one_task() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    let (server, cell) = (daemon.server(), daemon.cell());

    let dance = cell.submit("dance").wait_end();
    assert_eq!(dance["state"], "failed");
    let reason = dance["reason"].as_str().unwrap();
    assert!(
        reason.contains("put the red|green|blue|yellow block in the left|right tray"),
        "{reason}"
    );

    let mut hurried = submission("put the blue block in the right tray");
    hurried["max_duration_s"] = json!(1);
    let hurried = server.post("/v1/tasks", &hurried).json(201);
    let hurried = Task::new(server, &hurried).wait_end();
    assert_eq!(
        (&hurried["state"], &hurried["reason"]),
        (&json!("failed"), &json!("deadline"))
    );

    let key = [("idempotency-key", "story-1")];
    let first = server.post_with("/v1/tasks", &submission(INSTRUCTION), &key);
    let task = first.json(201);
    let again = server
        .post_with("/v1/tasks", &submission(INSTRUCTION), &key)
        .json(200);
    assert_eq!(again["id"], task["id"]);
    assert_eq!(
        first.header("location"),
        format!("/v1/tasks/{}", task["id"].as_str().unwrap())
    );
    let other = submission("put the green block in the left tray");
    server.post_with("/v1/tasks", &other, &key).problem(409);
    let listed = server.get("/v1/tasks").json(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "{listed}");
    assert_eq!(Task::new(server, &task).wait_end()["state"], "succeeded");
    daemon.term();
}

/// What a page, a monitor and a generator of clients read.
#[test]
fn cameras_metrics_and_the_description_are_served() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    let (server, cell) = (daemon.server(), daemon.cell());
    let shown = cell.show();
    assert_eq!(
        (&shown["mode"], &shown["policy"]["name"]),
        (&json!("armed"), &json!("scripted"))
    );
    assert!(
        shown["policy"]["note"].as_str().unwrap().contains("poses"),
        "{}",
        shown["policy"]
    );
    let cameras = shown["cameras"].as_array().unwrap();
    let views: Vec<_> = cameras
        .iter()
        .map(|camera| camera["view"].as_str().unwrap())
        .collect();
    assert_eq!(views, ["ego", "left_wrist", "right_wrist"]);
    for camera in cameras {
        let path = camera["frame"].as_str().unwrap();
        let seen = |frame: &str| frame.parse::<u64>().unwrap();
        let first = server.get(path);
        let (width, height, _) = decode(&first.bytes);
        assert_eq!((width, height), (256, 256), "{path}");
        until("a newer frame", || {
            let newer = server.get(path);
            let n = |reply: &crate::support::http::Reply| seen(reply.header("vlad-frame-seq"));
            (n(&first) < n(&newer)).then_some(())
        });
    }

    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        let known = ["NaN", "+Inf", "-Inf"].contains(&value) || value.parse::<f64>().is_ok();
        assert!(known && name.starts_with("vlad_"), "{line}");
    }
    for line in [
        "vlad_ready 1",
        "vlad_guard_mode{cell=\"demo\",mode=\"armed\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }

    let document = server.get("/v1/openapi.json").json(200);
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3."),
        "{}",
        document["openapi"]
    );
    assert!(document["paths"]["/v1/tasks"]["post"].is_object());
    daemon.term();
}
