//! Compares this program with a set of golden numbers, tensor by tensor.
//!
//! A set is a directory: `manifest.json` (sizes and hashes of all other files), `cases.json`, a
//! safetensors file per case and `model/`, a checkpoint. Nothing in it is taken on trust: files are
//! checked first, and then every stored tensor that is no input must be computed and must agree.
//!
//! ```text
//!  set: files as the manifest says ─► cases: kind, inputs, stored tensors
//!                                        │ sync, sync_rope_bf16, async ─► network, on both paths
//!                                        │ train, train_causal, train_proposal ─► losses, gradients
//!                                        │ preprocess, tokenizer ─► tables
//!                                        ▼
//!                     tolerance (class of a name) ─► a line per tensor ─► summary
//! ```
//! On the plain path every stored number is compared. What the served path gives (keys and values
//! for the action expert, one velocity, actions) is compared once more, as `served/NAME`; numbers
//! that stand in `cases.json` are called `cases.NAME`.
//!
//! A kind that is not known here is a skip, and is named; a stored tensor that is not computed is a
//! failure.

use std::path::Path;

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::nn::weights;

use self::case::{Case, Work};
use self::judge::{Judge, Score};
use self::network::Network;
use self::set::Set;
use self::tolerance::Class;

mod array;
mod case;
mod flow;
mod gradients;
mod inputs;
mod judge;
mod network;
mod proposal;
mod set;
mod tables;
pub mod tolerance;

/// What may be changed about a verification.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Options {
    /// Limit of the class *stage* instead of the table's.
    pub tolerance: Option<f64>,
}

/// How one stored tensor, or one entry of a table, compares.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The case.
    pub case: String,
    /// Name of the tensor, or of the entry (`prompts`, `ids.3`).
    pub tensor: String,
    /// Its class.
    pub class: Class,
    /// Largest difference that passes.
    pub limit: f64,
    /// The difference as the class measures it: absolute; relative for losses and norms; over the
    /// largest number for gradients. Infinite where nothing could be compared.
    pub difference: f64,
    /// Whether it lies within the limit.
    pub passed: bool,
    /// Why nothing could be compared.
    pub problem: Option<String>,
}

/// The comparison that came closest to its limit, or went beyond it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worst {
    /// The case.
    pub case: String,
    /// The tensor.
    pub tensor: String,
    /// The difference as its class measures it; null in JSON where nothing could be compared.
    pub difference: f64,
    /// Largest difference that passes.
    pub limit: f64,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseSummary {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether all of it lies within the limits.
    pub passed: bool,
    /// Comparisons: stored tensors, entries and norms, on both paths.
    pub tensors: usize,
    /// How many of them are of the served path.
    pub served: usize,
    /// The one that came closest to its limit.
    pub worst: Option<Worst>,
}

/// What came of a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The cases that were run.
    pub cases: Vec<CaseSummary>,
    /// Kinds that are not known here, by name; their cases were not run.
    pub skipped: Vec<String>,
    /// The comparison of all cases that came closest to its limit.
    pub worst: Option<Worst>,
}

impl Summary {
    /// Whether something was compared and all of it agrees.
    pub fn passed(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|case| case.passed)
    }
}

/// Holds a set's stored numbers against this program's, in f32 on the CPU.
///
/// `report` gets every comparison as it is made.
///
/// # Errors
/// A file that is missing, differs from the manifest or cannot be understood, by name: all that
/// are, at once; a checkpoint that cannot be loaded. A number that disagrees is no error.
pub fn verify(dir: &Path, options: &Options, report: &mut dyn FnMut(&Line)) -> Result<Summary> {
    let set = Set::open(dir)?;
    let checkpoint = Checkpoint::open(&set.model_dir())?;
    let cases = set.cases().iter();
    let mut run = Run {
        set: &set,
        checkpoint: &checkpoint,
        options,
        report,
        scores: cases.map(|_| Score::new()).collect(),
    };
    for rope_bf16 in [false, true] {
        for path in [weights::Path::Plain, weights::Path::Served] {
            run.network(rope_bf16, path)?;
        }
    }
    run.others()?;
    let scored = set.cases().iter().zip(run.scores);
    let known = scored.filter(|(case, _)| !matches!(case.work, Work::Unknown));
    let cases: Vec<_> = known
        .map(|(case, score)| score.summary(&case.name, &case.kind))
        .collect();
    let unknown = set
        .cases()
        .iter()
        .filter(|case| matches!(case.work, Work::Unknown));
    let mut skipped: Vec<_> = unknown.map(|case| case.kind.clone()).collect();
    skipped.sort();
    skipped.dedup();
    let worst = judge::worst(cases.iter().filter_map(|case| case.worst.clone()));
    Ok(Summary {
        cases,
        skipped,
        worst,
    })
}

/// A verification under way.
struct Run<'a> {
    set: &'a Set,
    checkpoint: &'a Checkpoint,
    options: &'a Options,
    report: &'a mut dyn FnMut(&Line),
    /// One a case, in their order.
    scores: Vec<Score>,
}

impl Run<'_> {
    /// Runs the cases of one network, which is gone before the next one asks for memory.
    fn network(&mut self, rope_bf16: bool, path: weights::Path) -> Result<()> {
        let mut network = None;
        for (case, score) in self.set.cases().iter().zip(&mut self.scores) {
            let Work::Network(keys) = &case.work else {
                continue;
            };
            if keys.rope_bf16 != rope_bf16 {
                continue;
            }
            let network = match &mut network {
                Some(network) => network,
                none => none.insert(Network::load(self.checkpoint, rope_bf16, path)?),
            };
            let mut judge = Judge {
                case: &case.name,
                path,
                options: self.options,
                report: self.report,
                score,
            };
            network.verify(self.set, keys, &mut judge)?;
        }
        Ok(())
    }

    /// Runs the cases that bring their own weights, or need none.
    fn others(&mut self) -> Result<()> {
        for (case, score) in self.set.cases().iter().zip(&mut self.scores) {
            let mut judge = Judge {
                case: &case.name,
                path: weights::Path::Plain,
                options: self.options,
                report: self.report,
                score,
            };
            other(self.set, self.checkpoint, case, &mut judge)?;
        }
        Ok(())
    }
}

fn other(set: &Set, checkpoint: &Checkpoint, case: &Case, judge: &mut Judge<'_>) -> Result<()> {
    match &case.work {
        Work::Network(_) | Work::Unknown => Ok(()),
        Work::Flow(keys) => flow::verify(set, checkpoint, keys, judge),
        Work::Proposal(keys) => proposal::verify(set, checkpoint, keys, judge),
        Work::Preprocess(rows) => tables::preprocess(set, case, (rows, checkpoint), judge),
        Work::Tokenizer(file) => tables::tokenizer(set, file, checkpoint, judge),
    }
}
