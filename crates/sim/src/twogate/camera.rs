//! TwoGate from above, for people and to let frames flow: gates red, goal green, point white.
//!
//! Nothing is decided on its pixels. A mark on the lower edge moves with every frame, so that a
//! stuck camera can be told from a scene in which nothing moves.

use bytes::Bytes;
use vlad_cell::camera::{Camera, CameraError, CameraInfo};
use vlad_cell::description::CameraToml;
use vlad_wire::msg::sense::{Frame, FrameHead};

use super::{FIRST_GATE_M, GATE_RADIUS_M, GOAL_X_M, SECOND_GATE_M, STEP_HZ, TwoGateWorld};

/// What is seen along x, metres.
const SEEN_X_M: [f64; 2] = [-0.1, 1.7];
/// Drawn radius of the point, metres.
const POINT_M: f64 = 0.04;
/// Drawn radius of the goal, metres.
const GOAL_M: f64 = 0.06;

const FLOOR: [f64; 3] = [52.0, 58.0, 66.0];
const GATE: [f64; 3] = [214.0, 72.0, 60.0];
const GREEN: [f64; 3] = [70.0, 190.0, 96.0];
const WHITE: [f64; 3] = [246.0, 246.0, 240.0];

/// A disc of one colour.
struct Disc {
    centre_m: [f64; 2],
    radius_m: f64,
    colour: [f64; 3],
}

/// The camera above the scene.
pub struct TwoGateCamera {
    world: TwoGateWorld,
    info: CameraInfo,
    /// Steps of the world from frame to frame.
    period: u64,
    last_seq: Option<u64>,
}

impl TwoGateCamera {
    pub(super) fn new(world: TwoGateWorld, camera: &CameraToml) -> Self {
        Self {
            world,
            info: CameraInfo {
                view: camera.view.clone(),
                width: camera.width,
                height: camera.height,
                rate_hz: camera.rate_hz,
                serial: Some(camera.view.clone()),
            },
            period: (f64::from(STEP_HZ) / camera.rate_hz).round().max(1.0) as u64,
            last_seq: None,
        }
    }
}

impl Camera for TwoGateCamera {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn newest(&mut self) -> Result<Option<Frame>, CameraError> {
        let scene = self.world.lock();
        let seq = scene.n_periods() / self.period;
        if Some(seq) <= self.last_seq {
            return Ok(None);
        }
        let captured_at_ns = scene.now_ns();
        let discs = discs(scene.position_m(), scene.episode().goal_y_m());
        drop(scene);
        self.last_seq = Some(seq);
        let head = FrameHead {
            view: self.info.view.clone(),
            seq,
            captured_at_ns,
            width: self.info.width,
            height: self.info.height,
        };
        let pixels = Bytes::from(draw(&discs, &head));
        Ok(Some(Frame { head, pixels }))
    }
}

/// What is drawn, the nearest last.
fn discs(point_m: [f64; 2], goal_y_m: f64) -> [Disc; 4] {
    let disc = |centre_m, radius_m, colour| Disc {
        centre_m,
        radius_m,
        colour,
    };
    [
        disc(FIRST_GATE_M, GATE_RADIUS_M, GATE),
        disc(SECOND_GATE_M, GATE_RADIUS_M, GATE),
        disc([GOAL_X_M, goal_y_m], GOAL_M, GREEN),
        disc(point_m, POINT_M, WHITE),
    ]
}

fn draw(discs: &[Disc], head: &FrameHead) -> Vec<u8> {
    let (width, height) = (u32::from(head.width), u32::from(head.height));
    let pixel_m = (SEEN_X_M[1] - SEEN_X_M[0]) / f64::from(width);
    let mark = (head.seq % u64::from(width)) as u32;
    let mut pixels = Vec::with_capacity(head.n_bytes());
    for row in 0..height {
        let y = (f64::from(height) / 2.0 - f64::from(row) - 0.5) * pixel_m;
        for column in 0..width {
            let x = SEEN_X_M[0] + (f64::from(column) + 0.5) * pixel_m;
            let marked = row + 1 == height && column == mark;
            let colour = if marked {
                WHITE
            } else {
                colour_at([x, y], pixel_m, discs)
            };
            // Colours are positive: this rounds, without a call.
            pixels.extend(colour.map(|value| (value + 0.5) as u8));
        }
    }
    pixels
}

/// The colour of a pixel; edges are as soft as a pixel is wide, so that the slowest motion is seen.
fn colour_at([x, y]: [f64; 2], pixel_m: f64, discs: &[Disc]) -> [f64; 3] {
    discs.iter().fold(FLOOR, |under, disc| {
        let squares = (x - disc.centre_m[0]).powi(2) + (y - disc.centre_m[1]).powi(2);
        // Most pixels are far from most discs, and pictures are two fifths of a run in virtual time.
        if (disc.radius_m + pixel_m).powi(2) <= squares {
            return under;
        }
        let cover = (0.5 + (disc.radius_m - squares.sqrt()) / pixel_m).clamp(0.0, 1.0);
        std::array::from_fn(|i| under[i] + (disc.colour[i] - under[i]) * cover)
    })
}
