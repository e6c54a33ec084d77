//! The network between camera and motor: untrained weights in the released layout.

use serde_json::json;

use crate::support::cell::Cell;
use crate::support::events::Events;
use crate::support::process::{Daemon, data_in, vlad};
use crate::support::{TempDir, pause, until};
use crate::three_processes::{Fleet, Victim};

/// Chunks that a story waits for.
const CHUNKS: usize = 4;
/// Farthest that a joint may go from home, rad.
const NEAR_HOME_RAD: f64 = 0.1;
/// Least that some joint must go.
const MOVED_RAD: f64 = 0.005;

/// How far the joint is from home that is farthest from it.
fn farthest(home: &[f64], joints: &[f64]) -> f64 {
    let ways = joints
        .iter()
        .zip(home)
        .map(|(now, home)| (now - home).abs());
    ways.fold(0.0, f64::max)
}

/// Waits until the network has moved a joint away from home.
fn wait_away(cell: Cell<'_>, home: &[f64]) {
    until("a joint is away from home", || {
        (MOVED_RAD < farthest(home, &cell.joints())).then_some(())
    });
}

/// The arms wander near home, chunk after chunk, and whoever looks reads that nothing is learnt.
#[test]
fn the_network_moves_the_arms_and_says_that_it_is_untrained() {
    let dir = TempDir::new();
    let data = data_in(&dir);
    // How old an action may be is the guard's story: beside other work the network is slow.
    let patient = [
        "--policy",
        "xr0",
        "--set",
        "guard.action_age_limit_ms=10000",
    ];
    let daemon = Daemon::start_with(&data, &patient);
    let (server, cell) = (daemon.server(), daemon.cell());
    let home = cell.joints();
    let mut events = Events::follow(server);
    let task = cell.submit("put the red block in the left tray");
    for _ in 0..CHUNKS {
        events.wait("chunk_accepted", "");
    }
    wait_away(cell, &home);
    let mut most = 0.0_f64;
    for _ in 0..CHUNKS {
        events.wait("chunk_accepted", "");
        most = most.max(farthest(&home, &cell.joints()));
        pause();
    }
    assert!(most < NEAR_HOME_RAD, "{most}");
    assert!(
        ["running", "hold"].contains(&cell.mode().as_str()),
        "{}",
        cell.mode()
    );

    let shown = cell.show();
    let policy = &shown["policy"];
    assert!(
        policy["note"].as_str().unwrap().contains("untrained"),
        "{shown}"
    );
    task.post("cancel", &json!({})).json(200);
    cell.demand_still();

    let checkpoint = std::fs::read_dir(data.join("checkpoints"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let folder = checkpoint.path().display().to_string();
    let inspected = vlad(["model", "inspect", &folder, "--json"]);
    assert_eq!(inspected.code, 0, "{}", inspected.err);
    let episode = server.get("/v1/episodes").json(200)["items"][0]["id"].clone();
    let episode = server.get(&format!("/v1/episodes/{}", episode.as_str().unwrap()));
    let hash = episode.json(200)["model_hash"].clone();
    let hash = hash.as_str().unwrap();
    assert!(
        inspected.out.contains(hash),
        "{hash} is not the hash in {}",
        inspected.out
    );
    daemon.term();
}

/// As with any policy: stop, wait for a person, move again.
#[test]
fn a_brain_that_dies_while_the_network_moves_the_arms_stops_them_and_is_taken_back() {
    let mut fleet = Fleet::start("xr0");
    let home = fleet.cell().joints();
    let mut events = Events::follow(fleet.server());
    let task = fleet
        .cell()
        .submit("put the green block in the left tray")
        .id;
    wait_away(fleet.cell(), &home);
    let path = format!("/v1/tasks/{task}");
    fleet.stops_without(Victim::Brain, &mut events, (&path, "brain_lost"));
    fleet.cell().demand_still();

    fleet.start_again(Victim::Brain);
    fleet.wait_ready();
    assert_eq!(fleet.cell().mode(), "stopped", "it waits for a person");
    fleet.cell().demand_still();
    assert_eq!(fleet.cell().command("rearm").json(200)["mode"], "armed");
    fleet
        .server()
        .post(&format!("{path}/cancel"), &json!({}))
        .json(200);
    let rest = fleet.cell().joints();
    let next = fleet
        .cell()
        .submit("put the blue block in the right tray")
        .id;
    events.wait("chunk_accepted", "");
    wait_away(fleet.cell(), &rest);
    let next = format!("/v1/tasks/{next}/cancel");
    fleet.server().post(&next, &json!({})).json(200);
    fleet.cell().demand_still();
    fleet.term();
}

/// Contexts of one checkpoint mean nothing to another: such a pair is not ready, and says why.
#[test]
fn brain_and_expert_with_different_checkpoints_are_not_ready() {
    let mut fleet = Fleet::start("xr0");
    let dir = TempDir::new();
    let other = dir.path().join("other").display().to_string();
    let made = vlad(["model", "synth", "--preset", "tiny", "--seed", "2", &other]);
    assert_eq!(made.code, 0, "{}", made.err);
    fleet.kill(Victim::Expert);
    fleet.set_policy(&["--checkpoint", &other]);
    fleet.start_again(Victim::Expert);
    until("readiness names the pair", || {
        let ready = fleet.server().get("/readyz");
        let missing = (ready.status == 503).then(|| ready.problem(503)["missing"].to_string())?;
        missing.contains("different models").then_some(())
    });
    fleet.kill(Victim::Brain);
    fleet.start_again(Victim::Brain);
    fleet.wait_ready();
    fleet.term();
}
