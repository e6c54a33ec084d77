//! Kills a writer with SIGKILL in mid-work and looks at what is left.
//!
//! The parent runs this very binary again with a folder in its environment; the child then writes
//! without end and prints each thing that the store acknowledged. What was printed must be there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use vlad_task::actor::Actor;
use vlad_task::state::{Event, TaskState};
use vlad_task::submit::Submission;
use vlad_wire::clock::SystemClock;
use vlad_wire::codec::Packet;
use vlad_wire::id::{EpisodeId, Role, TaskId};
use vlad_wire::msg::sense::FrameHead;
use vlad_wire::text::Note;

use crate::episode::{EpisodeMeta, EpisodeState, ImageData, Stamp, StoredImage};
use crate::episodes::EpisodeStore;
use crate::record::RecordKind;
use crate::tasks::lease::Intent;
use crate::tasks::{TaskFilter, TaskStore};
use crate::temp::TempDir;

/// Names the child's folder; absent in an ordinary test run.
const FOLDER: &str = "VLAD_STORE_KILL_FOLDER";
/// Sets the rounds of a long run.
const ROUNDS: &str = "VLAD_STORE_KILL_ROUNDS";
/// Rounds of an ordinary test run.
const ROUNDS_DEFAULT: usize = 5;

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn rounds() -> usize {
    let asked = std::env::var_os(ROUNDS).and_then(|text| text.to_str()?.parse().ok());
    asked.unwrap_or(ROUNDS_DEFAULT)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged {line}").unwrap();
    out.flush().unwrap();
}

fn system() -> Actor {
    Actor::System(Role::Gateway)
}

fn note(text: &str) -> Note {
    Note::new(text).unwrap()
}

/// Runs the test `child` in a process of its own, kills it after `lines` acknowledgements, and
/// gives all that it printed until then.
fn run_and_kill(child: &str, dir: &Path, lines: usize) -> Vec<String> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(FOLDER, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    let keep = |line: std::io::Result<String>, said: &mut Vec<String>| {
        // The harness writes its own words before ours on the first line.
        if let Some((_, text)) = line.unwrap().split_once("acknowledged ") {
            said.push(text.to_owned());
        }
    };
    while said.len() < lines {
        keep(output.next().expect("the child ended by itself"), &mut said);
    }
    process.kill().unwrap();
    process.wait().unwrap();
    output.for_each(|line| keep(line, &mut said));
    // A line that the kill cut short has no acknowledgement in full.
    said.retain(|line| line.ends_with('.'));
    said
}

fn body() -> Submission {
    Submission {
        cell: "demo".parse().unwrap(),
        instruction: "go".parse().unwrap(),
        max_duration_s: 60,
        labels: BTreeMap::new(),
    }
}

#[test]
fn child_submits() {
    let Some(dir) = &folder() else { return };
    let mut store = TaskStore::open(dir, Arc::new(SystemClock)).unwrap();
    loop {
        let task = store.submit(&body(), None, &note("child")).unwrap().record;
        say(&format!("queued {}.", task.id));
        let task = store.grant_lease(&task.id, 1000, &system()).unwrap();
        let (attempt, epoch) = (task.attempt, task.epoch.unwrap());
        say(&format!("epoch {epoch}."));
        let intent = Intent {
            task: task.id,
            attempt,
            epoch,
            pose: vec![0.5; 14],
            plan_hash: vec![1; 32].into(),
        };
        store.intend(&intent, &system()).unwrap();
        say(&format!("intended {}.", task.id));
        store
            .apply(&task.id, Event::OracleDone, &system(), &note("done"))
            .unwrap();
        say(&format!("succeeded {}.", task.id));
    }
}

/// Order of the states that the child's tasks go through.
fn rank(state: &str) -> usize {
    ["queued", "leased", "intended", "succeeded"]
        .iter()
        .position(|s| *s == state)
        .unwrap()
}

#[test]
fn what_the_task_store_acknowledged_survives_a_kill() {
    let temp = TempDir::new();
    let dir = temp.path();
    let mut highest_epoch = 0;
    for round in 0..rounds() {
        let said = run_and_kill("kill::child_submits", dir, 40 + round % 8);
        let mut store = TaskStore::open(dir, Arc::new(SystemClock)).unwrap();
        let mut acknowledged: BTreeMap<TaskId, usize> = BTreeMap::new();
        for line in &said {
            let (word, value) = line.trim_end_matches('.').split_once(' ').unwrap();
            if word == "epoch" {
                let epoch: u64 = value.parse().unwrap();
                assert!(highest_epoch < epoch);
                highest_epoch = epoch;
            } else {
                acknowledged.insert(value.parse().unwrap(), rank(word));
            }
        }
        for (id, acknowledged) in &acknowledged {
            let task = store.get(id).unwrap();
            let state = if task.state == TaskState::Running {
                "intended"
            } else {
                task.state.name()
            };
            assert!(
                *acknowledged <= rank(state),
                "{id} was at {acknowledged} and is {state}"
            );
            let intended = store.intent(id, 1).unwrap().is_some();
            assert_eq!(intended, rank("intended") <= rank(state), "{id}");
        }
        for task in store.recover().unwrap() {
            let moved = store.intent(&task.id, task.attempt).unwrap().is_some();
            let want = if moved {
                TaskState::Interrupted
            } else {
                TaskState::Queued
            };
            assert_eq!(task.state, want);
        }
        let demo = "demo".parse().unwrap();
        assert_eq!(store.holder(&demo).unwrap(), None);
        highest_epoch = store.next_epoch(&demo).unwrap().max(highest_epoch + 1);
        store.verify_audit().unwrap();
        let (page, _) = store.list(&TaskFilter::default(), None, 500).unwrap();
        assert!(acknowledged.len() <= page.len());
    }
}

fn episode(attempt: u32) -> EpisodeId {
    EpisodeId {
        task: "01JD3V7Q4Y8B3T0V5Z6W9X2C1A".parse().unwrap(),
        attempt,
    }
}

fn image(n: u64) -> StoredImage {
    let (width, height) = (256, 256);
    let head = FrameHead {
        view: "ego".parse().unwrap(),
        seq: n,
        captured_at_ns: n,
        width,
        height,
    };
    let fill = u8::try_from(n % 251).unwrap();
    StoredImage {
        n,
        head,
        for_context: false,
        data: ImageData::Jpeg(vec![fill; 20_000].into()),
    }
}

fn record(n: u64) -> (Stamp, Packet) {
    let packet = Packet {
        head: Bytes::from(n.to_string()),
        raw: Bytes::new(),
    };
    (
        Stamp {
            at_ns: n,
            tick: None,
        },
        packet,
    )
}

#[test]
fn child_records() {
    let Some(dir) = &folder() else { return };
    let store = EpisodeStore::open(dir).unwrap();
    let attempts = store.list(None, 1000).unwrap().items.len();
    let id = episode(u32::try_from(attempts).unwrap() + 1);
    store
        .begin(&EpisodeMeta {
            id,
            cell: "demo".parse().unwrap(),
            instruction: "go".parse().unwrap(),
            epoch: 1,
            seed: 1,
            began_at_ns: 0,
            began_at_ms: 0,
            policy: None,
            model_hash: None,
            normaliser_hash: None,
            config_hash: None,
            n_threads: None,
            package: note("0.1.0"),
        })
        .unwrap();
    for n in 0.. {
        let (stamp, packet) = record(n);
        store
            .append(&id, RecordKind::Executed, stamp, &packet)
            .unwrap();
        store.append_image(&id, &image(n)).unwrap();
        if n % 10 == 9 {
            store.flush().unwrap();
            say(&format!("flushed {} {n}.", id.attempt));
        }
    }
}

#[test]
fn what_the_episode_store_flushed_survives_a_kill() {
    let temp = TempDir::new();
    let dir = temp.path();
    for round in 0..rounds() {
        let said = run_and_kill("kill::child_records", dir, 10 + round % 8);
        let store = EpisodeStore::open(dir).unwrap();
        let line = said.last().unwrap().trim_end_matches('.');
        let (attempt, flushed) = line
            .strip_prefix("flushed ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        let (id, flushed) = (
            episode(attempt.parse().unwrap()),
            flushed.parse::<u64>().unwrap(),
        );
        let summary = store.get(&id).unwrap();
        assert_eq!(summary.state, EpisodeState::Recovered);
        assert!(flushed < summary.counts[&RecordKind::Executed]);
        let ego = "ego".parse().unwrap();
        assert!(flushed < summary.views[&ego].frames);
        for n in 0..=flushed {
            let records = store.records(&id, RecordKind::Executed, n, 1).unwrap();
            let read = records.into_iter().next().unwrap().unwrap();
            assert_eq!((read.stamp, read.packet), record(n));
            assert_eq!(store.image(&id, &ego, n).unwrap(), image(n));
        }
        // Beyond the flush: there, or not there, or an error; never something else.
        for n in flushed + 1..=summary.views[&ego].last_n {
            if let Ok(read) = store.image(&id, &ego, n) {
                assert_eq!(read, image(n));
            }
        }
    }
}
