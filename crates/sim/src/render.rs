//! The renderer: a z-buffer with four samples a pixel, one directional light, shadows on the table.
//!
//! A picture is a function of the stage, the snapshot and the lens, bit for bit. It costs about two
//! milliseconds at 256×256 and grows with the number of pixels.

use vlad_safety::kinematics::{Pose, Vec3};

use crate::world::Snapshot;

pub mod mesh;
mod raster;
pub mod stage;

use raster::{Canvas, Corner, Paint, SAMPLES};
use stage::{Item, Stage};

/// Nothing nearer than this is drawn, metres: less than a fingertip before a wrist camera.
const NEAR_M: f32 = 0.01;

/// Where a camera is, and how it projects: x right, y down, z along the optical axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lens {
    /// The camera's frame in the cell.
    pub world_from_camera: Pose,
    /// Vertical field of view, radians.
    pub fov_y_rad: f64,
}

impl Lens {
    /// Gives column and row of a point in the cell on a picture of `width`×`height` pixels, or
    /// `None` if it lies behind the camera.
    pub fn project(&self, point_m: Vec3, width: u16, height: u16) -> Option<[f64; 2]> {
        let [x, y, z] = self.world_from_camera.inverse().apply(point_m);
        let focal = f64::from(height) / 2.0 / (self.fov_y_rad / 2.0).tan();
        (f64::from(NEAR_M) < z).then(|| {
            [
                f64::from(width) / 2.0 + focal * x / z,
                f64::from(height) / 2.0 + focal * y / z,
            ]
        })
    }
}

/// Draws pictures of one size; keeps its buffers between them.
pub struct Renderer {
    height: usize,
    canvas: Canvas,
    /// Vertices of the item at hand, in the camera's frame, with their brightness.
    corners: Vec<Corner>,
}

/// A rigid transform in f32: nine rows of the rotation, then the translation.
#[derive(Clone, Copy)]
struct View {
    rotation: [[f32; 3]; 3],
    position: [f32; 3],
}

impl View {
    fn new(pose: &Pose) -> Self {
        Self {
            rotation: pose.rotation.map(|row| row.map(|x| x as f32)),
            position: pose.position_m.map(|x| x as f32),
        }
    }

    fn apply(&self, point: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|i| inner(self.rotation[i], point) + self.position[i])
    }
}

impl Renderer {
    /// Makes a renderer for pictures of `width`×`height` pixels.
    pub fn new(width: u16, height: u16) -> Self {
        let (width, height) = (usize::from(width), usize::from(height));
        Self {
            height,
            canvas: Canvas::new(width, height),
            corners: Vec::new(),
        }
    }

    /// Draws the stage at a snapshot into `pixels`: 8-bit RGB, row-major.
    pub fn render(&mut self, stage: &Stage, at: &Snapshot, lens: &Lens, pixels: &mut Vec<u8>) {
        let focal = (self.height * SAMPLES) as f64 / 2.0 / (lens.fov_y_rad / 2.0).tan();
        self.canvas.clear(stage.sky(), focal as f32);
        let camera_from_world = lens.world_from_camera.inverse();
        for item in stage.items() {
            self.draw(stage, item, at, &camera_from_world);
        }
        for item in stage.items().iter().filter(|item| item.casts_shadow) {
            self.shade(stage, item, at, &camera_from_world);
        }
        self.canvas.resolve(pixels);
    }

    fn draw(&mut self, stage: &Stage, item: &Item, at: &Snapshot, camera_from_world: &Pose) {
        let world_from_item = item.pose(at);
        let camera_from_item = camera_from_world.then(&world_from_item);
        let view = View::new(&camera_from_item);
        // Light and eye in the item's frame: normals need no turning.
        let light = world_from_item.inverse().rotate(stage.light());
        let light = light.map(|x| x as f32);
        let up = world_from_item.inverse().rotate([0.0, 0.0, 1.0]);
        let up = up.map(|x| x as f32);
        let strongest = item.rgb.into_iter().fold(1, u8::max);
        let brightest = 255.0 / f32::from(strongest);
        let mesh = &stage.meshes()[item.mesh];
        self.corners.clear();
        self.corners.extend(mesh.corners.iter().map(|corner| {
            let lit = inner(corner.normal, light).max(0.0);
            // A little more from above than from below stands for the light of walls and ceiling.
            let sky = 0.5 + 0.5 * inner(corner.normal, up);
            Corner {
                at: view.apply(corner.at),
                bright: (0.44 + 0.20 * sky + 0.44 * lit).min(brightest),
            }
        }));
        let paint = if item.takes_shadow {
            Paint::Shadowed(item.rgb)
        } else {
            Paint::Plain(item.rgb)
        };
        for triangle in &mesh.triangles {
            let corners = triangle.map(|idx| self.corners[idx as usize]);
            if faces(&corners) {
                self.fill(&corners, paint);
            }
        }
    }

    /// Darkens where the table lies in an item's shadow: its triangles, thrown onto the table top.
    fn shade(&mut self, stage: &Stage, item: &Item, at: &Snapshot, camera_from_world: &Pose) {
        let world_from_item = item.pose(at);
        let view = View::new(camera_from_world);
        let item_view = View::new(&world_from_item);
        let light = stage.light().map(|x| x as f32);
        let table = stage.table_m() as f32;
        let mesh = &stage.meshes()[item.mesh];
        self.corners.clear();
        self.corners.extend(mesh.corners.iter().map(|corner| {
            let [x, y, z] = item_view.apply(corner.at);
            let along = (z - table).max(0.0) / light[2];
            let thrown = [x - light[0] * along, y - light[1] * along, table];
            Corner {
                at: view.apply(thrown),
                bright: 1.0,
            }
        }));
        let facing_light = world_from_item.inverse().rotate(stage.light());
        let facing_light = facing_light.map(|x| x as f32);
        for triangle in &mesh.triangles {
            // Half of the triangles throw the whole shadow.
            let normal = mesh.corners[triangle[0] as usize].normal;
            if 0.0 < inner(normal, facing_light) {
                let corners = triangle.map(|idx| self.corners[idx as usize]);
                self.fill(&corners, Paint::Shadow);
            }
        }
    }

    /// Cuts a triangle at the near plane and hands what is left to the canvas.
    fn fill(&mut self, corners: &[Corner; 3], paint: Paint) {
        if corners.iter().all(|corner| NEAR_M <= corner.at[2]) {
            self.canvas.fill(corners, paint);
            return;
        }
        let mut kept: [Corner; 4] = [corners[0]; 4];
        let mut n_kept = 0;
        for i in 0..3 {
            let (from, to) = (corners[i], corners[(i + 1) % 3]);
            let (inside, next_inside) = (NEAR_M <= from.at[2], NEAR_M <= to.at[2]);
            if inside {
                kept[n_kept] = from;
                n_kept += 1;
            }
            if inside != next_inside {
                kept[n_kept] = between(&from, &to);
                n_kept += 1;
            }
        }
        for i in 2..n_kept {
            self.canvas.fill(&[kept[0], kept[i - 1], kept[i]], paint);
        }
    }
}

/// The point of an edge on the near plane.
fn between(from: &Corner, to: &Corner) -> Corner {
    let part = (NEAR_M - from.at[2]) / (to.at[2] - from.at[2]);
    Corner {
        at: std::array::from_fn(|i| from.at[i] + (to.at[i] - from.at[i]) * part),
        bright: from.bright + (to.bright - from.bright) * part,
    }
}

fn inner(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Whether a triangle, counter-clockwise seen from outside, shows its outside to the camera.
fn faces([a, b, c]: &[Corner; 3]) -> bool {
    let off = |corner: &Corner| -> [f32; 3] { std::array::from_fn(|i| corner.at[i] - a.at[i]) };
    let ([ux, uy, uz], [vx, vy, vz]) = (off(b), off(c));
    let normal = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    inner(normal, a.at) < 0.0
}
