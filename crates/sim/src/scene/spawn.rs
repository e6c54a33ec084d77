//! Where blocks lie at start: drawn from a rectangle, at a smallest distance from each other.

use rand::Rng;
use vlad_safety::kinematics::Pose;

use super::SceneToml;

/// Draws for one block before the whole drawing starts anew.
const DRAWS_MAX: usize = 200;
/// Drawings before a scene counts as too full.
const RESTARTS_MAX: usize = 200;

/// Gives a pose for each block, or `None` if they do not find room.
pub(super) fn place(toml: &SceneToml, rng: &mut impl Rng) -> Option<Vec<Pose>> {
    (0..RESTARTS_MAX).find_map(|_| place_once(toml, rng))
}

fn place_once(toml: &SceneToml, rng: &mut impl Rng) -> Option<Vec<Pose>> {
    let mut poses: Vec<Pose> = Vec::with_capacity(toml.blocks.len());
    for block in &toml.blocks {
        let height = toml.table.height_m + block.size_m / 2.0;
        let centre = (0..DRAWS_MAX).find_map(|_| {
            let (x, y) = (between(rng, toml.spawn.x_m), between(rng, toml.spawn.y_m));
            let free = poses.iter().all(|other| {
                let [other_x, other_y, _] = other.position_m;
                toml.spawn.spacing_m <= (x - other_x).hypot(y - other_y)
            });
            free.then_some([x, y, height])
        })?;
        let yaw = between(rng, [0.0, std::f64::consts::FRAC_PI_2]);
        poses.push(Pose::from_xyz_rpy(centre, [0.0, 0.0, yaw]));
    }
    Some(poses)
}

/// Gives a number of `[min, max)` from 53 random bits, the same on every machine.
fn between(rng: &mut impl Rng, [min, max]: [f64; 2]) -> f64 {
    let unit = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    min + (max - min) * unit
}
