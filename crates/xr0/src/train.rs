//! Training mathematics: what each stage minimises, differentiably, and gradients by name.
//!
//! Paper: XR-0, arXiv:2602.12684. Reference §9. A loss is a function of a batch: noise, times,
//! prefix and masks are arguments, so that the same input gives the same loss. There is no optimiser
//! and no data here.
//!
//! ```text
//!  checkpoint ─ Variables ─► Vlm, ActionExpert (plain path) ─ loss of a batch ─► Losses ─ Gradients ─► by name
//! ```
//! | read in this order | holds |
//! |---|---|
//! | [`variables`], [`gradients`] | weights that learn, and which way |
//! | [`objective`] | the formulas of flow matching, one function each |
//! | [`flow`] | the action expert's two stages: from scratch (§9.3), post-training (§9.5) |
//! | [`proposal`], [`heads`] | stage 1: candidate chunks and their scores (§9.2) |
//! | [`question`] | stage 1: the next token of an answer about a picture |
//!
//! All networks here are loaded with [`Path::Plain`](crate::nn::weights::Path): the served path has
//! operations without a derivative.

pub mod flow;
pub mod gradients;
pub mod heads;
pub mod objective;
pub mod proposal;
pub mod question;
pub mod variables;
