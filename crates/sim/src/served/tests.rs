//! A served world: the drivers keep the contract, and no client can harm it or another one.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use vlad_cell::camera::Camera;
use vlad_cell::conformance::{check_camera, check_robot};
use vlad_cell::description::{RobotDescription, RobotToml};
use vlad_cell::oracle::Oracle;
use vlad_cell::robot::{Measured, Robot, RobotError};
use vlad_wire::clock::{Clock, MS, ManualClock, SECOND, SystemClock};
use vlad_wire::text::{Instruction, Name};

use super::parcel;
use super::remote::RemoteWorld;
use super::robot::RemoteRobot;
use super::server::{CONNECTIONS_MAX, ServeError, WorldServer};
use super::words::{Command, Hello, Question, Reply, Sample, Wish, fingerprint};
use crate::tests::{robot, scene};
use crate::world::SimWorld;

mod bytes;

/// Longer than any wait where all is well.
const PATIENCE_NS: u64 = 30 * SECOND;
/// Length of a step, rounded up: a world told to go on by it goes on by one step.
const STEP_NS: u64 = SECOND / 240 + 1;

/// A folder that goes when the value goes.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vlad-sim-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("world.sock")
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Cameras of a few pixels: rendering is not what is tested here.
fn small_robot() -> RobotDescription {
    let mut toml: RobotToml = robot().toml().clone();
    for camera in &mut toml.cameras {
        (camera.width, camera.height) = (32, 16);
    }
    RobotDescription::new(toml).unwrap()
}

/// A served world in virtual time, and how to reach it.
struct Served {
    world: SimWorld,
    server: Option<WorldServer>,
    remote: RemoteWorld,
    dir: TempDir,
}

impl Served {
    fn new() -> Self {
        let (dir, description) = (TempDir::new(), small_robot());
        let world = SimWorld::new(&scene(), &description, 1, 0).unwrap();
        let server = WorldServer::start(world.clone(), &dir.socket()).unwrap();
        let remote = RemoteWorld::new(&dir.socket(), &description, &scene());
        Self {
            world,
            server: Some(server),
            remote,
            dir,
        }
    }

    fn server(&self) -> &WorldServer {
        self.server.as_ref().unwrap()
    }

    fn raw(&self, wish: Wish) -> UnixStream {
        let mut stream = UnixStream::connect(self.dir.socket()).unwrap();
        let fingerprint = fingerprint(&small_robot(), &scene());
        // A server without room may have closed already; its words are still there to read.
        let _ = parcel::write(&mut stream, &Hello { wish, fingerprint });
        stream
    }
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up_ns = SystemClock.now_ns() + PATIENCE_NS;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(SystemClock.now_ns() < give_up_ns, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// The suite in virtual time: a command is let arrive before the world's next step, and the step's
/// sample before the next look.
#[test]
fn the_served_robot_keeps_the_contract() {
    let served = Served::new();
    let clock = ManualClock::default();
    let mut robot = served.remote.robot().unwrap();
    let watch = served.remote.watch().unwrap();
    let (world, arrived) = (served.world.clone(), robot.arrivals());
    let mut wait = |time: Duration| {
        let taken = || (arrived.sent() <= served.server().counts().commands).then_some(());
        until("the commands arrive", taken);
        clock.advance_to(clock.now_ns() + nanos(time));
        world.advance_to(clock.now_ns());
        let now_ns = world.now_ns();
        until("the sample arrives", || {
            (arrived.sampled_at_ns() == now_ns).then_some(())
        });
    };
    let found = check_robot(&mut robot, &small_robot(), &clock, &mut wait);
    assert_eq!(found, []);
    let mut seen = Measured::default();
    let step = until("who watches sees the same", || {
        let step = watch.newest(&mut seen).ok()?;
        (seen.sampled_at_ns == world.now_ns()).then_some(step)
    });
    let mut measured = Measured::default();
    robot.read(&mut measured).unwrap();
    assert_eq!(measured, seen);
    assert_eq!(step * SECOND / 240, world.now_ns());
}

#[test]
fn the_served_cameras_keep_the_contract() {
    let served = Served::new();
    let clock = ManualClock::default();
    for (mut camera, mut probe) in served
        .remote
        .cameras()
        .unwrap()
        .into_iter()
        .zip(served.world.cameras())
    {
        let arrived = camera.arrived();
        let mut newest = None;
        let mut wait = |time: Duration| {
            clock.advance_to(clock.now_ns() + nanos(time));
            served.world.advance_to(clock.now_ns());
            newest = probe
                .newest()
                .unwrap()
                .map(|frame| frame.head.seq)
                .or(newest);
            until("the frame arrives", || (newest <= arrived()).then_some(()));
        };
        assert_eq!(check_camera(&mut camera, &clock, &mut wait), []);
    }
}

#[test]
fn a_served_frame_is_the_worlds_own() {
    let served = Served::new();
    served.world.advance_to(SECOND);
    let mut own = served.world.cameras();
    for (camera, own) in served.remote.cameras().unwrap().iter_mut().zip(&mut own) {
        assert_eq!(camera.info(), own.info());
        let frame = until("a frame comes", || camera.newest().unwrap());
        assert_eq!(Some(frame), own.newest().unwrap());
    }
}

#[test]
fn the_served_oracle_answers_as_the_worlds_own() {
    let served = Served::new();
    served.world.advance_to(SECOND);
    let (mut remote, mut own) = (served.remote.oracle(), served.world.oracle());
    assert_eq!(remote.truth(), own.truth());
    assert!(!remote.truth().is_empty());
    for text in ["put the red block in the left tray", "dance"] {
        let instruction = Instruction::new(text).unwrap();
        assert_eq!(remote.judge(&instruction), own.judge(&instruction));
    }
}

#[test]
fn an_oracle_whose_world_is_gone_decides_nothing() {
    let mut served = Served::new();
    let mut oracle = served.remote.oracle();
    assert!(!oracle.truth().is_empty());
    served.server = None;
    assert!(oracle.truth().is_empty());
    let judgement = oracle.judge(&Instruction::new("put the red block in the left tray").unwrap());
    assert_eq!(judgement.outcome.to_string(), "open");
}

/// The guard's process dies in mid-motion: its connection ends, commands stop, and the watchdog
/// brakes the arm, short of where it was sent.
#[test]
fn the_arm_brakes_when_its_client_is_gone() {
    let served = Served::new();
    let description = small_robot();
    let limits = description.limits()[0];
    let mut robot = served.remote.robot().unwrap();
    let mut command = description.home().to_vec();
    let speed = || served.world.port().sampled().measured.velocity[0];
    for n_sent in 1..=60 {
        command[0] -= 1.0 / 240.0;
        if n_sent == 60 {
            command[0] = limits.min;
        }
        robot.command(&command).unwrap();
        until("the command arrives", || {
            (n_sent <= served.server().counts().commands).then_some(())
        });
        served.world.advance_to(n_sent * STEP_NS);
    }
    drop(robot);
    served.world.advance_to(60 * STEP_NS + 90 * MS);
    assert!(
        speed() < -0.9,
        "it stopped before its watchdog: {}",
        speed()
    );
    served.world.advance_to(60 * STEP_NS + 600 * MS);
    assert!(speed().abs() < 1e-9, "{}", speed());
    let position = served.world.port().sampled().measured.position[0];
    assert!(limits.min + 0.1 < position, "it went on to its target");
}

#[test]
fn one_client_commands_the_robot_at_a_time() {
    let served = Served::new();
    let first = served.remote.robot().unwrap();
    let refused = served.remote.robot().err().unwrap().to_string();
    assert!(
        refused.contains("another client commands the robot"),
        "{refused}"
    );
    assert!(served.remote.watch().is_ok(), "watching is free");
    drop(first);
    until("the place is free again", || served.remote.robot().ok());
    assert!(1 <= served.server().counts().refused);
}

#[test]
fn a_client_with_other_settings_is_refused() {
    let served = Served::new();
    let mut toml = small_robot().toml().clone();
    toml.cameras[0].fov_y_deg += 1.0;
    let other = RobotDescription::new(toml).unwrap();
    let remote = RemoteWorld::new(&served.dir.socket(), &other, &scene());
    let refused = remote.robot().err().unwrap().to_string();
    assert!(refused.contains("another robot or scene"), "{refused}");
}

#[test]
fn a_world_that_is_not_there_is_named_with_what_to_do() {
    let remote = RemoteWorld::new(Path::new("/nowhere/world.sock"), &small_robot(), &scene());
    for refused in [
        remote.robot().err(),
        remote.watch().err(),
        remote.cameras().err(),
    ] {
        let text = refused.unwrap().to_string();
        assert!(
            text.contains("vlad sim --socket /nowhere/world.sock"),
            "{text}"
        );
    }
}

/// The world's process is ended and started again: its drivers say so, then find it again.
#[test]
fn drivers_find_a_world_that_was_started_again() {
    let mut served = Served::new();
    let mut robot = served.remote.robot().unwrap();
    let mut camera = served.remote.cameras().unwrap().remove(0);
    let first = until("a frame comes", || camera.newest().unwrap());
    served.server = None;
    let mut measured = Measured::default();
    until("the robot is gone", || {
        (robot.read(&mut measured) == Err(RobotError::Disconnected)).then_some(())
    });
    until("the camera is gone", || camera.newest().err());
    served.world.advance_to(SECOND);
    served.server = Some(WorldServer::start(served.world.clone(), &served.dir.socket()).unwrap());
    until("the robot is back", || robot.read(&mut measured).ok());
    until("its sample is new", || {
        robot.read(&mut measured).ok()?;
        (measured.sampled_at_ns == SECOND).then_some(())
    });
    until("it takes commands", || {
        robot.command(small_robot().home()).ok()
    });
    let again = until("a frame comes", || camera.newest().ok().flatten());
    assert!(first.head.seq < again.head.seq);
    assert!(first.head.captured_at_ns < again.head.captured_at_ns);
}

/// A client that takes nothing holds up nobody, and sees the newest sample when it looks again.
#[test]
fn a_sleeping_client_delays_nobody() {
    let served = Served::new();
    let mut sleeper = served.raw(Wish::Watch);
    let robot = served.remote.robot().unwrap();
    let arrivals = robot.arrivals();
    // More than the socket holds: 2000 samples of 250 bytes.
    for step in 1..=2000 {
        served.world.advance_to(step * STEP_NS);
    }
    let now_ns = served.world.now_ns();
    until("the other client is served", || {
        (arrivals.sampled_at_ns() == now_ns).then_some(())
    });
    let reply: Reply = parcel::read(&mut sleeper).unwrap();
    assert_eq!(reply, Reply::Welcome);
    until("it catches up", || {
        let sample: Sample = parcel::read(&mut sleeper).unwrap();
        (sample.sampled_at_ns == now_ns).then_some(())
    });
}

#[test]
fn only_so_many_connections_are_taken() {
    let served = Served::new();
    let mut all: Vec<_> = (0..CONNECTIONS_MAX)
        .map(|_| served.raw(Wish::Oracle))
        .collect();
    for stream in &mut all {
        assert_eq!(parcel::read::<Reply>(stream).unwrap(), Reply::Welcome);
    }
    let mut further = served.raw(Wish::Oracle);
    let reply = parcel::read::<Reply>(&mut further).unwrap();
    assert!(matches!(reply, Reply::Refused(why) if why.as_str().contains("too many")));
    drop(all);
    until("there is room again", || {
        let mut stream = served.raw(Wish::Oracle);
        (parcel::read::<Reply>(&mut stream).ok()? == Reply::Welcome).then_some(())
    });
}

#[test]
fn the_socket_is_its_users_alone_and_goes_with_the_server() {
    let mut served = Served::new();
    let path = served.dir.socket();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.server = None;
    assert!(!path.exists());
}

#[test]
fn two_worlds_at_one_socket_are_refused() {
    let served = Served::new();
    let refused = WorldServer::start(served.world.clone(), &served.dir.socket());
    assert!(matches!(refused, Err(ServeError::Taken(_))));
    assert!(served.remote.watch().is_ok(), "the first one goes on");
}

/// A server that was killed leaves its socket behind; a file of another kind is left alone.
#[test]
fn a_dead_servers_socket_is_taken_over() {
    let (dir, description) = (TempDir::new(), small_robot());
    let world = SimWorld::new(&scene(), &description, 1, 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.socket()).unwrap());
    assert!(dir.socket().exists());
    let server = WorldServer::start(world.clone(), &dir.socket()).unwrap();
    let remote = RemoteWorld::new(&dir.socket(), &description, &scene());
    assert!(remote.watch().is_ok());
    drop(server);
    fs::write(dir.socket(), "precious").unwrap();
    let refused = WorldServer::start(world, &dir.socket());
    assert!(matches!(refused, Err(ServeError::NoSocket(_))));
    assert_eq!(fs::read_to_string(dir.socket()).unwrap(), "precious");
}

#[test]
fn commands_that_no_robot_takes_are_not_even_sent() {
    let served = Served::new();
    let mut robot: RemoteRobot = served.remote.robot().unwrap();
    for bad in [
        vec![],
        vec![0.0; 13],
        vec![f64::NAN; 14],
        vec![f64::INFINITY; 14],
    ] {
        assert!(robot.command(&bad).is_err());
    }
    assert_eq!(robot.arrivals().sent(), 0);
}
