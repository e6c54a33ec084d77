//! Tasks: submit, list, show, cancel, judge.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use vlad_actors::gateway::desk::TaskQuery;
use vlad_task::submit::Submission;
use vlad_wire::msg::command::Signature;

use super::App;
use super::dto::task::{CancelRequest, Task, TaskFilter, TaskList, TaskSubmission, VerdictRequest};
use super::extract::{
    JsonBody, KeyHeader, NoQuery, OptionalJsonBody, QueryParams, Segments, limit, task_id,
};
use super::problem::{Problem, ProblemDocument};

/// Takes a task; it is durable before the answer.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "submit_task",
    post, path = "/v1/tasks", tag = "tasks", request_body = TaskSubmission,
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "1 to 64 printable ASCII characters; the same key with the same body is \
            the same task, for 7 days"
    )),
    responses(
        (status = 201, description = "taken", body = Task,
            headers(("Location" = String, description = "path of the task"))),
        (status = 200, description = "taken before under the same key", body = Task),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn submit(
    State(app): State<App>,
    _: NoQuery,
    KeyHeader(key): KeyHeader,
    JsonBody(submission): JsonBody<Submission>,
) -> Result<Response, Problem> {
    app.state.desk.cell(&submission.cell)?;
    let submitted = app.state.desk.submit(submission, key).await?;
    let status = if submitted.repeated {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let task = Task::from(&submitted.record);
    let path = format!("/v1/tasks/{}", task.id);
    let mut response = (status, Json(task)).into_response();
    if let Ok(path) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    Ok(response)
}

/// Lists tasks, newest first.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "list_tasks",
    get, path = "/v1/tasks", tag = "tasks", params(TaskFilter),
    responses(
        (status = 200, description = "a page", body = TaskList),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(app): State<App>,
    QueryParams(filter): QueryParams<TaskFilter>,
) -> Result<Json<TaskList>, Problem> {
    let query = TaskQuery {
        cell: filter.cell,
        state: filter.state,
        cursor: filter.cursor,
        limit: limit(filter.limit)?,
    };
    let page = app.state.desk.tasks(query).await?;
    Ok(Json(TaskList {
        items: page.items.iter().map(Task::from).collect(),
        next: page.next.map(|id| id.to_string()),
    }))
}

/// Shows a task.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "show_task",
    get, path = "/v1/tasks/{id}", tag = "tasks",
    params(("id" = String, Path, description = "the task's id")),
    responses(
        (status = 200, description = "the task", body = Task),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
) -> Result<Json<Task>, Problem> {
    let record = app.state.desk.task(task_id(&id)?).await?;
    Ok(Json(Task::from(&record)))
}

/// Cancels a task: at once if it waits, by a controlled stop if it moves.
///
/// # Errors
/// A problem document; 409 if it has ended.
#[utoipa::path(
    operation_id = "cancel_task",
    post, path = "/v1/tasks/{id}/cancel", tag = "tasks",
    request_body(content = Option<CancelRequest>, description = "may be left out"),
    params(("id" = String, Path, description = "the task's id")),
    responses(
        (status = 200, description = "cancelled, or cancelling while the robot stops", body = Task),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
    OptionalJsonBody(request): OptionalJsonBody<CancelRequest>,
) -> Result<Json<Task>, Problem> {
    let by = request.unwrap_or_default().signature();
    let record = app.state.desk.cancel(task_id(&id)?, by).await?;
    Ok(Json(Task::from(&record)))
}

/// Takes a person's word on a task that was interrupted, or that runs.
///
/// # Errors
/// A problem document; 409 if its state takes none.
#[utoipa::path(
    operation_id = "verdict_task",
    post, path = "/v1/tasks/{id}/verdict", tag = "tasks", request_body = VerdictRequest,
    params(("id" = String, Path, description = "the task's id")),
    responses(
        (status = 200, description = "the task after it", body = Task),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn verdict(
    State(app): State<App>,
    _: NoQuery,
    Segments(id): Segments<String>,
    JsonBody(request): JsonBody<VerdictRequest>,
) -> Result<Json<Task>, Problem> {
    let id = task_id(&id)?;
    let by = Signature {
        operator: request.operator,
        reason: request.reason,
    };
    let record = app.state.desk.verdict(id, request.result, by).await?;
    Ok(Json(Task::from(&record)))
}
