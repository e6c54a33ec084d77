//! `kill -9` of the whole daemon in mid-motion, and what two daemons cannot share.

use serde_json::json;

use crate::support::cell::Task;
use crate::support::process::{Daemon, data_in, run_args, vlad_refused};
use crate::support::{TempDir, free_port, until};

/// After a crash nothing moves by itself, and everything says what happened.
#[test]
fn a_crash_in_mid_motion_leaves_an_interrupted_task_and_a_recovered_episode() {
    let dir = TempDir::new();
    let data = data_in(&dir);
    let daemon = Daemon::start(&data);
    let id = daemon
        .cell()
        .submit("put the red block in the left tray")
        .id;
    let waiting = daemon
        .cell()
        .submit("put the yellow block in the left tray")
        .id;
    daemon.cell().wait_motion();
    let cancelled = format!("/v1/tasks/{waiting}/cancel");
    // Acknowledged means durable: it is cancelled after the crash too.
    assert_eq!(
        daemon.server().post(&cancelled, &json!({})).json(200)["state"],
        "cancelled"
    );
    daemon.kill();

    let daemon = Daemon::start(&data);
    let (server, cell) = (daemon.server(), daemon.cell());
    let show = |id: &str| server.get(&format!("/v1/tasks/{id}")).json(200);
    assert_eq!(show(&waiting)["state"], "cancelled");
    let task = Task::new(server, &show(&id));
    assert_eq!(task.state(), "interrupted");
    let episode = until("the crash's episode is listed", || {
        server.get("/v1/episodes").json(200)["items"]
            .get(0)
            .cloned()
    });
    assert_eq!(
        (&episode["task"], &episode["state"]),
        (&json!(id), &json!("recovered"))
    );
    assert_eq!(episode["outcome"], json!(null));
    cell.wait_mode("a simulated cell is armed at start", |mode| mode == "armed");
    cell.demand_still();
    task.demand_stays("interrupted");

    // A person lets it be tried again.
    let requeue =
        json!({ "result": "requeue", "operator": "ada", "reason": "nothing was touched" });
    task.post("verdict", &requeue).json(200);
    let ended = task.wait_end();
    assert_eq!(
        (&ended["state"], &ended["attempt"]),
        (&json!("succeeded"), &json!(2)),
        "{ended}"
    );
    daemon.term();
}

/// A stop that was asked for is no crash: the log is whole.
#[test]
fn a_daemon_that_is_told_to_end_in_mid_motion_holds_and_finishes_the_log() {
    let dir = TempDir::new();
    let data = data_in(&dir);
    let daemon = Daemon::start(&data);
    let task = daemon.cell().submit("put the green block in the left tray");
    daemon.cell().wait_motion();
    let id = task.id;
    daemon.term();

    let daemon = Daemon::start(&data);
    let server = daemon.server();
    let task = server.get(&format!("/v1/tasks/{id}")).json(200);
    assert_eq!(task["state"], "interrupted");
    let episode = server.get(&format!("/v1/episodes/{id}-1")).json(200);
    let end = (&episode["state"], &episode["outcome"]);
    assert_eq!(
        end,
        (&json!("finished"), &json!("interrupted")),
        "{episode}"
    );
    daemon.term();
}

/// One folder, one port: one daemon. The first one does not even notice.
#[test]
fn a_second_daemon_on_the_same_folder_or_port_is_refused() {
    let dir = TempDir::new();
    let data = data_in(&dir);
    let daemon = Daemon::start(&data);
    let second = vlad_refused(run_args(&data, free_port()));
    assert_eq!(second.code, 1, "{}", second.err);
    assert!(
        second.err.contains(&data.display().to_string()),
        "{}",
        second.err
    );
    assert!(
        second.err.contains("in use by the daemon"),
        "{}",
        second.err
    );

    let port = daemon.server().port;
    let second = vlad_refused(run_args(&dir.path().join("other"), port));
    assert_eq!(second.code, 1, "{}", second.err);
    assert!(
        second.err.contains(&format!("127.0.0.1:{port}")),
        "{}",
        second.err
    );
    assert_eq!(daemon.cell().mode(), "armed");
    daemon.term();
}
