//! The episode log: an index in sled, image bytes in segment files.
//!
//! | | |
//! |---|---|
//! | promise | what was written before [`EpisodeStore::flush`] returned is there after a crash |
//! | damage | each value has its checksum; a bad one is an error value, never garbage |
//! | a lost writer | an episode that was never finished is marked `recovered` at the next open |
//! | threads | a handle is cheap to clone; readers do not wait for the disk of writers |
//! | layout | `migrations/episodes.md`; the number stands in the index, a newer one is refused |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use vlad_wire::codec::{CodecError, Packet};
use vlad_wire::id::{EpisodeId, Tick, View};
use vlad_wire::msg::sense::FrameHead;

use crate::episode::{
    Ending, EpisodeMeta, EpisodePage, EpisodeState, EpisodeSummary, FrameEntry, ImageData, Stamp,
    StoredImage, StoredRecord,
};
use crate::record::{HEAD, IMAGE, RecordError, RecordKind, decode, encode, seal, unseal};
use crate::segment::{self, Place, SegmentError, Segments};

mod index;
mod key;
mod recover;

/// The layout of keys and files; `migrations/episodes.md` describes it.
pub const LAYOUT: u32 = 1;
/// Most episodes, records or frames of one answer.
pub const PAGE_MAX: usize = 1000;
/// Longest record in bytes: several times the longest message that is logged.
pub const RECORD_MAX: usize = 1024 * 1024;
/// Why the episode log cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum EpisodeError {
    /// The folder cannot be used.
    #[error("cannot use the folder {}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// sled failed: no space, a broken disk, damage in its own files.
    #[error("the episode index failed")]
    Index(#[from] sled::Error),
    /// A newer build wrote the log, or the layout's number is damaged.
    #[error(
        "the episode log has layout {found}, this build knows {LAYOUT}; use the newer build, or \
         another data folder"
    )]
    Layout {
        /// The log's layout.
        found: String,
    },
    /// There is no such episode.
    #[error("there is no episode {0}")]
    NotFound(EpisodeId),
    /// The episode has no such image.
    #[error("episode {episode} has no image {n} of view {view}")]
    NoImage {
        /// The episode.
        episode: EpisodeId,
        /// The view.
        view: View,
        /// The image's number.
        n: u64,
    },
    /// The episode is not being written.
    #[error("episode {0} is not open; begin it first, and write nothing after its end")]
    NotOpen(EpisodeId),
    /// The episode was written before.
    #[error("episode {0} exists already; a new try has a new number")]
    Over(EpisodeId),
    /// More bytes than a record may have.
    #[error("the record has {got} bytes, at most {RECORD_MAX} are kept")]
    TooLong {
        /// Length in bytes.
        got: usize,
    },
    /// A value cannot be written: a bug.
    #[error("the record cannot be written")]
    Unwritable(#[source] CodecError),
    /// A stored value is not what was written.
    #[error("{what} of episode {episode} is damaged")]
    Damaged {
        /// The episode.
        episode: EpisodeId,
        /// Which value.
        what: String,
        /// How.
        #[source]
        source: RecordError,
    },
    /// An image cannot be written or read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

/// The body of a record: the message as it travelled.
#[derive(Serialize, Deserialize)]
struct Body {
    at_ns: u64,
    tick: Option<Tick>,
    #[serde(with = "serde_bytes")]
    head: Vec<u8>,
    #[serde(with = "serde_bytes")]
    raw: Vec<u8>,
}

/// The index value of an image.
#[derive(Serialize, Deserialize)]
struct ImageEntry {
    place: Place,
    format: u8,
    for_context: bool,
    head: FrameHead,
}

/// The episode log; clones are handles to the same one.
#[derive(Clone)]
pub struct EpisodeStore {
    db: sled::Db,
    trees: Trees,
    segments_dir: PathBuf,
    writer: Arc<Mutex<Writer>>,
}

#[derive(Clone)]
struct Trees {
    heads: sled::Tree,
    open: sled::Tree,
    records: sled::Tree,
    images: sled::Tree,
}

/// What only writers change.
struct Writer {
    segments: Segments,
    /// Episodes being written; one a cell.
    live: BTreeMap<EpisodeId, EpisodeSummary>,
}

impl Writer {
    fn live(&mut self, id: &EpisodeId) -> Result<&mut EpisodeSummary, EpisodeError> {
        self.live.get_mut(id).ok_or(EpisodeError::NotOpen(*id))
    }
}

impl EpisodeStore {
    /// Opens the log in `dir/episodes`, makes it if there is none, and marks what a dead writer
    /// left as recovered.
    ///
    /// # Errors
    /// [`EpisodeError`] if it cannot be opened, or is newer than this build.
    pub fn open(dir: &Path) -> Result<Self, EpisodeError> {
        let dir = dir.join("episodes");
        let io = |source| EpisodeError::Io {
            path: dir.clone(),
            source,
        };
        std::fs::create_dir_all(&dir).map_err(io)?;
        let db = index::open(&dir.join("index"))?;
        index::check_layout(&db)?;
        let trees = Trees {
            heads: db.open_tree("heads")?,
            open: db.open_tree("open")?,
            records: db.open_tree("records")?,
            images: db.open_tree("images")?,
        };
        let segments_dir = dir.join("segments");
        let segments = Segments::open(&segments_dir)?;
        recover::mark_recovered(&trees)?;
        db.flush()?;
        let writer = Arc::new(Mutex::new(Writer {
            segments,
            live: BTreeMap::new(),
        }));
        Ok(Self {
            db,
            trees,
            segments_dir,
            writer,
        })
    }

    /// Begins an episode. Beginning an open one again goes on with it.
    ///
    /// # Errors
    /// [`EpisodeError::Over`] if it was written before.
    pub fn begin(&self, meta: &EpisodeMeta) -> Result<(), EpisodeError> {
        let mut writer = self.writer();
        if writer.live.contains_key(&meta.id) {
            return Ok(());
        }
        let key = key::episode(&meta.id);
        if self.trees.heads.contains_key(key)? {
            return Err(EpisodeError::Over(meta.id));
        }
        let summary = EpisodeSummary::new(meta.clone());
        self.trees.open.insert(key, &[])?;
        self.trees.put_head(&summary)?;
        writer.live.insert(meta.id, summary);
        Ok(())
    }

    /// Appends a message to an open episode and gives its place among those of its kind.
    ///
    /// # Errors
    /// [`EpisodeError::NotOpen`], [`EpisodeError::TooLong`], or the store fails.
    pub fn append(
        &self,
        id: &EpisodeId,
        kind: RecordKind,
        stamp: Stamp,
        packet: &Packet,
    ) -> Result<u64, EpisodeError> {
        let got = packet.head.len().saturating_add(packet.raw.len());
        if RECORD_MAX < got {
            return Err(EpisodeError::TooLong { got });
        }
        let Stamp { at_ns, tick } = stamp;
        let body = Body {
            at_ns,
            tick,
            head: packet.head.to_vec(),
            raw: packet.raw.to_vec(),
        };
        let body = encode(&body).map_err(EpisodeError::Unwritable)?;
        let mut writer = self.writer();
        let summary = writer.live(id)?;
        let seq = summary.counts.get(&kind).copied().unwrap_or(0);
        let key = key::record(id, kind, seq);
        self.trees
            .records
            .insert(key, seal(&key, kind.code(), &body))?;
        summary.counts.insert(kind, seq.saturating_add(1));
        summary.saw(at_ns);
        Ok(seq)
    }

    /// Appends an image to an open episode.
    ///
    /// Of two images with one number the lossless one stays; a second one of the same format, or a
    /// JPEG after a PNG, is passed over.
    ///
    /// # Errors
    /// [`EpisodeError::NotOpen`], [`EpisodeError::Segment`], or the store fails.
    pub fn append_image(&self, id: &EpisodeId, image: &StoredImage) -> Result<(), EpisodeError> {
        let key = key::image(id, &image.head.view, image.n);
        let mut writer = self.writer();
        writer.live(id)?;
        let before = match self.trees.images.get(&key)? {
            Some(value) => Some(image_entry(id, &key, &value)?),
            None => None,
        };
        let format = image.data.format();
        if before
            .as_ref()
            .is_some_and(|before| format <= before.format)
        {
            return Ok(());
        }
        let place = writer.segments.append(&key, format, image.data.bytes())?;
        let StoredImage {
            head, for_context, ..
        } = image;
        let entry = ImageEntry {
            place,
            format,
            for_context: *for_context,
            head: head.clone(),
        };
        let entry = encode(&entry).map_err(EpisodeError::Unwritable)?;
        let sealed = seal(&key, IMAGE, &entry);
        self.trees.images.insert(key, sealed)?;
        let summary = writer.live(id)?;
        match before {
            None => summary.saw_image(image.n, head, *for_context),
            Some(before) => {
                if let Some(view) = summary.views.get_mut(&head.view) {
                    view.context_frames += u64::from(*for_context && !before.for_context);
                }
            }
        }
        Ok(())
    }

    /// Ends an episode; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`EpisodeError::NotOpen`], or the store fails.
    pub fn finish(&self, id: &EpisodeId, ending: &Ending) -> Result<(), EpisodeError> {
        let mut writer = self.writer();
        let mut summary = writer.live(id)?.clone();
        summary.state = EpisodeState::Finished;
        summary.ending = Some(ending.clone());
        self.trees.put_head(&summary)?;
        self.trees.open.remove(key::episode(id))?;
        writer.live.remove(id);
        drop(writer);
        self.flush()
    }

    /// Puts everything written so far on the disk: images first, then the index.
    ///
    /// # Errors
    /// [`EpisodeError`] if the disk refuses.
    pub fn flush(&self) -> Result<(), EpisodeError> {
        // The lock is not held while the disk works.
        let newest = self.writer().segments.newest_file();
        if let Some(file) = newest {
            let path = self.segments_dir.clone();
            file.sync_data()
                .map_err(|source| EpisodeError::Io { path, source })?;
        }
        self.db.flush()?;
        Ok(())
    }

    /// Gives an episode at a glance.
    ///
    /// # Errors
    /// [`EpisodeError::NotFound`], [`EpisodeError::Damaged`], or the store fails.
    pub fn get(&self, id: &EpisodeId) -> Result<EpisodeSummary, EpisodeError> {
        if let Some(summary) = self.writer().live.get(id) {
            return Ok(summary.clone());
        }
        let key = key::episode(id);
        let value = self
            .trees
            .heads
            .get(key)?
            .ok_or(EpisodeError::NotFound(*id))?;
        read_head(id, &value)
    }

    /// Gives a page of episodes, newest task first; 1 to [`PAGE_MAX`] of them.
    ///
    /// # Errors
    /// [`EpisodeError`] if the store fails; a damaged head is listed apart.
    pub fn list(
        &self,
        cursor: Option<&EpisodeId>,
        limit: usize,
    ) -> Result<EpisodePage, EpisodeError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let rows = match cursor {
            Some(cursor) => self.trees.heads.range(..key::episode(cursor)),
            None => self.trees.heads.iter(),
        };
        let mut page = EpisodePage {
            items: Vec::new(),
            damaged: Vec::new(),
            next: None,
        };
        let mut last = None;
        for (taken, row) in rows.rev().enumerate() {
            let (key, _) = row?;
            let Some(id) = key::parse_episode(&key) else {
                continue;
            };
            if taken == limit {
                page.next = last;
                break;
            }
            match self.get(&id) {
                Ok(summary) => page.items.push(summary),
                Err(EpisodeError::Damaged { .. }) => page.damaged.push(id),
                Err(other) => return Err(other),
            }
            last = Some(id);
        }
        Ok(page)
    }

    /// Gives records of one kind from place `from` on, oldest first; 1 to [`PAGE_MAX`] of them.
    ///
    /// A damaged record is an `Err` in its place.
    ///
    /// # Errors
    /// [`EpisodeError::NotFound`], or the store fails.
    pub fn records(
        &self,
        id: &EpisodeId,
        kind: RecordKind,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Result<StoredRecord, EpisodeError>>, EpisodeError> {
        self.check_known(id)?;
        let range = key::record(id, kind, from)..=key::record(id, kind, u64::MAX);
        let rows = self
            .trees
            .records
            .range(range)
            .take(limit.clamp(1, PAGE_MAX));
        let mut records = Vec::new();
        for row in rows {
            let (key, value) = row?;
            let Some(seq) = key::last_number(&key) else {
                continue;
            };
            records.push(read_record(&key, kind, seq, &value).map_err(|source| {
                EpisodeError::Damaged {
                    episode: *id,
                    what: format!("{kind} {seq}"),
                    source,
                }
            }));
        }
        Ok(records)
    }

    /// Gives images of a view from number `from` on, without their bytes; 1 to [`PAGE_MAX`].
    ///
    /// # Errors
    /// [`EpisodeError::NotFound`], or the store fails.
    pub fn frames(
        &self,
        id: &EpisodeId,
        view: &View,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Result<FrameEntry, EpisodeError>>, EpisodeError> {
        self.check_known(id)?;
        let range = key::image(id, view, from)..=key::image(id, view, u64::MAX);
        let mut frames = Vec::new();
        for row in self
            .trees
            .images
            .range(range)
            .take(limit.clamp(1, PAGE_MAX))
        {
            let (key, value) = row?;
            let Some(n) = key::last_number(&key) else {
                continue;
            };
            frames.push(image_entry(id, &key, &value).map(|entry| FrameEntry {
                n,
                head: entry.head,
                for_context: entry.for_context,
                lossless: entry.format == ImageData::Png(Bytes::new()).format(),
            }));
        }
        Ok(frames)
    }

    /// Gives an image.
    ///
    /// # Errors
    /// [`EpisodeError::NoImage`], [`EpisodeError::Damaged`] or [`EpisodeError::Segment`] if it is
    /// not what was written, or the store fails.
    pub fn image(&self, id: &EpisodeId, view: &View, n: u64) -> Result<StoredImage, EpisodeError> {
        self.check_known(id)?;
        let key = key::image(id, view, n);
        let missing = || EpisodeError::NoImage {
            episode: *id,
            view: view.clone(),
            n,
        };
        let value = self.trees.images.get(&key)?.ok_or_else(missing)?;
        let ImageEntry {
            place,
            for_context,
            head,
            ..
        } = image_entry(id, &key, &value)?;
        let (format, bytes) = segment::read(&self.segments_dir, place, &key)?;
        let unknown = SegmentError::Damaged {
            segment: place.segment,
            offset: place.offset,
            what: "the image has an unknown format",
        };
        let data = ImageData::of(format, bytes.into()).ok_or(unknown)?;
        Ok(StoredImage {
            n,
            head,
            for_context,
            data,
        })
    }

    fn check_known(&self, id: &EpisodeId) -> Result<(), EpisodeError> {
        let known = self.trees.heads.contains_key(key::episode(id))?;
        if known {
            Ok(())
        } else {
            Err(EpisodeError::NotFound(*id))
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A writer that panicked left at most a record without its count: nothing to protect.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trees {
    fn put_head(&self, summary: &EpisodeSummary) -> Result<(), EpisodeError> {
        let key = key::episode(&summary.meta.id);
        let body = encode(summary).map_err(EpisodeError::Unwritable)?;
        self.heads.insert(key, seal(&key, HEAD, &body))?;
        Ok(())
    }
}

fn read_head(id: &EpisodeId, value: &[u8]) -> Result<EpisodeSummary, EpisodeError> {
    let read = || {
        let body = unseal(&key::episode(id), HEAD, value)?;
        Ok(decode(body, RECORD_MAX)?)
    };
    let what = "the head".to_owned();
    read().map_err(|source| EpisodeError::Damaged {
        episode: *id,
        what,
        source,
    })
}

fn read_record(
    key: &[u8],
    kind: RecordKind,
    seq: u64,
    value: &[u8],
) -> Result<StoredRecord, RecordError> {
    let body: Body = decode(unseal(key, kind.code(), value)?, 2 * RECORD_MAX)?;
    let stamp = Stamp {
        at_ns: body.at_ns,
        tick: body.tick,
    };
    let packet = Packet {
        head: body.head.into(),
        raw: body.raw.into(),
    };
    Ok(StoredRecord { seq, stamp, packet })
}

fn image_entry(id: &EpisodeId, key: &[u8], value: &[u8]) -> Result<ImageEntry, EpisodeError> {
    let read = || Ok(decode(unseal(key, IMAGE, value)?, RECORD_MAX)?);
    let what = "an image's place".to_owned();
    read().map_err(|source| EpisodeError::Damaged {
        episode: *id,
        what,
        source,
    })
}

#[cfg(test)]
mod tests;
