//! Error answers as RFC 9457 problem documents that say what to do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use vlad_actors::gateway::desk::DeskError;

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong; as an answer it is a [`ProblemDocument`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Kind, which has the status.
    pub kind: Kind,
    /// What happened here, and what to do about it.
    pub detail: String,
    /// The fields that were refused.
    pub errors: Vec<FieldError>,
    /// What is missing until the daemon is ready.
    pub missing: Vec<String>,
}

/// What went wrong, for machines (`type`, `status`, `errors`) and for people (`title`, `detail`).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// Kind of the problem; a name that does not change, not an address.
    #[serde(rename = "type")]
    #[schema(example = "urn:vlad:problem:not-found")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what to do about it.
    pub detail: String,
    /// The fields that were refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// What is missing until the daemon is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub missing: Vec<String>,
}

/// A field that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Path of the field, such as `labels.colour`; `.` is the whole body.
    pub field: String,
    /// Why.
    pub detail: String,
}

/// The kinds of problems, each with its status, name and title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be understood.
    BadRequest,
    /// A web page of another origin, or a foreign host name.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The path does not take the method.
    MethodNotAllowed,
    /// The body took too long to arrive.
    RequestTimeout,
    /// The state does not allow it.
    Conflict,
    /// The idempotency key came with another body before.
    KeyReused,
    /// The body is too long.
    TooLarge,
    /// The body is not declared as JSON.
    MediaType,
    /// The body is JSON, but not what is wanted.
    InvalidFields,
    /// The daemon has a bug or a broken store.
    Internal,
    /// The daemon cannot do it now.
    Unavailable,
    /// The daemon is not ready for tasks.
    NotReady,
}

impl Kind {
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad-request", "malformed request"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "foreign origin or host"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "not found"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "method not allowed",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "the request came too slowly",
            ),
            Self::Conflict => (
                StatusCode::CONFLICT,
                "conflict",
                "the state does not allow it",
            ),
            Self::KeyReused => (
                StatusCode::CONFLICT,
                "idempotency-key-reused",
                "idempotency key was used before",
            ),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "body too large"),
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media-type",
                "body is not declared as JSON",
            ),
            Self::InvalidFields => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-fields",
                "fields were refused",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the daemon failed",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "the daemon cannot do it now",
            ),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "not ready"),
        }
    }
}

impl Problem {
    /// Gives a problem; `detail` says what happened and what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Gives a problem of one field of a body or of a query.
    pub fn field(kind: Kind, field: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let mut problem = Self::new(kind, format!("field {field}: {detail}"));
        problem.errors.push(FieldError {
            field: field.to_owned(),
            detail,
        });
        problem
    }

    /// Gives the problem of something that does not exist.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(
            Kind::NotFound,
            format!("there is no {what} {id}: list them to see which exist"),
        )
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        let detail = error.to_string();
        match error {
            DeskError::NotFound { kind, id } => Self::not_found(kind, &id),
            DeskError::KeyReused => Self::new(
                Kind::KeyReused,
                format!("{detail}: use a new key for a new task, the old body for a repeat"),
            ),
            DeskError::Conflict(_) => Self::new(Kind::Conflict, detail),
            DeskError::Unavailable(_) => Self::new(Kind::Unavailable, detail),
            DeskError::Store(_) => {
                Self::new(Kind::Internal, format!("{detail}: see the daemon's log"))
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.row();
        let document = ProblemDocument {
            kind: format!("urn:vlad:problem:{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            errors: self.errors,
            missing: self.missing,
        };
        let mut response = (status, Json(document)).into_response();
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, media_type);
        response
    }
}
