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
use vlad_xr0::context::{Context, KvLayer, Tokens};
use vlad_xr0::dit::layout::Kind;
use vlad_xr0::dit::{Dit, Given};
use vlad_xr0::nn::linear::Linear;
use vlad_xr0::nn::weights::{Path, WeightType, Weights};
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

fn weights(held: WeightType, path: Path) -> Weights<'static> {
    Weights::new(VarBuilder::zeros(DType::F32, &Device::Cpu), held, path)
}

/// The forms that are held side by side: the plain one, then the served one with each type of weights.
const FORMS: [(WeightType, Path); 5] = [
    (WeightType::F32, Path::Plain),
    (WeightType::F32, Path::Served),
    (WeightType::Bf16, Path::Served),
    (WeightType::Q8, Path::Served),
    (WeightType::Q4, Path::Served),
];

/// Medians of each form's work, in rounds, so that all meet the same neighbours.
fn side_by_side(what: &str, mut forms: Vec<Box<dyn FnMut() + '_>>) {
    let mut times = vec![Vec::new(); forms.len()];
    for _ in 0..5 {
        for (form, times) in forms.iter_mut().zip(&mut times) {
            times.push(median(1, form));
        }
    }
    let middle = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        format!("{:.1}", times[times.len() / 2])
    };
    let times: Vec<_> = times.into_iter().map(middle).collect();
    println!("{what}: {} ms", times.join(", "));
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

/// The products of one MLP weight of the text model, in each type of weights.
fn kernels() {
    let weight = Tensor::randn(0f32, 0.02, (9728, 2560), &Device::Cpu).unwrap();
    for few_rows in [true, false] {
        let linear = |held| {
            let weights = weights(held, Path::Served);
            let weights = if few_rows {
                weights.for_few_rows()
            } else {
                weights
            };
            Linear::new(&weight, &weights).unwrap()
        };
        let types = [
            WeightType::F32,
            WeightType::Bf16,
            WeightType::Q8,
            WeightType::Q4,
        ];
        let linears = types.map(linear);
        for rows in if few_rows { [12, 32] } else { [64, 200] } {
            let x = Tensor::randn(0f32, 1.0, (rows, 2560), &Device::Cpu).unwrap();
            let x = &x;
            let forms = linears.iter().map(|linear| -> Box<dyn FnMut()> {
                Box::new(move || {
                    black_box(linear.forward(x).unwrap());
                })
            });
            side_by_side(
                &format!("product {rows} x 2560 x 9728, f32 bf16 q8 q4"),
                forms.collect(),
            );
        }
    }
}

fn vision() {
    let config = config(1, 2, 1);
    let towers =
        FORMS.map(|(held, path)| VisionTower::load(&weights(held, path), &config, false).unwrap());
    let grid = Grid {
        rows: 16,
        columns: 16,
    };
    let pixels = &Tensor::zeros((256, 1536), DType::F32, &Device::Cpu).unwrap();
    let forms = towers.iter().map(|tower| -> Box<dyn FnMut()> {
        Box::new(move || {
            black_box(tower.forward(pixels, &[grid], &mut Blind).unwrap());
        })
    });
    side_by_side(
        "vision, 2 blocks and 2 mergers, 256 patches, plain f32, served f32 bf16 q8 q4",
        forms.collect(),
    );
}

/// Two layers, of which the served form computes one and a bit.
fn text() {
    let config = config(3, 1, 1);
    let models = FORMS.map(|(held, path)| {
        let model = TextModel::load(&weights(held, path), &config, mrope(&config)).unwrap();
        (model, path)
    });
    let positions: Vec<u32> = (0..).take(TOKENS).collect();
    let rows = &Rows {
        n: 1,
        width: TOKENS,
        ids: vec![0; TOKENS],
        mask: vec![1; TOKENS],
        positions: [positions.clone(), positions.clone(), positions],
    };
    let images = &ImageTokens::none(2560, (DType::F32, &Device::Cpu)).unwrap();
    let forms = models.iter().map(|(model, path)| -> Box<dyn FnMut()> {
        Box::new(move || {
            let ready = &mut |_, layer| {
                black_box(layer);
                Ok(())
            };
            match path {
                Path::Plain => {
                    let given = (rows, images);
                    black_box(model.forward(given, (0, None), &mut Blind, ready).unwrap());
                }
                Path::Served => model.prefill(rows, images, 0, ready).unwrap(),
            }
        })
    });
    side_by_side(
        &format!("text, 3 layers, {TOKENS} tokens, plain f32, served f32 bf16 q8 q4"),
        forms.collect(),
    );
}

fn dit() {
    let config = config(2, 1, 2);
    let dits =
        FORMS.map(|(held, path)| Dit::load(&weights(held, path), &config, mrope(&config)).unwrap());
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let layer = || KvLayer {
        k: zeros(&[1, 8, TOKENS, 128]),
        v: zeros(&[1, 8, TOKENS, 128]),
    };
    let context = Context {
        layers: vec![layer(), layer()],
        tokens: Tokens {
            p_end: vec![100],
            mask: vec![vec![true; TOKENS]],
        },
    };
    let (state, x) = (zeros(&[1, 1, 32]), &zeros(&[1, HORIZON, 32]));
    let given = Given {
        state: &state,
        action_mask: x,
        prefix: None,
    };
    let forms = dits.iter().map(|dit| -> Box<dyn FnMut() + '_> {
        let conditions = dit
            .condition(&context, &given, Kind::A, &mut Blind)
            .unwrap();
        let moment = dit.moment(&[0.2], &mut Blind).unwrap();
        Box::new(move || {
            black_box(dit.velocity(x, &moment, &conditions, &mut Blind).unwrap());
        })
    });
    side_by_side(
        &format!(
            "action expert, 2 layers, {HORIZON} actions, one step, plain f32, served f32 bf16 q8 q4"
        ),
        forms.collect(),
    );
}

fn main() {
    layouts();
    kernels();
    vision();
    text();
    dit();
}
