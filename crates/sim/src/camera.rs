//! The simulated cameras as perception sees them.
//!
//! A frame is rendered by the caller, from a copy of the poses: the world's lock is held for that
//! copy only. A camera gives a new frame when its period has passed in world time; its sequence
//! number counts periods since the world's start, so that a gap is a frame which nobody took.

use bytes::Bytes;
use vlad_cell::camera::{Camera, CameraError, CameraInfo};
use vlad_cell::description::{CameraToml, Mount};
use vlad_safety::kinematics::Pose;
use vlad_wire::msg::sense::{Frame, FrameHead};

use crate::render::{Lens, Renderer};
use crate::world::{SimWorld, Snapshot};

/// A simulated camera.
pub struct SimCamera {
    world: SimWorld,
    info: CameraInfo,
    /// Index of the hand's pose that carries it in a snapshot, or `None` for the cell.
    mount: Option<usize>,
    mount_from_camera: Pose,
    fov_y_rad: f64,
    start_ns: u64,
    last_seq: Option<u64>,
    snapshot: Snapshot,
    renderer: Renderer,
}

impl SimCamera {
    pub(crate) fn new(world: SimWorld, camera: &CameraToml) -> Self {
        let mount = match &camera.mount {
            Mount::World => None,
            Mount::Arm(name) => {
                let arms = world.description().arms();
                let arm_idx = arms.iter().position(|arm| arm.name == *name);
                arm_idx.map(|arm_idx| world.stage().hand(arm_idx))
            }
        };
        Self {
            info: CameraInfo {
                view: camera.view.clone(),
                width: camera.width,
                height: camera.height,
                rate_hz: camera.rate_hz,
                serial: Some(camera.view.clone()),
            },
            mount,
            mount_from_camera: camera.extrinsics.pose(),
            fov_y_rad: camera.fov_y_deg.to_radians(),
            start_ns: world.start_ns(),
            last_seq: None,
            snapshot: Snapshot::default(),
            renderer: Renderer::new(camera.width, camera.height),
            world,
        }
    }

    /// Where the camera is in a snapshot, and how it projects.
    pub fn lens(&self, snapshot: &Snapshot) -> Lens {
        let world_from_mount = self
            .mount
            .and_then(|idx| snapshot.poses.get(idx).copied())
            .unwrap_or(Pose::IDENTITY);
        Lens {
            world_from_camera: world_from_mount.then(&self.mount_from_camera),
            fov_y_rad: self.fov_y_rad,
        }
    }

    /// Number of whole periods from the world's start to `at_ns`.
    fn period(&self, at_ns: u64) -> u64 {
        let elapsed_s = at_ns.saturating_sub(self.start_ns) as f64 * 1e-9;
        // A nanosecond's grace: 1/30 s is no whole number of nanoseconds.
        (elapsed_s * self.info.rate_hz + 1e-6) as u64
    }
}

impl Camera for SimCamera {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn newest(&mut self) -> Result<Option<Frame>, CameraError> {
        let seq = self.period(self.world.now_ns());
        if Some(seq) <= self.last_seq {
            return Ok(None);
        }
        let mut snapshot = std::mem::take(&mut self.snapshot);
        self.world.snapshot_into(&mut snapshot);
        // The world may have gone on between the two looks; the stamp is the copy's.
        let seq = self.period(snapshot.at_ns);
        let lens = self.lens(&snapshot);
        let mut pixels = Vec::new();
        self.renderer
            .render(self.world.stage(), &snapshot, &lens, &mut pixels);
        let head = FrameHead {
            view: self.info.view.clone(),
            seq,
            captured_at_ns: snapshot.at_ns,
            width: self.info.width,
            height: self.info.height,
        };
        self.snapshot = snapshot;
        self.last_seq = Some(seq);
        Ok(Some(Frame {
            head,
            pixels: Bytes::from(pixels),
        }))
    }
}
