//! How far the pipeline is from the oracle: intervals of 95 % around the differences.
//!
//! The oracle's episodes come as lines of `tests/oracle/twogate_golden.py statistics`. Its random
//! numbers are not ours, so seeds are not paired: shares are compared by Newcombe's method, the rest
//! by an independent bootstrap over episodes.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use vlad_sim::statistics::{
    Bootstrap, Draws, Interval, Share, bootstrap_independent, mean, newcombe, quantile,
};

use super::contender::Contender;
use super::figures::{Ran, prefix, small};

/// Most lines of an oracle's file: every strategy at thirty delays.
const LINES_MAX: usize = 300;
/// Rows of a chunk.
const HORIZON: u32 = 30;
/// How often is drawn, and from which seed: the same figures give the same intervals.
const DRAWS: Draws = Draws {
    seed: 1,
    count: 2000,
};

/// The oracle's episodes of one strategy at one delay.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OracleRow {
    /// Strategy.
    pub strategy: Contender,
    /// Delay, ticks.
    pub d: u32,
    /// Its episodes.
    pub episodes: Vec<OracleEpisode>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OracleEpisode {
    /// Whether it succeeded.
    pub ok: bool,
    /// Root mean square jerk, m/s³.
    pub rms_jerk: f64,
    /// Ticks without a row.
    pub stalls: u32,
    /// Jumps between chunks, mm.
    pub boundaries_mm: Vec<f64>,
}

/// Ours less the oracle's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The estimate.
    pub estimate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Difference {
    fn of(interval: Interval) -> Self {
        Self {
            estimate: interval.estimate,
            low: interval.low,
            high: interval.high,
        }
    }
}

/// One row against the oracle's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Strategy.
    pub strategy: Contender,
    /// Delay, ticks.
    pub d: u32,
    /// The oracle's delay of its episodes, ticks: the first row that is free. Where a prefix is longer
    /// than the delay (a row to spare, reference A.8), that is the row behind it; the oracle's prefix
    /// is always as long as its delay.
    pub oracle_d: u32,
    /// Our episodes and the oracle's.
    pub n: [usize; 2],
    /// Share that succeeded.
    pub success: Option<Difference>,
    /// 95th percentile of the boundaries, mm.
    pub boundary_p95_mm: Option<Difference>,
    /// Mean jerk, m/s³.
    pub rms_jerk: Option<Difference>,
    /// Mean ticks without a row.
    pub stalls: Option<Difference>,
}

/// Reads the oracle's lines.
///
/// # Errors
/// The first line that is none, by its number.
pub fn read(text: &str) -> anyhow::Result<Vec<OracleRow>> {
    let lines = text.lines().count();
    ensure!(lines <= LINES_MAX, "{lines} lines, {LINES_MAX} at most");
    let rows = text.lines().enumerate().map(|(idx, line)| {
        serde_json::from_str(line).with_context(|| format!("line {} of the oracle", idx + 1))
    });
    rows.collect()
}

/// Compares the runs of one strategy and delay with the oracle's, where it has them.
pub(super) fn compare(
    oracle: &[OracleRow],
    (strategy, d): (Contender, u32),
    runs: &[Ran],
) -> Option<Agreement> {
    let rows = prefix(runs);
    let longer = (d + 1..=HORIZON)
        .rev()
        .find(|free| f64::from(*free) <= rows);
    let oracle_d = longer.unwrap_or(d);
    let mut oracle = oracle.iter();
    let theirs = &oracle
        .find(|row| (row.strategy, row.d) == (strategy, oracle_d))?
        .episodes;
    let ours: Vec<OracleEpisode> = runs.iter().map(episode).collect();
    let share = |episodes: &[OracleEpisode]| {
        let successes = episodes.iter().filter(|episode| episode.ok).count();
        Share::new(small(successes), small(episodes.len()))
    };
    let success = share(&ours).zip(share(theirs));
    // Of references: an episode is drawn thousands of times.
    let drawn_from: [Vec<&OracleEpisode>; 2] = [ours.iter().collect(), theirs.iter().collect()];
    let boot = |statistic: fn(&[&OracleEpisode]) -> f64| {
        let drawn = bootstrap_independent(&drawn_from[0], &drawn_from[1], DRAWS, statistic);
        drawn.map(|Bootstrap { interval, .. }| Difference::of(interval))
    };
    let meets = |episodes: &[OracleEpisode]| episodes.iter().any(|e| !e.boundaries_mm.is_empty());
    let meet = meets(&ours) && meets(theirs);
    Some(Agreement {
        strategy,
        d,
        oracle_d,
        n: [ours.len(), theirs.len()],
        success: success.map(|(ours, theirs)| Difference::of(newcombe(ours, theirs))),
        boundary_p95_mm: meet.then(|| boot(boundary_p95_mm)).flatten(),
        rms_jerk: boot(rms_jerk),
        stalls: boot(stalls),
    })
}

fn episode(run: &Ran) -> OracleEpisode {
    OracleEpisode {
        ok: run.succeeded,
        rms_jerk: run.rms_jerk,
        stalls: small(run.stalls),
        boundaries_mm: run.boundaries_mm.clone(),
    }
}

fn boundary_p95_mm(episodes: &[&OracleEpisode]) -> f64 {
    let all = episodes.iter().flat_map(|episode| &episode.boundaries_mm);
    let all: Vec<f64> = all.copied().collect();
    quantile(&all, 0.95).unwrap_or(0.0)
}

fn stalls(episodes: &[&OracleEpisode]) -> f64 {
    let each = episodes.iter().map(|episode| f64::from(episode.stalls));
    mean(&each.collect::<Vec<_>>())
}

fn rms_jerk(episodes: &[&OracleEpisode]) -> f64 {
    let each: Vec<f64> = episodes.iter().map(|episode| episode.rms_jerk).collect();
    mean(&each)
}

#[cfg(test)]
mod tests {
    use vlad_sim::latency::Trace;

    use super::*;

    const LINE: &str = r#"{"strategy":"naive","d":3,"n":2,"episodes":[
        {"ok":true,"rms_jerk":400.0,"stalls":0,"boundaries_mm":[20.0,30.0]},
        {"ok":true,"rms_jerk":420.0,"stalls":2,"boundaries_mm":[]}]}"#;

    fn ran(succeeded: bool, rms_jerk: f64) -> Ran {
        Ran {
            succeeded,
            collided: false,
            stopped: None,
            stalls: 0,
            boundaries_mm: vec![25.0],
            rms_jerk,
            ages_ms: Vec::new(),
            reaction_ms: None,
            prefixes: vec![0],
            commands: [0; 32],
            given: Trace::default(),
        }
    }

    #[test]
    fn differences_are_ours_less_the_oracles() {
        let oracle = read(&LINE.replace('\n', "")).unwrap();
        let runs = [ran(true, 300.0), ran(false, 320.0)];
        let found = compare(&oracle, (Contender::Naive, 3), &runs).unwrap();
        assert_eq!(found.n, [2, 2]);
        let success = found.success.unwrap();
        assert!((success.estimate + 0.5).abs() < 1e-12);
        assert!(success.low < -0.5 && 0.0 < success.high);
        let jerk = found.rms_jerk.unwrap();
        assert!((jerk.estimate + 100.0).abs() < 1e-9);
        assert!((-120.0..=-80.0).contains(&jerk.low) && jerk.high <= -80.0);
        assert!(found.boundary_p95_mm.is_some());
        assert_eq!(compare(&oracle, (Contender::Naive, 2), &runs), None);
        assert_eq!(compare(&oracle, (Contender::Blend, 3), &runs), None);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let error = read("{}\n").unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
        assert!(read(&"\n".repeat(LINES_MAX + 1)).is_err());
    }
}
