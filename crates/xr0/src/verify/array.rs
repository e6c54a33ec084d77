//! Numbers with a shape, from files or tensors, and how far two of them are apart.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::error::Result;

use super::tolerance::Measure;

/// Numbers with a shape, row-major; f64 holds every stored number type exactly (ids stay below 2^53).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    /// Sizes of the axes.
    pub(super) shape: Vec<usize>,
    /// The numbers.
    pub(super) values: Vec<f64>,
}

/// Which elements count: those of real tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'a> {
    /// Which axis of the compared arrays counts tokens; axis 0 counts samples.
    pub(super) axis: usize,
    /// `(b, s)`: not 0 where the token is real.
    pub(super) mask: &'a Array,
}

impl Array {
    /// Makes one of numbers that f64 holds exactly.
    pub(super) fn new<T: Into<f64> + Copy>(shape: &[usize], values: &[T]) -> Self {
        Self {
            shape: shape.to_vec(),
            values: values.iter().map(|value| (*value).into()).collect(),
        }
    }

    /// Makes one of sizes and counts, which lie far below 2^53.
    pub(super) fn counts(shape: &[usize], values: &[usize]) -> Self {
        let values: Vec<_> = values.iter().map(|value| *value as f64).collect();
        Self::new(shape, &values)
    }

    /// Reads a stored tensor; the error names a number type that no set has.
    pub(super) fn stored(view: &TensorView<'_>) -> std::result::Result<Self, String> {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::BOOL | Dtype::U8 => data.iter().map(|byte| f64::from(*byte)).collect(),
            Dtype::I8 => words(data, |[byte]| f64::from(i8::from_le_bytes([byte]))),
            Dtype::I16 => words(data, |bytes| f64::from(i16::from_le_bytes(bytes))),
            Dtype::I32 => words(data, |bytes| f64::from(i32::from_le_bytes(bytes))),
            Dtype::U32 => words(data, |bytes| f64::from(u32::from_le_bytes(bytes))),
            Dtype::I64 => words(data, |bytes| i64::from_le_bytes(bytes) as f64),
            Dtype::F16 => words(data, |bytes| f16::from_le_bytes(bytes).to_f64()),
            Dtype::BF16 => words(data, |bytes| bf16::from_le_bytes(bytes).to_f64()),
            Dtype::F32 => words(data, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::F64 => words(data, f64::from_le_bytes),
            other => return Err(format!("number type {other:?} is not known")),
        };
        Ok(Self {
            shape: view.shape().to_vec(),
            values,
        })
    }

    /// Reads a computed tensor.
    pub(super) fn computed(tensor: &Tensor) -> Result<Self> {
        let shape = tensor.dims().to_vec();
        let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
        let values = flat.to_dtype(DType::F64)?.to_vec1()?;
        Ok(Self { shape, values })
    }

    /// Gives it as an f32 tensor on the CPU.
    pub(super) fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_vec(
            self.f32(),
            self.shape.as_slice(),
            &Device::Cpu,
        )?)
    }

    /// Gives its numbers as f32.
    pub(super) fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|value| *value as f32).collect()
    }

    /// Gives its numbers as bytes; none if one of them is no byte.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let byte = |value: &f64| {
            (value.fract() == 0.0 && (0.0..256.0).contains(value)).then_some(*value as u8)
        };
        self.values.iter().map(byte).collect()
    }

    /// Makes one of a single number.
    pub(super) fn number(value: f64) -> Self {
        Self::new(&[], &[value])
    }

    /// Takes every `r`-th entry of an axis.
    pub(super) fn every(&self, r: usize, axis: usize) -> Self {
        let mut shape = self.shape.clone();
        let n = shape.get(axis).copied().unwrap_or(0).max(1);
        let inner: usize = shape.iter().skip(axis + 1).product();
        if let Some(size) = shape.get_mut(axis) {
            *size = size.div_ceil(r);
        }
        let rows = self.values.chunks(inner.max(1)).enumerate();
        let taken = rows.filter(|(row, _)| (row % n).is_multiple_of(r));
        let values = taken.flat_map(|(_, row)| row.iter().copied()).collect();
        Self { shape, values }
    }

    /// Gives how far another array of the same shape lies from this, stored one.
    ///
    /// A number that is not finite, on either side, makes it infinite. Fails where the shapes
    /// differ, or where not a single element counts: that would pass without a comparison.
    pub(super) fn apart(
        &self,
        computed: &Self,
        measure: Measure,
        tokens: Option<Tokens<'_>>,
    ) -> std::result::Result<f64, String> {
        let over = |difference: f64, scale: f64| {
            if difference == 0.0 {
                0.0
            } else {
                difference / scale
            }
        };
        let largest = || {
            self.values
                .iter()
                .fold(0.0, |largest, x: &f64| x.abs().max(largest))
        };
        match measure {
            Measure::Absolute => self.difference(computed, tokens),
            Measure::OfLargest => Ok(over(self.difference(computed, tokens)?, largest())),
            Measure::Relative => {
                let scaled = |array: &Self| Self {
                    shape: array.shape.clone(),
                    values: (array.values.iter().zip(&self.values))
                        .map(|(x, stored)| over(*x, stored.abs()))
                        .collect(),
                };
                if self.shape == computed.shape {
                    scaled(self).difference(&scaled(computed), tokens)
                } else {
                    self.difference(computed, tokens)
                }
            }
        }
    }

    /// Gives the largest absolute difference to another array of the same shape; as [`Self::apart`].
    pub(super) fn difference(
        &self,
        other: &Self,
        tokens: Option<Tokens<'_>>,
    ) -> std::result::Result<f64, String> {
        if self.shape != other.shape {
            return Err(format!(
                "shape {:?} is stored, {:?} was computed",
                self.shape, other.shape
            ));
        }
        let counts = match tokens {
            Some(tokens) => tokens.flags(&self.shape)?,
            None => vec![true; self.values.len()],
        };
        let pairs = self.values.iter().zip(&other.values).zip(&counts);
        let mut differences = pairs.filter(|(_, counts)| **counts).map(|((a, b), _)| {
            if a.is_finite() && b.is_finite() {
                (a - b).abs()
            } else {
                f64::INFINITY
            }
        });
        let first = differences.next().ok_or("not one element counts")?;
        Ok(differences.fold(first, f64::max))
    }
}

impl Tokens<'_> {
    /// Spreads the mask over all elements of an array of this shape.
    fn flags(&self, shape: &[usize]) -> std::result::Result<Vec<bool>, String> {
        let (samples, n_tokens) = match (shape.first(), shape.get(self.axis)) {
            (Some(samples), Some(n_tokens)) => (*samples, *n_tokens),
            _ => return Err(format!("shape {shape:?} has no axis of tokens")),
        };
        if self.mask.shape != [samples, n_tokens] {
            let mask = &self.mask.shape;
            return Err(format!(
                "shape {shape:?} does not fit attention_mask {mask:?}"
            ));
        }
        let inner: usize = shape[self.axis + 1..].iter().product();
        let outer: usize = shape[1..self.axis].iter().product();
        let rows = self.mask.values.chunks(n_tokens.max(1));
        let flags = rows.flat_map(|row| {
            std::iter::repeat_n(row, outer)
                .flatten()
                .flat_map(|flag| std::iter::repeat_n(*flag != 0.0, inner))
        });
        Ok(flags.collect())
    }
}

/// Reads little-endian numbers; the safetensors crate has checked that the bytes come out even.
fn words<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.as_chunks::<N>()
        .0
        .iter()
        .map(|bytes| read(*bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], values: &[f64]) -> Array {
        Array::new(shape, values)
    }

    #[test]
    fn the_largest_difference_counts() {
        let a = array(&[3], &[1.0, 2.0, 3.0]);
        let b = array(&[3], &[1.0, 2.5, 2.75]);
        assert_eq!(a.difference(&b, None), Ok(0.5));
        assert_eq!(a.difference(&a, None), Ok(0.0));
    }

    #[test]
    fn numbers_that_are_not_finite_never_agree() {
        for bad in [f64::NAN, f64::INFINITY] {
            let (good, bad) = (array(&[2], &[1.0, 0.0]), array(&[2], &[bad, 0.0]));
            for (stored, computed) in [(&good, &bad), (&bad, &good), (&bad, &bad)] {
                assert_eq!(stored.difference(computed, None), Ok(f64::INFINITY));
            }
        }
    }

    #[test]
    fn other_shapes_are_no_match() {
        let a = array(&[2, 1], &[1.0, 2.0]);
        let b = array(&[1, 2], &[1.0, 2.0]);
        assert!(a.difference(&b, None).is_err());
        let nothing = array(&[0], &[]);
        assert!(nothing.difference(&nothing, None).is_err());
    }

    #[test]
    fn each_measure_has_its_own_scale() {
        let (stored, computed) = (array(&[2], &[10.0, -0.5]), array(&[2], &[10.1, -0.4]));
        for (measure, wanted) in [
            (Measure::Absolute, 0.1),
            (Measure::Relative, 0.2),
            (Measure::OfLargest, 0.01),
        ] {
            let apart = stored.apart(&computed, measure, None).unwrap();
            assert!((apart - wanted).abs() < 1e-12, "{measure:?} {apart}");
        }
    }

    #[test]
    fn zero_agrees_with_zero_alone_and_what_is_not_finite_with_nothing() {
        for measure in [Measure::Relative, Measure::OfLargest] {
            let apart = |a: f64, b: f64| {
                array(&[1], &[a])
                    .apart(&array(&[1], &[b]), measure, None)
                    .unwrap()
            };
            assert!(apart(0.0, 0.0).total_cmp(&0.0).is_eq());
            for (a, b) in [
                (0.0, 1e-30),
                (1.0, f64::NAN),
                (f64::NAN, 1.0),
                (f64::INFINITY, 1.0),
            ] {
                assert!(!apart(a, b).is_finite(), "{measure:?} {a} {b}");
            }
            let other = array(&[2], &[0.0; 2]);
            assert!(array(&[1], &[0.0]).apart(&other, measure, None).is_err());
        }
    }

    #[test]
    fn every_second_entry_of_an_axis_is_taken() {
        let all = array(&[2, 4, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(all.every(2, 1), array(&[2, 2, 1], &[0.0, 2.0, 4.0, 6.0]));
        assert_eq!(all.every(2, 0), array(&[1, 4, 1], &[0.0, 1.0, 2.0, 3.0]));
        assert_eq!(all.every(1, 2), all);
    }

    /// `(b, heads, s, d)` = (2, 2, 3, 1); the second sample has one real token.
    #[test]
    fn padding_does_not_count() {
        let mask = array(&[2, 3], &[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        let zero = array(&[2, 2, 3, 1], &[0.0; 12]);
        let tokens = Tokens {
            axis: 2,
            mask: &mask,
        };
        for (element, counts) in [
            true, true, true, true, true, true, true, false, false, true, false, false,
        ]
        .into_iter()
        .enumerate()
        {
            let mut other = zero.clone();
            other.values[element] = 1.0;
            let difference = zero.difference(&other, Some(tokens)).unwrap();
            assert_eq!(difference > 0.0, counts, "{element}");
        }
    }

    #[test]
    fn a_mask_of_padding_alone_or_of_another_shape_is_refused() {
        let zero = array(&[1, 2, 1], &[0.0; 2]);
        for mask in [
            array(&[1, 2], &[0.0; 2]),
            array(&[1, 3], &[1.0; 3]),
            array(&[2], &[1.0; 2]),
        ] {
            assert!(
                zero.difference(
                    &zero,
                    Some(Tokens {
                        axis: 1,
                        mask: &mask
                    })
                )
                .is_err()
            );
        }
        let flat = array(&[2], &[0.0; 2]);
        let mask = array(&[2, 1], &[1.0; 2]);
        assert!(
            flat.difference(
                &flat,
                Some(Tokens {
                    axis: 1,
                    mask: &mask
                })
            )
            .is_err()
        );
    }

    #[test]
    fn every_number_type_is_read() {
        for (dtype, data, value) in [
            (Dtype::U8, vec![200], 200.0),
            (Dtype::BOOL, vec![1], 1.0),
            (Dtype::I64, (-7_i64).to_le_bytes().to_vec(), -7.0),
            (Dtype::I32, (-7_i32).to_le_bytes().to_vec(), -7.0),
            (Dtype::F32, 1.5_f32.to_le_bytes().to_vec(), 1.5),
            (Dtype::F64, 1.5_f64.to_le_bytes().to_vec(), 1.5),
            (Dtype::BF16, bf16::from_f32(1.5).to_le_bytes().to_vec(), 1.5),
            (Dtype::F16, f16::from_f32(1.5).to_le_bytes().to_vec(), 1.5),
        ] {
            let view = TensorView::new(dtype, vec![1], &data).unwrap();
            assert_eq!(Array::stored(&view).unwrap().values, [value], "{dtype:?}");
        }
    }
}
