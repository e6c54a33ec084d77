//! A wire between two processes that can be cut: while it is, nothing comes through and nothing is
//! closed, as with a cable that is pulled.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{free_port, pause};

/// Passes on what comes to two ports of its own: an endpoint uses its port and the next one.
pub(crate) struct Relay {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Relay {
    /// Leads to an endpoint of the loopback; its threads end with their connections, at the latest
    /// with the test's process.
    pub(crate) fn to(target: u16) -> Self {
        let port = free_port();
        let cut = Arc::new(AtomicBool::new(false));
        for next in 0..2 {
            let listener = TcpListener::bind(("127.0.0.1", port + next)).unwrap();
            let cut = cut.clone();
            std::thread::spawn(move || serve(&listener, target + next, &cut));
        }
        Self { port, cut }
    }

    /// Where to connect.
    pub(crate) fn endpoint(&self) -> String {
        format!("tcp/127.0.0.1:{}", self.port)
    }

    /// Cuts the wire, or mends it: what was sent meanwhile comes then, late.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
    }
}

fn serve(listener: &TcpListener, target: u16, cut: &Arc<AtomicBool>) {
    for near in listener.incoming().map_while(Result::ok) {
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
            continue;
        };
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let cut = cut.clone();
            std::thread::spawn(move || pass_on((from, to), &cut));
        }
    }
}

fn pass_on((mut from, mut to): (TcpStream, TcpStream), cut: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        while cut.load(Ordering::Acquire) {
            pause();
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // Either may be gone already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
