//! Triangle meshes: boxes, capsules and cylinders with their normals.
//!
//! Triangles are counter-clockwise seen from outside.

use std::f32::consts::{FRAC_PI_2, TAU};

use vlad_safety::kinematics::{Vec3, add, cross, norm, sub};

/// Corners around a capsule or cylinder: at 256 pixels its outline looks round.
const AROUND: u16 = 16;
/// Rings of half a sphere.
const RINGS: u16 = 3;

/// One vertex with its outward normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vertex {
    /// Position, metres.
    pub at: [f32; 3],
    /// Unit vector.
    pub normal: [f32; 3],
}

/// A mesh.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mesh {
    /// Its vertices.
    pub corners: Vec<Vertex>,
    /// Three indices of vertices each.
    pub triangles: Vec<[u32; 3]>,
}

impl Mesh {
    /// Gives a box with its own normals on each face.
    pub fn cuboid(centre_m: Vec3, size_m: Vec3) -> Self {
        let mut mesh = Self::default();
        for axis in 0..3 {
            for side in [-1.0_f32, 1.0] {
                let (next, last) = ((axis + 1) % 3, (axis + 2) % 3);
                let first = mesh.corners.len() as u32;
                for (u, v) in [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)] {
                    let mut unit = [0.0_f32; 3];
                    // Turning the walk around with the side keeps it counter-clockwise.
                    (unit[axis], unit[next], unit[last]) = (side, u * side, v);
                    let mut normal = [0.0; 3];
                    normal[axis] = side;
                    mesh.corners.push(Vertex {
                        at: std::array::from_fn(|i| {
                            centre_m[i] as f32 + unit[i] * size_m[i] as f32 / 2.0
                        }),
                        normal,
                    });
                }
                mesh.triangles.push([first, first + 1, first + 2]);
                mesh.triangles.push([first, first + 2, first + 3]);
            }
        }
        mesh
    }

    /// Drops the triangles whose first corner's normal is not wanted.
    pub fn keep_faces(&mut self, wanted: impl Fn([f32; 3]) -> bool) {
        let corners = &self.corners;
        self.triangles
            .retain(|[first, _, _]| wanted(corners[*first as usize].normal));
    }

    /// Gives a capsule around the segment from `from_m` to `to_m`.
    pub fn capsule(from_m: Vec3, to_m: Vec3, radius_m: f64) -> Self {
        let mut rows = Vec::new();
        for ring in 0..=RINGS {
            let angle = FRAC_PI_2 * f32::from(ring) / f32::from(RINGS);
            rows.push((0.0, -angle.cos(), angle.sin()));
        }
        for ring in (0..=RINGS).rev() {
            let angle = FRAC_PI_2 * f32::from(ring) / f32::from(RINGS);
            rows.push((1.0, angle.cos(), angle.sin()));
        }
        Self::turned(from_m, to_m, radius_m, &rows)
    }

    /// Gives a cylinder from `from_m` to `to_m` with flat ends.
    pub fn cylinder(from_m: Vec3, to_m: Vec3, radius_m: f64) -> Self {
        let mut mesh = Self::turned(from_m, to_m, radius_m, &[(0.0, 0.0, 1.0), (1.0, 0.0, 1.0)]);
        let (axis, _, _) = frame(from_m, to_m);
        for (end, first, side) in [(from_m, 0, -1.0), (to_m, u32::from(AROUND) + 1, 1.0)] {
            let normal = axis.map(|x| x * side);
            let centre = mesh.corners.len() as u32;
            mesh.corners.push(Vertex {
                at: end.map(|x| x as f32),
                normal,
            });
            for around in 0..=u32::from(AROUND) {
                let at = mesh.corners[(first + around) as usize].at;
                mesh.corners.push(Vertex { at, normal });
            }
            for around in 0..u32::from(AROUND) {
                let (a, b) = (centre + 1 + around, centre + 2 + around);
                let triangle = if side < 0.0 {
                    [centre, b, a]
                } else {
                    [centre, a, b]
                };
                mesh.triangles.push(triangle);
            }
        }
        mesh
    }

    /// Gives a surface of revolution. A row is: the end that it belongs to (0 or 1), its height
    /// above that end and its distance from the axis, both in radii of the rounding.
    fn turned(from_m: Vec3, to_m: Vec3, radius_m: f64, rows: &[(f32, f32, f32)]) -> Self {
        let (axis, side, other) = frame(from_m, to_m);
        let (from, to) = (from_m.map(|x| x as f32), to_m.map(|x| x as f32));
        let radius = radius_m as f32;
        let mut mesh = Self::default();
        for (end, high, wide) in rows {
            for around in 0..=AROUND {
                let (sin, cos) = (TAU * f32::from(around) / f32::from(AROUND)).sin_cos();
                let normal: [f32; 3] = std::array::from_fn(|i| {
                    axis[i] * high + (side[i] * cos + other[i] * sin) * wide
                });
                let at =
                    std::array::from_fn(|i| from[i] + (to[i] - from[i]) * end + normal[i] * radius);
                mesh.corners.push(Vertex { at, normal });
            }
        }
        let width = u32::from(AROUND) + 1;
        for row in 1..rows.len() as u32 {
            for around in 0..u32::from(AROUND) {
                let (low, high) = ((row - 1) * width + around, row * width + around);
                mesh.triangles.push([low, low + 1, high + 1]);
                mesh.triangles.push([low, high + 1, high]);
            }
        }
        mesh
    }
}

/// Unit vectors along the segment and across it, right-handed.
fn frame(from_m: Vec3, to_m: Vec3) -> ([f32; 3], [f32; 3], [f32; 3]) {
    let along = sub(to_m, from_m);
    let length = norm(along);
    let axis = if length < 1e-9 {
        [0.0, 0.0, 1.0]
    } else {
        along.map(|x| x / length)
    };
    let helper = if axis[0].abs() < 0.9 {
        [1.0, 0.0, 0.0]
    } else {
        [0.0, 1.0, 0.0]
    };
    let side = cross(axis, helper);
    let side = side.map(|x| x / norm(side));
    let other = cross(axis, side);
    let narrow = |v: Vec3| v.map(|x| x as f32);
    (narrow(axis), narrow(side), narrow(other))
}

/// Gives a flat square mesh of `n`×`n` tiles, of which every second is taken (`odd` or even ones).
pub fn tiles(centre_m: Vec3, tile_m: f64, n: u16, odd: bool) -> Mesh {
    let mut mesh = Mesh::default();
    let corner = add(
        centre_m,
        [-1.0, -1.0, 0.0].map(|x| x * tile_m * f64::from(n) / 2.0),
    );
    for row in 0..n {
        for column in (0..n).filter(|column| ((row + column) % 2 == 1) == odd) {
            let first = mesh.corners.len() as u32;
            for (u, v) in [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)] {
                let x = (f64::from(column) + u) * tile_m;
                let y = (f64::from(row) + v) * tile_m;
                mesh.corners.push(Vertex {
                    at: add(corner, [x, y, 0.0]).map(|x| x as f32),
                    normal: [0.0, 0.0, 1.0],
                });
            }
            mesh.triangles.push([first, first + 1, first + 2]);
            mesh.triangles.push([first, first + 2, first + 3]);
        }
    }
    mesh
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlad_safety::kinematics::dot;

    /// A triangle's own normal must point the way that its corners' normals point.
    #[test]
    fn triangles_go_round_counter_clockwise_seen_from_outside() {
        let (from, to) = ([0.1, 0.0, 0.2], [0.3, -0.2, 0.9]);
        for mesh in [
            Mesh::cuboid([1.0, 2.0, 3.0], [0.1, 0.2, 0.3]),
            Mesh::capsule(from, to, 0.1),
            Mesh::cylinder(from, to, 0.1),
            tiles([0.0; 3], 0.5, 4, true),
        ] {
            for triangle in &mesh.triangles {
                let [a, b, c] = triangle.map(|idx| mesh.corners[idx as usize]);
                let wide = |v: [f32; 3]| v.map(f64::from);
                let turned = cross(sub(wide(b.at), wide(a.at)), sub(wide(c.at), wide(a.at)));
                let outward = add(add(wide(a.normal), wide(b.normal)), wide(c.normal));
                assert!(-1e-9 <= dot(turned, outward), "{triangle:?}");
            }
        }
    }
}
