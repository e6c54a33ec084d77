//! What fewer bits do to the actions: weights held in fewer bits, and contexts handed over in eight.
//!
//! `cargo bench -p vlad-xr0 --bench parity -- DIR [DECISIONS] [REFERENCE TYPE …]` takes a checkpoint
//! directory and compares types of weights (default: `f32 bf16 q8 q4`, the first one is what the others
//! are held against) on the same decisions (default: 6). Each type has a process of its own, so that its peak
//! of memory is its own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a bench measures and prints"
)]

use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::time::Instant;

use candle_core::Device;
use serde::{Deserialize, Serialize};
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::context::bytes::Encoding;
use vlad_xr0::context::{Context, KvLayer};
use vlad_xr0::model::decision::Decision;
use vlad_xr0::model::{ActionExpert, Options, Prompt, View, Vlm};
use vlad_xr0::nn::weights::WeightType;
use vlad_xr0::preprocess::RgbImage;
use vlad_xr0::trace::Blind;

/// Says to a process that it is one type's.
const CHILD: &str = "--one";
/// Decisions that are compared, unless it is said.
const DECISIONS: usize = 6;

/// What one type of weights gave.
#[derive(Serialize, Deserialize)]
struct Run {
    weights: WeightType,
    load_s: f64,
    think_s: f64,
    act_s: f64,
    peak_gib: f64,
    /// By decision; then with contexts in eight bits.
    actions: Vec<Vec<f32>>,
    eight_bit: Vec<Vec<f32>>,
    keys: Vec<Vec<f32>>,
}

fn seconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let done = work();
    (done, begin.elapsed().as_secs_f64())
}

/// Largest resident memory of this process so far.
fn peak_gib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0 / 1024.0
}

fn wave(n: usize, seed: usize) -> Vec<f32> {
    // Box-Muller over a fixed lattice: standard normal enough, and the same on every machine.
    let unit = |i: usize| ((i * 2_654_435_761 + seed * 40_503) % 1_000_003) as f32 / 1_000_003.0;
    let normal = |i: usize| {
        let radius = (-2.0 * (unit(2 * i) + 1e-6).ln()).sqrt();
        radius * (std::f32::consts::TAU * unit(2 * i + 1)).cos()
    };
    (0..n).map(normal).collect()
}

fn picture(seed: usize) -> RgbImage {
    let side = 256;
    let pixel = |at: usize| {
        let (y, x, c) = (at / 3 / side, at / 3 % side, at % 3);
        let stripes = ((x * (seed % 5 + 1) + y * (c + 1)) / 16 % 2) * 120;
        (stripes + (x * y + seed * 37) % 97) as u8
    };
    RgbImage::new(side, side, (0..side * side * 3).map(pixel).collect()).unwrap()
}

fn in_eight_bits(context: &Context) -> Context {
    let layers = context.layers.iter().map(|layer| {
        let form = layer.form(Encoding::EightBit).unwrap();
        let mut bytes = vec![0; form.n_bytes().unwrap()];
        layer.write(Encoding::EightBit, &mut bytes).unwrap();
        KvLayer::read(&form, &bytes, &Device::Cpu).unwrap()
    });
    Context {
        tokens: context.tokens.clone(),
        layers: layers.collect(),
    }
}

fn run(dir: &FilePath, weights: WeightType, decisions: usize) -> Run {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let options = Options {
        weights,
        ..Options::served(Device::Cpu)
    };
    let ((vlm, expert), load_s) = seconds(|| {
        let vlm = Vlm::load(&checkpoint, &options).unwrap();
        (vlm, ActionExpert::load(&checkpoint, &options).unwrap())
    });
    let (_, robot) = checkpoint.preprocessor().robot_types.iter().next().unwrap();
    let (horizon, width) = (robot.horizon(), robot.width());
    let mut run = Run {
        weights,
        load_s,
        think_s: f64::INFINITY,
        act_s: f64::INFINITY,
        peak_gib: 0.0,
        actions: vec![],
        eight_bit: vec![],
        keys: vec![],
    };
    for seed in 0..decisions {
        let images = [picture(2 * seed), picture(2 * seed + 1)];
        let labels = ["Base View", "Left-Wrist View"];
        let view = |(label, image)| View {
            label,
            image,
            limits: None,
        };
        let prompt = Prompt {
            views: labels.into_iter().zip(&images).map(view).collect(),
            instruction: "Put the red block in the left tray.",
        };
        let (context, think_s) = seconds(|| vlm.context(&[prompt], &mut Blind).unwrap());
        let noise = wave(horizon * width, seed);
        let state: Vec<_> = wave(checkpoint.config().state_dim, seed + 100)
            .iter()
            .map(|x| 0.3 * x)
            .collect();
        let mask = robot.mask();
        let decision = Decision::one(&state, (&mask, &noise), horizon, 5).unwrap();
        let sample = |context: &Context| {
            let chunk = expert.sample(context, &decision, &mut Blind).unwrap();
            let chunk: Vec<f32> = chunk.flatten_all().unwrap().to_vec1().unwrap();
            let used = chunk
                .into_iter()
                .zip(&mask)
                .filter(|(_, used)| 0.5 < **used);
            used.map(|(x, _)| x).collect::<Vec<_>>()
        };
        let (chunk, act_s) = seconds(|| sample(&context));
        run.actions.push(chunk);
        run.eight_bit.push(sample(&in_eight_bits(&context)));
        let k = &context.layers.last().unwrap().k;
        run.keys.push(k.flatten_all().unwrap().to_vec1().unwrap());
        run.think_s = run.think_s.min(think_s);
        run.act_s = run.act_s.min(act_s);
    }
    run.peak_gib = peak_gib();
    run
}

/// The same in a process of its own.
fn run_apart(dir: &str, weights: WeightType, decisions: usize) -> Run {
    let words = [CHILD, dir, &decisions.to_string(), &weights.to_string()].map(str::to_owned);
    let own = std::env::current_exe().unwrap();
    let done = Command::new(own)
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(done.status.success(), "{weights} failed");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Mean and largest absolute difference, and the root of the squares' share.
fn apart(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> (f64, f64, f64) {
    let pairs = ours.iter().flatten().zip(theirs.iter().flatten());
    let (mut n, mut sum, mut largest, mut squares, mut whole) = (0.0, 0.0, 0f64, 0.0, 0.0);
    for (a, b) in pairs {
        let gap = f64::from((a - b).abs());
        (n, sum, largest) = (n + 1.0, sum + gap, largest.max(gap));
        (squares, whole) = (squares + gap * gap, whole + f64::from(b * b));
    }
    (sum / n, largest, (squares / whole).sqrt())
}

fn main() {
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    if let [child, dir, decisions, weights] = words.as_slice()
        && child == CHILD
    {
        let (weights, decisions) = (weights.parse().unwrap(), decisions.parse().unwrap());
        let run = run(FilePath::new(dir), weights, decisions);
        println!("{}", serde_json::to_string(&run).unwrap());
        return;
    }
    let Some((dir, types)) = words.split_first() else {
        println!("parity: name a checkpoint directory to compare types of weights on it");
        return;
    };
    let (decisions, types) = match types.split_first() {
        Some((word, rest)) if word.parse::<usize>().is_ok() => (word.parse().unwrap(), rest),
        _ => (DECISIONS, types),
    };
    let named: Vec<WeightType> = types.iter().map(|word| word.parse().unwrap()).collect();
    let all = [
        WeightType::F32,
        WeightType::Bf16,
        WeightType::Q8,
        WeightType::Q4,
    ];
    let types = if named.is_empty() {
        all.to_vec()
    } else {
        named
    };
    let mut reference: Option<Run> = None;
    println!(
        "| weights | peak GiB | load s | think s | act s | last keys, relative | actions, mean | largest | with an eight-bit context, mean | largest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for weights in types {
        let run = run_apart(dir, weights, decisions);
        let of = reference.as_ref().unwrap_or(&run);
        let keys = apart(&run.keys, &of.keys).2;
        let (mean, largest, _) = apart(&run.actions, &of.actions);
        let (mean_8, largest_8, _) = apart(&run.eight_bit, &of.actions);
        println!(
            "| {} | {:.2} | {:.1} | {:.2} | {:.2} | {keys:.1e} | {mean:.1e} | {largest:.1e} | {mean_8:.1e} | {largest_8:.1e} |",
            run.weights, run.peak_gib, run.load_s, run.think_s, run.act_s
        );
        reference = reference.or(Some(run));
    }
}
