//! A person stops, resets, rearms and cancels in mid-motion.

use serde_json::json;

use crate::support::cell::Cell;
use crate::support::events::Events;
use crate::support::process::{Daemon, data_in};
use crate::support::{TempDir, until};

/// Resets as soon as the guard takes it: not before its time after the cause.
fn reset(cell: Cell<'_>) {
    until("the guard takes the reset", || {
        let answer = cell.command("reset");
        if answer.status == 409 {
            answer.problem(409);
            return None;
        }
        let answer = answer.json(200);
        assert_eq!(answer["mode"], "disarmed", "{answer}");
        Some(())
    });
}

/// An e-stop latches over everything but a named reset; then the queue goes on.
#[test]
fn an_estop_in_mid_motion_latches_until_a_named_reset() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    let (server, cell) = (daemon.server(), daemon.cell());
    let mut events = Events::follow(server);
    let stopped = cell.submit("put the red block in the left tray");
    cell.wait_motion();
    let answer = cell.command("estop").json(200);
    assert_eq!(
        (&answer["mode"], &answer["reason"]["name"]),
        (&json!("estopped"), &json!("emergency_stop"))
    );
    events.wait_modes(&["running", "estopped"]);
    stopped.wait_state("interrupted");
    events.wait("task_ended", "interrupted");
    cell.demand_still();

    let waiting = cell.submit("put the blue block in the right tray");
    let refused = cell.command("rearm").problem(409);
    assert!(
        refused["detail"].as_str().unwrap().contains("reset"),
        "{refused}"
    );
    waiting.demand_stays("queued");
    let show = |body| server.post("/v1/cells/demo/reset", &body).problem(422);
    show(json!({}));
    show(json!({ "operator": "ada" }));
    show(json!({ "reason": "cell is clear" }));
    show(json!({ "operator": "", "reason": "cell is clear" }));
    assert_eq!(cell.mode(), "estopped");

    reset(cell);
    waiting.demand_stays("queued");
    cell.wait_mode("it is shown", |mode| mode == "disarmed");
    assert_eq!(cell.command("rearm").json(200)["mode"], "armed");
    assert_eq!(waiting.wait_end()["state"], "succeeded");
    events.wait_modes(&["disarmed", "armed", "running"]);
    assert_eq!(stopped.state(), "interrupted", "only a person ends it");
    let verdict =
        json!({ "result": "failed", "operator": "ada", "reason": "it lies on the table" });
    assert_eq!(
        stopped.post("verdict", &verdict).json(200)["state"],
        "failed"
    );
    daemon.term();
}

/// The latch is durable: neither `kill -9` nor a restart lets the robot go.
#[test]
fn an_estop_outlives_the_daemon() {
    let dir = TempDir::new();
    let data = data_in(&dir);
    let daemon = Daemon::start(&data);
    let task = daemon
        .cell()
        .submit("put the green block in the right tray")
        .id;
    daemon.cell().wait_motion();
    assert_eq!(daemon.cell().command("estop").json(200)["mode"], "estopped");
    // The answer is the guard's; the latch is on the disk once the task has noticed.
    until("the task is interrupted", || {
        let task = daemon.server().get(&format!("/v1/tasks/{task}")).json(200);
        (task["state"] == "interrupted").then_some(())
    });
    daemon.kill();

    let daemon = Daemon::start(&data);
    let cell = daemon.cell();
    cell.wait_mode("the cell is latched again", |mode| mode == "estopped");
    let task = daemon.server().get(&format!("/v1/tasks/{task}")).json(200);
    assert_eq!(task["state"], "interrupted");
    cell.command("rearm").problem(409);
    cell.demand_still();
    reset(cell);
    assert_eq!(cell.command("rearm").json(200)["mode"], "armed");
    cell.does("put the yellow block in the right tray");
    daemon.term();
}

/// A cancel is a controlled stop into hold; the next task needs no rearm.
#[test]
fn a_cancel_in_mid_motion_holds_and_the_next_task_runs() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    let cell = daemon.cell();
    let mut events = Events::follow(daemon.server());
    let task = cell.submit("put the red block in the right tray");
    cell.wait_motion();
    let asked = task
        .post(
            "cancel",
            &json!({ "operator": "ada", "reason": "wrong tray" }),
        )
        .json(200);
    assert_eq!(asked["state"], "cancelling");
    assert_eq!(task.wait_end()["state"], "cancelled");
    events.wait_modes(&["running", "hold: no task"]);
    events.wait("task_ended", "cancelled");
    cell.demand_still();
    assert_eq!(cell.mode(), "hold");
    let again = task.post("cancel", &json!({})).problem(409);
    assert!(
        again["detail"].as_str().unwrap().contains("cancelled"),
        "{again}"
    );

    // One that waits is cancelled at once.
    cell.does("put the blue block in the left tray");
    daemon.term();
}
