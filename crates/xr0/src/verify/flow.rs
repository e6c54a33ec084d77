//! Computes the losses of flow matching and their gradients: the kinds `train` and `train_causal`.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::layout::Part;
use crate::model::{ActionExpert, Options, Profile, Vlm};
use crate::trace::{Blind, Kept};
use crate::train::flow::{
    Batch, CausalLosses, Experts, PostTrainingLosses, PrefixDraw, causal, post_training,
};
use crate::train::gradients::Gradients;
use crate::train::variables::{Frozen, Variables};

use super::array::Array;
use super::case::{FlowKeys, PrefixKeys};
use super::gradients::Computed;
use super::inputs::{Stored, prompts};
use super::judge::Judge;
use super::set::Set;

/// Stored tensors that go into the loss.
const INPUTS: [&str; 6] = [
    "action",
    "action_mask",
    "hidden_prefix",
    "noise",
    "state",
    "t",
];

/// What came of a case.
struct Outcome {
    arrays: BTreeMap<String, Array>,
    variables: Variables,
    gradients: Computed,
    with_freq: Option<Computed>,
}

/// The loss under the name of its tensor.
type Named<'a> = (&'static str, &'a Tensor);

/// Runs a case and holds all that it stores against what came out.
///
/// # Errors
/// A file of the set that cannot be used.
pub(super) fn verify(
    set: &Set,
    checkpoint: &Checkpoint,
    keys: &FlowKeys,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let stored = Stored::read(set, judge.case, Some(&keys.base))?;
    let is_input = |name: &str| INPUTS.contains(&name);
    let names = stored.own.keys().filter(|name| !is_input(name));
    let Some(outcome) = judge.outcome(run(checkpoint, keys, &stored), names) else {
        return Ok(());
    };
    judge.compare_all(&stored.own, is_input, &outcome.arrays, None);
    judge.compare_losses(&keys.losses, &outcome.arrays);
    let names = || outcome.variables.learning().keys().map(String::as_str);
    (outcome.gradients).judge(&keys.gradients, names(), &keys.frozen, judge);
    if let (Some(keys_freq), Some(computed)) = (&keys.with_freq, &outcome.with_freq) {
        computed.judge(keys_freq, names(), &keys.frozen, judge);
    }
    Ok(())
}

fn run(checkpoint: &Checkpoint, keys: &FlowKeys, stored: &Stored) -> Result<Outcome> {
    let frozen = Frozen::new(keys.frozen.iter().cloned());
    let parts = [Part::Vision, Part::Text, Part::ActionExpert];
    let variables = Variables::read(checkpoint, &parts, &frozen)?;
    let options = Options {
        profile: Profile {
            kind: (keys.post).map_or_else(Default::default, |(prefix, _)| prefix.kind()),
            ..Profile::default()
        },
        ..Options::plain()
    };
    let vlm = Vlm::with_weights(checkpoint, variables.weights(), &options)?;
    let config = checkpoint.config();
    let expert = ActionExpert::with_weights(config, variables.weights(), &options)?;
    let still = ActionExpert::with_weights(config, variables.still(), &options)?;
    let images = stored.images(&keys.sync)?;
    let prepared = vlm.prepare(&prompts(&keys.sync, &images)?)?;
    let context = vlm.forward(&prepared, None, &mut Blind)?.context;
    let batch = Batch {
        action: stored.tensor("action")?,
        mask: stored.tensor("action_mask")?,
        state: stored.tensor("state")?,
        noise: stored.tensor("noise")?,
        t: stored.need("t")?.values.clone(),
    };
    let mut trace = Kept::default();
    let mut outcome = match keys.post {
        None => {
            let losses = causal(&expert, &context, &batch, &mut trace)?;
            of_causal(&losses, variables)?
        }
        Some((prefix, steps)) => {
            let experts = Experts {
                learning: &expert,
                still: &still,
                steps,
            };
            let prefix = draw(prefix, stored);
            let losses = post_training(experts, &context, &batch, &prefix, &mut trace)?;
            of_post_training(&losses, variables)?
        }
    };
    outcome.add_gradients(keys, stored)?;
    outcome.add_conditions(&trace, keys.repeat)?;
    Ok(outcome)
}

fn of_causal(losses: &CausalLosses, variables: Variables) -> Result<Outcome> {
    let named = [
        ("loss", &losses.loss),
        ("pred", &losses.pred),
        ("target", &losses.target),
        ("x_t", &losses.x_t),
    ];
    Ok(Outcome {
        arrays: arrays(&named)?,
        gradients: Computed::of(Gradients::of(&losses.loss, &variables)?)?,
        with_freq: None,
        variables,
    })
}

fn of_post_training(losses: &PostTrainingLosses, variables: Variables) -> Result<Outcome> {
    let mut named = vec![
        ("loss", &losses.loss),
        ("loss_freq", &losses.frequency),
        ("loss_mse", &losses.mse),
        ("pred", &losses.pred),
        ("target", &losses.target),
        ("weight_final", &losses.weights),
        ("x_t", &losses.x_t),
    ];
    named.extend(
        losses
            .online
            .iter()
            .map(|online| ("online_actions", online)),
    );
    let both = losses.with_frequency()?;
    Ok(Outcome {
        arrays: arrays(&named)?,
        gradients: Computed::of(Gradients::of(&losses.loss, &variables)?)?,
        with_freq: Some(Computed::of(Gradients::of(&both, &variables)?)?),
        variables,
    })
}

impl Outcome {
    fn add_gradients(&mut self, keys: &FlowKeys, stored: &Stored) -> Result<()> {
        self.arrays
            .extend(self.gradients.arrays(&keys.gradients, &stored.own)?);
        if let (Some(keys), Some(computed)) = (&keys.with_freq, &self.with_freq) {
            self.arrays.extend(computed.arrays(keys, &stored.own)?);
        }
        Ok(())
    }

    /// Positions and mask are stored once a sample, and computed once a row.
    fn add_conditions(&mut self, trace: &Kept, repeat: usize) -> Result<()> {
        for (name, rows) in [("dit.position_ids", 1), ("dit.attn_mask", 0)] {
            if let Some(tensor) = trace.get(name) {
                let array = Array::computed(tensor)?.every(repeat, rows);
                self.arrays.insert(name.to_owned(), array);
            }
        }
        Ok(())
    }
}

fn draw(prefix: PrefixKeys, stored: &Stored) -> PrefixDraw {
    let hidden = stored.own.get("hidden_prefix");
    PrefixDraw {
        length: prefix.prefix_length,
        hidden: hidden.map_or_else(Vec::new, |flags| {
            flags.values.iter().map(|flag| *flag != 0.0).collect()
        }),
    }
}

fn arrays(named: &[Named<'_>]) -> Result<BTreeMap<String, Array>> {
    let one = |(name, tensor): &Named<'_>| Ok(((*name).to_owned(), Array::computed(tensor)?));
    named.iter().map(one).collect()
}
