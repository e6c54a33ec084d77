//! What the action expert learns from: stage 2 on a frozen backbone (reference §9.3), and
//! post-training of the whole network (§9.5).
//!
//! A batch of `b` samples is repeated `r` times in a row (s₀ s₀ s₁ s₁), each repeat with noise and
//! time of its own; the text model runs once a sample. `R = b·r` rows, `T` actions of `A` slots.

use candle_core::Tensor;

use crate::context::{Context, KvLayer, Tokens};
use crate::dit::layout::Prefix;
use crate::error::{Error, Result};
use crate::model::ActionExpert;
use crate::model::decision::Decision;
use crate::trace::{Blind, Trace};
use crate::train::objective::{
    MSE_FACTOR, WEIGHT_RANGE, masked_mean, masked_spectral_error, noisy, repeat_interleave,
    spectral_error, squared_error, target, weights,
};

/// Actions at the end of a prefix that are never hidden.
const NEVER_HIDDEN: usize = 2;

/// A batch of clean chunks, with the noise and the times of its repeats.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `(b, T, A)`: `a`, normalised.
    pub action: Tensor,
    /// `(b, T, A)`: 1 where the robot type has an action and the episode has not ended.
    pub mask: Tensor,
    /// `(b, 1, state_dim)`: raw.
    pub state: Tensor,
    /// `(R, T, A)`: `ε`.
    pub noise: Tensor,
    /// `R` times in [0, 1).
    pub t: Vec<f64>,
}

/// The clean prefix of a batch; one draw for all its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrefixDraw {
    /// Its actions.
    pub length: usize,
    /// Which of its first actions no action behind it sees: none, or a flag for each but the last
    /// two.
    pub hidden: Vec<bool>,
}

impl PrefixDraw {
    fn check(&self, horizon: usize) -> Result<()> {
        let Self { length, hidden } = self;
        if horizon <= *length {
            return Err(Error::input(format!(
                "a prefix of {length} actions leaves nothing of a chunk of {horizon} to learn"
            )));
        }
        if *length < NEVER_HIDDEN + hidden.len() && !hidden.is_empty() {
            let n = hidden.len();
            return Err(Error::input(format!(
                "{n} actions of a prefix of {length} cannot be hidden: the last {NEVER_HIDDEN} stay"
            )));
        }
        Ok(())
    }
}

/// The post-training loss and what it was made of. `S = T − prefix` actions count.
#[derive(Debug, Clone)]
pub struct PostTrainingLosses {
    /// `0.5·mse`: one number.
    pub loss: Tensor,
    /// The weighted squared error: one number.
    pub mse: Tensor,
    /// The spectral error, unmasked as in the reference: one number.
    pub frequency: Tensor,
    /// The spectral error of masked-in entries alone: one number.
    pub masked_frequency: Tensor,
    /// `(R, T, A)`: the noisy chunk.
    pub x_t: Tensor,
    /// `(R, S, A)`: the velocity that was predicted.
    pub pred: Tensor,
    /// `(R, S, A)`: the velocity that should be.
    pub target: Tensor,
    /// `(R, S, A)`: `W`.
    pub weights: Tensor,
    /// `(R, T, A)`: the network's own sample that the weights come from; none without a prefix.
    pub online: Option<Tensor>,
}

impl PostTrainingLosses {
    /// The loss with the spectral term: `0.5·mse + frequency`.
    ///
    /// # Errors
    /// What the computation says.
    pub fn with_frequency(&self) -> Result<Tensor> {
        Ok((&self.loss + &self.frequency)?)
    }
}

/// The loss of stage 2 and what it was made of.
#[derive(Debug, Clone)]
pub struct CausalLosses {
    /// The mean squared error of the velocity: one number.
    pub loss: Tensor,
    /// `(R, T, A)`: the noisy chunk.
    pub x_t: Tensor,
    /// `(R, T, A)`: the velocity that was predicted.
    pub pred: Tensor,
    /// `(R, T, A)`: the velocity that should be.
    pub target: Tensor,
}

/// An action expert that learns, and the same one without a graph.
#[derive(Debug, Clone, Copy)]
pub struct Experts<'a> {
    /// Built from [`Variables::weights`](super::variables::Variables::weights).
    pub learning: &'a ActionExpert,
    /// Built from [`Variables::still`](super::variables::Variables::still): it samples what the
    /// weights of the loss come from.
    pub still: &'a ActionExpert,
    /// Euler steps of that sample.
    pub steps: usize,
}

/// The post-training loss of a batch (reference §9.5, steps 4 to 8).
///
/// Both experts are of profile B. Gradients reach the text model through the context.
///
/// # Errors
/// A batch that does not fit itself, the context or the network.
pub fn post_training(
    experts: Experts<'_>,
    context: &Context,
    batch: &Batch,
    prefix: &PrefixDraw,
    trace: &mut dyn Trace,
) -> Result<PostTrainingLosses> {
    let rows = Repeated::of(batch, context)?;
    let (n_rows, horizon, _) = batch.noise.dims3()?;
    let length = prefix.length;
    prefix.check(horizon)?;
    let behind = |x: &Tensor| -> Result<Tensor> { Ok(x.narrow(1, length, horizon - length)?) };
    let clean = (length > 0).then(|| Prefix {
        rows: rows.action.clone(),
        lengths: vec![length; n_rows],
        hidden: prefix.hidden.clone(),
    });
    let decision = rows.decision(batch, clean, experts.steps);

    let x_t = noisy(&batch.noise, &rows.action, &batch.t)?;
    let x = Tensor::cat(&[&rows.action.narrow(1, 0, length)?, &behind(&x_t)?], 1)?;
    let pred = (experts.learning).velocity(&rows.context, &decision, (&x, &batch.t), trace)?;
    let (pred, target) = (
        behind(&pred)?,
        behind(&target(&batch.noise, &rows.action)?)?,
    );

    let mask = behind(&rows.mask)?;
    let online = if length == 0 {
        None
    } else {
        let still = detached(&rows.context);
        Some(
            experts
                .still
                .sample(&still, &decision, &mut Blind)?
                .detach(),
        )
    };
    let weights = match &online {
        None => target.ones_like()?,
        Some(online) => {
            let error = behind(&(online - &rows.action)?.abs()?)?;
            weights(&error, &mask, WEIGHT_RANGE)?
        }
    };
    let mse = squared_error((&pred, &target), &weights, &mask)?;
    Ok(PostTrainingLosses {
        loss: (&mse * MSE_FACTOR)?,
        frequency: spectral_error((&pred, &target), &weights)?,
        masked_frequency: masked_spectral_error((&pred, &target), &weights, &mask)?,
        mse,
        x_t,
        pred,
        target,
        weights,
        online,
    })
}

/// The loss of stage 2: the mean squared error of the velocity over masked-in entries (reference
/// §9.3). No weights, no spectral term, no factor.
///
/// The expert is of profile A.
///
/// # Errors
/// A batch that does not fit itself, the context or the network.
pub fn causal(
    expert: &ActionExpert,
    context: &Context,
    batch: &Batch,
    trace: &mut dyn Trace,
) -> Result<CausalLosses> {
    let rows = Repeated::of(batch, context)?;
    let decision = rows.decision(batch, None, 1);
    let x_t = noisy(&batch.noise, &rows.action, &batch.t)?;
    let pred = expert.velocity(&rows.context, &decision, (&x_t, &batch.t), trace)?;
    let target = target(&batch.noise, &rows.action)?;
    Ok(CausalLosses {
        loss: masked_mean(&(&pred - &target)?.sqr()?, &rows.mask)?,
        x_t,
        pred,
        target,
    })
}

/// A batch as its rows.
struct Repeated {
    context: Context,
    action: Tensor,
    mask: Tensor,
    state: Tensor,
}

impl Repeated {
    fn of(batch: &Batch, context: &Context) -> Result<Self> {
        let (b, rows) = (batch.action.dim(0)?, batch.noise.dim(0)?);
        if b == 0 || rows == 0 || !rows.is_multiple_of(b) {
            return Err(Error::input(format!(
                "{rows} rows of noise are no whole number of repeats of {b} samples"
            )));
        }
        let r = rows / b;
        Ok(Self {
            context: repeated(context, r)?,
            action: repeat_interleave(&batch.action, r)?,
            mask: repeat_interleave(&batch.mask, r)?,
            state: repeat_interleave(&batch.state, r)?,
        })
    }

    fn decision(&self, batch: &Batch, prefix: Option<Prefix>, steps: usize) -> Decision {
        Decision {
            state: self.state.clone(),
            mask: self.mask.clone(),
            noise: batch.noise.clone(),
            prefix,
            steps,
        }
    }
}

/// Repeats each sample of a context in a row; differentiable.
fn repeated(context: &Context, r: usize) -> Result<Context> {
    let layer = |layer: &KvLayer| -> Result<KvLayer> {
        Ok(KvLayer {
            k: repeat_interleave(&layer.k, r)?,
            v: repeat_interleave(&layer.v, r)?,
        })
    };
    let Tokens { p_end, mask } = &context.tokens;
    let tokens = Tokens {
        p_end: (p_end.iter())
            .flat_map(|p_end| std::iter::repeat_n(*p_end, r))
            .collect(),
        mask: (mask.iter())
            .flat_map(|row| std::iter::repeat_n(row.clone(), r))
            .collect(),
    };
    let layers = context.layers.iter().map(layer).collect::<Result<_>>()?;
    Ok(Context { tokens, layers })
}

/// The same numbers without a graph.
fn detached(context: &Context) -> Context {
    let layer = |layer: &KvLayer| KvLayer {
        k: layer.k.detach(),
        v: layer.v.detach(),
    };
    Context {
        tokens: context.tokens.clone(),
        layers: context.layers.iter().map(layer).collect(),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    fn two_prompts() -> Context {
        let k = tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 1, 2, 1]);
        let tokens = Tokens {
            p_end: vec![7, 9],
            mask: vec![vec![true, true], vec![true, false]],
        };
        let layers = vec![KvLayer {
            v: (&k * 10.0).unwrap(),
            k,
        }];
        Context { tokens, layers }
    }

    #[test]
    fn each_sample_of_a_context_is_repeated_in_a_row() {
        let context = repeated(&two_prompts(), 2).unwrap();
        assert_eq!(context.tokens.p_end, [7, 7, 9, 9]);
        assert_eq!(
            context.tokens.mask[1..3],
            [vec![true, true], vec![true, false]]
        );
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let KvLayer { k, v } = &context.layers[0];
        assert_eq!(k.dims(), [4, 1, 2, 1]);
        assert_eq!(values(k), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!(values(v)[4..], [30.0, 40.0, 30.0, 40.0]);
    }

    #[test]
    fn noise_that_is_no_whole_number_of_repeats_is_refused() {
        let batch = |n_rows: usize| Batch {
            action: tensor(&[0.0; 2], &[2, 1, 1]),
            mask: tensor(&[1.0; 2], &[2, 1, 1]),
            state: tensor(&[0.0; 2], &[2, 1, 1]),
            noise: tensor(&vec![0.0; n_rows], &[n_rows, 1, 1]),
            t: vec![0.5; n_rows],
        };
        for (n_rows, taken) in [(0, false), (1, false), (2, true), (3, false), (4, true)] {
            let rows = Repeated::of(&batch(n_rows), &two_prompts());
            assert_eq!(rows.is_ok(), taken, "{n_rows}");
        }
    }

    #[test]
    fn a_prefix_leaves_something_to_learn_and_its_last_two_actions_visible() {
        for (length, n_hidden, taken) in [
            (0, 0, true),
            (9, 7, true),
            (9, 8, false),
            (2, 1, false),
            (1, 0, true),
            (10, 0, false),
        ] {
            let hidden = vec![true; n_hidden];
            let draw = PrefixDraw { length, hidden };
            assert_eq!(draw.check(10).is_ok(), taken, "{length} {n_hidden}");
        }
    }
}
