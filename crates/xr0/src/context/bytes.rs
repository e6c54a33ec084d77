//! A layer of a context as bytes: what travels between processes.
//!
//! *Exact* is the type that the layer was computed in, to the bit. *Eight-bit* is a byte a number
//! with one scale for each channel of each head, over the tokens: half the bytes of bf16. Keys and
//! values have scales of their own. The error that this causes in the actions: README of this crate.

use std::fmt;
use std::str::FromStr;

use bytemuck::{cast_slice, cast_slice_mut};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use half::bf16;
use serde::{Deserialize, Serialize};

use crate::context::KvLayer;
use crate::error::{Error, Result};

/// How a layer becomes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// In the type that it was computed in, to the bit.
    #[default]
    Exact,
    /// A byte a number, with a scale a channel.
    EightBit,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exact => "exact",
            Self::EightBit => "eight-bit",
        })
    }
}

impl FromStr for Encoding {
    type Err = Error;

    /// Reads `exact` or `eight-bit`.
    ///
    /// # Errors
    /// Any other text.
    fn from_str(text: &str) -> Result<Self> {
        let known = [Self::Exact, Self::EightBit];
        let found = known.into_iter().find(|known| known.to_string() == text);
        found
            .ok_or_else(|| Error::input(format!("{text:?} is no encoding: say exact or eight-bit")))
    }
}

/// What the numbers of a layer are as bytes, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// Signed bytes, then a scale (f32) for each channel: `[2, kv_heads, head_dim]`.
    Int8,
}

/// What stands in a layer's bytes: numbers row-major, keys before values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerForm {
    /// Type of the numbers.
    pub number: Number,
    /// `[2, kv_heads, s, head_dim]`: keys, then values.
    pub shape: [usize; 4],
}

impl LayerForm {
    /// Counts the bytes; `None` if there are more than a machine can count, or if keys and values
    /// are not two.
    pub fn n_bytes(&self) -> Option<usize> {
        let [two, kv, s, d] = self.shape;
        let heads = (two == 2).then_some(two)?.checked_mul(kv)?;
        let n = heads.checked_mul(s)?.checked_mul(d)?;
        match self.number {
            Number::F32 => n.checked_mul(4),
            Number::Bf16 => n.checked_mul(2),
            Number::Int8 => heads.checked_mul(d)?.checked_mul(4)?.checked_add(n),
        }
    }
}

impl KvLayer {
    /// Says how a layer of one prompt looks as bytes.
    ///
    /// # Errors
    /// A layer of several prompts, or of another type than f32 and bf16.
    pub fn form(&self, encoding: Encoding) -> Result<LayerForm> {
        let (b, kv, s, d) = self.k.dims4()?;
        if b != 1 || self.v.dims() != self.k.dims() || self.v.dtype() != self.k.dtype() {
            return Err(Error::input(
                "only a layer of one prompt can be handed over",
            ));
        }
        let number = match (encoding, self.k.dtype()) {
            (Encoding::EightBit, DType::F32 | DType::BF16) => Number::Int8,
            (Encoding::Exact, DType::F32) => Number::F32,
            (Encoding::Exact, DType::BF16) => Number::Bf16,
            (_, other) => {
                let problem = format!("a context cannot travel as {other:?}");
                return Err(Error::input(problem));
            }
        };
        Ok(LayerForm {
            number,
            shape: [2, kv, s, d],
        })
    }

    /// Writes the layer's bytes, of [`KvLayer::form`], into `out`: one copy from the processor's
    /// memory.
    ///
    /// # Errors
    /// An `out` of another length.
    pub fn write(&self, encoding: Encoding, out: &mut [u8]) -> Result<()> {
        let form = self.form(encoding)?;
        if form.n_bytes() != Some(out.len()) {
            return Err(Error::input("the buffer does not fit the layer"));
        }
        let half = form.shape.iter().skip(1).product::<usize>();
        match form.number {
            Number::F32 => {
                let (keys, values) = out.split_at_mut(half * 4);
                copy(&self.k, keys)?;
                copy(&self.v, values)
            }
            Number::Bf16 => {
                let (keys, values) = out.split_at_mut(half * 2);
                copy(&self.k, keys)?;
                copy(&self.v, values)
            }
            Number::Int8 => {
                let (numbers, scales) = out.split_at_mut(half * 2);
                let (keys, values) = numbers.split_at_mut(half);
                let (of_keys, of_values) = scales.split_at_mut(scales.len() / 2);
                quantise(&self.k, keys, of_keys)?;
                quantise(&self.v, values, of_values)
            }
        }
    }

    /// Makes a layer of one prompt from what [`KvLayer::write`] wrote. Eight-bit layers become f32.
    ///
    /// # Errors
    /// Bytes that do not fit the form, or numbers that are not finite.
    pub fn read(form: &LayerForm, bytes: &[u8], device: &Device) -> Result<Self> {
        if form.n_bytes() != Some(bytes.len()) {
            return Err(Error::input(
                "a layer's bytes do not fit its type and shape",
            ));
        }
        let [_, kv, s, d] = form.shape;
        let half = kv * s * d;
        let shape = (1, kv, s, d);
        let (k, v) = match form.number {
            Number::F32 => {
                let (keys, values) = bytes.split_at(half * 4);
                (f32s(keys)?, f32s(values)?)
            }
            Number::Bf16 => {
                let (keys, values) = bytes.split_at(half * 2);
                let layer = Self {
                    k: Tensor::from_vec(bf16s(keys)?, shape, device)?,
                    v: Tensor::from_vec(bf16s(values)?, shape, device)?,
                };
                return Ok(layer);
            }
            Number::Int8 => {
                let (numbers, scales) = bytes.split_at(half * 2);
                let scales = f32s(scales)?;
                let (of_keys, of_values) = scales.split_at(kv * d);
                let (keys, values) = numbers.split_at(half);
                (
                    widened(keys, of_keys, (s, d)),
                    widened(values, of_values, (s, d)),
                )
            }
        };
        Ok(Self {
            k: Tensor::from_vec(k, shape, device)?,
            v: Tensor::from_vec(v, shape, device)?,
        })
    }
}

/// Copies a tensor's numbers, in the order of its shape; once, where they lie in order in the
/// processor's memory.
fn copy(x: &Tensor, out: &mut [u8]) -> Result<()> {
    let x = x.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let own = layout.contiguous_offsets().map(|(from, until)| from..until);
    let copied = match (&*storage, own) {
        (Storage::Cpu(CpuStorage::F32(numbers)), Some(own)) => place(out, &numbers[own]),
        (Storage::Cpu(CpuStorage::BF16(numbers)), Some(own)) => place(out, &numbers[own]),
        _ => false,
    };
    let refused = || Error::input("a context cannot travel in this number type");
    copied.then_some(()).ok_or_else(refused)
}

/// Copies numbers; says whether they are as many bytes as `out` holds.
fn place<T: bytemuck::Pod>(out: &mut [u8], numbers: &[T]) -> bool {
    let bytes: &[u8] = cast_slice(numbers);
    let fits = bytes.len() == out.len();
    if fits {
        out.copy_from_slice(bytes);
    }
    fits
}

/// Rounds each channel of each head to 127 steps on either side of zero.
fn quantise(x: &Tensor, out: &mut [u8], scales: &mut [u8]) -> Result<()> {
    let (_, kv, s, d) = x.dims4()?;
    let numbers: Vec<f32> = x
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1()?;
    for head in 0..kv {
        let own = &numbers[head * s * d..(head + 1) * s * d];
        let mut largest = vec![0f32; d];
        for row in own.chunks_exact(d) {
            for (largest, x) in largest.iter_mut().zip(row) {
                // What is not finite makes the scale so, and the reader refuses it.
                let size = if x.is_finite() {
                    x.abs()
                } else {
                    f32::INFINITY
                };
                *largest = largest.max(size);
            }
        }
        let steps: Vec<f32> = largest.iter().map(|largest| largest / 127.0).collect();
        let places = out[head * s * d..(head + 1) * s * d].chunks_exact_mut(d);
        for (row, places) in own.chunks_exact(d).zip(places) {
            for ((x, step), place) in row.iter().zip(&steps).zip(places) {
                let rounded = if *step == 0.0 {
                    0.0
                } else {
                    (x / step).round()
                };
                *place = (rounded.clamp(-127.0, 127.0) as i8) as u8;
            }
        }
        for (step, place) in steps.iter().zip(scales[head * d * 4..].chunks_exact_mut(4)) {
            place.copy_from_slice(&step.to_le_bytes());
        }
    }
    Ok(())
}

/// Signed bytes times their channel's scale.
fn widened(numbers: &[u8], scales: &[f32], (s, d): (usize, usize)) -> Vec<f32> {
    let rows = numbers.chunks_exact(d).enumerate();
    rows.flat_map(|(row, numbers)| {
        let own = &scales[row / s * d..(row / s + 1) * d];
        (numbers.iter().zip(own)).map(|(number, scale)| f32::from(*number as i8) * scale)
    })
    .collect()
}

/// Reads floats, and refuses those that are not finite.
fn f32s(bytes: &[u8]) -> Result<Vec<f32>> {
    let mut numbers = vec![0f32; bytes.len() / 4];
    cast_slice_mut::<f32, u8>(&mut numbers).copy_from_slice(bytes);
    // An exponent of ones is infinite or no number; without a branch, so that it runs at memory's speed.
    let odd = |worst: bool, x: &f32| worst | (x.to_bits() & 0x7f80_0000 == 0x7f80_0000);
    finite(!numbers.iter().fold(false, odd), numbers)
}

/// The same for bfloat16.
fn bf16s(bytes: &[u8]) -> Result<Vec<bf16>> {
    let mut numbers = vec![bf16::ZERO; bytes.len() / 2];
    cast_slice_mut::<bf16, u8>(&mut numbers).copy_from_slice(bytes);
    let odd = |worst: bool, x: &bf16| worst | (x.to_bits() & 0x7f80 == 0x7f80);
    finite(!numbers.iter().fold(false, odd), numbers)
}

fn finite<T>(all: bool, numbers: Vec<T>) -> Result<Vec<T>> {
    if all {
        Ok(numbers)
    } else {
        Err(Error::input("a layer holds a number that is not finite"))
    }
}

#[cfg(target_endian = "big")]
compile_error!("contexts travel as the machine holds them, which must be little endian");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: (usize, usize, usize, usize) = (1, 2, 3, 4);

    fn layer(k: Vec<f32>, v: Vec<f32>, dtype: DType) -> KvLayer {
        let tensor = |x| Tensor::from_vec(x, SHAPE, &Device::Cpu).unwrap();
        let typed = |x| tensor(x).to_dtype(dtype).unwrap();
        KvLayer {
            k: typed(k),
            v: typed(v),
        }
    }

    fn some(dtype: DType) -> KvLayer {
        let numbers = |shift: f32| (0..24).map(|i| (i as f32 + shift).sin()).collect();
        layer(numbers(0.0), numbers(0.5), dtype)
    }

    fn numbers(x: &Tensor) -> Vec<f32> {
        let wide = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        wide.to_vec1().unwrap()
    }

    fn written(layer: &KvLayer, encoding: Encoding) -> (LayerForm, Vec<u8>) {
        let form = layer.form(encoding).unwrap();
        let mut bytes = vec![0xaa; form.n_bytes().unwrap()];
        layer.write(encoding, &mut bytes).unwrap();
        (form, bytes)
    }

    #[test]
    fn an_exact_layer_survives_the_journey_bit_for_bit() {
        for dtype in [DType::F32, DType::BF16] {
            let layer = some(dtype);
            let (form, bytes) = written(&layer, Encoding::Exact);
            let back = KvLayer::read(&form, &bytes, &Device::Cpu).unwrap();
            assert_eq!(back.k.dtype(), dtype);
            assert_eq!(numbers(&back.k), numbers(&layer.k));
            assert_eq!(numbers(&back.v), numbers(&layer.v));
        }
    }

    #[test]
    fn a_view_of_a_larger_tensor_travels_as_what_it_shows() {
        let both = Tensor::arange(0f32, 96.0, &Device::Cpu).unwrap();
        let both = both.reshape((2, 2, 6, 4)).unwrap();
        let view = KvLayer {
            k: both.narrow(0, 1, 1).unwrap(),
            v: both.narrow(0, 0, 1).unwrap().narrow(2, 2, 3).unwrap(),
        };
        let view = KvLayer {
            k: view.k.narrow(2, 0, 3).unwrap(),
            ..view
        };
        let (form, bytes) = written(&view, Encoding::Exact);
        let back = KvLayer::read(&form, &bytes, &Device::Cpu).unwrap();
        assert_eq!(numbers(&back.k), numbers(&view.k));
        assert_eq!(numbers(&back.v), numbers(&view.v));
    }

    proptest! {
        #[test]
        fn eight_bits_are_off_by_half_a_step_of_their_channel(
            k in proptest::collection::vec(-50f32..50.0, 24),
            v in proptest::collection::vec(-0.01f32..0.01, 24),
        ) {
            let layer = layer(k, v, DType::F32);
            let (form, bytes) = written(&layer, Encoding::EightBit);
            let back = KvLayer::read(&form, &bytes, &Device::Cpu).unwrap();
            for (was, is) in [(&layer.k, &back.k), (&layer.v, &back.v)] {
                let (was, is) = (numbers(was), numbers(is));
                for head in 0..2 {
                    for channel in 0..4 {
                        let at = |row: usize| head * 12 + row * 4 + channel;
                        let largest = (0..3).map(|row| was[at(row)].abs()).fold(0f32, f32::max);
                        for row in 0..3 {
                            let off = (was[at(row)] - is[at(row)]).abs();
                            prop_assert!(off <= largest / 254.0 * 1.001);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn eight_bits_are_half_the_bytes_of_bf16_and_the_scales() {
        let layer = some(DType::BF16);
        let n = |encoding| written(&layer, encoding).1.len();
        assert_eq!(
            n(Encoding::EightBit),
            n(Encoding::Exact) / 2 + 2 * 2 * 4 * 4
        );
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        let (form, bytes) = written(&some(DType::F32), Encoding::Exact);
        let read = |form: LayerForm, bytes: &[u8]| KvLayer::read(&form, bytes, &Device::Cpu);
        assert!(read(form, &bytes).is_ok());
        assert!(read(form, &bytes[1..]).is_err());
        for shape in [[1, 4, 3, 4], [2, usize::MAX, 3, 4], [2, 2, 3, 5]] {
            assert!(read(LayerForm { shape, ..form }, &bytes).is_err());
        }
        let number = Number::Int8;
        assert!(read(LayerForm { number, ..form }, &bytes).is_err());
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_in_every_encoding() {
        for (dtype, encoding) in [
            (DType::F32, Encoding::Exact),
            (DType::BF16, Encoding::Exact),
            (DType::F32, Encoding::EightBit),
        ] {
            let mut k = vec![1.0; 24];
            k[7] = f32::NAN;
            let mut v = vec![1.0; 24];
            v[9] = f32::INFINITY;
            for bad in [
                layer(k, vec![1.0; 24], dtype),
                layer(vec![1.0; 24], v, dtype),
            ] {
                let form = bad.form(encoding).unwrap();
                let mut bytes = vec![0; form.n_bytes().unwrap()];
                bad.write(encoding, &mut bytes).unwrap();
                let back = KvLayer::read(&form, &bytes, &Device::Cpu);
                assert!(back.is_err(), "{dtype:?} {encoding}");
            }
        }
    }
}
