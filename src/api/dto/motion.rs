//! How an episode moved, as clients see it: metrics M1 to M6, M8, M9, M11 and M12 of reference A.6.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::Schema;
use utoipa::{IntoParams, ToSchema};
use vlad_motion::metrics::economy::Economy;
use vlad_motion::metrics::seams::{Seam, Seams};
use vlad_motion::metrics::smoothness::Smoothness;
use vlad_motion::metrics::spread::Spread;
use vlad_motion::metrics::stops::Stop;
use vlad_motion::metrics::timing::{Deadlines, Interventions, Lateness, Stalls};
use vlad_motion::metrics::tracking::Tracking;
use vlad_store::episode::EpisodeSummary;

use super::finite;
use super::task::words;
use crate::motion_report::curves::{Curves, LATE_US, Point};
use crate::motion_report::{CellShape, Dof, EpisodeMotion, INTERVENTIONS, Settings};

/// What to give beside the figures.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MotionFilter {
    /// Points of the curves, 1 to 2000; no curves if left out.
    #[param(minimum = 1, maximum = 2000)]
    pub points: Option<u32>,
}

/// How an episode moved. What the log has nothing to compute from is `null`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Motion {
    /// The episode.
    pub episode: String,
    /// Its cell.
    pub cell: String,
    /// What was asked.
    pub instruction: String,
    /// The task's state at its end.
    pub outcome: Option<String>,
    /// Name of the policy that decided.
    pub policy: Option<String>,
    /// Whether the cell's settings of now, by which lengths, slots and limits are read, are those
    /// that the episode was made under.
    #[schema(schema_with = settings)]
    pub settings: String,
    /// From the first to the last servo tick, seconds.
    pub duration_s: f64,
    /// Policy ticks that a chunk was played in.
    pub ticks_played: u64,
    /// The same as the guard has counted it.
    pub ticks_counted: Option<u64>,
    /// Oldest action that the guard sends, milliseconds.
    pub action_age_limit_ms: f64,
    /// Records that cannot be read.
    pub damaged: u64,
    /// Whether the episode is longer than what was looked at.
    pub cut: bool,
    /// M1: ticks without a valid action of the policy, while running or in a planned gap.
    pub stalls: MotionStalls,
    /// M2: from the earliest image behind an action to its command, milliseconds.
    pub age_ms: Option<MotionSpread>,
    /// M3: where one chunk follows another.
    pub seams: MotionSeams,
    /// M4: smoothness of the commands at servo rate.
    pub smoothness: Option<MotionSmoothness>,
    /// M5: how the robot follows, by degree of freedom.
    pub tracking: Vec<MotionTracking>,
    /// M6: how late servo ticks began.
    pub lateness: Option<MotionLateness>,
    /// M8: deadlines that were missed.
    pub deadlines: MotionDeadlines,
    /// M9: servo ticks whose command the guard changed.
    pub interventions: MotionInterventions,
    /// M11: what decisions cost.
    pub economy: MotionEconomy,
    /// M12: stops, and what their mathematics predicts.
    pub stops: Vec<MotionStop>,
    /// The curves, if they were asked for.
    pub curves: Option<MotionCurves>,
}

/// How values are spread: exact percentiles by nearest rank.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionSpread {
    /// How many values.
    pub n: usize,
    /// Median.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile; of fewer than a thousand values, the largest.
    pub p999: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
}

/// M1.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionStalls {
    /// Policy ticks that were looked at.
    pub ticks: usize,
    /// Stalled ones.
    pub stalled: usize,
    /// Runs of stalled ticks.
    pub events: usize,
    /// Longest run, ticks.
    pub longest: usize,
    /// Stalled ones among all.
    pub ratio: f64,
}

/// M3.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionSeams {
    /// Each one.
    pub items: Vec<MotionSeam>,
    /// 95th percentile of the disagreement over that of the steps within chunks.
    pub disagreement_ratio: Option<f64>,
    /// Steps of position, velocity, acceleration and jerk at seams.
    pub at_seams: Vec<Option<MotionSpread>>,
    /// The same within chunks.
    pub within: Vec<Option<MotionSpread>>,
    /// 95th percentile at seams over that within chunks, of the same four.
    pub rho: Vec<Option<f64>>,
}

/// One switch from chunk to chunk.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionSeam {
    /// First tick of the new chunk that was played.
    pub tick: i64,
    /// The chunk before.
    pub from: String,
    /// The new one.
    pub to: String,
    /// Its strategy.
    pub strategy: String,
    /// First row of it that was played.
    pub index: u16,
    /// Rows of prefix that the policy was given.
    pub prefix_conditioned: u16,
    /// Rows of them that were over when the chunk arrived.
    pub prefix_used: u16,
    /// Ticks that were over when the chunk arrived.
    pub delay_ticks: u64,
    /// Distance between the new and the old chunk's targets for this tick, rad or m.
    pub disagreement: Option<f64>,
    /// The same as a mean over all ticks that both have from this one on.
    pub overlap_mean: Option<f64>,
    /// Step of the position, rad or m.
    pub position: Option<f64>,
    /// Step of the velocity, per second.
    pub velocity: Option<f64>,
    /// Step of the acceleration, per s².
    pub acceleration: Option<f64>,
    /// Step of the jerk, per s³.
    pub jerk: Option<f64>,
    /// Age of the first action, milliseconds.
    pub age_ms: f64,
}

/// M4, all degrees of freedom together.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionSmoothness {
    /// Root of the mean square of the jerk, per s³.
    pub rms_jerk: Option<f64>,
    /// Largest jerk, per s³.
    pub max_jerk: Option<f64>,
    /// Log dimensionless jerk; nearer to 0 is smoother.
    pub ldlj: Option<f64>,
    /// Spectral arc length of the speed; nearer to 0 is smoother.
    pub sparc: Option<f64>,
}

/// M5 of one degree of freedom.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionTracking {
    /// The degree of freedom.
    #[schema(example = "left_joint_1")]
    pub name: String,
    /// `rad` or `m`.
    pub unit: String,
    /// Lag at which commands and measurements correlate best, milliseconds.
    pub lag_ms: f64,
    /// Root of the mean square of the error there.
    pub rms: Option<f64>,
    /// Absolute value of the error there.
    pub error: Option<MotionSpread>,
}

/// M6.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionLateness {
    /// Lateness on the absolute schedule, microseconds.
    pub late_us: MotionSpread,
    /// Servo ticks that began late by more than a period.
    pub slips: usize,
}

/// M8.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionDeadlines {
    /// Chunks that were asked for.
    pub chunks: usize,
    /// Came when the chunk before may have ended.
    pub hard: usize,
    /// Had a prefix that was over when they came.
    pub soft: usize,
    /// Servo ticks that began late by more than a period, per million.
    pub servo_per_million: f64,
}

/// M9.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionInterventions {
    /// Per thousand servo ticks that a policy moved in.
    pub per_thousand: f64,
    /// How many servo ticks, by what the guard found.
    pub by_flag: BTreeMap<String, usize>,
}

/// M11.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionEconomy {
    /// From a request to its chunk's arrival, milliseconds.
    pub delay_ms: Option<MotionSpread>,
    /// Part of the time in which a decision was under way.
    pub duty: f64,
    /// Chunks that the guard took, or dropped as late.
    pub chunks: usize,
    /// Of them, dropped because their prefix was over and they would have jumped.
    pub discarded: usize,
    /// Of them, taken although their prefix was over.
    pub overruns: usize,
    /// Chunks that the guard refused for another reason.
    pub refused: usize,
    /// Chunks of which the log does not say what became of them.
    pub unanswered: usize,
    /// Rows that were made for each one that was played.
    pub generated_per_played: f64,
}

/// M12 of one stop.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionStop {
    /// When its cause was found, milliseconds after the episode's beginning.
    pub detected_ms: f64,
    /// The mode that it led to.
    pub mode: String,
    /// Why.
    pub reason: String,
    /// Servo ticks from there to the first one that accelerates less.
    pub decelerates_after: Option<usize>,
    /// From there to standstill, milliseconds.
    pub standstill_ms: Option<f64>,
    /// What the stop's mathematics predicts, milliseconds.
    pub predicted_ms: Option<f64>,
    /// Largest way to standstill over its prediction.
    pub distance_ratio: Option<f64>,
}

/// Curves over an episode. Neighbouring servo ticks share a point, which has the last position and
/// the largest of everything else.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionCurves {
    /// Names of the degrees of freedom, in the order of `position`.
    pub dofs: Vec<String>,
    /// In the order of time.
    pub points: Vec<MotionPoint>,
    /// Upper ends of the columns of `late`, microseconds; the last column has none.
    pub late_us: Vec<u64>,
    /// Servo ticks by how late they began.
    pub late: Vec<u64>,
}

/// One point of the curves.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MotionPoint {
    /// Policy tick.
    pub tick: i64,
    /// Since the first servo tick, milliseconds.
    pub at_ms: f64,
    /// Commanded position by degree of freedom, rad or m.
    pub position: Vec<Option<f64>>,
    /// Largest commanded speed, all degrees of freedom together, per second.
    pub speed: Option<f64>,
    /// Largest commanded jerk, likewise, per s³.
    pub jerk: Option<f64>,
    /// Oldest action, milliseconds.
    pub age_ms: Option<f64>,
}

impl Motion {
    /// Puts the document together.
    pub fn new(summary: &EpisodeSummary, shape: &CellShape, motion: &EpisodeMotion) -> Self {
        let (meta, report) = (&summary.meta, &motion.report);
        let since_begin_ms = |at_ns: u64| millis(at_ns.saturating_sub(meta.began_at_ns));
        let ending = summary.ending.as_ref();
        let tracking = report.tracking.iter().enumerate();
        Self {
            episode: meta.id.to_string(),
            cell: meta.cell.to_string(),
            instruction: meta.instruction.to_string(),
            outcome: ending.map(|ending| ending.outcome.to_string()),
            policy: meta.policy.as_ref().map(|policy| policy.name.to_string()),
            settings: Settings::of(meta.config_hash.as_ref(), &shape.config_hash)
                .name()
                .to_owned(),
            duration_s: report.duration_s,
            ticks_played: u64::try_from(motion.ticks_played).unwrap_or(u64::MAX),
            ticks_counted: motion.ticks_counted,
            action_age_limit_ms: millis(shape.age_limit_ns),
            damaged: motion.damaged,
            cut: motion.cut,
            stalls: report.stalls.into(),
            age_ms: report.age.map(|age| age.age_ms.into()),
            seams: (&report.seams).into(),
            smoothness: report.smoothness.map(Into::into),
            tracking: tracking
                .map(|(i, tracking)| MotionTracking::new(shape.dofs.get(i), *tracking))
                .collect(),
            lateness: report.lateness.map(Into::into),
            deadlines: report.deadlines.into(),
            interventions: (&report.interventions).into(),
            economy: MotionEconomy::new(report.economy, motion),
            stops: report
                .stops
                .iter()
                .map(|stop| MotionStop::new(stop, since_begin_ms(stop.detected_at_ns)))
                .collect(),
            curves: motion
                .curves
                .as_ref()
                .map(|curves| MotionCurves::new(curves, &shape.dofs)),
        }
    }
}

impl From<Spread> for MotionSpread {
    fn from(spread: Spread) -> Self {
        Self {
            n: spread.n,
            p50: finite(spread.p50),
            p95: finite(spread.p95),
            p99: finite(spread.p99),
            p999: finite(spread.p999),
            max: finite(spread.max),
        }
    }
}

impl From<Stalls> for MotionStalls {
    fn from(stalls: Stalls) -> Self {
        Self {
            ticks: stalls.ticks,
            stalled: stalls.stalled,
            events: stalls.events,
            longest: stalls.longest,
            ratio: stalls.ratio,
        }
    }
}

impl From<&Seams> for MotionSeams {
    fn from(seams: &Seams) -> Self {
        let spreads = |of: [Option<Spread>; 4]| of.map(|spread| spread.map(Into::into)).to_vec();
        Self {
            items: seams.seams.iter().map(Into::into).collect(),
            disagreement_ratio: seams.disagreement_ratio.and_then(finite),
            at_seams: spreads(seams.at_seams),
            within: spreads(seams.within),
            rho: seams.rho.map(|rho| rho.and_then(finite)).to_vec(),
        }
    }
}

impl From<&Seam> for MotionSeam {
    fn from(seam: &Seam) -> Self {
        let [position, velocity, acceleration, jerk] = seam.steps.map(|s| s.and_then(finite));
        Self {
            tick: seam.tick,
            from: seam.from.to_string(),
            to: seam.to.to_string(),
            strategy: seam.strategy.name().to_owned(),
            index: seam.index,
            prefix_conditioned: seam.prefix_conditioned,
            prefix_used: seam.prefix_used,
            delay_ticks: seam.delay_ticks,
            disagreement: seam.disagreement.and_then(finite),
            overlap_mean: seam.overlap_mean.and_then(finite),
            position,
            velocity,
            acceleration,
            jerk,
            age_ms: seam.age_ms,
        }
    }
}

impl From<Smoothness> for MotionSmoothness {
    fn from(smoothness: Smoothness) -> Self {
        Self {
            rms_jerk: finite(smoothness.rms_jerk),
            max_jerk: finite(smoothness.max_jerk),
            ldlj: smoothness.ldlj.and_then(finite),
            sparc: smoothness.sparc.and_then(finite),
        }
    }
}

impl MotionTracking {
    fn new(dof: Option<&Dof>, tracking: Tracking) -> Self {
        let text = |of: fn(&Dof) -> &str| dof.map_or("-", of).to_owned();
        Self {
            name: text(|dof| dof.name.as_str()),
            unit: text(|dof| dof.unit),
            lag_ms: tracking.lag_ms,
            rms: finite(tracking.rms),
            error: tracking.error.map(Into::into),
        }
    }
}

impl From<Lateness> for MotionLateness {
    fn from(lateness: Lateness) -> Self {
        Self {
            late_us: lateness.late_us.into(),
            slips: lateness.slips,
        }
    }
}

impl From<Deadlines> for MotionDeadlines {
    fn from(deadlines: Deadlines) -> Self {
        Self {
            chunks: deadlines.chunks,
            hard: deadlines.hard,
            soft: deadlines.soft,
            servo_per_million: deadlines.servo_per_million,
        }
    }
}

impl From<&Interventions> for MotionInterventions {
    fn from(interventions: &Interventions) -> Self {
        let count = |flag: u32| {
            let bit = flag.trailing_zeros();
            interventions.by_bit.get(&bit).copied().unwrap_or(0)
        };
        let named = INTERVENTIONS.iter();
        Self {
            per_thousand: interventions.per_thousand,
            by_flag: named
                .map(|(flag, name)| ((*name).to_owned(), count(*flag)))
                .collect(),
        }
    }
}

impl MotionEconomy {
    fn new(economy: Economy, motion: &EpisodeMotion) -> Self {
        Self {
            delay_ms: economy.delay_ms.map(Into::into),
            duty: economy.duty,
            chunks: economy.chunks,
            discarded: economy.discarded,
            overruns: economy.overruns,
            refused: motion.refused,
            unanswered: motion.unanswered,
            generated_per_played: economy.generated_per_played,
        }
    }
}

impl MotionStop {
    fn new(stop: &Stop, detected_ms: f64) -> Self {
        Self {
            detected_ms,
            mode: stop.mode.clone(),
            reason: stop.reason.clone(),
            decelerates_after: stop.decelerates_after,
            standstill_ms: stop.standstill_ms,
            predicted_ms: stop.predicted_ms.and_then(finite),
            distance_ratio: stop.distance_ratio.and_then(finite),
        }
    }
}

impl MotionCurves {
    fn new(curves: &Curves, dofs: &[Dof]) -> Self {
        Self {
            dofs: dofs.iter().map(|dof| dof.name.clone()).collect(),
            points: curves.points.iter().map(Into::into).collect(),
            late_us: LATE_US.to_vec(),
            late: curves.late.clone(),
        }
    }
}

impl From<&Point> for MotionPoint {
    fn from(point: &Point) -> Self {
        Self {
            tick: point.tick,
            at_ms: point.at_ms,
            position: point.position.iter().map(|x| finite(*x)).collect(),
            speed: point.speed.and_then(finite),
            jerk: point.jerk.and_then(finite),
            age_ms: point.age_ms.and_then(finite),
        }
    }
}

/// Nanoseconds as milliseconds.
fn millis(span_ns: u64) -> f64 {
    1e3 * std::time::Duration::from_nanos(span_ns).as_secs_f64()
}

fn settings() -> Schema {
    words(Settings::ALL.map(Settings::name))
}
