//! What a checkpoint holds: the name and the shape of every tensor (reference §2).
//!
//! ```text
//! vlm.model.visual.*          the vision tower            §2.2
//! vlm.model.language_model.*  the text model              §2.1
//! dit.*, and the heads        the action expert           §2.3
//! ```
//! The tied `lm_head.weight` is not stored, and nothing here needs it.

use serde::{Deserialize, Serialize};

use crate::config::{Config, TextConfig, VisionConfig};

/// Numbers that describe a moment of the flow (reference §6.2).
pub const TIME_FREQUENCIES: usize = 256;
/// Rows of an adaLN table: shift, scale and gate, each for attention and MLP (reference §6.3).
pub const ADALN_ROWS: usize = 6;
/// Width of the expert's MLP over the width of its stream (reference §2.3).
pub const DIT_MLP_RATIO: usize = 4;

/// One of the three networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The text model.
    Text,
    /// The vision tower.
    Vision,
    /// The diffusion transformer with its projectors and heads.
    ActionExpert,
}

/// A tensor as the checkpoint must hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The network that it belongs to.
    pub part: Part,
}

impl TensorSpec {
    /// Counts the numbers in it; a count beyond 64 bits is the largest one.
    pub fn elements(&self) -> u64 {
        let sizes = self.shape.iter().map(|size| *size as u64);
        sizes.fold(1, u64::saturating_mul)
    }
}

/// Lists every tensor of a checkpoint with these sizes: vision tower, text model, action expert,
/// each from its inputs to its outputs.
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    let mut list = List::default();
    vision(&mut list, config.vision());
    text(&mut list, config.text());
    action_expert(&mut list, config);
    list.tensors
}

/// Collects tensors in order.
#[derive(Default)]
struct List {
    tensors: Vec<TensorSpec>,
}

impl List {
    fn add(&mut self, part: Part, name: String, shape: &[usize]) {
        let shape = shape.to_vec();
        self.tensors.push(TensorSpec { name, shape, part });
    }
}

/// A vision tensor with its bias, which has the size of its first axis.
fn biased(list: &mut List, name: &str, shape: &[usize]) {
    let name = format!("vlm.model.visual.{name}");
    list.add(Part::Vision, format!("{name}.weight"), shape);
    list.add(Part::Vision, format!("{name}.bias"), &shape[..1]);
}

/// Reference §2.2.
fn vision(list: &mut List, config: &VisionConfig) {
    let (width, mlp, patch) = (
        config.hidden_size,
        config.intermediate_size,
        config.patch_size,
    );
    let positions = [config.num_position_embeddings, width];
    list.add(
        Part::Vision,
        "vlm.model.visual.pos_embed.weight".to_owned(),
        &positions,
    );
    let filter = [
        width,
        config.in_channels,
        config.temporal_patch_size,
        patch,
        patch,
    ];
    biased(list, "patch_embed.proj", &filter);
    for i in 0..config.depth {
        biased(list, &format!("blocks.{i}.norm1"), &[width]);
        biased(list, &format!("blocks.{i}.norm2"), &[width]);
        biased(list, &format!("blocks.{i}.attn.qkv"), &[3 * width, width]);
        biased(list, &format!("blocks.{i}.attn.proj"), &[width, width]);
        biased(list, &format!("blocks.{i}.mlp.linear_fc1"), &[mlp, width]);
        biased(list, &format!("blocks.{i}.mlp.linear_fc2"), &[width, mlp]);
    }
    let merged = width * config.spatial_merge_size * config.spatial_merge_size;
    merger(list, "merger", (width, merged), config.out_hidden_size);
    for i in 0..config.deepstack_visual_indexes.len() {
        // Unlike the last one, these normalise after the patches of a token were joined.
        let name = format!("deepstack_merger_list.{i}");
        merger(list, &name, (merged, merged), config.out_hidden_size);
    }
}

fn merger(list: &mut List, name: &str, (norm, merged): (usize, usize), out: usize) {
    biased(list, &format!("{name}.norm"), &[norm]);
    biased(list, &format!("{name}.linear_fc1"), &[merged, merged]);
    biased(list, &format!("{name}.linear_fc2"), &[out, merged]);
}

/// Reference §2.1.
fn text(list: &mut List, config: &TextConfig) {
    let (width, mlp, head) = (
        config.hidden_size,
        config.intermediate_size,
        config.head_dim,
    );
    let queries = config.num_attention_heads * head;
    let keys = config.num_key_value_heads * head;
    let mut add = |name: String, shape: &[usize]| {
        let name = format!("vlm.model.language_model.{name}.weight");
        list.add(Part::Text, name, shape);
    };
    add("embed_tokens".to_owned(), &[config.vocab_size, width]);
    for i in 0..config.num_hidden_layers {
        let layer = format!("layers.{i}");
        add(format!("{layer}.self_attn.q_proj"), &[queries, width]);
        add(format!("{layer}.self_attn.k_proj"), &[keys, width]);
        add(format!("{layer}.self_attn.v_proj"), &[keys, width]);
        add(format!("{layer}.self_attn.o_proj"), &[width, queries]);
        add(format!("{layer}.self_attn.q_norm"), &[head]);
        add(format!("{layer}.self_attn.k_norm"), &[head]);
        add(format!("{layer}.mlp.gate_proj"), &[mlp, width]);
        add(format!("{layer}.mlp.up_proj"), &[mlp, width]);
        add(format!("{layer}.mlp.down_proj"), &[width, mlp]);
        add(format!("{layer}.input_layernorm"), &[width]);
        add(format!("{layer}.post_attention_layernorm"), &[width]);
    }
    add("norm".to_owned(), &[width]);
}

/// Reference §2.3.
fn action_expert(list: &mut List, config: &Config) {
    let dit = &config.dit_config;
    let (width, mlp, head) = (
        dit.hidden_size,
        DIT_MLP_RATIO * dit.hidden_size,
        dit.head_dim,
    );
    let mut add =
        |name: &str, shape: &[usize]| list.add(Part::ActionExpert, name.to_owned(), shape);
    for j in 0..dit.num_hidden_layers {
        let layer = format!("dit.layers.{j}");
        add(&format!("{layer}.adaln_table"), &[ADALN_ROWS, width]);
        for norm in ["input", "middle", "post", "final"] {
            add(&format!("{layer}.{norm}_layernorm.weight"), &[width]);
        }
        // One head of the stream for each query, key and value: only the cache is grouped.
        add(
            &format!("{layer}.attn.qkv_proj.weight"),
            &[3 * width, width],
        );
        add(&format!("{layer}.attn.qkv_proj.bias"), &[3 * width]);
        add(&format!("{layer}.attn.o_proj.weight"), &[width, width]);
        add(&format!("{layer}.attn.q_norm.weight"), &[head]);
        add(&format!("{layer}.attn.k_norm.weight"), &[head]);
        add(&format!("{layer}.mlp.gate_proj.weight"), &[mlp, width]);
        add(&format!("{layer}.mlp.up_proj.weight"), &[mlp, width]);
        add(&format!("{layer}.mlp.down_proj.weight"), &[width, mlp]);
    }
    add("sink.weight", &[1, width]);
    add(
        "state_projector.layers.0.weight",
        &[width, config.state_dim],
    );
    add("state_projector.layers.2.weight", &[width, width]);
    add(
        "action_projector.layers.0.weight",
        &[width, config.action_dim],
    );
    add("action_projector.layers.2.weight", &[width, width]);
    add(
        "action_output_layer.layers.0.weight",
        &[config.action_dim, width],
    );
    add(
        "action_output_layer.layers.2.weight",
        &[config.action_dim, config.action_dim],
    );
    add("t_embedder.mlp.0.weight", &[width, TIME_FREQUENCIES]);
    add("t_embedder.mlp.2.weight", &[width, width]);
    add("t_projector.layers.0.weight", &[ADALN_ROWS * width, width]);
    add("t_projector.layers.0.bias", &[ADALN_ROWS * width]);
}
