//! Writes one picture of each camera of the demo cell, and says what the cell costs.
//!
//! `cargo run --release -p vlad-sim --example frames -- /tmp/frames`

#![expect(
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "an example prints, and rounds what it prints"
)]

use std::error::Error;
use std::fs::File;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use vlad_cell::camera::Camera;
use vlad_cell::description::{CameraToml, RobotDescription, RobotToml};
use vlad_sim::scene::Scene;
use vlad_sim::world::SimWorld;
use vlad_wire::clock::SECOND;
use vlad_wire::msg::sense::Frame;

const ROBOT: &str = include_str!("../../../config/robots/demo-dual-arm.toml");
const CELL: &str = include_str!("../../../config/cells/demo.toml");

/// Frames of one measurement.
const N_FRAMES: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "/tmp".to_owned());
    let mut file: toml::Table = ROBOT.parse()?;
    let robot = file.remove("robot").ok_or("no table robot")?;
    let robot: RobotToml = robot.try_into()?;
    let mut file: toml::Table = CELL.parse()?;
    let scene = Scene::parse(file.remove("scene").ok_or("no table scene")?)?;

    let world = SimWorld::new(&scene, &RobotDescription::new(robot.clone())?, 1, 0)?;
    let began_s = cpu_s();
    world.advance_to(20 * SECOND);
    let steps_per_s = 20.0 * 240.0 / (cpu_s() - began_s);
    println!("{steps_per_s:.0} physics steps a second, arms at rest");
    for mut camera in world.cameras() {
        let mut spent_s = 0.0;
        for count in 1..=N_FRAMES {
            world.advance_to(world.now_ns() + SECOND / 30 + 1);
            let began_s = cpu_s();
            let frame = camera.newest()?.ok_or("no frame")?;
            spent_s += cpu_s() - began_s;
            if count == N_FRAMES {
                write(Path::new(&folder), &frame)?;
            }
        }
        let ms = spent_s * 1e3 / f64::from(N_FRAMES);
        println!("{}: {ms:.2} ms a frame", camera.info().view);
    }
    let large = |camera: &mut CameraToml| (camera.width, camera.height) = (1920, 1080);
    let mut robot = robot;
    robot.cameras.iter_mut().for_each(large);
    let world = SimWorld::new(&scene, &RobotDescription::new(robot)?, 1, 0)?;
    for mut camera in world.cameras().into_iter().take(1) {
        let began_s = cpu_s();
        for count in 1..=10 {
            world.advance_to(count * SECOND / 30);
            let mut frame = camera.newest()?.ok_or("no frame")?;
            if count == 10 {
                frame.head.view = "large".parse()?;
                write(Path::new(&folder), &frame)?;
            }
        }
        println!("1920×1080: {:.1} ms a frame", (cpu_s() - began_s) * 1e2);
    }
    Ok(())
}

/// Processor time of this thread, seconds: a busy machine does not change it much.
fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn write(folder: &Path, frame: &Frame) -> Result<(), Box<dyn Error>> {
    let file = File::create(folder.join(format!("{}.png", frame.head.view)))?;
    let (width, height) = (frame.head.width, frame.head.height);
    let mut encoder = png::Encoder::new(file, width.into(), height.into());
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&frame.pixels)?;
    Ok(())
}
