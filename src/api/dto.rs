//! The JSON documents of the API: what is shown, made from the gateway's and the store's own types.
//!
//! Requests refuse unknown fields. Times of day are `_at_ms`, milliseconds since 1970; ages are
//! milliseconds; a number that is unknown is `null`.

pub mod cell;
pub mod episode;
pub mod event;
pub mod motion;
pub mod task;

/// Gives a number that JSON can hold; what is infinite or undefined is unknown.
fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}
