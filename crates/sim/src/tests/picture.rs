//! The pictures: what is where, and in which colour.

use vlad_cell::camera::Camera;
use vlad_cell::description::RobotDescription;
use vlad_cell::oracle::Oracle;

use super::{robot_toml, scene, world};
use crate::scene::Colour;
use crate::world::SimWorld;

/// Saturated in the same way: the strongest and the weakest channel are the colour's.
fn looks_like(pixel: &[u8], colour: Colour) -> bool {
    let order = |rgb: &[u8]| {
        let strongest = (0..3).max_by_key(|i| rgb[*i]).unwrap();
        let weakest = (0..3).min_by_key(|i| rgb[*i]).unwrap();
        (strongest, weakest, rgb[strongest] - rgb[weakest])
    };
    let (got, want) = (order(pixel), order(&colour.rgb()));
    got.0 == want.0 && got.1 == want.1 && want.2 / 3 < got.2
}

fn world_with_size(width: u16, height: u16) -> SimWorld {
    let mut toml = robot_toml();
    for camera in &mut toml.cameras {
        (camera.width, camera.height) = (width, height);
    }
    let description = RobotDescription::new(toml).unwrap();
    SimWorld::new(&scene(), &description, 4, 0).unwrap()
}

/// Red, green and blue blocks; yellow's two strong channels are too near to each other to order.
#[test]
fn a_blocks_colour_is_where_the_lens_projects_it() {
    for (width, height) in [(256, 256), (640, 480), (97, 64)] {
        let world = world_with_size(width, height);
        let mut camera = world.cameras().remove(0);
        let frame = camera.newest().unwrap().unwrap();
        let lens = camera.lens(&world.snapshot());
        let colours = [Colour::Red, Colour::Green, Colour::Blue];
        for (object, colour) in world.oracle().truth().iter().zip(colours) {
            let at = lens.project(object.pose.position_m, width, height).unwrap();
            let [column, row] = at.map(|x| x as usize);
            let first = (row * usize::from(width) + column) * 3;
            let pixel = &frame.pixels[first..first + 3];
            assert!(
                looks_like(pixel, colour),
                "{} at {column}, {row}: {pixel:?}",
                object.name
            );
        }
    }
}

#[test]
fn every_camera_sees_something() {
    for mut camera in world(4).cameras() {
        let frame = camera.newest().unwrap().unwrap();
        let mut seen: Vec<&[u8]> = frame.pixels.chunks_exact(3).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(
            100 < seen.len(),
            "{}: {} colours",
            frame.head.view,
            seen.len()
        );
    }
}

#[test]
fn a_point_behind_the_camera_is_not_in_the_picture() {
    let world = world(4);
    let lens = world.cameras()[0].lens(&world.snapshot());
    let behind = lens.world_from_camera.apply([0.0, 0.0, -1.0]);
    assert_eq!(lens.project(behind, 256, 256), None);
}
