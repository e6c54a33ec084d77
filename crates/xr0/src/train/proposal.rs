//! Stage 1 on robot data: candidate chunks and their scores, read off the text model (reference
//! §9.2, "Choice Policies").
//!
//! The prompt is followed by one more exchange, in which special tokens stand for the state, for
//! each action and for the score:
//! ```text
//!  <|im_start|>user\nRobot state: [state]<|im_end|>\n<|im_start|>assistant\n[a_0][a_1]…[score]<|im_end|>\n
//! ```
//! Sample `b` has `steps[b]` action tokens: none for what lies behind the end of its episode. The
//! hidden states at the action tokens give `N` candidates, that at the score token `N` scores.

use candle_core::{D, Tensor};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{Prepared, Vlm};
use crate::preprocess::Grid;
use crate::prompt::{self, Row, TOKENS_MAX};
use crate::text::Swapped;
use crate::tokenizer::Tokenizer;
use crate::trace::Trace;
use crate::train::heads::ProposalHeads;
use crate::train::objective::masked_mean;

/// Ids of the special tokens, none of them the tokenizer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposalIds {
    /// Of the score.
    pub score: u32,
    /// Of the state.
    pub state: u32,
    /// Of the first action; the others follow it.
    pub first_action: u32,
}

impl ProposalIds {
    /// The id that action `index` has.
    fn action(self, index: usize) -> u32 {
        self.first_action + index as u32
    }
}

/// How the two losses add up; the successor's training code has 0.5 and 0.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProposalWeights {
    /// Of the distance of the nearest candidate.
    pub choice: f64,
    /// Of the scores' error.
    pub score: f64,
}

/// A batch of robot data.
#[derive(Debug)]
pub struct ProposalBatch<'a> {
    /// Rows that [`proposal_row`] made, with their images.
    pub prepared: &'a Prepared,
    /// Action tokens of each sample.
    pub steps: &'a [usize],
    /// `(b, T, A)`: normalised.
    pub action: &'a Tensor,
    /// `(b, T, A)`: 1 where an entry counts.
    pub mask: &'a Tensor,
    /// `(b, 1, state_dim)`: raw.
    pub state: &'a Tensor,
}

/// The proposal loss and what it was made of; `n` action tokens of all samples, one sample after
/// the other.
#[derive(Debug, Clone)]
pub struct ProposalLosses {
    /// The weighted sum: one number.
    pub loss: Tensor,
    /// Mean distance of the nearest candidates: one number.
    pub choice: Tensor,
    /// Mean squared error of the scores: one number.
    pub score: Tensor,
    /// `(b, 1, H)`.
    pub state_embed: Tensor,
    /// `(n, H)`: behind the final norm.
    pub action_hidden: Tensor,
    /// `(n, N, A)`: the candidates.
    pub actions: Tensor,
    /// `(b, H)`: behind the final norm.
    pub score_hidden: Tensor,
    /// `(b, N)`.
    pub scores: Tensor,
    /// `(b, N)`: how far each candidate lies from the action.
    pub distance: Tensor,
    /// The nearest candidate of each sample.
    pub winner: Vec<usize>,
}

/// Makes the tokens of a sample: its prompt, then the exchange with `steps` action tokens.
///
/// # Errors
/// As [`prompt::row`]; more tokens than a sample may have.
pub fn proposal_row(
    (tokenizer, config): (&Tokenizer, &Config),
    (prompt, grids): (&str, &[Grid]),
    ids: ProposalIds,
    steps: usize,
) -> Result<Row> {
    let asked = format!("{prompt}<|im_start|>user\nRobot state: ");
    let mut row = prompt::row(tokenizer, config, &asked, grids)?;
    go_on(&mut row, &vec![ids.state; config.state_length])?;
    go_on(
        &mut row,
        &tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n")?,
    )?;
    let actions: Vec<_> = (0..steps).map(|index| ids.action(index)).collect();
    go_on(&mut row, &actions)?;
    go_on(&mut row, &[ids.score])?;
    go_on(&mut row, &tokenizer.encode("<|im_end|>\n")?)?;
    Ok(row)
}

/// Adds tokens behind a row; their positions go on as those of text.
///
/// # Errors
/// More tokens than a sample may have.
pub fn go_on(row: &mut Row, ids: &[u32]) -> Result<()> {
    let last = row.positions.iter().flatten().max();
    let next = last.map_or(0, |last| last + 1);
    row.ids.extend_from_slice(ids);
    for axis in &mut row.positions {
        axis.extend((next..).take(ids.len()));
    }
    if row.ids.len() <= TOKENS_MAX {
        Ok(())
    } else {
        let n = row.ids.len();
        Err(Error::input(format!(
            "a sample has {n} tokens, at most {TOKENS_MAX} are taken"
        )))
    }
}

/// The proposal loss of a batch.
///
/// # Errors
/// A batch that does not fit itself or the network.
pub fn proposal(
    (vlm, heads): (&Vlm, &ProposalHeads),
    batch: &ProposalBatch<'_>,
    ids: ProposalIds,
    share: ProposalWeights,
    trace: &mut dyn Trace,
) -> Result<ProposalLosses> {
    let places = Places::of(batch, ids)?;
    let state_embed = heads.embed_state(batch.state)?; // (b, 1, H)
    let mut embeddings = Vec::new();
    for (sample, steps) in batch.steps.iter().enumerate() {
        embeddings.push(state_embed.get(sample)?);
        embeddings.push(heads.embed_actions_and_score(*steps)?);
    }
    let embeddings = Tensor::cat(&embeddings, 0)?;
    let swapped = Swapped {
        tokens: &places.all,
        embeddings: &embeddings,
    };
    let hidden = vlm.forward(batch.prepared, Some(&swapped), trace)?.hidden; // (b, s, H)
    let hidden = hidden.flatten(0, 1)?;
    let at = |places: &[u32]| -> Result<Tensor> {
        let places = Tensor::new(places, hidden.device())?;
        Ok(hidden.index_select(&places, 0)?)
    };
    let (action_hidden, score_hidden) = (at(&places.actions)?, at(&places.scores)?);
    let (actions, scores) = (heads.actions(&action_hidden)?, heads.scores(&score_hidden)?);
    let distance = distances(&actions, (batch.action, batch.mask), batch.steps)?;
    let winner = winners(&distance)?;
    let choice = choice_loss(&distance, &winner)?;
    let score = score_loss(&scores, &distance)?;
    Ok(ProposalLosses {
        loss: ((&choice * share.choice)? + (&score * share.score)?)?,
        choice,
        score,
        state_embed,
        action_hidden,
        actions,
        score_hidden,
        scores,
        distance,
        winner,
    })
}

/// `d_n`: the mean of `|candidate n − action|` over a sample's masked-in entries.
///
/// `candidates`: `(n, N, A)`, samples one after the other; `action` and `mask`: `(b, T, A)`, of
/// which the first `steps[b]` rows play a part; the result: `(b, N)`.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn distances(
    candidates: &Tensor,
    (action, mask): (&Tensor, &Tensor),
    steps: &[usize],
) -> Result<Tensor> {
    let n_candidates = candidates.dim(1)?;
    let (mut rows, mut from) = (Vec::new(), 0);
    for (sample, steps) in steps.iter().enumerate() {
        let own = candidates.narrow(0, from, *steps)?; // (steps, N, A)
        let action = action.get(sample)?.narrow(0, 0, *steps)?.unsqueeze(1)?; // (steps, 1, A)
        let mask = mask.get(sample)?.narrow(0, 0, *steps)?;
        let error = own.broadcast_sub(&action)?.abs()?;
        let each = (0..n_candidates).map(|n| {
            let error = error.narrow(1, n, 1)?.squeeze(1)?;
            Ok(masked_mean(&error, &mask)?.reshape(1)?)
        });
        rows.push(Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)?.unsqueeze(0)?);
        from += steps;
    }
    Ok(Tensor::cat(&rows, 0)?)
}

/// Gives the candidate with the smallest distance, by sample.
///
/// # Errors
/// Distances that are no matrix.
pub fn winners(distance: &Tensor) -> Result<Vec<usize>> {
    let winners = distance.argmin(D::Minus1)?.to_vec1::<u32>()?;
    Ok(winners.into_iter().map(|n| n as usize).collect())
}

/// Mean distance of the winners: no other candidate learns.
///
/// # Errors
/// Another number of winners than samples.
pub fn choice_loss(distance: &Tensor, winner: &[usize]) -> Result<Tensor> {
    let winner: Vec<_> = winner.iter().map(|n| *n as u32).collect();
    let winner = Tensor::new(winner, distance.device())?.unsqueeze(1)?;
    Ok(distance.gather(&winner, 1)?.mean_all()?)
}

/// Mean of `(score_n − d_n)²`; the distances are constants.
///
/// # Errors
/// Shapes that differ.
pub fn score_loss(scores: &Tensor, distance: &Tensor) -> Result<Tensor> {
    Ok((scores - distance.detach())?.sqr()?.mean_all()?)
}

/// Where the special tokens stand among the `b·s` tokens of a batch.
struct Places {
    all: Vec<usize>,
    actions: Vec<u32>,
    scores: Vec<u32>,
}

impl Places {
    fn of(batch: &ProposalBatch<'_>, ids: ProposalIds) -> Result<Self> {
        let rows = &batch.prepared.rows;
        let n_actions: usize = batch.steps.iter().sum();
        let longest = batch.steps.iter().max().copied().unwrap_or(0);
        let is_action = |id: u32| (ids.first_action..ids.action(longest)).contains(&id);
        let (mut all, mut actions, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for (place, id) in rows.ids.iter().enumerate() {
            if is_action(*id) {
                actions.push(place as u32);
            } else if *id == ids.score {
                scores.push(place as u32);
            } else if *id != ids.state {
                continue;
            }
            all.push(place);
        }
        let fits = batch.steps.len() == rows.n
            && actions.len() == n_actions
            && scores.len() == rows.n
            && all.len() == n_actions + 2 * rows.n;
        if fits {
            Ok(Self {
                all,
                actions,
                scores,
            })
        } else {
            Err(Error::input(
                "the rows' special tokens do not fit the numbers of actions",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn added_tokens_go_on_behind_the_largest_position() {
        let mut row = Row {
            ids: vec![7, 8],
            positions: [vec![0, 1], vec![0, 4], vec![0, 2]],
        };
        go_on(&mut row, &[9, 9]).unwrap();
        assert_eq!(row.ids, [7, 8, 9, 9]);
        assert_eq!(
            row.positions,
            [vec![0, 1, 5, 6], vec![0, 4, 5, 6], vec![0, 2, 5, 6]]
        );
        assert!(go_on(&mut row, &vec![1; TOKENS_MAX]).is_err());
    }

    /// Two samples of two and of one action; two candidates of two slots, the second masked out in
    /// the first action.
    #[test]
    fn the_winner_alone_learns_from_the_distance_and_every_score_from_its_own() {
        let tensor = |values: &[f32], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
        };
        let candidates = tensor(
            &[1., 9., 3., 9., 1., 1., 5., 5., 2., 2., 4., 0.],
            &[3, 2, 2],
        );
        let candidates = Var::from_tensor(&candidates).unwrap();
        let action = tensor(&[0., 0., 0., 0., 4., 1., 77., 77.], &[2, 2, 2]);
        let mask = tensor(&[1., 0., 1., 1., 1., 1., 1., 1.], &[2, 2, 2]);
        let distance = distances(&candidates, (&action, &mask), &[2, 1]).unwrap();
        let wanted = [[1.0, 13.0 / 3.0], [1.5, 0.5]];
        for (row, wanted) in distance.to_vec2::<f32>().unwrap().iter().zip(wanted) {
            assert!(
                row.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6),
                "{row:?}"
            );
        }
        let winner = winners(&distance).unwrap();
        assert_eq!(winner, [0, 1]);
        let loss = choice_loss(&distance, &winner).unwrap();
        assert!((loss.to_scalar::<f32>().unwrap() - 0.75).abs() < 1e-6);
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&candidates).unwrap();
        let losers = gradient.narrow(1, 1, 1).unwrap().narrow(0, 0, 2).unwrap();
        let size = |x: &Tensor| {
            let sum = x.abs().unwrap().sum_all().unwrap();
            sum.to_scalar::<f32>().unwrap()
        };
        let (zero, all) = (size(&losers), size(gradient));
        assert!(zero.total_cmp(&0.0).is_eq() && 0.9 < all);
        let scores = tensor(&[1., 1., 1.5, 1.5], &[2, 2]);
        let score = score_loss(&scores, &distance).unwrap();
        let wanted = (100.0 / 9.0 + 1.0) / 4.0;
        assert!((score.to_scalar::<f32>().unwrap() - wanted).abs() < 1e-5);
        assert!(score.backward().unwrap().get(&candidates).is_none());
    }
}
