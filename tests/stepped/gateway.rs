//! Gateway and recorder in virtual time: from a submission to an episode on the disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vlad_actors::recorder::{Recorder, RecorderParts};
use vlad_store::episodes::EpisodeStore;
use vlad_store::record::RecordKind;
use vlad_store::tasks::TaskStore;
use vlad_task::state::TaskState;
use vlad_task::submit::Submission;
use vlad_wire::id::Role;
use vlad_wire::msg::think::Digest;
use vlad_wire::text::{Instruction, Note};

use vlad::rehearsal::{Options, Run, gateway};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vlad-stepped-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Kinds of records that every episode has.
const KINDS: [RecordKind; 11] = [
    RecordKind::Observation,
    RecordKind::Request,
    RecordKind::Context,
    RecordKind::Chunk,
    RecordKind::Accepted,
    RecordKind::Executed,
    RecordKind::Joints,
    RecordKind::Guard,
    RecordKind::Event,
    RecordKind::Verdict,
    RecordKind::Task,
];

fn submission(run: &Run) -> Submission {
    Submission {
        cell: run.config.cell.name.clone(),
        instruction: Instruction::new("put the red block in the left tray").unwrap(),
        max_duration_s: 60,
        labels: BTreeMap::new(),
    }
}

/// Adds the gateway and the recorder to a run.
fn add_keepers(run: &mut Run, store: TaskStore, episodes: EpisodeStore) {
    let (bus, clock) = (run.stepped.bus().clone(), run.stepped.clock());
    gateway::add(run, store).unwrap();
    let parts = RecorderParts {
        cell: run.config.cell.name.clone(),
        store: episodes,
        config_hash: Digest::default(),
        session: 6,
    };
    let recorder = Recorder::new(&bus, &clock, parts).unwrap();
    run.stepped.add(Role::Recorder, Box::new(recorder));
}

#[test]
fn a_submitted_task_is_done_and_its_episode_is_whole() {
    let folder = Folder::new("whole");
    let mut run = Run::new(Options::default()).unwrap();
    let mut store = TaskStore::open(&folder.0, run.stepped.clock()).unwrap();
    let task = store
        .submit(&submission(&run), None, &Note::cleaned("test"))
        .unwrap()
        .record;
    let episodes = EpisodeStore::open(&folder.0).unwrap();
    add_keepers(&mut run, store, episodes.clone());

    let reader = TaskStore::open(&folder.0, run.stepped.clock()).unwrap();
    let mut ended = false;
    // Half a minute of virtual time, looked at ten times a second.
    for _ in 0..300 {
        for _ in 0..24 {
            run.stepped.step().unwrap();
        }
        ended |= reader.get(&task.id).unwrap().state.terminal();
        let summary = ended
            .then(|| episodes.list(None, 10).unwrap().items.pop())
            .flatten();
        if summary.is_some_and(|summary| summary.ending.is_some()) {
            break;
        }
    }
    let task = reader.get(&task.id).unwrap();
    assert_eq!(
        (task.state, task.attempt),
        (TaskState::Succeeded, 1),
        "{:?}",
        task.reason
    );
    assert!(
        reader.intent(&task.id, 1).unwrap().is_some(),
        "no motion without an intent"
    );
    let summary = episodes.get(&task.episode().unwrap()).unwrap();
    assert_eq!(
        summary.ending.as_ref().unwrap().outcome.as_str(),
        "succeeded"
    );
    for kind in KINDS {
        assert!(summary.counts.contains_key(&kind), "{kind} is not logged");
    }
    assert_eq!(
        summary.counts[&RecordKind::Chunk],
        summary.counts[&RecordKind::Context]
    );
    let hash = summary.meta.model_hash.as_ref().map(|hash| hash.len());
    assert_eq!(hash, Some(32), "an episode says which model made it");
    assert_eq!(summary.views.len(), 3);
    for view in summary.views.values() {
        assert_eq!(view.context_frames, summary.counts[&RecordKind::Context]);
    }
}
