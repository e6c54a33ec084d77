//! The suite that a driver's author runs: does this driver keep the contract?
//!
//! Every check drives the device through its trait alone and gives a list of what it found; an
//! empty list is a pass. `wait` must let at least the given time of the device's clock go by: a
//! sleep for real devices, a step of the world for stepped ones. The robot must stand where it can
//! move each joint by a hundredth of a radian.

use std::time::Duration;

use vlad_wire::clock::Clock;

use crate::camera::Camera;
use crate::description::RobotDescription;
use crate::robot::{Measured, Robot};

/// Something that a driver does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule of the contract.
    pub rule: &'static str,
    /// What was seen.
    pub seen: String,
}

/// How far the suite moves a joint, radians (or metres of gripper opening times ten).
const NUDGE: f64 = 0.01;

/// Checks a robot's driver.
pub fn check_robot(
    robot: &mut dyn Robot,
    description: &RobotDescription,
    clock: &dyn Clock,
    wait: &mut dyn FnMut(Duration),
) -> Vec<Violation> {
    let mut found = Findings::default();
    found.demand(
        "n_dofs agrees with the description",
        robot.n_dofs() == description.n_dofs(),
        || format!("{} and {}", robot.n_dofs(), description.n_dofs()),
    );
    let mut first = blank(robot.n_dofs());
    if let Err(error) = robot.read(&mut first) {
        found.add("read gives a sample", error.to_string());
        return found.list;
    }
    check_sample(&first, robot.n_dofs(), clock, &mut found);
    check_stamps(robot, description, wait, &mut found);
    check_refusals(robot, &mut found);
    check_motion(robot, description, wait, &mut found);
    check_watchdog(robot, wait, &mut found);
    found.list
}

/// Checks a camera's driver.
pub fn check_camera(
    camera: &mut dyn Camera,
    clock: &dyn Clock,
    wait: &mut dyn FnMut(Duration),
) -> Vec<Violation> {
    let mut found = Findings::default();
    let info = camera.info().clone();
    let period = Duration::from_secs_f64(1.0 / info.rate_hz);
    let (mut last_seq, mut last_ns, mut n_frames) = (None, 0, 0_u32);
    for _ in 0..20 {
        wait(period);
        match camera.newest() {
            Err(error) => found.add("newest gives frames", error.to_string()),
            Ok(None) => {}
            Ok(Some(frame)) => {
                n_frames += 1;
                let head = &frame.head;
                let size_fits = (head.width, head.height) == (info.width, info.height)
                    && frame.pixels.len() == head.n_bytes();
                found.demand("frames have the promised size", size_fits, || {
                    format!("{head:?}")
                });
                found.demand("frames carry their view", head.view == info.view, || {
                    head.view.to_string()
                });
                let grows = last_seq < Some(head.seq) && last_ns < head.captured_at_ns;
                found.demand("sequence and stamp grow", grows, || format!("{head:?}"));
                let past = head.captured_at_ns <= clock.now_ns();
                found.demand("a capture lies in the past", past, || format!("{head:?}"));
                (last_seq, last_ns) = (Some(head.seq), head.captured_at_ns);
            }
        }
    }
    // Half of the promised rate: the suite's own waiting costs frames on a busy machine.
    found.demand("frames come at their rate", 10 <= n_frames, || {
        format!("{n_frames} of 20")
    });
    if let Ok(Some(frame)) = camera.newest() {
        let again = camera.newest().ok().flatten().map(|other| other.head.seq);
        let once = again != Some(frame.head.seq);
        found.demand("a frame is given once", once, || format!("{again:?}"));
    }
    found.list
}

#[derive(Default)]
struct Findings {
    list: Vec<Violation>,
}

impl Findings {
    fn add(&mut self, rule: &'static str, seen: String) {
        self.list.push(Violation { rule, seen });
    }

    fn demand(&mut self, rule: &'static str, holds: bool, seen: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, seen());
        }
    }
}

fn blank(n_dofs: usize) -> Measured {
    Measured {
        sampled_at_ns: 0,
        position: vec![0.0; n_dofs],
        velocity: vec![0.0; n_dofs],
    }
}

fn check_sample(sample: &Measured, n_dofs: usize, clock: &dyn Clock, found: &mut Findings) {
    let lengths_fit = sample.position.len() == n_dofs && sample.velocity.len() == n_dofs;
    found.demand("a sample has one value for each dof", lengths_fit, || {
        format!("{sample:?}")
    });
    let finite = sample
        .position
        .iter()
        .chain(&sample.velocity)
        .all(|x| x.is_finite());
    found.demand("a sample is finite", finite, || format!("{sample:?}"));
    let past = sample.sampled_at_ns <= clock.now_ns();
    found.demand("a sample lies in the past", past, || {
        format!("{}", sample.sampled_at_ns)
    });
}

fn check_stamps(
    robot: &mut dyn Robot,
    description: &RobotDescription,
    wait: &mut dyn FnMut(Duration),
    found: &mut Findings,
) {
    let period = Duration::from_secs_f64(1.0 / description.toml().servo_hz);
    let mut sample = blank(robot.n_dofs());
    let (mut last_ns, mut fresh) = (0, 0_u32);
    for _ in 0..50 {
        wait(period);
        if let Err(error) = robot.read(&mut sample) {
            found.add("read gives samples", error.to_string());
            return;
        }
        found.demand(
            "stamps never go back",
            last_ns <= sample.sampled_at_ns,
            || format!("{last_ns} then {}", sample.sampled_at_ns),
        );
        fresh += u32::from(last_ns < sample.sampled_at_ns);
        last_ns = sample.sampled_at_ns;
    }
    // A driver's clock and the suite's may beat against each other: one period in ten is allowed.
    found.demand("samples come at servo rate", 45 <= fresh, || {
        format!("{fresh} of 50")
    });
}

fn check_refusals(robot: &mut dyn Robot, found: &mut Findings) {
    let short = vec![0.0; robot.n_dofs().saturating_sub(1)];
    found.demand(
        "a command of wrong length is refused",
        robot.command(&short).is_err(),
        || "it was taken".to_owned(),
    );
    let mut sample = blank(robot.n_dofs());
    if robot.read(&mut sample).is_ok() {
        if let Some(first) = sample.position.first_mut() {
            *first = f64::NAN;
        }
        let refused = robot.command(&sample.position).is_err();
        found.demand("a command that is not finite is refused", refused, || {
            "it was taken".to_owned()
        });
    }
}

fn check_motion(
    robot: &mut dyn Robot,
    description: &RobotDescription,
    wait: &mut dyn FnMut(Duration),
    found: &mut Findings,
) {
    let period = Duration::from_secs_f64(1.0 / description.toml().servo_hz);
    let mut start = blank(robot.n_dofs());
    if robot.read(&mut start).is_err() {
        return;
    }
    let Some(target) = start.position.first().map(|first| first + NUDGE) else {
        return;
    };
    let mut command = start.position.clone();
    if let Some(first) = command.first_mut() {
        *first = target;
    }
    let mut sample = start.clone();
    for _ in 0..240 {
        if let Err(error) = robot.command(&command) {
            found.add("a legal command is taken", error.to_string());
            return;
        }
        wait(period);
        if robot.read(&mut sample).is_err() {
            return;
        }
    }
    let reached = sample
        .position
        .first()
        .is_some_and(|x| (x - target).abs() < NUDGE / 4.0);
    found.demand("the first joint follows its command", reached, || {
        format!("commanded {target}, measured {:?}", sample.position.first())
    });
    let moved = |(a, b): (&f64, &f64)| (a - b).abs() < NUDGE / 4.0;
    let others_still = sample
        .position
        .iter()
        .zip(&start.position)
        .skip(1)
        .all(moved);
    found.demand("no other joint moves", others_still, || {
        format!("{:?}", sample.position)
    });
}

fn check_watchdog(robot: &mut dyn Robot, wait: &mut dyn FnMut(Duration), found: &mut Findings) {
    let Some(watchdog) = robot.watchdog() else {
        return;
    };
    found.demand(
        "the watchdog acts within 200 ms",
        watchdog <= Duration::from_millis(200),
        || format!("{watchdog:?}"),
    );
    wait(watchdog * 4);
    let mut sample = blank(robot.n_dofs());
    if robot.read(&mut sample).is_ok() {
        let still = sample.velocity.iter().all(|speed| speed.abs() < 1e-3);
        found.demand("the robot stands when commands stop", still, || {
            format!("{:?}", sample.velocity)
        });
    }
}
