//! Each formula by numbers that were worked out by hand.

use candle_core::Var;

use super::*;

fn row(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, (1, values.len(), 1), &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn near(x: &Tensor, wanted: &[f32]) {
    let got = numbers(x);
    let close = got.len() == wanted.len()
        && got
            .iter()
            .zip(wanted)
            .all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0));
    assert!(close, "{got:?} is not {wanted:?}");
}

#[test]
fn time_zero_is_noise_and_time_one_is_data() {
    let noise = Tensor::cat(&[row(&[2.0]), row(&[2.0]), row(&[2.0])], 0).unwrap();
    let action = Tensor::cat(&[row(&[6.0]), row(&[6.0]), row(&[6.0])], 0).unwrap();
    near(
        &noisy(&noise, &action, &[0.0, 0.25, 1.0]).unwrap(),
        &[2.0, 3.0, 6.0],
    );
    near(&target(&noise, &action).unwrap(), &[4.0, 4.0, 4.0]);
    assert!(noisy(&noise, &action, &[0.0]).is_err());
}

#[test]
fn a_mean_counts_masked_in_entries_alone_and_is_zero_without_any() {
    let x = row(&[1.0, 2.0, 30.0]);
    near(&masked_mean(&x, &row(&[1.0, 1.0, 0.0])).unwrap(), &[1.5]);
    near(&masked_mean(&x, &row(&[0.0; 3])).unwrap(), &[0.0]);
}

/// Masked-in errors have the mean 2; the masked-out one keeps its own 0.1, and is clamped too.
#[test]
fn weights_are_relative_to_the_masked_mean_then_clamped() {
    let (error, mask) = (
        row(&[0.5, 13.5, 1.0, 1.0, 0.1]),
        row(&[1.0, 1.0, 1.0, 1.0, 0.0]),
    );
    let weights = weights(&error, &mask, WEIGHT_RANGE).unwrap();
    near(&weights, &[0.5, 3.375, 0.5, 0.5, 0.5]);
    let high = super::weights(
        &row(&[9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        &row(&[1.0; 7]),
        WEIGHT_RANGE,
    );
    near(&high.unwrap(), &[4.2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
    let beyond = super::weights(
        &row(&[99.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        &row(&[1.0; 10]),
        WEIGHT_RANGE,
    );
    near(
        &beyond.unwrap(),
        &[5.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    );
    near(
        &super::weights(&row(&[0.0]), &row(&[1.0]), WEIGHT_RANGE).unwrap(),
        &[0.5],
    );
}

#[test]
fn the_squared_error_is_weighted_and_masked() {
    let (pred, target) = (row(&[1.0, 2.0, 9.0]), row(&[0.0, 0.0, 0.0]));
    let error = squared_error(
        (&pred, &target),
        &row(&[1.0, 3.0, 1.0]),
        &row(&[1.0, 1.0, 0.0]),
    );
    near(&error.unwrap(), &[6.5]); // (1 + 12) / 2
}

/// Of (1, 2, 3, 5): 11, (1 − 3) + (5 − 2)i, (1 + 3) − (2 + 5); and of three actions, by hand.
#[test]
fn magnitudes_are_those_of_the_definition() {
    let four = spectrum_magnitude(&row(&[1.0, 2.0, 3.0, 5.0])).unwrap();
    near(&four, &[11.0, 13f32.sqrt(), 3.0]);
    let three = spectrum_magnitude(&row(&[1.0, 2.0, 3.0])).unwrap();
    near(&three, &[6.0, 3f32.sqrt()]);
    near(&spectrum_magnitude(&row(&[-7.0])).unwrap(), &[7.0]);
}

#[test]
fn the_spectral_error_takes_each_rows_mean_weight() {
    let pred = Tensor::cat(&[row(&[1.0, -1.0]), row(&[3.0, 3.0])], 0).unwrap();
    let weights = Tensor::cat(&[row(&[1.0, 3.0]), row(&[5.0, 5.0])], 0).unwrap();
    // Magnitudes (0, 2) times 2 and (6, 0) times 5: the mean of 0, 4, 30, 0.
    let error = spectral_error((&pred, &pred.zeros_like().unwrap()), &weights).unwrap();
    near(&error, &[8.5]);
}

/// The second slot is used in its first action alone, the third never.
#[test]
fn the_masked_spectral_error_sees_used_slots_alone() {
    let table = |values: &[f32]| Tensor::from_slice(values, (1, 2, 3), &Device::Cpu).unwrap();
    let pred = table(&[1.0, 4.0, 7.0, -1.0, 9.0, 7.0]);
    let mask = table(&[1.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    let weights = table(&[1.0, 3.0, 5.0, 2.0, 5.0, 5.0]);
    let zero = pred.zeros_like().unwrap();
    let with = |mask: &Tensor| masked_spectral_error((&pred, &zero), &weights, mask).unwrap();
    // Magnitudes (0, 2) and (4, 4), the mean weight is (1 + 3 + 2) / 3: the mean of 0, 4, 8, 8.
    near(&with(&mask), &[5.0]);
    near(&with(&zero), &[0.0]);
    let all = with(&mask.ones_like().unwrap());
    near(
        &all,
        &numbers(&spectral_error((&pred, &zero), &weights).unwrap()),
    );
}

#[test]
fn a_magnitude_of_zero_has_the_derivative_zero() {
    let x = Var::from_tensor(&row(&[2.0, 2.0])).unwrap();
    let sum = spectrum_magnitude(&x).unwrap().sum_all().unwrap();
    let gradients = sum.backward().unwrap();
    near(gradients.get(&x).unwrap(), &[1.0, 1.0]); // of the mean alone
}

#[test]
fn repeats_stand_side_by_side() {
    let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let repeated = repeat_interleave(&x, 2).unwrap();
    assert_eq!(repeated.dims(), [4, 2]);
    near(&repeated, &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
}

#[test]
fn a_token_costs_the_logarithm_of_its_share() {
    let logits = Tensor::new(&[[0f32, 0.0], [0.0, 3f32.ln()]], &Device::Cpu).unwrap();
    let losses = token_losses(&logits, &[1, 1]).unwrap();
    near(&losses, &[2f32.ln(), (4f32 / 3.0).ln()]);
}
