//! Asks a hub: one request, the redirects behind it, and what to do about a refusal.
//!
//! The token goes to the hub's own origin alone, and redirects are followed by hand, so that
//! another host never sees it. What may pass (a cut, a busy server) is told from what lasts.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ureq::http::{HeaderMap, Request, Response, StatusCode};
use ureq::{Agent, Body};

use super::address::Address;
use super::source::Source;
use super::token::Token;

/// Where the released checkpoints are.
pub(super) const HOME: &str = "https://huggingface.co";
/// Redirects behind one question; the hub needs two.
const HOPS_MAX: usize = 6;
/// A hub far away, over TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than a storage needs to find a large file.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// A connection on which nothing comes so long is dead.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest list of files; the released ones have some kB.
const LISTING_MAX: u64 = 8 << 20;
/// The first wait before a question is asked again; each further one is twice as long.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// Longest wait that a busy hub may ask for.
const WAIT_MAX: Duration = Duration::from_mins(2);

/// Why there is no answer.
pub(super) enum Failure {
    /// Asked again, it may go well; perhaps after a wait that the hub asks for.
    Passing(anyhow::Error, Option<Duration>),
    /// It would be the same again.
    Lasting(anyhow::Error),
}

/// What the hub itself, not a storage behind it, says of a file before its bytes come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The commit.
    pub(super) commit: Option<String>,
    /// A tag that may be the file's hash.
    pub(super) tag: Option<String>,
    /// Bytes of the whole file.
    pub(super) size: Option<u64>,
}

impl Said {
    fn hear(&mut self, headers: &HeaderMap) {
        let commit = header(headers, "x-repo-commit").map(str::to_owned);
        let tag = header(headers, "x-linked-etag").map(str::to_owned);
        let size = header(headers, "x-linked-size").and_then(|text| text.parse().ok());
        self.commit = self.commit.take().or(commit);
        self.tag = self.tag.take().or(tag);
        self.size = self.size.or(size);
    }
}

/// A header's text; none if it is absent or no text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Tries of one thing, with waits between them that grow.
pub(super) struct Patience {
    most: u32,
    tried: u32,
}

impl Patience {
    /// For so many tries; at least one.
    pub(super) fn new(most: u32) -> Self {
        Self { most, tried: 0 }
    }

    /// Begins anew: the last try got on.
    pub(super) fn renew(&mut self) {
        self.tried = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The failure, if it lasts or this was the last try.
    pub(super) fn after(&mut self, failure: Failure) -> anyhow::Result<()> {
        let (error, asked) = match failure {
            Failure::Lasting(error) => return Err(error),
            Failure::Passing(error, asked) => (error, asked),
        };
        self.tried += 1;
        if self.most <= self.tried {
            return Err(error);
        }
        let own = WAIT_FIRST.saturating_mul(1 << (self.tried - 1).min(16));
        let (_open, silent) = sync_channel::<()>(1);
        // Nothing is ever sent: this is the wait between two tries.
        let _ = silent.recv_timeout(asked.unwrap_or_default().max(own).min(WAIT_MAX));
        Ok(())
    }
}

/// A hub, and the repository that it is asked about.
pub(super) struct Hub {
    agent: Agent,
    endpoint: Address,
    token: Option<Token>,
    source: Source,
}

impl Hub {
    /// Prepares to ask; nothing is sent yet.
    pub(super) fn new(endpoint: Address, token: Option<Token>, source: Source) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .accept_encoding("identity")
            .user_agent(concat!("vlad ", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT));
        // What is meant for this machine stays on it; others may stand behind a proxy.
        let config = if endpoint.is_loopback() {
            config.proxy(None)
        } else {
            config
        };
        Self {
            agent: config.build().into(),
            endpoint,
            token,
            source,
        }
    }

    /// Asks what the repository holds, with sizes and hashes; gives the hub's document.
    ///
    /// # Errors
    /// A hub that cannot be reached or refuses.
    pub(super) fn listing(&self) -> Result<String, Failure> {
        let Source {
            repository,
            revision,
        } = &self.source;
        let revision = revision.replace('/', "%2F");
        let path = format!("/api/models/{repository}/revision/{revision}?blobs=true");
        let (mut response, _) = self.get(&path, None)?;
        let body = response.body_mut().with_config().limit(LISTING_MAX);
        body.read_to_string().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => Failure::Lasting(anyhow!(
                "the hub's list of files is longer than {LISTING_MAX} bytes"
            )),
            error => passing("the hub's list of files broke off", error),
        })
    }

    /// Asks for a file of a commit from a byte on, which the server may ignore: its status says so.
    ///
    /// # Errors
    /// As [`Hub::listing`].
    pub(super) fn file(
        &self,
        commit: &str,
        name: &str,
        from: u64,
    ) -> Result<(Response<Body>, Said), Failure> {
        let path = format!("/{}/resolve/{commit}/{name}", self.source.repository);
        self.get(&path, Some(from))
    }

    fn get(&self, path: &str, from: Option<u64>) -> Result<(Response<Body>, Said), Failure> {
        let mut said = Said::default();
        let mut at = self.endpoint.join(path).map_err(Failure::Lasting)?;
        for _ in 0..HOPS_MAX {
            let response = self.ask(&at, from)?;
            let is_own = at.same_origin(&self.endpoint);
            if is_own {
                said.hear(response.headers());
            }
            let status = response.status();
            if status.is_success() {
                return Ok((response, said));
            }
            match header(response.headers(), "location") {
                Some(location) if status.is_redirection() => {
                    at = at.follow(location).map_err(Failure::Lasting)?;
                }
                _ if is_own => return Err(self.refusal(status, response.headers())),
                _ => return Err(refusal_behind(&at, status)),
            }
        }
        let host = self.endpoint.host();
        Err(Failure::Lasting(anyhow!(
            "{host} redirects more than {HOPS_MAX} times"
        )))
    }

    fn ask(&self, at: &Address, from: Option<u64>) -> Result<Response<Body>, Failure> {
        let mut request = Request::get(at.uri());
        if let Some(from) = from {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(token) = self
            .token
            .as_ref()
            .filter(|_| at.same_origin(&self.endpoint))
        {
            request = request.header("authorization", token.header());
        }
        let request = request
            .body(())
            .context("cannot ask")
            .map_err(Failure::Lasting)?;
        self.agent.run(request).map_err(|error| {
            let at = at.shown();
            let told = format!(
                "cannot reach {at}: is there a network? behind a proxy, set HTTPS_PROXY; name another hub with --endpoint"
            );
            passing(&told, error)
        })
    }

    /// What the hub's own refusal means, and what to do about it.
    fn refusal(&self, status: StatusCode, headers: &HeaderMap) -> Failure {
        let Source {
            repository,
            revision,
        } = &self.source;
        let hub = self.endpoint.shown();
        let token = if self.token.is_some() {
            "the token does not open it"
        } else {
            "no token was sent: set HF_TOKEN"
        };
        let text = match (status.as_u16(), header(headers, "x-error-code")) {
            (_, Some("GatedRepo")) => {
                format!("{repository} is gated: accept its terms at {hub}/{repository}; {token}")
            }
            (404, Some("RevisionNotFound")) => format!(
                "{repository} has no revision {revision}: {hub}/{repository}/commits lists them"
            ),
            (404, Some("EntryNotFound")) => {
                format!("{hub} lists a file of {repository} and does not have it: try later")
            }
            // The hub does not tell strangers what exists.
            (401 | 404, _) => format!(
                "{hub} shows no repository {repository} at {revision}: look for a slip in the name; if it is private, {token}"
            ),
            (403, _) => format!("{hub} refuses {repository}: {token}"),
            (416, _) => format!("{hub} has a shorter file than it lists: nothing can be verified"),
            (408 | 429 | 500..=599, _) => {
                let text =
                    format!("{hub} is busy or broken ({status}): run the same command later");
                let wait = header(headers, "retry-after").and_then(|text| text.parse().ok());
                return Failure::Passing(anyhow!(text), wait.map(Duration::from_secs));
            }
            _ => format!("{hub} answers {status}: is it a hub?"),
        };
        Failure::Lasting(anyhow!(text))
    }
}

/// What a storage behind the hub refuses. Links to it are signed for a while, and the next question
/// to the hub brings a new one.
fn refusal_behind(at: &Address, status: StatusCode) -> Failure {
    let host = at.host();
    let error = anyhow!("{host}, where the hub sends to, answers {status}");
    match status.as_u16() {
        416 => Failure::Lasting(anyhow!("{host} has fewer bytes than the hub lists")),
        401 | 403 | 408 | 429 | 500..=599 => Failure::Passing(error, None),
        _ => Failure::Lasting(error),
    }
}

fn passing(text: &str, error: ureq::Error) -> Failure {
    // A certificate that does not fit comes as data that make no sense.
    let lasts = match &error {
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(_)
        | ureq::Error::Protocol(_) => false,
        _ => true,
    };
    let error = anyhow::Error::new(error).context(text.to_owned());
    if lasts {
        Failure::Lasting(error)
    } else {
        Failure::Passing(error, None)
    }
}
