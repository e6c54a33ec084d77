//! `vlad model verify`: a line per tensor, then what came of it.
//!
//! Norms and absences of gradients, some hundred a case, share a line a kind while they agree.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use vlad_xr0::verify::tolerance::Class;
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
    /// Print one JSON document: `{cases, skipped, worst}`; names of the served path begin with
    /// `served/`.
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
    let mut rows = Rows::default();
    let mut printed = Ok(());
    let mut report = |compared: &Line| {
        if !compared.passed {
            failing.push(format!("{} {}", compared.case, compared.tensor));
        }
        if !args.json && printed.is_ok() {
            printed = rows.take(compared).iter().try_for_each(|row| line(row));
        }
    };
    let summary = verify(&args.dir, &options, &mut report)?;
    printed?;
    rows.rest().iter().try_for_each(|row| line(row))?;
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

/// Turns comparisons into rows; what there are hundreds of shares one.
#[derive(Debug, Default)]
struct Rows {
    shared: Option<Shared>,
}

/// Comparisons of one case and one kind that agree.
#[derive(Debug)]
struct Shared {
    /// The one that came closest to its limit, under the name that they share.
    worst: Line,
    n: usize,
}

impl Rows {
    /// Gives the rows that are complete with this comparison.
    fn take(&mut self, compared: &Line) -> Vec<String> {
        let Some(name) = shared_name(compared) else {
            let mut rows = self.rest();
            rows.push(row(compared, &compared.tensor));
            return rows;
        };
        match &mut self.shared {
            Some(shared)
                if (&*shared.worst.case, &*shared.worst.tensor) == (&compared.case, name) =>
            {
                shared.n += 1;
                shared.worst.difference = compared.difference.max(shared.worst.difference);
                Vec::new()
            }
            _ => {
                let rows = self.rest();
                let worst = Line {
                    tensor: name.to_owned(),
                    ..compared.clone()
                };
                self.shared = Some(Shared { worst, n: 1 });
                rows
            }
        }
    }

    /// Gives the row that waits for more to share it.
    fn rest(&mut self) -> Vec<String> {
        let shared = self.shared.take();
        let rows =
            shared.map(|Shared { worst, n }| row(&worst, &format!("{} ({n})", worst.tensor)));
        rows.into_iter().collect()
    }
}

/// `grad_norms` of `grad_norms.sink.weight`; none where the comparison has a row of its own.
fn shared_name(compared: &Line) -> Option<&str> {
    let many = matches!(compared.class, Class::Norm | Class::Absent) && compared.passed;
    let (name, _) = compared.tensor.split_once('.').filter(|_| many)?;
    // Totals stand for themselves.
    (name != "cases").then_some(name)
}

fn row(compared: &Line, name: &str) -> String {
    let Line {
        case,
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
    format!("{verdict} {case:<18} {name:<28} {class:<8} {numbers}")
}

fn conclusion(summary: &Summary, n_failing: usize) -> String {
    let tensors: usize = summary.cases.iter().map(|case| case.tensors).sum();
    let served: usize = summary.cases.iter().map(|case| case.served).sum();
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
    format!(
        "{cases} cases, {tensors} comparisons, {served} of them of the served path: \
         {agree}{worst}{skipped}"
    )
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(limit) if (0.0..f64::INFINITY).contains(&limit) => Ok(limit),
        _ => Err("must be a number, 0 or above".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(tensor: &str, class: Class, passed: bool) -> Line {
        Line {
            case: "train_p0".to_owned(),
            tensor: tensor.to_owned(),
            class,
            limit: 1e-4,
            difference: 1e-6,
            passed,
            problem: None,
        }
    }

    #[test]
    fn norms_that_agree_share_a_row_and_one_that_does_not_has_its_own() {
        let mut rows = Rows::default();
        let all = [
            compared("loss", Class::Loss, true),
            compared("grad_norms.a", Class::Norm, true),
            compared("grad_norms.b", Class::Norm, true),
            compared("grad_norms.c", Class::Norm, false),
            compared("grad_norms.d", Class::Norm, true),
            compared("grads_absent.e", Class::Absent, true),
            compared("cases.grad_norm_total", Class::Norm, true),
            compared("grad_norms.f", Class::Norm, true),
        ];
        let mut printed: Vec<_> = all.iter().flat_map(|line| rows.take(line)).collect();
        printed.extend(rows.rest());
        let names: Vec<_> = printed.iter().map(|row| row[24..52].trim_end()).collect();
        let wanted = [
            "loss",
            "grad_norms (2)",
            "grad_norms.c",
            "grad_norms (1)",
            "grads_absent (1)",
            "cases.grad_norm_total",
            "grad_norms (1)",
        ];
        assert_eq!(names, wanted);
        assert!(printed[2].starts_with("FAIL train_p0") && rows.rest().is_empty());
    }
}
