//! Compares this program with a set of golden numbers, tensor by tensor.
//!
//! A set is a directory: `manifest.json` (sizes and hashes of all other files), `cases.json`, a
//! safetensors file per case and `model/`, a checkpoint. Nothing in it is taken on trust: files are
//! checked first, and then every stored tensor that is no input must be computed and must agree.
//!
//! ```text
//!  set: files as the manifest says ─► cases: kind, inputs, stored tensors
//!                                        │ sync, sync_rope_bf16 ─► network (a batch at a time)
//!                                        │ preprocess, tokenizer ─► tables
//!                                        ▼
//!                     tolerance (class of a name) ─► a line per tensor ─► summary
//! ```
//! A kind that is not known here is a skip, and is named; a stored tensor that is not computed is a
//! failure.

use std::path::Path;

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::error::Result;

use self::judge::Judge;
use self::network::Networks;
use self::set::{Set, Work};
use self::tolerance::Class;

mod array;
mod judge;
mod network;
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
    /// Largest absolute difference; infinite where nothing could be compared.
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
    /// Largest absolute difference; null in JSON where nothing could be compared.
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
    /// Stored tensors and entries that it was held against.
    pub tensors: usize,
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
    let mut networks = Networks::new(&checkpoint);
    let (mut cases, mut skipped) = (Vec::new(), Vec::new());
    for case in set.cases() {
        let mut judge = Judge::new(&case.name, options, report);
        match &case.work {
            Work::Unknown => {
                if !skipped.contains(&case.kind) {
                    skipped.push(case.kind.clone());
                }
                continue;
            }
            Work::Network(keys) => networks.verify(&set, keys, &mut judge)?,
            Work::Preprocess(rows) => {
                tables::preprocess(&set, case, (rows, &checkpoint), &mut judge)?;
            }
            Work::Tokenizer(file) => tables::tokenizer(&set, file, &checkpoint, &mut judge)?,
        }
        cases.push(judge.summary(&case.kind));
    }
    skipped.sort();
    let worst = judge::worst(cases.iter().filter_map(|case| case.worst.clone()));
    Ok(Summary {
        cases,
        skipped,
        worst,
    })
}
