//! Events as server-sent events: number, kind, and a JSON document.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event as Line, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::App;
use super::dto::event::Event;
use super::extract::NoQuery;
use super::problem::{Kind, Problem, ProblemDocument};

/// Shorter than the idle time-outs of proxies and browsers.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Follows all events from now on. A reader that is too slow gets an event `lagged` with the number
/// of events that it missed.
///
/// # Errors
/// A problem document; 503 if too many follow already.
#[utoipa::path(
    operation_id = "follow_events",
    get, path = "/v1/events", tag = "daemon",
    responses(
        (status = 200, description = "server-sent events: id, event (the kind), data (JSON)",
            body = Event, content_type = "text/event-stream"),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn follow(
    State(app): State<App>,
    _: NoQuery,
) -> Result<Sse<impl Stream<Item = Result<Line, Infallible>>>, Problem> {
    let place = Arc::clone(&app.event_readers)
        .try_acquire_owned()
        .map_err(|_| {
            let detail = "too many clients follow the events already: close one, then try again";
            Problem::new(Kind::Unavailable, detail)
        })?;
    let events = app.state.desk.events();
    let lines = unfold(
        (events, place, app),
        |(mut events, place, app)| async move {
            let line = match events.recv().await {
                Ok(numbered) => {
                    let event = Event::from(&numbered);
                    line(&event.kind, &json!(event)).id(event.id.to_string())
                }
                Err(RecvError::Lagged(missed)) => {
                    app.events_missed.fetch_add(missed, Ordering::Relaxed);
                    line("lagged", &json!({ "missed": missed }))
                }
                Err(RecvError::Closed) => return None,
            };
            Some((Ok(line), (events, place, app)))
        },
    );
    Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn line(kind: &str, data: &serde_json::Value) -> Line {
    // Compact JSON has no line break, which would end the field.
    Line::default().event(kind).data(data.to_string())
}
