//! How far a number may be off: the table of the set's README, in code.
//!
//! Names are those of the set; `served/` in front says on which path a tensor was computed, and
//! `cases.` that the number stands in `cases.json`. Neither changes the class.

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
    /// A prefix behind the codec alone: close enough to see its epsilon.
    Codec,
    /// A loss; relative.
    Loss,
    /// The norm of a gradient; relative.
    Norm,
    /// A gradient; relative to its largest number.
    Gradient,
    /// A gradient that must not exist, or be zero throughout.
    Absent,
}

/// How a difference is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Largest absolute difference.
    Absolute,
    /// Largest difference over the stored number's magnitude.
    Relative,
    /// Largest absolute difference over the largest magnitude that is stored.
    OfLargest,
}

/// Largest differences by class.
const LIMITS: [(Class, f64); 9] = [
    (Class::Exact, 0.0),
    (Class::Pixels, 1e-6),
    (Class::Stage, 1e-4),
    (Class::Result, 2e-5),
    (Class::Codec, 2e-6),
    (Class::Loss, 1e-5),
    (Class::Norm, 1e-4),
    (Class::Gradient, 1e-3),
    (Class::Absent, 0.0),
];

/// Stands in front of the name of what the served path gave.
pub(super) const SERVED: &str = "served/";
/// What may stand in front of a name, and says where its number comes from.
const ORIGINS: [&str; 2] = [SERVED, "cases."];

/// Names of the exact class; a name that ends in a dot stands for all that begin with it.
const EXACT: [&str; 16] = [
    "action_mask",
    "attention_mask",
    "choice.winner",
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
    "vl.input_ids",
    "vl.labels",
    "vl.position_ids",
];
/// Bytes and sizes of the case kind `preprocess`.
const EXACT_TABLES: [&str; 2] = ["resized.", "size."];
/// Names of the class pixels.
const PIXELS: [&str; 1] = ["pixel_values"];
/// Names of the class result.
const RESULT: [&str; 3] = ["actions", "actions_decoded", "probe.v"];
/// Names of the class codec.
const CODEC: [&str; 1] = ["prefix_encoded"];
/// Names of the class loss.
const LOSS: [&str; 6] = [
    "loss",
    "loss_choice",
    "loss_freq",
    "loss_mse",
    "loss_score",
    "vl_loss",
];
/// Names of the class norm.
const NORM: [&str; 6] = [
    "grad_norm_total",
    "grad_norm_total_vl",
    "grad_norm_total_with_freq",
    "grad_norms.",
    "grad_norms_vl.",
    "grad_norms_with_freq.",
];
/// Names of the class gradient.
const GRADIENT: [&str; 3] = ["grad.", "grad_freq.", "grad_vl."];
/// Names of the class absent.
const ABSENT: [&str; 6] = [
    "frozen.",
    "frozen_vl.",
    "frozen_with_freq.",
    "grads_absent.",
    "grads_absent_vl.",
    "grads_absent_with_freq.",
];

impl Class {
    /// Gives the class of a stored tensor, or of an entry of a table.
    pub fn of(name: &str) -> Self {
        let name = bare(name);
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
        } else if is(&CODEC) {
            Self::Codec
        } else if is(&LOSS) {
            Self::Loss
        } else if is(&NORM) {
            Self::Norm
        } else if is(&GRADIENT) {
            Self::Gradient
        } else if is(&ABSENT) {
            Self::Absent
        } else {
            Self::Stage
        }
    }

    /// Gives how a difference of the class is measured.
    pub fn measure(self) -> Measure {
        match self {
            Self::Loss | Self::Norm => Measure::Relative,
            Self::Gradient => Measure::OfLargest,
            _ => Measure::Absolute,
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

/// A name without what says where its number comes from.
fn bare(name: &str) -> &str {
    let origin = ORIGINS.iter().find_map(|origin| name.strip_prefix(origin));
    origin.unwrap_or(name)
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exact => "exact",
            Self::Pixels => "pixels",
            Self::Stage => "stage",
            Self::Result => "result",
            Self::Codec => "codec",
            Self::Loss => "loss",
            Self::Norm => "norm",
            Self::Gradient => "gradient",
            Self::Absent => "absent",
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
            ("served/kv.5.k", Class::Stage, 1e-4),
            ("served/actions", Class::Result, 2e-5),
            ("prefix_encoded", Class::Codec, 2e-6),
            ("loss", Class::Loss, 1e-5),
            ("cases.loss_freq", Class::Loss, 1e-5),
            ("vl_loss", Class::Loss, 1e-5),
            ("vl.token_loss", Class::Stage, 1e-4),
            ("vl.labels", Class::Exact, 0.0),
            ("choice.winner", Class::Exact, 0.0),
            ("choice.scores", Class::Stage, 1e-4),
            ("grad_norms.sink.weight", Class::Norm, 1e-4),
            ("grad_norms_with_freq.sink.weight", Class::Norm, 1e-4),
            ("grad_norm_total_vl", Class::Norm, 1e-4),
            ("grad.sink.weight", Class::Gradient, 1e-3),
            ("grad_freq.sink.weight", Class::Gradient, 1e-3),
            ("grads_absent.sink.weight", Class::Absent, 0.0),
            ("frozen_vl.dit.", Class::Absent, 0.0),
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
            (Class::Codec, 2e-6),
            (Class::Loss, 1e-5),
            (Class::Norm, 1e-4),
            (Class::Gradient, 1e-3),
            (Class::Absent, 0.0),
        ] {
            assert!(class.limit(Some(0.5)).total_cmp(&limit).is_eq(), "{class}");
        }
    }
}
