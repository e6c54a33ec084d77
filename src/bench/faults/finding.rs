//! What one run of a fault showed.

use serde::Serialize;

/// A figure with its limit.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct Worst {
    /// What was measured, with its unit.
    pub what: String,
    /// The worst value.
    pub value: f64,
    /// What it may be at most.
    pub limit: f64,
}

impl Worst {
    /// A figure.
    pub fn new(what: &str, value: f64, limit: f64) -> Self {
        let what = what.to_owned();
        Self { what, value, limit }
    }

    /// How near the limit it is: above 1 it is beyond. Where nothing is allowed, any is far beyond.
    pub fn share(&self) -> f64 {
        if self.value <= 0.0 {
            return self.value.min(0.0);
        }
        self.value / self.limit.max(f64::MIN_POSITIVE)
    }
}

/// What a fault's runs showed so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// Runs.
    pub runs: u64,
    /// The figure that is nearest to its limit, of all runs.
    pub worst: Option<Worst>,
    /// Everything that was not as it must be.
    pub faults: Vec<String>,
}

impl Finding {
    /// A run that is over, with its figures and what was wrong in it.
    pub fn of(figures: Vec<Worst>, faults: Vec<String>) -> Self {
        let mut finding = Self {
            runs: 1,
            worst: None,
            faults,
        };
        for figure in figures {
            finding.note(figure);
        }
        finding
    }

    /// Runs of one story, one of them with a fault that must change no command.
    pub fn of_same<T: PartialEq>(commands: &[T]) -> Self {
        let same = commands
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a == b));
        let differ = f64::from(u32::from(!same));
        let figure = Worst::new("runs with other commands", differ, 0.0);
        Self::of(vec![figure], Vec::new())
    }

    /// Adds what other runs showed.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.faults.extend(other.faults);
        if let Some(worst) = other.worst {
            self.keep(worst);
        }
    }

    /// Whether there were runs, and nothing was wrong in any.
    pub fn pass(&self) -> bool {
        0 < self.runs && self.faults.is_empty()
    }

    fn note(&mut self, figure: Worst) {
        if figure.value.is_nan() || figure.limit < figure.value {
            self.faults.push(format!(
                "{}: {:.3}, at most {:.3} is allowed",
                figure.what, figure.value, figure.limit
            ));
        }
        self.keep(figure);
    }

    fn keep(&mut self, figure: Worst) {
        let nearer = self
            .worst
            .as_ref()
            .is_none_or(|worst| worst.share() < figure.share() || figure.value.is_nan());
        if nearer {
            self.worst = Some(figure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_nearest_to_its_limit_is_kept_and_one_beyond_it_is_a_fault() {
        let mut finding = Finding::of(vec![Worst::new("a", 1.0, 10.0)], Vec::new());
        assert!(finding.pass());
        finding.add(Finding::of(
            vec![Worst::new("b", 1.0, 2.0), Worst::new("c", 0.0, 0.0)],
            Vec::new(),
        ));
        assert_eq!(finding.worst.as_ref().unwrap().what, "b");
        assert!(finding.pass());
        assert_eq!(finding.runs, 2);
        finding.add(Finding::of(vec![Worst::new("d", 1.0, 0.0)], Vec::new()));
        assert_eq!(finding.worst.as_ref().unwrap().what, "d");
        assert_eq!(finding.faults.len(), 1);
        finding.add(Finding::of(
            vec![Worst::new("e", f64::NAN, 1.0)],
            Vec::new(),
        ));
        assert_eq!(finding.faults.len(), 2);
        assert!(!finding.pass());
        assert!(!Finding::default().pass(), "what never ran has not passed");
    }
}
