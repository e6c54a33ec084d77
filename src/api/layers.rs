//! What every request passes: refusal of foreigners, a bound on size and time, no leaking panic.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::{error, warn};

use super::App;
use super::origin::{Refusal, check};
use super::problem::{Kind, Problem};

/// Longest body; a task has a few hundred bytes.
pub const BODY_MAX: usize = 1024 * 1024;
/// Longest body of an e-stop: name and reason, and nothing that takes long to read.
pub const ESTOP_BODY_MAX: usize = 1024;
/// Longer than the desk's own limit, so that its more exact answer comes first.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(10);
/// The page loads only from here, and nobody may frame it: a framed e-stop could be hidden.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Answers by class of status, since the start.
#[derive(Debug, Default)]
pub struct AnswerCounts {
    counts: [AtomicU64; 5],
}

impl AnswerCounts {
    fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.counts.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives the counts from `1xx` to `5xx`.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(counts)
    }
}

/// Wraps every route: the one layer of the router.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match admit(&request) {
        Err(problem) => {
            warn!(%method, %path, why = problem.detail, "refused a request");
            problem.into_response()
        }
        Ok(()) => match tokio::time::timeout(
            HANDLER_TIMEOUT,
            AssertUnwindSafe(next.run(request)).catch_unwind(),
        )
        .await
        {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => {
                error!(%method, %path, "a handler panicked");
                let detail = "the daemon hit a bug: its log has the details";
                Problem::new(Kind::Internal, detail).into_response()
            }
            Err(_) => {
                warn!(%method, %path, "a handler took too long");
                let detail = "no answer within 10 s: see the task or the cell, then try again";
                Problem::new(Kind::Unavailable, detail).into_response()
            }
        },
    };
    app.answers.count(response.status());
    add_headers(response.headers_mut());
    response
}

fn admit(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    check(headers, request.uri()).map_err(|refusal| {
        let kind = match refusal {
            Refusal::NoHost => Kind::BadRequest,
            Refusal::ForeignHost | Refusal::ForeignOrigin => Kind::Forbidden,
        };
        Problem::new(kind, refusal.to_string())
    })?;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let length = declared
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or(0);
    if u64::try_from(BODY_MAX).is_ok_and(|max| max < length) {
        return Err(Problem::new(
            Kind::TooLarge,
            "the body is longer than 1 MiB: shorten it",
        ));
    }
    Ok(())
}

fn add_headers(headers: &mut HeaderMap) {
    let mut set = |name: header::HeaderName, value: &'static str| {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    set(header::CACHE_CONTROL, "no-store");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
}

/// Answers for a path that does not exist.
pub async fn unknown_path() -> Problem {
    Problem::new(
        Kind::NotFound,
        "there is no such path: /v1/openapi.json lists them all",
    )
}

/// Answers for a method that a path does not take.
pub async fn unknown_method(method: Method) -> Problem {
    let detail = format!("this path does not take {method}: see the header allow");
    Problem::new(Kind::MethodNotAllowed, detail)
}
