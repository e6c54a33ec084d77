//! The world: determinism, the contracts of robot and camera, the watchdog, real time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vlad_cell::camera::Camera;
use vlad_cell::conformance::{check_camera, check_robot};
use vlad_cell::description::{Mount, RobotDescription};
use vlad_cell::robot::{Measured, Robot};
use vlad_wire::clock::{Clock, MS, ManualClock, SECOND, SystemClock};

use super::runner::Runner;
use super::{robot, robot_toml, scene, world};
use crate::world::SimWorld;

/// Length of a step, rounded up: a world told to go on by it goes on by one step.
const STEP_NS: u64 = SECOND / 240 + 1;

fn measured(world: &SimWorld) -> Measured {
    let mut measured = Measured::default();
    world.robot().read(&mut measured).unwrap();
    measured
}

fn clock_at(now_ns: u64) -> ManualClock {
    let clock = ManualClock::default();
    clock.advance_to(now_ns);
    clock
}

#[test]
fn the_shipped_robot_is_the_dual_arm_type() {
    let description = robot();
    let slots: Vec<usize> = (7..=12).chain([6]).chain(21..=26).chain([20]).collect();
    assert_eq!(description.slots().slots(), slots);
    let robot_type = &description.toml().robot_type;
    assert_eq!((robot_type.width, robot_type.horizon), (32, 30));
    let views: Vec<&str> = description
        .cameras()
        .iter()
        .map(|c| c.view.as_str())
        .collect();
    assert_eq!(views, ["ego", "left_wrist", "right_wrist"]);
    let mounts: BTreeSet<bool> = description
        .cameras()
        .iter()
        .map(|c| c.mount == Mount::World)
        .collect();
    assert_eq!(mounts.len(), 2);
}

/// The home pose stands over the table with the tool straight down, which the policy relies on.
#[test]
fn the_home_pose_points_down() {
    let description = robot();
    for arm in description.arms() {
        let tool = arm
            .chain
            .tool(&description.home()[arm.first_dof..arm.gripper_dof()]);
        assert!(tool.rotation[2][2] < -0.999, "{tool:?}");
        assert!(
            0.9 < tool.position_m[2] && tool.position_m[2] < 1.1,
            "{tool:?}"
        );
    }
}

/// Two worlds, the same seed, the same task played: a few hundred steps with contacts.
#[test]
fn same_seed_and_commands_give_identical_states_and_frames() {
    let run = || {
        let world = world(5);
        let mut cameras = world.cameras();
        let mut runner = Runner::new(world.clone(), &robot());
        let mut digests = Vec::new();
        let mut frames = Vec::new();
        for _ in 0..3 {
            runner.run("put the green block in the right tray", 0.0);
            digests.push(world.state_digest());
            frames.extend(cameras.iter_mut().map(|camera| camera.newest().unwrap()));
        }
        (digests, frames)
    };
    let (first, second) = (run(), run());
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "the frames differ");
    assert!(
        first.0[0] != first.0[1],
        "the digest does not see that the world moves"
    );
}

#[test]
fn another_seed_is_another_world() {
    assert_ne!(world(1).state_digest(), world(2).state_digest());
}

#[test]
fn steps_do_not_depend_on_how_they_are_asked_for() {
    let (once, often) = (world(1), world(1));
    once.advance_to(SECOND);
    for millisecond in 0..=1000 {
        often.advance_to(millisecond * MS);
    }
    assert_eq!(once.state_digest(), often.state_digest());
    assert_eq!(once.now_ns(), SECOND);
}

#[test]
fn time_never_goes_back() {
    let world = world(1);
    world.advance_to(SECOND);
    world.advance_to(0);
    assert_eq!(world.now_ns(), SECOND);
}

#[test]
fn the_robot_keeps_the_contract() {
    let (world, clock) = (world(1), ManualClock::default());
    let mut wait = |time: Duration| {
        clock.advance_to(clock.now_ns() + u64::try_from(time.as_nanos()).unwrap());
        world.advance_to(clock.now_ns());
    };
    let found = check_robot(&mut world.robot(), &robot(), &clock, &mut wait);
    assert_eq!(found, []);
}

#[test]
fn the_cameras_keep_the_contract() {
    let (world, clock) = (world(1), ManualClock::default());
    for mut camera in world.cameras() {
        let mut wait = |time: Duration| {
            clock.advance_to(clock.now_ns() + u64::try_from(time.as_nanos()).unwrap());
            world.advance_to(clock.now_ns());
        };
        assert_eq!(check_camera(&mut camera, &clock, &mut wait), []);
    }
}

#[test]
fn a_camera_gives_one_frame_a_period() {
    let world = world(1);
    let mut camera = world.cameras().remove(0);
    let mut n_frames = 0;
    for step in 0..240 {
        world.advance_to(step * STEP_NS);
        n_frames += u32::from(camera.newest().unwrap().is_some());
    }
    assert_eq!(n_frames, 30);
}

/// Commands stop in mid-motion: the arm brakes within its limits and stands, short of its target.
#[test]
fn the_arm_brakes_and_holds_when_commands_stop() {
    let (world, description) = (world(1), robot());
    let limits = description.limits()[0];
    let mut command = description.home().to_vec();
    let mut robot = world.robot();
    let mut now_ns = 0;
    for _ in 0..60 {
        command[0] -= 1.0 / 240.0;
        now_ns += STEP_NS;
        robot.command(&command).unwrap();
        world.advance_to(now_ns);
    }
    let moving = measured(&world);
    assert!(moving.velocity[0] < -0.9, "{:?}", moving.velocity);
    command[0] = limits.min;
    robot.command(&command).unwrap();
    drop(robot);
    world.advance_to(now_ns + 95 * MS);
    assert!(
        measured(&world).velocity[0] < -0.9,
        "it stopped before its watchdog"
    );
    let until_still_ns = 105 * MS + (limits.speed_max / limits.acceleration_max * 1e9) as u64;
    world.advance_to(now_ns + until_still_ns);
    let still = measured(&world);
    assert!(still.velocity[0].abs() < 1e-9, "{:?}", still.velocity);
    assert!(
        limits.min + 0.5 < still.position[0],
        "it went on to its target"
    );
    world.advance_to(now_ns + until_still_ns + SECOND);
    let later = measured(&world);
    assert!((later.position[0] - still.position[0]).abs() < 1e-9);
}

#[test]
fn no_joint_outruns_its_limit() {
    let (world, description) = (world(1), robot());
    let mut robot = world.robot();
    let far: Vec<f64> = description
        .limits()
        .iter()
        .map(|limits| limits.max)
        .collect();
    for step in 1..=240 {
        robot.command(&far).unwrap();
        world.advance_to(step * STEP_NS);
        let sample = measured(&world);
        for arm in description.arms() {
            for dof in arm.first_dof..arm.gripper_dof() {
                let limits = description.limits()[dof];
                assert!(sample.velocity[dof].abs() <= limits.speed_max);
                assert!(sample.position[dof] <= limits.max);
            }
        }
    }
}

/// The measured opening is the fingers': an empty gripper closes to nothing, and opens again.
#[test]
fn the_gripper_opens_and_closes() {
    let (world, description) = (world(1), robot());
    let gripper = description.arms()[0].gripper_dof();
    let mut command = description.home().to_vec();
    let mut robot = world.robot();
    let mut now_ns = 0;
    for target in [0.0, 0.085] {
        command[gripper] = target;
        for _ in 0..240 {
            now_ns += STEP_NS;
            robot.command(&command).unwrap();
            world.advance_to(now_ns);
        }
        let opening = measured(&world).position[gripper];
        assert!((opening - target).abs() < 0.002, "{target}: {opening}");
    }
}

#[test]
fn a_world_goes_with_the_clock_until_it_is_dropped() {
    let clock = Arc::new(SystemClock);
    let world = world(1);
    let running = world.run_realtime(clock.clone()).unwrap();
    let began_ns = world.now_ns();
    assert!(
        began_ns <= clock.now_ns(),
        "the world's time is the clock's"
    );
    // Waits for the world itself: 24 steps come, however long this machine takes for them.
    while world.now_ns() < began_ns + 100 * MS {
        std::thread::yield_now();
    }
    assert!(world.now_ns() <= clock.now_ns() + 100 * MS);
    assert!(running.n_skipped() < u64::MAX);
    drop(running);
    let stopped = (world.now_ns(), world.state_digest());
    let later_ns = clock.now_ns() + 20 * MS;
    while clock.now_ns() < later_ns {
        std::thread::yield_now();
    }
    assert_eq!((world.now_ns(), world.state_digest()), stopped);
}

#[test]
fn a_camera_has_the_size_and_rate_of_its_description() {
    let mut toml = robot_toml();
    (toml.cameras[0].width, toml.cameras[0].height) = (1920, 1080);
    toml.cameras[0].rate_hz = 10.0;
    let description = RobotDescription::new(toml).unwrap();
    let world = SimWorld::new(&scene(), &description, 1, 0).unwrap();
    let mut camera = world.cameras().remove(0);
    let frame = camera.newest().unwrap().unwrap();
    assert_eq!(frame.pixels.len(), 1920 * 1080 * 3);
    let clock = clock_at(50 * MS);
    world.advance_to(clock.now_ns());
    assert!(camera.newest().unwrap().is_none());
    world.advance_to(101 * MS);
    assert!(camera.newest().unwrap().is_some());
}
