//! Flow-matching sampler, free and guided.
//!
//! Paper: XR-0, arXiv:2602.12684. Reference §7.1, §7.2. Sign: `t = 0` is noise and `t = 1` is data.
//!
//! Guidance is real-time chunking's (Black et al. 2025, arXiv:2506.07339), whose time runs the same
//! way. From `x` at `t` the flow seems to end at `x̂₁ = x + (1 − t)·v(x, t)`; rows whose end is known
//! pull there:
//!
//! ```text
//!  v' = v + min(β, (1 − t)/t · (t² + (1 − t)²)/(1 − t)²) · (∂x̂₁/∂x)ᵀ [ W ⊙ (Y − x̂₁) ]
//! ```

use candle_core::{Device, Tensor, Var};

use crate::error::{Error, Result};
use crate::trace::{Blind, Trace};

/// The moments at which a sampler of so many steps asks for a velocity.
pub fn times(steps: usize) -> Vec<f64> {
    let time = |step: usize| step as f64 / steps as f64;
    (0..steps).map(time).collect()
}

/// Integrates `dx/dt = v(x, t)` from `noise` at `t = 0` to `t = 1` with `steps` Euler steps. `velocity`
/// gets the number of the step; its moment is that of [`times`].
///
/// # Shapes
/// `noise` and the result: `(b, horizon, action_dim)`, f32, normalised actions.
///
/// # Errors
/// What `velocity` returns, or no steps.
pub fn sample(
    noise: &Tensor,
    steps: usize,
    trace: &mut dyn Trace,
    mut velocity: impl FnMut(&Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    if steps == 0 {
        return Err(Error::input("the sampler needs at least one step"));
    }
    let dt = 1.0 / steps as f64;
    let mut x_t = noise.clone();
    for step in 0..steps {
        trace.take("euler.x", Some(step), &x_t);
        let v_t = velocity(&x_t, step)?;
        trace.take("euler.v", Some(step), &v_t);
        x_t = (x_t + (v_t * dt)?)?;
    }
    trace.take("euler.x", Some(steps), &x_t);
    Ok(x_t)
}

/// Towards what a sample is pulled, and how strongly.
#[derive(Debug, Clone)]
pub struct Pull {
    /// `Y`, `(b, T, A)`, f32: normalised actions.
    pub target: Tensor,
    /// `W`, `(b, T, A)`, f32: 0 to 1; 0 where a slot means nothing.
    pub weights: Tensor,
    /// `β`: the largest guidance weight; not negative.
    pub beta: f64,
}

impl Pull {
    /// Makes that of one sample from plain numbers: target and weights, both `(horizon, A)`,
    /// row-major.
    ///
    /// # Errors
    /// Numbers that are not `horizon` rows alike.
    pub fn one((target, weights): (Vec<f32>, Vec<f32>), horizon: usize, beta: f64) -> Result<Self> {
        if horizon == 0 || target.len() != weights.len() || !target.len().is_multiple_of(horizon) {
            return Err(Error::input("the guidance does not fit the chunk"));
        }
        let shape = (1, horizon, target.len() / horizon);
        Ok(Self {
            target: Tensor::from_vec(target, shape, &Device::Cpu)?,
            weights: Tensor::from_vec(weights, shape, &Device::Cpu)?,
            beta,
        })
    }

    /// The guidance weight at a time: `β` where the formula's grows beyond it, as it does at `t = 0`.
    pub fn strength(&self, t: f64) -> f64 {
        let left = 1.0 - t;
        let odds = left / t;
        // At 0 the quotient is infinite, and the smaller of both is `β`.
        (odds * (t * t + left * left) / (left * left)).min(self.beta)
    }
}

/// [`sample`], pulled: needs a `velocity` that can be gone back through.
///
/// # Errors
/// As [`sample`]; a target or weights of another shape.
pub fn guided(
    noise: &Tensor,
    steps: usize,
    pull: &Pull,
    mut velocity: impl FnMut(&Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    if pull.target.dims() != noise.dims() || pull.weights.dims() != noise.dims() {
        return Err(Error::input("the guidance does not fit the chunk"));
    }
    let times = times(steps);
    sample(noise, steps, &mut Blind, |x, step| {
        let t = times.get(step).copied().unwrap_or_default();
        let x = Var::from_tensor(x)?;
        let v = velocity(x.as_tensor(), step)?;
        let end = (x.as_tensor() + (&v * (1.0 - t))?)?;
        let error = ((&pull.target - end.detach())? * &pull.weights)?;
        let gradients = (end * error)?.sum_all()?.backward()?;
        let pulled = gradients.get(&x);
        let pulled =
            pulled.ok_or_else(|| Error::input("the velocity cannot be gone back through"))?;
        Ok((v.detach() + (pulled * pull.strength(t))?)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_flow_ends_at_its_target_whatever_the_steps() {
        let noise = Tensor::new(&[[[1f32, -2.0]]], &Device::Cpu).unwrap();
        let target = Tensor::new(&[[[0.25f32, 4.0]]], &Device::Cpu).unwrap();
        for steps in [1, 2, 5, 16] {
            let straight = (&target - &noise).unwrap();
            let end = sample(&noise, steps, &mut Blind, |_, _| Ok(straight.clone())).unwrap();
            let miss = (end - &target).unwrap().abs().unwrap().max_all().unwrap();
            assert!(miss.to_scalar::<f32>().unwrap() < 1e-5);
        }
    }

    #[test]
    fn time_runs_from_noise_towards_data() {
        let noise = Tensor::zeros((1, 1, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut steps = Vec::new();
        let v = noise.clone();
        let end = sample(&noise, 5, &mut Blind, |_, step| {
            steps.push(step);
            Ok(v.clone())
        });
        assert!(end.is_ok() && sample(&noise, 0, &mut Blind, |_, _| Ok(v.clone())).is_err());
        assert_eq!(steps, [0, 1, 2, 3, 4]);
        assert_eq!(times(5), [0.0, 0.2, 0.4, 0.6, 0.8]);
    }

    fn row(numbers: &[f32]) -> Tensor {
        Tensor::from_slice(numbers, (1, numbers.len(), 1), &Device::Cpu).unwrap()
    }

    fn numbers(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn pull(target: &[f32], weights: &[f32], beta: f64) -> Pull {
        Pull {
            target: row(target),
            weights: row(weights),
            beta,
        }
    }

    #[test]
    fn the_guidance_weight_is_the_papers_up_to_its_bound() {
        let five = pull(&[], &[], 5.0);
        let formula = |t: f64| (1.0 - t) / t * (t * t + (1.0 - t).powi(2)) / (1.0 - t).powi(2);
        assert!(
            (five.strength(0.0) - 5.0).abs() < 1e-12,
            "infinite, so the bound"
        );
        assert!((formula(0.2) - 4.25).abs() < 1e-9);
        for t in [0.2, 0.4, 0.5, 0.6, 0.8] {
            assert!((five.strength(t) - formula(t).min(5.0)).abs() < 1e-9, "{t}");
        }
        assert!((pull(&[], &[], 1.5).strength(0.2) - 1.5).abs() < 1e-12);
        // At a half both halves of the way are alike: 1 · (¼ + ¼)/¼.
        assert!((five.strength(0.5) - 2.0).abs() < 1e-9);
    }

    /// With `v = M x` everything is a product: `x̂₁ = (1 + (1 − t) M) x`, and its derivative turned.
    #[test]
    fn guidance_of_a_linear_flow_is_the_formula_by_hand() {
        let m = [[0.5_f32, -1.0], [0.25, 0.75]];
        let matrix = Tensor::new(&m, &Device::Cpu).unwrap();
        let linear = |x: &Tensor, _| Ok(matrix.broadcast_matmul(x)?);
        let (y, w) = ([0.3_f32, -0.8], [1.0_f32, 0.5]);
        let ours = guided(&row(&[1.0, -2.0]), 3, &pull(&y, &w, 5.0), linear).unwrap();
        let mut x = [1.0_f32, -2.0];
        for t in [0.0, 1.0 / 3.0, 2.0 / 3.0] {
            let v = [0, 1].map(|i| m[i][0] * x[0] + m[i][1] * x[1]);
            let e = [0, 1].map(|i| w[i] * (y[i] - x[i] - (1.0 - t) * v[i]));
            let strength = pull(&y, &w, 5.0).strength(f64::from(t)) as f32;
            let back = [0, 1].map(|j| e[j] + (1.0 - t) * (m[0][j] * e[0] + m[1][j] * e[1]));
            x = [0, 1].map(|i| x[i] + (v[i] + strength * back[i]) / 3.0);
        }
        for (ours, by_hand) in numbers(&ours).into_iter().zip(x) {
            assert!((ours - by_hand).abs() < 1e-5, "{ours} and {by_hand}");
        }
    }

    /// A flow that goes straight to its end from everywhere cannot be pulled elsewhere, and one that
    /// stands still goes nowhere but where it is pulled.
    #[test]
    fn a_pull_moves_what_the_flow_leaves_open() {
        let end = row(&[0.5, -1.5]);
        let certain = |x: &Tensor, step| {
            let left = 1.0 - times(5)[step];
            Ok(((&end - x)? / left)?)
        };
        let all = pull(&[9.0, 9.0], &[1.0, 1.0], 5.0);
        let pulled = guided(&row(&[2.0, 3.0]), 5, &all, certain).unwrap();
        for (ours, end) in numbers(&pulled).into_iter().zip([0.5, -1.5]) {
            assert!((ours - end).abs() < 1e-5);
        }
        let still = |x: &Tensor, _| Ok((x * 0.0)?);
        let half = pull(&[1.0, 1.0], &[1.0, 0.0], 5.0);
        let pulled = numbers(&guided(&row(&[0.0, 0.0]), 5, &half, still).unwrap());
        assert!((pulled[0] - 1.0).abs() < 0.05, "{pulled:?}");
        assert!(pulled[1].abs() < f32::EPSILON, "what has no weight is free");
    }

    #[test]
    fn no_weights_change_no_bit_and_a_guidance_of_another_shape_is_refused() {
        let wave = |x: &Tensor, _| Ok(x.sin()?);
        let noise = row(&[0.3, -0.7, 1.9]);
        let free = sample(&noise, 5, &mut Blind, wave).unwrap();
        let none = pull(&[7.0, 7.0, 7.0], &[0.0; 3], 5.0);
        let guided_free = guided(&noise, 5, &none, wave).unwrap();
        assert_eq!(numbers(&free), numbers(&guided_free));
        assert!(guided(&noise, 5, &pull(&[0.0], &[0.0], 5.0), wave).is_err());
    }
}
