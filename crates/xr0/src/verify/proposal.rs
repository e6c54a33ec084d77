//! Computes the losses of stage 1 and their gradients: the kind `train_proposal`.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::layout::Part;
use crate::model::{Options, Vlm};
use crate::preprocess::{Grid, RgbImage};
use crate::trace::Blind;
use crate::train::gradients::Gradients;
use crate::train::heads::{self, ProposalHeads};
use crate::train::proposal::{
    ProposalBatch, ProposalIds, ProposalLosses, ProposalWeights, proposal, proposal_row,
};
use crate::train::question::{Question, question};
use crate::train::variables::{Frozen, Variables};

use super::array::Array;
use super::case::ProposalKeys;
use super::gradients::Computed;
use super::inputs::{Stored, token_arrays};
use super::judge::Judge;
use super::set::Set;

/// Weights of the heads, which are in no checkpoint.
const WEIGHT: &str = "weight.";

/// What came of a case.
struct Outcome {
    arrays: BTreeMap<String, Array>,
    variables: Variables,
    gradients: Computed,
    vl: Computed,
}

/// Runs a case and holds all that it stores against what came out.
///
/// # Errors
/// A file of the set that cannot be used.
pub(super) fn verify(
    set: &Set,
    checkpoint: &Checkpoint,
    keys: &ProposalKeys,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let stored = Stored::read(set, judge.case, Some(&keys.base))?;
    let names = stored.own.keys().filter(|name| !is_input(name));
    let Some(outcome) = judge.outcome(run(checkpoint, keys, &stored), names) else {
        return Ok(());
    };
    judge.compare_all(&stored.own, is_input, &outcome.arrays, None);
    judge.compare_losses(&keys.losses, &outcome.arrays);
    let names = || outcome.variables.learning().keys().map(String::as_str);
    let frozen = &keys.own.frozen;
    (outcome.gradients).judge(&keys.gradients, names(), frozen, judge);
    // The heads play no part in the picture question.
    let heads = |name: &&str| stored.own.contains_key(&format!("{WEIGHT}{name}"));
    let backbone = names().filter(|name| !heads(name));
    outcome.vl.judge(&keys.vl, backbone, frozen, judge);
    Ok(())
}

fn is_input(name: &str) -> bool {
    ["action", "action_mask", "state"].contains(&name) || name.starts_with(WEIGHT)
}

fn run(checkpoint: &Checkpoint, keys: &ProposalKeys, stored: &Stored) -> Result<Outcome> {
    let variables = variables(checkpoint, keys, stored)?;
    let vlm = Vlm::with_weights(checkpoint, variables.weights(), &Options::plain())?;
    let images = stored.images(&keys.sync)?;
    let (mut arrays, gradients) =
        proposals((checkpoint, &variables), &vlm, keys, (stored, &images))?;
    let vl = picture_question((checkpoint, &variables), &vlm, keys, (&images, &mut arrays))?;
    arrays.extend(gradients.arrays(&keys.gradients, &stored.own)?);
    arrays.extend(vl.arrays(&keys.vl, &stored.own)?);
    Ok(Outcome {
        arrays,
        variables,
        gradients,
        vl,
    })
}

fn variables(checkpoint: &Checkpoint, keys: &ProposalKeys, stored: &Stored) -> Result<Variables> {
    let frozen = Frozen::new(keys.own.frozen.iter().cloned());
    let mut variables = Variables::read(checkpoint, &[Part::Vision, Part::Text], &frozen)?;
    for (name, _) in heads::tensors(checkpoint.config(), keys.own.choices) {
        let weight = stored.tensor(&format!("{WEIGHT}{name}"))?;
        variables.insert(name, &weight, &frozen)?;
    }
    Ok(variables)
}

fn proposals(
    (checkpoint, variables): (&Checkpoint, &Variables),
    vlm: &Vlm,
    keys: &ProposalKeys,
    (stored, images): (&Stored, &[RgbImage]),
) -> Result<(BTreeMap<String, Array>, Computed)> {
    let own = &keys.own;
    let ids = ProposalIds {
        score: own.score_id,
        state: own.state_id,
        first_action: own.first_action_id,
    };
    let config = checkpoint.config();
    let heads = ProposalHeads::load(&variables.weights(), config, own.choices)?;
    let (mut rows, mut rest) = (Vec::new(), images);
    let samples = keys
        .sync
        .prompts
        .iter()
        .zip(&keys.sync.views)
        .zip(&own.steps);
    for ((prompt, views), steps) in samples {
        let (mine, behind) = rest.split_at(views.len().min(rest.len()));
        rest = behind;
        let text = (prompt.as_str(), &*grids(checkpoint, mine)?);
        rows.push(proposal_row(
            (checkpoint.tokenizer(), config),
            text,
            ids,
            *steps,
        )?);
    }
    let prepared = vlm.prepare_rows(&rows, &images.iter().collect::<Vec<_>>())?;
    let [action, mask, state] = ["action", "action_mask", "state"].map(|name| stored.tensor(name));
    let batch = ProposalBatch {
        prepared: &prepared,
        steps: &own.steps,
        action: &action?,
        mask: &mask?,
        state: &state?,
    };
    let share = ProposalWeights {
        choice: own.choice_weight,
        score: own.score_weight,
    };
    let losses = proposal((vlm, &heads), &batch, ids, share, &mut Blind)?;
    let mut arrays = arrays(&losses)?;
    arrays.extend(token_arrays(&prepared.rows, ""));
    Ok((
        arrays,
        Computed::of(Gradients::of(&losses.loss, variables)?)?,
    ))
}

fn arrays(losses: &ProposalLosses) -> Result<BTreeMap<String, Array>> {
    let named: [(&str, &Tensor); 9] = [
        ("loss", &losses.loss),
        ("loss_choice", &losses.choice),
        ("loss_score", &losses.score),
        ("choice.state_embed", &losses.state_embed),
        ("choice.action_hidden", &losses.action_hidden),
        ("choice.actions", &losses.actions),
        ("choice.score_hidden", &losses.score_hidden),
        ("choice.scores", &losses.scores),
        ("choice.distance", &losses.distance),
    ];
    let one = |(name, tensor): (&str, &Tensor)| Ok((name.to_owned(), Array::computed(tensor)?));
    let mut arrays = named
        .into_iter()
        .map(one)
        .collect::<Result<BTreeMap<_, _>>>()?;
    let winner = Array::counts(&[losses.winner.len()], &losses.winner);
    arrays.insert("choice.winner".to_owned(), winner);
    Ok(arrays)
}

/// Asks about the base's first image.
fn picture_question(
    (checkpoint, variables): (&Checkpoint, &Variables),
    vlm: &Vlm,
    keys: &ProposalKeys,
    (images, arrays): (&[RgbImage], &mut BTreeMap<String, Array>),
) -> Result<Computed> {
    let first = images.get(..1).unwrap_or(images);
    let grid = grids(checkpoint, first)?.first().copied().unwrap_or(Grid {
        rows: 0,
        columns: 0,
    });
    let text = (keys.own.vl.question.as_str(), keys.own.vl.answer.as_str());
    let talk = Question::new((checkpoint.tokenizer(), checkpoint.config()), text, grid)?;
    let prepared = vlm.prepare_rows(
        std::slice::from_ref(&talk.row),
        &first.iter().collect::<Vec<_>>(),
    )?;
    let losses = question(vlm, &prepared, &talk, &mut Blind)?;
    arrays.extend(token_arrays(&prepared.rows, "vl."));
    let labels: Vec<_> = talk.labels().iter().map(|label| *label as f64).collect();
    arrays.insert(
        "vl.labels".to_owned(),
        Array::new(&[1, labels.len()], &labels),
    );
    arrays.insert(
        "vl.token_loss".to_owned(),
        Array::computed(&losses.token_loss)?,
    );
    arrays.insert("vl_loss".to_owned(), Array::computed(&losses.loss)?);
    Computed::of(Gradients::of(&losses.loss, variables)?)
}

fn grids(checkpoint: &Checkpoint, images: &[RgbImage]) -> Result<Vec<Grid>> {
    let grid = |image: &RgbImage| checkpoint.preprocessor().grid(image);
    images.iter().map(grid).collect()
}
