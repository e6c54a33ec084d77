//! Settings, checkpoint, robot and cameras of the configured cells.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use vlad_actors::perception::picture::{self, Exposure};
use vlad_cell::camera::Camera;
use vlad_wire::clock::{MS, SECOND, SharedClock, SystemClock};

use crate::cli::model::inspect;
use crate::config::{CellConfig, Config, ConfigError};
use crate::daemon::policy;
use crate::daemon::world::CellWorld;

use super::finding::{Finding, Level, NOTHING};
use super::ticks::RATE_HZ;

/// How long cameras are looked at.
const LOOK_NS: u64 = 2 * SECOND;
/// The same, for rates.
const LOOK_NS_F64: f64 = 2e9;
/// Between two looks: shorter than the period of any camera.
const PAUSE: Duration = Duration::from_millis(4);
/// Cameras that give less than this share of their frames are slow.
const RATE_SHARE: f64 = 0.8;

/// Says whether the settings are accepted.
pub fn settings(config: Result<&Config, &ConfigError>) -> Finding {
    let checked = config.map_err(ToString::to_string).and_then(|config| {
        let checked = policy::check(config).map_err(|error| error.to_string());
        checked.map(|()| config)
    });
    match checked {
        Ok(config) => {
            let names = config.cells.iter().map(|cell| cell.cell.name.to_string());
            let names: Vec<_> = names.collect();
            let what = format!(
                "cells {}, policy {}",
                names.join(", "),
                config.daemon.policy
            );
            Finding::new("settings", Level::Ok, what)
                .means("a daemon would start with them")
                .figures(json!({ "cells": names, "policy": config.daemon.policy }))
        }
        Err(error) => Finding::new("settings", Level::Mend, error)
            .means("no daemon starts with them; it would end with 78")
            .todo("mend the named key; `vlad config check` shows which layer set each"),
    }
}

/// The first cell's servo rate, ticks per second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "the description has checked that servo_hz lies between 1 and 2000"
)]
pub fn servo_rate(config: &Config) -> u32 {
    let first = config.cells.first();
    first.map_or(RATE_HZ, |cell| cell.robot.toml().servo_hz.round() as u32)
}

/// Says what the cells and the checkpoint are like.
pub fn findings(config: &Config, checkpoint: Option<&Path>) -> Vec<Finding> {
    let dir = checkpoint.or(config.daemon.checkpoint.as_deref());
    let mut found = vec![dir.map_or_else(no_checkpoint, of_checkpoint)];
    for cell in &config.cells {
        match look(cell) {
            Ok(seen) => found.extend(seen),
            Err(error) => found.push(unreachable(cell, &error)),
        }
    }
    found
}

fn no_checkpoint() -> Finding {
    Finding::new("checkpoint", Level::Ok, "none is named")
        .means("the scripted policy needs none; the network would run random weights")
        .todo("nothing, or name one with --checkpoint")
}

fn of_checkpoint(dir: &Path) -> Finding {
    let faults = inspect::faults_of(dir);
    let found = match faults.as_slice() {
        [] => Finding::new(
            "checkpoint",
            Level::Ok,
            format!("{} is whole", dir.display()),
        )
        .means("each of its tensors is there and finite, and its manifest fits it"),
        [first, ..] => {
            let what = format!("{}: {} faults, first: {first}", dir.display(), faults.len());
            Finding::new("checkpoint", Level::Mend, what)
                .means("neither brain nor action expert starts with it")
                .todo(
                    "fetch it again, or mend its vlad.toml; `vlad model inspect` lists everything",
                )
        }
    };
    found.figures(json!({ "dir": dir, "faults": faults }))
}

fn unreachable(cell: &CellConfig, error: &anyhow::Error) -> Finding {
    let what = format!("cell {}: {error:#}", cell.cell.name);
    Finding::new("cell", Level::Mend, what)
        .means("its robot and cameras cannot be opened: perception and guard do not start")
        .todo("start what the message names, or correct cell.world")
}

/// What one camera gave.
struct Seen {
    camera: Box<dyn Camera>,
    frames: u32,
    ages_ns: Vec<u64>,
    blind: Option<picture::Blind>,
    failure: Option<String>,
}

/// Looks through the cell's cameras for a moment; of a served world also at its robot.
fn look(cell: &CellConfig) -> anyhow::Result<Vec<Finding>> {
    let clock: SharedClock = Arc::new(SystemClock);
    let world = CellWorld::new(cell, clock.now_ns())?;
    let _running = world.run(&clock).context("cannot start the world")?;
    let mut found: Vec<Finding> = world.watch()?.map(of_robot).into_iter().collect();
    let mut cameras: Vec<Seen> = Vec::new();
    for camera in world.cameras()? {
        cameras.push(Seen {
            camera,
            frames: 0,
            ages_ns: Vec::new(),
            blind: None,
            failure: None,
        });
    }
    let exposure = cell.perception.exposure();
    let until_ns = clock.now_ns() + LOOK_NS;
    let (_open, silent) = sync_channel::<()>(1);
    while clock.now_ns() < until_ns {
        for seen in &mut cameras {
            seen.look(&clock, exposure);
        }
        // Nothing is ever sent: this is the wait between two looks.
        let _ = silent.recv_timeout(PAUSE);
    }
    let stale_ms = u64::from(cell.perception.stale_ms);
    found.extend(cameras.iter().map(|seen| seen.finding(cell, stale_ms)));
    Ok(found)
}

fn of_robot(world: String) -> Finding {
    Finding::new("robot", Level::Ok, world)
        .means("its samples come; it was watched, not commanded")
        .todo(NOTHING)
}

impl Seen {
    fn look(&mut self, clock: &SharedClock, exposure: Exposure) {
        match self.camera.newest() {
            Ok(Some(frame)) => {
                let age_ns = clock.now_ns().saturating_sub(frame.head.captured_at_ns);
                self.frames += 1;
                self.ages_ns.push(age_ns);
                let width = usize::from(frame.head.width);
                self.blind = picture::judge(&frame.pixels, width, &exposure);
                self.failure = None;
            }
            Ok(None) => {}
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn finding(&self, cell: &CellConfig, stale_ms: u64) -> Finding {
        let info = self.camera.info();
        let rate_hz = f64::from(self.frames) * 1e9 / LOOK_NS_F64;
        let oldest_ms = self.ages_ns.iter().max().map(|age_ns| age_ns / MS);
        let what = format!(
            "cell {}, {}: {rate_hz:.1} frames a second of {} at {}×{}, oldest {} ms",
            cell.cell.name,
            info.view,
            info.rate_hz,
            info.width,
            info.height,
            oldest_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
        );
        let fault = if let Some(failure) = &self.failure {
            Some((Level::Mend, failure.clone()))
        } else if self.frames == 0 {
            Some((Level::Mend, "it gives no frames".to_owned()))
        } else if let Some(blind) = self.blind {
            Some((Level::Mend, format!("it {blind}")))
        } else if rate_hz < RATE_SHARE * info.rate_hz {
            Some((Level::Note, "it is slow".to_owned()))
        } else if oldest_ms.is_some_and(|ms| stale_ms < ms) {
            Some((Level::Note, "its frames are old when they come".to_owned()))
        } else {
            None
        };
        let figures = json!({ "view": info.view, "rate_hz": rate_hz, "oldest_ms": oldest_ms });
        let found = match fault {
            None => Finding::new("camera", Level::Ok, what)
                .means("perception would be fit with it"),
            Some((level, fault)) => Finding::new("camera", level, format!("{what}: {fault}"))
                .means("perception is unfit while that lasts, and the guard holds")
                .todo("look at its cable, its lens and what else uses its bus; then perception's limits"),
        };
        found.figures(figures)
    }
}
