//! A hub with Hugging Face's addresses on the loopback, and the storage behind it on another port.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use vlad_xr0::checkpoint::digest::hex;

/// The one repository.
pub(super) const REPOSITORY: &str = "me/tiny";
/// Its one commit.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;

/// A question that was asked.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Whether the storage was asked, not the hub.
    pub(super) storage: bool,
    /// What for.
    pub(super) path: String,
    /// First byte that was asked for.
    pub(super) from: Option<u64>,
    /// What it said of itself.
    pub(super) authorization: Option<String>,
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Tricks {
    /// This file's connection breaks after so many bytes, so many times.
    pub(super) cut: Option<(String, u64, u32)>,
    /// Of this file so many bytes come, and then nothing.
    pub(super) hold: Option<(String, u64)>,
    /// One byte of this file is another.
    pub(super) corrupt: Option<String>,
    /// This file is listed with another size.
    pub(super) listed: Option<(String, u64)>,
    /// Whether the hub says sizes and hashes beside the list.
    pub(super) silent: bool,
    /// Whether parts cannot be asked for.
    pub(super) no_ranges: bool,
    /// Further files in the list.
    pub(super) further: Vec<Value>,
    /// How every question to the hub ends, and why.
    pub(super) refuse: Option<(u16, &'static str)>,
    /// So many questions to the hub end with 503.
    pub(super) busy: u32,
    /// Another commit than [`COMMIT`].
    pub(super) commit: Option<String>,
    /// Where large files are said to be.
    pub(super) elsewhere: Option<String>,
}

struct Shared {
    files: BTreeMap<String, Bytes>,
    storage: String,
    seen: Mutex<Vec<Seen>>,
    tricks: Mutex<Tricks>,
}

/// The hub.
pub(super) struct Hub {
    shared: Arc<Shared>,
    url: String,
    _runtime: Runtime,
}

impl Hub {
    /// Serves these files.
    pub(super) fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (own, storage) = (bind(), bind());
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let own_url = url(&own);
        let files = files.into_iter();
        let shared = Arc::new(Shared {
            files: files.map(|(name, bytes)| (name, bytes.into())).collect(),
            storage: url(&storage),
            seen: Mutex::default(),
            tricks: Mutex::default(),
        });
        for (listener, is_storage) in [(own, false), (storage, true)] {
            let router = if is_storage {
                Router::new().fallback(storage_answers)
            } else {
                Router::new().fallback(hub_answers)
            };
            let router = router.with_state(Arc::clone(&shared));
            runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        }
        Self {
            shared,
            url: own_url,
            _runtime: runtime,
        }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Plays these tricks from now on, and forgets what was asked.
    pub(super) fn play(&self, tricks: Tricks) {
        *self.shared.tricks.lock().unwrap() = tricks;
        self.shared.seen.lock().unwrap().clear();
    }

    /// What was asked.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The first bytes that the storage was asked for of a file.
    pub(super) fn ranges(&self, name: &str) -> Vec<u64> {
        let of_file = |seen: &Seen| seen.storage && seen.path.ends_with(&format!("/{name}"));
        let seen = self.seen().into_iter().filter(of_file);
        seen.map(|seen| seen.from.unwrap()).collect()
    }
}

impl Shared {
    fn note(&self, storage: bool, request: &Request) -> Option<u64> {
        let text = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
        let from = text("range").map(|range| {
            let from = range.strip_prefix("bytes=").unwrap();
            from.strip_suffix('-').unwrap().parse().unwrap()
        });
        self.seen.lock().unwrap().push(Seen {
            storage,
            path: request.uri().path().to_owned(),
            from,
            authorization: text("authorization"),
        });
        from
    }

    fn listing(&self, tricks: &Tricks) -> Value {
        let entry = |(name, bytes): (&String, &Bytes)| {
            let listed = tricks.listed.as_ref().filter(|(listed, _)| listed == name);
            let size = listed.map_or(length(bytes), |(_, size)| *size);
            let mut entry = json!({ "rfilename": name, "size": size, "blobId": git_blob(bytes) });
            if is_large(name) {
                entry["blobId"] = json!("0".repeat(40));
                entry["lfs"] = json!({ "sha256": sha256(bytes), "size": size, "pointerSize": 135 });
            }
            entry
        };
        let mut siblings: Vec<_> = self.files.iter().map(entry).collect();
        siblings.extend(tricks.further.iter().cloned());
        let commit = tricks.commit.as_deref().unwrap_or(COMMIT);
        json!({ "id": REPOSITORY, "sha": commit, "private": false, "siblings": siblings })
    }
}

/// Large files lie outside git.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || ["tokenizer.json", "pytorch_model.bin"].contains(&name)
}

/// Bytes, as hubs count them.
pub(super) fn length(bytes: &[u8]) -> u64 {
    bytes.len().try_into().unwrap()
}

/// As `sha256sum` gives it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn git_blob(bytes: &[u8]) -> String {
    let head = format!("blob {}\0", bytes.len());
    hex(&Sha1::digest([head.as_bytes(), bytes].concat()))
}

fn plain(status: u16, headers: &[(&str, &str)], body: Body) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

async fn hub_answers(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let from = shared.note(false, &request);
    let mut tricks = shared.tricks.lock().unwrap();
    if 0 < tricks.busy {
        tricks.busy -= 1;
        return plain(503, &[], Body::from("busy"));
    }
    if let Some((status, code)) = tricks.refuse {
        return plain(status, &[("x-error-code", code)], Body::from("no"));
    }
    let path = request.uri().path();
    if let Some(revision) = path.strip_prefix(&format!("/api/models/{REPOSITORY}/revision/")) {
        return if [COMMIT, "main", "refs%2Fpr%2F1"].contains(&revision) {
            assert_eq!(request.uri().query(), Some("blobs=true"));
            plain(200, &[], Body::from(shared.listing(&tricks).to_string()))
        } else {
            plain(
                404,
                &[("x-error-code", "RevisionNotFound")],
                Body::from("no"),
            )
        };
    }
    let resolve = format!("/{REPOSITORY}/resolve/{COMMIT}/");
    if let Some(name) = path.strip_prefix(&resolve)
        && let Some(bytes) = shared.files.get(name)
    {
        return lead(&shared, &tricks, name, bytes);
    }
    let cache = format!("/api/resolve-cache/models/{REPOSITORY}/{COMMIT}/");
    match path.strip_prefix(&cache).map(str::to_owned) {
        Some(name) => send(&shared, &mut tricks, &name, from),
        None => plain(404, &[], Body::from("nothing here")),
    }
}

/// Large files are in the storage, small ones in the hub's own cache, by a path alone.
fn lead(shared: &Shared, tricks: &Tricks, name: &str, bytes: &Bytes) -> Response<Body> {
    let own = format!("/api/resolve-cache/models/{REPOSITORY}/{COMMIT}/{name}");
    let far = tricks.elsewhere.as_ref().unwrap_or(&shared.storage);
    let far = format!("{far}/bucket/{name}?signature=x");
    let (status, location, tag) = if is_large(name) {
        (302, far, sha256(bytes))
    } else {
        (307, own, git_blob(bytes))
    };
    let (tag, size) = (format!("\"{tag}\""), bytes.len().to_string());
    let mut headers = vec![("location", location.as_str()), ("x-repo-commit", COMMIT)];
    if !tricks.silent {
        headers.extend([("x-linked-etag", tag.as_str()), ("x-linked-size", &size)]);
    }
    plain(status, &headers, Body::empty())
}

async fn storage_answers(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let from = shared.note(true, &request);
    let mut tricks = shared.tricks.lock().unwrap();
    let name = request.uri().path().strip_prefix("/bucket/").unwrap();
    send(&shared, &mut tricks, name, from)
}

fn send(shared: &Shared, tricks: &mut Tricks, name: &str, from: Option<u64>) -> Response<Body> {
    let mut bytes = shared.files[name].to_vec();
    if tricks.corrupt.as_deref() == Some(name) {
        let last = bytes.last_mut().unwrap();
        *last ^= 1;
    }
    let total = bytes.len();
    let from = from.filter(|_| !tricks.no_ranges);
    let begin = usize::try_from(from.unwrap_or(0)).unwrap();
    let rest = bytes.split_off(begin);
    let mut response = Response::builder().header("content-length", rest.len());
    if from.is_some() {
        let range = format!("bytes {begin}-{}/{total}", total - 1);
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", range);
    }
    response.body(body(tricks, name, rest)).unwrap()
}

fn body(tricks: &mut Tricks, name: &str, mut rest: Vec<u8>) -> Body {
    let mut end = None;
    if let Some((cut, bytes, times)) = &mut tricks.cut
        && cut == name
        && 0 < *times
    {
        *times -= 1;
        rest.truncate(usize::try_from(*bytes).unwrap());
        end = Some(true);
    }
    if let Some((held, bytes)) = &tricks.hold
        && held == name
    {
        rest.truncate(usize::try_from(*bytes).unwrap());
        end = Some(false);
    }
    let pieces = rest.chunks(PIECE).map(Bytes::copy_from_slice);
    let pieces: Vec<_> = pieces.map(std::io::Result::Ok).collect();
    let pieces = stream::iter(pieces);
    match end {
        None => Body::from_stream(pieces),
        Some(true) => {
            let broken = std::io::Error::other("cut");
            Body::from_stream(pieces.chain(stream::iter([Err(broken)])))
        }
        Some(false) => Body::from_stream(pieces.chain(stream::pending())),
    }
}
