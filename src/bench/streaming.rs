//! What streaming by layer saves: the time from a request to its chunk, with context parts that are
//! published as they are ready against parts that are published at the end.
//!
//! Brain and action expert are the daemon's own roles, `vlad run`, in two processes that are each
//! pinned to a core, so that each model has one thread. There are two such pairs, one for each way;
//! only one of them has something to do at a time, in turns. This process plays the rest of the
//! cell: a robot that stands still, and the same observation for both ways. Their chunks must be
//! the same to the last bit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde::Serialize;
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{Clock, SECOND, SystemClock};
use vlad_wire::id::{CellId, ChunkId};
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::sense::{FrameHead, JointState, Observation, ObservationHead};
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::Chunk;
use vlad_wire::stream::{AcceptedTargets, Chunks, Joints, Observations, Tasks};
use vlad_wire::text::Instruction;

use super::machine::{Machine, on_core};
use super::payload::fill;
use super::samples::{Samples, ratio};
use super::soak::free_endpoint;
use crate::config::{CellConfig, Config, Sources};

/// Longest wait for a chunk: weights are read, and a decision is made on one core.
const PATIENCE_NS: u64 = 300 * SECOND;
/// Between two messages of the robot that stands still.
const PERIOD: Duration = Duration::from_millis(30);
/// Messages of that robot from one repetition of the observation to the next: 3 s.
const OBSERVED_EVERY: usize = 100;
/// Decisions of each way before the first that counts.
const WARM_UP: u64 = 2;
/// Epoch of the lease that the played task has.
const EPOCH: u64 = 1;

/// What is run, and how often.
#[derive(Debug, Clone)]
pub struct StreamingOptions {
    /// The daemon's binary.
    pub binary: PathBuf,
    /// The checkpoint, with its `vlad.toml`.
    pub checkpoint: PathBuf,
    /// Pairs of decisions.
    pub pairs: u64,
    /// Mebibytes of shared memory between brain and action expert.
    pub shared_memory_mib: u16,
}

/// What was measured; all times in nanoseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// From request to chunk, parts as they are ready; a sample a pair.
    pub streamed: Samples,
    /// The same, all parts at the end.
    pub whole: Samples,
    /// From the whole context to the chunk's rows, of the second way.
    pub acting: Samples,
    /// Euler steps of a decision.
    pub steps: u32,
    /// Median of the second way less the first, pair by pair; negative where streaming is slower.
    pub median_saving_ns: i64,
    /// One Euler step: the most that streaming can save.
    pub step_ns: u64,
    /// The saving's share of a step.
    pub share_of_step: f64,
    /// Whether each pair's chunks were equal to the last bit.
    pub equal: bool,
}

/// Brain and action expert of one way, and what this process says to them.
struct Pair {
    _brain: Running,
    _expert: Running,
    bus: Bus,
    tasks: Publisher<Tasks>,
    joints: Publisher<Joints>,
    accepted: Publisher<AcceptedTargets>,
    observations: Publisher<Observations>,
    chunks: Subscriber<Chunks>,
    waker: Waker,
    last: Option<ChunkId>,
}

/// A process of ours; dropping it ends it.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Measures; `progress` is told how many pairs are done.
///
/// # Errors
/// Processes that do not start or hang, or a pair whose chunks differ.
pub fn run(options: &StreamingOptions, progress: &mut dyn FnMut(u64)) -> anyhow::Result<Report> {
    let machine = Machine::read();
    let config = Config::load(&Sources::default())?;
    let cell = config.cells.first().context("no cell is shipped")?;
    let runtime = super::runtime()?;
    let mut streamed = runtime.block_on(Pair::start(options, &cell.cell.name, true))?;
    let mut whole = runtime.block_on(Pair::start(options, &cell.cell.name, false))?;
    let mut report = Report {
        machine,
        streamed: Samples::default(),
        whole: Samples::default(),
        acting: Samples::default(),
        steps: u32::from(config.expert.steps),
        median_saving_ns: 0,
        step_ns: 0,
        share_of_step: 0.0,
        equal: true,
    };
    for number in 1..=WARM_UP + options.pairs {
        let observation = observation(cell, number)?;
        // Whoever comes second finds the machine as the first left it: in turns.
        let (first, second) = if number % 2 == 0 {
            (&mut streamed, &mut whole)
        } else {
            (&mut whole, &mut streamed)
        };
        let one = runtime.block_on(first.decide(&observation))?;
        let other = runtime.block_on(second.decide(&observation))?;
        ensure!(
            bits(&one.0) == bits(&other.0),
            "the chunks of pair {number} differ"
        );
        let (of_streamed, of_whole) = if number % 2 == 0 {
            (one, other)
        } else {
            (other, one)
        };
        if WARM_UP < number {
            report.take(&of_streamed, &of_whole);
        }
        progress(number.saturating_sub(WARM_UP));
    }
    report.conclude();
    for pair in [streamed, whole] {
        runtime.block_on(pair.bus.close());
    }
    Ok(report)
}

fn bits(chunk: &Chunk) -> Vec<u32> {
    chunk.rows.iter().map(|value| value.to_bits()).collect()
}

impl Report {
    fn take(&mut self, streamed: &(Chunk, u64), whole: &(Chunk, u64)) {
        let taken =
            |(chunk, at_ns): &(Chunk, u64)| at_ns.saturating_sub(chunk.head.requested_at_ns);
        self.streamed.push(taken(streamed));
        self.whole.push(taken(whole));
        let head = &whole.0.head;
        let acting = head.acted_until_ns.saturating_sub(head.acted_from_ns);
        self.acting.push(acting);
    }

    fn conclude(&mut self) {
        let pairs = self.whole.ns.iter().zip(&self.streamed.ns);
        let mut savings: Vec<i64> = pairs
            .map(|(whole, streamed)| whole.cast_signed() - streamed.cast_signed())
            .collect();
        savings.sort_unstable();
        self.median_saving_ns = savings.get(savings.len() / 2).copied().unwrap_or(0);
        self.step_ns = self.acting.median().unwrap_or(0) / u64::from(self.steps.max(1));
        let size = ratio(
            Some(self.median_saving_ns.unsigned_abs()),
            Some(self.step_ns),
        );
        self.share_of_step = if self.median_saving_ns < 0 {
            -size
        } else {
            size
        };
    }
}

impl Pair {
    async fn start(
        options: &StreamingOptions,
        cell: &CellId,
        stream_layers: bool,
    ) -> anyhow::Result<Self> {
        let (rest, brain) = (free_endpoint()?, free_endpoint()?);
        let bus = Bus::zenoh(ZenohConfig {
            listen: vec![rest.clone()],
            ..ZenohConfig::default()
        })
        .await?;
        let streams = format!("brain.stream_layers={stream_layers}");
        let expert = [
            "--role",
            "action-expert",
            "--connect",
            &rest,
            "--connect",
            &brain,
        ];
        let brain = ["--role", "brain", "--listen", &brain, "--connect", &rest];
        let waker = Waker::new();
        Ok(Self {
            _brain: launch(options, (&brain, &streams), 0)?,
            _expert: launch(options, (&expert, &streams), 1)?,
            tasks: bus.publisher(cell, "")?,
            joints: bus.publisher(cell, "")?,
            accepted: bus.publisher(cell, "")?,
            observations: bus.publisher(cell, "")?,
            chunks: bus.subscriber(cell, "", Some(waker.clone()))?,
            waker,
            last: None,
            bus,
        })
    }

    /// Lets both take one decision; gives the chunk and when it came.
    async fn decide(&mut self, observation: &Observation) -> anyhow::Result<(Chunk, u64)> {
        // The last chunk is accepted while the robot runs, so that nothing is asked yet; the brain
        // has the observation before it is asked for.
        for _ in 0..3 {
            self.observations.put(observation);
            self.say(Mode::Running, observation)?;
            drop(tokio::time::timeout(PERIOD, self.waker.woken()).await);
        }
        while self.chunks.try_next().is_some() {}
        let give_up_ns = SystemClock.now_ns() + PATIENCE_NS;
        let mut n_said: usize = 0;
        while SystemClock.now_ns() < give_up_ns {
            // Again now and then, for a brain that was not there yet.
            n_said += 1;
            if n_said.is_multiple_of(OBSERVED_EVERY) {
                self.observations.put(observation);
            }
            self.say(Mode::Armed, observation)?;
            // Late is as good as woken: the loop looks again.
            drop(tokio::time::timeout(PERIOD, self.waker.woken()).await);
            if let Some(chunk) = self.chunks.try_next() {
                let at_ns = SystemClock.now_ns();
                self.last = Some(chunk.head.id);
                if chunk.head.obs_seq == observation.head.seq {
                    // It asks for nothing while the other pair decides.
                    self.say(Mode::Running, observation)?;
                    return Ok((chunk, at_ns));
                }
            }
        }
        bail!("no chunk came: try the checkpoint with `vlad run --checkpoint`")
    }

    fn say(&self, mode: Mode, observation: &Observation) -> anyhow::Result<()> {
        self.tasks.put(&TaskNow {
            sent_at_ns: 0,
            task: Some(task()?),
            last: None,
        });
        self.joints.put(&still(observation));
        self.accepted.put(&Accepted {
            epoch: EPOCH,
            sampled_at_ns: 0,
            tick: 0,
            mode,
            reason: Reason::Rearmed,
            chunk: self.last,
            strategy: None,
            played: 0,
            width: 0,
            rows: Vec::new(),
        });
        Ok(())
    }
}

/// Starts a role; a decision on one core may take longer than any robot would wait.
fn launch(
    options: &StreamingOptions,
    (arguments, streams): (&[&str], &str),
    core: usize,
) -> anyhow::Result<Running> {
    let shared = format!("daemon.shared_memory_mib={}", options.shared_memory_mib);
    let mut command = Command::new(&options.binary);
    command
        .args(["--log", "warn", "run"])
        .args(arguments)
        .args(["--set", "expert.context_timeout_ms=59000"])
        .args(["--set", "guard.think_timeout_ms=60000"])
        .args(["--set", streams, "--set", &shared])
        .arg("--checkpoint")
        .arg(&options.checkpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let cores = Machine::read().cores;
    let started = on_core(core % cores.max(1), || command.spawn())?;
    let started = started.with_context(|| format!("cannot start {}", options.binary.display()))?;
    Ok(Running(started))
}

fn task() -> anyhow::Result<ActiveTask> {
    Ok(ActiveTask {
        id: "01JD3V7Q4Y8B3T0V5Z6W9X2C1A".parse()?,
        attempt: 1,
        epoch: EPOCH,
        instruction: Instruction::new("put the red block in the left tray")?,
        seed: 1,
        deadline_ns: u64::MAX,
    })
}

/// A robot that stands still since before the observation.
fn still(observation: &Observation) -> JointState {
    JointState::still(observation.head.tick, observation.head.captured_at_ns)
}

/// An observation of the cell's views; each number has images of its own, so that nothing that was
/// computed for another one can be used again.
fn observation(cell: &CellConfig, number: u64) -> anyhow::Result<Observation> {
    let mut views = Vec::new();
    let mut images = Vec::new();
    for camera in cell.robot.cameras() {
        let head = FrameHead {
            view: camera.view.clone(),
            seq: number,
            captured_at_ns: number,
            width: camera.width,
            height: camera.height,
        };
        let mut pixels = vec![0; head.n_bytes()];
        fill(number, &mut pixels);
        images.push(Bytes::from(pixels));
        views.push(head);
    }
    let width = cell.robot.toml().robot_type.width;
    let head = ObservationHead {
        seq: number,
        tick: i64::try_from(number)?,
        captured_at_ns: number,
        views,
        state: vec![0.0; width],
        state_at_ns: number,
        truth: None,
    };
    Ok(Observation { head, images })
}

/// Makes a checkpoint with random weights that is large enough for the measurement, in a folder
/// that must not exist.
///
/// # Errors
/// A folder that exists; what the file system says.
pub fn synthesise(out: &Path) -> anyhow::Result<()> {
    let config = Config::load(&Sources::default())?;
    let cell = config.cells.first().context("no cell is shipped")?;
    let which = (vlad_xr0::synth::Preset::Narrow, 1);
    vlad_actors::policy::xr0::preset::write(&cell.robot, which, out, &mut |_, _| {})?;
    Ok(())
}
