//! `vlad model pull`: a checkpoint from a hub with Hugging Face's addresses, as a plain folder.
//!
//! ```text
//! list of the revision ─► names, sizes, hashes ─► NAME.partial, file by file ─► opened ─► NAME
//! ```
//! Nothing that a hub says is believed: names stand in a list of ours, sizes have bounds, every byte
//! is hashed, and nothing that could run is asked for. The folder appears whole or not at all; what
//! a cut leaves is taken up again by the same command.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::checkpoint::digest::hex;

use crate::cli::print::{line, table};

use self::address::Address;
use self::fetch::Fetch;
use self::folder::{Note, Partial, check_free};
use self::hub::{HOME, Hub, Patience};
use self::listing::{Listing, Wanted, is_commit};
use self::progress::Progress;
use self::source::{Asked, Source};
use super::size;

mod address;
mod content;
mod fetch;
mod folder;
mod hub;
mod listing;
mod progress;
mod source;
mod token;

/// Tries of the list: a person waits for it.
const TRIES_OF_LIST: u32 = 3;
/// Where checkpoints lie, unless it is said.
const FOLDER: &str = "checkpoints";
/// Names of files left out that people are shown; documents have all.
const LEFT_SHOWN: usize = 8;

/// Flags of `model pull`.
#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    /// OWNER/NAME@REVISION, or the short name of a released checkpoint: `libero`, `calvin-abc`,
    /// `calvin-abcd`, `simpler-google`, `simpler-widowx`, `pretrain`.
    ///
    /// Of the released ones the revision is built in. A branch or tag is resolved once, and its
    /// commit is told.
    #[arg(value_name = "WHAT")]
    pub what: Asked,
    /// The folder to make; it must not exist yet [default: checkpoints/NAME].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The hub: https, or http on this machine.
    #[arg(long, value_name = "URL", default_value = HOME, value_parser = endpoint)]
    pub endpoint: String,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

fn endpoint(text: &str) -> Result<String, String> {
    let address = Address::endpoint(text).map_err(|error| error.to_string())?;
    Ok(address.shown())
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    note: Note,
    /// The folder.
    dir: PathBuf,
    files: Vec<File>,
    /// Files of the repository that were never asked for.
    left: Vec<String>,
    /// Bytes that an earlier try had left.
    kept_bytes: u64,
    /// As `vlad model inspect` gives it.
    model_sha256: String,
    /// As `vlad model inspect` gives it.
    normaliser_sha256: String,
}

/// A file of the folder.
#[derive(Debug, Serialize)]
struct File {
    name: String,
    size: u64,
    sha256: String,
}

/// Does the command.
///
/// # Errors
/// What cannot be found, reached, verified, written or opened; each says what to do.
pub fn run(args: &PullArgs) -> anyhow::Result<()> {
    let source = args.what.source()?;
    let default_out = || Path::new(FOLDER).join(source.name());
    let out = args.out.clone().unwrap_or_else(default_out);
    check_free(&out)?;
    let endpoint = Address::endpoint(&args.endpoint)?;
    let token = token::of_user(args.endpoint == HOME)?;
    let hub = Hub::new(endpoint, token, source.clone());
    let listing = listed(&hub, &source).with_context(|| format!("cannot pull {source}"))?;
    let note = Note {
        repository: source.repository.clone(),
        revision: listing.commit.clone(),
    };
    let partial = Partial::open(&out, &note)?;
    partial.check_room(&listing.files)?;
    let (files, kept_bytes) = fetch_all(&hub, &listing, partial.path())?;
    let (model_sha256, normaliser_sha256) = identity(partial.path())?;
    partial.appear()?;
    let document = Document {
        note,
        dir: out,
        files,
        left: listing.left,
        kept_bytes,
        model_sha256,
        normaliser_sha256,
    };
    if args.json {
        line(&serde_json::to_string_pretty(&document)?)
    } else {
        tell(&document)
    }
}

/// What the repository holds; the commit must be the one that was asked for, if one was.
fn listed(hub: &Hub, source: &Source) -> anyhow::Result<Listing> {
    let mut patience = Patience::new(TRIES_OF_LIST);
    let text = loop {
        match hub.listing() {
            Ok(text) => break text,
            Err(failure) => patience.after(failure)?,
        }
    };
    let listing = Listing::parse(&text)?;
    let commit = &listing.commit;
    ensure!(
        !is_commit(&source.revision) || source.revision.eq_ignore_ascii_case(commit),
        "the hub lists commit {commit}, asked for {}",
        source.revision
    );
    Ok(listing)
}

fn fetch_all(hub: &Hub, listing: &Listing, dir: &Path) -> anyhow::Result<(Vec<File>, u64)> {
    let mut progress = Progress::new(listing.total());
    let mut fetch = Fetch {
        hub,
        commit: &listing.commit,
        dir,
        progress: &mut progress,
    };
    let (mut files, mut kept) = (Vec::new(), 0);
    let mut bring = |wanted: &Wanted| -> anyhow::Result<()> {
        let fetched = fetch.file(wanted)?;
        kept += fetched.kept;
        files.push(File {
            name: wanted.name.clone(),
            size: wanted.size,
            sha256: fetched.sha256,
        });
        Ok(())
    };
    let brought = listing.files.iter().try_for_each(&mut bring);
    progress.end();
    brought?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((files, kept))
}

/// Opens the checkpoint; gives the digests of its model and its normaliser.
fn identity(dir: &Path) -> anyhow::Result<(String, String)> {
    let checkpoint = Checkpoint::open(dir).with_context(|| {
        format!(
            "every file is the hub's, and together they are no checkpoint that can be run; they stay in {}",
            dir.display()
        )
    })?;
    let model = checkpoint.model_digest()?;
    Ok((hex(&model), hex(&checkpoint.normaliser_digest()?)))
}

fn tell(document: &Document) -> anyhow::Result<()> {
    let Note {
        repository,
        revision,
    } = &document.note;
    let dir = document.dir.display();
    line(&format!("pulled {repository} at {revision} into {dir}"))?;
    let rows = document.files.iter();
    let rows = rows.map(|file| vec![format!("  {}", file.name), size(file.size)]);
    line(&table(&rows.collect::<Vec<_>>()))?;
    if !document.left.is_empty() {
        let shown = document.left.iter().take(LEFT_SHOWN);
        let mut names: Vec<_> = shown.map(|name| name.escape_debug().to_string()).collect();
        if let Some(more @ 1..) = document.left.len().checked_sub(LEFT_SHOWN) {
            names.push(format!("{more} more"));
        }
        line(&format!("left on the hub: {}", names.join(", ")))?;
    }
    line(&format!("model SHA-256 {}", document.model_sha256))?;
    line(&format!(
        "next: `vlad model inspect {dir}`, then `vlad run --checkpoint {dir}`"
    ))
}
