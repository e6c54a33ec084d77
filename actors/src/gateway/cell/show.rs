//! How one cell is shown.

use vlad_safety::mode::Mode;
use vlad_wire::clock::SECOND;
use vlad_wire::id::{CellId, Role};
use vlad_wire::msg::execute::GuardState;
use vlad_wire::msg::health::{Alive, Fitness};
use vlad_wire::text::{Name, Note};

use super::CellGate;
use crate::gateway::ear::age_ms;
use crate::gateway::lease::Holding;
use crate::gateway::view::{CameraView, CellView, FrameView, JointView, RoleView};

/// Age at which a heartbeat is no longer fresh for people; not a safety function.
pub(super) const ALIVE_NS: u64 = SECOND;
/// How long a role that is gone is still shown.
const SHOWN_NS: u64 = 60 * SECOND;

impl CellGate {
    /// Gives the newest frame of each view.
    pub(in crate::gateway) fn frames(&self) -> Vec<(CellId, Name, FrameView)> {
        let frames = self.ear.frames.iter().map(|(view, frame)| {
            let shown = FrameView {
                head: frame.head.clone(),
                pixels: frame.pixels.clone(),
            };
            (self.spec.id.clone(), view.clone(), shown)
        });
        frames.collect()
    }

    /// Gives the cell as REST shows it.
    pub(in crate::gateway) fn view(&mut self, now_ns: u64) -> CellView {
        self.ear
            .alive
            .retain(|_, (_, at_ns)| now_ns.saturating_sub(*at_ns) < SHOWN_NS);
        let fresh = |guard: &&GuardState| now_ns.saturating_sub(guard.sent_at_ns) <= ALIVE_NS;
        let guard = self.ear.guard.as_ref().filter(fresh);
        let mut not_ready = self.not_warm(now_ns);
        if let Some(guard) =
            guard.filter(|guard| !matches!(guard.mode, Mode::Armed | Mode::Running | Mode::Hold))
        {
            not_ready.push(Note::cleaned(guard.reason.what_to_do()));
        }
        CellView {
            id: self.spec.id.clone(),
            robot: self.spec.robot.toml().name.clone(),
            simulated: self.spec.simulated,
            mode: guard.map(|guard| guard.mode),
            reason: guard.map(|guard| guard.reason),
            mode_age_ms: guard.map_or(0.0, |guard| age_ms(now_ns, guard.since_ns)),
            epoch: guard.map_or(0, |guard| guard.epoch),
            tick: guard.map_or(0, |guard| guard.tick),
            ticks_per_s: guard.map_or(0.0, |guard| guard.ticks_per_s),
            speed_limit: guard.map_or(1.0, |guard| guard.speed_limit),
            counters: guard.map(|guard| guard.counters).unwrap_or_default(),
            joints: self.joint_views(),
            eef: self
                .ear
                .joints
                .as_ref()
                .map(|joints| joints.eef.clone())
                .unwrap_or_default(),
            roles: self.role_views(now_ns),
            streams: self.ear.streams(now_ns),
            cameras: self.camera_views(),
            task: match &self.holding {
                Holding::Held(held) => Some(held.task.id),
                Holding::Granting { task, .. } | Holding::Releasing { task, .. } => Some(task.id),
                Holding::Free => None,
            },
            strategy: self.spec.strategy.clone(),
            not_ready,
            not_warm: self.not_warm(now_ns),
        }
    }

    fn joint_views(&self) -> Vec<JointView> {
        let Some(joints) = &self.ear.joints else {
            return Vec::new();
        };
        let values = joints
            .position
            .iter()
            .zip(&joints.velocity)
            .zip(&joints.commanded);
        let labelled = self.spec.robot.labels().iter().zip(values);
        labelled
            .map(|(label, ((position, velocity), commanded))| JointView {
                name: label.joint.clone(),
                unit: label.unit.clone(),
                position: *position,
                velocity: *velocity,
                commanded: *commanded,
            })
            .collect()
    }

    fn role_views(&self, now_ns: u64) -> Vec<RoleView> {
        let view = |(role, (alive, at_ns)): (&Role, &(Alive, u64))| RoleView {
            role: *role,
            alive: now_ns.saturating_sub(*at_ns) <= ALIVE_NS,
            unfit: match &alive.fitness {
                Fitness::Fit => None,
                Fitness::Unfit(why) => Some(why.clone()),
            },
            policy: alive.policy.clone(),
            version: alive.version.package.clone(),
            age_ms: age_ms(now_ns, *at_ns),
        };
        self.ear.alive.iter().map(view).collect()
    }

    fn camera_views(&self) -> Vec<CameraView> {
        let cameras = self.spec.robot.cameras().iter().map(|camera| CameraView {
            view: camera.view.clone(),
            width: camera.width,
            height: camera.height,
            rate_hz: camera.rate_hz,
        });
        cameras.collect()
    }
}
