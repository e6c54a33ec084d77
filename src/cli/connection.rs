//! Speaks REST to a daemon: one request, one JSON document or an error that says what to do.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

/// Longer than the daemon's own limit of 10 s, so that its answer comes first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The daemon is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer: a thousand tasks with long instructions.
const ANSWER_MAX: u64 = 32 * 1024 * 1024;

/// Which daemon, and how to print.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The daemon.
    #[arg(
        long,
        value_name = "URL",
        global = true,
        default_value = "http://127.0.0.1:8640",
        value_parser = server_url
    )]
    pub server: String,
    /// Print the daemon's JSON documents unchanged.
    #[arg(long, global = true)]
    pub json: bool,
}

/// A daemon that can be asked.
#[derive(Debug)]
pub struct Connection {
    agent: Agent,
    server: String,
}

/// An answer: its text as it came, and what it says.
#[derive(Debug)]
pub struct Document {
    /// As it came.
    pub text: String,
    /// What it says.
    pub value: Value,
}

impl Connection {
    /// Prepares to ask; nothing is sent yet.
    pub fn new(args: &ServerArgs) -> Self {
        // No proxy and no redirects: what is meant for this machine stays on it.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build();
        Self {
            agent: config.into(),
            server: args.server.clone(),
        }
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// The daemon's problem, or that it cannot be reached.
    pub fn get(&self, path: &str) -> anyhow::Result<Document> {
        let request = Request::get(format!("{}{path}", self.server)).body(())?;
        self.answer(self.agent.run(request))
    }

    /// Sends a document.
    ///
    /// # Errors
    /// As [`Connection::get`].
    pub fn post(&self, path: &str, body: &Value, key: Option<&str>) -> anyhow::Result<Document> {
        let mut request = Request::post(format!("{}{path}", self.server))
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.answer(self.agent.run(request.body(body.to_string())?))
    }

    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Document> {
        let mut response = sent.with_context(|| {
            format!(
                "cannot reach a daemon at {}: start one with `vlad`, or name it with --server",
                self.server
            )
        })?;
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_string();
        let text = body.context("the daemon's answer broke off: see its log")?;
        let value: Option<Value> = serde_json::from_str(&text).ok();
        match value {
            Some(value) if status.is_success() => Ok(Document { text, value }),
            Some(problem) => bail!("{}", refusal(status.as_u16(), &problem)),
            None => bail!(
                "{} answers {status} without a JSON document: is it a vlad daemon?",
                self.server
            ),
        }
    }
}

/// Puts a problem document into one line.
fn refusal(status: u16, problem: &Value) -> String {
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    match (text("title"), text("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        _ => format!("the daemon answers {status}: {problem}"),
    }
}

fn server_url(text: &str) -> Result<String, String> {
    let host = text
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => {
            Ok(format!("http://{host}"))
        }
        _ => Err("must have the form http://ADDR:PORT".to_owned()),
    }
}

/// Joins the query parameters that are there; their values need no escaping, being ids and numbers.
pub fn with_query(path: &str, params: &[(&str, Option<String>)]) -> String {
    let given = params
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let query: Vec<String> = given
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_an_http_address() {
        let url = |text| server_url(text).ok();
        assert_eq!(
            url("http://127.0.0.1:8640/").as_deref(),
            Some("http://127.0.0.1:8640")
        );
        for bad in [
            "127.0.0.1:8640",
            "https://127.0.0.1",
            "http://",
            "http://a/b",
            "http://a@b",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_given_parameters_are_sent() {
        let params = [("limit", Some("3".to_owned())), ("cursor", None)];
        assert_eq!(with_query("/v1/tasks", &params), "/v1/tasks?limit=3");
        assert_eq!(with_query("/v1/tasks", &[("limit", None)]), "/v1/tasks");
    }

    #[test]
    fn a_problem_is_told_by_title_and_detail() {
        let problem =
            json!({ "title": "not found", "detail": "there is no task X", "status": 404 });
        assert_eq!(refusal(404, &problem), "not found: there is no task X");
        assert_eq!(refusal(500, &json!({})), "the daemon answers 500: {}");
    }

    #[test]
    fn an_absent_daemon_says_how_to_start_one() {
        // Nobody can listen on port 0.
        let args = ServerArgs {
            server: "http://127.0.0.1:0".to_owned(),
            json: false,
        };
        let error = Connection::new(&args).get("/healthz").unwrap_err();
        assert!(
            error.to_string().contains("start one with `vlad`"),
            "{error}"
        );
    }
}
