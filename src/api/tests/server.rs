//! The server over real sockets of the loopback, in virtual time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<()>>,
    _service: Service,
}

async fn start() -> Running {
    let service = Service::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let until = async move {
        let _ = stopped.await;
    };
    let ended = tokio::spawn(serve::serve(listener, service.router.clone(), until));
    Running {
        address,
        stop,
        ended,
        _service: service,
    }
}

impl Running {
    async fn connect(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn talk(&self, text: &str) -> String {
        let mut answer = Vec::new();
        let _ = self.connect(text).await.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn it_answers_until_it_is_stopped_even_while_events_are_followed() {
    let running = start().await;
    let get = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = running.talk(get).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let follow = "GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut follower = running.connect(follow).await;
    let mut head = [0; 15];
    follower.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
    let mut rest = Vec::new();
    let _ = follower.read_to_end(&mut rest).await;
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn headers_that_never_end_close_the_connection() {
    let running = start().await;
    let answer = running.talk("GET /healthz HTTP/1.1\r\nhost: loc").await;
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn headers_above_their_bound_are_refused() {
    let running = start().await;
    let fill = "x".repeat(64 * 1024);
    let get = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nfill: {fill}\r\n\r\n");
    let answer = running.talk(&get).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let get = "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = running.talk(get).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
