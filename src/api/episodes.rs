//! Episodes: list, show, how they moved, and their images one by one.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use tracing::warn;
use vlad_store::episodes::{EpisodeError, EpisodeStore};
use vlad_wire::id::EpisodeId;
use vlad_wire::text::Name;

use super::App;
use super::cells::{JPEG_QUALITY, heavy, jpeg_response};
use super::dto::episode::{Episode, EpisodeFilter, EpisodeList};
use super::dto::motion::{Motion, MotionFilter};
use super::extract::{NoQuery, QueryParams, Segments, id, limit};
use super::problem::{Kind, Problem, ProblemDocument};
use crate::motion_report::curves::POINTS_MAX;
use crate::motion_report::{EpisodeMotion, read};

/// Lists episodes, newest first.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "list_episodes",
    get, path = "/v1/episodes", tag = "episodes", params(EpisodeFilter),
    responses(
        (status = 200, description = "a page", body = EpisodeList),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(app): State<App>,
    QueryParams(filter): QueryParams<EpisodeFilter>,
) -> Result<Json<EpisodeList>, Problem> {
    let limit = limit(filter.limit)?;
    let store = store(&app)?;
    let page = heavy(&app, move || {
        store
            .list(filter.cursor.as_ref(), limit)
            .map_err(|error| problem(&error))
    })
    .await?;
    Ok(Json(EpisodeList {
        items: page.items.iter().map(Episode::from).collect(),
        damaged: page.damaged.iter().map(ToString::to_string).collect(),
        next: page.next.map(|id| id.to_string()),
    }))
}

/// Shows an episode: what was asked, how it ended, what is in its log.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "show_episode",
    get, path = "/v1/episodes/{id}", tag = "episodes",
    params(("id" = String, Path, description = "the episode's id")),
    responses(
        (status = 200, description = "the episode", body = Episode),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(app): State<App>,
    _: NoQuery,
    Segments(text): Segments<String>,
) -> Result<Json<Episode>, Problem> {
    let episode: EpisodeId = id("episode id", &text)?;
    let store = store(&app)?;
    let summary = heavy(&app, move || {
        store.get(&episode).map_err(|error| problem(&error))
    })
    .await?;
    Ok(Json(Episode::from(&summary)))
}

/// Shows how an episode moved: stalls, age, seams, smoothness, tracking, lateness, deadlines,
/// interventions, decisions and stops (reference A.6), computed from its log.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "motion_episode",
    get, path = "/v1/episodes/{id}/motion", tag = "episodes",
    params(("id" = String, Path, description = "the episode's id"), MotionFilter),
    responses(
        (status = 200, description = "the metrics", body = Motion),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn motion(
    State(app): State<App>,
    QueryParams(filter): QueryParams<MotionFilter>,
    Segments(text): Segments<String>,
) -> Result<Json<Motion>, Problem> {
    let episode: EpisodeId = id("episode id", &text)?;
    let points = points(filter.points)?;
    let store = store(&app)?;
    let shapes = app.state.shapes.clone();
    let document = heavy(&app, move || {
        let summary = store.get(&episode).map_err(|error| problem(&error))?;
        let cell = &summary.meta.cell;
        let shape = shapes.get(cell).ok_or_else(|| {
            let detail = format!(
                "this process does not serve the cell {cell}, and does not know its robot: start \
                 it with --cell {cell}"
            );
            Problem::new(Kind::Conflict, detail)
        })?;
        let recorded = read(&store, &episode).map_err(|error| problem(&error))?;
        let motion = EpisodeMotion::of(recorded, &shape.log, points);
        Ok(Motion::new(&summary, shape, &motion))
    })
    .await?;
    Ok(Json(document))
}

fn points(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.map(usize::try_from) {
        None => Ok(0),
        Some(Ok(n)) if (1..=POINTS_MAX).contains(&n) => Ok(n),
        Some(_) => Err(Problem::field(
            Kind::BadRequest,
            "points",
            format!("must lie between 1 and {POINTS_MAX}"),
        )),
    }
}

/// Shows an image of an episode as JPEG; its `link` header leads to the next one.
///
/// # Errors
/// A problem document.
#[utoipa::path(
    operation_id = "frame_episode",
    get, path = "/v1/episodes/{id}/frames/{view}/{n}", tag = "episodes",
    params(
        ("id" = String, Path, description = "the episode's id"),
        ("view" = String, Path, description = "the camera's view"),
        ("n" = u64, Path, description = "the image's number, from first_n to last_n, maybe with gaps"),
    ),
    responses(
        (status = 200, description = "the image", body = Vec<u8>, content_type = "image/jpeg",
            headers(("Link" = Option<String>, description = "path of the next image, rel=next"))),
        (status = "default", description = "refused", body = ProblemDocument,
            content_type = "application/problem+json"),
    )
)]
pub async fn frame(
    State(app): State<App>,
    _: NoQuery,
    Segments((episode, view, n)): Segments<(String, String, String)>,
) -> Result<Response, Problem> {
    let episode: EpisodeId = id("episode id", &episode)?;
    let view: Name = id("view", &view)?;
    let n: u64 = n.parse().map_err(|_| {
        Problem::new(
            Kind::BadRequest,
            "the image's number in the path is refused: count from 0",
        )
    })?;
    let store = store(&app)?;
    let (bytes, next) = heavy(&app, move || {
        let next = next_image(&store, &episode, &view, n);
        let image = store
            .image(&episode, &view, n)
            .map_err(|error| match next {
                Some(next) if matches!(error, EpisodeError::NoImage { .. }) => {
                    Problem::new(Kind::NotFound, format!("{error}: the next one is {next}"))
                }
                _ => problem(&error),
            })?;
        let bytes = image.jpeg(JPEG_QUALITY).map_err(|error| {
            Problem::new(
                Kind::Internal,
                format!("the image cannot be shown: {error}"),
            )
        })?;
        let link =
            next.map(|n| format!("</v1/episodes/{episode}/frames/{view}/{n}>; rel=\"next\""));
        Ok((bytes, link))
    })
    .await?;
    let mut headers = HeaderMap::new();
    if let Some(link) = next.and_then(|link| HeaderValue::from_str(&link).ok()) {
        headers.insert(header::LINK, link);
    }
    Ok(jpeg_response(headers, bytes))
}

fn next_image(store: &EpisodeStore, episode: &EpisodeId, view: &Name, n: u64) -> Option<u64> {
    let rows = store.frames(episode, view, n.checked_add(1)?, 1).ok()?;
    rows.into_iter().next()?.ok().map(|entry| entry.n)
}

fn store(app: &App) -> Result<EpisodeStore, Problem> {
    app.state.episodes.clone().ok_or_else(|| {
        let detail = "this process keeps no episodes: ask the one that runs the recorder";
        Problem::new(Kind::Unavailable, detail)
    })
}

fn problem(error: &EpisodeError) -> Problem {
    match error {
        EpisodeError::NotFound(id) => Problem::not_found("episode", &id.to_string()),
        EpisodeError::NoImage { .. } => Problem::new(
            Kind::NotFound,
            format!("{error}: the episode's views say which numbers there are"),
        ),
        _ => {
            warn!(%error, "the episode log failed");
            Problem::new(Kind::Internal, format!("{error}: see the daemon's log"))
        }
    }
}
