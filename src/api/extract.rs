//! Takes bodies, queries and path segments apart; whatever does not fit becomes a problem document.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use vlad_task::submit::IdempotencyKey;
use vlad_wire::id::TaskId;
use vlad_wire::text::Name;

use super::problem::{Kind, Problem};

/// A body of 1 MiB at a modem's speed takes longer, but nobody steers a robot over one.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A JSON body of exactly the wanted fields.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

/// A JSON body, or none at all.
#[derive(Debug)]
pub struct OptionalJsonBody<T>(pub Option<T>);

/// A query string of exactly the wanted parameters.
#[derive(Debug)]
pub struct QueryParams<T>(pub T);

/// No query string.
#[derive(Debug)]
pub struct NoQuery;

/// The path's variable segments, decoded.
#[derive(Debug)]
pub struct Segments<T>(pub T);

/// The `Idempotency-Key` header, if there is one.
#[derive(Debug)]
pub struct KeyHeader(pub Option<IdempotencyKey>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        let bytes = read(request, state).await?;
        parse(&bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalJsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let declared = request.headers().contains_key(header::CONTENT_TYPE);
        let media_type = check_media_type(request.headers());
        let bytes = read(request, state).await?;
        if bytes.is_empty() && !declared {
            return Ok(Self(None));
        }
        media_type?;
        parse(&bytes).map(|body| Self(Some(body)))
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = declared
        .and_then(|text| text.split(';').next())
        .unwrap_or("");
    if essence.trim().eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        let detail = "send the body as JSON, with the header content-type: application/json";
        Err(Problem::new(Kind::MediaType, detail))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let whole = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await;
    let slow = "the body did not arrive within 5 s: send it again";
    let read = whole.map_err(|_| Problem::new(Kind::RequestTimeout, slow))?;
    read.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(error)
            if error.status() == StatusCode::PAYLOAD_TOO_LARGE =>
        {
            Problem::new(
                Kind::TooLarge,
                "the body is longer than this path takes: shorten it",
            )
        }
        _ => Problem::new(Kind::BadRequest, "the body broke off: send it again"),
    })
}

/// Names the field that is wrong: serde's path stops at the object that lacks one, and its text ends
/// with a line and a column, which say nothing of a document that a machine wrote.
fn field_and_problem(path: &str, text: &str) -> (String, String) {
    let problem = text.split(" at line ").next().unwrap_or(text).to_owned();
    let missing = problem
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'));
    let field = match (path, missing) {
        (".", Some(name)) => name.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) => path.to_owned(),
    };
    (field, problem)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        if cause.is_data() {
            let (field, problem) = field_and_problem(&path, &cause.to_string());
            Problem::field(Kind::InvalidFields, &field, problem)
        } else {
            Problem::new(
                Kind::BadRequest,
                format!("the body is no JSON document: {cause}"),
            )
        }
    })?;
    json.end().map_err(|error| {
        Problem::new(
            Kind::BadRequest,
            format!("something follows the JSON document: {error}"),
        )
    })?;
    Ok(value)
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(params)| Self(params))
            .map_err(|rejection| {
                Problem::new(
                    Kind::BadRequest,
                    format!("the query is refused: {rejection}"),
                )
            })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if parts.uri.query().is_none_or(str::is_empty) {
            Ok(Self)
        } else {
            let detail = "this path takes no query parameters: leave out what follows the ?";
            Err(Problem::new(Kind::BadRequest, detail))
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Self(segments))
            .map_err(|rejection| {
                Problem::new(
                    Kind::BadRequest,
                    format!("the path is refused: {rejection}"),
                )
            })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for KeyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(Self(None));
        };
        let refused = |why: String| {
            Problem::new(
                Kind::BadRequest,
                format!("the header idempotency-key {why}"),
            )
        };
        if values.next().is_some() {
            return Err(refused("is given twice: send one".to_owned()));
        }
        // A value that is no text is as wrong as the empty one.
        let key = value.to_str().unwrap_or("").parse();
        key.map(|key| Self(Some(key)))
            .map_err(|error| refused(format!("{error}")))
    }
}

/// Reads a path segment as an id.
///
/// # Errors
/// A problem that names the kind of id; what was sent is not echoed.
pub fn id<T: FromStr<Err: fmt::Display>>(what: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| {
        Problem::new(
            Kind::BadRequest,
            format!("the {what} in the path is refused: it {error}"),
        )
    })
}

/// Reads a path segment as a task's id.
///
/// # Errors
/// As [`id`].
pub fn task_id(text: &str) -> Result<TaskId, Problem> {
    id("task id", text)
}

/// Reads a path segment as a cell's id.
///
/// # Errors
/// As [`id`].
pub fn cell_id(text: &str) -> Result<Name, Problem> {
    id("cell id", text)
}

/// Reads a list's `limit`: 1 to 1000, 50 if none is given.
///
/// # Errors
/// A problem for any other number.
pub fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.unwrap_or(50) {
        n @ 1..=1000 => Ok(usize::try_from(n).unwrap_or(1000)),
        _ => Err(Problem::field(
            Kind::BadRequest,
            "limit",
            "must lie between 1 and 1000",
        )),
    }
}
