//! `vlad doctor`: what this machine is good for, what is wrong, and what to do about it.
//!
//! | module | looks at |
//! |---|---|
//! | [`finding`] | what a finding is, and how it is printed |
//! | [`ticks`] | how late a thread at servo rate wakes; the platform's tier |
//! | [`machine`] | kernel, limits, clocks, graphics processors |
//! | [`disk`] | how long a commit takes, and how much room is left |
//! | [`cell`] | settings, checkpoint, robot and cameras of the configured cells |
//!
//! It moves nothing: a served robot is watched, not commanded. Each look is bounded in time, and one
//! that fails is a finding, never an end.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use crate::bench::machine::Machine;
use crate::cli::{key_value, print};
use crate::config::{Config, Sources};

use finding::{Finding, Level};
use ticks::{Lateness, Tier};

pub mod cell;
pub mod disk;
pub mod finding;
pub mod machine;
pub mod ticks;

/// Longest look at the ticks: the hour that a commissioning may take.
const SECONDS_MAX: u32 = 3600;

/// Flags of `doctor`.
#[derive(Debug, Clone, Default, Args)]
pub struct DoctorArgs {
    /// How long to measure the lateness of ticks: a tier needs minutes, a first look seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(SECONDS_MAX)))]
    pub seconds: u32,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Folder of tasks and episodes, whose disk is measured.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A checkpoint to look at; else the one of the settings.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// A configuration file on top of the defaults; later ones win; repeat for several.
    #[arg(long = "config", value_name = "FILE")]
    pub configs: Vec<PathBuf>,
    /// A single setting on top of all files; repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
    /// A cell to look at: a shipped name or a TOML file; repeat for several [default: demo].
    #[arg(long = "cell", value_name = "NAME|FILE")]
    pub cells: Vec<String>,
    /// Measure the lateness of this rate alone and print it: what the doctor starts under another
    /// scheduler.
    #[arg(long, value_name = "HZ", hide = true)]
    pub ticks_only: Option<u32>,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
pub struct Document {
    /// What it was measured on.
    pub machine: Machine,
    /// What the machine is good for, by the better of its schedulers.
    pub tier: Tier,
    /// Findings that must be mended; the exit code is 1 if there are any.
    pub must_mend: usize,
    /// Everything that was found.
    pub findings: Vec<Finding>,
}

/// Does the command.
///
/// # Errors
/// Anything that must be mended; exit code 1.
pub fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    if let Some(rate_hz) = args.ticks_only {
        let lateness = ticks::measure(rate_hz, args.seconds)?;
        return print::line(&serde_json::to_string(&lateness)?);
    }
    let document = look(args);
    let text = if args.json {
        serde_json::to_string_pretty(&document)?
    } else {
        finding::text(&document)
    };
    print::line(&text)?;
    match document.must_mend {
        0 => Ok(()),
        1 => bail!("1 finding must be mended"),
        n => bail!("{n} findings must be mended"),
    }
}

fn look(args: &DoctorArgs) -> Document {
    let machine = Machine::read();
    let config = Config::load(&sources(args));
    let mut findings = vec![cell::settings(config.as_ref())];
    let rate_hz = config.as_ref().map_or(ticks::RATE_HZ, cell::servo_rate);
    let kernel = machine::kernel();
    let plain = ticks::measure(rate_hz, args.seconds);
    let fifo = ticks::measure_fifo(rate_hz, args.seconds);
    let tier = tier(kernel.real_time, &[plain.as_ref().ok(), fifo.as_ref().ok()]);
    findings.extend(ticks::findings(&plain, &fifo, tier));
    findings.extend(machine::findings(&kernel));
    findings.extend(disk::findings(args.data.as_deref(), config.as_ref().ok()));
    if let Ok(config) = &config {
        findings.extend(cell::findings(config, args.checkpoint.as_deref()));
    }
    let must_mend = findings.iter().filter(|found| found.level == Level::Mend);
    Document {
        machine,
        tier,
        must_mend: must_mend.count(),
        findings,
    }
}

fn tier(real_time_kernel: bool, measured: &[Option<&Lateness>]) -> Tier {
    let measured = measured.iter().flatten();
    let tiers = measured.map(|lateness| ticks::tier(lateness, real_time_kernel));
    tiers.max().unwrap_or(Tier::None)
}

fn sources(args: &DoctorArgs) -> Sources {
    let sets = args.settings.iter();
    Sources {
        cells: args.cells.clone(),
        files: args.configs.clone(),
        sets: sets.map(|(key, value)| format!("{key}={value}")).collect(),
        ..Sources::default()
    }
}
