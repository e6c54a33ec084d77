//! How a reader waits for the next arrival.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes one waiting task; a wake while nobody waits is kept, once.
///
/// One waker may serve many subscribers: whoever is woken asks all of them with `try_next` until
/// they are empty, and then waits again.
#[derive(Debug, Clone, Default)]
pub struct Waker {
    notify: Arc<Notify>,
}

impl Waker {
    /// Gives a waker that has not been woken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the task that waits, or the next one that will.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits for a wake; may be dropped at any point without losing one.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}
