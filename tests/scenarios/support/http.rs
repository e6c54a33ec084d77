//! A daemon's API, as a client sees it.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

/// Longer than the daemon's own limit.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest answer that a test reads.
const ANSWER_MAX: u64 = 32 << 20;

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Its document, which came with this status.
    #[track_caller]
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// A problem document with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        let problem = self.json(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        problem
    }
}

/// A daemon that can be asked.
pub(crate) struct Server {
    agent: Agent,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn new(port: u16) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(ANSWER))
            .build();
        Self {
            agent: config.into(),
            port,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks; `None` if nobody answers.
    pub(crate) fn try_get(&self, path: &str) -> Option<Reply> {
        self.send(Request::get(format!("{}{path}", self.url())), "")
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.try_get(path).expect("the daemon answers")
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, body, &[])
    }

    #[track_caller]
    pub(crate) fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::post(format!("{}{path}", self.url()))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, &body.to_string())
            .expect("the daemon answers")
    }

    fn send(&self, request: ureq::http::request::Builder, body: &str) -> Option<Reply> {
        let answer = if body.is_empty() {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body.to_owned()).unwrap())
        };
        let mut answer = answer.ok()?;
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_vec()
            .ok()?;
        Some(Reply {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            bytes,
        })
    }

    /// Sends a head and the beginning of a body past every client's checks, on a connection that
    /// the head closes; gives the answer as it came.
    pub(crate) fn talk(&self, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        // The daemon may answer and close before it has read all.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Opens the events; what happens after it is in them.
    pub(crate) fn events(&self) -> BufReader<impl Read + Send + use<>> {
        let config = Agent::config_builder().proxy(None).build();
        let answer = Agent::from(config)
            .get(format!("{}/v1/events", self.url()))
            .call()
            .unwrap();
        BufReader::new(answer.into_body().into_reader())
    }
}
