//! Self-tests of a checkpoint: made from its manifest, and tried against it.
//!
//! The question is fixed: pictures of bars, a sentence, a state, noise. It goes through the manifest's
//! own views, image steps, sizes and sentence rule, so that a manifest which changes later is seen.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlad_motion::noise::standard_normal;
use vlad_wire::manifest::{Manifest, ViewLabel};
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::model::{ActionExpert, Options, Vlm};
use vlad_xr0::normaliser::Normaliser;
use vlad_xr0::preprocess::RgbImage;
use vlad_xr0::self_test::deviation::Deviation;
use vlad_xr0::self_test::{Image, Question, SelfTest};

use super::error::Xr0Error;
use super::manifest::{self, Fitting, images};

/// Name of the file beside `vlad.toml`.
pub const FILE: &str = "self-test.safetensors";
/// Camera images of the question, height and width: small, and no multiple of a patch.
const CAMERA: (usize, usize) = (150, 200);
/// What is asked for.
const SENTENCE: &str = "put the blue cube into the box on the left";
/// Where the noise starts.
const SEED: u64 = 42;
/// Rows of the prefix, where the network takes one.
const PREFIX_ROWS: usize = 3;
/// Euler steps.
const STEPS: usize = 5;

/// What a self-test found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tried {
    /// How far the context is from the golden one.
    pub brain: Deviation,
    /// How far the chunk is, made of the golden context.
    pub action_expert: Deviation,
}

/// Makes the self-test of a checkpoint and writes it beside its manifest; gives the file, and the
/// line that the manifest then needs.
///
/// # Errors
/// A checkpoint without manifest or views, or one that does not fit; a file that exists.
pub fn write(dir: &Path) -> Result<(PathBuf, String), Xr0Error> {
    let manifest = manifest::read(dir)?.ok_or_else(|| Xr0Error::NoManifest {
        dir: dir.to_owned(),
    })?;
    // What it replaces may be what does not fit.
    let manifest = Manifest {
        self_test: None,
        ..manifest
    };
    let fitting = manifest::fit_manifest(dir, manifest, &[])?;
    let path = dir.join(FILE);
    if path.symlink_metadata().is_ok() {
        let problem = format!("{} exists: remove it first", path.display());
        return Err(Xr0Error::input(problem));
    }
    let question = question(&fitting)?;
    let mut options = Options::plain();
    options.profile = manifest::profile(&fitting.manifest);
    let (vlm, expert) = halves(&fitting.checkpoint, &options)?;
    let digest = SelfTest::record(&vlm, &expert, question)?.write(&path)?;
    let line = format!("self_test = {{ file = \"{FILE}\", sha256 = \"{digest}\" }}");
    Ok((path, line))
}

/// Tries the self-test that a checkpoint's manifest names, on both halves as they are served.
/// `options` say where, and with which weights; their profile is the manifest's.
///
/// # Errors
/// A checkpoint without one, or one that does not fit; a half that is too far away, with the figures.
pub fn check(dir: &Path, mut options: Options) -> Result<Tried, Xr0Error> {
    let Fitting {
        manifest,
        checkpoint,
    } = manifest::fit(dir, &[])?;
    let Some(test) = &manifest.self_test else {
        let problem = "the manifest names no self-test: make one with --write";
        return Err(Xr0Error::input(problem));
    };
    let test = SelfTest::open(&dir.join(&test.file), &test.sha256)?;
    options.profile = manifest::profile(&manifest);
    let (vlm, expert) = halves(&checkpoint, &options)?;
    Ok(Tried {
        brain: test.check_vlm(&vlm, options.weights)?,
        action_expert: test.check_expert(&expert, options.weights)?,
    })
}

fn halves(checkpoint: &Checkpoint, options: &Options) -> Result<(Vlm, ActionExpert), Xr0Error> {
    let vlm = Vlm::load(checkpoint, options)?;
    Ok((vlm, ActionExpert::load(checkpoint, options)?))
}

/// The fixed question, as this manifest puts it.
fn question(fitting: &Fitting) -> Result<Question, Xr0Error> {
    let Fitting {
        manifest,
        checkpoint,
    } = fitting;
    if manifest.views.is_empty() {
        let problem = "the manifest names no views: write those of the prompt into vlad.toml";
        return Err(Xr0Error::input(problem));
    }
    let robot_types = manifest.robot_types.first();
    let table = robot_types.and_then(|robot| {
        let tables = &checkpoint.preprocessor().robot_types;
        tables.get(robot.name.as_str())
    });
    let table = table.ok_or_else(|| Xr0Error::input("there is no robot type"))?;
    let image = |(index, view): (usize, &ViewLabel)| Image {
        label: view.label.to_string(),
        pixels: images::prepared(view, bars(index)),
        limits: Some(images::limits(manifest, view, checkpoint.preprocessor())),
    };
    let n = table.horizon() * table.width();
    let state = standard_normal(SEED + 1, checkpoint.config().state_dim);
    Ok(Question {
        images: manifest.views.iter().enumerate().map(image).collect(),
        instruction: manifest.instruction.apply(SENTENCE),
        // Radians and metres: a tenth of a normal draw.
        state: state.iter().map(|value| value * 0.1).collect(),
        mask: table.mask(),
        noise: standard_normal(SEED, n),
        horizon: table.horizon(),
        prefix: prefix(manifest, table),
        steps: STEPS,
    })
}

/// Normalised rows of a prefix; none where the network takes none.
fn prefix(manifest: &Manifest, table: &Normaliser) -> Vec<f32> {
    let rows = PREFIX_ROWS.min(manifest.prefix_trained_max.into());
    let mask = table.mask();
    let drawn = standard_normal(SEED + 2, rows * table.width());
    let rows = drawn.iter().zip(&mask).map(|(value, mask)| value * mask);
    rows.collect()
}

/// A picture of coloured bars that lean, other ones in every view: edges in all directions.
fn bars(view: usize) -> RgbImage {
    let (height, width) = CAMERA;
    let level = |value: usize| u8::try_from(value % 256).unwrap_or_default();
    let pixel = |at: usize| {
        let (row, column) = (at / width, at % width);
        let bar = (row + 2 * column) / (11 + view);
        [level(bar * 67), level(bar * 29 + row), level(255 - column)]
    };
    RgbImage {
        height,
        width,
        pixels: (0..height * width).flat_map(pixel).collect(),
    }
}
