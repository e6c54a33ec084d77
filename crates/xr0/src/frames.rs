//! Image tokens of frames that were seen before.
//!
//! A camera that sees nothing new still sends noise; a frame that is the same to the bit comes from a
//! view that is slower than the decisions, from a still picture, or from a repeated request. Its tokens do
//! not depend on anything else, so they are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::preprocess::{ImageLimits, RgbImage};
use crate::vision::ImageTokens;

/// Frames whose tokens are kept: the views of two cells, and the ones before.
const KEPT: usize = 8;

/// Names a frame: its size, its pixels and how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameKey([u8; 32]);

impl FrameKey {
    /// Names an image.
    pub fn of(image: &RgbImage, limits: Option<ImageLimits>) -> Self {
        let mut hash = Sha256::new();
        for size in [image.height, image.width] {
            hash.update(size.to_le_bytes());
        }
        let limits = limits.map(|limits| [limits.min_pixels, limits.max_pixels]);
        for limit in limits.iter().flatten() {
            hash.update(limit.to_le_bytes());
        }
        hash.update(&image.pixels);
        Self(hash.finalize().into())
    }
}

/// The newest frames' tokens.
#[derive(Debug, Default)]
pub struct Frames {
    kept: VecDeque<(FrameKey, Arc<ImageTokens>)>,
    known: u64,
}

impl Frames {
    /// Gives the tokens of a frame that was seen before.
    pub fn get(&mut self, key: &FrameKey) -> Option<Arc<ImageTokens>> {
        let at = self.kept.iter().position(|(own, _)| own == key)?;
        // The one that was asked for last is the last to go.
        let found = self.kept.remove(at)?;
        let tokens = Arc::clone(&found.1);
        self.kept.push_back(found);
        self.known += 1;
        Some(tokens)
    }

    /// Keeps the tokens of a frame, and lets the one go that was asked for longest ago.
    pub fn keep(&mut self, key: FrameKey, tokens: Arc<ImageTokens>) {
        if KEPT <= self.kept.len() {
            self.kept.pop_front();
        }
        self.kept.push_back((key, tokens));
    }

    /// Frames that were known when they were asked for.
    pub fn known(&self) -> u64 {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn image(height: usize, width: usize, level: u8) -> RgbImage {
        RgbImage::new(height, width, vec![level; height * width * 3]).unwrap()
    }

    #[test]
    fn a_frame_is_its_size_its_pixels_and_its_limits() {
        let key = |image: &RgbImage| FrameKey::of(image, None);
        assert_eq!(key(&image(2, 3, 7)), key(&image(2, 3, 7)));
        assert_ne!(key(&image(2, 3, 7)), key(&image(3, 2, 7)));
        assert_ne!(key(&image(2, 3, 7)), key(&image(2, 3, 8)));
        let limits = ImageLimits {
            min_pixels: 1,
            max_pixels: 2,
        };
        assert_ne!(
            key(&image(2, 3, 7)),
            FrameKey::of(&image(2, 3, 7), Some(limits))
        );
    }

    #[test]
    fn the_frame_that_was_asked_for_longest_ago_goes_first() {
        let tokens = Arc::new(ImageTokens::none(4, (DType::F32, &Device::Cpu)).unwrap());
        let key = |level| FrameKey::of(&image(1, 1, level), None);
        let mut frames = Frames::default();
        for level in 0..KEPT as u8 {
            frames.keep(key(level), Arc::clone(&tokens));
        }
        assert!(frames.get(&key(0)).is_some());
        frames.keep(key(200), tokens);
        assert!(frames.get(&key(0)).is_some() && frames.get(&key(1)).is_none());
        assert_eq!(frames.known(), 2);
    }
}
