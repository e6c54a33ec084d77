//! Whether the daemon lives, whether it takes tasks, and the description of its API.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use vlad_wire::clock::SECOND;

use super::App;
use super::extract::NoQuery;
use super::problem::{Kind, Problem, ProblemDocument};

/// The daemon lives.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Package version.
    pub version: String,
    /// Seconds since the HTTP service started.
    pub uptime_s: u64,
}

/// The daemon takes tasks.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Ready {
    /// `ready`.
    pub status: String,
}

/// Says that the daemon lives; nothing about the robot.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "health", get, path = "/healthz", tag = "daemon",
    responses(
        (status = 200, description = "it lives", body = Health),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn alive(State(app): State<App>, _: NoQuery) -> Result<Json<Health>, Problem> {
    let up_ns = app.state.clock.now_ns().saturating_sub(app.started_at_ns);
    Ok(Json(Health {
        status: "ok".to_owned(),
        version: app.state.version.to_owned(),
        uptime_s: up_ns / SECOND,
    }))
}

/// Says whether tasks can be done: the policy is warm, all roles are there.
///
/// # Errors
/// A problem document; 503 with what is missing.
#[utoipa::path(
    operation_id = "readiness", get, path = "/readyz", tag = "daemon",
    responses(
        (status = 200, description = "it takes tasks", body = Ready),
        (status = 503, description = "it does not yet; `missing` says why", body = ProblemDocument,
            content_type = "application/problem+json"),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn ready(State(app): State<App>, _: NoQuery) -> Result<Json<Ready>, Problem> {
    let snapshot = app.state.desk.snapshot();
    let mut missing = snapshot.readiness.missing.clone();
    if missing.is_empty() && snapshot.cells.is_empty() {
        // Before its first snapshot the gateway has said nothing, which is not consent.
        missing.push("the gateway has shown no cell yet".to_owned());
    }
    if missing.is_empty() {
        return Ok(Json(Ready {
            status: "ready".to_owned(),
        }));
    }
    let detail = format!(
        "wait, or see the daemon's log; missing: {}",
        missing.join("; ")
    );
    let mut problem = Problem::new(Kind::NotReady, detail);
    problem.missing = missing;
    Err(problem)
}

/// Gives this document.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "openapi", get, path = "/v1/openapi.json", tag = "daemon",
    responses(
        (status = 200, description = "the OpenAPI document", body = serde_json::Value),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn document(_: NoQuery) -> Result<Json<utoipa::openapi::OpenApi>, Problem> {
    Ok(Json(super::openapi()))
}
