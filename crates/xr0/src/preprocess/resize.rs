//! Bicubic and bilinear resize of 8-bit images, equal to Pillow's to the byte (reference §3.1).
//!
//! One grey level of difference moves the actions by 7e-3, hence no library's bicubic. Pillow's
//! (`src/libImaging/Resample.c`) is antialiased: when it shrinks, the kernel widens with the scale.
//! Two passes, each rounded to 8 bits, so that their order shows; weights are computed in f64,
//! divided by their sum, and rounded to 22 binary digits behind the point.
//!
//! Pillow before 13.0 always goes along the rows first. Since then it goes along the columns first
//! where the height shrinks much more than the width (`columns_first`); the golden images follow it.

use crate::preprocess::RgbImage;

/// Colours of a pixel.
const COLOURS: usize = 3;
/// Sharpness of the bicubic kernel; Pillow's, where others take -0.75.
const SHARPNESS: f64 = -0.5;
/// Binary digits behind the point: of 32, 8 are the pixel's and 2 are left for sums above 255.
const PRECISION: u32 = 32 - 8 - 2;

/// The kernel of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// What the image processor takes.
    Bicubic,
    /// What benchmarks' clients take behind a crop.
    Bilinear,
}

impl Filter {
    /// Half the width of the kernel, in pixels of the coarser image.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    /// The kernel at a distance in pixels.
    fn weight(self, distance: f64) -> f64 {
        match self {
            Self::Bicubic => bicubic(distance),
            Self::Bilinear => (1.0 - distance.abs()).max(0.0),
        }
    }
}

/// The pixels that one pixel of the result is made of, and their weights.
struct Taps {
    /// The first one.
    first: usize,
    /// Fixed-point weights from it on; they sum up to about `1 << PRECISION`.
    weights: Vec<i32>,
}

/// Resizes an image to `(height, width)` by the bicubic filter: as [`resize_by`].
pub fn resize(image: &RgbImage, height: usize, width: usize) -> RgbImage {
    resize_by(image, (height, width), Filter::Bicubic)
}

/// Resizes an image to `(height, width)`.
///
/// A side that does not change is not filtered, so the same size gives the same bytes. Where one of
/// the four sides is 0, the result is black.
pub fn resize_by(image: &RgbImage, (height, width): (usize, usize), filter: Filter) -> RgbImage {
    if [image.height, image.width, height, width].contains(&0) {
        return RgbImage {
            height,
            width,
            pixels: vec![0; height * width * COLOURS],
        };
    }
    match (width != image.width, height != image.height) {
        (false, false) => image.clone(),
        (true, false) => along_rows(image, width, filter),
        (false, true) => along_columns(image, height, filter),
        (true, true) if columns_first(image, height, width) => {
            along_rows(&along_columns(image, height, filter), width, filter)
        }
        (true, true) => along_columns(&along_rows(image, width, filter), height, filter),
    }
}

/// Whether the pass along the columns comes first: the height shrinks, and by more than twice the
/// pixels that the width loses.
///
/// Found by comparing 2 900 random sizes with Pillow 13.0.0, whose result is one order's or the
/// other's to the byte.
fn columns_first(image: &RgbImage, height: usize, width: usize) -> bool {
    // A width that grows loses nothing: a height that shrinks at all is then enough.
    let lost = image.width.saturating_sub(width);
    height < image.height && 2 * lost < image.height - height
}

/// The bicubic kernel at a distance in pixels.
fn bicubic(distance: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((SHARPNESS + 2.0) * x - (SHARPNESS + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * SHARPNESS
    } else {
        0.0
    }
}

/// The taps of every pixel of a side that goes from `from` to `to` pixels.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let (support, per_pixel) = (filter.support() * stretch, 1.0 / stretch);
    let one = |index: usize| {
        let center = (index as f64 + 0.5) * scale;
        // Casts cut towards zero and stop at zero, as Pillow's do.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let pixels = 0..end.saturating_sub(first);
        let distance = |offset: usize| ((offset + first) as f64 - center + 0.5) * per_pixel;
        let weight = |offset: usize| filter.weight(distance(offset));
        let weights: Vec<_> = pixels.map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Taps {
            first,
            weights: weights.iter().map(|one| fixed_point(one / sum)).collect(),
        }
    };
    (0..to).map(one).collect()
}

/// Rounds a weight to fixed point, halves away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

/// Half of the last digit that survives, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// Drops the digits behind the point and clips to 8 bits.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn along_rows(image: &RgbImage, width: usize, filter: Filter) -> RgbImage {
    let taps = taps(image.width, width, filter);
    let mut pixels = Vec::with_capacity(image.height * width * COLOURS);
    for row in image.pixels.chunks_exact(image.width * COLOURS) {
        for tap in &taps {
            let mut sums = [HALF; COLOURS];
            let sources = row[tap.first * COLOURS..].chunks_exact(COLOURS);
            for (source, weight) in sources.zip(&tap.weights) {
                for (sum, value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(*value) * weight;
                }
            }
            pixels.extend(sums.map(clip));
        }
    }
    RgbImage {
        height: image.height,
        width,
        pixels,
    }
}

fn along_columns(image: &RgbImage, height: usize, filter: Filter) -> RgbImage {
    let stride = image.width * COLOURS;
    let mut pixels = Vec::with_capacity(height * stride);
    let mut sums = vec![HALF; stride];
    for tap in &taps(image.height, height, filter) {
        sums.fill(HALF);
        let sources = image.pixels[tap.first * stride..].chunks_exact(stride);
        for (source, weight) in sources.zip(&tap.weights) {
            for (sum, value) in sums.iter_mut().zip(source) {
                *sum += i32::from(*value) * weight;
            }
        }
        pixels.extend(sums.iter().map(|sum| clip(*sum)));
    }
    RgbImage {
        height,
        width: image.width,
        pixels,
    }
}

#[cfg(test)]
mod tests;
