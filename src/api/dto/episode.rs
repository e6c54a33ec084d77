//! Episodes, the logs of tries, as clients see them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::Schema;
use utoipa::{IntoParams, ToSchema};
use vlad_store::episode::{EpisodeState, EpisodeSummary};
use vlad_wire::clock::MS;
use vlad_wire::id::EpisodeId;

use super::cell::Policy;
use super::task::words;

/// An episode at a glance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Episode {
    /// Id: the task's, a hyphen, the try.
    #[schema(example = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A-1")]
    pub id: String,
    /// The task that it is a try at.
    pub task: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// The cell.
    pub cell: String,
    /// What was asked.
    pub instruction: String,
    /// Whether it is whole: `recovered` means that its writer died.
    #[schema(schema_with = states)]
    pub state: String,
    /// The task's state at its end, such as `succeeded`; `null` without an orderly end.
    pub outcome: Option<String>,
    /// Why it ended so.
    pub reason: Option<String>,
    /// When it began, milliseconds since 1970.
    pub began_at_ms: u64,
    /// When it ended, milliseconds since 1970.
    pub ended_at_ms: Option<u64>,
    /// From its first to its last stamp, milliseconds.
    pub duration_ms: u64,
    /// Epoch of its lease.
    pub epoch: u64,
    /// Seed of its noise.
    pub seed: u64,
    /// The policy that decided.
    pub policy: Option<Policy>,
    /// Hash of the checkpoint, hexadecimal.
    pub model_hash: Option<String>,
    /// Hash of the merged configuration, hexadecimal.
    pub config_hash: Option<String>,
    /// The build that wrote it.
    pub package: String,
    /// Records by kind.
    pub records: BTreeMap<String, u64>,
    /// Images by view.
    pub views: BTreeMap<String, EpisodeView>,
    /// Records and images that were dropped under pressure.
    pub dropped: u64,
    /// From so many milliseconds after its beginning it cannot be replayed; `null` if it can.
    pub not_replayable_from_ms: Option<u64>,
}

/// What an episode has of one view.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EpisodeView {
    /// Images.
    pub frames: u64,
    /// Those of them that a context was computed from, stored without loss.
    pub context_frames: u64,
    /// Smallest number of an image.
    pub first_n: u64,
    /// Largest number of an image.
    pub last_n: u64,
    /// Path of the first image; each image's `link` header leads to the next.
    pub first: String,
}

/// A page of episodes, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EpisodeList {
    /// The episodes.
    pub items: Vec<Episode>,
    /// Ids of episodes of this page whose head is damaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which episodes to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EpisodeFilter {
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    pub cursor: Option<EpisodeId>,
    /// At most so many, 1 to 1000; 50 if left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

impl From<&EpisodeSummary> for Episode {
    fn from(summary: &EpisodeSummary) -> Self {
        let (meta, ending) = (&summary.meta, summary.ending.as_ref());
        let since_begin_ms = |at_ns: u64| at_ns.saturating_sub(meta.began_at_ns) / MS;
        let replayable_until = ending.and_then(|ending| ending.not_replayable_from_ns);
        let records = summary.counts.iter();
        let views = summary.views.iter().map(|(view, images)| {
            let first = format!("/v1/episodes/{}/frames/{view}/{}", meta.id, images.first_n);
            let images = EpisodeView {
                frames: images.frames,
                context_frames: images.context_frames,
                first_n: images.first_n,
                last_n: images.last_n,
                first,
            };
            (view.to_string(), images)
        });
        Self {
            id: meta.id.to_string(),
            task: meta.id.task.to_string(),
            attempt: meta.id.attempt,
            cell: meta.cell.to_string(),
            instruction: meta.instruction.to_string(),
            state: summary.state.name().to_owned(),
            outcome: ending.map(|ending| ending.outcome.to_string()),
            reason: ending
                .and_then(|ending| ending.reason.as_ref())
                .map(ToString::to_string),
            began_at_ms: meta.began_at_ms,
            ended_at_ms: ending.map(|ending| ending.ended_at_ms),
            duration_ms: summary.duration_ns() / MS,
            epoch: meta.epoch,
            seed: meta.seed,
            policy: meta.policy.as_ref().map(|label| Policy {
                name: label.name.to_string(),
                note: label.note.to_string(),
            }),
            model_hash: meta.model_hash.as_ref().map(|hash| hex(hash)),
            config_hash: meta.config_hash.as_ref().map(|hash| hex(hash)),
            package: meta.package.to_string(),
            records: records
                .map(|(kind, n)| (kind.name().to_owned(), *n))
                .collect(),
            views: views.collect(),
            dropped: ending.map_or(0, |ending| ending.dropped),
            not_replayable_from_ms: replayable_until.map(since_begin_ms),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn states() -> Schema {
    words(
        [
            EpisodeState::Open,
            EpisodeState::Finished,
            EpisodeState::Recovered,
        ]
        .map(EpisodeState::name),
    )
}
