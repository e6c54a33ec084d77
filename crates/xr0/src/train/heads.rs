//! The proposal heads of stage 1: embeddings of state, action and score tokens, and what is read
//! off their hidden states (reference §9.2).
//!
//! They exist in training alone: no checkpoint has them. `H` is the text model's width, `A` the
//! slots of an action, `N` the candidates. All layers are without bias, with a tanh-GELU between
//! them. The shape of the heads is that of the successor's published training code.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::config::Config;
use crate::error::Result;

/// Layers of a head in front of its last one: every second index is an activation.
const HEAD_LAYERS: [usize; 4] = [0, 2, 4, 6];
/// Layers of the state's projector.
const STATE_LAYERS: [usize; 2] = [0, 2];

/// The heads.
#[derive(Debug, Clone)]
pub struct ProposalHeads {
    state_projector_choice: Chain,
    action_embed_choice: Tensor,
    score_embed_choice: Tensor,
    action_projector_choice: Head,
    score_projector_choice: Head,
    choices: usize,
    slots: usize,
}

/// Lists the heads' tensors: names and shapes.
pub fn tensors(config: &Config, choices: usize) -> Vec<(String, Vec<usize>)> {
    let h = config.text().hidden_size;
    let mut list = vec![
        (
            "state_projector_choice.layers.0.weight".to_owned(),
            vec![h, config.state_dim],
        ),
        (
            "state_projector_choice.layers.2.weight".to_owned(),
            vec![h, h],
        ),
        (
            "action_embed_choice.weight".to_owned(),
            vec![config.action_length, h],
        ),
        ("score_embed_choice.weight".to_owned(), vec![1, h]),
    ];
    for (head, width) in widths(config, choices) {
        let inner = HEAD_LAYERS.map(|i| (format!("{head}.0.layers.{i}.weight"), vec![h, h]));
        list.extend(inner);
        list.push((format!("{head}.1.layers.0.weight"), vec![width, h]));
    }
    list
}

fn widths(config: &Config, choices: usize) -> [(&'static str, usize); 2] {
    [
        ("action_projector_choice", config.action_dim * choices),
        ("score_projector_choice", choices),
    ]
}

impl ProposalHeads {
    /// Loads the heads for `choices` candidates.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape: see [`tensors`].
    pub fn load(weights: &VarBuilder<'_>, config: &Config, choices: usize) -> Result<Self> {
        let h = config.text().hidden_size;
        let state = weights.pp("state_projector_choice.layers");
        let [actions, scores] = widths(config, choices);
        let embedding = |name: &str, rows: usize| weights.pp(name).get((rows, h), "weight");
        Ok(Self {
            state_projector_choice: Chain::load(&state, &STATE_LAYERS, (config.state_dim, h))?,
            action_embed_choice: embedding("action_embed_choice", config.action_length)?,
            score_embed_choice: embedding("score_embed_choice", 1)?,
            action_projector_choice: Head::load(&weights.pp(actions.0), h, actions.1)?,
            score_projector_choice: Head::load(&weights.pp(scores.0), h, scores.1)?,
            choices,
            slots: config.action_dim,
        })
    }

    /// Embeds states: `(b, 1, state_dim)` → `(b, 1, H)`.
    ///
    /// # Errors
    /// Another width.
    pub fn embed_state(&self, state: &Tensor) -> Result<Tensor> {
        self.state_projector_choice.forward(state)
    }

    /// Embeds the action tokens of a sample with `steps` actions and its score token:
    /// `(steps + 1, H)`.
    ///
    /// # Errors
    /// More actions than there are embeddings.
    pub fn embed_actions_and_score(&self, steps: usize) -> Result<Tensor> {
        let actions = self.action_embed_choice.narrow(0, 0, steps)?;
        Ok(Tensor::cat(&[&actions, &self.score_embed_choice], 0)?)
    }

    /// Reads the candidates off the hidden states of action tokens: `(n, H)` → `(n, N, A)`.
    ///
    /// # Errors
    /// Another width.
    pub fn actions(&self, hidden: &Tensor) -> Result<Tensor> {
        let flat = self.action_projector_choice.forward(hidden)?; // (n, N·A)
        Ok(flat.reshape((hidden.dim(0)?, self.choices, self.slots))?)
    }

    /// Reads the scores off the hidden states of score tokens: `(b, H)` → `(b, N)`.
    ///
    /// # Errors
    /// Another width.
    pub fn scores(&self, hidden: &Tensor) -> Result<Tensor> {
        self.score_projector_choice.forward(hidden)
    }
}

/// A chain with one more linear layer directly behind.
#[derive(Debug, Clone)]
struct Head {
    inner: Chain,
    last: Chain,
}

impl Head {
    fn load(weights: &VarBuilder<'_>, h: usize, width: usize) -> Result<Self> {
        Ok(Self {
            inner: Chain::load(&weights.pp("0.layers"), &HEAD_LAYERS, (h, h))?,
            last: Chain::load(&weights.pp("1.layers"), &[0], (h, width))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.last.forward(&self.inner.forward(x)?)
    }
}

/// Linear layers without bias, a tanh-GELU between them and nothing after the last.
#[derive(Debug, Clone)]
struct Chain(Vec<Tensor>);

impl Chain {
    /// The first layer is `n_in` → `n_out`, all others `n_out` → `n_out`.
    fn load(
        weights: &VarBuilder<'_>,
        indexes: &[usize],
        (n_in, n_out): (usize, usize),
    ) -> Result<Self> {
        let sizes = std::iter::once(n_in).chain(std::iter::repeat(n_out));
        let layers = indexes.iter().zip(sizes);
        let layer = |(index, n_in): (&usize, usize)| weights.pp(index).get((n_out, n_in), "weight");
        Ok(Self(layers.map(layer).collect::<candle_core::Result<_>>()?))
    }

    /// `(…, n_in)` → `(…, n_out)`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (index, weight) in self.0.iter().enumerate() {
            if index > 0 {
                y = y.gelu()?;
            }
            y = y.broadcast_matmul(&weight.t()?)?;
        }
        Ok(y)
    }
}
