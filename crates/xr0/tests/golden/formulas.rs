//! The training formulas on the stored numbers: right as they are, and wrong with one detail off.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Tensor};
use vlad_xr0::train::objective::{
    MSE_FACTOR, WEIGHT_RANGE, masked_mean, noisy, repeat_interleave, spectral_error, squared_error,
    target, weights,
};
use vlad_xr0::train::proposal::{choice_loss, distances, score_loss, winners};

use crate::copy::fixture;

/// What one case stores, as f32.
struct Case {
    tensors: HashMap<String, Tensor>,
    repeat: usize,
}

impl Case {
    /// Of the first set; its rows come in pairs.
    fn of(name: &str) -> Self {
        Self::in_set("xr0-tiny", name, 2)
    }

    fn in_set(set: &str, name: &str, repeat: usize) -> Self {
        let file = fixture(set).join(format!("{name}.safetensors"));
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        Self { tensors, repeat }
    }

    fn get(&self, name: &str) -> Tensor {
        self.tensors[name].to_dtype(DType::F32).unwrap()
    }

    /// One of each sample, for each of its rows, behind the prefix.
    fn behind(&self, name: &str, prefix: usize) -> Tensor {
        let rows = repeat_interleave(&self.get(name), self.repeat).unwrap();
        behind(&rows, prefix)
    }
}

fn behind(rows: &Tensor, prefix: usize) -> Tensor {
    let horizon = rows.dim(1).unwrap();
    rows.narrow(1, prefix, horizon - prefix).unwrap()
}

fn number(x: &Tensor) -> f64 {
    f64::from(x.reshape(()).unwrap().to_scalar::<f32>().unwrap())
}

/// Largest difference between two tensors of the same shape.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    number(&difference.max(D::Minus1).unwrap())
}

/// Within the limit of losses.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs()
}

#[test]
fn noise_and_action_meet_on_a_line() {
    let case = Case::of("train_p3");
    let (noise, action) = (
        case.get("noise"),
        repeat_interleave(&case.get("action"), 2).unwrap(),
    );
    let t: Vec<f64> = case
        .get("t")
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect();
    let stored = case.get("x_t");
    assert!(apart(&noisy(&noise, &action, &t).unwrap(), &stored) < 1e-6);
    assert!(
        apart(&noisy(&action, &noise, &t).unwrap(), &stored) > 1e-2,
        "the other way"
    );
    let velocity = behind(&target(&noise, &action).unwrap(), 3);
    assert!(apart(&velocity, &case.get("target")) < 1e-6);
}

/// In the second set some entries are so far off that the upper end holds them.
#[test]
fn weights_need_their_mask_and_both_ends_of_their_range() {
    let case = Case::in_set("xr0-grouped", "train_p5_hidden", 3);
    let online = behind(&case.get("online_actions"), 5);
    let error = (online - case.behind("action", 5)).unwrap().abs().unwrap();
    let mask = case.behind("action_mask", 5);
    let stored = case.get("weight_final");
    let with = |mask: &Tensor, range| apart(&weights(&error, mask, range).unwrap(), &stored);
    assert!(with(&mask, WEIGHT_RANGE) < 1e-4);
    let all = mask.ones_like().unwrap();
    for (name, wrong) in [
        ("no mask", with(&all, WEIGHT_RANGE)),
        ("no lower end", with(&mask, (0.0, WEIGHT_RANGE.1))),
        ("no upper end", with(&mask, (WEIGHT_RANGE.0, f64::MAX))),
    ] {
        assert!(wrong > 1e-2, "{name}: {wrong}");
    }
}

#[test]
fn the_squared_error_needs_its_mask_its_weights_and_its_factor() {
    for (name, prefix) in [("train_p3", 3), ("train_p6_hidden", 6)] {
        let case = Case::of(name);
        let [pred, target, weights] = ["pred", "target", "weight_final"].map(|name| case.get(name));
        let mask = case.behind("action_mask", prefix);
        let stored = number(&case.get("loss_mse"));
        let with = |weights: &Tensor, mask: &Tensor| {
            number(&squared_error((&pred, &target), weights, mask).unwrap())
        };
        let right = with(&weights, &mask);
        assert!(same(right, stored), "{name}: {right} {stored}");
        let loss = number(&case.get("loss"));
        assert!(
            same(right * MSE_FACTOR, loss) && !same(right, loss),
            "{name}"
        );
        let ones = mask.ones_like().unwrap();
        assert!(!same(with(&weights, &ones), stored), "{name}: the mask");
        assert!(!same(with(&ones, &mask), stored), "{name}: the weights");
    }
}

#[test]
fn the_spectral_error_is_not_masked_and_takes_the_weights_of_its_row() {
    for (name, prefix) in [("train_p0", 0), ("train_p3", 3), ("train_p6_hidden", 6)] {
        let case = Case::of(name);
        let [pred, target, weights] = ["pred", "target", "weight_final"].map(|name| case.get(name));
        let stored = number(&case.get("loss_freq"));
        let with = |pred: &Tensor, target: &Tensor, weights: &Tensor| {
            number(&spectral_error((pred, target), weights).unwrap())
        };
        let right = with(&pred, &target, &weights);
        assert!(same(right, stored), "{name}: {right} {stored}");
        let mask = case.behind("action_mask", prefix);
        let [masked_pred, masked_target] = [&pred, &target].map(|x| (x * &mask).unwrap());
        let masked = with(&masked_pred, &masked_target, &weights);
        assert!(!same(masked, stored), "{name}: masked");
        let ones = mask.ones_like().unwrap();
        // Without a prefix all weights are 1.
        assert_eq!(
            same(with(&pred, &target, &ones), stored),
            prefix == 0,
            "{name}: the weights"
        );
    }
}

#[test]
fn stage_two_is_a_plain_masked_mean() {
    let case = Case::of("train_causal_r2");
    let error = (case.get("pred") - case.get("target"))
        .unwrap()
        .sqr()
        .unwrap();
    let mask = case.behind("action_mask", 0);
    let stored = number(&case.get("loss"));
    let right = number(&masked_mean(&error, &mask).unwrap());
    assert!(same(right, stored), "{right} {stored}");
    assert!(!same(right * MSE_FACTOR, stored));
    let ones = mask.ones_like().unwrap();
    assert!(
        !same(number(&masked_mean(&error, &ones).unwrap()), stored),
        "the mask"
    );
}

#[test]
fn the_winner_takes_the_distance_and_the_scores_their_own() {
    let case = Case::of("train_proposal");
    let [actions, action, mask] =
        ["choice.actions", "action", "action_mask"].map(|name| case.get(name));
    let stored = case.get("choice.distance");
    let with = |mask: &Tensor| distances(&actions, (&action, mask), &[10, 8]).unwrap();
    let distance = with(&mask);
    assert!(apart(&distance, &stored) < 1e-5);
    assert!(
        apart(&with(&mask.ones_like().unwrap()), &stored) > 1e-2,
        "the mask"
    );
    let winner = winners(&distance).unwrap();
    let choice = number(&choice_loss(&distance, &winner).unwrap());
    assert!(same(choice, number(&case.get("loss_choice"))));
    let mean = number(&distance.mean_all().unwrap());
    assert!(
        !same(mean, number(&case.get("loss_choice"))),
        "all candidates"
    );
    let scores = case.get("choice.scores");
    let score = number(&score_loss(&scores, &distance).unwrap());
    assert!(same(score, number(&case.get("loss_score"))));
}
