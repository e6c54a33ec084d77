//! The formulas of flow matching (reference §7.1, §9.3, §9.5), one function each.
//!
//! `ε` noise, `a` the clean action, `t` in [0, 1): 0 is noise, 1 is data. `v` is the velocity that
//! the network predicts, `u` the one it should, `W` a weight per entry, `M` the action mask (1 or 0).
//! `R` rows of a batch, `T` actions of `A` slots. All tensors are f32.

use std::f64::consts::TAU;

use candle_core::{D, DType, Device, Tensor};

use crate::error::{Error, Result};

/// Share of the squared error in the post-training loss.
pub const MSE_FACTOR: f64 = 0.5;
/// Smallest and largest weight of an entry, so that no action is ignored and none rules.
pub const WEIGHT_RANGE: (f64, f64) = (0.5, 5.0);

/// `x_t = (1 − t)·ε + t·a`, all `(R, T, A)`; one time a row.
///
/// # Errors
/// Another number of times than rows, or shapes that differ.
pub fn noisy(noise: &Tensor, action: &Tensor, t: &[f64]) -> Result<Tensor> {
    let rows = noise.dim(0)?;
    if rows != t.len() {
        let n = t.len();
        return Err(Error::input(format!("{n} times for {rows} rows of noise")));
    }
    let t: Vec<_> = t.iter().map(|t| *t as f32).collect();
    let t = Tensor::from_vec(t, (rows, 1, 1), noise.device())?;
    let clean = action.broadcast_mul(&t)?;
    Ok((noise.broadcast_mul(&t.affine(-1.0, 1.0)?)? + clean)?)
}

/// `u = a − ε`.
///
/// # Errors
/// Shapes that differ.
pub fn target(noise: &Tensor, action: &Tensor) -> Result<Tensor> {
    Ok((action - noise)?)
}

/// Mean of `x` over the entries with `M = 1`; 0, still differentiable, where there is none.
///
/// # Errors
/// Shapes that differ.
pub fn masked_mean(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let count = mask.sum_all()?.to_scalar::<f32>()?;
    let sum = (x * mask)?.sum_all()?;
    Ok((sum / f64::from(count.max(1.0)))?)
}

/// `W = clamp(e / mean of e where M = 1)`, the division only where `M = 1`; a constant.
///
/// `e` is how far a sample of the network itself lies from the clean action. Entries with `M = 0`
/// keep their own `e`: the reference does so, and the spectral term's mean sees them.
///
/// # Errors
/// Shapes that differ.
pub fn weights(error: &Tensor, mask: &Tensor, (low, high): (f64, f64)) -> Result<Tensor> {
    let error = error.detach();
    let mean = f64::from(masked_mean(&error, mask)?.to_scalar::<f32>()?);
    // Every error 0: any weight will do.
    let relative = if mean == 0.0 {
        error.clone()
    } else {
        (&error / mean)?
    };
    let weights = mask.gt(0f32)?.where_cond(&relative, &error)?;
    Ok(weights.clamp(low as f32, high as f32)?)
}

/// `mean of W·(v − u)² where M = 1`.
///
/// # Errors
/// Shapes that differ.
pub fn squared_error(
    (pred, target): (&Tensor, &Tensor),
    weights: &Tensor,
    mask: &Tensor,
) -> Result<Tensor> {
    masked_mean(&((pred - target)?.sqr()? * weights)?, mask)
}

/// `mean of |rfft(v) − rfft(u)| · (the row's mean W)`, over rows, frequencies and slots.
///
/// The transform runs over the actions and is not normalised. There is no mask: a slot that the
/// robot does not have adds a share that cannot be learned away, as in the reference.
///
/// # Errors
/// Shapes that differ, or no action.
pub fn spectral_error((pred, target): (&Tensor, &Tensor), weights: &Tensor) -> Result<Tensor> {
    let magnitude = spectrum_magnitude(&(pred - target)?)?; // (R, T/2 + 1, A)
    let row = weights.mean((1, 2))?.unsqueeze(1)?.unsqueeze(1)?; // (R, 1, 1)
    Ok(magnitude.broadcast_mul(&row)?.mean_all()?)
}

/// The spectral error of what the robot has: masked-out entries count as predicted, and only slots
/// with a masked-in entry are averaged, under the row's mean `W` where `M = 1`; 0 without any.
///
/// Not in the reference, whose term never vanishes where slots are unused.
///
/// # Errors
/// Shapes that differ, or no action.
pub fn masked_spectral_error(
    (pred, target): (&Tensor, &Tensor),
    weights: &Tensor,
    mask: &Tensor,
) -> Result<Tensor> {
    let magnitude = spectrum_magnitude(&((pred - target)? * mask)?)?; // (R, T/2 + 1, A)
    let bins = magnitude.dim(1)? as f64;
    let count = mask.sum_keepdim((1, 2))?.clamp(1f32, f32::MAX)?;
    let row = ((weights * mask)?.sum_keepdim((1, 2))? / count)?; // (R, 1, 1)
    let used = mask.max_keepdim(1)?; // (R, 1, A)
    let n_used = f64::from(used.sum_all()?.to_scalar::<f32>()?.max(1.0));
    let sum = magnitude
        .broadcast_mul(&used.broadcast_mul(&row)?)?
        .sum_all()?;
    Ok((sum / (bins * n_used))?)
}

/// `|rfft(x)|` over axis 1: `(R, T, A)` → `(R, T/2 + 1, A)`, by the sums of the definition.
///
/// The derivative of `|z|` at `z = 0` is 0.
fn spectrum_magnitude(x: &Tensor) -> Result<Tensor> {
    let (rows, n, _) = x.dims3()?;
    if n == 0 {
        return Err(Error::input("a spectrum needs at least one action"));
    }
    let [cos, sin] = fourier(n, x.device())?;
    let bins = n / 2 + 1;
    let part = |basis: &Tensor| -> Result<Tensor> {
        let basis = basis.broadcast_as((rows, bins, n))?.contiguous()?;
        Ok(basis.matmul(&x.contiguous()?)?)
    };
    let squared = (part(&cos)?.sqr()? + part(&sin)?.sqr()?)?;
    root(&squared)
}

/// `√x` whose derivative at 0 is 0.
fn root(x: &Tensor) -> Result<Tensor> {
    let zeros = x.zeros_like()?;
    let positive = x.gt(&zeros)?;
    let safe = positive.where_cond(x, &x.ones_like()?)?;
    Ok(positive.where_cond(&safe.sqrt()?, &zeros)?)
}

/// `cos(2π·k·j/n)` and `−sin(2π·k·j/n)`, each `(n/2 + 1, n)`.
fn fourier(n: usize, device: &Device) -> Result<[Tensor; 2]> {
    let bins = n / 2 + 1;
    let turns = (0..bins * n).map(|cell| (cell / n) * (cell % n) % n);
    // Half and whole turns have a sine of exactly 0, so that real bins have no imaginary part.
    let sine = |turn: usize| {
        if (2 * turn).is_multiple_of(n) {
            0.0
        } else {
            -(TAU * turn as f64 / n as f64).sin()
        }
    };
    let cosine = |turn: usize| (TAU * turn as f64 / n as f64).cos();
    let table = |values: Vec<f64>| -> Result<Tensor> {
        Ok(Tensor::from_vec(values, (bins, n), device)?.to_dtype(DType::F32)?)
    };
    Ok([
        table(turns.clone().map(cosine).collect())?,
        table(turns.map(sine).collect())?,
    ])
}

/// Repeats each sample `r` times in a row (s₀ s₀ s₁ s₁): `(b, …)` → `(b·r, …)`.
///
/// # Errors
/// A tensor without axes.
pub fn repeat_interleave(x: &Tensor, r: usize) -> Result<Tensor> {
    let mut spread = x.dims().to_vec();
    spread.insert(1.min(spread.len()), r);
    let mut shape = x.dims().to_vec();
    match shape.first_mut() {
        Some(rows) => *rows *= r,
        None => return Err(Error::input("a single number cannot be repeated by sample")),
    }
    Ok(x.unsqueeze(1)?
        .broadcast_as(spread)?
        .contiguous()?
        .reshape(shape)?)
}

/// `−log p` of the right token: logits `(n, vocabulary)` and `n` ids → `(n)` (reference §9.2).
///
/// # Errors
/// Another number of ids than rows, or an id beyond the vocabulary.
pub fn token_losses(logits: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    let ids = Tensor::new(ids, logits.device())?.unsqueeze(1)?;
    Ok(log_p.gather(&ids, 1)?.squeeze(1)?.neg()?)
}

#[cfg(test)]
mod tests;
