//! From policy ticks to servo ticks: a straight line between two targets.
//!
//! An action for tick n is reached at the end of tick n. The line starts at the last command, not
//! at the last target, so that a clamped command never jumps. Position and speed are clamped by
//! `vlad-safety` afterwards.

/// The way through one policy tick.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    from: Vec<f64>,
    to: Vec<f64>,
}

impl Segment {
    /// Begins a way from `from` to `to`; the shorter list decides how many degrees of freedom.
    pub fn begin(&mut self, from: &[f64], to: &[f64]) {
        self.from.clear();
        self.from.extend_from_slice(from);
        self.to.clear();
        self.to.extend_from_slice(to);
    }

    /// Gives the target of degree of freedom `dof` after servo step `step` of `steps`, from 1.
    pub fn at(&self, dof: usize, step: u32, steps: u32) -> f64 {
        let (Some(from), Some(to)) = (self.from.get(dof), self.to.get(dof)) else {
            return f64::NAN;
        };
        let part = f64::from(step.min(steps)) / f64::from(steps.max(1));
        from + (to - from) * part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_ends_at_the_target_and_never_passes_it() {
        let mut segment = Segment::default();
        segment.begin(&[1.0, -1.0], &[2.0, -3.0]);
        let way: Vec<_> = (1..=8).map(|step| segment.at(0, step, 8)).collect();
        assert!(way.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(1.0 < way[0] && (way[7] - 2.0).abs() < f64::EPSILON);
        assert!((segment.at(1, 8, 8) + 3.0).abs() < f64::EPSILON);
        assert!((segment.at(1, 99, 8) + 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_missing_degree_of_freedom_is_not_a_number() {
        let mut segment = Segment::default();
        segment.begin(&[1.0], &[]);
        assert!(segment.at(0, 1, 8).is_nan() && segment.at(5, 1, 8).is_nan());
    }
}
