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

    /// Whether it is beyond its limit, or no number.
    pub fn beyond(&self) -> bool {
        self.value.is_nan() || self.limit < self.value
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
    /// The fault's own figure that is nearest to its limit, of all runs.
    own: Option<Worst>,
    /// The same of what every run of every fault must fulfil.
    standard: Option<Worst>,
    /// Everything that was not as it must be.
    pub faults: Vec<String>,
}

impl Finding {
    /// A run that is over, with its figures and what was wrong in it.
    pub fn of(figures: Vec<Worst>, faults: Vec<String>) -> Self {
        let mut finding = Self {
            runs: 1,
            faults,
            ..Self::default()
        };
        for figure in figures {
            finding.note(&figure);
            keep(&mut finding.own, figure);
        }
        finding
    }

    /// Figures that every run has; no run of its own.
    pub fn standard(figures: Vec<Worst>) -> Self {
        let mut finding = Self::default();
        for figure in figures {
            finding.note(&figure);
            keep(&mut finding.standard, figure);
        }
        finding
    }

    /// Both.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.add(other);
        self
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
        for (place, figure) in [
            (&mut self.own, other.own),
            (&mut self.standard, other.standard),
        ] {
            if let Some(figure) = figure {
                keep(place, figure);
            }
        }
    }

    /// The figure to show: the fault's own that is nearest to its limit; one that every run has only where
    /// that alone is beyond its limit, or where there is no other.
    pub fn worst(&self) -> Option<&Worst> {
        let beyond = |figure: &&Worst| figure.beyond();
        let own = self.own.as_ref();
        let standard = self.standard.as_ref();
        own.filter(beyond)
            .or(standard.filter(beyond))
            .or(own)
            .or(standard)
    }

    /// Whether there were runs, and nothing was wrong in any.
    pub fn pass(&self) -> bool {
        0 < self.runs && self.faults.is_empty()
    }

    fn note(&mut self, figure: &Worst) {
        if figure.beyond() {
            self.faults.push(format!(
                "{}: {:.3}, at most {:.3} is allowed",
                figure.what, figure.value, figure.limit
            ));
        }
    }
}

fn keep(place: &mut Option<Worst>, figure: Worst) {
    let nearer = place
        .as_ref()
        .is_none_or(|worst| worst.share() < figure.share() || figure.value.is_nan());
    if nearer {
        *place = Some(figure);
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
        assert_eq!(finding.worst().unwrap().what, "b");
        assert!(finding.pass());
        assert_eq!(finding.runs, 2);
        finding.add(Finding::of(vec![Worst::new("d", 1.0, 0.0)], Vec::new()));
        assert_eq!(finding.worst().unwrap().what, "d");
        assert_eq!(finding.faults.len(), 1);
        finding.add(Finding::of(
            vec![Worst::new("e", f64::NAN, 1.0)],
            Vec::new(),
        ));
        assert_eq!(finding.faults.len(), 2);
        assert!(!finding.pass());
        assert!(!Finding::default().pass(), "what never ran has not passed");
    }

    #[test]
    fn a_standard_figure_is_shown_beyond_its_limit_or_alone() {
        let own = || Finding::of(vec![Worst::new("own", 1.0, 10.0)], Vec::new());
        let standard = |value: f64| Finding::standard(vec![Worst::new("standard", value, 1.0)]);
        let shown = |finding: Finding| finding.worst().unwrap().what.clone();
        assert_eq!(shown(own().with(standard(0.9))), "own");
        assert_eq!(shown(Finding::default().with(standard(0.9))), "standard");
        let beyond = own().with(standard(1.1));
        assert!(!beyond.pass());
        assert_eq!((beyond.runs, shown(beyond)), (1, "standard".to_owned()));
    }
}
