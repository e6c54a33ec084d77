//! The adapter with a tiny checkpoint of random weights and the shipped demo robot.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use vlad_cell::description::{RobotDescription, RobotToml};
use vlad_xr0::context::KvLayer;
use vlad_xr0::context::bytes::{LayerForm, Number};
use vlad_xr0::device::DeviceName;
use vlad_xr0::synth::Preset;

use super::*;
use crate::policy::cell_shape;

mod batches;
mod contexts;
mod decisions;
mod given;
mod guidance;
mod manifests;
mod mutations;
mod prefix;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder that goes when the value goes.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vlad-xr0-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The shipped demo robot.
fn robot() -> RobotDescription {
    #[derive(Deserialize)]
    struct File {
        robot: RobotToml,
    }
    let text = include_str!("../../../../config/robots/demo-dual-arm.toml");
    RobotDescription::new(toml::from_str::<File>(text).unwrap().robot).unwrap()
}

/// A tiny checkpoint for the demo robot.
struct Tiny {
    dir: PathBuf,
    _temp: TempDir,
}

impl Tiny {
    fn new(seed: u64) -> Self {
        let temp = TempDir::new();
        let dir = temp.0.join("tiny");
        preset::write(&robot(), (Preset::Tiny, seed), &dir, &mut |_, _| {}).unwrap();
        Self { dir, _temp: temp }
    }

    /// Replaces a text of the manifest.
    fn edit(&self, from: &str, to: &str) {
        let path = self.dir.join(manifest::FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in\n{text}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }

    fn open(&self) -> Result<Xr0Policy, Xr0Error> {
        self.open_with(&|_| {})
    }

    /// With other settings.
    fn open_with(&self, change: &dyn Fn(&mut Setup)) -> Result<Xr0Policy, Xr0Error> {
        let mut setup = Setup::default();
        change(&mut setup);
        Xr0Policy::open(&self.dir, &[cell_shape(&robot())], setup)
    }
}

/// A layer of one number.
pub(super) fn layer_of(number: f32) -> KvLayer {
    let form = LayerForm {
        number: Number::F32,
        shape: [2, 1, 1, 1],
    };
    let bytes = number.to_le_bytes().repeat(2);
    KvLayer::read(&form, &bytes, &DeviceName::Cpu.open().unwrap()).unwrap()
}

/// A named pipe without a writer: whoever opens it for reading waits for ever.
fn pipe(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
