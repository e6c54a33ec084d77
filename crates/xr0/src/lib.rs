//! Xiaomi-Robotics-0 in candle: a checkpoint directory, images, a sentence and a state → actions.
//!
//! Paper: "Xiaomi-Robotics-0", arXiv:2602.12684; the backbone is Qwen3-VL. Sections that modules
//! name are those of the reference, which describes the network to the last detail.
//!
//! ```text
//!  images ─ preprocess ─► patches ─ vision ─► image tokens ┐
//!                                                          ├─ text ─► context (K/V) ─ dit + flow ─► actions
//!  sentence ─ prompt ─ tokenizer ─► ids, positions ────────┘             ▲
//!                                                     state, noise ──────┘
//! ```
//! | read in this order | holds |
//! |---|---|
//! | [`config`], [`layout`], [`checkpoint`], [`normaliser`] | a checkpoint's files |
//! | [`preprocess`], [`prompt`], [`tokenizer`] | what the network is fed |
//! | [`nn`], [`rope`], [`vision`], [`frames`], [`text`], [`context`] | the brain's half |
//! | [`dit`], [`flow`] | the action expert's half |
//! | [`model`] | both halves, each loaded by itself |
//! | [`train`] | what the network learns by: losses and gradients |
//! | [`verify`], [`self_test`], [`trace`], [`inspect`], [`synth`], [`device`], [`error`] | around them |
//!
//! Nothing here knows a robot: it has numbers, labels and tables.

// `unsafe` is needed once: `checkpoint::map` maps weight files into memory, since reading nine
// gigabytes into buffers first would double the start's time and memory. Nothing else may use it.
#![deny(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "arithmetic on tensors, pixels and token positions, whose bounds are checked where data enters"
)]
#![expect(
    clippy::many_single_char_names,
    reason = "symbols of the papers and of shapes: b, n, h, d, s, q, k, v, x, t"
)]

pub mod checkpoint;
pub mod config;
pub mod context;
pub mod device;
pub mod dit;
pub mod error;
pub mod flow;
pub mod frames;
pub mod inspect;
pub mod layout;
pub mod model;
pub mod nn;
pub mod normaliser;
pub mod preprocess;
pub mod prompt;
pub mod rope;
pub mod self_test;
pub mod synth;
pub mod text;
pub mod tokenizer;
pub mod trace;
pub mod train;
pub mod verify;
pub mod vision;
