//! The point's motion against the oracle, the contracts of its drivers, episodes and verdicts.

use std::time::Duration;

use serde::Deserialize;
use vlad_cell::camera::Camera as _;
use vlad_cell::conformance::{check_camera, check_robot};
use vlad_cell::description::{RobotDescription, RobotToml};
use vlad_cell::oracle::Oracle as _;
use vlad_cell::robot::{Measured, Robot as _};
use vlad_wire::clock::{Clock as _, ManualClock};
use vlad_wire::msg::task::Outcome;
use vlad_wire::text::Instruction;

use super::episode::{EpisodePlan, TICKS_MAX};
use super::oracle::INSTRUCTION;
use super::*;
use crate::robot::SimRobot;

const ROBOT: &str = include_str!("../../../../config/robots/twogate.toml");
const GOLDEN: &str = include_str!("../../../../tests/fixtures/twogate/golden.json");

fn robot_toml() -> RobotToml {
    let file: toml::Table = ROBOT.parse().unwrap();
    file["robot"].clone().try_into().unwrap()
}

fn description() -> RobotDescription {
    RobotDescription::new(robot_toml()).unwrap()
}

fn world(seed: u64) -> TwoGateWorld {
    TwoGateWorld::new(&description(), seed, 0).unwrap()
}

/// A plan that starts on the line, whose goal jumps at the end of tick 30.
fn plan(jump_y_m: f64) -> EpisodePlan {
    EpisodePlan {
        seed: 0,
        start_y_m: 0.0,
        jump_tick: 30,
        jump_y_m,
    }
}

/// Commands a place and goes on by some steps.
fn drive(world: &TwoGateWorld, robot: &mut SimRobot, target: [f64; 2], n_steps: u32) {
    robot.command(&target).unwrap();
    world.advance_to(world.now_ns() + u64::from(n_steps) * STEP_NS);
}

/// Follows a line of places at 0.45 m/s, a command a tick; gives the ticks that it took.
fn follow(world: &TwoGateWorld, robot: &mut SimRobot, places: &[[f64; 2]]) -> u32 {
    let mut n_ticks = 0;
    let mut at = world.motion().0;
    for place in places {
        let away = (place[0] - at[0]).hypot(place[1] - at[1]);
        let n = (away / 0.015).ceil().max(1.0);
        for i in 1..=n as u32 {
            let part = f64::from(i) / n;
            let target = std::array::from_fn(|k| at[k] + (place[k] - at[k]) * part);
            drive(world, robot, target, STEPS_PER_TICK);
            n_ticks += 1;
        }
        at = *place;
    }
    n_ticks
}

fn judged(world: &TwoGateWorld, instruction: &str) -> (Outcome, String) {
    let instruction = Instruction::new(instruction).unwrap();
    let judgement = world.oracle().judge(&instruction);
    (judgement.outcome, judgement.reason.to_string())
}

/// Past both gates on the left side, to the goal at a height.
fn good_way(goal_y_m: f64) -> Vec<[f64; 2]> {
    vec![[0.3, 0.12], [1.2, 0.12], [1.6, goal_y_m]]
}

#[derive(Deserialize)]
struct Golden {
    course: Vec<Tick>,
}

#[derive(Deserialize)]
struct Tick {
    target: [f64; 2],
    p: [f64; 2],
    v: [f64; 2],
}

#[test]
fn the_point_moves_as_the_oracles_does() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let world = world(1);
    let mut robot = world.robot();
    let mut start = plan(0.0);
    start.start_y_m = 0.002;
    world.begin(start);
    assert_eq!(golden.course.len(), 12);
    for tick in &golden.course {
        drive(&world, &mut robot, tick.target, STEPS_PER_TICK);
        let (position, velocity) = world.motion();
        let mut measured = Measured::default();
        robot.read(&mut measured).unwrap();
        assert_eq!(measured.position, position);
        assert_eq!(measured.velocity, velocity);
        for axis in 0..2 {
            assert!((position[axis] - tick.p[axis]).abs() < 1e-12);
            assert!((velocity[axis] - tick.v[axis]).abs() < 1e-11);
        }
    }
}

#[test]
fn the_robot_keeps_the_contract() {
    let (world, clock) = (world(1), ManualClock::default());
    world.begin(plan(0.12));
    let mut wait = |time: Duration| {
        let until_ns = clock.now_ns() + u64::try_from(time.as_nanos()).unwrap();
        clock.advance_to(until_ns);
        world.advance_to(until_ns);
    };
    let found = check_robot(&mut world.robot(), &description(), &clock, &mut wait);
    assert_eq!(found, []);
}

#[test]
fn the_camera_keeps_the_contract() {
    let (world, clock) = (world(1), ManualClock::default());
    let mut wait = |time: Duration| {
        let until_ns = clock.now_ns() + u64::try_from(time.as_nanos()).unwrap();
        clock.advance_to(until_ns);
        world.advance_to(until_ns);
    };
    let mut cameras = world.cameras();
    assert_eq!(cameras.len(), 1);
    assert_eq!(check_camera(&mut cameras[0], &clock, &mut wait), []);
}

/// Also where nothing moves: a camera that stands still would be taken for a frozen one.
#[test]
fn no_two_frames_are_alike() {
    let world = world(1);
    let mut camera = world.cameras().remove(0);
    let mut last = None;
    for _ in 0..70 {
        world.advance_to(world.now_ns() + u64::from(STEPS_PER_TICK) * STEP_NS);
        let frame = camera.newest().unwrap().unwrap();
        let (low, high) = frame
            .pixels
            .iter()
            .fold((255, 0), |(l, h), p| (*p.min(&l), *p.max(&h)));
        assert!(30 < low && low + 100 < high, "{low} {high}");
        assert_ne!(last.as_ref(), Some(&frame.pixels));
        last = Some(frame.pixels);
    }
}

#[test]
fn the_picture_shows_where_the_point_is() {
    let world = world(1);
    let mut camera = world.cameras().remove(0);
    let mut bright = |p: [f64; 2]| {
        world.begin(EpisodePlan {
            start_y_m: p[1],
            ..plan(0.0)
        });
        let mut robot = world.robot();
        drive(&world, &mut robot, p, 300);
        let frame = camera.newest().unwrap().unwrap();
        let column = ((p[0] + 0.1) / 1.8 * 64.0) as usize;
        let row = (16.0 - p[1] / (1.8 / 64.0)) as usize;
        frame.pixels[(row * 64 + column) * 3 + 2]
    };
    assert!(200 < bright([0.75, 0.2]));
    assert!(200 < bright([0.2, -0.3]));
}

#[test]
fn a_way_past_both_gates_succeeds() {
    let world = world(1);
    world.begin(plan(0.12));
    let mut robot = world.robot();
    assert_eq!(judged(&world, INSTRUCTION).0, Outcome::Open);
    assert!(!world.episode().started());
    let n_ticks = follow(&world, &mut robot, &good_way(0.12));
    drive(&world, &mut robot, [1.6, 0.12], 300);
    let episode = world.episode();
    assert!(episode.succeeded() && episode.over());
    let done = episode.done_tick().unwrap();
    assert!(
        n_ticks <= done + 3 && done < n_ticks + 10,
        "{done} of {n_ticks}"
    );
    let (outcome, reason) = judged(&world, INSTRUCTION);
    assert_eq!(outcome, Outcome::Done, "{reason}");
}

#[test]
fn a_way_through_a_gate_is_lost_even_if_it_arrives() {
    for way in [
        vec![[1.6, 0.0]],
        vec![[0.2, 0.12], [0.75, 0.12], [1.0, 0.0], [1.6, 0.0]],
    ] {
        let world = world(1);
        world.begin(plan(0.0));
        let mut robot = world.robot();
        follow(&world, &mut robot, &way);
        drive(&world, &mut robot, [1.6, 0.0], 300);
        let episode = world.episode();
        assert!(episode.collided() && !episode.succeeded());
        assert!(episode.done_tick().is_some());
        assert_eq!(judged(&world, INSTRUCTION).0, Outcome::Lost);
    }
}

/// The point that stands still from the start on has not begun; one that stops on its way is late.
#[test]
fn an_episode_is_over_after_its_ticks() {
    let world = world(1);
    let mut robot = world.robot();
    let start = world.motion().0;
    drive(&world, &mut robot, start, 3 * TICKS_MAX * STEPS_PER_TICK);
    assert!(!world.episode().started());
    drive(
        &world,
        &mut robot,
        [0.2, 0.0],
        TICKS_MAX * STEPS_PER_TICK - 1,
    );
    assert!(!world.episode().over());
    assert_eq!(judged(&world, INSTRUCTION).0, Outcome::Open);
    drive(&world, &mut robot, [0.2, 0.0], 1);
    assert!(world.episode().over());
    assert_eq!(judged(&world, INSTRUCTION).0, Outcome::Lost);
}

/// The goal jumps at the end of its tick, counted from the first motion, and only once.
#[test]
fn the_goal_jumps_at_its_tick() {
    let world = world(1);
    world.begin(plan(-0.12));
    let mut robot = world.robot();
    let start = world.motion().0;
    drive(&world, &mut robot, start, 500);
    let goal = || world.oracle().truth()[0].pose.position_m;
    assert!(goal()[1].abs() < 1e-15);
    let mut rows = Vec::new();
    for tick in 0..40 {
        drive(&world, &mut robot, [0.001, 0.0], STEPS_PER_TICK);
        if world.episode().jumped() {
            rows.push(tick);
        }
    }
    assert_eq!(rows.first(), Some(&30));
    assert_eq!(rows.len(), 10);
    assert!((goal()[1] + 0.12).abs() < 1e-15 && (goal()[0] - 1.6).abs() < 1e-15);
}

/// Whoever parks the point after an episode gets the next one.
#[test]
fn back_at_the_start_the_next_episode_waits() {
    let world = world(7);
    let mut robot = world.robot();
    let first = *world.episode().plan();
    let goal = first.jump_y_m;
    follow(&world, &mut robot, &good_way(goal));
    drive(&world, &mut robot, [1.6, goal], 100);
    assert!(world.episode().over());
    follow(&world, &mut robot, &[[1.6, -0.3], [0.0, -0.3], [0.0, 0.0]]);
    drive(&world, &mut robot, [0.0, 0.0], 300);
    let episode = world.episode();
    assert!(!episode.started() && !episode.over() && !episode.collided());
    assert_eq!(episode.plan().seed, 8);
    assert_eq!(judged(&world, INSTRUCTION).0, Outcome::Open);
    drive(&world, &mut robot, [0.01, 0.0], 1);
    assert!(world.episode().started());
}

#[test]
fn other_instructions_are_refused_with_what_is_understood() {
    let world = world(1);
    let (outcome, reason) = judged(&world, "put the red block in the left tray");
    assert_eq!(outcome, Outcome::Lost);
    assert!(reason.contains(INSTRUCTION), "{reason}");
    assert_eq!(judged(&world, "Pass the Gates!").0, Outcome::Open);
}

#[test]
fn the_same_seed_is_the_same_episode() {
    let plans: Vec<_> = (0..200).map(EpisodePlan::from_seed).collect();
    assert_eq!(plans[3], EpisodePlan::from_seed(3));
    let ticks = plans.iter().map(|plan| plan.jump_tick);
    assert!(ticks.clone().all(|tick| (20..80).contains(&tick)));
    assert!(ticks.clone().min().unwrap() < 25 && 75 < ticks.max().unwrap());
    let left = plans.iter().filter(|plan| 0.0 < plan.jump_y_m).count();
    // Four standard deviations of 200 fair draws.
    assert!((72..=128).contains(&left), "{left}");
    let variance = plans.iter().map(|p| p.start_y_m.powi(2)).sum::<f64>() / 200.0;
    assert!((0.003..0.005).contains(&variance.sqrt()), "{variance}");
}

#[test]
fn steps_do_not_depend_on_how_they_are_asked_for() {
    let run = |hop_ns: u64| {
        let world = world(3);
        let mut robot = world.robot();
        robot.command(&[0.3, 0.1]).unwrap();
        for hop in 1..=1_000_000_000 / hop_ns {
            world.advance_to(hop * hop_ns);
        }
        (world.motion(), world.now_ns())
    };
    assert_eq!(run(1_000_000), run(250_000_000));
}

/// The field that must be named, and a wrong value.
type Change = (&'static str, fn(&mut RobotToml));

#[test]
fn robots_that_are_no_point_are_refused() {
    let changes: [Change; 5] = [
        ("axes", |r| {
            r.axes.pop();
        }),
        ("robot_type.width", |r| r.robot_type.width = 3),
        ("axes.x.slot", |r| {
            (r.axes[0].slot, r.axes[1].slot) = (1, 0);
        }),
        ("servo_hz", |r| r.servo_hz = 240.0),
        ("cameras.rate_hz", |r| r.cameras[0].rate_hz = 70.0),
    ];
    for (field, change) in changes {
        let mut toml = robot_toml();
        change(&mut toml);
        let robot = RobotDescription::new(toml).unwrap();
        let error = TwoGateWorld::new(&robot, 1, 0).err().unwrap();
        assert_eq!(error.field, field);
    }
}
