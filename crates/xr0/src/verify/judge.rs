//! Holds what is stored against what was computed, and keeps the score of a case.

use std::collections::BTreeMap;

use super::array::{Array, Tokens};
use super::tolerance::Class;
use super::{CaseSummary, Line, Options, Worst};

/// Keeps the score of one case.
pub(super) struct Judge<'a> {
    case: &'a str,
    options: &'a Options,
    report: &'a mut dyn FnMut(&Line),
    tensors: usize,
    passed: bool,
    worst: Option<Worst>,
}

impl<'a> Judge<'a> {
    /// Begins with a case.
    pub(super) fn new(
        case: &'a str,
        options: &'a Options,
        report: &'a mut dyn FnMut(&Line),
    ) -> Self {
        Self {
            case,
            options,
            report,
            tensors: 0,
            passed: true,
            worst: None,
        }
    }

    /// Holds every stored tensor that is no input against the computed one of that name.
    ///
    /// `mask` is `(b, s)`: which tokens are real.
    pub(super) fn compare_all(
        &mut self,
        stored: &BTreeMap<String, Array>,
        is_input: impl Fn(&str) -> bool,
        computed: &BTreeMap<String, Array>,
        mask: Option<&Array>,
    ) {
        for (name, stored) in stored.iter().filter(|(name, _)| !is_input(name)) {
            let tokens = token_axis(name)
                .zip(mask)
                .map(|(axis, mask)| Tokens { axis, mask });
            match computed.get(name) {
                Some(computed) => self.compare(name, stored.difference(computed, tokens)),
                None => self.compare(
                    name,
                    Err("is stored, but this program does not compute it".to_owned()),
                ),
            }
        }
    }

    /// Takes the largest absolute difference of one tensor, or why there is none.
    pub(super) fn compare(&mut self, tensor: &str, difference: Result<f64, String>) {
        let class = Class::of(tensor);
        let limit = class.limit(self.options.tolerance);
        let (difference, problem) = match difference {
            Ok(difference) => (difference, None),
            Err(problem) => (f64::INFINITY, Some(problem)),
        };
        // An infinite limit does not excuse numbers that are not finite.
        let passed = difference.is_finite() && difference <= limit;
        let case = self.case.to_owned();
        let tensor = tensor.to_owned();
        let line = Line {
            case,
            tensor,
            class,
            limit,
            difference,
            passed,
            problem,
        };
        (self.report)(&line);
        self.tensors += 1;
        self.passed &= passed;
        let Line { case, tensor, .. } = line;
        let candidate = Worst {
            case,
            tensor,
            difference,
            limit,
        };
        self.worst = worst(self.worst.take().into_iter().chain([candidate]));
    }

    /// Gives the score.
    pub(super) fn summary(self, kind: &str) -> CaseSummary {
        CaseSummary {
            name: self.case.to_owned(),
            kind: kind.to_owned(),
            // A case that holds nothing to compare shows nothing.
            passed: self.passed && 0 < self.tensors,
            tensors: self.tensors,
            worst: self.worst,
        }
    }
}

/// Gives the comparison that lies closest to its limit, or farthest beyond it.
pub(super) fn worst(all: impl Iterator<Item = Worst>) -> Option<Worst> {
    all.max_by(|a, b| {
        let key = |worst: &Worst| (share(worst), worst.difference);
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    })
}

/// What share of its limit a difference takes; equal numbers take none, whatever the limit.
fn share(worst: &Worst) -> f64 {
    if worst.difference == 0.0 {
        0.0
    } else {
        worst.difference / worst.limit
    }
}

/// Which axis of a stored tensor counts tokens of the prompt, if one does.
fn token_axis(name: &str) -> Option<usize> {
    if name.starts_with("text.") {
        Some(1)
    } else if name.starts_with("kv.") {
        Some(2)
    } else {
        None
    }
}
