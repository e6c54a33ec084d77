//! Cells: how they stand, what their cameras see, and the commands of a person.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tracing::info;
use vlad_actors::gateway::desk::GuardOrder;
use vlad_store::jpeg;
use vlad_wire::msg::sense::Frame;
use vlad_wire::text::Name;

use super::App;
use super::dto::cell::{Cell, CellList, Order, OrderAnswer, SpeedOrder};
use super::extract::{JsonBody, NoQuery, Segments, cell_id, id};
use super::problem::{Kind, Problem, ProblemDocument};

/// Good enough to see a gripper's fingers, at a fifth of the lossless size.
pub(super) const JPEG_QUALITY: u8 = 85;

/// Lists all cells.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "list_cells",
    get, path = "/v1/cells", tag = "cells",
    responses(
        (status = 200, description = "all cells", body = CellList),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn list(State(app): State<App>, _: NoQuery) -> Result<Json<CellList>, Problem> {
    let items = app
        .state
        .desk
        .snapshot()
        .cells
        .iter()
        .map(Cell::from)
        .collect();
    Ok(Json(CellList { items, next: None }))
}

/// Shows a cell: mode with its reason, joints, rates, ages, policy, current task.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "show_cell",
    get, path = "/v1/cells/{id}", tag = "cells",
    params(("id" = String, Path, description = "the cell's id")),
    responses(
        (status = 200, description = "the cell", body = Cell),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
) -> Result<Json<Cell>, Problem> {
    let view = app.state.desk.cell(&cell_id(&id)?)?;
    Ok(Json(Cell::from(&view)))
}

/// Stops a cell now, and latches: only a named reset leaves it.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "estop_cell",
    post, path = "/v1/cells/{id}/estop", tag = "cells", request_body = Order,
    params(("id" = String, Path, description = "the cell's id")),
    responses(
        (status = 200, description = "stopped and latched", body = OrderAnswer),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn estop(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
    JsonBody(order): JsonBody<Order>,
) -> Result<Json<OrderAnswer>, Problem> {
    command(&app, &id, GuardOrder::Estop, order).await
}

/// Leaves a latched mode by name and reason; the cell is disarmed after it.
///
/// # Errors
/// A problem document; 409 with the guard's reason if it refuses.
#[utoipa::path(
    operation_id = "reset_cell",
    post, path = "/v1/cells/{id}/reset", tag = "cells", request_body = Order,
    params(("id" = String, Path, description = "the cell's id")),
    responses(
        (status = 200, description = "reset", body = OrderAnswer),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn reset(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
    JsonBody(order): JsonBody<Order>,
) -> Result<Json<OrderAnswer>, Problem> {
    command(&app, &id, GuardOrder::Reset, order).await
}

/// Arms a disarmed or stopped cell: after it, tasks move the robot.
///
/// # Errors
/// A problem document; 409 with the guard's reason if it refuses.
#[utoipa::path(
    operation_id = "rearm_cell",
    post, path = "/v1/cells/{id}/rearm", tag = "cells", request_body = Order,
    params(("id" = String, Path, description = "the cell's id")),
    responses(
        (status = 200, description = "armed", body = OrderAnswer),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn rearm(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
    JsonBody(order): JsonBody<Order>,
) -> Result<Json<OrderAnswer>, Problem> {
    command(&app, &id, GuardOrder::Rearm, order).await
}

/// Sends the robot to its park pose, slowly; the cell must be armed and free.
///
/// # Errors
/// A problem document; 409 with the guard's reason if it refuses.
#[utoipa::path(
    operation_id = "park_cell",
    post, path = "/v1/cells/{id}/park", tag = "cells", request_body = Order,
    params(("id" = String, Path, description = "the cell's id")),
    responses(
        (status = 200, description = "on its way", body = OrderAnswer),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn park(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
    JsonBody(order): JsonBody<Order>,
) -> Result<Json<OrderAnswer>, Problem> {
    command(&app, &id, GuardOrder::Park, order).await
}

/// Changes the speed fraction of a cell, from its next tick on.
///
/// # Errors
/// A problem document; 400 for a fraction that is none.
#[utoipa::path(
    operation_id = "speed_cell",
    post, path = "/v1/cells/{id}/speed", tag = "cells", request_body = SpeedOrder,
    params(("id" = String, Path, description = "the cell's id")),
    responses(
        (status = 200, description = "taken", body = OrderAnswer),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn speed(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
    JsonBody(SpeedOrder { rate, by }): JsonBody<SpeedOrder>,
) -> Result<Json<OrderAnswer>, Problem> {
    if !(0.0 < rate && rate <= 1.0) {
        let detail = format!("rate is {rate}: give a fraction above 0 and at most 1");
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    command(&app, &id, GuardOrder::Speed(rate), by).await
}

async fn command(
    app: &App,
    cell: &str,
    what: GuardOrder,
    order: Order,
) -> Result<Json<OrderAnswer>, Problem> {
    let cell = cell_id(cell)?;
    info!(%cell, ?what, operator = %order.operator, reason = %order.reason, "a person commands");
    let answer = app.state.desk.guard(cell, what, order.into()).await?;
    if answer.done {
        Ok(Json(OrderAnswer::from(&answer)))
    } else {
        let detail = format!(
            "the guard refuses: {}; it is {} ({}): {}",
            answer.text,
            answer.mode,
            answer.reason.meaning(),
            answer.reason.what_to_do()
        );
        Err(Problem::new(Kind::Conflict, detail))
    }
}

/// Shows what a camera sees: its newest frame as JPEG.
///
/// # Errors
/// A problem document; 404 if there is no such view or no frame of it yet.
#[utoipa::path(
    operation_id = "frame_cell",
    get, path = "/v1/cells/{id}/frames/{view}", tag = "cells",
    params(
        ("id" = String, Path, description = "the cell's id"),
        ("view" = String, Path, description = "the camera's view"),
    ),
    responses(
        (status = 200, description = "the frame", body = Vec<u8>, content_type = "image/jpeg"),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn frame(
    State(app): State<App>,
    _: NoQuery,
    Segments((cell, view)): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let cell = cell_id(&cell)?;
    let view: Name = id("view", &view)?;
    app.state.desk.cell(&cell)?;
    let Some(newest) = app.state.desk.frame(&cell, &view) else {
        let detail = format!(
            "cell {cell} has no frame of view {view}: see its cameras, and whether perception is fit"
        );
        return Err(Problem::new(Kind::NotFound, detail));
    };
    let seq = newest.head.seq;
    let frame = Frame {
        head: newest.head,
        pixels: newest.pixels,
    };
    let bytes = heavy(&app, move || {
        jpeg::encode(&frame, JPEG_QUALITY)
            .map_err(|error| Problem::new(Kind::Internal, format!("{error}: see the camera")))
    })
    .await?;
    let mut headers = HeaderMap::new();
    headers.insert("vlad-frame-seq", HeaderValue::from(seq));
    Ok(jpeg_response(headers, bytes.into()))
}

/// Answers with a JPEG.
pub(super) fn jpeg_response(mut headers: HeaderMap, bytes: Bytes) -> Response {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    (headers, bytes).into_response()
}

/// Does blocking work on a thread of its own, a few at a time.
///
/// # Errors
/// What the work returns, or a problem if it panicked.
pub(super) async fn heavy<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let stopped = |_| Problem::new(Kind::Unavailable, "the daemon is stopping: start it again");
    // The permit travels with the work: a client that leaves frees no place before the work ends.
    let permit = std::sync::Arc::clone(&app.heavy)
        .acquire_owned()
        .await
        .map_err(stopped)?;
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    });
    let bug = "the daemon hit a bug: its log has the details";
    done.await.map_err(|_| Problem::new(Kind::Internal, bug))?
}
