//! Images to patch rows (reference §1.3, §3.1): side lengths, resize, pixel values, patch order.
//!
//! What the slow image processor of transformers 4.57.1 does, which the released server asks for:
//! `size` of `preprocessor_config.json` is ignored. The robot types' action statistics stand in the
//! same file and are read here too.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::Config;
use crate::error::{self, Error};
use crate::normaliser::Normaliser;

pub mod resize;
mod statistics;
pub mod steps;

use resize::resize;

/// Colours of a pixel.
const COLOURS: usize = 3;
/// Pixels of the largest image taken; above every camera, and far below the machine's memory.
const PIXELS_MAX: usize = 64 << 20;
/// Above this ratio of its sides an image is refused, as the reference does.
const ASPECT_MAX: usize = 200;
/// Bicubic, by Pillow's number.
const BICUBIC: u32 = 3;

/// Bounds on an image's area behind the resize, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Smallest area.
    pub min_pixels: usize,
    /// Largest area.
    pub max_pixels: usize,
}

impl Default for ImageLimits {
    /// The slow processor's own, where the file has none (reference §1.3).
    fn default() -> Self {
        Self {
            min_pixels: 56 * 56,
            max_pixels: 28 * 28 * 1280,
        }
    }
}

/// A checkpoint's `preprocessor_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessorConfig {
    /// Bounds on an image's area.
    pub limits: ImageLimits,
    /// What is taken off each colour, which then lies in 0 to 1.
    pub image_mean: [f32; 3],
    /// What each colour is then divided by.
    pub image_std: [f32; 3],
    /// Action statistics by robot type.
    pub robot_types: BTreeMap<String, Normaliser>,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Frames of a patch; one image is doubled.
    pub temporal_patch_size: usize,
    /// Side of a merged token, patches.
    pub merge_size: usize,
}

/// The file's keys that matter; others are ignored, `size` above all.
#[derive(Deserialize)]
struct File {
    min_pixels: Option<usize>,
    max_pixels: Option<usize>,
    image_mean: [f32; 3],
    image_std: [f32; 3],
    patch_size: usize,
    temporal_patch_size: usize,
    merge_size: usize,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    #[serde(default)]
    action_config: BTreeMap<String, serde_json::Value>,
}

impl PreprocessorConfig {
    /// Reads a `preprocessor_config.json` that belongs to `config`.
    ///
    /// # Errors
    /// Everything that is wrong: a key that is missing or of another type alone, else all values
    /// that are absurd or contradict `config`, and all statistics that do not fit.
    pub fn parse(json: &str, config: &Config) -> Result<Self, Vec<String>> {
        let file: File = serde_json::from_str(json).map_err(|error| vec![error.to_string()])?;
        let mut faults = file.faults(config);
        let (robot_types, more) = statistics::read(&file.action_config, config);
        faults.extend(more);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            limits: file.limits(),
            image_mean: file.image_mean,
            image_std: file.image_std,
            robot_types,
            patch_size: file.patch_size,
            temporal_patch_size: file.temporal_patch_size,
            merge_size: file.merge_size,
        })
    }

    /// Side of a merged token, pixels: what the sides of a resized image are multiples of.
    pub fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    /// Values of a patch row.
    pub fn row_width(&self) -> usize {
        COLOURS * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Gives the patches that an image will be cut into under the checkpoint's own limits.
    ///
    /// # Errors
    /// As [`PreprocessorConfig::grid_within`].
    pub fn grid(&self, image: &RgbImage) -> error::Result<Grid> {
        self.grid_within(image, None)
    }

    /// Gives the patches that an image will be cut into (reference §3.1, step 1), without looking at
    /// a pixel: so many images can be refused as too many before any of them takes memory. Without
    /// `limits` the checkpoint's own hold.
    ///
    /// # Errors
    /// An image that [`smart_resize`] refuses, or whose pixels are not `height * width * 3` bytes.
    pub fn grid_within(
        &self,
        image: &RgbImage,
        limits: Option<ImageLimits>,
    ) -> error::Result<Grid> {
        let limits = limits.unwrap_or(self.limits);
        let (height, width) = smart_resize(image.height, image.width, self.factor(), limits)?;
        image.check()?;
        Ok(Grid {
            rows: height / self.patch_size,
            columns: width / self.patch_size,
        })
    }

    /// Resizes an image under the checkpoint's own limits and cuts it into patch rows.
    ///
    /// # Errors
    /// As [`PreprocessorConfig::grid_within`].
    pub fn pixel_rows(&self, image: &RgbImage) -> error::Result<PixelRows> {
        self.pixel_rows_within(image, None)
    }

    /// Resizes an image and cuts it into patch rows (reference §3.1, steps 1 to 5). Without
    /// `limits` the checkpoint's own hold.
    ///
    /// # Errors
    /// As [`PreprocessorConfig::grid_within`].
    pub fn pixel_rows_within(
        &self,
        image: &RgbImage,
        limits: Option<ImageLimits>,
    ) -> error::Result<PixelRows> {
        let grid = self.grid_within(image, limits)?;
        // Both sides are multiples of the factor, and so of the patch.
        let (height, width) = (grid.rows * self.patch_size, grid.columns * self.patch_size);
        let resized = resize(image, height, width);
        let values = self.pixel_values();
        let mut rows = Vec::with_capacity(grid.rows * grid.columns * self.row_width());
        for (row, column) in merge_order(grid, self.merge_size) {
            let corner = (row * self.patch_size, column * self.patch_size);
            self.push_patch(&mut rows, &resized, corner, &values);
        }
        Ok(PixelRows { grid, rows })
    }

    /// The value of each of the 256 levels of each colour.
    fn pixel_values(&self) -> [[f32; 256]; COLOURS] {
        let value = |colour: usize, level: usize| {
            let unit = (level as f64 / 255.0) as f32;
            (unit - self.image_mean[colour]) / self.image_std[colour]
        };
        std::array::from_fn(|colour| std::array::from_fn(|level| value(colour, level)))
    }

    /// Appends one patch: colour, frame, row, column, the fastest last.
    fn push_patch(
        &self,
        rows: &mut Vec<f32>,
        image: &RgbImage,
        (top, left): (usize, usize),
        values: &[[f32; 256]; COLOURS],
    ) {
        for (colour, values) in values.iter().enumerate() {
            // The same frame again: a still image has no motion.
            for _frame in 0..self.temporal_patch_size {
                for y in top..top + self.patch_size {
                    let first = (y * image.width + left) * COLOURS;
                    let pixels = &image.pixels[first..first + self.patch_size * COLOURS];
                    let levels = pixels.chunks_exact(COLOURS).map(|pixel| pixel[colour]);
                    rows.extend(levels.map(|level| values[usize::from(level)]));
                }
            }
        }
    }
}

impl File {
    fn limits(&self) -> ImageLimits {
        let default = ImageLimits::default();
        ImageLimits {
            min_pixels: self.min_pixels.unwrap_or(default.min_pixels),
            max_pixels: self.max_pixels.unwrap_or(default.max_pixels),
        }
    }

    /// Lists values that are absurd or contradict the networks.
    fn faults(&self, config: &Config) -> Vec<String> {
        let (limits, vision) = (self.limits(), config.vision());
        let is_on = |flag: Option<bool>| flag != Some(false);
        let mut faults = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                faults.push(problem);
            }
        };
        for (key, size, want) in [
            ("patch_size", self.patch_size, vision.patch_size),
            (
                "temporal_patch_size",
                self.temporal_patch_size,
                vision.temporal_patch_size,
            ),
            ("merge_size", self.merge_size, vision.spatial_merge_size),
        ] {
            check(
                size == want,
                format!("{key} is {size}, config.json wants {want}"),
            );
        }
        check(
            1 <= limits.min_pixels && limits.min_pixels <= limits.max_pixels,
            format!(
                "min_pixels {} must lie in 1 to max_pixels {}",
                limits.min_pixels, limits.max_pixels
            ),
        );
        check(
            limits.max_pixels <= PIXELS_MAX,
            format!(
                "max_pixels is {}, at most {PIXELS_MAX} are taken",
                limits.max_pixels
            ),
        );
        check(
            self.image_mean.iter().all(|mean| mean.is_finite()),
            "image_mean must be finite".to_owned(),
        );
        check(
            self.image_std
                .iter()
                .all(|std| std.is_finite() && 0.0 < *std),
            "image_std must be finite and above 0".to_owned(),
        );
        check(
            self.resample.is_none_or(|filter| filter == BICUBIC),
            "resample must be 3, bicubic".to_owned(),
        );
        check(
            self.rescale_factor
                .is_none_or(|factor| (factor * 255.0 - 1.0).abs() < 1e-9),
            "rescale_factor must be 1/255".to_owned(),
        );
        check(
            is_on(self.do_resize) && is_on(self.do_rescale) && is_on(self.do_normalize),
            "do_resize, do_rescale and do_normalize must not be false".to_owned(),
        );
        faults
    }
}

/// An 8-bit RGB image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// `(height, width, 3)`, row-major.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// Takes the bytes of an image, `(height, width, 3)`, row-major.
    ///
    /// # Errors
    /// A side of 0, more than 64 Mi pixels, or another number of bytes.
    pub fn new(height: usize, width: usize, pixels: Vec<u8>) -> error::Result<Self> {
        let image = Self {
            height,
            width,
            pixels,
        };
        image.check()?;
        Ok(image)
    }

    fn check(&self) -> error::Result<()> {
        let area = area(self.height, self.width)?;
        if self.pixels.len() != area * COLOURS {
            return Err(Error::input(format!(
                "an image of {} x {} pixels needs {} bytes, it has {}",
                self.height,
                self.width,
                area * COLOURS,
                self.pixels.len()
            )));
        }
        Ok(())
    }
}

/// The pixels of an image, if there are not too few or too many.
fn area(height: usize, width: usize) -> error::Result<usize> {
    let area = height.checked_mul(width);
    area.filter(|area| (1..=PIXELS_MAX).contains(area))
        .ok_or_else(|| {
            Error::input(format!(
                "an image of {height} x {width} pixels: 1 to {PIXELS_MAX} pixels are taken"
            ))
        })
}

/// Patches of an image, before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Down.
    pub rows: usize,
    /// Across.
    pub columns: usize,
}

/// An image as the vision tower reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelRows {
    /// Patches down and across.
    pub grid: Grid,
    /// `(grid.rows * grid.columns, row_width)`: patches block by block, the patches of a merged
    /// token together; inside a row colour, frame, row, column. With the released mean and
    /// deviation all values lie in -1 to 1.
    pub rows: Vec<f32>,
}

/// Gives every patch as `(row, column)`, the patches of a merged token one after the other.
pub fn merge_order(grid: Grid, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    let columns = (0..grid.columns).step_by(merge.max(1));
    let blocks = (0..grid.rows).step_by(merge.max(1));
    let blocks = blocks.flat_map(move |top| columns.clone().map(move |left| (top, left)));
    blocks.flat_map(move |(top, left)| {
        let rows = top..top + merge;
        rows.flat_map(move |row| (left..left + merge).map(move |column| (row, column)))
    })
}

/// Gives the `(height, width)` that an image is resized to (reference §3.1, step 1).
///
/// Each side becomes the nearest multiple of `factor`, halves to the even one. If the area then
/// breaks a limit, both sides are scaled by the same ratio, up or down to a multiple; an extreme
/// aspect may keep the area above `max_pixels`, since no side is less than `factor`.
///
/// # Errors
/// No pixel, more than 64 Mi pixels, an aspect ratio above 200, or a factor or a limit of 0.
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    limits: ImageLimits,
) -> error::Result<(usize, usize)> {
    let area = area(height, width)?;
    if ASPECT_MAX * height.min(width) < height.max(width) {
        return Err(Error::input(format!(
            "an image of {height} x {width} pixels: one side is more than {ASPECT_MAX} times the other"
        )));
    }
    let ImageLimits {
        min_pixels,
        max_pixels,
    } = limits;
    let sizes = [factor, min_pixels, max_pixels];
    if sizes.contains(&0) || sizes.iter().any(|size| PIXELS_MAX < *size) {
        return Err(Error::input(format!(
            "the factor {factor} and the limits {min_pixels} and {max_pixels} must lie in 1 to {PIXELS_MAX}"
        )));
    }
    let unit = factor as f64;
    let nearest = |side: usize| (side as f64 / unit).round_ties_even() as usize * factor;
    let (rows, columns) = (nearest(height), nearest(width));
    // Divide first and then again, as the reference does: another order rounds otherwise.
    if max_pixels < rows * columns {
        let ratio = (area as f64 / max_pixels as f64).sqrt();
        let down = |side: usize| (side as f64 / ratio / unit).floor() as usize * factor;
        Ok((down(height).max(factor), down(width).max(factor)))
    } else if rows * columns < min_pixels {
        let ratio = (min_pixels as f64 / area as f64).sqrt();
        let up = |side: usize| (side as f64 * ratio / unit).ceil() as usize * factor;
        Ok((up(height), up(width)))
    } else {
        Ok((rows, columns))
    }
}

#[cfg(test)]
mod tests;
