//! What the action expert decides on beside the context: of one sample, or of several at once.

use candle_core::{DType, Device, Tensor};

use crate::dit::Given;
use crate::dit::layout::Prefix;
use crate::error::{Error, Result};

/// What the action expert decides on beside the context; f32.
#[derive(Debug, Clone)]
pub struct Decision {
    /// `(b, 1, state_dim)`: raw, never normalised.
    pub state: Tensor,
    /// `(b, T, action_dim)`: 1 where the robot type has an action.
    pub mask: Tensor,
    /// `(b, T, action_dim)`: where the sampler starts, behind the prefix.
    pub noise: Tensor,
    /// Actions that are already decided (profile B).
    pub prefix: Option<Prefix>,
    /// Euler steps.
    pub steps: usize,
}

impl Decision {
    /// Makes a decision of one sample from plain numbers, row-major: `state` is `(state_dim)`,
    /// `mask` and `noise` are `(horizon, action_dim)`.
    ///
    /// # Errors
    /// A mask or noise that is not `horizon` rows of the same width.
    pub fn one(
        state: &[f32],
        (mask, noise): (&[f32], &[f32]),
        horizon: usize,
        steps: usize,
    ) -> Result<Self> {
        if mask.len() != noise.len() || horizon == 0 || !mask.len().is_multiple_of(horizon) {
            let (n_mask, n_noise) = (mask.len(), noise.len());
            return Err(Error::input(format!(
                "a mask of {n_mask} and a noise of {n_noise} numbers are not {horizon} rows alike"
            )));
        }
        let rows = (1, horizon, mask.len() / horizon);
        Ok(Self {
            state: Tensor::from_slice(state, (1, 1, state.len()), &Device::Cpu)?,
            mask: Tensor::from_slice(mask, rows, &Device::Cpu)?,
            noise: Tensor::from_slice(noise, rows, &Device::Cpu)?,
            prefix: None,
            steps,
        })
    }

    /// Adds a clean prefix to a decision of one sample: `rows` are normalised actions, row-major,
    /// from the chunk's first on.
    ///
    /// # Errors
    /// Rows of another width, or more than the chunk has.
    pub fn with_prefix(self, rows: &[f32]) -> Result<Self> {
        let (_, horizon, width) = self.mask.dims3()?;
        if !rows.len().is_multiple_of(width) || horizon * width < rows.len() {
            return Err(Error::input("the prefix does not fit the chunk"));
        }
        let mut padded = rows.to_vec();
        padded.resize(horizon * width, 0.0);
        let prefix = Prefix {
            rows: Tensor::from_vec(padded, (1, horizon, width), &Device::Cpu)?,
            lengths: vec![rows.len() / width],
            hidden: Vec::new(),
        };
        Ok(Self {
            prefix: Some(prefix),
            ..self
        })
    }

    /// Puts decisions of one sample each together, to be made at once.
    ///
    /// # Errors
    /// Decisions of different shapes or steps, or none.
    pub fn joined(all: &[Self]) -> Result<Self> {
        let steps = all.first().map(|first| first.steps);
        let steps = steps.filter(|steps| all.iter().all(|own| own.steps == *steps));
        let steps = steps.ok_or_else(|| Error::input("a batch has one number of steps"))?;
        let cat = |of: &dyn Fn(&Self) -> Tensor| {
            let each: Vec<_> = all.iter().map(of).collect();
            Tensor::cat(&each, 0)
        };
        let length = |own: &Self| {
            own.prefix
                .as_ref()
                .and_then(|own| own.lengths.first().copied())
        };
        let rows = |own: &Self| {
            let rows = own.prefix.as_ref().map(|prefix| &prefix.rows);
            rows.unwrap_or(&own.noise).clone()
        };
        let prefix = Prefix {
            rows: cat(&rows)?,
            lengths: all.iter().map(|own| length(own).unwrap_or(0)).collect(),
            hidden: Vec::new(),
        };
        Ok(Self {
            state: cat(&|own| own.state.clone())?,
            mask: cat(&|own| own.mask.clone())?,
            noise: cat(&|own| own.noise.clone())?,
            prefix: all.iter().any(|own| own.prefix.is_some()).then_some(prefix),
            steps,
        })
    }

    pub(super) fn given(&self) -> Given<'_> {
        Given {
            state: &self.state,
            action_mask: &self.mask,
            prefix: self.prefix.as_ref(),
        }
    }

    /// Where the sampler starts: the prefix, then noise.
    pub(super) fn start(&self) -> Result<Tensor> {
        if self.noise.dims() != self.mask.dims() {
            return Err(Error::input("the noise must have the action mask's shape"));
        }
        let noise = self.noise.to_dtype(DType::F32)?;
        let Some(prefix) = &self.prefix else {
            return Ok(noise);
        };
        let horizon = noise.dim(1)?;
        let rows = prefix
            .lengths
            .iter()
            .flat_map(|length| (0..horizon).map(move |row| u8::from(row < *length)));
        let shape = (prefix.lengths.len(), horizon, 1);
        let held = Tensor::from_vec(rows.collect::<Vec<_>>(), shape, noise.device())?;
        let held = held.broadcast_as(noise.shape())?;
        Ok(held.where_cond(&prefix.rows.to_dtype(DType::F32)?, &noise)?)
    }
}
