//! The HTTP server itself: bounded connections, bounded headers, an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

/// Connections at once: a page has about six, and nobody has forty pages open.
const CONNECTIONS_MAX: usize = 256;
/// A client that sends its headers more slowly holds a connection for nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of request line and headers; longer ones are answered with 431.
const HEADERS_MAX: usize = 16 * 1024;
/// Time for running answers at the end; followers of events are cut off then.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after a failed accept: the usual cause, no free file descriptor, does not go at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is ready, then lets running answers end.
///
/// # Errors
/// None today: a connection that fails concerns its client alone.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    // Nothing is ever sent: its end, when this function returns, cuts off what is still open.
    let (_open, open) = watch::channel(());
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => connect((stream, place), &router, &graceful, open.clone()),
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        debug!("cut off the connections that were still open");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // The place comes first: further clients wait in the kernel's bounded backlog.
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn connect(
    (stream, place): (TcpStream, OwnedSemaphorePermit),
    router: &Router,
    graceful: &GracefulShutdown,
    mut open: watch::Receiver<()>,
) {
    let service = TowerToHyperService::new(router.clone());
    // Small answers must not wait for more to send.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = watched => ended,
            _ = open.changed() => Ok(()),
        };
        if let Err(error) = ended {
            debug!(%error, "a connection ended early");
        }
        drop(place);
    });
}
