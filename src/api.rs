//! The REST API under `/v1`, beside it health, readiness and metrics; errors are RFC 9457 documents.
//!
//! Handlers are plain functions over the gateway's [`Desk`] and the [`EpisodeStore`]: they decide
//! nothing about robots. `routes` is the one list of paths, and [`openapi`] is generated from the
//! same handlers; a test proves that both agree.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use vlad_actors::expert::refusals::Refusals;
use vlad_actors::gateway::desk::Desk;
use vlad_bus::bus::Bus;
use vlad_store::episodes::EpisodeStore;
use vlad_wire::clock::SharedClock;

use self::layers::AnswerCounts;
use crate::dashboard;
use crate::motion_report::CellShapes;

pub mod cells;
pub mod dto;
pub mod episodes;
pub mod events;
pub mod extract;
pub mod health;
pub mod layers;
pub mod metrics;
pub mod origin;
pub mod problem;
pub mod serve;
pub mod tasks;

/// Images that are encoded or read at once; more would take the cores from the robot.
const HEAVY_MAX: usize = 4;
/// Readers of events at once: some pages and some scripts.
const EVENT_READERS_MAX: usize = 32;

/// What the API stands on.
#[derive(Clone)]
pub struct ApiState {
    /// Where orders to the gateway go.
    pub desk: Desk,
    /// The episode log, if this process has one.
    pub episodes: Option<EpisodeStore>,
    /// The cells that this process serves, as their episodes' metrics need them.
    pub shapes: Arc<CellShapes>,
    /// The bus, for its counters.
    pub bus: Bus,
    /// Contexts that this process's action expert refused.
    pub refusals: Arc<Refusals>,
    /// What time it is.
    pub clock: SharedClock,
    /// Package version.
    pub version: &'static str,
}

/// What the handlers share.
pub struct Shared {
    state: ApiState,
    heavy: Arc<Semaphore>,
    event_readers: Arc<Semaphore>,
    events_missed: AtomicU64,
    answers: AnswerCounts,
    last_motions: Mutex<metrics::LastMotions>,
    started_at_ns: u64,
}

/// The handlers' state.
pub type App = Arc<Shared>;

/// Gives the whole HTTP service: the API, the page, and what every request passes.
pub fn router(state: ApiState) -> Router {
    let started_at_ns = state.clock.now_ns();
    let app = Arc::new(Shared {
        state,
        heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
        event_readers: Arc::new(Semaphore::new(EVENT_READERS_MAX)),
        events_missed: AtomicU64::new(0),
        answers: AnswerCounts::default(),
        last_motions: Mutex::default(),
        started_at_ns,
    });
    let api = routes().into_iter();
    api.fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods)
    })
    .merge(dashboard::routes())
    .fallback(layers::unknown_path)
    .method_not_allowed_fallback(layers::unknown_method)
    .layer(DefaultBodyLimit::max(layers::BODY_MAX))
    .layer(axum::middleware::from_fn_with_state(
        Arc::clone(&app),
        layers::guard,
    ))
    .with_state(app)
}

/// Every path of the API with its handlers.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    let estop = post(cells::estop).layer(DefaultBodyLimit::max(layers::ESTOP_BODY_MAX));
    vec![
        ("/v1/tasks", post(tasks::submit).get(tasks::list)),
        ("/v1/tasks/{id}", get(tasks::show)),
        ("/v1/tasks/{id}/cancel", post(tasks::cancel)),
        ("/v1/tasks/{id}/verdict", post(tasks::verdict)),
        ("/v1/cells", get(cells::list)),
        ("/v1/cells/{id}", get(cells::show)),
        ("/v1/cells/{id}/estop", estop),
        ("/v1/cells/{id}/reset", post(cells::reset)),
        ("/v1/cells/{id}/rearm", post(cells::rearm)),
        ("/v1/cells/{id}/park", post(cells::park)),
        ("/v1/cells/{id}/speed", post(cells::speed)),
        ("/v1/cells/{id}/frames/{view}", get(cells::frame)),
        ("/v1/episodes", get(episodes::list)),
        ("/v1/episodes/{id}", get(episodes::show)),
        ("/v1/episodes/{id}/motion", get(episodes::motion)),
        ("/v1/episodes/{id}/frames/{view}/{n}", get(episodes::frame)),
        ("/v1/events", get(events::follow)),
        ("/v1/openapi.json", get(health::document)),
        ("/healthz", get(health::alive)),
        ("/readyz", get(health::ready)),
        ("/metrics", get(metrics::show)),
    ]
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "vlad",
        description = "Tasks in plain language for a robot cell. Errors are RFC 9457 problem \
            documents that say what to do. Only loopback names are served, and no web page of \
            another origin."
    ),
    paths(
        tasks::submit, tasks::list, tasks::show, tasks::cancel, tasks::verdict,
        cells::list, cells::show, cells::estop, cells::reset, cells::rearm, cells::park, cells::speed,
        cells::frame,
        episodes::list, episodes::show, episodes::motion, episodes::frame,
        events::follow,
        health::document, health::alive, health::ready, metrics::show,
    ),
    tags(
        (name = "tasks", description = "What the robot shall do."),
        (name = "cells", description = "How a cell stands, and commands to its guard."),
        (name = "episodes", description = "The logs of tries."),
        (name = "daemon", description = "Events, health, metrics.")
    )
)]
struct Document;

/// Gives the OpenAPI document of `routes`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests;
