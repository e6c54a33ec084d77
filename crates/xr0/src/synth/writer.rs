//! Writes the files beside the place where they shall appear, and lets them appear at once.
//!
//! What is not finished lies in `.NAME.N.partial` beside NAME. Its writer keeps that directory
//! locked, and the lock ends with the process: whoever comes to write NAME removes those that
//! nobody has locked, and takes the first N that is free.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::{Checkpoint, read};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layout;
use crate::synth::Synth;
use crate::synth::numbers::{Numbers, Table};
use crate::synth::shards::{self, Planned};

/// Bytes that are made, and written, at once.
const PIECE: usize = 1 << 20;
/// Writers of one name at a time, and what is left of them where nothing can be locked.
const PARTIALS_MAX: u32 = 1000;

/// As [`crate::synth::write`].
pub(super) fn write(
    recipe: &Synth,
    config: &Config,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    // Looked at without following links: a dangling one is in the way too.
    if fs::symlink_metadata(out).is_ok() {
        return Err(Error::input(format!(
            "{} exists: name a new directory",
            out.display()
        )));
    }
    let name = out.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::input(format!("{} names no directory", out.display())))?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    remove_leftovers(parent, name);
    let (partial, _locked) = create_partial(parent, name)?;
    let written = fill(recipe, config, &partial, progress).and_then(|()| {
        Checkpoint::open(&partial)?;
        fs::rename(&partial, out).map_err(at(out))
    });
    if written.is_err() {
        // The first error counts; what is left behind says by its name what it is.
        let _ = fs::remove_dir_all(&partial);
    }
    written?;
    sync_directory(parent)
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = PathBuf::from(path);
    move |cause| Error::File {
        path: path.clone(),
        cause,
    }
}

/// Makes a directory for what is not finished, and locks it until the file that comes with it is
/// closed.
fn create_partial(parent: &Path, name: &str) -> Result<(PathBuf, File)> {
    for number in 0..PARTIALS_MAX {
        let partial = parent.join(format!(".{name}.{number}.partial"));
        match fs::create_dir(&partial) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(at(&partial)(error)),
        }
        // Another writer may take it for a leftover until it is locked; then the next number will
        // do.
        if let Some(locked) = lock(&partial) {
            return Ok((partial, locked));
        }
    }
    Err(Error::input(format!(
        "{} has {PARTIALS_MAX} directories .{name}.N.partial: remove those that nobody writes",
        parent.display()
    )))
}

/// Locks a directory; none if another has it, or if it is no longer the one of this name.
fn lock(dir: &Path) -> Option<File> {
    let file = File::open(dir).ok()?;
    match file.try_lock() {
        // A file system without locks: then nothing there counts as a leftover either.
        Ok(()) | Err(fs::TryLockError::Error(_)) => {}
        Err(fs::TryLockError::WouldBlock) => return None,
    }
    let (own, named) = (file.metadata().ok()?, fs::symlink_metadata(dir).ok()?);
    ((own.dev(), own.ino()) == (named.dev(), named.ino())).then_some(file)
}

/// Removes what writers of this name left that were ended. What cannot be removed stays: it is in
/// nobody's way.
fn remove_leftovers(parent: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        // No link is followed.
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || !is_partial(&entry.file_name().to_string_lossy(), name) {
            continue;
        }
        let leftover = entry.path();
        if let Ok(file) = File::open(&leftover)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(&leftover);
        }
    }
}

/// Says whether a directory's name is `.NAME.N.partial`, with a number for N.
fn is_partial(directory: &str, name: &str) -> bool {
    let number = directory.strip_prefix('.');
    let number = number.and_then(|rest| rest.strip_prefix(name)?.strip_prefix('.'));
    let number = number.and_then(|rest| rest.strip_suffix(".partial"));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

fn fill(
    recipe: &Synth,
    config: &Config,
    dir: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let shards = shards::plan(layout::tensors(config), recipe.shard_bytes);
    write_json(&dir.join(read::CONFIG), &recipe.config)?;
    write_json(&dir.join(read::PREPROCESSOR), &recipe.preprocessor)?;
    write_json(&dir.join(read::TOKENIZER), &recipe.tokenizer)?;
    write_json(&dir.join(read::INDEX), &shards::index(&shards))?;
    for (name, bytes) in &recipe.extra {
        if !read::is_plain(name) {
            return Err(Error::input(format!("{name:?} must be the name of a file")));
        }
        create(&dir.join(name), &mut |file| file.write_all(bytes))?;
    }
    let total = shards
        .iter()
        .flat_map(|shard| &shard.tensors)
        .map(shards::bytes)
        .sum();
    let mut weights = Weights {
        table: Table::new(),
        seed: recipe.seed,
        done: 0,
        total,
        progress,
    };
    for shard in &shards {
        weights.write(dir, shard)?;
    }
    sync_directory(dir)
}

/// Writes the weights, and says how far it is.
struct Weights<'a> {
    table: Table,
    seed: u64,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Weights<'_> {
    fn write(&mut self, dir: &Path, shard: &Planned) -> Result<()> {
        let head = shards::head(shard)?;
        create(&dir.join(&shard.file), &mut |file| {
            file.write_all(&head)?;
            let mut piece = vec![0; PIECE];
            for spec in &shard.tensors {
                let mut numbers = Numbers::new(&self.table, self.seed, spec);
                let mut left = shards::bytes(spec);
                while 0 < left {
                    let size = left.min(PIECE as u64);
                    let piece = &mut piece[..size as usize];
                    numbers.fill(piece);
                    file.write_all(piece)?;
                    left -= size;
                    self.done += size;
                    (self.progress)(self.done, self.total);
                }
            }
            Ok(())
        })
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let mut value = value.clone();
    value.sort_all_objects();
    let text = format!("{value:#}\n");
    create(path, &mut |file| file.write_all(text.as_bytes()))
}

/// Makes a new file; when this returns, its bytes are on the disk.
fn create(path: &Path, write: &mut dyn FnMut(&mut File) -> std::io::Result<()>) -> Result<()> {
    let mut file = File::create_new(path).map_err(at(path))?;
    write(&mut file)
        .and_then(|()| file.sync_all())
        .map_err(at(path))
}

/// Makes names durable, as the files are.
fn sync_directory(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(at(dir))
}
