//! `vlad model verify`: a line per tensor, then what came of it.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use vlad_xr0::verify::{Line, Options, Summary, Worst, verify};

use crate::cli::print::line;

/// Failing tensors that the last message names; the lines above it name all.
const NAMED_MAX: usize = 8;

/// Flags of `model verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The set.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Largest absolute difference of intermediate results, instead of 1e-4; ids, pixels and
    /// actions keep their own limits.
    #[arg(long, value_name = "X", value_parser = tolerance)]
    pub tolerance: Option<f64>,
    /// Print one JSON document: `{cases, skipped, worst}`.
    #[arg(long)]
    pub json: bool,
}

/// Does the command.
///
/// # Errors
/// A set that cannot be used, or numbers that disagree.
pub fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let options = Options {
        tolerance: args.tolerance,
    };
    let mut failing = Vec::new();
    let mut printed = Ok(());
    let mut report = |compared: &Line| {
        if !compared.passed {
            failing.push(format!("{} {}", compared.case, compared.tensor));
        }
        if !args.json && printed.is_ok() {
            printed = line(&row(compared));
        }
    };
    let summary = verify(&args.dir, &options, &mut report)?;
    printed?;
    if args.json {
        line(&serde_json::to_string_pretty(&summary)?)?;
    } else {
        line(&conclusion(&summary, failing.len()))?;
    }
    let n_failing = failing.len();
    if 0 < n_failing {
        failing.truncate(NAMED_MAX);
        let more = n_failing - failing.len();
        let more = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        bail!("{n_failing} disagree: {}{more}", failing.join(", "));
    }
    if !summary.passed() {
        bail!("nothing was compared: no case of the set is of a known kind");
    }
    Ok(())
}

fn row(compared: &Line) -> String {
    let Line {
        case,
        tensor,
        class,
        limit,
        difference,
        ..
    } = compared;
    let verdict = if compared.passed { "ok  " } else { "FAIL" };
    let numbers = match &compared.problem {
        Some(problem) => problem.clone(),
        None => format!("{difference:<9.2e} limit {limit:e}"),
    };
    format!("{verdict} {case:<18} {tensor:<22} {class:<6} {numbers}")
}

fn conclusion(summary: &Summary, n_failing: usize) -> String {
    let tensors: usize = summary.cases.iter().map(|case| case.tensors).sum();
    let agree = match n_failing {
        0 => "all agree".to_owned(),
        n => format!("{n} disagree"),
    };
    let cases = summary.cases.len();
    let worst = summary.worst.as_ref().map_or_else(String::new, |worst| {
        let Worst {
            case,
            tensor,
            difference,
            limit,
        } = worst;
        format!("; worst: {case} {tensor} {difference:.2e} of {limit:e}")
    });
    let skipped = match summary.skipped.join(", ") {
        kinds if kinds.is_empty() => kinds,
        kinds => format!("\nskipped, kinds not known: {kinds}"),
    };
    format!("{cases} cases, {tensors} comparisons: {agree}{worst}{skipped}")
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(limit) if (0.0..f64::INFINITY).contains(&limit) => Ok(limit),
        _ => Err("must be a number, 0 or above".to_owned()),
    }
}
