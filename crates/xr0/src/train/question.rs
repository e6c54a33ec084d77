//! Stage 1 on pictures and words: the next token of an answer (reference §9.2).
//!
//! ```text
//!  <|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>QUESTION<|im_end|>\n<|im_start|>assistant\nANSWER<|im_end|>\n
//! ```
//! The tokens of the answer and of the end of its turn count, each predicted from the token before
//! it. The source says "next-token prediction" and no more: which tokens count is our reading.

use std::ops::Range;

use candle_core::Tensor;

use crate::config::Config;
use crate::error::Result;
use crate::model::{Prepared, Vlm};
use crate::preprocess::Grid;
use crate::prompt::{self, Row};
use crate::tokenizer::Tokenizer;
use crate::trace::Trace;
use crate::train::objective::token_losses;
use crate::train::proposal::go_on;

/// Label of a token that does not count.
pub const NOT_COUNTED: i64 = -100;

/// A question about one picture with its answer, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The whole exchange.
    pub row: Row,
    /// Which of its tokens count.
    pub answer: Range<usize>,
}

/// The loss and what it was made of.
#[derive(Debug, Clone)]
pub struct QuestionLosses {
    /// Mean of the tokens' losses: one number.
    pub loss: Tensor,
    /// `−log p` of each token that counts.
    pub token_loss: Tensor,
}

impl Question {
    /// Turns text into tokens; `grid` is the picture's.
    ///
    /// # Errors
    /// As [`prompt::row`].
    pub fn new(
        (tokenizer, config): (&Tokenizer, &Config),
        (question, answer): (&str, &str),
        grid: Grid,
    ) -> Result<Self> {
        let asked = format!(
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{question}<|im_end|>\n\
             <|im_start|>assistant\n"
        );
        let mut row = prompt::row(tokenizer, config, &asked, &[grid])?;
        let from = row.ids.len();
        go_on(&mut row, &tokenizer.encode(&format!("{answer}<|im_end|>"))?)?;
        let answer = from..row.ids.len();
        go_on(&mut row, &tokenizer.encode("\n")?)?;
        Ok(Self { row, answer })
    }

    /// Gives each token's id where it counts, [`NOT_COUNTED`] elsewhere; not shifted.
    pub fn labels(&self) -> Vec<i64> {
        let ids = self.row.ids.iter().enumerate();
        ids.map(|(place, id)| {
            if self.answer.contains(&place) {
                i64::from(*id)
            } else {
                NOT_COUNTED
            }
        })
        .collect()
    }
}

/// The loss of one question; `prepared` is its row with its picture, alone in the batch.
///
/// # Errors
/// Rows that do not fit the question, or a computation that fails.
pub fn question(
    vlm: &Vlm,
    prepared: &Prepared,
    question: &Question,
    trace: &mut dyn Trace,
) -> Result<QuestionLosses> {
    let Range { start, end } = question.answer.clone();
    let hidden = vlm.forward(prepared, None, trace)?.hidden; // (1, s, H)
    // Token k is predicted from the hidden state at k − 1.
    let before = hidden
        .get(0)?
        .narrow(0, start.saturating_sub(1), end - start)?;
    let token_loss = token_losses(&vlm.logits(&before)?, &question.row.ids[start..end])?;
    Ok(QuestionLosses {
        loss: token_loss.mean_all()?,
        token_loss,
    })
}
