//! Time of each stage of a decision, with real shapes and few layers, on this machine's CPU.
//!
//! `cargo bench -p vlad-xr0` prints medians; figures are comparable within one run only.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a bench measures time and prints it"
)]

use std::hint::black_box;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use vlad_xr0::config::Config;
use vlad_xr0::context::{Context, KvLayer};
use vlad_xr0::dit::Dit;
use vlad_xr0::preprocess::Grid;
use vlad_xr0::prompt::Rows;
use vlad_xr0::rope::Mrope;
use vlad_xr0::synth::Preset;
use vlad_xr0::text::TextModel;
use vlad_xr0::trace::Blind;
use vlad_xr0::vision::{ImageTokens, VisionTower};

/// Tokens of a prompt with two views of 256 × 256 (LIBERO).
const TOKENS: usize = 180;
/// Actions of a chunk.
const HORIZON: usize = 30;

/// Median of some runs after a first one, milliseconds.
fn median(runs: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn weights() -> VarBuilder<'static> {
    VarBuilder::zeros(DType::F32, &Device::Cpu)
}

/// The released shapes with fewer layers.
fn config(text: usize, vision: usize, dit: usize) -> Config {
    let mut config = Preset::Xr04_7b.config().unwrap();
    config.vlm_config.text_config.num_hidden_layers = text;
    config.vlm_config.vision_config.depth = vision;
    config.vlm_config.vision_config.deepstack_visual_indexes = vec![0];
    config.dit_config.num_hidden_layers = dit;
    config
}

fn mrope(config: &Config) -> Mrope {
    Mrope::new(config, false, &Device::Cpu).unwrap()
}

/// One product, with the weight as it is stored, and turned in memory as `nn::Linear` holds it.
fn layouts() {
    for rows in [1, 10, 32, 200] {
        let x = Tensor::randn(0f32, 1.0, (rows, 1024), &Device::Cpu).unwrap();
        let weight = Tensor::randn(0f32, 1.0, (4096, 1024), &Device::Cpu).unwrap();
        let stored = weight.t().unwrap();
        let turned = stored.contiguous().unwrap();
        let once = |weight: &Tensor| {
            median(5, || {
                black_box(x.matmul(weight).unwrap());
            })
        };
        // Alternating, so that both meet the same neighbours.
        let pairs: Vec<_> = (0..5).map(|_| (once(&stored), once(&turned))).collect();
        let middle = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let stored = middle(pairs.iter().map(|pair| pair.0).collect());
        let turned = middle(pairs.iter().map(|pair| pair.1).collect());
        println!("product {rows:>3} x 1024 x 4096: stored {stored:.2} ms, turned {turned:.2} ms");
    }
}

fn vision() {
    let config = config(1, 2, 1);
    let tower = VisionTower::load(&weights(), &config, false).unwrap();
    let grids = [Grid {
        rows: 16,
        columns: 16,
    }; 2];
    let pixels = Tensor::zeros((512, 1536), DType::F32, &Device::Cpu).unwrap();
    let time = median(5, || {
        black_box(tower.forward(&pixels, &grids, &mut Blind).unwrap());
    });
    println!("vision, 2 blocks and 2 mergers, 512 patches: {time:.1} ms");
}

fn text() {
    let config = config(2, 1, 1);
    let model = TextModel::load(&weights(), &config, mrope(&config)).unwrap();
    let positions: Vec<u32> = (0..).take(TOKENS).collect();
    let rows = Rows {
        n: 1,
        width: TOKENS,
        ids: vec![0; TOKENS],
        mask: vec![1; TOKENS],
        positions: [positions.clone(), positions.clone(), positions],
    };
    let none = Tensor::zeros((0, 2560), DType::F32, &Device::Cpu).unwrap();
    let images = ImageTokens {
        embeds: none,
        deepstack: Vec::new(),
    };
    let time = median(3, || {
        black_box(model.forward(&rows, &images, 0, &mut Blind).unwrap());
    });
    println!("text, 2 layers, {TOKENS} tokens: {time:.1} ms");
}

fn dit() {
    let config = config(2, 1, 2);
    let dit = Dit::load(&weights(), &config, mrope(&config)).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let layer = || KvLayer {
        k: zeros(&[1, 8, TOKENS, 128]),
        v: zeros(&[1, 8, TOKENS, 128]),
    };
    let context = Context {
        layers: vec![layer(), layer()],
        p_end: vec![100],
        mask: vec![vec![true; TOKENS]],
    };
    let (state, x) = (zeros(&[1, 1, 32]), zeros(&[1, HORIZON, 32]));
    let conditions = dit.condition(&context, (&state, &x), &mut Blind).unwrap();
    let time = median(9, || {
        black_box(dit.velocity(&x, &[0.2], &conditions, &mut Blind).unwrap());
    });
    println!("action expert, 2 layers, {HORIZON} actions, one step: {time:.1} ms");
}

fn main() {
    layouts();
    vision();
    text();
    dit();
}
