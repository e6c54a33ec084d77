//! What an episode is, as it is written and as it is read.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vlad_wire::codec::Packet;
use vlad_wire::id::{CellId, EpisodeId, Epoch, Tick, View};
use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::msg::sense::{Frame, FrameHead};
use vlad_wire::msg::think::Digest;
use vlad_wire::text::{Instruction, Name, Note};

use crate::jpeg::{self, JpegError};
use crate::png::{self, PngError};

/// What is known of an episode when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeMeta {
    /// Id: task and try.
    pub id: EpisodeId,
    /// The cell.
    pub cell: CellId,
    /// What was asked.
    pub instruction: Instruction,
    /// Epoch of the lease.
    pub epoch: Epoch,
    /// Seed of the noise.
    pub seed: u64,
    /// When it began, monotonic: the zero of its records' stamps.
    pub began_at_ns: u64,
    /// When it began, wall time, milliseconds since 1970.
    pub began_at_ms: u64,
    /// The policy, as far as it is known then.
    pub policy: Option<PolicyLabel>,
    /// The checkpoint.
    pub model_hash: Option<Digest>,
    /// The normaliser.
    pub normaliser_hash: Option<Digest>,
    /// The merged configuration.
    pub config_hash: Option<Digest>,
    /// Compute threads: numbers depend on their count.
    pub n_threads: Option<u16>,
    /// Which build wrote it.
    pub package: Note,
}

/// Whether an episode is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpisodeState {
    /// Being written.
    Open,
    /// Ended by its writer.
    Finished,
    /// Its writer died; what was flushed is there.
    Recovered,
}

impl EpisodeState {
    /// The state's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Finished => "finished",
            Self::Recovered => "recovered",
        }
    }
}

/// How an episode ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The task's state at the end, such as `succeeded`.
    pub outcome: Name,
    /// Why.
    pub reason: Option<Note>,
    /// When, monotonic.
    pub ended_at_ns: u64,
    /// When, wall time, milliseconds since 1970.
    pub ended_at_ms: u64,
    /// From this stamp on lossless frames are missing: it cannot be replayed from there.
    pub not_replayable_from_ns: Option<u64>,
    /// Records and images that were dropped under pressure.
    pub dropped: u64,
}

/// What an episode has of one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSummary {
    /// Images.
    pub frames: u64,
    /// Those of them that a context was computed from.
    pub context_frames: u64,
    /// Smallest number of an image.
    pub first_n: u64,
    /// Largest number of an image.
    pub last_n: u64,
}

/// An episode at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeSummary {
    /// What it is.
    pub meta: EpisodeMeta,
    /// Whether it is whole.
    pub state: EpisodeState,
    /// How it ended, if its writer said so.
    pub ending: Option<Ending>,
    /// Records by kind; a kind's sequence numbers are those below its count.
    pub counts: BTreeMap<crate::record::RecordKind, u64>,
    /// Images by view.
    pub views: BTreeMap<View, ViewSummary>,
    /// Earliest stamp of a record or image.
    pub first_at_ns: Option<u64>,
    /// Latest stamp of a record or image.
    pub last_at_ns: Option<u64>,
}

impl EpisodeSummary {
    pub(crate) fn new(meta: EpisodeMeta) -> Self {
        Self {
            meta,
            state: EpisodeState::Open,
            ending: None,
            counts: BTreeMap::new(),
            views: BTreeMap::new(),
            first_at_ns: None,
            last_at_ns: None,
        }
    }

    /// From the earliest to the latest stamp, nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        let ends = self.last_at_ns.zip(self.first_at_ns);
        ends.map_or(0, |(last, first)| last.saturating_sub(first))
    }

    pub(crate) fn saw(&mut self, at_ns: u64) {
        self.first_at_ns = Some(self.first_at_ns.map_or(at_ns, |first| first.min(at_ns)));
        self.last_at_ns = Some(self.last_at_ns.map_or(at_ns, |last| last.max(at_ns)));
    }

    pub(crate) fn saw_image(&mut self, n: u64, head: &FrameHead, for_context: bool) {
        self.saw(head.captured_at_ns);
        let none = ViewSummary {
            frames: 0,
            context_frames: 0,
            first_n: n,
            last_n: n,
        };
        let view = self.views.entry(head.view.clone()).or_insert(none);
        view.frames += 1;
        view.context_frames += u64::from(for_context);
        view.first_n = view.first_n.min(n);
        view.last_n = view.last_n.max(n);
    }
}

/// A page of episodes.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodePage {
    /// Episodes, newest first.
    pub items: Vec<EpisodeSummary>,
    /// Episodes of the page whose head is damaged.
    pub damaged: Vec<EpisodeId>,
    /// Cursor of the next page, if there is one.
    pub next: Option<EpisodeId>,
}

/// When something was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Monotonic time.
    pub at_ns: u64,
    /// Policy tick, where it has one.
    pub tick: Option<Tick>,
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Place among the episode's records of this kind, from 0.
    pub seq: u64,
    /// When it was.
    pub stamp: Stamp,
    /// The message as it travelled.
    pub packet: Packet,
}

/// Bytes of an image in their format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageData {
    /// With loss, for people.
    Jpeg(Bytes),
    /// Without loss, for replay.
    Png(Bytes),
}

impl ImageData {
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Jpeg(bytes) | Self::Png(bytes) => bytes,
        }
    }

    pub(crate) fn format(&self) -> u8 {
        match self {
            Self::Jpeg(_) => 1,
            Self::Png(_) => 2,
        }
    }

    pub(crate) fn of(format: u8, bytes: Bytes) -> Option<Self> {
        match format {
            1 => Some(Self::Jpeg(bytes)),
            2 => Some(Self::Png(bytes)),
            _ => None,
        }
    }
}

/// An image to write, and as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Number within episode and view, such as the camera's own count.
    pub n: u64,
    /// What it is; its view says which view it is of.
    pub head: FrameHead,
    /// Whether a context was computed from it.
    pub for_context: bool,
    /// Its bytes.
    pub data: ImageData,
}

/// An image that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The stored PNG cannot be read.
    #[error(transparent)]
    Png(#[from] PngError),
    /// It cannot be encoded as JPEG.
    #[error(transparent)]
    Jpeg(#[from] JpegError),
}

impl StoredImage {
    /// Gives the image as JPEG: as it is, or encoded from the lossless one.
    ///
    /// # Errors
    /// [`ShowError`] if the lossless image is not what its header says.
    pub fn jpeg(&self, quality: u8) -> Result<Bytes, ShowError> {
        match &self.data {
            ImageData::Jpeg(bytes) => Ok(bytes.clone()),
            ImageData::Png(bytes) => {
                let frame: Frame = png::decode(bytes, &self.head)?;
                Ok(jpeg::encode(&frame, quality)?.into())
            }
        }
    }
}

/// An image without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Number within episode and view.
    pub n: u64,
    /// What it is.
    pub head: FrameHead,
    /// Whether a context was computed from it.
    pub for_context: bool,
    /// Whether it is stored without loss.
    pub lossless: bool,
}
