//! `vlad bench`: measurements and trials on this machine. Asks no daemon and moves nothing.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@asynchronous`], `plot` | `bench async`, and its picture |
//! | [`mod@reaction`] | `bench reaction` |

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::bench::child::Launcher;
use crate::bench::handover::{self, HandoverOptions};
use crate::bench::samples::{Samples, ms};
use crate::bench::serve::{self, ChildRole, Duty};
use crate::bench::soak::{self, Phase, SoakOptions};
use crate::bench::streaming::{self, StreamingOptions};
use crate::cli::print::{line, table};

pub mod asynchronous;
pub mod faults;
mod plot;
pub mod reaction;

/// Shortest and longest part of a soak, bytes: a layer of the released network for 100 tokens in
/// bfloat16, and one for 200 tokens in f32.
const SOAK_SIZES: (usize, usize) = (400_000, 1_700_000);

/// `vlad bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: BenchAction,
}

/// What can be measured and tried.
#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Measures how long a context takes from one process to another, against a copy in memory.
    ///
    /// Starts a second process on a core of its own. Each round measures every way once: copies in
    /// memory, by reference in one process, as bytes, in shared memory, without and with checksums,
    /// for prompts of 200 and 400 tokens in f32 and bf16.
    Handover(HandoverArgs),
    /// Measures what it saves that a context is published layer by layer as it is computed.
    ///
    /// Runs brain and action expert as two processes, each pinned to a core, twice: once with the
    /// parts as they are ready, once with all parts at the end; both decide in turns on the same
    /// observations, and their chunks must be equal to the last bit. Without --checkpoint it makes
    /// one with random weights in a temporary folder.
    Streaming(StreamingArgs),
    /// Tries shared memory under load, with stopped and killed processes; ends with 1 if anything
    /// that arrived was not what was sent.
    ///
    /// Lost parts are counted and no fault: the bus may lose messages, and contexts with missing
    /// parts are dropped whole.
    Soak(SoakArgs),
    /// Plays the faults that the guard must survive, in virtual time; ends with 1 if one does not pass.
    ///
    /// Processes that die and hang, links that lose, clocks that jump, cameras, robots and policies that
    /// lie. Each fault has its own criterion; all must keep every command inside the envelope, no action
    /// too old, no tick going back, every change of mode in the audit, and no way on without a person.
    Faults(faults::FaultArgs),
    /// Compares strategies against delay in virtual time: `TwoGate`'s cell, the daemon's own cores.
    ///
    /// Each row is one strategy at one delay over the same seeds: success, ticks without a row, jumps
    /// between chunks, jerk, age of the rows, time to react. The guard's limits are as wide as they
    /// can be, and its late-chunk rule is off; --guard takes the shipped ones.
    Async(asynchronous::AsyncArgs),
    /// Measures how soon a jump of the goal is answered: the same cell, each run beside a twin without.
    ///
    /// Each row is one strategy with one way to replan at one delay: from the jump to the first command
    /// that rests on a later look, to another direction and to another target than the twin's; what of
    /// the first the clean prefix took; the bound of its 95th percentile, and whether it holds.
    Reaction(reaction::ReactionArgs),
    /// What the other process of a trial does.
    #[command(hide = true)]
    Child(ChildArgs),
}

/// Flags of every bench: where the figures go.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Print one JSON document with all samples.
    #[arg(long)]
    pub json: bool,
    /// Write that document to a file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Flags of `bench handover`.
#[derive(Debug, Clone, Args)]
pub struct HandoverArgs {
    /// How often each way is measured.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub pairs: usize,
    /// Mebibytes of shared memory.
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    pub shared_memory_mib: u16,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Flags of `bench streaming`.
#[derive(Debug, Clone, Args)]
pub struct StreamingArgs {
    /// Folder of a checkpoint with its vlad.toml that fits the demo cell.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// Pairs of decisions.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub pairs: u64,
    /// Mebibytes of shared memory; 0 sends copies.
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    pub shared_memory_mib: u16,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Flags of `bench soak`.
#[derive(Debug, Clone, Args)]
pub struct SoakArgs {
    /// Parts of each of the two phases without faults.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub parts: u64,
    /// How often each fault happens.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub faults: u64,
    /// How long a reader is stopped, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    pub stopped_ms: u64,
    /// Threads that do nothing but work meanwhile.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub busy_threads: usize,
    /// Mebibytes of shared memory; 0 sends bytes.
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    pub shared_memory_mib: u16,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Flags of `bench child`.
#[derive(Debug, Clone, Args)]
pub struct ChildArgs {
    /// What it does.
    #[arg(value_enum)]
    pub role: ChildRole,
    /// Where its bus listens.
    #[arg(long, value_name = "EP")]
    pub listen: Option<String>,
    /// Whom its bus calls.
    #[arg(long, value_name = "EP")]
    pub connect: Option<String>,
    /// Mebibytes of shared memory.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub shared_memory_mib: u16,
    /// The core that it is pinned to.
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
}

/// Does the command.
///
/// # Errors
/// Processes that do not start or hang, a file that cannot be written; of `soak` anything that
/// arrived and was not what was sent.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.action {
        BenchAction::Handover(args) => measure_handover(args),
        BenchAction::Soak(args) => try_soak(args),
        BenchAction::Streaming(args) => measure_streaming(args),
        BenchAction::Faults(args) => faults::run(args),
        BenchAction::Async(args) => asynchronous::run(args),
        BenchAction::Reaction(args) => reaction::run(args),
        BenchAction::Child(args) => serve::run(&Duty {
            role: args.role,
            listen: args.listen.clone(),
            connect: args.connect.clone(),
            shared_memory_mib: args.shared_memory_mib,
            core: args.core,
        }),
    }
}

fn measure_handover(args: &HandoverArgs) -> anyhow::Result<()> {
    let options = HandoverOptions {
        rounds: args.pairs,
        shared_memory_mib: args.shared_memory_mib,
    };
    let on_terminal = io::stderr().is_terminal();
    let mut progress = |done: usize| {
        if on_terminal {
            let told = write!(io::stderr(), "\rround {done} of {}", args.pairs);
            drop(told);
        }
    };
    let report = handover::run(&Launcher::own()?, options, &mut progress)?;
    if on_terminal {
        drop(writeln!(io::stderr()));
    }
    let header = ["context", "way", "median ms", "p90 ms", "× memcpy", "lost"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for row in &report.measured {
        let at = |share| row.samples.quantile(share).map_or(f64::NAN, ms);
        rows.push(vec![
            format!("{} {}", row.size.dtype, row.size.tokens),
            row.way.name().to_owned(),
            format!("{:.3}", at(0.5)),
            format!("{:.3}", at(0.9)),
            format!("{:.2}", row.times_memcpy),
            row.lost.to_string(),
        ]);
    }
    show(&report, &rows, &args.report)
}

fn measure_streaming(args: &StreamingArgs) -> anyhow::Result<()> {
    let folder = TempFolder::new();
    let checkpoint = if let Some(checkpoint) = &args.checkpoint {
        checkpoint.clone()
    } else {
        drop(writeln!(
            io::stderr(),
            "making a checkpoint with random weights"
        ));
        streaming::synthesise(&folder.0)?;
        folder.0.clone()
    };
    let options = StreamingOptions {
        binary: std::env::current_exe().context("cannot find this binary")?,
        checkpoint,
        pairs: args.pairs,
        shared_memory_mib: args.shared_memory_mib,
    };
    let mut progress = |done: u64| {
        drop(writeln!(io::stderr(), "pair {done} of {}", args.pairs));
    };
    let report = streaming::run(&options, &mut progress)?;
    let at = |samples: &Samples, share| {
        let ns = samples.quantile(share);
        format!("{:.1}", ns.map_or(f64::NAN, ms))
    };
    let header = ["from request to chunk", "median ms", "p10 ms", "p90 ms"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (name, samples) in [
        ("parts as they are ready", &report.streamed),
        ("all parts at the end", &report.whole),
        ("acting on a whole context", &report.acting),
    ] {
        let mut row = vec![name.to_owned()];
        row.extend([0.5, 0.1, 0.9].map(|share| at(samples, share)));
        rows.push(row);
    }
    let sign = if report.median_saving_ns < 0 { "-" } else { "" };
    let saving = ms(report.median_saving_ns.unsigned_abs());
    rows.push(vec![format!(
        "median saving {sign}{saving:.1} ms: {:.2} of an Euler step of {:.1} ms; chunks equal bit for bit",
        report.share_of_step,
        ms(report.step_ns),
    )]);
    show(&report, &rows, &args.report)
}

/// A folder that is removed at the end; it is not made.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> Self {
        let name = format!("vlad-bench-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // It may never have been made.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn try_soak(args: &SoakArgs) -> anyhow::Result<()> {
    let options = SoakOptions {
        parts: args.parts,
        faults: args.faults,
        stopped: Duration::from_millis(args.stopped_ms),
        busy_threads: args.busy_threads,
        shared_memory_mib: args.shared_memory_mib,
        sizes: SOAK_SIZES,
    };
    let mut progress = |phase: &Phase| {
        let came = phase.seen.parts;
        drop(writeln!(
            io::stderr(),
            "done: {}, {came} parts came",
            phase.name
        ));
    };
    let phases = soak::run(&Launcher::own()?, options, &mut progress)?;
    let header = [
        "phase",
        "published",
        "shared",
        "no room",
        "arrived",
        "in shared",
        "missing",
        "refused",
        "wrong",
        "changed",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for phase in &phases {
        let seen = phase.seen;
        let numbers = [
            phase.published,
            phase.published_shared,
            phase.refused,
            seen.parts,
            seen.shared,
            seen.missing,
            seen.malformed,
            seen.wrong,
            seen.changed,
        ];
        let mut row = vec![phase.name.to_owned()];
        row.extend(numbers.map(|number| number.to_string()));
        rows.push(row);
    }
    show(&phases, &rows, &args.report)?;
    if !phases.iter().all(Phase::is_clean) {
        bail!("something arrived that was not what was sent");
    }
    Ok(())
}

/// A progress bar on standard error, where that is a terminal.
struct Bar {
    count: usize,
    on_terminal: bool,
}

impl Bar {
    /// Length, characters.
    const LENGTH: usize = 40;

    fn new(count: usize) -> Self {
        Self {
            count,
            on_terminal: io::stderr().is_terminal(),
        }
    }

    fn show(&self, done: usize) {
        if self.on_terminal {
            let filled = (Self::LENGTH * done).checked_div(self.count);
            let filled = filled.unwrap_or(0).min(Self::LENGTH);
            let bar = "#".repeat(filled) + &".".repeat(Self::LENGTH - filled);
            drop(write!(io::stderr(), "\r[{bar}] {done} of {}", self.count));
        }
    }

    fn end(&self) {
        if self.on_terminal {
            drop(writeln!(io::stderr()));
        }
    }
}

fn show(
    document: &impl Serialize,
    rows: &[Vec<String>],
    report: &ReportArgs,
) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    if let Some(path) = &report.out {
        fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if report.json {
        line(&text)
    } else {
        line(&table(rows))
    }
}
