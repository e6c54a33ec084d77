//! F41 and F43 to F46: the robot, its encoders and its grippers.

use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::msg::command::{Pause, Rearm, Resume};
use vlad_wire::msg::execute::Executed;
use vlad_wire::stream::{PauseCommand, RearmCommand, ResumeCommand};

use super::finding::Finding;
use super::stage::{Stage, gripper};
use crate::rehearsal::holder::signature;
use crate::rehearsal::witness::Trouble;

/// A robot's failure must be known after so many servo periods.
const PERIODS_MAX: f64 = 3.0;
/// An encoder's jump: far more than any joint moves in a servo period.
const JUMP_RAD: f64 = 0.5;
/// After so long the robot is where a hand holds it.
const PUSHED_NS: u64 = 150 * MS;
/// The clamp is set once a policy tick, by what is measured then: rounding, and nothing else, is beyond it.
const GIVING_WAY_M: f64 = 1e-3;
/// How often the robot is moved by hand (F45).
const HANDS: u32 = 100;

/// F41: an encoder jumps, gives no number, or stands still.
pub(super) fn encoder_fails(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let cases = [
        (Trouble::Jump(JUMP_RAD), Reason::Implausible, PERIODS_MAX),
        (Trouble::NotANumber, Reason::RobotError, PERIODS_MAX),
        // What stands still is known by what it does not follow: E11 and its 50 ms.
        (Trouble::Stuck, Reason::FollowingError, f64::INFINITY),
    ];
    for (trouble, reason, periods) in cases {
        finding.add(fails(seed, trouble, &[reason], periods)?);
    }
    Ok(finding)
}

/// F44: the driver fails, is gone, or repeats an old state.
pub(super) fn driver_fails(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for trouble in [Trouble::Driver, Trouble::Disconnected, Trouble::OldState] {
        finding.add(fails(seed, trouble, &[Reason::RobotError], PERIODS_MAX)?);
    }
    Ok(finding)
}

fn fails(
    seed: u64,
    trouble: Trouble,
    reasons: &[Reason],
    periods_max: f64,
) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    stage.witness.tell(trouble);
    let before_ns = stage.now_ns();
    stage.wait_stop(SECOND)?;
    stage.pass(400 * MS)?;
    let periods = stage.detected_periods(before_ns, Mode::Stopping)?;
    if periods_max.is_finite() {
        stage.figure("servo periods until it stops", periods, periods_max);
    }
    let reason = stage.dispatcher.mode().map(|now| now.1);
    stage.demand(
        reason.is_some_and(|reason| reasons.contains(&reason)),
        || format!("{trouble:?} stops for {reason:?} instead of {reasons:?}"),
    );
    super::standard::judge_stop(&mut stage, Mode::Stopping, before_ns)?;
    stage.demand_motion();
    stage.witness.tell(Trouble::None);
    stage.wait_mode(Mode::Stopped, SECOND)?;
    stage.stays(Mode::Stopped)?;
    stage.recovers()?;
    stage.conclude()
}

/// F43: the vendor's controller stops the robot, and lets go of it again.
pub(super) fn vendor_stops(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    stage.witness.tell(Trouble::ProtectiveStop);
    let reason = stage.wait_mode(Mode::Estopped, SECOND)?;
    stage.demand(reason == Reason::VendorStop, || {
        format!("estopped for {reason}")
    });
    stage.stays(Mode::Estopped)?;
    stage.witness.tell(Trouble::None);
    stage.stays(Mode::Estopped)?;
    stage.resets()?;
    stage.recovers()?;
    stage.conclude()
}

/// F45: a hand moves the robot while it is paused and after a stop. A resume or rearm that names the pose
/// which was left is refused as long as the hand is there.
pub(super) fn moved_by_hand(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    let paused = stage.ask::<PauseCommand>(&Pause { by: signature() })?;
    stage.demand(paused.done, || format!("no pause: {}", paused.text));
    stage.wait_mode(Mode::Hold, SECOND)?;
    stage.pass(SECOND)?;
    let left = measured(&stage);
    let joints: Vec<usize> = (0..left.len())
        .filter(|dof| !stage.is_gripper(*dof))
        .collect();
    let tolerance_rad = stage.run.config.guard.pose_tolerance_deg.to_radians();
    let (mut moved_on, mut least) = (0_u32, f64::INFINITY);
    for (hand, joint) in (0..HANDS).zip(joints.iter().cycle()) {
        let side = if hand % 2 == 0 { 1.0 } else { -1.0 };
        let share = 1.1 + f64::from(hand) / f64::from(HANDS);
        let by_rad = side * tolerance_rad * share;
        stage.witness.tell(Trouble::Hand(*joint, by_rad));
        stage.pass(PUSHED_NS)?;
        least = least.min(apart(&measured(&stage), &left));
        let epoch = stage.next_epoch();
        let resumed = stage.ask::<ResumeCommand>(&Resume {
            epoch,
            by: signature(),
            expected_pose: left.clone(),
        })?;
        moved_on += u32::from(resumed.done);
    }
    stage.figure("resumes at another pose", f64::from(moved_on), 0.0);
    stage.demand(tolerance_rad < least, || {
        format!("a hand moved the robot by {least:.4} rad alone")
    });
    stage.witness.tell(Trouble::None);
    stage.pass(PUSHED_NS)?;
    let epoch = stage.next_epoch();
    let resumed = stage.ask::<ResumeCommand>(&Resume {
        epoch,
        by: signature(),
        expected_pose: left,
    })?;
    stage.demand(resumed.done, || {
        format!("no resume where it was left: {}", resumed.text)
    });
    stage.dispatcher.adopt(epoch);
    stage.wait_mode(Mode::Running, 5 * SECOND)?;
    rearm_elsewhere(&mut stage, 1.5 * tolerance_rad)?;
    stage.conclude()
}

fn rearm_elsewhere(stage: &mut Stage, by_rad: f64) -> anyhow::Result<()> {
    stage.witness.tell(Trouble::Driver);
    stage.wait_stop(SECOND)?;
    stage.witness.tell(Trouble::None);
    stage.wait_mode(Mode::Stopped, SECOND)?;
    stage.pass(SECOND)?;
    let left = measured(stage);
    for (trouble, done) in [(Trouble::Hand(0, by_rad), false), (Trouble::None, true)] {
        stage.witness.tell(trouble);
        stage.pass(PUSHED_NS)?;
        stage.persons_ns.push(stage.now_ns());
        let epoch = stage.next_epoch();
        let rearmed = stage.ask::<RearmCommand>(&Rearm {
            epoch,
            by: signature(),
            expected_pose: left.clone(),
        })?;
        stage.demand(rearmed.done == done, || {
            format!("{trouble:?}: rearmed {}, {}", rearmed.done, rearmed.text)
        });
    }
    Ok(())
}

/// Where the robot is, by its newest sample.
fn measured(stage: &Stage) -> Vec<f64> {
    newest(stage).map_or(Vec::new(), |tick| tick.measured.clone())
}

/// How far the farthest degree of freedom is from where it was.
fn apart(now: &[f64], then: &[f64]) -> f64 {
    let dofs = now.iter().zip(then);
    dofs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn newest(stage: &Stage) -> Option<&Executed> {
    stage.dispatcher.report().ticks().next_back()
}

/// F46: a gripper jams while it closes; then the robot stops. It is never told to squeeze more than its
/// description allows, and keeps its command through the stop.
pub(super) fn gripper_jams(seed: u64) -> anyhow::Result<Finding> {
    let mut stage = Stage::new(seed)?;
    stage.move_arms()?;
    let dof = gripper(&stage.run.config.robot);
    stage.witness.tell(Trouble::Jammed);
    // A relay over the table takes both grippers in hand.
    stage.pass(8 * SECOND)?;
    let squeeze_max = stage.squeeze_max();
    let of = |list: &[f64]| list.get(dof).copied().unwrap_or(0.0);
    let squeezed = stage.dispatcher.report().ticks();
    let squeezed = squeezed.map(|tick| of(&tick.measured) - of(&tick.command));
    let most = squeezed.fold(0.0, f64::max);
    stage.figure(
        "commanded beyond what is measured, m",
        most,
        squeeze_max + GIVING_WAY_M,
    );
    stage.demand(squeeze_max / 2.0 < most, || {
        format!("the jam is not felt: {most:.4} m of {squeeze_max:.4}")
    });
    let before = newest(&stage).map(|tick| of(&tick.command));
    stage.run.stepped.kill(vlad_wire::id::Role::Brain);
    stage.wait_stop(SECOND)?;
    stage.pass(2 * SECOND)?;
    let grip = newest(&stage).map(|tick| of(&tick.command));
    let opened = match (before, grip) {
        (Some(before), Some(grip)) => (grip - before).max(0.0),
        _ => f64::NAN,
    };
    stage.figure("a stop opens a gripper by, m", opened, 1e-3);
    stage.conclude()
}
