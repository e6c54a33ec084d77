//! `vlad bench async`: strategies against delay, as a table, JSON and a trace to replay.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use vlad_sim::latency::Trace;

use super::{Bar, ReportArgs, plot, show};
use crate::bench::asynchronous::agreement::{self, Agreement, Difference, OracleRow};
use crate::bench::asynchronous::contender::Contender;
use crate::bench::asynchronous::figures::Row;
use crate::bench::asynchronous::{self, AsyncOptions, Limits};

/// Longest file that is read: a trace of a million lines.
const BYTES_MAX: u64 = 200_000_000;

/// Flags of `bench async`.
#[derive(Debug, Clone, Args)]
pub struct AsyncArgs {
    /// Delays from look to chunk, ticks of 33 ms.
    #[arg(long, value_name = "D,…", value_delimiter = ',', default_values_t = [0, 2, 3, 5, 8, 12, 15])]
    pub delays: Vec<u32>,
    /// Strategies [default: all].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum)]
    pub strategies: Vec<Contender>,
    /// Episodes of each strategy and delay; the same seeds for all.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub episodes: u32,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// Standard deviations of the delay's logarithm.
    #[arg(long, value_name = "SIGMA,…", value_delimiter = ',', default_values_t = [0.0])]
    pub jitter: Vec<f64>,
    /// Probabilities that a decision is lost on its way.
    #[arg(long, value_name = "P,…", value_delimiter = ',', default_values_t = [0.0])]
    pub loss: Vec<f64>,
    /// After how long a lost decision is sent again, milliseconds; 0 drops it.
    #[arg(long, value_name = "MS", default_value_t = 200.0)]
    pub retransmit_ms: f64,
    /// Replay the delays of this file in every run, instead of --delays, --jitter and --loss.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["delays", "jitter", "loss"])]
    pub trace: Option<PathBuf>,
    /// Write the delays of the first row's first episode to this file.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Compare with the episodes of this file, made by
    /// `tests/oracle/twogate_golden.py statistics`.
    #[arg(long, value_name = "FILE")]
    pub oracle: Option<PathBuf>,
    /// Draw success, boundary, jerk and age against delay into this file, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Run nothing: show and draw the rows of a file that --out wrote.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Take the shipped limits of robot and guard instead of the widest.
    #[arg(long)]
    pub guard: bool,
    /// Threads [default: one a core]; the figures do not depend on it.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Does the command.
///
/// # Errors
/// Flags out of range, files that cannot be read or written, a run that could not be made.
pub fn run(args: &AsyncArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.from {
        let known = serde_json::from_str(&read(path)?);
        let known: Known = known.with_context(|| path.display().to_string())?;
        return tell(&known, (&known.rows, &[]), args);
    }
    let options = options(args)?;
    let bar = Bar::new(asynchronous::n_runs(&options));
    let report = asynchronous::run(&options, &|done| bar.show(done))?;
    bar.end();
    if let Some(path) = &args.record {
        let written = fs::write(path, report.trace.text());
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    tell(&report, (&report.rows, &report.agreement), args)
}

/// What is read of a report.
#[derive(Serialize, Deserialize)]
struct Known {
    rows: Vec<Row>,
}

/// Draws and prints.
fn tell(
    document: &impl Serialize,
    (rows, agreement): (&[Row], &[Agreement]),
    args: &AsyncArgs,
) -> anyhow::Result<()> {
    if let Some(path) = &args.plot {
        let drawn = fs::write(path, plot::svg(rows));
        drawn.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut lines = vec![HEADER.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(cells));
    if !agreement.is_empty() {
        lines.push(vec!["ours less the oracle's, 95 %".to_owned()]);
        lines.extend(agreement.iter().map(differences));
    }
    show(document, &lines, &args.report)
}

fn options(args: &AsyncArgs) -> anyhow::Result<AsyncOptions> {
    let contenders = if args.strategies.is_empty() {
        Contender::ALL.to_vec()
    } else {
        args.strategies.clone()
    };
    let trace = args.trace.as_deref().map(read_trace).transpose()?;
    let oracle = args.oracle.as_deref().map(read_oracle).transpose()?;
    let limits = if args.guard {
        Limits::Guard
    } else {
        Limits::Open
    };
    let cores = || available_parallelism().map_or(1, usize::from);
    Ok(AsyncOptions {
        contenders,
        delays: args.delays.clone(),
        episodes: args.episodes,
        seed: args.seed,
        jitters: args.jitter.clone(),
        losses: args.loss.clone(),
        retransmit_ms: args.retransmit_ms,
        trace,
        oracle: oracle.unwrap_or_default(),
        limits,
        threads: args.threads.unwrap_or_else(cores),
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    let unreadable = || format!("cannot read {}", path.display());
    let n_bytes = fs::metadata(path).with_context(unreadable)?.len();
    anyhow::ensure!(
        n_bytes <= BYTES_MAX,
        "{} has {n_bytes} bytes, at most {BYTES_MAX} are read",
        path.display()
    );
    fs::read_to_string(path).with_context(unreadable)
}

fn read_trace(path: &Path) -> anyhow::Result<Trace> {
    Trace::parse(&read(path)?).with_context(|| path.display().to_string())
}

fn read_oracle(path: &Path) -> anyhow::Result<Vec<OracleRow>> {
    agreement::read(&read(path)?).with_context(|| path.display().to_string())
}

const HEADER: [&str; 14] = [
    "strategy",
    "d",
    "jitter/loss",
    "prefix",
    "n",
    "success",
    "95 %",
    "stalls",
    "boundary p95 mm",
    "jerk m/s³",
    "age p95 ms",
    "age p99 ms",
    "react p50/p95 ms",
    "stopped",
];

fn cells(row: &Row) -> Vec<String> {
    let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.1}"));
    let [low, high] = row.success_interval;
    let (p50, p95) = (number(row.reaction_p50_ms), number(row.reaction_p95_ms));
    vec![
        row.strategy.name().to_owned(),
        row.d.to_string(),
        format!("{}/{}", row.jitter, row.loss),
        format!("{:.0}", row.prefix),
        row.n.to_string(),
        format!("{:.3}", row.success),
        format!("{low:.2}–{high:.2}"),
        format!("{:.2}", row.stalls),
        number(row.boundary_p95_mm),
        format!("{:.0}", row.rms_jerk),
        number(row.age_p95_ms),
        number(row.age_p99_ms),
        format!("{p50}/{p95}"),
        format!("{:.3}", row.stopped),
    ]
}

fn differences(row: &Agreement) -> Vec<String> {
    let interval = |difference: Option<Difference>| {
        difference.map_or_else(
            || "-".to_owned(),
            |Difference {
                 estimate,
                 low,
                 high,
             }| format!("{estimate:+.2} ({low:+.2} to {high:+.2})"),
        )
    };
    vec![
        row.strategy.name().to_owned(),
        format!("{}/{}", row.d, row.oracle_d),
        row.n.map(|n| n.to_string()).join("/"),
        format!("success {}", interval(row.success)),
        format!("boundary {}", interval(row.boundary_p95_mm)),
        format!("jerk {}", interval(row.rms_jerk)),
        format!("stalls {}", interval(row.stalls)),
    ]
}
