//! The model's process is killed, stopped, or cut off in mid-motion: the guard in another process stops
//! the robot, keeps it there when the model is back, and goes on when a person says so.

use vlad_wire::clock::{Clock, MS, SystemClock};

use crate::support::cell::Cell;
use crate::support::events::Events;
use crate::support::http::Server;
use crate::support::process::{Process, data_in, run_args};
use crate::support::relay::Relay;
use crate::support::{Places, TempDir, free_port, until};

/// What happens to the model's process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Killed,
    Stopped,
    CutOff,
}

/// Brain and action expert in one process, everything else in another, a wire between them.
struct Split {
    _places: Places,
    dir: TempDir,
    server: Server,
    wire: Relay,
    rest: Process,
    model: Process,
}

impl Split {
    fn start() -> Self {
        let places = Places::take_all();
        let dir = TempDir::new();
        let (port, inner) = (free_port(), free_port());
        let mut args = run_args(&data_in(&dir), port);
        for role in ["gateway", "perception", "actuator", "recorder"] {
            args.extend(["--role", role].map(str::to_owned));
        }
        args.extend(["--listen".to_owned(), format!("tcp/127.0.0.1:{inner}")]);
        let rest = Process::spawn(&args, dir.path().join("rest.log"));
        let wire = Relay::to(inner);
        let model = Self::spawn_model(&wire, &dir, "model.log");
        let split = Self {
            _places: places,
            dir,
            server: Server::new(port),
            wire,
            rest,
            model,
        };
        split.wait_ready();
        split
            .cell()
            .wait_mode("armed at start", |mode| mode == "armed");
        split
    }

    fn spawn_model(wire: &Relay, dir: &TempDir, log: &str) -> Process {
        let endpoint = wire.endpoint();
        let args = "run --role brain --role action-expert --policy scripted --connect";
        let mut args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        args.push(endpoint);
        Process::spawn(&args, dir.path().join(log))
    }

    fn cell(&self) -> Cell<'_> {
        Cell::new(&self.server)
    }

    fn wait_ready(&self) {
        until("both are ready", || {
            (self.server.try_get("/readyz")?.status == 200).then_some(())
        });
    }

    fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.model.kill(),
            Loss::Stopped => self.model.stop(),
            Loss::CutOff => self.wire.cut(true),
        }
    }

    fn give_back(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.model = Self::spawn_model(&self.wire, &self.dir, "again.log"),
            Loss::Stopped => self.model.go_on(),
            Loss::CutOff => self.wire.cut(false),
        }
    }
}

/// Loses the model in mid-motion, in this way.
fn stops_and_waits(loss: Loss, reasons: &[&str]) {
    let mut split = Split::start();
    let mut events = Events::follow(&split.server);
    let task = split.cell().submit("put the green block in the left tray");
    let path = format!("/v1/tasks/{}", task.id);
    split.cell().wait_motion();
    let lost_at_ms = SystemClock.wall_ns() / MS;
    split.lose(loss);

    let stopping = events.wait("mode_changed", "stopping");
    let stopped = events.wait("mode_changed", "stopped");
    let since = |event: &serde_json::Value| event["at_ms"].as_u64().unwrap() - lost_at_ms;
    let shown = split
        .cell()
        .wait_mode("it is shown", |mode| mode == "stopped");
    let reason = shown["reason"]["name"].as_str().unwrap().to_owned();
    println!(
        "{reason}: the stop began {} ms after the loss and was over after {} ms",
        since(&stopping),
        since(&stopped)
    );
    assert!(reasons.contains(&reason.as_str()), "{:#?}", events.texts());
    until("the task is interrupted", || {
        (split.server.get(&path).json(200)["state"] == "interrupted").then_some(())
    });
    split.cell().demand_still();

    split.give_back(loss);
    split.wait_ready();
    split.cell().demand_still();
    assert_eq!(split.cell().mode(), "stopped", "it waits for a person");
    assert_eq!(split.cell().command("rearm").json(200)["mode"], "armed");
    split
        .server
        .post(&format!("{path}/cancel"), &serde_json::json!({}))
        .json(200);
    split.cell().does("put the blue block in the right tray");
    assert_eq!(split.rest.term(), 0, "a clean end");
    assert_eq!(split.model.term(), 0, "a clean end");
}

#[test]
fn a_model_process_that_is_killed_stops_the_robot() {
    stops_and_waits(Loss::Killed, &["brain_lost", "expert_lost"]);
}

#[test]
fn a_model_process_that_is_stopped_stops_the_robot() {
    stops_and_waits(Loss::Stopped, &SILENT);
}

#[test]
fn a_model_process_that_is_cut_off_stops_the_robot() {
    stops_and_waits(Loss::CutOff, &SILENT);
}

/// Nobody says that the model is gone: its heartbeats or its actions are missed.
const SILENT: [&str; 5] = [
    "brain_lost",
    "expert_lost",
    "buffer_empty",
    "action_too_old",
    "think_timeout",
];
