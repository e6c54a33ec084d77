//! Perception: frames and joints → observation.
//!
//! | | |
//! |---|---|
//! | in | cameras, `joints`, `task`; of a simulated cell the oracle |
//! | out | `frame/{view}`, `obs`, `verdict`, `alive/perception` with its fitness, `event` when a picture changes at once |
//! | period | a third of the fastest camera's |
//! | clock | the guard's; of another host mapped to it (`offset`) |
//! | fails safe | a camera that cannot be believed ([`fitness`]), or views without a common moment, make perception unfit: the guard holds |

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_cell::camera::Camera;
use vlad_cell::description::{Arm, Mount, RobotDescription};
use vlad_cell::oracle::Oracle;
use vlad_wire::clock::{MS, SharedClock};
use vlad_wire::id::{CellId, Role, View};
use vlad_wire::msg::health::{Fitness, Severity};
use vlad_wire::msg::sense::{Frame, JointState, Observation, ObservationHead};
use vlad_wire::msg::task::{ActiveTask, TaskNow, Verdict};
use vlad_wire::robot_type::SlotMap;
use vlad_wire::stream::{Frames, Joints, Observations, Tasks, Verdicts};
use vlad_wire::text::Note;

use crate::herald::{Herald, Saying};
use crate::pulse::{Condition, Pulse};
use crate::role::{Core, CoreError};

use change::Change;
use fitness::{Counts, Rules, Sight};
use offset::Offset;
use picture::Exposure;

mod change;
pub mod fitness;
mod offset;
pub mod picture;

/// Joint samples kept to find the one nearest to a capture: half a second at 240 Hz.
const JOINTS_KEPT: usize = 120;
/// Period of the oracle: the stream's 10 Hz.
const VERDICT_PERIOD_NS: u64 = 100 * MS;

/// Kind of the event that says that something appeared, vanished or jumped in a picture.
pub const SCENE_CHANGED: &str = "scene_changed";
/// Shortest time between two of them: a decision takes about as long, and a lamp may flicker.
const SAY_NS: u64 = 200 * MS;

/// A slower joint stands, rad/s: a camera half a metre behind it moves by a third of a millimetre a
/// frame.
const STILL: f64 = 0.02;
/// Periods between two frames from which on one between them was lost.
const LOST: f64 = 1.5;

/// Perception's settings: the table `perception`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptionConfig {
    /// Age at which a camera's newest frame makes perception unfit, milliseconds.
    pub stale_ms: u32,
    /// Largest difference between the captures of one observation, milliseconds. Views that are
    /// farther apart for half of `stale_ms` make perception unfit.
    pub skew_ms: u32,
    /// Repetitions of the very same pixels at which a camera counts as frozen.
    pub frozen_frames: u32,
    /// How far a joint that moves the picture must have moved meanwhile, milliradians; 0 for
    /// cameras whose sensors have noise.
    pub frozen_motion_mrad: u32,
    /// Black, white, plain or noisy frames in a row that make a camera unfit.
    pub blind_frames: u32,
    /// Mean brightness of a frame must lie above this, 0 to 255,
    pub luma_min: u8,
    /// and below this.
    pub luma_max: u8,
    /// The brightness' standard deviation must lie above this.
    pub contrast_min: u8,
    /// Least sudden difference of brightness in a part of a picture that is said as
    /// `scene_changed`, 0 to 255; 0 for never.
    pub change_luma: u8,
}

impl PerceptionConfig {
    /// Lists what is wrong, as field and problem.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if !(20..=5000).contains(&self.stale_ms) {
            faults.push(("stale_ms", "must lie in 20 to 5000"));
        }
        if !(1..=1000).contains(&self.skew_ms) {
            faults.push(("skew_ms", "must lie in 1 to 1000"));
        }
        if !(1..=1000).contains(&self.frozen_frames) {
            faults.push(("frozen_frames", "must lie in 1 to 1000"));
        }
        if 1000 < self.frozen_motion_mrad {
            faults.push(("frozen_motion_mrad", "must lie in 0 to 1000"));
        }
        if !(1..=30).contains(&self.blind_frames) {
            faults.push(("blind_frames", "must lie in 1 to 30"));
        }
        if self.luma_max <= self.luma_min {
            faults.push(("luma_max", "must lie above luma_min"));
        }
        if 100 < self.contrast_min {
            faults.push(("contrast_min", "must lie in 0 to 100"));
        }
        faults
    }

    fn stale_ns(&self) -> u64 {
        u64::from(self.stale_ms) * MS
    }

    fn rules(&self) -> Rules {
        Rules {
            stale_ns: self.stale_ns(),
            frozen_frames: self.frozen_frames,
            frozen_motion_rad: f64::from(self.frozen_motion_mrad) * 1e-3,
            blind_frames: self.blind_frames,
            exposure: self.exposure(),
        }
    }

    /// What a frame must show to be of use.
    pub fn exposure(&self) -> Exposure {
        Exposure {
            luma_min: self.luma_min,
            luma_max: self.luma_max,
            contrast_min: self.contrast_min,
        }
    }
}

/// Everything that one cell's perception is made from.
pub struct PerceptionParts {
    /// The cell.
    pub cell: CellId,
    /// Its cameras, in the prompt's order.
    pub cameras: Vec<Box<dyn Camera>>,
    /// The scene's oracle, of a simulated cell.
    pub oracle: Option<Box<dyn Oracle>>,
    /// Its robot: the slots of the state, and which joints move which camera.
    pub robot: RobotDescription,
    /// Settings.
    pub config: PerceptionConfig,
    /// Differs from start to start.
    pub session: u64,
}

struct Eye {
    camera: Box<dyn Camera>,
    publisher: Publisher<Frames>,
    newest: Option<Frame>,
    sight: Sight,
    change: Change,
    /// Degrees of freedom whose motion changes the picture.
    dofs: Vec<usize>,
    /// Whether it rides on an arm, whose motion changes all of it.
    rides: bool,
}

/// One cell's perception.
pub struct Perception {
    cell: CellId,
    eyes: Vec<Eye>,
    oracle: Option<Box<dyn Oracle>>,
    slots: SlotMap,
    config: PerceptionConfig,
    pulse: Pulse,
    herald: Herald,
    /// The camera of a change that is still to be said.
    changed: Option<View>,
    say_again_ns: u64,
    joints: Subscriber<Joints>,
    recent: VecDeque<JointState>,
    clock: SharedClock,
    offset: Offset,
    tasks: Subscriber<Tasks>,
    task: Option<ActiveTask>,
    observations: Publisher<Observations>,
    verdicts: Publisher<Verdicts>,
    seq: u64,
    last_captured_ns: u64,
    skewed_since_ns: Option<u64>,
    next_verdict_ns: u64,
    was_fit: bool,
}

impl Perception {
    /// Opens the streams of one cell.
    ///
    /// # Errors
    /// [`BusError`] if the bus refuses.
    pub fn new(bus: &Bus, clock: &SharedClock, parts: PerceptionParts) -> Result<Self, BusError> {
        let PerceptionParts {
            cell,
            cameras,
            oracle,
            robot,
            config,
            session,
        } = parts;
        let mut eyes = Vec::with_capacity(cameras.len());
        for camera in cameras {
            let publisher = bus.publisher(&cell, camera.info().view.as_str())?;
            let described = robot.cameras().iter();
            let described = described.filter(|other| other.view == camera.info().view);
            let pinned = described.clone().find_map(|other| other.serial.clone());
            let mount = described.map(|other| &other.mount).next();
            let mount = mount.unwrap_or(&Mount::World);
            eyes.push(Eye {
                sight: Sight::new(config.rules(), pinned),
                change: Change::new(config.change_luma),
                dofs: dofs_before(&robot, mount),
                rides: matches!(mount, Mount::Arm(_)),
                camera,
                publisher,
                newest: None,
            });
        }
        Ok(Self {
            eyes,
            oracle,
            slots: robot.slots().clone(),
            config,
            pulse: Pulse::new(bus, &cell, Role::Perception, session)?,
            herald: Herald::new(bus, &cell, Role::Perception, clock)?,
            changed: None,
            say_again_ns: 0,
            joints: bus.subscriber(&cell, "", None)?,
            recent: VecDeque::new(),
            clock: clock.clone(),
            offset: Offset::default(),
            tasks: bus.subscriber(&cell, "", None)?,
            task: None,
            observations: bus.publisher(&cell, "")?,
            verdicts: bus.publisher(&cell, "")?,
            seq: 0,
            last_captured_ns: 0,
            skewed_since_ns: None,
            next_verdict_ns: 0,
            was_fit: true,
            cell,
        })
    }

    fn take_inputs(&mut self) {
        while let Some(joints) = self.joints.try_next() {
            // Read after it came: a bound must not lie before its cause.
            let arrived_ns = self.clock.now_ns();
            self.offset
                .heard(joints.sampled_at_ns, joints.echo, arrived_ns);
            if JOINTS_KEPT <= self.recent.len() {
                self.recent.pop_front();
            }
            self.recent.push_back(joints);
        }
        while let Some(TaskNow { task, .. }) = self.tasks.try_next() {
            self.task = task;
        }
    }

    fn look(&mut self, now_ns: u64) {
        for eye in &mut self.eyes {
            match eye.camera.newest() {
                Ok(Some(mut frame)) => {
                    let captured_ns = &mut frame.head.captured_at_ns;
                    *captured_ns = self.offset.to_guard(*captured_ns);
                    if eye.take(frame, &self.recent) {
                        self.changed = Some(eye.camera.info().view.clone());
                    }
                }
                Ok(None) => {}
                Err(error) => eye.sight.failed(error.to_string()),
            }
        }
        let Some(view) = self.changed.take_if(|_| self.say_again_ns <= now_ns) else {
            return;
        };
        self.say_again_ns = now_ns + SAY_NS;
        let saying = Saying {
            text: &format!("something appeared, vanished or jumped before camera {view}"),
            task: self.task.as_ref().map(|task| task.id),
            ..Saying::default()
        };
        self.herald.say(Severity::Info, SCENE_CHANGED, &saying);
    }

    /// Earliest and latest capture of the newest frames; 0 for a camera without one.
    fn captures(&self) -> (u64, u64) {
        let captures = || self.eyes.iter().map(|eye| captured_at(eye).unwrap_or(0));
        (captures().min().unwrap_or(0), captures().max().unwrap_or(0))
    }

    /// Publishes an observation when every view has a frame since the last one.
    fn observe(&mut self, now_ns: u64) {
        let (earliest_ns, latest_ns) = self.captures();
        if u64::from(self.config.skew_ms) * MS < latest_ns - earliest_ns {
            self.skewed_since_ns.get_or_insert(now_ns);
            return;
        }
        self.skewed_since_ns = None;
        if earliest_ns <= self.last_captured_ns {
            return;
        }
        let Some(joints) = nearest(&self.recent, earliest_ns) else {
            return;
        };
        self.last_captured_ns = earliest_ns;
        self.seq += 1;
        let frames: Vec<_> = self
            .eyes
            .iter()
            .filter_map(|eye| eye.newest.as_ref())
            .collect();
        let head = ObservationHead {
            seq: self.seq,
            tick: joints.tick,
            captured_at_ns: earliest_ns,
            views: frames.iter().map(|frame| frame.head.clone()).collect(),
            state: self.slots.to_slots(&joints.position),
            state_at_ns: joints.sampled_at_ns,
            truth: self.oracle.as_mut().map(|oracle| oracle.truth()),
        };
        let images = frames.iter().map(|frame| frame.pixels.clone()).collect();
        debug!(cell = %self.cell, task = self.task.as_ref().map(|task| task.id.to_string()),
            obs = self.seq, tick = head.tick, "observation");
        self.observations.put(&Observation { head, images });
    }

    fn judge(&mut self, now_ns: u64) {
        let (Some(oracle), Some(task)) = (&mut self.oracle, &self.task) else {
            return;
        };
        if now_ns < self.next_verdict_ns {
            return;
        }
        self.next_verdict_ns = (self.next_verdict_ns + VERDICT_PERIOD_NS).max(now_ns);
        let judgement = oracle.judge(&task.instruction);
        self.verdicts.put(&Verdict {
            task: task.id,
            attempt: task.attempt,
            outcome: judgement.outcome,
            reason: judgement.reason,
            judged_at_ns: now_ns,
            tick: self.recent.back().map_or(0, |joints| joints.tick),
        });
    }

    /// What keeps frames and joints from being joined, if something does.
    fn join_fault(&self, now_ns: u64) -> Option<String> {
        let stale_ns = self.config.stale_ns();
        let stale = |at_ns: u64| stale_ns < now_ns.saturating_sub(at_ns);
        let skewed = |since_ns: u64| stale_ns / 2 < now_ns.saturating_sub(since_ns);
        match self.recent.back() {
            None => Some("no joints yet".to_owned()),
            Some(joints) if stale(joints.sampled_at_ns) => Some("the joints are stale".to_owned()),
            Some(_) if self.skewed_since_ns.is_some_and(skewed) => {
                let skew_ms = self.config.skew_ms;
                let last = self.eyes.iter().min_by_key(|eye| captured_at(eye))?;
                let view = &last.camera.info().view;
                Some(format!(
                    "camera {view} is more than {skew_ms} ms behind another view"
                ))
            }
            Some(_) if stale(self.last_captured_ns) => {
                Some("the views have no moment in common within perception.skew_ms".to_owned())
            }
            Some(_) => None,
        }
    }

    fn fitness(&mut self, now_ns: u64) -> Fitness {
        let of_eye = |eye: &Eye| {
            let fault = eye.sight.fault(now_ns)?;
            Some(format!("camera {} {fault}", eye.camera.info().view))
        };
        let fault = self.eyes.iter().find_map(of_eye);
        let fault = fault.or_else(|| self.offset.fault());
        let fault = fault.or_else(|| self.join_fault(now_ns));
        match (&fault, self.was_fit) {
            (Some(fault), true) => warn!(cell = %self.cell, fault, counts = ?self.counts(),
                "perception is unfit"),
            (None, false) => info!(cell = %self.cell, counts = ?self.counts(),
                "perception is fit again"),
            _ => {}
        }
        self.was_fit = fault.is_none();
        fault.map_or(Fitness::Fit, |text| Fitness::Unfit(Note::cleaned(&text)))
    }

    /// What came of each camera, in the prompt's order.
    pub fn counts(&self) -> Vec<Counts> {
        self.eyes.iter().map(|eye| eye.sight.counts()).collect()
    }
}

impl Eye {
    /// Judges a frame; what may be used is published and kept. Says whether it changed at once.
    fn take(&mut self, frame: Frame, recent: &VecDeque<JointState>) -> bool {
        let joints = nearest(recent, frame.head.captured_at_ns);
        let position = joints.map_or(&[][..], |joints| &joints.position);
        let picked = self.dofs.iter().filter_map(|dof| position.get(*dof));
        let picked: Vec<f64> = picked.copied().collect();
        let moves = |joints: &JointState| {
            let mut speeds = self.dofs.iter().filter_map(|dof| joints.velocity.get(*dof));
            speeds.any(|speed| STILL < speed.abs())
        };
        let rides = self.rides && joints.is_none_or(moves);
        let info = self.camera.info();
        if !self.sight.see(&frame, self.newest.as_ref(), info, &picked) {
            return false;
        }
        self.publisher.put(&frame);
        let size = (frame.head.width.into(), frame.head.height.into());
        let changed = self.change.see(&frame.pixels, size);
        // Behind a frame that was lost, motion looks like a jump.
        let next = self.newest.as_ref().is_some_and(|before| {
            let apart_ns = frame.head.captured_at_ns - before.head.captured_at_ns;
            Duration::from_nanos(apart_ns).as_secs_f64() * info.rate_hz < LOST
        });
        self.newest = Some(frame);
        changed && next && !rides
    }
}

impl Core for Perception {
    fn step(&mut self, local_ns: u64) -> Result<(), CoreError> {
        self.take_inputs();
        // All that follows is on the guard's clock, but for the heartbeat's own.
        let now_ns = self.offset.to_guard(local_ns);
        // A stamp that cannot be told on the guard's clock would be remembered as the newest.
        if self.offset.ready() {
            self.look(now_ns);
            self.observe(now_ns);
            self.judge(now_ns);
        }
        let fitness = self.fitness(now_ns);
        let condition = Condition {
            fitness,
            ..Condition::fit()
        };
        if let Some(challenge) = self.pulse.beat(&condition, local_ns) {
            self.offset.sent(challenge, local_ns);
        }
        Ok(())
    }
}

fn captured_at(eye: &Eye) -> Option<u64> {
    eye.newest.as_ref().map(|frame| frame.head.captured_at_ns)
}

/// The joints whose motion changes what a camera sees: of one on a hand, its arm's.
fn dofs_before(robot: &RobotDescription, mount: &Mount) -> Vec<usize> {
    let moves = |arm: &&Arm| match mount {
        Mount::World => true,
        Mount::Arm(name) => arm.name == *name,
    };
    let arms = robot.arms().iter().filter(moves);
    arms.flat_map(|arm| arm.first_dof..arm.gripper_dof())
        .collect()
}

/// The joint sample nearest in time to a capture.
fn nearest(recent: &VecDeque<JointState>, at_ns: u64) -> Option<&JointState> {
    let distance = |joints: &&JointState| joints.sampled_at_ns.abs_diff(at_ns);
    recent.iter().min_by_key(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let good = PerceptionConfig {
            stale_ms: 200,
            skew_ms: 50,
            frozen_frames: 5,
            frozen_motion_mrad: 0,
            blind_frames: 3,
            luma_min: 5,
            luma_max: 250,
            contrast_min: 3,
            change_luma: 20,
        };
        assert!(good.faults().is_empty());
        let bad = PerceptionConfig {
            stale_ms: 0,
            skew_ms: 0,
            frozen_frames: 0,
            frozen_motion_mrad: 1001,
            blind_frames: 0,
            luma_min: 5,
            luma_max: 5,
            contrast_min: 101,
            change_luma: 0,
        };
        assert_eq!(bad.faults().len(), 7);
    }
}
