//! What a manifest says of the prompt's images: how each is prepared, and how large it may be.
//!
//! The manifest's limits decide, and the checkpoint's own where it has none; a view's token budget
//! comes on top. A network of profile A was fed through the checkpoint's own preprocessing, so that
//! its limits may be narrowed and never widened; the pipeline of profile B resizes by limits of its
//! own (reference §3.1), which replace the checkpoint's.

use vlad_wire::manifest::image::ImageStep;
use vlad_wire::manifest::{Manifest, Profile, ViewLabel};
use vlad_xr0::preprocess::resize::resize;
use vlad_xr0::preprocess::steps::{centre_crop, rotate_180};
use vlad_xr0::preprocess::{ImageLimits, PreprocessorConfig, RgbImage};

/// The limits that hold for all images.
fn common(manifest: &Manifest, preprocessor: &PreprocessorConfig) -> ImageLimits {
    let pixels = |given: Option<u32>, own: usize| {
        given.map_or(own, |pixels| usize::try_from(pixels).unwrap_or(usize::MAX))
    };
    let own = preprocessor.limits;
    ImageLimits {
        min_pixels: pixels(manifest.image_pixels_min, own.min_pixels),
        max_pixels: pixels(manifest.image_pixels_max, own.max_pixels),
    }
}

/// Gives the limits of a view's image: what [`PreprocessorConfig::grid_within`] takes.
pub(in super::super) fn limits(
    manifest: &Manifest,
    view: &ViewLabel,
    preprocessor: &PreprocessorConfig,
) -> ImageLimits {
    let common = common(manifest, preprocessor);
    let budget = view.tokens_max.map(|tokens| budget(tokens, preprocessor));
    ImageLimits {
        max_pixels: common.max_pixels.min(budget.unwrap_or(usize::MAX)),
        ..common
    }
}

/// Does to a camera's image what the network's training did to it, before any limit counts.
pub(in super::super) fn prepared(view: &ViewLabel, image: RgbImage) -> RgbImage {
    let step = |image: RgbImage, step: &ImageStep| match *step {
        ImageStep::Rotate180 => rotate_180(&image),
        ImageStep::Resize { width, height } => resize(&image, height.into(), width.into()),
        ImageStep::CentreCrop { ratio } => centre_crop(&image, ratio),
    };
    view.steps.iter().fold(image, step)
}

/// The pixels of so many image tokens.
fn budget(tokens: u32, preprocessor: &PreprocessorConfig) -> usize {
    let side = preprocessor.factor();
    let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
    tokens.saturating_mul(side.saturating_mul(side))
}

/// Lists what is wrong between the manifest's sizes and the checkpoint's.
pub(super) fn faults(manifest: &Manifest, preprocessor: &PreprocessorConfig) -> Vec<String> {
    let (own, common) = (preprocessor.limits, common(manifest, preprocessor));
    let mut faults = Vec::new();
    let mut check = |holds: bool, problem: String| {
        if !holds {
            faults.push(problem);
        }
    };
    let widened = manifest.profile == Profile::B;
    check(
        widened || common.max_pixels <= own.max_pixels,
        format!(
            "image_pixels_max: {} here and {} in preprocessor_config.json, which profile A does not exceed",
            common.max_pixels, own.max_pixels
        ),
    );
    check(
        widened || own.min_pixels <= common.min_pixels,
        format!(
            "image_pixels_min: {} here and {} in preprocessor_config.json, below which profile A does not go",
            common.min_pixels, own.min_pixels
        ),
    );
    // Where both stand in the manifest, it says so of itself.
    let mixed = manifest.image_pixels_min.is_none() || manifest.image_pixels_max.is_none();
    check(
        !mixed || common.min_pixels <= common.max_pixels,
        format!(
            "image_pixels_min: {} is above image_pixels_max, {}, one of which preprocessor_config.json says",
            common.min_pixels, common.max_pixels
        ),
    );
    for view in &manifest.views {
        let Some(tokens) = view.tokens_max else {
            continue;
        };
        let pixels = budget(tokens, preprocessor);
        check(
            common.min_pixels <= pixels,
            format!(
                "views: {} may have {tokens} tokens, {pixels} pixels, but the smallest image has {}",
                view.view, common.min_pixels
            ),
        );
    }
    faults
}
