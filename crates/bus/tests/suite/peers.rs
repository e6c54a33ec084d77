//! Two sessions on loopback, as two processes have them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::liveliness::AliveChange;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_wire::id::Role;
use vlad_wire::msg::command::{Answer, Estop};
use vlad_wire::msg::sense::Frame;
use vlad_wire::stream::{EstopCommand, Frames, Stream};

use crate::samples::{PATIENCE, Sample, cell, counters, frame, until};

/// How long to wait for an arrival before putting again: a reader may not be known yet.
pub(crate) const AGAIN: Duration = Duration::from_millis(50);

/// A free port on a loopback address that no other test uses.
pub(crate) fn tcp_endpoint() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let host = format!("127.0.9.{}", NEXT.fetch_add(1, Ordering::Relaxed));
    loop {
        let first = TcpListener::bind((host.as_str(), 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind((host.as_str(), port + 1)).is_ok() {
            return format!("tcp/{host}:{port}");
        }
    }
}

/// A folder for unix sockets, removed at the end.
struct SocketFolder(PathBuf);

impl SocketFolder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vlad-bus-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn endpoint(&self) -> String {
        format!("unixsock-stream/{}", self.0.join("bus").display())
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Two connected sessions: the second one called the first.
async fn pair(endpoint: &str) -> (Bus, Bus) {
    pair_sharing(endpoint, [0, 0]).await
}

/// As [`pair`], each with so many mebibytes to share.
pub(crate) async fn pair_sharing(endpoint: &str, shared_mib: [u16; 2]) -> (Bus, Bus) {
    let endpoints = vec![endpoint.to_owned()];
    let listening = ZenohConfig {
        listen: endpoints.clone(),
        shared_memory_mib: shared_mib[0],
        ..ZenohConfig::default()
    };
    let calling = ZenohConfig {
        connect: endpoints,
        shared_memory_mib: shared_mib[1],
        ..ZenohConfig::default()
    };
    let (left, right) = (
        Bus::zenoh(listening).await.unwrap(),
        Bus::zenoh(calling).await.unwrap(),
    );
    until("the peers meet", || left.peers() == 1 && right.peers() == 1).await;
    (left, right)
}

pub(crate) async fn close(buses: [&Bus; 2]) {
    for bus in buses {
        bus.close().await;
    }
}

async fn tokens_come_and_go(endpoint: &str) {
    let (left, right) = pair(endpoint).await;
    let waker = Waker::new();
    let mut watch = left.watch_alive(&cell(), Some(waker.clone())).unwrap();
    let token = right.declare_alive(&cell(), Role::Brain, 7).unwrap();
    let mut changes = Vec::new();
    let seen = async {
        let mut token = Some(token);
        while changes.len() < 2 {
            while let Some(change) = watch.try_next() {
                changes.push(change);
                token = None;
            }
            if changes.len() < 2 {
                waker.woken().await;
            }
        }
        drop(token);
    };
    tokio::time::timeout(PATIENCE, seen)
        .await
        .expect("the token did not come and go");
    let change = |alive| AliveChange {
        role: Role::Brain,
        session: 7,
        alive,
    };
    assert_eq!(changes, [change(true), change(false)]);
    close([&left, &right]).await;
}

async fn a_large_frame_arrives(endpoint: &str) {
    let (left, right) = pair(endpoint).await;
    let waker = Waker::new();
    let mut subscriber = left
        .subscriber::<Frames>(&cell(), "*", Some(waker.clone()))
        .unwrap();
    let publisher = right.publisher::<Frames>(&cell(), "ego").unwrap();
    let sent = frame("ego", 1, 1920, 1080);
    let arrives = async {
        loop {
            publisher.put(&sent);
            let woken = tokio::time::timeout(AGAIN, waker.woken()).await;
            if let (Ok(()), Some(got)) = (woken, subscriber.try_next()) {
                return got;
            }
        }
    };
    let got = tokio::time::timeout(PATIENCE, arrives)
        .await
        .expect("no frame arrived");
    assert!(got == sent, "the frame has changed on the way");
    assert_eq!(counters(&left, Frames::ROW.key).malformed, 0);
    close([&left, &right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_seen_and_vanishes_over_tcp() {
    tokens_come_and_go(&tcp_endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_seen_and_vanishes_over_a_unix_socket() {
    let folder = SocketFolder::new("token");
    tokens_come_and_go(&folder.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_frame_arrives_whole_over_tcp() {
    a_large_frame_arrives(&tcp_endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_frame_arrives_whole_over_a_unix_socket() {
    let folder = SocketFolder::new("frame");
    a_large_frame_arrives(&folder.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_vanishes_with_its_session() {
    let (left, right) = pair(&tcp_endpoint()).await;
    let _token = right.declare_alive(&cell(), Role::Actuator, 3).unwrap();
    let waker = Waker::new();
    let mut watch = left.watch_alive(&cell(), Some(waker.clone())).unwrap();
    let mut wait_for = async |alive: bool| {
        let wait = async {
            while watch.try_next().map(|change| change.alive) != Some(alive) {
                waker.woken().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("no such change of the token");
    };
    wait_for(true).await;
    right.close().await;
    wait_for(false).await;
    until("the peer is gone", || left.peers() == 0).await;
    left.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_answered_by_the_other_side() {
    let (left, right) = pair(&tcp_endpoint()).await;
    let waker = Waker::new();
    let mut server = left
        .server::<EstopCommand>(&cell(), Some(waker.clone()))
        .unwrap();
    let client = right.client::<EstopCommand>(&cell()).unwrap();
    let answered = async {
        // Until the server is known to the other side, asks end at once without an answer.
        loop {
            let pending = client.ask(&Estop::sample(), PATIENCE);
            let mut wait = std::pin::pin!(pending.wait());
            loop {
                tokio::select! {
                    answer = &mut wait => match answer {
                        Ok(answer) => return answer,
                        Err(_) => break,
                    },
                    () = waker.woken() => {
                        while let Some(asked) = server.try_next() {
                            asked.answer(&Answer::sample());
                        }
                    }
                }
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("no answer");
    assert_eq!(answer, Answer::sample());
    close([&left, &right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_listens_later_is_found() {
    let endpoints = vec![tcp_endpoint()];
    let calling = ZenohConfig {
        connect: endpoints.clone(),
        ..ZenohConfig::default()
    };
    let right = Bus::zenoh(calling).await.unwrap();
    assert_eq!(right.peers(), 0);
    let listening = ZenohConfig {
        listen: endpoints,
        ..ZenohConfig::default()
    };
    let left = Bus::zenoh(listening).await.unwrap();
    until("the peers meet", || left.peers() == 1 && right.peers() == 1).await;
    close([&left, &right]).await;
}

/// Connections that are accepted on a loopback port, as the kernel lists them.
fn n_accepted(endpoint: &str, offset: u16) -> usize {
    let address: std::net::SocketAddrV4 = endpoint.strip_prefix("tcp/").unwrap().parse().unwrap();
    let ip = u32::from_le_bytes(address.ip().octets());
    let local = format!("{ip:08X}:{:04X}", address.port() + offset);
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let established = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"01")
    };
    table.lines().filter(established).count()
}

async fn both_links_stand(endpoint: &str) {
    until("both links stand", || {
        n_accepted(endpoint, 0) == 1 && n_accepted(endpoint, 1) == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_comes_back_is_found_again_on_both_links() {
    let endpoint = tcp_endpoint();
    let (left, right) = pair(&endpoint).await;
    both_links_stand(&endpoint).await;
    left.close().await;
    until("the peer is gone", || right.peers() == 0).await;
    let listening = ZenohConfig {
        listen: vec![endpoint.clone()],
        ..ZenohConfig::default()
    };
    let left = Bus::zenoh(listening).await.unwrap();
    until("the peers meet again", || {
        left.peers() == 1 && right.peers() == 1
    })
    .await;
    both_links_stand(&endpoint).await;
    close([&left, &right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_has_a_link_beside_the_images() {
    let endpoint = tcp_endpoint();
    let (left, right) = pair(&endpoint).await;
    both_links_stand(&endpoint).await;
    close([&left, &right]).await;
}

/// Puts until the reader has something.
async fn arrives(
    publisher: &Publisher<Frames>,
    sent: &Frame,
    subscriber: &mut Subscriber<Frames>,
) -> Frame {
    let wait = async {
        loop {
            publisher.put(sent);
            if let Some(got) = subscriber.try_next() {
                return got;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("no frame arrived")
}

/// Why every two processes that speak to each other need an endpoint between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_in_the_middle_does_not_forward() {
    let endpoint = tcp_endpoint();
    let (middle, left) = pair(&endpoint).await;
    let calling = ZenohConfig {
        connect: vec![endpoint],
        ..ZenohConfig::default()
    };
    let right = Bus::zenoh(calling).await.unwrap();
    until("all meet", || middle.peers() == 2 && right.peers() == 1).await;

    let mut in_the_middle = middle.subscriber::<Frames>(&cell(), "ego", None).unwrap();
    let mut at_the_right = right.subscriber::<Frames>(&cell(), "*", None).unwrap();
    let from_left = left.publisher::<Frames>(&cell(), "ego").unwrap();
    let from_the_middle = middle.publisher::<Frames>(&cell(), "wrist").unwrap();
    // The reader at the right is known before the left one puts again.
    arrives(
        &from_the_middle,
        &frame("wrist", 1, 4, 2),
        &mut at_the_right,
    )
    .await;
    arrives(&from_left, &frame("ego", 1, 4, 2), &mut in_the_middle).await;
    while at_the_right.try_next().is_some() {}
    let got = arrives(
        &from_the_middle,
        &frame("wrist", 2, 4, 2),
        &mut at_the_right,
    )
    .await;
    assert_eq!(got.head.view.as_str(), "wrist");
    assert_eq!(
        at_the_right
            .try_next()
            .filter(|frame| frame.head.view.as_str() == "ego"),
        None
    );
    left.close().await;
    close([&middle, &right]).await;
}
