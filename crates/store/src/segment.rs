//! Append-only files of image bytes: `NNNNNN.seg`, at most 64 MiB each.
//!
//! Measured: sled writes image-sized values three times over and holds them all in memory; plain
//! files write each byte once. An entry has a header of 16 bytes (`VSEG`, version, format, lengths,
//! CRC32C), its key, and the image. The key is in the file, so that a reader notices an entry that
//! is another one than its index says.
//!
//! At open the newest file is read through. A torn tail is cut off, but only if no whole entry
//! follows it: damage in the middle costs one entry, never those after it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest segment file in bytes: few files, and quick to read through at open.
pub const SEGMENT_MAX: u64 = 64 * 1024 * 1024;
/// Longest image in bytes: 1920 × 1080 RGB that does not compress, with room for its format.
pub const IMAGE_MAX: usize = 8 * 1024 * 1024;

const MAGIC: [u8; 4] = *b"VSEG";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 16;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Number of the segment.
    pub(crate) segment: u32,
    /// Offset of the header in bytes.
    pub(crate) offset: u64,
    /// Bytes of the whole entry.
    pub(crate) length: u32,
}

/// Why an image cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file cannot be used.
    #[error("cannot use the segment file {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The image is too long.
    #[error("the image has {got} bytes, at most {IMAGE_MAX} are kept")]
    TooLong {
        /// Length in bytes.
        got: usize,
    },
    /// The numbers of segments are used up.
    #[error("there are no more segment numbers")]
    Full,
    /// What is there is not what was written.
    #[error("segment {segment} is damaged at byte {offset}: {what}")]
    Damaged {
        /// Number of the segment.
        segment: u32,
        /// Offset of the entry in bytes.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// The segment that is being written, and the folder of all.
pub(crate) struct Segments {
    dir: PathBuf,
    next: u32,
    newest: Option<Newest>,
}

struct Newest {
    number: u32,
    file: Arc<File>,
    length: u64,
}

impl Segments {
    /// Opens the folder, makes it if there is none, and cuts a torn tail off the newest segment.
    pub(crate) fn open(dir: &Path) -> Result<Self, SegmentError> {
        let io = |source| SegmentError::Io {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let mut newest = None;
        for entry in std::fs::read_dir(dir).map_err(io)? {
            newest = newest.max(number_of(&entry.map_err(io)?.path()));
        }
        let mut segments = Self {
            dir: dir.to_owned(),
            next: 0,
            newest: None,
        };
        if let Some(number) = newest {
            segments.next = number.checked_add(1).ok_or(SegmentError::Full)?;
            segments.newest = segments.resume(number)?;
        }
        Ok(segments)
    }

    /// Takes up the newest segment; `None` if it is better left alone, and a new one begun.
    fn resume(&self, number: u32) -> Result<Option<Newest>, SegmentError> {
        let path = path_of(&self.dir, number);
        let io = |source| SegmentError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let buffer_len = usize::try_from(length).unwrap_or(usize::MAX);
        if SEGMENT_MAX < length {
            return Ok(None);
        }
        let mut bytes = vec![0; buffer_len];
        file.read_exact_at(&mut bytes, 0).map_err(io)?;
        let whole = u64::try_from(end_of_whole(&bytes)).unwrap_or(length);
        if whole < length {
            tracing::warn!(segment = number, cut = length - whole, "cut a torn tail");
            file.set_len(whole)
                .and_then(|()| file.sync_all())
                .map_err(io)?;
        }
        Ok(Some(Newest {
            number,
            file: Arc::new(file),
            length: whole,
        }))
    }

    /// Appends an image.
    pub(crate) fn append(
        &mut self,
        key: &[u8],
        format: u8,
        image: &[u8],
    ) -> Result<Place, SegmentError> {
        let entry = entry(key, format, image)?;
        let length = u32::try_from(entry.len());
        let length = length.map_err(|_| SegmentError::TooLong { got: image.len() })?;
        let fits = |newest: &Newest| newest.length + u64::from(length) <= SEGMENT_MAX;
        let newest = match self.newest.take().filter(fits) {
            Some(newest) => newest,
            None => self.begin()?,
        };
        let (segment, offset) = (newest.number, newest.length);
        if let Err(source) = newest.file.write_all_at(&entry, offset) {
            // Half an entry is cut off again. Where even that fails the next image begins a new
            // segment, and the tail is cut at the next open.
            if newest.file.set_len(offset).is_ok() {
                self.newest = Some(newest);
            }
            return Err(SegmentError::Io {
                path: path_of(&self.dir, segment),
                source,
            });
        }
        self.newest = Some(Newest {
            length: offset + u64::from(length),
            ..newest
        });
        Ok(Place {
            segment,
            offset,
            length,
        })
    }

    /// Begins a new segment; the one before is on the disk then.
    fn begin(&mut self) -> Result<Newest, SegmentError> {
        let number = self.next;
        if let Some(before) = number.checked_sub(1) {
            let path = path_of(&self.dir, before);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            match synced {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SegmentError::Io { path, source });
                }
                _ => {}
            }
        }
        let path = path_of(&self.dir, number);
        let io = |source| SegmentError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io)?;
        File::open(&self.dir)
            .and_then(|folder| folder.sync_all())
            .map_err(io)?;
        self.next = number.checked_add(1).ok_or(SegmentError::Full)?;
        Ok(Newest {
            number,
            file: Arc::new(file),
            length: 0,
        })
    }

    /// The file to sync; those before it are synced already.
    pub(crate) fn newest_file(&self) -> Option<Arc<File>> {
        self.newest.as_ref().map(|newest| newest.file.clone())
    }
}

/// Reads the entry at `place`, which must be that of `key`; gives format and image.
pub(crate) fn read(dir: &Path, place: Place, key: &[u8]) -> Result<(u8, Vec<u8>), SegmentError> {
    let path = path_of(dir, place.segment);
    let io = |source| SegmentError::Io {
        path: path.clone(),
        source,
    };
    let damaged = |what| {
        let Place {
            segment, offset, ..
        } = place;
        SegmentError::Damaged {
            segment,
            offset,
            what,
        }
    };
    let length = usize::try_from(place.length).unwrap_or(usize::MAX);
    if IMAGE_MAX + HEADER_LEN + usize::from(u16::MAX) < length {
        return Err(damaged("the entry is too long"));
    }
    let file = File::open(&path).map_err(io)?;
    let mut bytes = vec![0; length];
    match file.read_exact_at(&mut bytes, place.offset) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged("the file ends before the entry does"));
        }
        other => other.map_err(io)?,
    }
    let whole = whole_entry(&bytes).filter(|whole| whole.length == length);
    let whole = whole.ok_or_else(|| damaged("the entry's checksum is wrong"))?;
    if whole.key != key {
        return Err(damaged("the entry is that of another image"));
    }
    Ok((whole.format, whole.image.to_vec()))
}

fn path_of(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.seg"))
}

/// The number in a segment's name; `None` for other files.
fn number_of(path: &Path) -> Option<u32> {
    let number = path
        .file_name()?
        .to_str()?
        .strip_suffix(".seg")?
        .parse()
        .ok()?;
    (path.file_name() == path_of(Path::new(""), number).file_name()).then_some(number)
}

fn entry(key: &[u8], format: u8, image: &[u8]) -> Result<Vec<u8>, SegmentError> {
    let too_long = SegmentError::TooLong { got: image.len() };
    if IMAGE_MAX < image.len() {
        return Err(too_long);
    }
    let (Ok(key_len), Ok(image_len)) = (u16::try_from(key.len()), u32::try_from(image.len()))
    else {
        return Err(too_long);
    };
    let mut bytes = Vec::with_capacity(HEADER_LEN + key.len() + image.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, format]);
    bytes.extend_from_slice(&key_len.to_le_bytes());
    bytes.extend_from_slice(&image_len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&bytes), key), image);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(image);
    Ok(bytes)
}

struct WholeEntry<'a> {
    format: u8,
    key: &'a [u8],
    image: &'a [u8],
    length: usize,
}

/// Reads the entry that `bytes` begin with, if it is whole and its checksum fits.
fn whole_entry(bytes: &[u8]) -> Option<WholeEntry<'_>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let [
        m0,
        m1,
        m2,
        m3,
        version,
        format,
        k0,
        k1,
        i0,
        i1,
        i2,
        i3,
        c0,
        c1,
        c2,
        c3,
    ] = *header;
    if [m0, m1, m2, m3] != MAGIC || version != VERSION {
        return None;
    }
    let key_len = usize::from(u16::from_le_bytes([k0, k1]));
    let image_len = usize::try_from(u32::from_le_bytes([i0, i1, i2, i3])).ok()?;
    if IMAGE_MAX < image_len {
        return None;
    }
    let (key, rest) = rest.split_at_checked(key_len)?;
    let image = rest.get(..image_len)?;
    let crc = crc32c::crc32c(header.first_chunk::<12>()?);
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, key), image);
    let fits = crc == u32::from_le_bytes([c0, c1, c2, c3]);
    fits.then_some(WholeEntry {
        format,
        key,
        image,
        length: HEADER_LEN + key_len + image_len,
    })
}

/// Where the last whole entry ends, whatever lies damaged before it.
fn end_of_whole(bytes: &[u8]) -> usize {
    let (mut end, mut at) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(entry) = whole_entry(rest) {
            at += entry.length;
            end = at;
        } else {
            let next = rest
                .windows(MAGIC.len())
                .skip(1)
                .position(|window| window == MAGIC);
            let Some(next) = next else { break };
            at += next + 1;
        }
    }
    end
}

#[cfg(test)]
mod tests;
