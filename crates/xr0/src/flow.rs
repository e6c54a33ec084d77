//! Flow-matching sampler.
//!
//! Paper: XR-0, arXiv:2602.12684. Reference §7.1, §7.2. Sign: `t = 0` is noise and `t = 1` is data.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::trace::Trace;

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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::trace::Blind;

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
}
