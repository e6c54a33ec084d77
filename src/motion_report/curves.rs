//! What is plotted: commands, speed, jerk and age over an episode, and how late servo ticks began.
//!
//! An episode has some ten thousand servo ticks, a picture some hundred columns: neighbours share a
//! point, which keeps the last position and the largest of everything else, so that no peak is lost.

use std::collections::BTreeMap;

use vlad_motion::metrics::Log;
use vlad_wire::id::{ChunkId, Tick};
use vlad_wire::msg::execute::Executed;

/// Most points of a curve: more than a screen has columns.
pub const POINTS_MAX: usize = 2000;

/// Upper ends of the histogram's columns, microseconds; the last column has none.
pub const LATE_US: [u64; 12] = [
    10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000,
];

/// One point: some servo ticks in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Policy tick of the last of them.
    pub tick: Tick,
    /// When it was, milliseconds since the first servo tick.
    pub at_ms: f64,
    /// Its command, by degree of freedom, rad or m.
    pub position: Vec<f64>,
    /// Largest speed of a command, all degrees of freedom together, per second.
    pub speed: Option<f64>,
    /// Largest jerk of a command, likewise, per s³.
    pub jerk: Option<f64>,
    /// Oldest action, milliseconds; `None` where no chunk was played.
    pub age_ms: Option<f64>,
}

/// The curves of an episode.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// In the order of time.
    pub points: Vec<Point>,
    /// Servo ticks by lateness; the columns end at [`LATE_US`], and one more has all that is later.
    pub late: Vec<u64>,
}

impl Curves {
    /// Draws the curves of one log with at most `points` points, [`POINTS_MAX`] at most.
    pub fn of(log: &Log<'_>, points: usize) -> Self {
        let n = log.executed.len();
        let each = n.div_ceil(points.clamp(1, POINTS_MAX)).max(1);
        let captured: BTreeMap<ChunkId, u64> = log
            .chunks
            .iter()
            .map(|chunk| (chunk.head.id, chunk.head.captured_at_ns))
            .collect();
        let began_ns = log.executed.first().map_or(0, |one| one.sent_at_ns);
        let dt_s = millis(log.shape.servo_dt_ns) / 1e3;
        let mut drawn = Vec::new();
        for (i, group) in log.executed.chunks(each).enumerate() {
            let Some(last) = group.last() else { continue };
            let from = i.saturating_mul(each);
            let until = from.saturating_add(group.len());
            // Differences reach over the ticks before the group.
            let reach = |back: usize| {
                let from = from.saturating_sub(back);
                log.executed.get(from..until).unwrap_or_default()
            };
            let age = |one: &Executed| {
                let captured_ns = captured.get(&one.chunk?)?;
                Some(millis(one.sent_at_ns.saturating_sub(*captured_ns)))
            };
            drawn.push(Point {
                tick: last.tick,
                at_ms: millis(last.sent_at_ns.saturating_sub(began_ns)),
                position: last.command.clone(),
                speed: largest(reach(1).windows(2).filter_map(|pair| speed(pair, dt_s))),
                jerk: largest(reach(3).windows(4).filter_map(|four| jerk(four, dt_s))),
                age_ms: largest(group.iter().filter_map(age)),
            });
        }
        Self {
            points: drawn,
            late: late(log.executed),
        }
    }
}

fn late(executed: &[Executed]) -> Vec<u64> {
    let mut columns = vec![0; LATE_US.len() + 1];
    for one in executed {
        let late_us = one.woke_at_ns.saturating_sub(one.scheduled_at_ns) / 1000;
        let column = LATE_US.partition_point(|end| *end <= late_us);
        if let Some(count) = columns.get_mut(column) {
            *count += 1;
        }
    }
    columns
}

fn largest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

/// Whether servo ticks follow each other without a hole.
fn consecutive(ticks: &[Executed]) -> bool {
    let next = |(a, b): (&Executed, &Executed)| a.servo_tick.checked_add(1) == Some(b.servo_tick);
    ticks.iter().zip(ticks.iter().skip(1)).all(next)
}

fn speed(pair: &[Executed], dt_s: f64) -> Option<f64> {
    let [a, b] = pair else { return None };
    let steps = a.command.iter().zip(&b.command).map(|(a, b)| b - a);
    consecutive(pair).then(|| norm(steps) / dt_s)
}

fn jerk(four: &[Executed], dt_s: f64) -> Option<f64> {
    let [a, b, c, d] = four else { return None };
    let (early, late) = (
        a.command.iter().zip(&b.command),
        c.command.iter().zip(&d.command),
    );
    let third = early
        .zip(late)
        .map(|((a, b), (c, d))| d - 3.0 * c + 3.0 * b - a);
    consecutive(four).then(|| norm(third) / dt_s.powi(3))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// Nanoseconds as milliseconds.
fn millis(span_ns: u64) -> f64 {
    1e3 * std::time::Duration::from_nanos(span_ns).as_secs_f64()
}
