//! Holds what is stored against what was computed, and keeps the score of a case.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::nn::weights::Path;

use super::array::{Array, Tokens};
use super::tolerance::{Class, SERVED};
use super::{CaseSummary, Line, Options, Worst};

/// The score of a case, over all paths that it is run on.
#[derive(Debug)]
pub(super) struct Score {
    tensors: usize,
    served: usize,
    passed: bool,
    worst: Option<Worst>,
}

/// Judges one case on one path.
pub(super) struct Judge<'a> {
    /// The case.
    pub(super) case: &'a str,
    /// The path that it is run on.
    pub(super) path: Path,
    /// What may be changed.
    pub(super) options: &'a Options,
    /// Who is told of every comparison.
    pub(super) report: &'a mut dyn FnMut(&Line),
    /// Where it is kept.
    pub(super) score: &'a mut Score,
}

impl Judge<'_> {
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
                Some(computed) => {
                    let measure = Class::of(name).measure();
                    self.compare(name, stored.apart(computed, measure, tokens));
                }
                None => self.compare(
                    name,
                    Err("is stored, but this program does not compute it".to_owned()),
                ),
            }
        }
    }

    /// Holds one stored number against a computed one.
    pub(super) fn compare_number(&mut self, name: &str, stored: f64, computed: f64) {
        let [stored, computed] = [stored, computed].map(Array::number);
        let difference = stored.apart(&computed, Class::of(name).measure(), None);
        self.compare(name, difference);
    }

    /// Holds the losses of `cases.json` against the computed ones.
    pub(super) fn compare_losses(
        &mut self,
        stored: &BTreeMap<String, f64>,
        computed: &BTreeMap<String, Array>,
    ) {
        for (name, stored) in stored {
            let line = format!("cases.{name}");
            match computed.get(name).map(|array| &*array.values) {
                Some([computed]) => self.compare_number(&line, *stored, *computed),
                _ => self.compare(&line, Err("is stored, but not computed".to_owned())),
            }
        }
    }

    /// Gives what a run computed. Of one that failed it says so for each of `names`: nothing that is
    /// stored goes by without a verdict.
    pub(super) fn outcome<'n, T>(
        &mut self,
        run: Result<T>,
        names: impl Iterator<Item = &'n String>,
    ) -> Option<T> {
        let error = match run {
            Ok(outcome) => return Some(outcome),
            Err(error) => error,
        };
        self.compare("run", Err(error.to_string()));
        for name in names {
            self.compare(name, Err("was not computed: the run failed".to_owned()));
        }
        None
    }

    /// Takes the difference of one tensor as its class measures it, or why there is none.
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
        let tensor = match self.path {
            Path::Plain => tensor.to_owned(),
            Path::Served => format!("{SERVED}{tensor}"),
        };
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
        self.score.tensors += 1;
        self.score.served += usize::from(self.path == Path::Served);
        self.score.passed &= passed;
        let Line { case, tensor, .. } = line;
        let candidate = Worst {
            case,
            tensor,
            difference,
            limit,
        };
        let known = self.score.worst.take().into_iter();
        self.score.worst = worst(known.chain([candidate]));
    }
}

impl Score {
    /// Begins with nothing compared.
    pub(super) fn new() -> Self {
        Self {
            tensors: 0,
            served: 0,
            passed: true,
            worst: None,
        }
    }

    /// Gives the summary of a case.
    pub(super) fn summary(self, name: &str, kind: &str) -> CaseSummary {
        CaseSummary {
            name: name.to_owned(),
            kind: kind.to_owned(),
            // A case that holds nothing to compare shows nothing.
            passed: self.passed && 0 < self.tensors,
            tensors: self.tensors,
            served: self.served,
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
