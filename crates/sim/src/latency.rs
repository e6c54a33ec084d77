//! Injected latency: how long each message of a stream travels, drawn from a seed or read from a trace.
//!
//! `δ = base·e^{σZ} + spike`, and on top loss (dropped, or sent again), duplicates, reordering and
//! outages (reference A.7). What happens to a message is a function of the seed, its number and,
//! for outages, when it was sent: another strategy that sends more or fewer messages meets the same
//! fates by number. Every fate is noted; a trace file that holds them gives the same run bit for
//! bit, also on a machine whose exponential rounds otherwise.
//!
//! A trace file has one JSON object a line, in the order of sending:
//!
//! ```text
//! {"seq":0,"delay_ns":80000000}
//! {"seq":1,"lost":true}
//! {"seq":2,"delay_ns":81200000,"twin_ns":93000000}
//! ```

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use vlad_motion::noise::{decision_seed, standard_normal};
use vlad_wire::clock::MS;

/// Most messages of a trace: an hour of a stream at 240 Hz.
pub const TRACE_MAX: usize = 1_000_000;
/// Longest line of a trace: its three numbers have twenty digits each.
const LINE_MAX: usize = 160;
/// Most times in a row that one message is sent again.
const RETRIES_MAX: u32 = 8;
/// Longest of all travels, milliseconds: an hour. No sum of them leaves 64 bits of nanoseconds.
const TRAVEL_MAX_MS: f64 = 3_600_000.0;

/// What is injected. Probabilities are a message's own; the default injects nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyConfig {
    /// Median delay, milliseconds.
    pub base_ms: f64,
    /// Standard deviation of the delay's logarithm.
    pub sigma: f64,
    /// Probability of a spike.
    pub spike: f64,
    /// What a spike adds, milliseconds.
    pub spike_ms: f64,
    /// Probability of a loss.
    pub loss: f64,
    /// After how long a lost message is sent again, milliseconds; 0 drops it.
    pub retransmit_ms: f64,
    /// Probability of a second copy.
    pub duplicate: f64,
    /// Probability that a message is held back, so that later ones overtake it.
    pub reorder: f64,
    /// How much longer it, or a second copy, takes, milliseconds.
    pub reorder_ms: f64,
    /// From outage to outage, milliseconds; 0 for none.
    pub outage_every_ms: f64,
    /// How long an outage lasts, milliseconds: what is sent in it is lost, or sent again at its end.
    pub outage_ms: f64,
}

impl LatencyConfig {
    /// Lists what is wrong, as field and problem.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        let times = [
            ("base_ms", self.base_ms),
            ("spike_ms", self.spike_ms),
            ("retransmit_ms", self.retransmit_ms),
            ("reorder_ms", self.reorder_ms),
            ("outage_every_ms", self.outage_every_ms),
            ("outage_ms", self.outage_ms),
        ];
        for (field, ms) in times {
            if !(0.0..=60_000.0).contains(&ms) {
                faults.push((field, "must lie in 0 to 60000"));
            }
        }
        let probabilities = [
            ("spike", self.spike),
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
        ];
        for (field, probability) in probabilities {
            if !(0.0..=1.0).contains(&probability) {
                faults.push((field, "must lie in 0 to 1"));
            }
        }
        if !(0.0..=2.0).contains(&self.sigma) {
            faults.push(("sigma", "must lie in 0 to 2"));
        }
        if 0.0 < self.outage_every_ms && self.outage_every_ms <= self.outage_ms {
            faults.push(("outage_ms", "must lie below outage_every_ms"));
        }
        faults
    }

    /// What happens to the message of a number that is sent at a time.
    fn fate(&self, seed: u64, seq: u64, now_ns: u64) -> Fate {
        // All draws are made, used or not, so that one axis does not shift another's.
        let mut rng = ChaCha8Rng::seed_from_u64(decision_seed(seed, seq));
        let normal = standard_normal(rng.next_u64(), 1);
        let normal = f64::from(normal.first().copied().unwrap_or(0.0));
        let [spike, duplicate, reorder] = std::array::from_fn(|_| unit(rng.next_u64()));
        let losses: [f64; RETRIES_MAX as usize] = std::array::from_fn(|_| unit(rng.next_u64()));
        let mut ms = self.base_ms * (self.sigma * normal).exp();
        if spike < self.spike {
            ms += self.spike_ms;
        }
        if reorder < self.reorder {
            ms += self.reorder_ms;
        }
        let n_lost = losses.iter().take_while(|draw| **draw < self.loss).count();
        let outage_ms = self.outage_left_ms(seed, now_ns);
        let misses = 0 < n_lost || 0.0 < outage_ms;
        if misses && self.retransmit_ms <= 0.0 {
            return Fate::Lost;
        }
        ms += outage_ms + n_lost as f64 * self.retransmit_ms;
        let twin = (duplicate < self.duplicate).then(|| nanoseconds(ms + self.reorder_ms));
        Fate::Arrives {
            delay_ns: nanoseconds(ms),
            twin_ns: twin,
        }
    }

    /// How long the outage that a time lies in still lasts, milliseconds; 0 outside of outages. The
    /// first one's place within its period is drawn.
    fn outage_left_ms(&self, seed: u64, now_ns: u64) -> f64 {
        if self.outage_every_ms <= 0.0 {
            return 0.0;
        }
        let every_ns = nanoseconds(self.outage_every_ms).max(1);
        let mut rng = ChaCha8Rng::seed_from_u64(decision_seed(seed, u64::MAX));
        let into_ns = (now_ns % every_ns + rng.next_u64() % every_ns) % every_ns;
        let left_ns = nanoseconds(self.outage_ms).saturating_sub(into_ns);
        left_ns as f64 / MS as f64
    }
}

fn nanoseconds(ms: f64) -> u64 {
    (ms.clamp(0.0, TRAVEL_MAX_MS) * MS as f64).round() as u64
}

/// A number of `[0, 1)` from 53 random bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// What happens to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives {
        /// After this long.
        delay_ns: u64,
        /// A second copy arrives after this long.
        twin_ns: Option<u64>,
    },
    /// It does not.
    Lost,
}

/// A line of a trace.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    twin_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    lost: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A trace that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the trace: {problem}")]
pub struct TraceError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// The fates of messages, in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    fates: Vec<Fate>,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// [`TraceError`] with the first line that is not the next message's.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut fates = Vec::new();
        for (idx, line) in text.lines().enumerate() {
            let fate = read(idx, line).map_err(|problem| TraceError {
                line: idx + 1,
                problem,
            })?;
            fates.push(fate);
        }
        Ok(Self { fates })
    }

    /// Writes the trace, one line a message; [`Trace::parse`] gives the same back.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (seq, fate) in self.fates.iter().enumerate() {
            let seq = seq as u64;
            let line = match *fate {
                Fate::Arrives { delay_ns, twin_ns } => Line {
                    seq,
                    delay_ns: Some(delay_ns),
                    twin_ns,
                    lost: false,
                },
                Fate::Lost => Line {
                    seq,
                    delay_ns: None,
                    twin_ns: None,
                    lost: true,
                },
            };
            // Numbers and a flag always have a text.
            text.push_str(&serde_json::to_string(&line).unwrap_or_default());
            text.push('\n');
        }
        text
    }

    /// The fates, in the order of sending.
    pub fn fates(&self) -> &[Fate] {
        &self.fates
    }
}

fn read(idx: usize, line: &str) -> Result<Fate, String> {
    if TRACE_MAX <= idx {
        return Err(format!("a trace has {TRACE_MAX} lines at most"));
    }
    if LINE_MAX < line.len() {
        return Err(format!("a line has {LINE_MAX} bytes at most"));
    }
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if line.seq != idx as u64 {
        return Err(format!("is of message {}, expected {idx}", line.seq));
    }
    match line {
        Line {
            delay_ns: Some(delay_ns),
            twin_ns,
            lost: false,
            ..
        } => Ok(Fate::Arrives { delay_ns, twin_ns }),
        Line {
            delay_ns: None,
            twin_ns: None,
            lost: true,
            ..
        } => Ok(Fate::Lost),
        _ => Err("has either delay_ns or lost".to_owned()),
    }
}

enum Source {
    Drawn { config: LatencyConfig, seed: u64 },
    Trace(Trace),
}

/// Gives one fate after the other, and notes them.
pub struct Injector {
    source: Source,
    given: Trace,
    n_beyond: u64,
}

impl Injector {
    /// Draws fates from a seed.
    pub fn drawn(config: LatencyConfig, seed: u64) -> Self {
        Self::of(Source::Drawn { config, seed })
    }

    /// Gives the fates of a trace. Beyond its end messages are lost, and counted.
    pub fn replay(trace: Trace) -> Self {
        Self::of(Source::Trace(trace))
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            given: Trace::default(),
            n_beyond: 0,
        }
    }

    /// The fate of the next message, which is sent at `now_ns`.
    pub fn next(&mut self, now_ns: u64) -> Fate {
        let idx = self.given.fates.len();
        if TRACE_MAX <= idx {
            self.n_beyond += 1;
            return Fate::Lost;
        }
        let fate = match &self.source {
            Source::Drawn { config, seed } => config.fate(*seed, idx as u64, now_ns),
            Source::Trace(trace) => trace.fates.get(idx).copied().unwrap_or_else(|| {
                self.n_beyond += 1;
                Fate::Lost
            }),
        };
        self.given.fates.push(fate);
        fate
    }

    /// What was given so far.
    pub fn given(&self) -> &Trace {
        &self.given
    }

    /// Messages that were sent beyond the end of the trace.
    pub fn n_beyond(&self) -> u64 {
        self.n_beyond
    }
}

#[cfg(test)]
mod tests;
