//! The oracle, asked about scenes that are made for the question.

use vlad_cell::oracle::Oracle;
use vlad_wire::clock::SECOND;
use vlad_wire::msg::task::Outcome;
use vlad_wire::text::Instruction;

use super::runner::Runner;
use super::{CELL, robot, world};
use crate::scene::Scene;
use crate::world::SimWorld;

fn said(text: &str) -> Instruction {
    text.parse().unwrap()
}

#[test]
fn a_block_on_the_table_leaves_the_task_open() {
    let judgement = world(1)
        .oracle()
        .judge(&said("put the red block in the left tray"));
    assert_eq!(judgement.outcome, Outcome::Open);
    assert_eq!(
        judgement.reason.as_str(),
        "the red block is not in the left tray"
    );
}

#[test]
fn an_instruction_of_another_world_is_lost_with_what_is_understood() {
    let judgement = world(1).oracle().judge(&said("make me a sandwich"));
    assert_eq!(judgement.outcome, Outcome::Lost);
    assert_eq!(
        judgement.reason.as_str(),
        "this scene understands: put the red|green|blue|yellow block in the left|right tray"
    );
}

/// The block is carried to the tray: open for as long as the hand holds it there, done afterwards.
#[test]
fn a_held_block_is_not_done_and_a_released_one_is() {
    let world = world(2);
    let mut runner = Runner::new(world.clone(), &robot());
    let left = said("put the blue block in the left tray");
    let mut held = 0;
    let mut outcome = Outcome::Open;
    runner.each_tick(move |oracle| {
        let judgement = oracle.judge(&left);
        if judgement.reason.as_str() == "a hand still holds the blue block" {
            assert_eq!(judgement.outcome, Outcome::Open);
            held += 1;
        }
        assert!(
            judgement.outcome != Outcome::Done || 0 < held,
            "done, but never held in the tray"
        );
        assert!(
            outcome != Outcome::Done || judgement.outcome == Outcome::Done,
            "done once, done for good"
        );
        outcome = judgement.outcome;
    });
    let outcomes = runner.run("put the blue block in the left tray", 30.0);
    assert_eq!(outcomes.judgement.outcome, Outcome::Done);
    let other = world
        .oracle()
        .judge(&said("put the blue block in the right tray"));
    assert_eq!(other.outcome, Outcome::Open);
}

/// A table that ends under the blocks' region: one of them falls.
#[test]
fn a_block_that_fell_off_the_table_is_lost() {
    let file: toml::Table = CELL.parse().unwrap();
    let mut toml = Scene::parse(file["scene"].clone()).unwrap().toml().clone();
    toml.blocks.truncate(1);
    // Its centre lies just on the edge, so that half of it and a push by gravity do the rest.
    let edge = toml.table.centre_m[0] + toml.table.size_m[0] / 2.0;
    toml.spawn.x_m = [edge - 0.0002, edge];
    toml.blocks[0].friction = 0.0;
    let scene = Scene::new(toml).unwrap();
    let world = SimWorld::new(&scene, &robot(), 1, 0).unwrap();
    let mut oracle = world.oracle();
    let red = said("put the red block in the left tray");
    assert_eq!(oracle.judge(&red).outcome, Outcome::Open);
    world.push_block(0, [1.0, 0.0, 0.0]);
    world.advance_to(2 * SECOND);
    let judgement = oracle.judge(&red);
    assert_eq!(judgement.outcome, Outcome::Lost);
    assert_eq!(
        judgement.reason.as_str(),
        "the red block fell off the table"
    );
}

#[test]
fn the_truth_names_every_object() {
    let truth = world(1).oracle().truth();
    let names: Vec<&str> = truth.iter().map(|object| object.name.as_str()).collect();
    let want = [
        "red_block",
        "green_block",
        "blue_block",
        "yellow_block",
        "left_tray",
        "right_tray",
    ];
    assert_eq!(names, want);
    assert_eq!(truth[4].kind.as_str(), "tray");
    assert_eq!(truth[4].label.as_str(), "left");
    assert!(0.0 < truth[4].pose.position_m[1]);
}
