//! Tokens that vanish with their process.
//!
//! A killed process is seen within milliseconds, a hung one after the link's lease of a second.
//! That is for people and for restarts: the guard goes by heartbeats.

use std::sync::Arc;

use vlad_wire::id::Role;
use vlad_wire::stream::{Keep, parse_token_key};

use crate::link::slot::{Limits, Slot};
use crate::link::{Feed, TokenChange};

/// The newest change of each token is all that a watcher needs.
pub(crate) const WATCH_KEEP: Keep = Keep::Latest;
/// A token's key: a prefix, a cell, a role and a number.
pub(crate) const WATCH_LIMITS: Limits = Limits { head: 128, raw: 0 };

/// Shows that a role is there; dropping it takes that back.
pub struct AliveToken {
    _feed: Box<dyn Feed>,
}

impl AliveToken {
    pub(crate) fn new(feed: Box<dyn Feed>) -> Self {
        Self { _feed: feed }
    }
}

/// A role that came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliveChange {
    /// Which role.
    pub role: Role,
    /// Random per start of the role.
    pub session: u64,
    /// Whether it is there now.
    pub alive: bool,
}

/// Watches which roles of a cell come and go.
pub struct AliveWatch {
    feed: Box<dyn Feed>,
    slot: Arc<Slot<TokenChange>>,
}

impl AliveWatch {
    pub(crate) fn new(feed: Box<dyn Feed>, slot: Arc<Slot<TokenChange>>) -> Self {
        Self { feed, slot }
    }

    /// Takes the next change; `None` if there is none by now. Of several changes of one token that
    /// were not taken only the newest is kept.
    pub fn try_next(&mut self) -> Option<AliveChange> {
        self.feed.advance();
        while let Some(TokenChange { key, alive }) = self.slot.take() {
            if let Some((role, session)) = parse_token_key(&key) {
                return Some(AliveChange {
                    role,
                    session,
                    alive,
                });
            }
            tracing::debug!(key, "dropped a token of no role");
        }
        None
    }
}
