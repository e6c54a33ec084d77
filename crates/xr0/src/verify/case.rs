//! What `cases.json` says: the cases of a set, each with its kind's keys.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::dit::layout::Kind;

/// A case.
#[derive(Debug)]
pub(super) struct Case {
    /// Its name.
    pub(super) name: String,
    /// Its kind, as the set calls it.
    pub(super) kind: String,
    /// What is to be done.
    pub(super) work: Work,
}

/// What is to be done for a case.
#[derive(Debug)]
pub(super) enum Work {
    /// Run the network (`sync`, `sync_rope_bf16`, `async`).
    Network(NetworkKeys),
    /// Flow matching with gradients (`train`, `train_causal`).
    Flow(FlowKeys),
    /// Candidate chunks and a picture question, with gradients (`train_proposal`).
    Proposal(ProposalKeys),
    /// Resize images (`preprocess`).
    Preprocess(Vec<PreprocessRow>),
    /// Tokenise the texts of this file (`tokenizer`).
    Tokenizer(String),
    /// Not known here.
    Unknown,
}

/// How to run the network.
#[derive(Debug)]
pub(super) struct NetworkKeys {
    /// Images, prompts and robot type.
    pub(super) sync: SyncKeys,
    /// The case that inputs come from where the file has none of its own.
    pub(super) base: Option<String>,
    /// Steps of the sampler.
    pub(super) num_steps: usize,
    /// Whether the rotary frequencies are rounded to bf16.
    pub(super) rope_bf16: bool,
    /// Profile B; profile A where there is none.
    pub(super) prefix: Option<PrefixKeys>,
}

/// Keys of the kind `sync`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SyncKeys {
    /// Whose tables of mean and deviation.
    pub(super) robot_type: String,
    /// Labels of the views of each prompt.
    pub(super) views: Vec<Vec<String>>,
    /// The bare sentences.
    pub(super) instructions: Vec<String>,
    /// The whole prompts, image placeholders not repeated.
    pub(super) prompts: Vec<String>,
    /// Steps of the sampler.
    num_steps: usize,
    /// First text layer whose keys and values the action expert reads.
    pub(super) dit_first_kv_layer: usize,
}

/// Keys that a case of profile B has.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct PrefixKeys {
    /// Actions of the clean prefix.
    pub(super) prefix_length: usize,
    local_window: usize,
    position_gap: u32,
}

/// Keys of a case with a base.
#[derive(Debug, Deserialize)]
struct BaseKeys {
    base: String,
}

/// Keys of the number of the sampler's steps.
#[derive(Debug, Deserialize)]
struct StepKeys {
    num_steps: usize,
}

/// How to compute a loss of flow matching.
#[derive(Debug)]
pub(super) struct FlowKeys {
    /// Images, prompts and robot type.
    pub(super) sync: SyncKeys,
    /// The case that they come from.
    pub(super) base: String,
    /// Noises and times of each sample.
    pub(super) repeat: usize,
    /// Tensors that get no gradient.
    pub(super) frozen: Vec<String>,
    /// Prefix and steps of the online sample in post-training; none in stage 2.
    pub(super) post: Option<(PrefixKeys, usize)>,
    /// The losses by name.
    pub(super) losses: BTreeMap<String, f64>,
    /// Of the loss.
    pub(super) gradients: GradientKeys,
    /// Of the loss with the spectral term.
    pub(super) with_freq: Option<GradientKeys>,
}

/// Keys of the kinds `train` and `train_causal` that mean the same in both.
#[derive(Debug, Deserialize)]
struct RepeatKeys {
    repeat: usize,
    frozen: Vec<String>,
}

/// How to compute the losses of stage 1.
#[derive(Debug)]
pub(super) struct ProposalKeys {
    /// Images, prompts and robot type.
    pub(super) sync: SyncKeys,
    /// The case that they come from.
    pub(super) base: String,
    /// Sizes, ids and weights.
    pub(super) own: ProposalOwnKeys,
    /// The losses by name.
    pub(super) losses: BTreeMap<String, f64>,
    /// Of the proposal loss.
    pub(super) gradients: GradientKeys,
    /// Of the picture question's loss.
    pub(super) vl: GradientKeys,
}

/// Keys of the kind `train_proposal`.
#[derive(Debug, Deserialize)]
pub(super) struct ProposalOwnKeys {
    /// Candidates.
    pub(super) choices: usize,
    /// Action tokens of each sample.
    pub(super) steps: Vec<usize>,
    /// Token id of the score.
    pub(super) score_id: u32,
    /// Token id of the state.
    pub(super) state_id: u32,
    /// Token id of the first action.
    pub(super) first_action_id: u32,
    /// Share of the winner's distance.
    pub(super) choice_weight: f64,
    /// Share of the scores' error.
    pub(super) score_weight: f64,
    /// The picture question.
    pub(super) vl: QuestionKeys,
    /// Tensors that get no gradient.
    pub(super) frozen: Vec<String>,
}

/// A picture question.
#[derive(Debug, Deserialize)]
pub(super) struct QuestionKeys {
    /// What is asked.
    pub(super) question: String,
    /// What the answer should be.
    pub(super) answer: String,
}

/// What is stored of one loss's gradients, beside the tensors.
#[derive(Debug)]
pub(super) struct GradientKeys {
    /// What the set calls this loss: nothing, `_with_freq` or `_vl`.
    pub(super) suffix: &'static str,
    /// What the names of its stored tensors begin with.
    pub(super) tag: &'static str,
    /// L2 norms by name.
    pub(super) norms: BTreeMap<String, f64>,
    /// The norm of all together.
    pub(super) total: f64,
    /// Tensors that are not frozen and get none.
    pub(super) absent: Vec<String>,
}

/// A row of the kind `preprocess`.
#[derive(Debug, Deserialize)]
pub(super) struct PreprocessRow {
    /// Height and width.
    pub(super) size: [usize; 2],
    /// Fewest pixels.
    pub(super) min_pixels: usize,
    /// Most pixels.
    pub(super) max_pixels: usize,
    /// Height and width after the resize.
    pub(super) resized: [usize; 2],
    /// Frames, rows and columns of patches.
    pub(super) grid_thw: [usize; 3],
}

impl PrefixKeys {
    /// The expert's profile.
    pub(super) fn kind(self) -> Kind {
        Kind::B {
            local_window: self.local_window,
            position_gap: self.position_gap,
        }
    }
}

/// Understands all cases, those without a base first; the error says what is wrong with one.
pub(super) fn cases(all: &BTreeMap<String, Value>) -> Result<Vec<Case>, String> {
    let case = |(name, keys): (&String, &Value)| {
        let raw = Raw { name, keys, all };
        let kind: String = raw.key("kind")?;
        let work = raw.work(&kind)?;
        let name = name.clone();
        Ok(Case { name, kind, work })
    };
    let mut cases = all.iter().map(case).collect::<Result<Vec<_>, String>>()?;
    cases.sort_by_key(|case| match &case.work {
        Work::Network(keys) if keys.base.is_none() => 0,
        Work::Network(_) => 1,
        Work::Flow(_) | Work::Proposal(_) => 2,
        Work::Preprocess(_) | Work::Tokenizer(_) | Work::Unknown => 3,
    });
    Ok(cases)
}

/// A case that is not understood yet.
struct Raw<'a> {
    name: &'a str,
    keys: &'a Value,
    all: &'a BTreeMap<String, Value>,
}

impl Raw<'_> {
    fn work(&self, kind: &str) -> Result<Work, String> {
        Ok(match kind {
            "sync" => {
                let sync: SyncKeys = self.keys()?;
                Work::Network(NetworkKeys {
                    num_steps: sync.num_steps,
                    sync,
                    base: None,
                    rope_bf16: false,
                    prefix: None,
                })
            }
            "sync_rope_bf16" | "async" => {
                let (base, sync) = self.base()?;
                let rope_bf16 = kind != "async";
                Work::Network(NetworkKeys {
                    sync,
                    base: Some(base),
                    num_steps: self.keys::<StepKeys>()?.num_steps,
                    rope_bf16,
                    prefix: if rope_bf16 { None } else { Some(self.keys()?) },
                })
            }
            "train" | "train_causal" => Work::Flow(self.flow(kind == "train")?),
            "train_proposal" => Work::Proposal(self.proposal()?),
            "preprocess" => Work::Preprocess(self.key("rows")?),
            "tokenizer" => Work::Tokenizer(self.key("file")?),
            _ => Work::Unknown,
        })
    }

    fn flow(&self, is_post: bool) -> Result<FlowKeys, String> {
        let (base, sync) = self.base()?;
        let RepeatKeys { repeat, frozen } = self.keys()?;
        if repeat == 0 {
            return Err(format!("case {}: repeat must be at least 1", self.name));
        }
        let post = || Ok::<_, String>((self.keys()?, self.keys::<StepKeys>()?.num_steps));
        let with_freq = || self.gradients("_with_freq", "grad_freq.", "");
        Ok(FlowKeys {
            sync,
            base,
            repeat,
            frozen,
            post: is_post.then(post).transpose()?,
            losses: self.losses(),
            gradients: self.gradients("", "grad.", "")?,
            with_freq: is_post.then(with_freq).transpose()?,
        })
    }

    fn proposal(&self) -> Result<ProposalKeys, String> {
        let (base, sync) = self.base()?;
        Ok(ProposalKeys {
            sync,
            base,
            own: self.keys()?,
            losses: self.losses(),
            gradients: self.gradients("", "grad.", "")?,
            vl: self.gradients("_vl", "grad_vl.", "_vl")?,
        })
    }

    /// The names that begin with `loss` or end in `_loss`, with their numbers.
    fn losses(&self) -> BTreeMap<String, f64> {
        let keys = self.keys.as_object().into_iter().flatten();
        let losses = keys.filter(|(key, _)| key.starts_with("loss") || key.ends_with("_loss"));
        // A loss that is no number equals nothing.
        losses
            .map(|(key, value)| (key.clone(), value.as_f64().unwrap_or(f64::NAN)))
            .collect()
    }

    fn gradients(
        &self,
        suffix: &'static str,
        tag: &'static str,
        absent: &str,
    ) -> Result<GradientKeys, String> {
        Ok(GradientKeys {
            suffix,
            tag,
            norms: self.key(&format!("grad_norms{suffix}"))?,
            total: self.key(&format!("grad_norm_total{suffix}"))?,
            absent: self.key(&format!("grads_absent{absent}"))?,
        })
    }

    fn base(&self) -> Result<(String, SyncKeys), String> {
        let BaseKeys { base } = self.keys()?;
        let keys = self.all.get(&base);
        let keys = keys.filter(|keys| keys.get("kind") == Some(&Value::from("sync")));
        let Some(keys) = keys else {
            let name = self.name;
            return Err(format!(
                "case {name}: base {base} is no case of the kind sync"
            ));
        };
        let raw = Raw {
            name: &base,
            keys,
            all: self.all,
        };
        let sync = raw.keys()?;
        Ok((base, sync))
    }

    fn keys<T: DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(self.keys).map_err(|error| format!("case {}: {error}", self.name))
    }

    fn key<T: DeserializeOwned>(&self, key: &str) -> Result<T, String> {
        let value = self.keys.get(key).unwrap_or(&Value::Null);
        T::deserialize(value).map_err(|error| format!("case {}: {key}: {error}", self.name))
    }
}
