//! How far a number may be off: the table of the set's README, in code.

use std::fmt;

/// What a stored tensor is, and so how closely it must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Ids, positions, masks, grids, resized bytes, prompts: equal.
    Exact,
    /// Normalised pixels: one rounding in f32.
    Pixels,
    /// Every float tensor that no other class names: sums in another order than `PyTorch`'s.
    Stage,
    /// What the robot gets, and one velocity.
    Result,
}

/// Largest absolute differences by class.
const LIMITS: [(Class, f64); 4] = [
    (Class::Exact, 0.0),
    (Class::Pixels, 1e-6),
    (Class::Stage, 1e-4),
    (Class::Result, 2e-5),
];

/// Names of the exact class; a name that ends in a dot stands for all that begin with it.
const EXACT: [&str; 12] = [
    "action_mask",
    "attention_mask",
    "dit.attn_mask",
    "dit.position_ids",
    "dit_first_kv_layer",
    "grid_thw.",
    "ids.",
    "image_grid_thw",
    "image_resized.",
    "input_ids",
    "position_ids",
    "prompts",
];
/// Bytes and sizes of the case kind `preprocess`.
const EXACT_TABLES: [&str; 2] = ["resized.", "size."];
/// Names of the class pixels.
const PIXELS: [&str; 1] = ["pixel_values"];
/// Names of the class result.
const RESULT: [&str; 3] = ["actions", "actions_decoded", "probe.v"];

impl Class {
    /// Gives the class of a stored tensor, or of an entry of a table.
    pub fn of(name: &str) -> Self {
        let is = |names: &[&str]| {
            let fits =
                |known: &&str| name == *known || (known.ends_with('.') && name.starts_with(*known));
            names.iter().any(fits)
        };
        if is(&EXACT) || is(&EXACT_TABLES) {
            Self::Exact
        } else if is(&PIXELS) {
            Self::Pixels
        } else if is(&RESULT) {
            Self::Result
        } else {
            Self::Stage
        }
    }

    /// Gives the largest difference that passes; `stage` replaces the limit of that class alone.
    pub fn limit(self, stage: Option<f64>) -> f64 {
        let table = LIMITS.iter().find(|(class, _)| *class == self);
        match (self, stage) {
            (Self::Stage, Some(limit)) => limit,
            _ => table.map_or(0.0, |(_, limit)| *limit),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exact => "exact",
            Self::Pixels => "pixels",
            Self::Stage => "stage",
            Self::Result => "result",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_class_and_limit() {
        for (name, class, limit) in [
            ("input_ids", Class::Exact, 0.0),
            ("position_ids", Class::Exact, 0.0),
            ("dit.attn_mask", Class::Exact, 0.0),
            ("image_resized.12", Class::Exact, 0.0),
            ("resized.3", Class::Exact, 0.0),
            ("prompts", Class::Exact, 0.0),
            ("pixel_values", Class::Pixels, 1e-6),
            ("vision.block_out.0", Class::Stage, 1e-4),
            ("kv.5.k", Class::Stage, 1e-4),
            ("euler.x.5", Class::Stage, 1e-4),
            ("dit.rope_cos", Class::Stage, 1e-4),
            ("a.tensor.nobody.knows", Class::Stage, 1e-4),
            ("actions", Class::Result, 2e-5),
            ("actions_decoded", Class::Result, 2e-5),
            ("probe.v", Class::Result, 2e-5),
        ] {
            assert_eq!(Class::of(name), class, "{name}");
            assert!(class.limit(None).total_cmp(&limit).is_eq(), "{name}");
        }
    }

    #[test]
    fn a_tolerance_replaces_the_limit_of_stages_alone() {
        for (class, limit) in [
            (Class::Exact, 0.0),
            (Class::Pixels, 1e-6),
            (Class::Stage, 0.5),
            (Class::Result, 2e-5),
        ] {
            assert!(class.limit(Some(0.5)).total_cmp(&limit).is_eq(), "{class}");
        }
    }
}
