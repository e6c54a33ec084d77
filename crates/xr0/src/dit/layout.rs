//! Where the action expert's tokens stand, and whom each sees: the two profiles (reference §6.5).
//!
//! | | A: trained synchronously | B: trained with a clean prefix |
//! |---|---|---|
//! | positions | one after the other behind the prompt | the same, and a gap before the first action behind the prefix |
//! | an action sees | all actions before it | itself and a window of actions before it |
//! | prefix | none | its actions stay as they are |
//!
//! Everybody sees the prompt's real tokens; sink and state are causal in both.

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};

/// Tokens before the actions: sink and state.
pub const FIRST_ACTION: usize = 2;

/// How an action expert was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Synchronously.
    #[default]
    A,
    /// With a clean prefix.
    B {
        /// Actions before itself that an action sees.
        local_window: usize,
        /// Positions between the prefix and the first action behind it.
        position_gap: u32,
    },
}

/// Actions of a chunk that are already decided: its first rows.
#[derive(Debug, Clone)]
pub struct Prefix {
    /// `(b, T, A)`, normalised; rows from the length on are not looked at.
    pub rows: Tensor,
    /// How many of each sample.
    pub lengths: Vec<usize>,
    /// Prefix actions that no action behind the prefix sees: training hides some. Empty: none.
    pub hidden: Vec<bool>,
}

impl Kind {
    /// Checks a prefix; gives its length in each of `b` samples.
    ///
    /// # Errors
    /// A prefix in profile A, or one that does not fit the chunk.
    pub fn lengths(
        self,
        prefix: Option<&Prefix>,
        (b, horizon): (usize, usize),
    ) -> Result<Vec<usize>> {
        let Some(prefix) = prefix else {
            return Ok(vec![0; b]);
        };
        if self == Self::A {
            return Err(Error::input(
                "profile A takes no prefix: it was trained without",
            ));
        }
        let rows = prefix.rows.dims3()?;
        let fits = (rows.0, rows.1) == (b, horizon)
            && prefix.lengths.len() == b
            && prefix.lengths.iter().all(|length| *length <= horizon);
        if fits {
            Ok(prefix.lengths.clone())
        } else {
            Err(Error::input("the prefix does not fit the chunk"))
        }
    }

    /// Positions of every token, `(b, n)`: behind `p_end`, the largest of the prompt.
    pub fn positions(self, p_end: &[u32], lengths: &[usize], horizon: usize) -> Vec<u32> {
        let n = FIRST_ACTION + horizon;
        let of_sample = |(p_end, length): (&u32, &usize)| {
            let (start, free) = (p_end + 1, FIRST_ACTION + length);
            let gap = |token: usize| match self {
                Self::B { position_gap, .. } if free <= token => position_gap,
                _ => 0,
            };
            (0..n)
                .map(|token| start + token as u32 + gap(token))
                .collect::<Vec<_>>()
        };
        p_end.iter().zip(lengths).flat_map(of_sample).collect()
    }

    /// Which cached and own tokens each token sees: `(b, 1, n, s + n)`, 1 or 0, cached ones first.
    pub fn may_attend(
        self,
        mask: &[Vec<bool>],
        (lengths, hidden): (&[usize], &[bool]),
        horizon: usize,
    ) -> Vec<u8> {
        let n = FIRST_ACTION + horizon;
        let s = mask.first().map_or(0, Vec::len);
        let mut may = Vec::with_capacity(mask.len() * n * (s + n));
        for (row, length) in mask.iter().zip(lengths) {
            for query in 0..n {
                may.extend(row.iter().map(|real| u8::from(*real)));
                may.extend((0..n).map(|key| {
                    let unseen = FIRST_ACTION + length <= query && is_hidden(key, hidden);
                    u8::from(self.sees(query, key) && !unseen)
                }));
            }
        }
        may
    }

    /// Whether a token may see another, of sink, state and actions.
    fn sees(self, query: usize, key: usize) -> bool {
        let near = match self {
            Self::A => true,
            Self::B { local_window, .. } => {
                key < FIRST_ACTION || query.saturating_sub(key) <= local_window
            }
        };
        key <= query && near
    }
}

fn is_hidden(key: usize, hidden: &[bool]) -> bool {
    let action = key.checked_sub(FIRST_ACTION);
    action.and_then(|action| hidden.get(action)) == Some(&true)
}

/// `(b, T, 1)`: 0 on the prefix, 1 behind it; `None` where no sample has a prefix.
///
/// # Errors
/// What the device says.
pub fn free(lengths: &[usize], horizon: usize, device: &Device) -> Result<Option<Tensor>> {
    if lengths.iter().all(|length| *length == 0) {
        return Ok(None);
    }
    let rows = lengths
        .iter()
        .flat_map(|length| (0..horizon).map(move |row| if row < *length { 0f32 } else { 1.0 }));
    let rows: Vec<_> = rows.collect();
    let shape = (lengths.len(), horizon, 1);
    Ok(Some(Tensor::from_vec(rows, shape, device)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Kind = Kind::B {
        local_window: 4,
        position_gap: 10,
    };

    fn rows(may: &[u8], width: usize) -> Vec<Vec<u8>> {
        may.chunks(width).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn in_profile_a_tokens_see_the_real_prompt_and_what_came_before() {
        let may = Kind::A.may_attend(&[vec![true, false]], (&[0], &[]), 1);
        assert_eq!(
            rows(&may, 5),
            [[1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 1, 1, 1]]
        );
    }

    #[test]
    fn in_profile_b_an_action_sees_sink_state_itself_and_four_before() {
        let rows = rows(&B.may_attend(&[vec![]], (&[0], &[]), 6), 8);
        assert_eq!(rows[0], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rows[1], [1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rows[6], [1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(rows[7], [1, 1, 0, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_hidden_prefix_action_is_hidden_from_free_actions_alone() {
        let rows = rows(&B.may_attend(&[vec![]], (&[3], &[true]), 4), 6);
        assert_eq!(rows[2], [1, 1, 1, 0, 0, 0], "it sees itself");
        assert_eq!(rows[4], [1, 1, 1, 1, 1, 0], "the prefix sees it");
        assert_eq!(rows[5], [1, 1, 0, 1, 1, 1], "a free action does not");
    }

    #[test]
    fn the_gap_stands_before_the_first_free_action() {
        assert_eq!(
            B.positions(&[6, 0], &[2, 0], 4),
            [7, 8, 9, 10, 21, 22, 1, 2, 13, 14, 15, 16]
        );
        assert_eq!(Kind::A.positions(&[6], &[0], 2), [7, 8, 9, 10]);
    }

    #[test]
    fn a_prefix_must_fit_the_profile_and_the_chunk() {
        let prefix = |length| Prefix {
            rows: Tensor::zeros((1, 4, 2), candle_core::DType::F32, &Device::Cpu).unwrap(),
            lengths: vec![length],
            hidden: vec![],
        };
        assert!(Kind::A.lengths(Some(&prefix(1)), (1, 4)).is_err());
        assert!(B.lengths(Some(&prefix(5)), (1, 4)).is_err());
        assert!(B.lengths(Some(&prefix(2)), (1, 5)).is_err());
        assert_eq!(B.lengths(Some(&prefix(2)), (1, 4)).unwrap(), [2]);
        assert_eq!(B.lengths(None, (2, 4)).unwrap(), [0, 0]);
    }

    #[test]
    fn only_prefix_rows_are_held() {
        let free = free(&[1, 0], 3, &Device::Cpu).unwrap().unwrap();
        let rows = free.reshape((2, 3)).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows, [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]);
        assert!(super::free(&[0, 0], 3, &Device::Cpu).unwrap().is_none());
    }
}
