//! The events of a daemon, in their order.

use std::io::BufRead;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::Value;

use super::http::Server;

/// Events that wait to be read: far more than a story has.
const EVENTS_MAX: usize = 4096;
/// As [`super::until`].
const PATIENCE: Duration = Duration::from_mins(1);

/// Follows the events of a daemon from now on.
pub(crate) struct Events {
    arriving: Receiver<Value>,
    seen: Vec<Value>,
}

impl Events {
    pub(crate) fn follow(server: &Server) -> Self {
        let lines = server.events().lines();
        let (send, arriving) = sync_channel(EVENTS_MAX);
        // Ends with the daemon's connection, at the latest with the test's process.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some(data) = line.strip_prefix("data:") else {
                    continue;
                };
                let event = serde_json::from_str(data).expect("an event is a JSON document");
                if send.send(event).is_err() {
                    return;
                }
            }
        });
        Self {
            arriving,
            seen: Vec::new(),
        }
    }

    /// Waits for an event, and passes over those before it.
    #[track_caller]
    pub(crate) fn wait(&mut self, kind: &str, text: &str) -> Value {
        loop {
            match self.arriving.recv_timeout(PATIENCE) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    let says = event["text"]
                        .as_str()
                        .is_some_and(|said| said.starts_with(text));
                    if event["kind"] == kind && says {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no event {kind} {text:?} in {:#?}", self.texts())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!(
                        "the events ended before {kind} {text:?}: {:#?}",
                        self.texts()
                    )
                }
            }
        }
    }

    /// Waits for these modes, in this order, whatever lies between them.
    #[track_caller]
    pub(crate) fn wait_modes(&mut self, modes: &[&str]) {
        for mode in modes {
            self.wait("mode_changed", mode);
        }
    }

    /// What was passed over, and what was waited for.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |event: &Value| format!("{} {}", event["kind"], event["text"]);
        self.seen.iter().map(text).collect()
    }
}
