//! World, guard and the rest in processes of their own: a guard dies without its robot.

use std::path::PathBuf;

use serde_json::Value;
use vlad::config::{Config, Sources};
use vlad_cell::description::{Arm, RobotDescription};
use vlad_cell::robot::Measured;
use vlad_sim::served::remote::RemoteWorld;
use vlad_sim::served::robot::Watch;
use vlad_wire::clock::{Clock, SECOND, SystemClock};

use crate::support::cell::Cell;
use crate::support::http::Server;
use crate::support::process::{Process, data_in, run_args, vlad_refused};
use crate::support::{Places, TempDir, free_port, until};

/// Steps after the last command at which the robot's watchdog acts: 100 ms of 1/240 s.
const WATCHDOG_STEPS: u64 = 24;
/// Steps after the last command at which it stands: 200 ms. A joint of a radian per second brakes in 70.
const STOP_STEPS: u64 = 48;
/// The guard is killed while the fastest joint is between these, radians per second.
const MOVING_RAD_S: [f64; 2] = [0.2, 1.0];
/// A joint that is slower stands.
const STILL_RAD_S: f64 = 1e-6;

struct Trio {
    _places: Places,
    dir: TempDir,
    endpoint: String,
    server: Server,
    robot: RobotDescription,
    remote: RemoteWorld,
    sim: Process,
    rest: Process,
    guard: Process,
}

/// Looks without a pause: what is looked for lasts some steps of the world.
#[track_caller]
fn until_busy(what: &str, mut look: impl FnMut() -> bool) {
    let give_up_ns = SystemClock.now_ns() + 60 * SECOND;
    while !look() {
        assert!(SystemClock.now_ns() < give_up_ns, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Trio {
    fn start() -> Self {
        let places = Places::take_all();
        let dir = TempDir::new();
        let socket = dir.path().join("world.sock");
        let sim = format!("sim --socket {}", socket.display());
        let sim = Process::spawn(&words(&sim), dir.path().join("sim.log"));
        until("the world is served", || socket.exists().then_some(()));
        let endpoint = format!("tcp/127.0.0.1:{}", free_port());
        let port = free_port();
        let mut args = run_args(&data_in(&dir), port);
        let roles = "--role gateway --role recorder --role perception --role brain";
        let further = format!("{roles} --role action-expert --listen {endpoint}");
        args.extend(words(&further));
        args.extend(Self::world_args(&socket));
        let rest = Process::spawn(&args, dir.path().join("rest.log"));
        let guard = Self::spawn_guard(&endpoint, &socket, dir.path().join("guard.log"));
        let config = Config::load(&Sources::default()).unwrap();
        let cell = &config.cells[0];
        let trio = Self {
            _places: places,
            endpoint,
            server: Server::new(port),
            robot: cell.robot.clone(),
            remote: RemoteWorld::new(&socket, &cell.robot, cell.scenery.table().unwrap()),
            dir,
            sim,
            rest,
            guard,
        };
        trio.wait_ready();
        trio.cell()
            .wait_mode("armed at start", |mode| mode == "armed");
        trio
    }

    fn world_args(socket: &std::path::Path) -> Vec<String> {
        let world = format!("cell.world=unix:{}", socket.display());
        vec!["--set".to_owned(), world]
    }

    fn spawn_guard(endpoint: &str, socket: &std::path::Path, log: PathBuf) -> Process {
        let mut args = words(&format!("run --role actuator --connect {endpoint}"));
        args.extend(Self::world_args(socket));
        Process::spawn(&args, log)
    }

    fn wait_ready(&self) {
        until("all are ready", || {
            (self.server.try_get("/readyz")?.status == 200).then_some(())
        });
    }

    fn cell(&self) -> Cell<'_> {
        Cell::new(&self.server)
    }

    /// The fastest joint, radians per second, at a step of the world; grippers keep their grip.
    fn look(&self, watch: &Watch) -> (u64, f64) {
        let mut seen = Measured::default();
        let step = until("a sample comes", || watch.newest(&mut seen).ok());
        let grippers: Vec<_> = self.robot.arms().iter().map(Arm::gripper_dof).collect();
        let joints = seen.velocity.iter().enumerate();
        let joints = joints.filter(|(dof, _)| !grippers.contains(dof));
        let speeds = joints.map(|(_, speed)| speed.abs());
        (step, speeds.fold(0.0, f64::max))
    }

    fn state(&self, task: &str) -> Value {
        self.server.get(&format!("/v1/tasks/{task}")).json(200)["state"].clone()
    }
}

/// The guard is killed in mid-motion. Its robot is another process's: the watchdog brakes it, as
/// everybody can see who watches. Counted in steps of the world, of which a late machine makes
/// fewer. The guard that comes back is disarmed and moves nothing by itself.
#[test]
fn a_killed_guard_leaves_a_robot_that_stops_by_itself() {
    let mut trio = Trio::start();
    let watch = trio.remote.watch().unwrap();
    let task = trio.cell().submit("put the red block in the left tray").id;
    trio.cell().wait_motion();
    let [slow, fast] = MOVING_RAD_S;
    until_busy("the arm moves well", || {
        let (_, speed) = trio.look(&watch);
        slow < speed && speed < fast
    });
    trio.guard.kill();
    let (killed, speed) = trio.look(&watch);
    println!("killed at step {killed}, fastest joint {speed:.3} rad/s");
    // From the watchdog on every joint only slows down.
    let mut last = f64::MAX;
    until_busy("the watchdog's time and the brake's are over", || {
        let (step, speed) = trio.look(&watch);
        if killed + WATCHDOG_STEPS < step {
            assert!(speed <= last + STILL_RAD_S, "{step}: {last} → {speed}");
            last = speed;
        }
        killed + STOP_STEPS < step
    });
    assert!(last < STILL_RAD_S, "it still moves: {last} rad/s");
    until("the task is interrupted", || {
        (trio.state(&task) == "interrupted").then_some(())
    });
    let again = trio.dir.path().join("again.log");
    let socket = trio.dir.path().join("world.sock");
    trio.guard = Trio::spawn_guard(&trio.endpoint, &socket, again);
    trio.wait_ready();
    trio.cell()
        .wait_mode("nobody armed it", |mode| mode == "disarmed");
    let (_, speed) = trio.look(&watch);
    assert!(speed < STILL_RAD_S, "it moves by itself: {speed} rad/s");
    assert_eq!(trio.cell().command("rearm").json(200)["mode"], "armed");
    assert_eq!(trio.state(&task), "interrupted", "nothing moves by itself");
    trio.cell().does("put the blue block in the right tray");
    assert_eq!((trio.guard.term(), trio.rest.term()), (0, 0));
    assert_eq!(trio.sim.term(), 0);
}

/// A second guard for the same world is refused in words, and ends.
#[test]
fn a_second_guard_gets_no_robot() {
    let mut trio = Trio::start();
    let mut args = words("run --role actuator --listen");
    args.push(format!("tcp/127.0.0.1:{}", free_port()));
    args.extend(Trio::world_args(&trio.dir.path().join("world.sock")));
    let refused = vlad_refused(&args);
    assert_ne!(refused.code, 0);
    let why = "another client commands the robot";
    assert!(refused.err.contains(why), "{}", refused.err);
    trio.cell().does("put the green block in the left tray");
    assert_eq!((trio.guard.term(), trio.rest.term()), (0, 0));
}

/// Without a world there is nothing to guard: the process says what to start.
#[test]
fn a_guard_without_its_world_says_what_to_start() {
    let dir = TempDir::new();
    let mut args = words("run --role actuator --listen");
    args.push(format!("tcp/127.0.0.1:{}", free_port()));
    args.extend(Trio::world_args(&dir.path().join("world.sock")));
    let refused = vlad_refused(&args);
    assert_ne!(refused.code, 0);
    assert!(
        refused.err.contains("start `vlad sim --socket"),
        "{}",
        refused.err
    );
}
