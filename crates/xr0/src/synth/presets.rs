//! The settings that are written beside the weights.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::Config;
use crate::normaliser::Normaliser;
use crate::synth::tokens;

/// The text model's sizes that differ between the presets.
struct Text {
    vocabulary: u32,
    width: u32,
    mlp: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    sections: [u32; 3],
}

/// The vision tower's.
struct Vision {
    depth: u32,
    width: u32,
    mlp: u32,
    heads: u32,
    positions: u32,
    deepstack: [u32; 3],
}

/// Some hundred thousand parameters in the shape of the released network: grouped key and value
/// heads, heads that are not `width / heads`, an expert narrower than the text model and with
/// fewer layers, `DeepStack`, three uneven rotary sections.
pub fn tiny() -> Value {
    let text = Text {
        vocabulary: 512,
        width: 80,
        mlp: 128,
        layers: 6,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        sections: [4, 2, 2],
    };
    let vision = Vision {
        depth: 4,
        width: 32,
        mlp: 64,
        heads: 4,
        positions: 64,
        deepstack: [0, 1, 2],
    };
    config((&text, &vision), (64, 3), tokens::LETTERS)
}

/// All layers of the released network, each narrower: a decision takes a processor some tenths of a
/// second, and its stages have the shares that they have in the large one.
pub fn narrow() -> Value {
    let text = Text {
        vocabulary: 2048,
        width: 512,
        mlp: 1536,
        layers: 36,
        heads: 8,
        kv_heads: 4,
        head_dim: 64,
        sections: [12, 10, 10],
    };
    let vision = Vision {
        depth: 24,
        width: 256,
        mlp: 1024,
        heads: 4,
        positions: 2304,
        deepstack: [5, 11, 17],
    };
    config((&text, &vision), (512, 16), tokens::LETTERS)
}

/// Few layers of the released network, each as wide: what fewer bits a weight do to a number can be
/// seen here without the large one's memory.
pub fn shallow() -> Value {
    let text = Text {
        vocabulary: 2048,
        layers: 6,
        ..RELEASED_TEXT
    };
    let vision = Vision {
        depth: 4,
        deepstack: [0, 1, 2],
        ..RELEASED_VISION
    };
    config((&text, &vision), (1024, 4), tokens::LETTERS)
}

/// The released network (reference §1.2).
pub fn xr0_4_7b() -> Value {
    config((&RELEASED_TEXT, &RELEASED_VISION), (1024, 16), 151_643)
}

/// Reference §1.2.
const RELEASED_TEXT: Text = Text {
    vocabulary: 151_936,
    width: 2560,
    mlp: 9728,
    layers: 36,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    sections: [24, 20, 20],
};
/// Reference §1.2.
const RELEASED_VISION: Vision = Vision {
    depth: 24,
    width: 1024,
    mlp: 4096,
    heads: 16,
    positions: 2304,
    deepstack: [5, 11, 17],
};

/// `dit` is the expert's width and layers, `special` the id of `<|endoftext|>`.
fn config((text, vision): (&Text, &Vision), dit: (u32, u32), special: u32) -> Value {
    json!({
        "model_type": "mibot",
        "architectures": ["MiBoTForActionGeneration"],
        "dtype": "bfloat16",
        "state_length": 1,
        "state_dim": 32,
        "action_length": 30,
        "action_dim": 32,
        "dit_config": {
            "model_type": "dit",
            "hidden_size": dit.0,
            "num_hidden_layers": dit.1,
            "head_dim": text.head_dim,
            "num_key_value_heads": text.kv_heads,
        },
        "vlm_config": {
            "model_type": "qwen3_vl",
            "image_token_id": special + tokens::IMAGE,
            "video_token_id": special + tokens::VIDEO,
            "vision_start_token_id": special + tokens::VISION_START,
            "vision_end_token_id": special + tokens::VISION_END,
            "tie_word_embeddings": true,
            "text_config": text_config(text, special),
            "vision_config": vision_config(vision, text.width),
        },
    })
}

fn text_config(text: &Text, special: u32) -> Value {
    json!({
        "model_type": "qwen3_vl_text",
        "vocab_size": text.vocabulary,
        "hidden_size": text.width,
        "intermediate_size": text.mlp,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "head_dim": text.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": 262_144,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5_000_000,
        "rope_scaling": {
            "rope_type": "default",
            "mrope_section": text.sections,
            "mrope_interleaved": true,
        },
        "attention_bias": false,
        "attention_dropout": 0.0,
        "tie_word_embeddings": true,
        "bos_token_id": special,
        "eos_token_id": special + tokens::IM_END,
        "use_cache": true,
        "initializer_range": 0.02,
    })
}

fn vision_config(vision: &Vision, out: u32) -> Value {
    json!({
        "model_type": "qwen3_vl",
        "depth": vision.depth,
        "hidden_size": vision.width,
        "intermediate_size": vision.mlp,
        "num_heads": vision.heads,
        "in_channels": 3,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "out_hidden_size": out,
        "num_position_embeddings": vision.positions,
        "deepstack_visual_indexes": vision.deepstack,
        "hidden_act": "gelu_pytorch_tanh",
    })
}

/// `preprocessor_config.json` (reference §1.3) with image limits and action statistics.
pub fn preprocessor(
    config: &Config,
    limits: Value,
    robots: &BTreeMap<String, Normaliser>,
) -> Value {
    let vision = config.vision();
    let mut file = json!({
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "processor_class": "MiBotProcessor",
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_convert_rgb": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
    });
    let statistics: serde_json::Map<_, _> = robots
        .iter()
        .map(|(robot, table)| {
            let rows = |values: &[f32]| -> Vec<Vec<f32>> {
                values
                    .chunks(table.width().max(1))
                    .map(<[f32]>::to_vec)
                    .collect()
            };
            let table = json!({ "mean": rows(table.mean()), "std": rows(table.std()) });
            (robot.clone(), table)
        })
        .collect();
    if let (Some(file), Value::Object(limits)) = (file.as_object_mut(), limits) {
        file.extend(limits);
        file.insert("action_config".to_owned(), Value::Object(statistics));
    }
    file
}
