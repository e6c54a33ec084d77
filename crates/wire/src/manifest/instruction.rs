//! How a task's sentence is written into the prompt (reference §3.2).
//!
//! The networks have seen sentences of one form alone; people type them in any.

use serde::{Deserialize, Serialize};

/// What happens to the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Nothing.
    #[default]
    AsIs,
    /// The first one becomes a capital, the rest stays.
    FirstUpper,
    /// The first one becomes a capital, all others small: Python's `capitalize`.
    Capitalize,
}

/// The form of the sentences that a network was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstructionRule {
    /// What happens to the letters.
    pub case: Case,
    /// Whether a full stop is set behind a sentence that has none.
    pub full_stop: bool,
}

impl InstructionRule {
    /// Gives the sentence as the prompt holds it. The same sentence comes out of what it gave.
    pub fn apply(self, sentence: &str) -> String {
        let mut letters = sentence.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        let mut written = match self.case {
            Case::AsIs => sentence.to_owned(),
            Case::FirstUpper => first.chain(letters).collect(),
            // "ß" becomes two letters, of which only the first is a capital.
            Case::Capitalize => {
                let mut first = first;
                let capital: String = first.next().into_iter().collect();
                let small = first.chain(letters).collect::<String>().to_lowercase();
                capital + &small
            }
        };
        if self.full_stop && !written.ends_with('.') {
            written.push('.');
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENTENCE: &str = "put the BBQ sauce in the Basket";

    fn written(case: Case, full_stop: bool, sentence: &str) -> String {
        InstructionRule { case, full_stop }.apply(sentence)
    }

    #[test]
    fn capitalize_makes_all_other_letters_small() {
        assert_eq!(
            "Put the bbq sauce in the basket.",
            written(Case::Capitalize, true, SENTENCE)
        );
        assert_eq!("Ssig", written(Case::Capitalize, false, "ßIG"));
    }

    #[test]
    fn first_upper_leaves_the_rest() {
        assert_eq!(
            "Put the BBQ sauce in the Basket.",
            written(Case::FirstUpper, true, SENTENCE)
        );
    }

    #[test]
    fn a_full_stop_is_set_once() {
        for case in [Case::AsIs, Case::FirstUpper, Case::Capitalize] {
            let once = written(case, true, SENTENCE);
            assert_eq!(once, written(case, true, &once));
        }
        assert_eq!("", written(Case::Capitalize, false, ""));
    }

    #[test]
    fn nothing_is_changed_unless_it_is_asked_for() {
        assert_eq!(SENTENCE, InstructionRule::default().apply(SENTENCE));
    }
}
