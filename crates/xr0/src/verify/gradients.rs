//! Holds gradients against what a case stores of them: norms, their total, whole tensors, absence.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::train::gradients::{Gradients, total_norm};
use crate::train::variables::Frozen;

use super::array::Array;
use super::case::GradientKeys;
use super::judge::Judge;

/// The gradients of one loss, with the norms that were computed from them.
pub(super) struct Computed {
    gradients: Gradients,
    norms: BTreeMap<String, f64>,
}

impl Computed {
    /// Takes the norms.
    ///
    /// # Errors
    /// What the computation says.
    pub(super) fn of(gradients: Gradients) -> Result<Self> {
        let norms = gradients.norms()?;
        Ok(Self { gradients, norms })
    }

    /// Gives the gradients whose tensors are stored.
    ///
    /// # Errors
    /// What the computation says.
    pub(super) fn arrays(
        &self,
        keys: &GradientKeys,
        stored: &BTreeMap<String, Array>,
    ) -> Result<BTreeMap<String, Array>> {
        let mut arrays = BTreeMap::new();
        for name in stored.keys() {
            let tensor = name.strip_prefix(keys.tag);
            if let Some(gradient) = tensor.and_then(|tensor| self.gradients.get(tensor)) {
                arrays.insert(name.clone(), Array::computed(gradient)?);
            }
        }
        Ok(arrays)
    }

    /// Holds norms, total and absence against the keys of the case.
    ///
    /// `learning` are the names of all tensors that this loss might move: each of them has a norm
    /// or is listed as absent.
    pub(super) fn judge<'n>(
        &self,
        keys: &'n GradientKeys,
        learning: impl Iterator<Item = &'n str>,
        frozen: &[String],
        judge: &mut Judge<'_>,
    ) {
        let suffix = keys.suffix;
        let absent: BTreeSet<&str> = keys.absent.iter().map(String::as_str).collect();
        let listed = keys.norms.keys().map(String::as_str);
        let all: BTreeSet<&str> = listed.chain(learning).collect();
        for name in all.difference(&absent) {
            let line = format!("grad_norms{suffix}.{name}");
            match (keys.norms.get(*name), self.norms.get(*name)) {
                (Some(stored), Some(computed)) => judge.compare_number(&line, *stored, *computed),
                (Some(_), None) => judge.compare(&line, Err("there is no gradient".to_owned())),
                (None, _) => {
                    let problem = "is neither stored nor listed as absent, and learns here";
                    judge.compare(&line, Err(problem.to_owned()));
                }
            }
        }
        for name in absent {
            let norm = self.norms.get(name).copied().unwrap_or(0.0);
            judge.compare(&format!("grads_absent{suffix}.{name}"), Ok(norm));
        }
        for entry in frozen {
            let entry_alone = Frozen::new([entry]);
            let moved = self
                .norms
                .iter()
                .filter(|(name, _)| entry_alone.holds(name));
            let largest = moved.map(|(_, norm)| *norm).fold(0.0, f64::max);
            judge.compare(&format!("frozen{suffix}.{entry}"), Ok(largest));
        }
        let total = total_norm(&self.norms);
        judge.compare_number(&format!("cases.grad_norm_total{suffix}"), keys.total, total);
    }
}
