//! The guard with its cameras in one process, everything else in another.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::cell::Cell;
use crate::support::http::Server;
use crate::support::process::{Process, data_in, run_args};
use crate::support::{Places, TempDir, free_port, until};

struct Pair {
    _places: Places,
    dir: TempDir,
    endpoint: String,
    server: Server,
    rest: Process,
    guard: Process,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Pair {
    fn start() -> Self {
        let places = Places::take_all();
        let dir = TempDir::new();
        let endpoint = format!("tcp/127.0.0.1:{}", free_port());
        let port = free_port();
        let mut args = run_args(&data_in(&dir), port);
        let roles = "--role gateway --role recorder --role brain --role action-expert";
        args.extend(words(&format!("{roles} --listen {endpoint}")));
        let rest = Process::spawn(&args, dir.path().join("rest.log"));
        let guard = Self::spawn_guard(&endpoint, dir.path().join("guard.log"));
        let server = Server::new(port);
        let pair = Self {
            _places: places,
            dir,
            endpoint,
            server,
            rest,
            guard,
        };
        pair.wait_ready();
        pair.cell()
            .wait_mode("armed at start", |mode| mode == "armed");
        pair
    }

    fn spawn_guard(endpoint: &str, log: PathBuf) -> Process {
        let args = format!("run --role perception --role actuator --connect {endpoint}");
        Process::spawn(&words(&args), log)
    }

    fn restart_guard(&mut self) {
        self.guard = Self::spawn_guard(&self.endpoint, self.dir.path().join("again.log"));
        self.wait_ready();
    }

    fn wait_ready(&self) {
        until("both are ready", || {
            (self.server.try_get("/readyz")?.status == 200).then_some(())
        });
    }

    fn cell(&self) -> Cell<'_> {
        Cell::new(&self.server)
    }

    fn state(&self, task: &str) -> Value {
        self.server.get(&format!("/v1/tasks/{task}")).json(200)["state"].clone()
    }
}

/// A guard that was restarted alone has forgotten its e-stop; the gateway has not.
#[test]
fn an_estop_outlives_the_guards_process() {
    let mut pair = Pair::start();
    assert_eq!(pair.cell().command("estop").json(200)["mode"], "estopped");
    pair.guard.kill();
    pair.restart_guard();
    pair.cell()
        .wait_mode("the guard is latched again", |mode| mode == "estopped");
    let refused = pair.cell().command("rearm").problem(409);
    assert!(refused["detail"].to_string().contains("reset"), "{refused}");
    until("the guard takes the reset", || {
        (pair.cell().command("reset").status == 200).then_some(())
    });
    assert_eq!(pair.cell().command("rearm").json(200)["mode"], "armed");
    pair.cell().does("put the red block in the left tray");
    assert_eq!((pair.guard.term(), pair.rest.term()), (0, 0));
}

/// SIGTERM of the guard's process alone is a controlled stop; the task waits for a person.
#[test]
fn the_guards_process_stops_the_robot_before_it_ends() {
    let mut pair = Pair::start();
    let task = pair.cell().submit("put the red block in the left tray").id;
    pair.cell().wait_motion();
    assert_eq!(pair.guard.term(), 0, "a clean end");
    let log = pair.guard.log();
    let stop = log.rfind("the gateway no longer renews its lease");
    let stop = stop.or_else(|| log.rfind("hold:"));
    assert!(stop.is_some() && stop < log.rfind("role stopped"), "{log}");
    until("the task is interrupted", || {
        (pair.state(&task) == "interrupted").then_some(())
    });
    pair.restart_guard();
    pair.cell()
        .wait_mode("nobody armed it", |mode| mode == "disarmed");
    assert_eq!(pair.cell().command("rearm").json(200)["mode"], "armed");
    assert_eq!(pair.state(&task), "interrupted", "nothing moves by itself");
    pair.cell().does("put the blue block in the right tray");
    assert_eq!((pair.guard.term(), pair.rest.term()), (0, 0));
}
