//! What benchmarks' clients do to an image before the network's own preprocessing (reference §3.1).

use crate::preprocess::RgbImage;
use crate::preprocess::resize::{Filter, resize_by};

/// Colours of a pixel.
const COLOURS: usize = 3;

/// Turns an image upside down: both axes are reversed.
pub fn rotate_180(image: &RgbImage) -> RgbImage {
    let (pixels, _) = image.pixels.as_chunks::<COLOURS>();
    let pixels = pixels.iter().rev().flatten().copied();
    RgbImage {
        height: image.height,
        width: image.width,
        pixels: pixels.collect(),
    }
}

/// Keeps the middle of an image, `ratio` of each side cut to whole pixels, and resizes it back by
/// the bilinear filter.
pub fn centre_crop(image: &RgbImage, ratio: f64) -> RgbImage {
    let kept = |side: usize| ((side as f64 * ratio) as usize).clamp(side.min(1), side);
    let (height, width) = (kept(image.height), kept(image.width));
    let (top, left) = (offset(image.height, height), offset(image.width, width));
    let rows = image.pixels.chunks_exact((image.width * COLOURS).max(1));
    let rows = rows.skip(top).take(height);
    let pixels = rows.flat_map(|row| &row[left * COLOURS..(left + width) * COLOURS]);
    let cropped = RgbImage {
        height,
        width,
        pixels: pixels.copied().collect(),
    };
    resize_by(&cropped, (image.height, image.width), Filter::Bilinear)
}

/// Pixels cut off before the middle.
fn offset(side: usize, kept: usize) -> usize {
    (side - kept) / 2
}

#[cfg(test)]
mod tests;
