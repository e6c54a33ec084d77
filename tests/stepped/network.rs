//! The network, with random weights, through perception, brain, expert and guard.

use std::sync::{Arc, Mutex};

use vlad_actors::policy::cell_shape;
use vlad_actors::policy::xr0::setup::Setup;
use vlad_actors::policy::xr0::{Xr0Policy, preset};
use vlad_cell::description::RobotDescription;
use vlad_motion::policy::Policy;
use vlad_safety::mode::Mode;
use vlad_wire::msg::execute::Executed;

use vlad::rehearsal::dispatcher::{Dispatcher, Report};
use vlad::rehearsal::{Options, Run};

/// Virtual seconds: several chunks of one second.
const SECONDS: u64 = 8;
/// Least chunks in that time: each plays for a second, and is followed by a decision.
const CHUNKS_MIN: u64 = 5;
/// Farthest that the weights may send a joint from home, rad.
const NEAR_HOME_RAD: f64 = 0.1;

/// The network with its contexts as bytes, and by reference.
fn networks(robot: &RobotDescription) -> [Arc<dyn Policy>; 2] {
    static OPENED: Mutex<Option<[Arc<dyn Policy>; 2]>> = Mutex::new(None);
    let mut opened = OPENED.lock().unwrap();
    let policies = opened.get_or_insert_with(|| {
        let folder = std::env::temp_dir().join(format!("vlad-stepped-{}", std::process::id()));
        preset::ensure_tiny(robot, 1, &folder).unwrap();
        let policies = [false, true].map(|by_reference| -> Arc<dyn Policy> {
            let setup = Setup {
                by_reference,
                ..Setup::default()
            };
            Arc::new(Xr0Policy::open(&folder, &[cell_shape(robot)], setup).unwrap())
        });
        // Its files are mapped: they are read even without a name.
        std::fs::remove_dir_all(&folder).unwrap();
        policies
    });
    policies.clone()
}

fn network(robot: &RobotDescription) -> Arc<dyn Policy> {
    let [by_bytes, _] = networks(robot);
    by_bytes
}

fn referring(robot: &RobotDescription) -> Arc<dyn Policy> {
    let [_, by_reference] = networks(robot);
    by_reference
}

fn story(seed: u64) -> (Run, Report) {
    story_of(network, seed)
}

fn story_of(policy: fn(&RobotDescription) -> Arc<dyn Policy>, seed: u64) -> (Run, Report) {
    let options = Options {
        policy: Box::new(move |robot| Ok(policy(robot))),
        ..Options::default()
    };
    let mut run = Run::new(options).unwrap();
    let instruction = "put the red block in the left tray";
    let dispatcher = Dispatcher::new(&run, instruction, seed).unwrap();
    let report = dispatcher.run(&mut run, SECONDS).unwrap();
    (run, report)
}

/// Chunk after chunk is accepted, none is refused, and the arms keep moving near home.
#[test]
fn the_network_keeps_the_arms_wandering_near_home() {
    let (run, report) = story(5);
    let last = report.guards.last().unwrap();
    assert!(CHUNKS_MIN <= last.counters.accepted, "{:?}", last.counters);
    let refused = (
        last.counters.jumps,
        last.counters.not_finite,
        last.counters.stale,
    );
    assert_eq!(refused, (0, 0, 0));
    assert!(
        report
            .guards
            .iter()
            .all(|guard| guard.mode != Mode::Estopped)
    );
    let home = run.config.robot.home();
    let far = |tick: &Executed| {
        let ways = tick
            .command
            .iter()
            .zip(home)
            .map(|(at, home)| (at - home).abs());
        ways.fold(0.0, f64::max)
    };
    let farthest = report.ticks().map(far).fold(0.0, f64::max);
    assert!((0.005..NEAR_HOME_RAD).contains(&farthest), "{farthest}");
}

/// Same seed, same commands, same world, bit by bit: the network has no hidden state.
#[test]
fn two_runs_of_the_network_with_one_seed_are_identical() {
    let [(one, first), (other, second), (_, third)] = [7, 7, 8].map(story);
    assert_eq!(first.executed, second.executed);
    assert_eq!(first.guards, second.guards);
    assert_eq!(one.world.state_digest(), other.world.state_digest());
    assert_ne!(
        first.executed, third.executed,
        "another seed, another noise"
    );
}

/// A context that never leaves its process is the one that travels.
#[test]
fn a_run_with_contexts_by_reference_is_the_run_with_their_bytes() {
    let [(one, bytes), (other, referred)] = [network, referring].map(|how| story_of(how, 7));
    assert_eq!(bytes.executed, referred.executed);
    assert_eq!(bytes.guards, referred.guards);
    assert_eq!(one.world.state_digest(), other.world.state_digest());
}
