//! How a message travels on the queue: when it arrives, and whether a second copy does.

/// The travel of one message, from when it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Travel {
    /// It can be read after this long, nanoseconds; `u64::MAX` loses it.
    pub after_ns: u64,
    /// A second copy can be read after this long. Questions and answers are never doubled.
    pub twin_after_ns: Option<u64>,
}

impl Travel {
    /// Arrives once.
    pub fn once(after_ns: u64) -> Self {
        Self {
            after_ns,
            twin_after_ns: None,
        }
    }
}
