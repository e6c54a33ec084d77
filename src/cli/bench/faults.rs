//! `vlad bench faults`: every fault of the list, as a table or JSON.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use anyhow::bail;
use clap::Args;

use super::{ReportArgs, show};
use crate::bench::faults::{self, FaultOptions, Row};

/// Flags of `bench faults`.
#[derive(Debug, Clone, Args)]
pub struct FaultArgs {
    /// Play only these, such as F01,F13 [default: all].
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Seeds of each fault.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// Threads [default: one a core]; what is found does not depend on it.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Does the command.
///
/// # Errors
/// Flags out of range; a fault that did not pass, or that was asked for and that nothing plays.
pub fn run(args: &FaultArgs) -> anyhow::Result<()> {
    let cores = || available_parallelism().map_or(1, usize::from);
    let options = FaultOptions {
        only: args.only.clone(),
        seeds: args.seeds,
        first_seed: args.seed,
        threads: args.threads.unwrap_or_else(cores),
    };
    let done = AtomicUsize::new(0);
    let on_terminal = io::stderr().is_terminal();
    let progress = |id: &str| {
        if on_terminal {
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            drop(write!(io::stderr(), "\r{count} played, the last one {id} "));
        }
    };
    let rows = faults::run(&options, &progress)?;
    if on_terminal {
        drop(writeln!(io::stderr()));
    }
    let mut table = vec![
        ["id", "fault", "runs", "pass", "nearest to its limit"]
            .map(str::to_owned)
            .to_vec(),
    ];
    table.extend(rows.iter().map(cells));
    show(&rows, &table, &args.report)?;
    for row in rows.iter().filter(|row| row.failed()) {
        for text in &row.failed {
            drop(writeln!(io::stderr(), "{}: {text}", row.id));
        }
    }
    verdict(&rows, !args.only.is_empty())
}

/// Whether what was asked for has passed; `named` says that faults were asked for by name.
fn verdict(rows: &[Row], named: bool) -> anyhow::Result<()> {
    let failed = rows.iter().filter(|row| row.failed()).count();
    if failed != 0 {
        bail!("{failed} faults did not pass");
    }
    let open = rows.iter().filter(|row| row.runs == 0);
    let open: Vec<&str> = open.map(|row| row.id).collect();
    // Whoever asks for one by name must not take its silence for a pass.
    if named && !open.is_empty() {
        bail!(
            "nothing plays {} yet: nothing is known of it",
            open.join(", ")
        );
    }
    Ok(())
}

fn cells(row: &Row) -> Vec<String> {
    let pass = match (row.runs, row.pass) {
        (0, _) => "-",
        (_, true) => "yes",
        (_, false) => "NO",
    };
    let worst = row
        .worst
        .as_ref()
        .map(|worst| format!("{}: {:.2} of {:.2}", worst.what, worst.value, worst.limit));
    vec![
        row.id.to_owned(),
        row.title.to_owned(),
        row.runs.to_string(),
        pass.to_owned(),
        worst.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &'static str, runs: u64, pass: bool) -> Row {
        Row {
            id,
            title: "",
            runs,
            pass,
            worst: None,
            failed: Vec::new(),
        }
    }

    #[test]
    fn a_fault_that_nothing_plays_is_no_pass_where_it_is_asked_for() {
        let rows = [row("F01", 1, true), row("F10", 0, false)];
        assert!(verdict(&rows, false).is_ok());
        let text = verdict(&rows, true).unwrap_err().to_string();
        assert!(text.contains("nothing plays F10"), "{text}");
        let rows = [row("F01", 1, false), row("F10", 0, false)];
        assert!(verdict(&rows, false).is_err());
    }
}
