//! `config.json` of a checkpoint (reference §1.2): sizes of the three networks.
//!
//! The nested Qwen3-VL configuration spells out every inherited default; unknown keys are ignored.
//! Nothing falls back to a default of the model's class: those belong to a larger sibling. A setting
//! that would change the mathematics is refused where it asks for more than is computed here.

use serde::Deserialize;

/// The text model (`vlm_config.text_config`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TextConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head; not `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Added to the variance of every `RMSNorm`.
    pub rms_norm_eps: f64,
    /// Activation of the MLP; only `silu` is computed.
    #[serde(default)]
    pub hidden_act: Option<String>,
    /// Base of the rotary frequencies; newer exports hold it in `rope_parameters`.
    #[serde(default)]
    pub rope_theta: Option<f64>,
    /// Rotary settings; newer exports call them `rope_parameters`.
    #[serde(default, alias = "rope_parameters")]
    pub rope_scaling: Option<RopeScaling>,
}

/// Rotary settings of the text model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RopeScaling {
    /// Frequencies per axis: time, height, width.
    pub mrope_section: [usize; 3],
    /// Whether the axes alternate from frequency to frequency.
    #[serde(default)]
    pub mrope_interleaved: bool,
    /// Base of the frequencies, in newer exports.
    #[serde(default)]
    pub rope_theta: Option<f64>,
    /// How the frequencies are scaled; only `default`, not at all, is computed.
    #[serde(default)]
    pub rope_type: Option<String>,
}

/// The vision tower (`vlm_config.vision_config`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Heads.
    pub num_heads: usize,
    /// Colours of a pixel.
    pub in_channels: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Frames of a patch; one image is doubled.
    pub temporal_patch_size: usize,
    /// Side of a merged token, patches.
    pub spatial_merge_size: usize,
    /// Width of a merged token: the text model's.
    pub out_hidden_size: usize,
    /// Cells of the square table of position embeddings.
    pub num_position_embeddings: usize,
    /// Blocks after which a DeepStack feature is taken.
    pub deepstack_visual_indexes: Vec<usize>,
    /// Activation of the blocks' MLP; only `gelu_pytorch_tanh` is computed.
    #[serde(default)]
    pub hidden_act: Option<String>,
}

/// The action expert (`dit_config`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DitConfig {
    /// Width of the stream.
    pub hidden_size: usize,
    /// Layers; layer j reads the text model's layer `n_text - n_dit + j`.
    pub num_hidden_layers: usize,
    /// Width of a head, the text model's.
    pub head_dim: usize,
    /// Cached key and value heads, the text model's; `hidden_size / head_dim` query heads share them.
    pub num_key_value_heads: usize,
}

/// The vision-language model (`vlm_config`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VlmConfig {
    /// The text model.
    pub text_config: TextConfig,
    /// The vision tower.
    pub vision_config: VisionConfig,
    /// Token that stands for one merged cell of an image.
    pub image_token_id: u32,
    /// Token before an image.
    pub vision_start_token_id: u32,
    /// Token behind an image.
    pub vision_end_token_id: u32,
}

/// A checkpoint's `config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// The vision-language model.
    pub vlm_config: VlmConfig,
    /// The action expert.
    pub dit_config: DitConfig,
    /// State tokens: 1.
    pub state_length: usize,
    /// Slots of the state.
    pub state_dim: usize,
    /// Rows of the longest chunk; not the chunk length of a robot type, which its statistics give.
    pub action_length: usize,
    /// Slots of an action.
    pub action_dim: usize,
    /// What the file is for; only `mibot` is known.
    #[serde(default)]
    pub model_type: Option<String>,
}

/// Sizes beyond it are a lie or an attack, and are refused before memory is asked for.
const SIZE_MAX: usize = 1 << 20;
/// Layers beyond it are.
const LAYERS_MAX: usize = 512;
/// Slots and rows beyond it are.
const SLOTS_MAX: usize = 4096;

/// A key, its value, and the largest that is allowed.
type Size = (&'static str, usize, usize);
/// Whether something holds, and what is wrong if not.
type Check = (bool, &'static str);

/// Says whether a setting, where it stands, has the only value that is computed here.
fn is_only(setting: Option<&String>, known: &str) -> bool {
    setting.is_none_or(|value| value == known)
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// Everything that is wrong: a key that is missing or of another type alone, else all sizes
    /// that contradict each other.
    pub fn parse(json: &str) -> Result<Self, Vec<String>> {
        let config: Self = serde_json::from_str(json).map_err(|error| vec![error.to_string()])?;
        let faults = config.faults();
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(faults)
        }
    }

    /// The text model.
    pub fn text(&self) -> &TextConfig {
        &self.vlm_config.text_config
    }

    /// The vision tower.
    pub fn vision(&self) -> &VisionConfig {
        &self.vlm_config.vision_config
    }

    /// The first text layer whose keys and values the action expert reads.
    pub fn first_context_layer(&self) -> usize {
        self.text().num_hidden_layers - self.dit_config.num_hidden_layers
    }

    /// Lists sizes that are absurd or contradict each other.
    fn faults(&self) -> Vec<String> {
        let mut faults = self.absurd_sizes();
        if faults.is_empty() {
            faults = self.contradictions();
        }
        faults
    }

    fn absurd_sizes(&self) -> Vec<String> {
        let own = [
            ("state_dim", self.state_dim, SLOTS_MAX),
            ("action_dim", self.action_dim, SLOTS_MAX),
            ("action_length", self.action_length, SLOTS_MAX),
        ];
        let networks = [
            ("text_config", self.text().sizes()),
            ("vision_config", self.vision().sizes()),
            ("dit_config", self.dit_config.sizes()),
        ];
        let nested = networks.into_iter().flat_map(|(table, sizes)| {
            let named = move |(key, size, max)| (format!("{table}.{key}"), size, max);
            sizes.into_iter().map(named)
        });
        let own = own.map(|(key, size, max)| (key.to_owned(), size, max));
        let absurd = own.into_iter().chain(nested);
        let absurd = absurd.filter(|(_, size, max)| !(1..=*max).contains(size));
        absurd
            .map(|(key, size, max)| format!("{key} is {size}, must lie in 1 to {max}"))
            .collect()
    }

    fn contradictions(&self) -> Vec<String> {
        let token = (self.image_token() as usize) < self.text().vocab_size;
        let own = vec![
            (
                is_only(self.model_type.as_ref(), "mibot"),
                "model_type must be mibot",
            ),
            (self.state_length == 1, "state_length must be 1"),
            (
                self.rope_theta().is_some_and(|t| t.is_finite() && 1.0 < t),
                "text_config.rope_theta must be above 1",
            ),
            (token, "image_token_id lies outside the vocabulary"),
        ];
        let (text, vision) = (self.text(), self.vision());
        let checks = [
            text.checks(),
            vision.checks(text),
            self.dit_config.checks(text),
            own,
        ];
        let wrong = checks.into_iter().flatten().filter(|(holds, _)| !holds);
        wrong.map(|(_, problem)| problem.to_owned()).collect()
    }

    /// Base of the text model's rotary frequencies.
    pub fn rope_theta(&self) -> Option<f64> {
        let text = self.text();
        let scaling = text.rope_scaling.as_ref();
        text.rope_theta.or(scaling.and_then(|rope| rope.rope_theta))
    }

    /// Token that stands for one merged cell of an image.
    pub fn image_token(&self) -> u32 {
        self.vlm_config.image_token_id
    }
}

impl TextConfig {
    fn sizes(&self) -> Vec<Size> {
        vec![
            ("vocab_size", self.vocab_size, SIZE_MAX),
            ("hidden_size", self.hidden_size, SIZE_MAX),
            ("intermediate_size", self.intermediate_size, SIZE_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, SIZE_MAX),
            ("num_key_value_heads", self.num_key_value_heads, SIZE_MAX),
            ("head_dim", self.head_dim, SIZE_MAX),
        ]
    }

    fn checks(&self) -> Vec<Check> {
        let rope = self.rope_scaling.as_ref();
        // Each section takes every third frequency, from the start.
        let half = self.head_dim / 2;
        let fits = |[time, height, width]: [usize; 3]| {
            let sum = time.saturating_add(height).saturating_add(width);
            sum == half && 3 * height.max(width) <= half + 2
        };
        let rope_type = rope.and_then(|rope| rope.rope_type.as_ref());
        vec![
            (
                self.head_dim.is_multiple_of(2),
                "text_config.head_dim must be even",
            ),
            (
                self.num_attention_heads
                    .is_multiple_of(self.num_key_value_heads),
                "text_config.num_attention_heads must be a multiple of num_key_value_heads",
            ),
            (
                rope.is_some_and(|rope| fits(rope.mrope_section)),
                "text_config.rope_scaling.mrope_section is missing or does not fit head_dim: it must add up to head_dim / 2",
            ),
            (
                is_only(rope_type, "default"),
                "text_config.rope_scaling.rope_type must be default",
            ),
            (
                is_only(self.hidden_act.as_ref(), "silu"),
                "text_config.hidden_act must be silu",
            ),
            (
                self.rms_norm_eps.is_finite() && 0.0 < self.rms_norm_eps,
                "text_config.rms_norm_eps must be above 0",
            ),
            (
                rope.is_some_and(|rope| rope.mrope_interleaved),
                "text_config.rope_scaling.mrope_interleaved must be true",
            ),
        ]
    }
}

impl VisionConfig {
    fn sizes(&self) -> Vec<Size> {
        let embeddings = self.num_position_embeddings;
        vec![
            ("depth", self.depth, LAYERS_MAX),
            ("hidden_size", self.hidden_size, SIZE_MAX),
            ("intermediate_size", self.intermediate_size, SIZE_MAX),
            ("num_heads", self.num_heads, SIZE_MAX),
            ("patch_size", self.patch_size, 1024),
            ("temporal_patch_size", self.temporal_patch_size, 64),
            ("spatial_merge_size", self.spatial_merge_size, 64),
            ("out_hidden_size", self.out_hidden_size, SIZE_MAX),
            ("num_position_embeddings", embeddings, SIZE_MAX),
        ]
    }

    fn checks(&self, text: &TextConfig) -> Vec<Check> {
        let side = self.num_position_embeddings.isqrt();
        let taps = &self.deepstack_visual_indexes;
        vec![
            (self.in_channels == 3, "vision_config.in_channels must be 3"),
            (
                self.hidden_size.is_multiple_of(self.num_heads)
                    && (self.hidden_size / self.num_heads).is_multiple_of(4),
                "vision_config.hidden_size / num_heads must be a multiple of 4",
            ),
            (
                self.out_hidden_size == text.hidden_size,
                "vision_config.out_hidden_size must be text_config.hidden_size",
            ),
            (
                side * side == self.num_position_embeddings,
                "vision_config.num_position_embeddings must be a square",
            ),
            (
                taps.iter().all(|index| *index < self.depth),
                "vision_config.deepstack_visual_indexes names a block that is not there",
            ),
            (
                taps.is_sorted_by(|a, b| a < b),
                "vision_config.deepstack_visual_indexes must ascend",
            ),
            (
                is_only(self.hidden_act.as_ref(), "gelu_pytorch_tanh"),
                "vision_config.hidden_act must be gelu_pytorch_tanh",
            ),
            (
                taps.len() <= text.num_hidden_layers,
                "vision_config.deepstack_visual_indexes has more entries than the text model has layers",
            ),
        ]
    }
}

impl DitConfig {
    fn sizes(&self) -> Vec<Size> {
        vec![
            ("hidden_size", self.hidden_size, SIZE_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("head_dim", self.head_dim, SIZE_MAX),
            ("num_key_value_heads", self.num_key_value_heads, SIZE_MAX),
        ]
    }

    fn checks(&self, text: &TextConfig) -> Vec<Check> {
        vec![
            (
                self.num_hidden_layers <= text.num_hidden_layers,
                "dit_config.num_hidden_layers must not exceed the text model's",
            ),
            (
                self.head_dim == text.head_dim,
                "dit_config.head_dim must be the text model's",
            ),
            (
                self.num_key_value_heads == text.num_key_value_heads,
                "dit_config.num_key_value_heads must be the text model's",
            ),
            (
                self.hidden_size
                    .is_multiple_of(self.head_dim * self.num_key_value_heads),
                "dit_config.hidden_size must be a multiple of head_dim * num_key_value_heads",
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
