//! Decisions that take long, in real time and with real processes: what is late is counted and explained.

use serde_json::{Value, json};

use crate::support::http::Server;
use crate::support::process::{Daemon, data_in};
use crate::support::{Places, TempDir, until};

const TASK: &str = "pass both gates and go to the goal";

fn counter(cell: &Value, name: &str) -> u64 {
    let value = cell["counters"][name].as_u64();
    value.unwrap_or_else(|| panic!("no counter {name} in {cell}"))
}

/// Posts the task and waits until it is over.
fn done(server: &Server) -> Value {
    let body = json!({ "cell": "twogate", "instruction": TASK });
    let posted = server.post("/v1/tasks", &body);
    let id = posted.json(201)["id"].as_str().unwrap().to_owned();
    until("the task is over", || {
        let task = server.get(&format!("/v1/tasks/{id}")).json(200);
        let state = task["state"].as_str()?;
        matches!(state, "succeeded" | "failed" | "interrupted" | "cancelled").then_some(task)
    })
}

/// `TwoGate` with decisions that are held back: the point goes without a gap that nobody planned, and
/// every chunk that came too late is counted and has an event of its own.
fn goes(delay_ms: u32) {
    let dir = TempDir::new();
    let added = format!("expert.added_delay_ms={delay_ms}");
    let flags = ["--cell", "twogate", "--policy", "twogate", "--set", &added];
    // Alone on this machine: delays are what is told.
    let _places = Places::take_all();
    let daemon = Daemon::start_placeless(&data_in(&dir), &flags);
    let server = daemon.server();
    let task = done(server);
    let cell = daemon.cell().show();
    println!("{delay_ms} ms: {} {}", task["state"], cell["counters"]);
    // With half a second of delay the point may miss a gate; it never stops for want of actions.
    let ends: &[&str] = if delay_ms < 400 {
        &["succeeded"]
    } else {
        &["succeeded", "failed"]
    };
    assert!(ends.contains(&task["state"].as_str().unwrap()), "{task}");
    let slowed = daemon.log().contains("at 50 % speed");
    assert!(
        slowed || delay_ms < 400,
        "the robot is slowed down at 400 ms"
    );
    assert_eq!(counter(&cell, "stalled"), 0, "{cell}");
    let late = counter(&cell, "prefix_dropped") + counter(&cell, "prefix_overruns");
    let log = daemon.log();
    let told = log.matches("after its prefix was over").count();
    assert!(
        late <= u64::try_from(told).unwrap(),
        "{late} late, {told} explained"
    );
    daemon.term();
}

#[test]
fn the_point_goes_without_a_stall_at_80_ms() {
    goes(80);
}

#[test]
fn the_point_goes_without_a_stall_at_200_ms() {
    goes(200);
}

#[test]
fn the_point_goes_without_a_stall_at_400_ms() {
    goes(400);
}
