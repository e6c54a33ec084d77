//! A robot type's action statistics, and actions in physical units (reference §7.4 – §7.6).
//!
//! The chunk length of a robot type is the number of rows of its table, not `action_length`.
//! States are never normalised. Reference: `modeling_mibot.py` of the checkpoints. Profile A decodes
//! without the epsilon that the training code adds to the deviation; profile B has it in both
//! directions, and zeros in the slots that the robot type does not use.

use crate::error::{self, Error};

/// A deviation up to it marks a slot that the robot type does not use.
const ACTIVE_STD_MIN: f32 = 1e-5;
/// Profile B adds it to the deviation, in both directions.
const PROFILE_B_EPSILON: f32 = 1e-6;
/// Rows or slots beyond it are a lie or an attack.
const SIDE_MAX: usize = 4096;

/// Mean and deviation of every action slot, step by step.
#[derive(Debug, Clone, PartialEq)]
pub struct Normaliser {
    horizon: usize,
    width: usize,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normaliser {
    /// Takes the tables of a robot type, both `(horizon, width)`, row-major.
    ///
    /// # Errors
    /// A size of 0 or above 4096, a table of another length, a value that is not finite, a
    /// negative deviation.
    pub fn new(
        horizon: usize,
        width: usize,
        mean: Vec<f32>,
        std: Vec<f32>,
    ) -> Result<Self, String> {
        if !(1..=SIDE_MAX).contains(&horizon) || !(1..=SIDE_MAX).contains(&width) {
            return Err(format!(
                "{horizon} rows of {width} slots, both must lie in 1 to {SIDE_MAX}"
            ));
        }
        for (name, table) in [("mean", &mean), ("std", &std)] {
            if table.len() != horizon * width {
                return Err(format!(
                    "{name} has {} values, {horizon} rows of {width} slots need {}",
                    table.len(),
                    horizon * width
                ));
            }
            if !table.iter().all(|value| value.is_finite()) {
                return Err(format!("{name} holds a value that no f32 can hold"));
            }
        }
        if std.iter().any(|value| *value < 0.0) {
            return Err("std holds a negative value".to_owned());
        }
        Ok(Self {
            horizon,
            width,
            mean,
            std,
        })
    }

    /// Rows: the chunk length of the robot type.
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// Slots of an action.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Means, `(horizon, width)`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Deviations, `(horizon, width)`.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// Gives 1 for the slots that the robot type uses and 0 for the others, `(horizon, width)`.
    ///
    /// It multiplies what the action expert reads, never what it gives (reference §7.4).
    pub fn mask(&self) -> Vec<f32> {
        let active = self.std.iter().map(|std| ACTIVE_STD_MIN < *std);
        active.map(|used| f32::from(u8::from(used))).collect()
    }

    /// Turns normalised actions into physical units: `x * std + mean`, in f32 (reference §7.6,
    /// profile A).
    ///
    /// # Shapes
    /// `normalised` and the result: `(horizon, width)`, row-major.
    ///
    /// # Errors
    /// Another number of values.
    pub fn decode(&self, normalised: &[f32]) -> error::Result<Vec<f32>> {
        if normalised.len() != self.std.len() {
            return Err(Error::input(format!(
                "{} normalised values, {} rows of {} slots need {}",
                normalised.len(),
                self.horizon,
                self.width,
                self.std.len()
            )));
        }
        let tables = self.std.iter().zip(&self.mean);
        let decoded = normalised.iter().zip(tables);
        Ok(decoded.map(|(x, (std, mean))| x * std + mean).collect())
    }

    /// Normalises the first rows of a chunk: `(a - mean) / (std + 1e-6) * mask`, in f32 (reference
    /// §7.6, profile B). Row `i` uses row `i` of the tables.
    ///
    /// # Shapes
    /// `physical` and the result: `(rows, width)`, row-major, with at most `horizon` rows.
    ///
    /// # Errors
    /// A number of values that is no whole number of rows, or too many.
    pub fn encode(&self, physical: &[f32]) -> error::Result<Vec<f32>> {
        self.masked(physical, |a, std, mean| {
            (a - mean) / (std + PROFILE_B_EPSILON)
        })
    }

    /// Normalises the first rows of a chunk for a network of profile A, which decodes without the
    /// epsilon: `(a - mean) / std * mask`, in f32; [`Normaliser::decode`] turned round.
    ///
    /// # Shapes
    /// As [`Normaliser::encode`].
    ///
    /// # Errors
    /// As [`Normaliser::encode`].
    pub fn encode_plainly(&self, physical: &[f32]) -> error::Result<Vec<f32>> {
        self.masked(physical, |a, std, mean| (a - mean) / std)
    }

    /// Turns the first rows of a normalised chunk into physical units:
    /// `(x * (std + 1e-6) + mean) * mask`, in f32 (reference §7.6, profile B).
    ///
    /// # Shapes
    /// As [`Normaliser::encode`].
    ///
    /// # Errors
    /// As [`Normaliser::encode`].
    pub fn decode_masked(&self, normalised: &[f32]) -> error::Result<Vec<f32>> {
        self.masked(normalised, |x, std, mean| {
            x * (std + PROFILE_B_EPSILON) + mean
        })
    }

    /// Applies a function of value, deviation and mean; 0 in unused slots.
    fn masked(
        &self,
        values: &[f32],
        each: impl Fn(f32, f32, f32) -> f32,
    ) -> error::Result<Vec<f32>> {
        if self.std.len() < values.len() || !values.len().is_multiple_of(self.width) {
            return Err(Error::input(format!(
                "{} values are no whole rows of {} slots, at most {} rows",
                values.len(),
                self.width,
                self.horizon
            )));
        }
        let tables = self.std.iter().zip(&self.mean);
        let one = |(value, (std, mean)): (&f32, (&f32, &f32))| {
            if ACTIVE_STD_MIN < *std {
                each(*value, *std, *mean)
            } else {
                0.0
            }
        };
        Ok(values.iter().zip(tables).map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Normaliser;

    fn two_by_two() -> Normaliser {
        Normaliser::new(
            2,
            2,
            vec![1.0, -2.0, 0.5, 0.0],
            vec![2.0, 0.0, 1e-5, 1.1e-5],
        )
        .unwrap()
    }

    #[test]
    fn a_slot_with_a_deviation_of_one_hundred_thousandth_is_unused() {
        assert_eq!(two_by_two().mask(), [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn decoding_scales_then_shifts_each_row_by_its_own() {
        let decoded = two_by_two().decode(&[3.0, 100.0, 0.0, 0.0]).unwrap();
        assert_eq!(decoded, [7.0, -2.0, 0.5, 0.0]);
    }

    #[test]
    fn a_prefix_is_encoded_row_by_row_and_decoded_back() {
        let normaliser = two_by_two();
        let encoded = normaliser.encode(&[7.0, 5.0]).unwrap();
        assert_eq!(encoded, [(7.0 - 1.0) / (2.0f32 + 1e-6), 0.0]);
        let back = normaliser.decode_masked(&encoded).unwrap();
        assert!((back[0] - 7.0).abs() < 1e-6 && back[1].total_cmp(&0.0).is_eq());
        let second_row = normaliser.encode(&[0.0, 0.0, 9.0, 2.2e-5]).unwrap();
        assert_eq!(second_row[2..], [0.0, 2.2e-5 / (1.1e-5f32 + 1e-6)]);
    }

    #[test]
    fn without_the_epsilon_encoding_is_decoding_turned_round() {
        let normaliser = two_by_two();
        let physical = normaliser.decode(&[3.0, 0.0, 0.0, -7.0]).unwrap();
        let encoded = normaliser.encode_plainly(&physical).unwrap();
        for (ours, normalised) in encoded.iter().zip([3.0, 0.0, 0.0, -7.0]) {
            assert!((ours - normalised).abs() < 1e-5, "{encoded:?}");
        }
    }

    #[test]
    fn more_or_broken_rows_are_neither_encoded_nor_decoded() {
        for n in [1, 3, 6] {
            assert!(two_by_two().encode(&vec![0.0; n]).is_err(), "{n}");
            assert!(two_by_two().decode_masked(&vec![0.0; n]).is_err(), "{n}");
        }
        assert!(two_by_two().encode(&[]).unwrap().is_empty());
    }

    #[test]
    fn another_number_of_values_is_refused_with_the_number_that_fits() {
        let error = two_by_two().decode(&[0.0; 6]).unwrap_err().to_string();
        assert_eq!(error, "6 normalised values, 2 rows of 2 slots need 4");
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let bad = [
            Normaliser::new(0, 2, vec![], vec![]),
            Normaliser::new(1, 4097, vec![0.0; 4097], vec![0.0; 4097]),
            Normaliser::new(1, 2, vec![0.0], vec![1.0; 2]),
            Normaliser::new(1, 2, vec![0.0; 2], vec![1.0; 3]),
            Normaliser::new(1, 1, vec![f32::NAN], vec![1.0]),
            Normaliser::new(1, 1, vec![0.0], vec![f32::INFINITY]),
            Normaliser::new(1, 1, vec![0.0], vec![-0.1]),
        ];
        for (case, tables) in bad.iter().enumerate() {
            assert!(tables.is_err(), "case {case} was taken");
        }
    }
}
