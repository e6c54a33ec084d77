//! What is done to a camera's image before the network's own preprocessing (reference §3.1).
//!
//! Released checkpoints were trained on images that their benchmark's client had turned, resized or
//! cropped. Types and bounds alone; pixels are not touched here.

use serde::{Deserialize, Serialize};

/// Longest side that a step may ask for, pixels.
const SIDE_MAX: u16 = 4096;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageStep {
    /// Turns the image upside down: both axes are reversed.
    #[serde(rename = "rotate_180")]
    Rotate180,
    /// Resizes it by Pillow's bicubic filter, whatever its aspect.
    Resize {
        /// Pixels across.
        width: u16,
        /// Pixels down.
        height: u16,
    },
    /// Keeps the middle and resizes it back by Pillow's bilinear filter.
    CentreCrop {
        /// Share of each side that is kept; the rest is cut to whole pixels.
        ratio: f64,
    },
}

impl ImageStep {
    /// Says what is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        match *self {
            Self::Rotate180 => None,
            Self::Resize { width, height } => {
                let fits = |side: u16| (1..=SIDE_MAX).contains(&side);
                (!(fits(width) && fits(height))).then(|| {
                    format!("resize to {width} x {height}: both must lie in 1 to {SIDE_MAX}")
                })
            }
            Self::CentreCrop { ratio } => (!(0.1..=1.0).contains(&ratio))
                .then(|| format!("centre_crop: ratio {ratio} must lie in 0.1 to 1")),
        }
    }
}
