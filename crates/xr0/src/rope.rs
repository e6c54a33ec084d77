//! Rotary position embedding: frequencies, tables, rotation (reference §3.5, §4, §6.6).

use candle_core::{D, DType, Device, Tensor};
use half::bf16;

use crate::config::Config;
use crate::error::{Error, Result};

/// Base of the vision tower's frequencies.
const VISION_THETA: f32 = 10_000.0;

/// Cosines and sines of every position; each row holds its angles twice.
#[derive(Debug, Clone)]
pub struct Tables {
    /// `(b, s, d)`, f32.
    pub cos: Tensor,
    /// `(b, s, d)`, f32.
    pub sin: Tensor,
}

impl Tables {
    /// Makes them from angles `(b, s, d/2)`.
    fn new(angles: Vec<f32>, (b, s, half): (usize, usize, usize), device: &Device) -> Result<Self> {
        let angles = Tensor::from_vec(angles, (b, s, half), device)?;
        let twice = Tensor::cat(&[&angles, &angles], D::Minus1)?; // (b, s, d)
        Ok(Self {
            cos: twice.cos()?,
            sin: twice.sin()?,
        })
    }

    /// Rotates each head: `x·cos + [−x₂, x₁]·sin` with `x₁`, `x₂` the halves of a head.
    ///
    /// `(b, h, s, d)` → the same shape and type; computed in the tables' f32.
    ///
    /// # Errors
    /// Another number of positions, or another width of a head.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let half = wide.dim(D::Minus1)? / 2;
        let low = wide.narrow(D::Minus1, 0, half)?;
        let high = wide.narrow(D::Minus1, half, half)?;
        let turned = Tensor::cat(&[&high.neg()?, &low], D::Minus1)?;
        let cos = self.cos.unsqueeze(1)?; // (b, 1, s, d)
        let sin = self.sin.unsqueeze(1)?;
        let rotated = (wide.broadcast_mul(&cos)? + turned.broadcast_mul(&sin)?)?;
        Ok(rotated.to_dtype(x.dtype())?)
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
#[derive(Debug, Clone)]
pub struct Mrope {
    inv_freq: Vec<f32>,
    /// Which axis (time, height, width) turns each frequency.
    axis: Vec<usize>,
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
        Ok(Self {
            inv_freq: inv_freq(theta as f32, dim, rounded),
            axis: (0..dim / 2).map(axis).collect(),
            device: device.clone(),
        })
    }

    /// Gives the tables of `(b, s)` positions, one list an axis.
    ///
    /// # Errors
    /// What the device says.
    pub fn tables(&self, positions: &[Vec<u32>; 3], (b, s): (usize, usize)) -> Result<Tables> {
        let half = self.inv_freq.len();
        let mut angles = Vec::with_capacity(b * s * half);
        let [time, height, width] = positions;
        for ((t, h), w) in time.iter().zip(height).zip(width) {
            let place = [*t as f32, *h as f32, *w as f32];
            let turns = self.inv_freq.iter().zip(&self.axis);
            angles.extend(turns.map(|(freq, axis)| place[*axis] * freq));
        }
        Tables::new(angles, (b, s, half), &self.device)
    }
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
    let mut angles = Vec::with_capacity(places.len() * head_dim / 2);
    for (row, column) in places {
        for place in [row, column] {
            angles.extend(freq.iter().map(|f| *place as f32 * f));
        }
    }
    Tables::new(angles, (1, places.len(), head_dim / 2), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_by_position_zero_is_the_identity_and_keeps_lengths_elsewhere() {
        let tables = vision_tables(&[(0, 0), (3, 5)], 8, false, &Device::Cpu).unwrap();
        let x = Tensor::arange(0f32, 16.0, &Device::Cpu).unwrap();
        let x = x.reshape((1, 1, 2, 8)).unwrap();
        let y = tables.rotate(&x).unwrap();
        let rows = |t: &Tensor| t.reshape((2, 8)).unwrap().to_vec2::<f32>().unwrap();
        let (before, after) = (rows(&x), rows(&y));
        assert_eq!(before[0], after[0]);
        let length = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>();
        assert!((length(&before[1]) - length(&after[1])).abs() < 1e-2);
        assert!(before[1] != after[1]);
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
