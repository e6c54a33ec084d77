//! What the pixels of one frame say: too dark, too bright, without contrast, or noise.
//!
//! Limits of brightness and contrast are settings (reference: the envelope's check E4); noise is
//! known by two measures at once. Only a part of the pixels is looked at: at most about ten
//! thousand pairs of neighbours, whatever the size.

use std::fmt;

/// Pairs of neighbours that are looked at: enough for the mean to be right to a grey level.
const PAIRS_MAX: usize = 10_000;
/// Bits of the brightness' histogram above which a frame may be noise: uniform noise has more than
/// seven, a picture of a workcell less.
const NOISE_ENTROPY_BITS: f64 = 6.5;
/// Mean difference of neighbours, in standard deviations, above which a frame may be noise: of
/// independent pixels it is 2/√π = 1.13, of pictures with surfaces 0.1 to 0.4.
const NOISE_ROUGHNESS: f64 = 0.9;

/// What brightness and contrast a camera's frames must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// Mean brightness above this, 0 to 255.
    pub luma_min: u8,
    /// Mean brightness below this.
    pub luma_max: u8,
    /// Standard deviation of the brightness above this.
    pub contrast_min: u8,
}

/// Why a frame shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blind {
    /// Black: a lens cap, no light.
    Dark,
    /// White: a lamp in the lens, an exposure that ran away.
    Bright,
    /// One colour: a covered lens, a decoder's grey.
    Flat,
    /// Independent pixels: a broken link or sensor.
    Noise,
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dark => "sees black",
            Self::Bright => "sees white",
            Self::Flat => "sees one colour",
            Self::Noise => "sees noise",
        })
    }
}

/// Statistics of a frame's brightness, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Luma {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Mean difference of horizontal neighbours, absolute.
    pub step: f64,
    /// Entropy of the histogram, bits.
    pub entropy_bits: f64,
}

/// Judges an RGB image of `width` columns; `None` if it shows something.
pub fn judge(pixels: &[u8], width: usize, exposure: &Exposure) -> Option<Blind> {
    let luma = measure(pixels, width)?;
    if luma.mean <= f64::from(exposure.luma_min) {
        return Some(Blind::Dark);
    }
    if f64::from(exposure.luma_max) <= luma.mean {
        return Some(Blind::Bright);
    }
    if luma.deviation <= f64::from(exposure.contrast_min) {
        return Some(Blind::Flat);
    }
    let rough = NOISE_ROUGHNESS * luma.deviation < luma.step;
    (rough && NOISE_ENTROPY_BITS < luma.entropy_bits).then_some(Blind::Noise)
}

/// Measures an RGB image of `width` columns; `None` for one without two columns.
pub fn measure(pixels: &[u8], width: usize) -> Option<Luma> {
    let rows = pixels.chunks_exact(width.checked_mul(3)?.max(1));
    // Pixels in pairs; the stride is odd, so that no regular pattern hides between the looks.
    let n_pairs = rows.len() * width.saturating_sub(1);
    let stride = (n_pairs / PAIRS_MAX) | 1;
    let mut histogram = [0_u32; 256];
    let (mut n, mut sum, mut squares, mut steps) = (0_u32, 0_u64, 0_u64, 0_u64);
    let pairs = rows.flat_map(|row| {
        let (left, right) = (row.chunks_exact(3), row.chunks_exact(3).skip(1));
        left.zip(right)
    });
    for (left, right) in pairs.step_by(stride) {
        let (left, right) = (brightness(left), brightness(right));
        if let Some(bin) = histogram.get_mut(usize::from(left)) {
            *bin += 1;
        }
        n += 1;
        sum += u64::from(left);
        squares += u64::from(left) * u64::from(left);
        steps += u64::from(left.abs_diff(right));
    }
    if n == 0 {
        return None;
    }
    let per = |total: u64| lossless(total) / f64::from(n);
    let mean = per(sum);
    Some(Luma {
        mean,
        deviation: (per(squares) - mean * mean).max(0.0).sqrt(),
        step: per(steps),
        entropy_bits: entropy(&histogram, n),
    })
}

/// Brightness of a pixel by the weights of ITU-R BT.601, in integers.
pub(super) fn brightness(pixel: &[u8]) -> u8 {
    let [red, green, blue] = pixel else { return 0 };
    let sum = 77 * u32::from(*red) + 150 * u32::from(*green) + 29 * u32::from(*blue);
    u8::try_from(sum >> 8).unwrap_or(u8::MAX)
}

fn entropy(histogram: &[u32], n: u32) -> f64 {
    let shares = histogram.iter().filter(|count| 0 < **count);
    let shares = shares.map(|count| f64::from(*count) / f64::from(n));
    -shares.map(|share| share * share.log2()).sum::<f64>()
}

/// A sum of at most ten thousand pairs' squares fits in 32 bits.
fn lossless(total: u64) -> f64 {
    f64::from(u32::try_from(total).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPOSURE: Exposure = Exposure {
        luma_min: 5,
        luma_max: 250,
        contrast_min: 3,
    };
    const WIDTH: usize = 64;

    fn image(height: usize, colour: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
        let rows = (0..height).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
        rows.flat_map(|(x, y)| colour(x, y)).collect()
    }

    fn grey(value: u8) -> Vec<u8> {
        image(48, |_, _| [value; 3])
    }

    /// Half of it darker than the rest: contrast of a known size.
    fn halves(low: u8, high: u8) -> Vec<u8> {
        image(48, |x, _| if x < WIDTH / 2 { [low; 3] } else { [high; 3] })
    }

    /// A generator of Lehmer's kind: any noise will do.
    fn noise() -> Vec<u8> {
        let mut state = 1_u64;
        let n = WIDTH * 48 * 3;
        let mut next = || {
            state = state * 48_271 % 0x7fff_ffff;
            u8::try_from(state >> 8 & 0xff).unwrap()
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn each_blindness_is_known_and_its_neighbour_is_not() {
        let judged = |pixels: &[u8]| judge(pixels, WIDTH, &EXPOSURE);
        assert_eq!(judged(&grey(0)), Some(Blind::Dark));
        assert_eq!(judged(&grey(5)), Some(Blind::Dark));
        assert_eq!(judged(&grey(6)), Some(Blind::Flat));
        assert_eq!(judged(&grey(128)), Some(Blind::Flat));
        assert_eq!(judged(&grey(249)), Some(Blind::Flat));
        assert_eq!(judged(&grey(250)), Some(Blind::Bright));
        assert_eq!(judged(&grey(255)), Some(Blind::Bright));
        assert_eq!(judged(&halves(100, 105)), Some(Blind::Flat));
        assert_eq!(judged(&halves(100, 120)), None);
        assert_eq!(judged(&noise()), Some(Blind::Noise));
    }

    /// A fine pattern is rough but has few grey levels; a slope has many but is smooth.
    #[test]
    fn patterns_and_slopes_are_no_noise() {
        let checks = image(48, |x, y| [if (x + y) % 2 == 0 { 20 } else { 220 }; 3]);
        assert_eq!(judge(&checks, WIDTH, &EXPOSURE), None);
        let slope = image(48, |x, y| [u8::try_from(4 * x + y / 16).unwrap(); 3]);
        assert_eq!(judge(&slope, WIDTH, &EXPOSURE), None);
    }

    #[test]
    fn what_has_no_pairs_is_not_judged() {
        for (pixels, width) in [(&[][..], 0), (&[], 64), (&[9, 9, 9], 1)] {
            assert_eq!(measure(pixels, width), None);
            assert_eq!(judge(pixels, width, &EXPOSURE), None);
        }
    }

    proptest! {
        #[test]
        fn measures_stay_in_their_ranges(
            pixels in prop::collection::vec(any::<u8>(), 0..4000),
            width in 0_usize..80,
        ) {
            if let Some(luma) = measure(&pixels, width) {
                prop_assert!((0.0..=255.0).contains(&luma.mean));
                prop_assert!((0.0..=127.5 + 1e-9).contains(&luma.deviation));
                prop_assert!((0.0..=255.0).contains(&luma.step));
                prop_assert!((-1e-9..=8.0 + 1e-9).contains(&luma.entropy_bits));
            }
        }

        #[test]
        fn one_colour_is_never_seen_as_something(value in any::<u8>(), height in 1_usize..40) {
            let pixels = image(height, |_, _| [value; 3]);
            prop_assert!(judge(&pixels, WIDTH, &EXPOSURE).is_some());
        }
    }
}
