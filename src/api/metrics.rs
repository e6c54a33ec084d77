//! Counters and gauges in the text format of Prometheus, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use vlad_actors::gateway::desk::Snapshot;
use vlad_motion::metrics::MotionReport;
use vlad_safety::mode::Mode;
use vlad_store::episode::EpisodeState;
use vlad_store::episodes::EpisodeStore;
use vlad_wire::id::{CellId, EpisodeId};

use super::App;
use super::cells::heavy;
use super::dto::cell::Counters;
use super::extract::NoQuery;
use super::problem::{Problem, ProblemDocument};
use crate::motion_report::{CellShapes, EpisodeMotion, read};

/// Newest episodes that are looked at for the last finished one of each cell.
const EPISODES_LOOKED_AT: usize = 32;

/// A figure of an episode: name, help, and what it is.
type Figure = (&'static str, &'static str, fn(&MotionReport) -> Option<f64>);

/// Figures of the last finished episode of each cell; the numbers are those of reference A.6.
const FIGURES: [Figure; 11] = [
    (
        "vlad_episode_stall_ratio",
        "M1: stalled ticks among all.",
        |r| Some(r.stalls.ratio),
    ),
    (
        "vlad_episode_age_p99_ms",
        "M2: age of actions, 99th percentile.",
        |r| r.age.map(|age| age.age_ms.p99),
    ),
    (
        "vlad_episode_age_max_ms",
        "M2: age of the oldest action.",
        |r| r.age.map(|age| age.age_ms.max),
    ),
    (
        "vlad_episode_seams",
        "M3: switches from chunk to chunk without a gap.",
        |r| u32::try_from(r.seams.seams.len()).ok().map(f64::from),
    ),
    (
        "vlad_episode_seam_velocity_ratio",
        "M3: velocity step at seams over that within chunks, 95th percentiles.",
        |r| {
            let [_, velocity, ..] = r.seams.rho;
            velocity
        },
    ),
    (
        "vlad_episode_jerk_rms",
        "M4: jerk of the commands, per cubic second.",
        |r| r.smoothness.map(|smoothness| smoothness.rms_jerk),
    ),
    (
        "vlad_episode_tracking_lag_ms",
        "M5: largest lag of a degree of freedom.",
        |r| r.tracking.iter().map(|dof| dof.lag_ms).reduce(f64::max),
    ),
    (
        "vlad_episode_lateness_p999_us",
        "M6: lateness of servo ticks, 99.9th percentile.",
        |r| r.lateness.map(|lateness| lateness.late_us.p999),
    ),
    (
        "vlad_episode_deadlines_missed",
        "M8: chunks that came when the one before may have ended.",
        |r| u32::try_from(r.deadlines.hard).ok().map(f64::from),
    ),
    (
        "vlad_episode_interventions_per_thousand",
        "M9: servo ticks whose command the guard changed.",
        |r| Some(r.interventions.per_thousand),
    ),
    (
        "vlad_episode_delay_p99_ms",
        "M11: from request to chunk, 99th percentile.",
        |r| r.economy.delay_ms.map(|delay| delay.p99),
    ),
];

/// The last finished episode of a cell, and its `FIGURES`.
#[derive(Debug, Clone)]
pub struct LastMotion {
    episode: EpisodeId,
    figures: [Option<f64>; FIGURES.len()],
}

/// The last finished episode of each cell.
pub type LastMotions = BTreeMap<CellId, LastMotion>;

/// Gives all metrics.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "metrics",
    get, path = "/metrics", tag = "daemon",
    responses(
        (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn show(State(app): State<App>, _: NoQuery) -> Result<Response, Problem> {
    let mut page = Page::default();
    daemon(&mut page, &app);
    {
        let snapshot = app.state.desk.snapshot();
        cells(&mut page, &snapshot);
        roles(&mut page, &snapshot);
    }
    streams(&mut page, &app);
    contexts(&mut page, &app);
    episodes(&mut page, &last_motions(&app).await);
    let headers = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((headers, page.text).into_response())
}

/// A page of metrics in the making.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Opens a family; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.text.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let text = text.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(self.text, "{open}{label}=\"{}\"", text.replace('\n', "\\n"));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn daemon(page: &mut Page, app: &App) {
    page.family(
        "vlad_build_info",
        "gauge",
        "1, with the package version as label.",
    );
    page.sample("vlad_build_info", &[("version", &app.state.version)], 1);
    page.family("vlad_ready", "gauge", "1 if the daemon takes tasks.");
    let ready = app.state.desk.snapshot().readiness.missing.is_empty();
    page.sample("vlad_ready", &[], u8::from(ready));
    page.family(
        "vlad_http_answers_total",
        "counter",
        "HTTP answers by class of status.",
    );
    for (class, count) in app.answers.read() {
        page.sample("vlad_http_answers_total", &[("class", &class)], count);
    }
    page.family(
        "vlad_events_missed_total",
        "counter",
        "Events that slow readers missed.",
    );
    let missed = app.events_missed.load(Ordering::Relaxed);
    page.sample("vlad_events_missed_total", &[], missed);
}

fn cells(page: &mut Page, snapshot: &Snapshot) {
    page.family(
        "vlad_guard_mode",
        "gauge",
        "1 for the guard's mode, 0 for the others.",
    );
    for cell in &snapshot.cells {
        for mode in Mode::ALL {
            let labels: [(&str, &dyn Display); 2] = [("cell", &cell.id), ("mode", &mode)];
            page.sample(
                "vlad_guard_mode",
                &labels,
                u8::from(cell.mode == Some(mode)),
            );
        }
    }
    page.family("vlad_cell_ready", "gauge", "1 if the cell takes tasks.");
    for cell in &snapshot.cells {
        let ready = u8::from(cell.not_ready.is_empty());
        page.sample("vlad_cell_ready", &[("cell", &cell.id)], ready);
    }
    page.family("vlad_cell_busy", "gauge", "1 if the cell does a task.");
    for cell in &snapshot.cells {
        let busy = u8::from(cell.task.is_some());
        page.sample("vlad_cell_busy", &[("cell", &cell.id)], busy);
    }
    page.family(
        "vlad_ticks_per_second",
        "gauge",
        "Policy ticks played in the last second.",
    );
    for cell in &snapshot.cells {
        page.sample(
            "vlad_ticks_per_second",
            &[("cell", &cell.id)],
            number(cell.ticks_per_s),
        );
    }
    page.family(
        "vlad_guard_total",
        "counter",
        "What the guard accepted, refused or changed.",
    );
    for cell in &snapshot.cells {
        for (what, count) in Counters::from(cell.counters).named() {
            let labels: [(&str, &dyn Display); 2] = [("cell", &cell.id), ("what", &what)];
            page.sample("vlad_guard_total", &labels, count);
        }
    }
}

fn roles(page: &mut Page, snapshot: &Snapshot) {
    let roles = || {
        let cells = snapshot.cells.iter();
        cells.flat_map(|cell| cell.roles.iter().map(move |role| (cell, role)))
    };
    page.family(
        "vlad_role_alive",
        "gauge",
        "1 if the role's heartbeats are fresh.",
    );
    for (cell, role) in roles() {
        let labels: [(&str, &dyn Display); 2] = [("cell", &cell.id), ("role", &role.role)];
        page.sample("vlad_role_alive", &labels, u8::from(role.alive));
    }
    page.family("vlad_role_fit", "gauge", "1 if the role can do its work.");
    for (cell, role) in roles() {
        let labels: [(&str, &dyn Display); 2] = [("cell", &cell.id), ("role", &role.role)];
        page.sample("vlad_role_fit", &labels, u8::from(role.unfit.is_none()));
    }
    page.family(
        "vlad_heartbeat_age_ms",
        "gauge",
        "Age of the role's newest heartbeat.",
    );
    for (cell, role) in roles() {
        let labels: [(&str, &dyn Display); 2] = [("cell", &cell.id), ("role", &role.role)];
        page.sample("vlad_heartbeat_age_ms", &labels, number(role.age_ms));
    }
    let streams = || {
        let cells = snapshot.cells.iter();
        cells.flat_map(|cell| cell.streams.iter().map(move |stream| (cell, stream)))
    };
    page.family(
        "vlad_stream_rate_hz",
        "gauge",
        "Messages per second as the gateway gets them.",
    );
    for (cell, stream) in streams() {
        let labels: [(&str, &dyn Display); 2] = [("cell", &cell.id), ("stream", &stream.key)];
        page.sample("vlad_stream_rate_hz", &labels, number(stream.rate_hz));
    }
    page.family(
        "vlad_stream_age_ms",
        "gauge",
        "Age of the newest message, from its sampling.",
    );
    for (cell, stream) in streams() {
        let labels: [(&str, &dyn Display); 2] = [("cell", &cell.id), ("stream", &stream.key)];
        page.sample("vlad_stream_age_ms", &labels, number(stream.age_ms));
    }
}

fn streams(page: &mut Page, app: &App) {
    let rows = app.state.bus.counters();
    let families = [
        (
            "vlad_stream_received_total",
            "Messages that reached a reader of this process.",
        ),
        (
            "vlad_stream_malformed_total",
            "Of these, dropped as malformed or oversized.",
        ),
        (
            "vlad_stream_overwritten_total",
            "Of these, dropped for newer ones before being read.",
        ),
        ("vlad_stream_put_total", "Messages handed to the link."),
        (
            "vlad_stream_put_failed_total",
            "Messages that could not be handed to the link.",
        ),
    ];
    for (i, (family, help)) in families.into_iter().enumerate() {
        page.family(family, "counter", help);
        for (key, row) in &rows {
            let values = [
                row.received,
                row.malformed,
                row.overwritten,
                row.put,
                row.put_failed,
            ];
            let value = values.get(i).copied().unwrap_or(0);
            page.sample(family, &[("stream", key)], value);
        }
    }
}

fn contexts(page: &mut Page, app: &App) {
    page.family(
        "vlad_context_refused_total",
        "counter",
        "Contexts, and their messages, that the action expert of this process did not use.",
    );
    for (fault, count) in app.state.refusals.read() {
        let labels: [(&str, &dyn Display); 1] = [("reason", &fault.name())];
        page.sample("vlad_context_refused_total", &labels, count);
    }
}

/// Gives the last finished episode of each cell; one that was read before is not read again.
async fn last_motions(app: &App) -> LastMotions {
    let known = || lock(app).clone();
    let Some(store) = app.state.episodes.clone() else {
        return known();
    };
    // A scrape waits for nobody: it gives what is known.
    if app.heavy.available_permits() == 0 {
        return known();
    }
    let (shapes, before) = (app.state.shapes.clone(), known());
    let found = heavy(app, move || Ok(newest(&store, &shapes, before))).await;
    found.map_or_else(
        |_| known(),
        |found| {
            lock(app).clone_from(&found);
            found
        },
    )
}

fn lock(app: &App) -> MutexGuard<'_, LastMotions> {
    // Whoever panicked has left the map as it was.
    app.last_motions
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn newest(store: &EpisodeStore, shapes: &CellShapes, before: LastMotions) -> LastMotions {
    let mut found = LastMotions::new();
    let page = store.list(None, EPISODES_LOOKED_AT);
    let summaries = page.map(|page| page.items).unwrap_or_default();
    let finished = |state| state == EpisodeState::Finished;
    for summary in summaries.iter().filter(|summary| finished(summary.state)) {
        let (id, cell) = (summary.meta.id, &summary.meta.cell);
        let Some(shape) = shapes.get(cell).filter(|_| !found.contains_key(cell)) else {
            continue;
        };
        let known = before.get(cell).filter(|known| known.episode == id);
        let last = known.cloned().or_else(|| {
            let recorded = read(store, &id).ok()?;
            let motion = EpisodeMotion::of(recorded, &shape.log, 0);
            let figures = FIGURES.map(|(_, _, figure)| figure(&motion.report));
            Some(LastMotion {
                episode: id,
                figures,
            })
        });
        found.extend(last.map(|last| (cell.clone(), last)));
    }
    for (cell, last) in before {
        found.entry(cell).or_insert(last);
    }
    found
}

fn episodes(page: &mut Page, motions: &LastMotions) {
    for (i, (name, help, _)) in FIGURES.into_iter().enumerate() {
        page.family(name, "gauge", &format!("Last finished episode, {help}"));
        for (cell, last) in motions {
            if let Some(value) = last.figures.get(i).copied().flatten() {
                page.sample(name, &[("cell", cell)], number(value));
            }
        }
    }
}

/// Prometheus spells infinity in its own way.
fn number(x: f64) -> String {
    if x.is_nan() {
        "NaN".to_owned()
    } else if x.is_infinite() {
        if 0.0 < x {
            "+Inf".to_owned()
        } else {
            "-Inf".to_owned()
        }
    } else {
        x.to_string()
    }
}
