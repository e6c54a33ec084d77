//! The scripted policy on the demo cell.

use std::sync::Arc;

use vlad_cell::oracle::Oracle;
use vlad_motion::policy::{Policy, PolicyError};
use vlad_wire::msg::task::Outcome;

use super::runner::{Runner, Style};
use super::{robot, world};
use crate::policy::scripted::ScriptedPolicy;

/// Scenes of the ordinary run; long counts are the product's own runs.
const SCENES: u64 = 12;

fn instruction(seed: u64) -> String {
    let colour = ["red", "green", "blue", "yellow"][(seed % 4) as usize];
    let side = ["left", "right"][(seed / 4 % 2) as usize];
    format!("put the {colour} block in the {side} tray")
}

/// Runs every scene and gives how many were done, and their mean duration in seconds.
fn count(scenes: u64, seconds_max: f64, style: Style, held_open: bool) -> (u64, f64) {
    let description = robot();
    let (mut n_done, mut total_s) = (0, 0.0);
    for seed in 0..scenes {
        let mut runner = Runner::new(world(seed), &description);
        runner.style = style;
        runner.gripper_held_open = held_open;
        let outcomes = runner.run(&instruction(seed), seconds_max);
        let reason = outcomes.judgement.reason.as_str();
        if outcomes.judgement.outcome == Outcome::Done {
            n_done += 1;
            total_s += outcomes.seconds;
        } else {
            println!("seed {seed}: {reason}");
        }
        let [joint_rad, gripper_m] = outcomes.first_row;
        assert!(
            joint_rad <= 0.04 && gripper_m <= 0.02,
            "seed {seed}: {:?}",
            outcomes.first_row
        );
        assert!(
            outcomes.speed_part <= 0.61,
            "seed {seed}: {}",
            outcomes.speed_part
        );
    }
    let mean_s = total_s / n_done as f64;
    println!("{n_done} of {scenes} done, {mean_s:.2} s on average");
    (n_done, mean_s)
}

#[test]
fn it_puts_the_block_in_the_tray_in_every_scene() {
    assert_eq!(count(SCENES, 40.0, Style::Sync, false).0, SCENES);
}

#[test]
fn it_gets_there_when_chunks_are_replaced_on_the_way() {
    let style = Style::Naive {
        delay: 3,
        played: 12,
    };
    assert_eq!(count(4, 60.0, style, false).0, 4);
}

/// The grasp is by friction: without it nothing ever reaches a tray.
#[test]
fn nothing_reaches_a_tray_with_the_gripper_held_open() {
    assert_eq!(count(3, 15.0, Style::Sync, true).0, 0);
}

#[test]
fn tasks_follow_each_other_in_one_world() {
    let world = world(3);
    let mut runner = Runner::new(world, &robot());
    for instruction in [
        "put the red block in the left tray",
        "put the blue block in the left tray",
        "put the green block in the right tray",
        "put the red block in the right tray",
        "put the yellow block in the left tray",
    ] {
        let outcomes = runner.run(instruction, 40.0);
        assert_eq!(
            outcomes.judgement.outcome,
            Outcome::Done,
            "{instruction}: {}",
            outcomes.judgement.reason
        );
    }
}

#[test]
fn it_says_what_it_does_not_understand() {
    let mut runner = Runner::new(world(0), &robot());
    let error = runner.decide("fold the shirt").unwrap_err();
    let PolicyError::Decide(reason) = error else {
        panic!("{error}");
    };
    assert!(
        reason.contains("put the red|green|blue|yellow block"),
        "{reason}"
    );
}

#[test]
fn it_says_that_it_is_no_network() {
    let policy = ScriptedPolicy::new(Arc::clone(&robot())).unwrap();
    assert_eq!(policy.label().name.as_str(), "scripted");
    assert!(policy.label().note.as_str().contains("not a network"));
    assert_eq!(policy.model_hash().len(), 32);
}

#[test]
fn a_done_task_ends_at_home_and_stays_done() {
    let description = robot();
    let mut runner = Runner::new(world(6), &description);
    let text = "put the red block in the right tray";
    assert_eq!(runner.run(text, 30.0).judgement.outcome, Outcome::Done);
    for _ in 0..3 {
        assert_eq!(runner.run(text, 0.0).judgement.outcome, Outcome::Done);
    }
    let measured = runner.measured();
    for (dof, home) in description.home().iter().enumerate() {
        assert!((measured.position[dof] - home).abs() < 0.005, "dof {dof}");
        assert!(measured.velocity[dof].abs() < 1e-3, "dof {dof}");
    }
}

/// In mid-air for two seconds: the grip neither creeps nor trembles.
#[test]
fn a_held_block_is_held_still() {
    let world = world(6);
    let mut runner = Runner::new(world.clone(), &robot());
    let height = || world.oracle().truth()[0].pose.position_m[2];
    while height() < 0.80 {
        runner.run("put the red block in the left tray", 0.0);
    }
    let (before_m, before) = (height(), runner.measured());
    for _ in 0..480 {
        runner.stand();
        let now = runner.measured();
        for velocity in now.velocity {
            assert!(velocity.abs() < 2e-3, "{velocity}");
        }
    }
    assert!(
        (height() - before_m).abs() < 1e-3,
        "{before_m} then {}",
        height()
    );
    let creep = runner.measured().position[6] - before.position[6];
    assert!(creep.abs() < 5e-4, "{creep}");
}
