//! How long a commit takes on the data folder's disk, and how much room is left.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::statvfs;
use serde_json::json;
use vlad_wire::clock::{Clock, MS, SECOND, SystemClock};

use crate::config::Config;
use crate::daemon::{data_folder, default_data_folder};

use super::finding::{Finding, Level, NOTHING};
use super::ticks::percentile;

/// Commits that are tried.
const COMMITS: usize = 100;
/// No new ones begin after so long.
const BUDGET_NS: u64 = 3 * SECOND;
/// Bytes of each: a page, as a task's row needs.
const PAGE: [u8; 4096] = [0x5a; 4096];
/// A commit that takes longer holds up what a person sees.
const SLOW_NS: u64 = 100 * MS;
const GIB: u64 = 1 << 30;

/// Says what the data folder's disk is like.
pub fn findings(data: Option<&Path>, config: Option<&Config>) -> Vec<Finding> {
    let folder = match (data, config) {
        (Some(data), _) => Ok(data.to_owned()),
        (None, Some(config)) => data_folder(config),
        (None, None) => default_data_folder(),
    };
    match folder.and_then(|folder| existing(&folder)) {
        Ok(folder) => vec![sync(&folder), room(&folder)],
        Err(error) => vec![
            Finding::new(
                "disk-sync",
                Level::Mend,
                format!("no data folder: {error:#}"),
            )
            .means("tasks and episodes have no place: no daemon with a gateway starts")
            .todo("name one with --data, or set HOME"),
        ],
    }
}

/// The folder, or the nearest one above it that is there: the doctor makes none.
fn existing(folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = std::path::absolute(folder).context("its path")?;
    let found = folder.ancestors().find(|folder| folder.is_dir());
    Ok(found.context("not even its root is there")?.to_owned())
}

fn sync(folder: &Path) -> Finding {
    let samples = match commits(folder) {
        Ok(samples) => samples,
        Err(error) => {
            let what = format!("{}: {error:#}", folder.display());
            return Finding::new("disk-sync", Level::Mend, what)
                .means("nothing can be written there: no task would be taken")
                .todo("give this account the folder, or name another with --data");
        }
    };
    let (p50_ns, p99_ns) = (percentile(&samples, 500), percentile(&samples, 990));
    let us = |ns: u64| ns.div_ceil(1000);
    let what = format!(
        "{} commits in {}: p50 {} µs, p99 {} µs",
        samples.len(),
        folder.display(),
        us(p50_ns),
        us(p99_ns)
    );
    let (level, means, todo) = if SLOW_NS < p99_ns {
        (
            Level::Note,
            "each task and each lease waits for a commit: they are taken slowly; motion does not wait",
            "put the data folder on a disk of its own (--data)",
        )
    } else {
        (
            Level::Ok,
            "each task and each lease waits for one commit; motion waits for none",
            NOTHING,
        )
    };
    Finding::new("disk-sync", level, what)
        .means(means)
        .todo(todo)
        .figures(json!({ "n": samples.len(), "p50_ns": p50_ns, "p99_ns": p99_ns }))
}

/// Appends pages and makes each durable; gives the times, sorted.
fn commits(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let path = folder.join(format!(".vlad-doctor-{}", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .context("cannot write there")?;
    let measured = time_commits(file);
    fs::remove_file(&path).context("cannot remove what was written")?;
    measured
}

fn time_commits(mut file: File) -> anyhow::Result<Vec<u64>> {
    let clock = SystemClock;
    let give_up_ns = clock.now_ns() + BUDGET_NS;
    let mut samples = Vec::with_capacity(COMMITS);
    while samples.len() < COMMITS && clock.now_ns() < give_up_ns {
        let begun_ns = clock.now_ns();
        file.write_all(&PAGE).context("cannot write there")?;
        file.sync_data().context("cannot make it durable")?;
        samples.push(clock.now_ns().saturating_sub(begun_ns));
    }
    samples.sort_unstable();
    Ok(samples)
}

fn room(folder: &Path) -> Finding {
    let free = match statvfs(folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => {
            return Finding::new("disk-room", Level::Note, format!("not readable: {error}"))
                .means("nobody knows how long the log can grow");
        }
    };
    let what = format!("{} MiB free at {}", free >> 20, folder.display());
    let (level, means, todo) = judge_room(free);
    Finding::new("disk-room", level, what)
        .means(means)
        .todo(todo)
        .figures(json!({ "free_bytes": free }))
}

/// Three cameras fill eight megabytes a second, 29 gigabytes an hour.
fn judge_room(free: u64) -> (Level, &'static str, &'static str) {
    if free < GIB / 2 {
        let means = "the log cannot be written: a task would have to be ended";
        (Level::Mend, means, "make room, or name another --data")
    } else if free < 20 * GIB {
        let means = "room for less than an hour of a cell with three cameras at full size";
        (Level::Note, means, "make room before long runs")
    } else {
        let means = "room for the log of an hour or more of a cell with three cameras at full size";
        (Level::Ok, means, NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_at_its_marks() {
        assert_eq!(judge_room(GIB / 2 - 1).0, Level::Mend);
        assert_eq!(judge_room(GIB / 2).0, Level::Note);
        assert_eq!(judge_room(20 * GIB - 1).0, Level::Note);
        assert_eq!(judge_room(20 * GIB).0, Level::Ok);
    }

    #[test]
    fn commits_are_timed_and_leave_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("vlad-doctor-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let deep = folder.join("not/yet/there");
        let found = findings(Some(&deep), None);
        assert_eq!(found.len(), 2);
        assert!(found[0].figures["n"].as_u64().unwrap() <= 100);
        assert!(0 < found[1].figures["free_bytes"].as_u64().unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_takes_nothing_must_be_mended() {
        let found = findings(Some(Path::new("/proc/self")), None);
        assert_eq!(found[0].level, Level::Mend);
        assert!(
            found[0].what.contains("cannot write there"),
            "{}",
            found[0].what
        );
    }
}
