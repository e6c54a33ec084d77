//! The HTTP service over a gateway in memory: no socket, no robot.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;
use vlad_wire::clock::ManualClock;

use super::*;

mod endpoints;
mod gateway;
mod motion;
mod refusals;
mod server;

/// The service with its gateway, and the episode log's folder.
struct Service {
    router: Router,
    gateway: gateway::Gateway,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Claims that it is a problem document of this status that says something.
    fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), problem::MEDIA_TYPE);
        let problem = self.json();
        assert_eq!(problem["status"], json!(status));
        for field in ["type", "title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}"
            );
        }
        problem
    }
}

impl Service {
    fn new() -> Self {
        let shape = crate::motion_report::testing::shape();
        Self::with_shapes(CellShapes::from([(gateway::name("demo"), shape)]))
    }

    fn with_shapes(shapes: CellShapes) -> Self {
        let clock: SharedClock = Arc::new(ManualClock::default());
        let gateway = gateway::Gateway::start();
        let state = ApiState {
            desk: gateway.desk.clone(),
            episodes: Some(gateway.episodes()),
            shapes: Arc::new(shapes),
            bus: Bus::queue(Arc::clone(&clock), |_| 0),
            refusals: Arc::default(),
            clock,
            version: "0.0.0-test",
        };
        Self {
            router: router(state),
            gateway,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 64 << 20).await.unwrap().to_vec();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap())
            .await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, body.to_string()).await
    }

    async fn post_text(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn post_with_key(&self, key: &str, body: &Value) -> Answer {
        let request = request(Method::POST, "/v1/tasks")
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key);
        self.send(request.body(body.to_string().into()).unwrap())
            .await
    }
}

fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:8640")
}

fn red_block() -> Value {
    json!({ "cell": "demo", "instruction": "put the red block in the left tray" })
}

fn signed() -> Value {
    json!({ "operator": "ada", "reason": "cell is clear" })
}
