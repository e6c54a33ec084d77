//! How late a thread at servo rate wakes, and what the platform is good for.
//!
//! Lateness is that of an absolute schedule on the monotonic clock: a late tick does not shift the
//! next one, so nothing is hidden. Percentiles are exact: all samples are sorted.

use std::fmt;
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::io::Errno;
use rustix::thread::{ClockId, Timespec, clock_nanosleep_absolute};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vlad_wire::clock::{Clock, SECOND, SystemClock};

use super::finding::{Finding, Level};
use super::machine::output_within;

/// Servo rate where no cell says another.
pub const RATE_HZ: u32 = 240;
/// Ticks from which on the last thousandth is more than a guess.
const ENOUGH: u64 = 1_000_000;
/// Priority of the trial under `SCHED_FIFO`: above everything ordinary, below the kernel's threads.
const FIFO: &str = "80";

/// How late ticks were, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lateness {
    /// Ticks per second.
    pub rate_hz: u32,
    /// Ticks that were measured.
    pub n: u64,
    /// Half of them were at most so late.
    pub p50_ns: u64,
    /// 99 of a hundred.
    pub p99_ns: u64,
    /// 999 of a thousand.
    pub p99_9_ns: u64,
    /// The latest.
    pub max_ns: u64,
    /// Ticks that were later than a period.
    pub slips: u64,
}

/// What a platform is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Tier {
    /// Simulated robots only.
    #[serde(rename = "none")]
    None,
    /// Real robots at a reduced pace: p99.9 ≤ 2 ms, maximum ≤ 10 ms.
    T2,
    /// Real robots: p99.9 ≤ 200 µs, maximum ≤ 1 ms, on a `PREEMPT_RT` kernel.
    T1,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::T2 => "T2",
            Self::T1 => "T1",
        })
    }
}

/// Says which tier a measurement is of.
pub fn tier(lateness: &Lateness, real_time_kernel: bool) -> Tier {
    let within = |p99_9_us: u64, max_us: u64| {
        lateness.p99_9_ns <= p99_9_us * 1000 && lateness.max_ns <= max_us * 1000
    };
    if real_time_kernel && within(200, 1000) {
        Tier::T1
    } else if within(2000, 10_000) {
        Tier::T2
    } else {
        Tier::None
    }
}

/// Measures on a thread of its own, under the scheduler that it inherits.
///
/// # Errors
/// What the system says if it gives no thread.
pub fn measure(rate_hz: u32, seconds: u32) -> anyhow::Result<Lateness> {
    ensure!(0 < rate_hz, "a rate of nothing has no ticks");
    let n = u64::from(rate_hz) * u64::from(seconds);
    let thread = std::thread::Builder::new()
        .name("doctor-ticks".to_owned())
        .spawn(move || samples(rate_hz, n))
        .context("cannot start a thread")?;
    let Ok(samples) = thread.join() else {
        anyhow::bail!("the thread that measures has panicked");
    };
    Ok(summary(rate_hz, samples))
}

/// Measures in a process of its own under `SCHED_FIFO`.
///
/// # Errors
/// A machine or an account that does not allow it, in the tool's words.
pub fn measure_fifo(rate_hz: u32, seconds: u32) -> anyhow::Result<Lateness> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let (seconds_text, rate) = (seconds.to_string(), rate_hz.to_string());
    let mut command = Command::new("chrt");
    command.args(["--fifo", FIFO]).arg(own);
    command.args(["doctor", "--seconds", &seconds_text, "--ticks-only", &rate]);
    let output = output_within(&mut command, u64::from(seconds) + 10)?;
    serde_json::from_str(&output).context("the measuring process gives no figures")
}

fn samples(rate_hz: u32, n: u64) -> Vec<u64> {
    let clock = SystemClock;
    let mut samples = Vec::with_capacity(usize::try_from(n).unwrap_or(0));
    let start_ns = clock.now_ns();
    for tick in 1..=n {
        let due_ns = start_ns + tick * SECOND / u64::from(rate_hz);
        sleep_until(due_ns);
        samples.push(clock.now_ns().saturating_sub(due_ns));
    }
    samples
}

fn sleep_until(at_ns: u64) {
    let at = Timespec {
        tv_sec: i64::try_from(at_ns / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at_ns % SECOND).unwrap_or(0),
    };
    while clock_nanosleep_absolute(ClockId::Monotonic, &at) == Err(Errno::INTR) {}
}

fn summary(rate_hz: u32, mut samples: Vec<u64>) -> Lateness {
    samples.sort_unstable();
    let n = u64::try_from(samples.len()).unwrap_or(u64::MAX);
    let period_ns = SECOND / u64::from(rate_hz.max(1));
    let slips = samples.iter().filter(|late_ns| period_ns < **late_ns);
    Lateness {
        rate_hz,
        n,
        p50_ns: percentile(&samples, 500),
        p99_ns: percentile(&samples, 990),
        p99_9_ns: percentile(&samples, 999),
        max_ns: samples.last().copied().unwrap_or(0),
        slips: u64::try_from(slips.count()).unwrap_or(u64::MAX),
    }
}

/// The smallest sample that `permille` thousandths of all do not exceed; 0 of no samples.
pub fn percentile(sorted: &[u64], permille: usize) -> u64 {
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Says what was measured.
pub fn findings(
    plain: &anyhow::Result<Lateness>,
    fifo: &anyhow::Result<Lateness>,
    tier: Tier,
) -> Vec<Finding> {
    vec![
        of_plain(plain),
        of_fifo(fifo),
        of_tier(tier, plain.as_ref().ok().or(fifo.as_ref().ok())),
    ]
}

fn of_plain(plain: &anyhow::Result<Lateness>) -> Finding {
    let area = "ticks";
    match plain {
        Ok(lateness) => Finding::new(area, Level::Ok, format!("ordinary scheduler: {lateness}"))
            .means("how late the guard's thread wakes if nothing is set up for it")
            .todo("nothing for simulated cells, which have no tier")
            .figures(lateness),
        Err(error) => Finding::new(area, Level::Mend, format!("not measured: {error:#}"))
            .means("no thread can be started or timed here: no guard would run")
            .todo("look at the limits of processes and threads (ulimit -u)"),
    }
}

fn of_fifo(fifo: &anyhow::Result<Lateness>) -> Finding {
    let area = "ticks-fifo";
    match fifo {
        Ok(lateness) => Finding::new(area, Level::Ok, format!("SCHED_FIFO {FIFO}: {lateness}"))
            .means("how late the guard's thread wakes with real-time priority")
            .figures(lateness),
        Err(error) => Finding::new(area, Level::Note, format!("not measured: {error:#}"))
            .means("this account may not use real-time priority, so a guard would wake as above")
            .todo("for a real robot: LimitRTPRIO=90 in its unit, or rtprio in limits.conf"),
    }
}

fn of_tier(tier: Tier, measured: Option<&Lateness>) -> Finding {
    let n = measured.map_or(0, |lateness| lateness.n);
    let sure = if n < ENOUGH {
        format!(" after {n} ticks; the last thousandth needs {ENOUGH}: measure longer (--seconds)")
    } else {
        String::new()
    };
    let what = format!("{tier}{sure}");
    let (level, means, todo) = match tier {
        Tier::T1 => (Level::Ok, "good for real robots at full speed", "nothing"),
        Tier::T2 => (
            Level::Note,
            "good for simulated robots, and for real ones that may be late by milliseconds",
            "for T1: a PREEMPT_RT kernel, an isolated core, locked memory, the governor performance",
        ),
        Tier::None => (
            Level::Note,
            "good for simulated robots alone: a real one would be moved at a tenth of its speed \
             at most",
            "use a machine of its own for a guard: no virtual machine, a PREEMPT_RT kernel",
        ),
    };
    Finding::new("tier", level, what)
        .means(means)
        .todo(todo)
        .figures(json!({ "tier": tier, "ticks": n }))
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| ns.div_ceil(1000);
        write!(
            f,
            "{} ticks at {} Hz: p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs, {} slips",
            self.n,
            self.rate_hz,
            us(self.p50_ns),
            us(self.p99_ns),
            us(self.p99_9_ns),
            us(self.max_ns),
            self.slips
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lateness(p99_9_us: u64, max_us: u64) -> Lateness {
        Lateness {
            p99_9_ns: p99_9_us * 1000,
            max_ns: max_us * 1000,
            ..summary(240, vec![1, 2, 3])
        }
    }

    #[test]
    fn a_tier_ends_where_the_table_says() {
        assert_eq!(tier(&lateness(200, 1000), true), Tier::T1);
        assert_eq!(tier(&lateness(200, 1000), false), Tier::T2);
        assert_eq!(tier(&lateness(201, 1000), true), Tier::T2);
        assert_eq!(tier(&lateness(200, 1001), true), Tier::T2);
        assert_eq!(tier(&lateness(2000, 10_000), false), Tier::T2);
        assert_eq!(tier(&lateness(2001, 10_000), true), Tier::None);
        assert_eq!(tier(&lateness(2000, 10_001), true), Tier::None);
        assert!(Tier::None < Tier::T2 && Tier::T2 < Tier::T1);
    }

    #[test]
    fn percentiles_are_samples_at_their_rank() {
        let samples: Vec<u64> = (1..=1000).collect();
        let of = |permille| percentile(&samples, permille);
        assert_eq!([of(500), of(990), of(999), of(1000)], [500, 990, 999, 1000]);
        assert_eq!(percentile(&[7], 500), 7);
        assert_eq!(percentile(&[], 500), 0);
        let slow = summary(240, vec![4_166_666, 4_166_667, 1]);
        assert_eq!((slow.n, slow.slips, slow.max_ns), (3, 1, 4_166_667));
    }

    #[test]
    fn a_measurement_has_as_many_ticks_as_were_asked_for() {
        let measured = measure(200, 1).unwrap();
        assert_eq!((measured.n, measured.rate_hz), (200, 200));
        assert!(measure(0, 1).is_err());
        let text = serde_json::to_string(&measured).unwrap();
        assert_eq!(serde_json::from_str::<Lateness>(&text).unwrap(), measured);
    }

    proptest! {
        #[test]
        fn percentiles_are_in_order(samples in prop::collection::vec(any::<u64>(), 1..400)) {
            let found = summary(240, samples);
            prop_assert!(found.p50_ns <= found.p99_ns && found.p99_ns <= found.p99_9_ns);
            prop_assert!(found.p99_9_ns <= found.max_ns);
        }
    }
}
