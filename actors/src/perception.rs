//! Perception: frames and joints → observation.
//!
//! | | |
//! |---|---|
//! | in | cameras, `joints`, `task`; of a simulated cell the oracle |
//! | out | `frame/{view}`, `obs`, `verdict`, `alive/perception` with its fitness |
//! | period | a third of the fastest camera's |
//! | fails safe | a camera that fails or grows stale makes perception unfit: the guard holds |

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_cell::camera::Camera;
use vlad_cell::oracle::Oracle;
use vlad_wire::clock::MS;
use vlad_wire::id::{CellId, Role};
use vlad_wire::msg::health::Fitness;
use vlad_wire::msg::sense::{Frame, JointState, Observation, ObservationHead};
use vlad_wire::msg::task::{ActiveTask, TaskNow, Verdict};
use vlad_wire::robot_type::SlotMap;
use vlad_wire::stream::{Frames, Joints, Observations, Tasks, Verdicts};
use vlad_wire::text::Note;

use crate::pulse::{Condition, Pulse};
use crate::role::{Core, CoreError};

/// Joint samples kept to find the one nearest to a capture: half a second at 240 Hz.
const JOINTS_KEPT: usize = 120;
/// Period of the oracle: the stream's 10 Hz.
const VERDICT_PERIOD_NS: u64 = 100 * MS;

/// Kind of the event that says that the scene changed; the expert listens for it.
pub const SCENE_CHANGED: &str = "scene_changed";

/// Perception's settings: the table `perception`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptionConfig {
    /// Age at which a camera's newest frame makes perception unfit, milliseconds.
    pub stale_ms: u32,
    /// Largest difference between the captures of one observation, milliseconds.
    pub skew_ms: u32,
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
        faults
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
    /// Slots of the state.
    pub slots: SlotMap,
    /// Settings.
    pub config: PerceptionConfig,
    /// Differs from start to start.
    pub session: u64,
}

struct Eye {
    camera: Box<dyn Camera>,
    publisher: Publisher<Frames>,
    newest: Option<Frame>,
    failure: Option<String>,
}

/// One cell's perception.
pub struct Perception {
    cell: CellId,
    eyes: Vec<Eye>,
    oracle: Option<Box<dyn Oracle>>,
    slots: SlotMap,
    config: PerceptionConfig,
    pulse: Pulse,
    joints: Subscriber<Joints>,
    recent: VecDeque<JointState>,
    tasks: Subscriber<Tasks>,
    task: Option<ActiveTask>,
    observations: Publisher<Observations>,
    verdicts: Publisher<Verdicts>,
    seq: u64,
    last_captured_ns: u64,
    next_verdict_ns: u64,
    was_fit: bool,
}

impl Perception {
    /// Opens the streams of one cell.
    ///
    /// # Errors
    /// [`BusError`] if the bus refuses.
    pub fn new(bus: &Bus, parts: PerceptionParts) -> Result<Self, BusError> {
        let PerceptionParts {
            cell,
            cameras,
            oracle,
            slots,
            config,
            session,
        } = parts;
        let mut eyes = Vec::with_capacity(cameras.len());
        for camera in cameras {
            let publisher = bus.publisher(&cell, camera.info().view.as_str())?;
            eyes.push(Eye {
                camera,
                publisher,
                newest: None,
                failure: None,
            });
        }
        Ok(Self {
            eyes,
            oracle,
            slots,
            config,
            pulse: Pulse::new(bus, &cell, Role::Perception, session)?,
            joints: bus.subscriber(&cell, "", None)?,
            recent: VecDeque::new(),
            tasks: bus.subscriber(&cell, "", None)?,
            task: None,
            observations: bus.publisher(&cell, "")?,
            verdicts: bus.publisher(&cell, "")?,
            seq: 0,
            last_captured_ns: 0,
            next_verdict_ns: 0,
            was_fit: true,
            cell,
        })
    }

    fn take_inputs(&mut self) {
        while let Some(joints) = self.joints.try_next() {
            if JOINTS_KEPT <= self.recent.len() {
                self.recent.pop_front();
            }
            self.recent.push_back(joints);
        }
        while let Some(TaskNow { task, .. }) = self.tasks.try_next() {
            self.task = task;
        }
    }

    fn look(&mut self) {
        for eye in &mut self.eyes {
            match eye.camera.newest() {
                Ok(Some(frame)) => {
                    eye.publisher.put(&frame);
                    eye.newest = Some(frame);
                    eye.failure = None;
                }
                Ok(None) => {}
                Err(error) => eye.failure = Some(error.to_string()),
            }
        }
    }

    /// Publishes an observation when every view has a frame since the last one.
    fn observe(&mut self) {
        let captures = || self.eyes.iter().map(|eye| captured_at(eye).unwrap_or(0));
        let earliest_ns = captures().min().unwrap_or(0);
        let latest_ns = captures().max().unwrap_or(0);
        let skew_ns = u64::from(self.config.skew_ms) * MS;
        if earliest_ns <= self.last_captured_ns || skew_ns < latest_ns - earliest_ns {
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
    fn join_fault(&self, now_ns: u64, stale_ns: u64) -> Option<&'static str> {
        let stale = |at_ns: u64| stale_ns < now_ns.saturating_sub(at_ns);
        match self.recent.back() {
            None => Some("no joints yet"),
            Some(joints) if stale(joints.sampled_at_ns) => Some("the joints are stale"),
            Some(_) if stale(self.last_captured_ns) => {
                Some("the views have no moment in common within perception.skew_ms")
            }
            Some(_) => None,
        }
    }

    fn fitness(&mut self, now_ns: u64) -> Fitness {
        let stale_ns = u64::from(self.config.stale_ms) * MS;
        let fault = self
            .eyes
            .iter()
            .find_map(|eye| fault(eye, now_ns, stale_ns))
            .or_else(|| self.join_fault(now_ns, stale_ns).map(str::to_owned));
        if self.was_fit && fault.is_some() {
            warn!(fault, "perception is unfit");
        }
        self.was_fit = fault.is_none();
        fault.map_or(Fitness::Fit, |text| Fitness::Unfit(Note::cleaned(&text)))
    }
}

impl Core for Perception {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        self.take_inputs();
        self.look();
        self.observe();
        self.judge(now_ns);
        let fitness = self.fitness(now_ns);
        self.pulse.beat(
            &Condition {
                fitness,
                ..Condition::fit()
            },
            now_ns,
        );
        Ok(())
    }
}

fn captured_at(eye: &Eye) -> Option<u64> {
    eye.newest.as_ref().map(|frame| frame.head.captured_at_ns)
}

fn fault(eye: &Eye, now_ns: u64, stale_ns: u64) -> Option<String> {
    let view = &eye.camera.info().view;
    if let Some(failure) = &eye.failure {
        return Some(format!("camera {view}: {failure}"));
    }
    match captured_at(eye) {
        None => Some(format!("camera {view} has given no frame yet")),
        Some(at_ns) if stale_ns < now_ns.saturating_sub(at_ns) => {
            Some(format!("camera {view} is stale"))
        }
        Some(_) => None,
    }
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
        };
        assert!(good.faults().is_empty());
        let bad = PerceptionConfig {
            stale_ms: 0,
            skew_ms: 0,
        };
        assert_eq!(bad.faults().len(), 2);
    }
}
