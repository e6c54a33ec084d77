//! Brings one file into a folder: what is there of it is kept, the rest is asked for, and all of it
//! is verified.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use rustix::fs::OFlags;
use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

use super::content::Hasher;
use super::hub::{Failure, Hub, Patience, Said, header};
use super::listing::Wanted;
use super::progress::Progress;

/// Bytes that are read and written at once.
const PIECE: usize = 1 << 20;
/// Tries without a byte more: with the waits between them a quarter of a minute.
const TRIES_MAX: u32 = 6;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetched {
    /// SHA-256 of its bytes, hexadecimal digits.
    pub(super) sha256: String,
    /// Bytes that were there already.
    pub(super) kept: u64,
}

/// From where to where.
pub(super) struct Fetch<'a> {
    /// Whom to ask.
    pub(super) hub: &'a Hub,
    /// Of which commit.
    pub(super) commit: &'a str,
    /// The folder.
    pub(super) dir: &'a Path,
    /// Who hears of it.
    pub(super) progress: &'a mut Progress,
}

impl Fetch<'_> {
    /// Brings a file, in as many tries as it gets on with. When this returns, its bytes are
    /// verified and on the disk.
    ///
    /// # Errors
    /// A hub that cannot be reached, refuses, or says other things than its list; a full disk; then
    /// what came stays, to be resumed. Bytes that do not verify are deleted.
    pub(super) fn file(&mut self, wanted: &Wanted) -> anyhow::Result<Fetched> {
        self.progress.begin(&wanted.name);
        let mut growing = Growing::open(self.dir, wanted, self.progress)?;
        let kept = growing.have;
        let (mut patience, mut farthest) = (Patience::new(TRIES_MAX), kept);
        while growing.have < wanted.size {
            let Err(failure) = self.stretch(wanted, &mut growing) else {
                continue;
            };
            // Only what is new counts: a server that always begins at 0 would never end.
            if farthest < growing.have {
                farthest = growing.have;
                patience.renew();
            }
            patience.after(failure).with_context(|| {
                format!(
                    "{}: {} of {} bytes are here; the same command goes on from them",
                    wanted.name, growing.have, wanted.size
                )
            })?;
        }
        let path = growing.path.clone();
        let sha256 = growing.finish(wanted)?;
        let Some(sha256) = sha256 else {
            let deleted = fs::remove_file(&path);
            deleted.with_context(|| format!("cannot delete {}", path.display()))?;
            bail!(
                "{}: the checksum differs from the hub's; what came was deleted: run the same command again",
                wanted.name
            );
        };
        self.progress.finish(wanted.size);
        Ok(Fetched { sha256, kept })
    }

    /// One question, and what comes until the file is whole or the connection breaks.
    fn stretch(&mut self, wanted: &Wanted, growing: &mut Growing) -> Result<(), Failure> {
        let (response, said) = self.hub.file(self.commit, &wanted.name, growing.have)?;
        check_said(wanted, self.commit, &said).map_err(Failure::Lasting)?;
        let begins = begins_at(wanted, growing.have, &response).map_err(Failure::Lasting)?;
        if begins < growing.have {
            let text = format!(
                "{}: the server resumes nothing, so it begins anew",
                wanted.name
            );
            self.progress.note(&text);
            growing
                .begin_anew(wanted, self.progress)
                .map_err(Failure::Lasting)?;
        }
        check_length(wanted, growing.have, &response).map_err(Failure::Lasting)?;
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        while growing.have < wanted.size {
            let n = match body.read(&mut piece) {
                Ok(0) => return Err(Failure::Passing(anyhow!("the answer ended early"), None)),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    let error = anyhow::Error::new(error).context("the connection broke");
                    return Err(Failure::Passing(error, None));
                }
            };
            let bytes = piece.get(..n).unwrap_or_default();
            growing.push(wanted, bytes).map_err(Failure::Lasting)?;
            self.progress.add(count(bytes));
        }
        Ok(())
    }
}

/// What the hub says of the file must be what it listed, before a byte of it is kept.
fn check_said(wanted: &Wanted, commit: &str, said: &Said) -> anyhow::Result<()> {
    let Wanted { name, size, proof } = wanted;
    if let Some(other) = &said.commit {
        ensure!(
            other.eq_ignore_ascii_case(commit),
            "{name}: the hub gives it from another commit than {commit}"
        );
    }
    if let Some(tag) = &said.tag {
        ensure!(
            !proof.contradicts(tag),
            "{name}: the hub gives it with another hash than it lists"
        );
    }
    if let Some(other) = said.size {
        ensure!(other == *size, wrong_size(name, other, *size));
    }
    Ok(())
}

fn wrong_size(name: &str, other: u64, size: u64) -> String {
    format!("{name}: the hub gives {other} bytes, and lists {size}")
}

/// Where in the file an answer begins: where it was asked to, or at 0.
fn begins_at(wanted: &Wanted, asked: u64, response: &Response<Body>) -> anyhow::Result<u64> {
    let name = &wanted.name;
    let encoding = header(response.headers(), "content-encoding").unwrap_or("identity");
    ensure!(
        encoding == "identity",
        "{name}: the server packs it as {encoding}, which nobody asked for"
    );
    match response.status() {
        StatusCode::OK => Ok(0),
        StatusCode::PARTIAL_CONTENT => {
            let (begin, total) = content_range(response.headers())
                .ok_or_else(|| anyhow!("{name}: the server does not say which part it gives"))?;
            ensure!(
                begin == asked,
                "{name}: the server gives it from byte {begin}, asked for {asked}"
            );
            if let Some(total) = total {
                ensure!(total == wanted.size, wrong_size(name, total, wanted.size));
            }
            Ok(begin)
        }
        status => bail!("{name}: the server answers {status}"),
    }
}

/// First byte, and bytes of the whole if they are known, of `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = header(headers, "content-range")?.strip_prefix("bytes ")?;
    let (part, total) = range.split_once('/')?;
    let (begin, _) = part.split_once('-')?;
    Some((begin.parse().ok()?, total.parse().ok()))
}

fn check_length(wanted: &Wanted, have: u64, response: &Response<Body>) -> anyhow::Result<()> {
    let length = response.body().content_length();
    if let Some(length) = length {
        let whole = have.saturating_add(length);
        // A part may be shorter than what was asked for; longer it may not be.
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        ensure!(
            whole == wanted.size || is_part && whole < wanted.size,
            wrong_size(&wanted.name, whole, wanted.size)
        );
    }
    Ok(())
}

fn count(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A file that is not whole yet, with the hash of what is there.
struct Growing {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    have: u64,
}

impl Growing {
    /// Opens what is there of a file, or makes it; reads what is there.
    fn open(dir: &Path, wanted: &Wanted, progress: &mut Progress) -> anyhow::Result<Self> {
        let path = dir.join(&wanted.name);
        let cannot = || format!("cannot write {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // A link would lead elsewhere.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .with_context(cannot)?;
        let metadata = file.metadata().with_context(cannot)?;
        ensure!(
            metadata.is_file(),
            "{} is no file: remove it",
            path.display()
        );
        let mut growing = Self {
            hasher: Hasher::new(&wanted.proof, wanted.size),
            file,
            path,
            have: 0,
        };
        if wanted.size < metadata.len() {
            growing.begin_anew(wanted, progress)?;
            return Ok(growing);
        }
        let mut piece = vec![0; PIECE];
        loop {
            let n = growing
                .file
                .read(&mut piece)
                .with_context(|| format!("cannot read {}", growing.path.display()))?;
            let bytes = piece.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(growing);
            }
            growing.hasher.update(bytes);
            growing.have += count(bytes);
            progress.add(count(bytes));
        }
    }

    fn begin_anew(&mut self, wanted: &Wanted, progress: &mut Progress) -> anyhow::Result<()> {
        let emptied = self.file.set_len(0);
        let emptied = emptied.and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.with_context(|| format!("cannot empty {}", self.path.display()))?;
        self.hasher = Hasher::new(&wanted.proof, wanted.size);
        progress.take_back(self.have);
        self.have = 0;
        Ok(())
    }

    fn push(&mut self, wanted: &Wanted, bytes: &[u8]) -> anyhow::Result<()> {
        let whole = self.have.saturating_add(count(bytes));
        ensure!(
            whole <= wanted.size,
            "{}: the hub gives more bytes than the {} that it lists",
            wanted.name,
            wanted.size
        );
        self.file.write_all(bytes).map_err(|error| {
            let advice = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "the disk is full: make room, and run the same command again"
                }
                _ => "cannot write",
            };
            anyhow::Error::new(error).context(format!("{advice} ({})", self.path.display()))
        })?;
        self.hasher.update(bytes);
        self.have = whole;
        Ok(())
    }

    /// Makes the bytes durable; gives their SHA-256, or none if they are not those that are proven.
    fn finish(self, wanted: &Wanted) -> anyhow::Result<Option<String>> {
        self.file
            .sync_all()
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        let (sha256, proof) = self.hasher.finish();
        Ok((proof == wanted.proof).then_some(sha256))
    }
}
