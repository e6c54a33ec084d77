//! `vlad bench reaction`: how soon a jump of the goal is answered, as a table or JSON.

use std::thread::available_parallelism;

use clap::Args;
use vlad_motion::planner::Replanning;

use super::{Bar, ReportArgs, show};
use crate::bench::asynchronous::contender::Contender;
use crate::bench::reaction::row::Row;
use crate::bench::reaction::{self, ReactionOptions};

/// Flags of `bench reaction`.
#[derive(Debug, Clone, Args)]
pub struct ReactionArgs {
    /// Delays from look to chunk, ticks of 33 ms.
    #[arg(long, value_name = "D,…", value_delimiter = ',', default_values_t = [3, 8])]
    pub delays: Vec<u32>,
    /// Strategies.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum,
        default_values_t = [Contender::Sync, Contender::Naive, Contender::Guided, Contender::CleanPrefix])]
    pub strategies: Vec<Contender>,
    /// When decisions are asked for [default: all].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = replanning)]
    pub replanning: Vec<Replanning>,
    /// Pairs of runs of each row; the same seeds for all.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub episodes: u32,
    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// Threads [default: one a core]; the figures do not depend on it.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where the figures go.
    #[command(flatten)]
    pub report: ReportArgs,
}

const MODES: [(&str, Replanning); 3] = [
    ("cadence", Replanning::Cadence),
    ("continuous", Replanning::Continuous),
    ("on-change", Replanning::OnChange),
];

fn replanning(name: &str) -> Result<Replanning, String> {
    let known = MODES.iter().find(|(known, _)| *known == name);
    let known = known.map(|(_, mode)| *mode);
    known.ok_or_else(|| "must be cadence, continuous or on-change".to_owned())
}

fn name(mode: Replanning) -> &'static str {
    let known = MODES.iter().find(|(_, known)| *known == mode);
    known.map_or("", |(name, _)| name)
}

/// Does the command.
///
/// # Errors
/// Flags out of range, a file that cannot be written, a run that could not be made.
pub fn run(args: &ReactionArgs) -> anyhow::Result<()> {
    let all = || MODES.map(|(_, mode)| mode).to_vec();
    let cores = || available_parallelism().map_or(1, usize::from);
    let options = ReactionOptions {
        contenders: args.strategies.clone(),
        replannings: if args.replanning.is_empty() {
            all()
        } else {
            args.replanning.clone()
        },
        delays: args.delays.clone(),
        episodes: args.episodes,
        seed: args.seed,
        threads: args.threads.unwrap_or_else(cores),
    };
    let bar = Bar::new(reaction::n_pairs(&options));
    let report = reaction::run(&options, &|done| bar.show(done))?;
    bar.end();
    let mut rows = vec![HEADER.map(str::to_owned).to_vec()];
    rows.extend(report.rows.iter().map(cells));
    show(&report, &rows, &args.report)
}

const HEADER: [&str; 12] = [
    "strategy",
    "replanning",
    "d",
    "n",
    "command p50/p95 ms",
    "prefix",
    "its share ms",
    "bound ms",
    "within",
    "direction p50/p95 ms",
    "changed p50/p95 ms",
    "uniform p",
];

fn cells(row: &Row) -> Vec<String> {
    let two = |[p50, p95]: [Option<f64>; 2]| {
        let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.0}"));
        format!("{}/{}", number(p50), number(p95))
    };
    vec![
        row.strategy.name().to_owned(),
        name(row.replanning).to_owned(),
        row.d.to_string(),
        format!("{}/{}", row.answered, row.n),
        two(row.command_ms),
        format!("{:.0}", row.prefix),
        format!("{:.0}", row.prefix_ms),
        format!("{:.0}", row.bound_ms),
        if row.within { "yes" } else { "no" }.to_owned(),
        two(row.direction_ms),
        two(row.changed_ms),
        row.uniform_p
            .map_or_else(|| "-".to_owned(), |p| format!("{p:.2}")),
    ]
}
