//! The second half of F32: a policy that gets nowhere is found out, and its task ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use vlad_sim::policy::scripted::ScriptedPolicy;
use vlad_store::tasks::TaskStore;
use vlad_task::state::TaskState;
use vlad_task::submit::Submission;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::text::{Instruction, Note};

use super::finding::{Finding, Worst};
use super::folder::Folder;
use crate::rehearsal::puppet::{Hands, Puppet};
use crate::rehearsal::{Options, Run, gateway};

/// A loop must be found within a minute.
const FOUND_S: f64 = 60.0;
/// After that nobody waits any more.
const PATIENCE_NS: u64 = 120 * SECOND;

/// Runs the real gateway with a policy that stands still, and one that swings.
///
/// # Errors
/// Parts that cannot be made.
pub(super) fn loops_are_found(seed: u64) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    for hands in [Hands::Still, Hands::Swing { by: 0.15, rows: 30 }] {
        finding.add(is_found(seed, hands)?);
    }
    Ok(finding)
}

fn is_found(seed: u64, hands: Hands) -> anyhow::Result<Finding> {
    let folder = Folder::new("f32")?;
    let mut run = Run::new(Options {
        scene_seed: seed,
        policy: Box::new(move |robot| {
            let scripted = ScriptedPolicy::new(Arc::new(robot.clone()))?;
            let puppet = Puppet::new(Arc::new(scripted), robot.clone());
            puppet.hands(hands);
            Ok(Arc::new(puppet))
        }),
        ..Options::default()
    })?;
    let place = folder.sub("tasks")?;
    let mut store = TaskStore::open(&place, run.stepped.clock())?;
    let submission = Submission {
        cell: run.config.cell.name.clone(),
        instruction: Instruction::new("put the red block in the left tray")?,
        max_duration_s: 600,
        labels: BTreeMap::new(),
    };
    let task = store
        .submit(&submission, None, &Note::cleaned("bench"))?
        .record;
    let reader = TaskStore::open(&place, run.stepped.clock())?;
    gateway::add(&mut run, store)?;
    let clock = run.stepped.clock();
    let mut began_ns = None;
    while clock.now_ns() < PATIENCE_NS {
        run.idle(200 * MS)?;
        let now = reader.get(&task.id)?;
        if now.state == TaskState::Running {
            began_ns.get_or_insert(clock.now_ns());
        }
        if now.state.terminal() {
            break;
        }
    }
    let ended = reader.get(&task.id)?;
    let began_ns = began_ns.context("the task never ran")?;
    let took_s = super::standard::millis(clock.now_ns() - began_ns) / 1e3;
    let reason = ended
        .reason
        .map(|reason| reason.to_string())
        .unwrap_or_default();
    let mut faults = Vec::new();
    if ended.state != TaskState::Failed || !reason.contains("repeats") {
        faults.push(format!("the task is {}: {reason}", ended.state));
    }
    let figure = Worst::new("a loop is found after, s", took_s, FOUND_S);
    Ok(Finding::of(vec![figure], faults))
}
