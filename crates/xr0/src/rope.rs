//! Rotary position embedding: frequencies, tables, rotation (reference §3.5, §4, §6.6).

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use half::bf16;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::nn::weights::Path;

/// Base of the vision tower's frequencies.
const VISION_THETA: f32 = 10_000.0;
/// Positions whose angles are computed once: those of the longest prompt, with a chunk and its gap.
const POSITIONS: u32 = 4096 + 512;

/// Cosines and sines of the angles of every position.
#[derive(Debug, Clone)]
pub struct Tables {
    /// `(b, s, d/2)`, f32.
    cos: Tensor,
    /// `(b, s, d/2)`, f32.
    sin: Tensor,
}

impl Tables {
    /// Makes them from cosines and sines `(b, s, d/2)`.
    fn new(
        (cos, sin): (Vec<f32>, Vec<f32>),
        shape: (usize, usize, usize),
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
        })
    }

    /// Positions of each sample.
    ///
    /// # Errors
    /// None for tables that were made here.
    pub fn positions(&self) -> Result<usize> {
        Ok(self.cos.dim(1)?)
    }

    /// Cosines and sines `(b, s, d)`: each row holds its angles twice, as the reference has them.
    ///
    /// # Errors
    /// What the device says.
    pub fn twice(&self) -> Result<(Tensor, Tensor)> {
        let twice = |half: &Tensor| Tensor::cat(&[half, half], D::Minus1);
        Ok((twice(&self.cos)?, twice(&self.sin)?))
    }

    /// Rotates each head: `x·cos + [−x₂, x₁]·sin` with `x₁`, `x₂` the halves of a head.
    ///
    /// `(b, h, s, d)` → the same shape and type; computed in the tables' f32.
    ///
    /// # Errors
    /// Another number of positions, or another width of a head.
    pub fn rotate(&self, x: &Tensor, path: Path) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        if path.fuses(&wide) {
            let rotated = candle_nn::rotary_emb::rope(&wide.contiguous()?, &self.cos, &self.sin)?;
            return Ok(rotated.to_dtype(x.dtype())?);
        }
        let half = wide.dim(D::Minus1)? / 2;
        let low = wide.narrow(D::Minus1, 0, half)?;
        let high = wide.narrow(D::Minus1, half, half)?;
        let cos = self.cos.unsqueeze(1)?; // (b, 1, s, d/2)
        let sin = self.sin.unsqueeze(1)?;
        let first = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let second = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        Ok(Tensor::cat(&[&first, &second], D::Minus1)?.to_dtype(x.dtype())?)
    }
}

/// `theta^(−2k/dim)` for `k < dim/2`, in f32 as the reference computes it.
///
/// `rounded` rounds each to bfloat16: casting the whole reference model to bf16 did so.
pub fn inv_freq(theta: f32, dim: usize, rounded: bool) -> Vec<f32> {
    let exact = |k: usize| 1.0 / theta.powf((2 * k) as f32 / dim as f32);
    let round = |f: f32| {
        if rounded {
            bf16::from_f32(f).to_f32()
        } else {
            f
        }
    };
    (0..dim / 2).map(|k| round(exact(k))).collect()
}

/// The rotary embedding of the text model and of the action expert: interleaved MRoPE.
///
/// The angles do not depend on what is seen: cosines and sines of the first `POSITIONS` positions
/// are computed once, and picked when they are needed.
#[derive(Debug, Clone)]
pub struct Mrope {
    inv_freq: Vec<f32>,
    /// Which axis (time, height, width) turns each frequency.
    axis: Vec<usize>,
    /// Cosine and sine, `(POSITIONS, d/2)`.
    known: Arc<[(f32, f32)]>,
    device: Device,
}

impl Mrope {
    /// Makes it for a model.
    ///
    /// # Errors
    /// A configuration without rotary settings.
    pub fn new(config: &Config, rounded: bool, device: &Device) -> Result<Self> {
        let lacks = || Error::input("config.json: text_config has no rotary settings");
        let theta = config.rope_theta().ok_or_else(lacks)?;
        let scaling = config.text().rope_scaling.as_ref().ok_or_else(lacks)?;
        let [_, height, width] = scaling.mrope_section;
        let axis = |k: usize| match k % 3 {
            1 if k < 3 * height => 1,
            2 if k < 3 * width => 2,
            _ => 0,
        };
        let dim = config.text().head_dim;
        let inv_freq = inv_freq(theta as f32, dim, rounded);
        let at = |position: u32| inv_freq.iter().map(move |freq| turn(position, *freq));
        Ok(Self {
            known: (0..POSITIONS).flat_map(at).collect(),
            axis: (0..dim / 2).map(axis).collect(),
            inv_freq,
            device: device.clone(),
        })
    }

    /// Gives the tables of `(b, s)` positions, one list an axis.
    ///
    /// # Errors
    /// What the device says.
    pub fn tables(&self, positions: &[Vec<u32>; 3], (b, s): (usize, usize)) -> Result<Tables> {
        let half = self.inv_freq.len();
        let (mut cos, mut sin) = (
            Vec::with_capacity(b * s * half),
            Vec::with_capacity(b * s * half),
        );
        let [time, height, width] = positions;
        for ((t, h), w) in time.iter().zip(height).zip(width) {
            let place = [*t, *h, *w];
            for (k, axis) in self.axis.iter().enumerate() {
                let (c, s) = self.at(place[*axis], k);
                cos.push(c);
                sin.push(s);
            }
        }
        Tables::new((cos, sin), (b, s, half), &self.device)
    }

    /// Cosine and sine of frequency `k` at a position.
    fn at(&self, position: u32, k: usize) -> (f32, f32) {
        if position < POSITIONS {
            self.known[position as usize * self.inv_freq.len() + k]
        } else {
            turn(position, self.inv_freq[k])
        }
    }
}

/// Cosine and sine of an angle.
fn turn(position: u32, freq: f32) -> (f32, f32) {
    let angle = position as f32 * freq;
    (angle.cos(), angle.sin())
}

/// The tables of an image's patches, each at `(row, column)`: half of a head turns with the row,
/// half with the column (reference §4.3).
///
/// # Errors
/// What the device says.
pub fn vision_tables(
    places: &[(usize, usize)],
    head_dim: usize,
    rounded: bool,
    device: &Device,
) -> Result<Tables> {
    let freq = inv_freq(VISION_THETA, head_dim / 2, rounded);
    let axes = places.iter().flat_map(|(row, column)| [*row, *column]);
    let turns = axes.flat_map(|place| freq.iter().map(move |freq| turn(place as u32, *freq)));
    Tables::new(turns.unzip(), (1, places.len(), head_dim / 2), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_by_position_zero_is_the_identity_and_keeps_lengths_elsewhere() {
        let tables = vision_tables(&[(0, 0), (3, 5)], 8, false, &Device::Cpu).unwrap();
        let x = Tensor::arange(0f32, 16.0, &Device::Cpu).unwrap();
        let x = x.reshape((1, 1, 2, 8)).unwrap();
        for path in [Path::Plain, Path::Served] {
            let y = tables.rotate(&x, path).unwrap();
            let rows = |t: &Tensor| t.reshape((2, 8)).unwrap().to_vec2::<f32>().unwrap();
            let (before, after) = (rows(&x), rows(&y));
            assert_eq!(before[0], after[0]);
            let length = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>();
            assert!((length(&before[1]) - length(&after[1])).abs() < 1e-2);
            assert!(before[1] != after[1]);
        }
    }

    #[test]
    fn angles_beyond_the_known_ones_are_computed_alike() {
        let config = crate::synth::Preset::Tiny.config().unwrap();
        let mrope = Mrope::new(&config, false, &Device::Cpu).unwrap();
        for position in [0, 1, 77, POSITIONS - 1, POSITIONS, 2 * POSITIONS] {
            for (k, freq) in mrope.inv_freq.iter().enumerate() {
                assert_eq!(mrope.at(position, k), turn(position, *freq));
            }
        }
    }

    #[test]
    fn rounding_changes_frequencies_by_less_than_one_part_in_two_hundred() {
        let (exact, rounded) = (inv_freq(5e6, 128, false), inv_freq(5e6, 128, true));
        assert!((exact[0] - 1.0).abs() < f32::EPSILON && exact != rounded);
        for (a, b) in exact.iter().zip(&rounded) {
            assert!((a - b).abs() < a / 200.0);
        }
    }
}
