//! What turns observation and instruction into a context, and a context into a chunk.
//!
//! Two traits, so that a process loads only its half: the brain opens [`Think`], the action expert
//! [`Act`]. A chunk is a function of observation, instruction, prefix and seed, and of nothing
//! else: a policy keeps no state between decisions.

use std::sync::Arc;

use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::msg::sense::Observation;
use vlad_wire::msg::task::ActiveTask;
use vlad_wire::msg::think::{ContextHead, ContextPart, Digest, ThinkRequest};

/// Why a policy gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The policy cannot be opened.
    #[error("the policy cannot be opened: {0}")]
    Open(String),
    /// It cannot decide on this input.
    #[error("the policy cannot decide: {0}")]
    Decide(String),
    /// A context is of another policy, or its parts are not what this policy reads.
    #[error("the context does not fit: {0}")]
    Context(String),
    /// A part of the context did not come in time.
    #[error("part {index} of the context did not come in time")]
    Late {
        /// The part.
        index: u16,
    },
}

/// What a policy can do beyond a plain chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capability {
    /// Longest clean prefix that it was trained with.
    pub prefix_trained_max: u16,
    /// Whether it takes guidance (a vector-Jacobian product inside).
    pub guidance: bool,
    /// Most requests in one call.
    pub batch_max: usize,
}

/// One decision to prepare.
#[derive(Debug, Clone)]
pub struct ThinkJob {
    /// What was asked for.
    pub request: ThinkRequest,
    /// The observation to decide on.
    pub observation: Arc<Observation>,
    /// The running task.
    pub task: ActiveTask,
}

/// Where a brain's results go, as they become ready. The parts' order is the policy's own.
pub trait ContextSink {
    /// Takes a context's head, before its parts. Its `thought_until_ns` is filled in by the caller.
    fn head(&mut self, head: ContextHead);
    /// Takes one part.
    fn part(&mut self, part: ContextPart);
}

/// The brain's half.
pub trait Think: Send {
    /// Computes one context for each job and hands it to `sink`.
    ///
    /// # Errors
    /// [`PolicyError`] if it cannot; contexts already handed over stay valid.
    fn think(&mut self, jobs: &[ThinkJob], sink: &mut dyn ContextSink) -> Result<(), PolicyError>;
}

/// A context whose parts may still be arriving.
pub trait ContextSource: Send + Sync {
    /// Its head.
    fn head(&self) -> &ContextHead;
    /// Waits for a part, up to the source's own deadline.
    ///
    /// # Errors
    /// [`PolicyError::Late`] if it does not come.
    fn part(&self, index: u16) -> Result<ContextPart, PolicyError>;
}

/// Guidance towards the accepted future (reference A.3); the derivative stays inside the policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// `(horizon, width)` targets, absolute.
    pub target: Vec<f32>,
    /// One weight a row, 0 to 1.
    pub weights: Vec<f32>,
    /// Largest guidance weight.
    pub beta: f32,
}

/// One chunk to make.
#[derive(Clone)]
pub struct ActRequest {
    /// The brain's context.
    pub context: Arc<dyn ContextSource>,
    /// The observation's state, in slots; the context's head carries the same.
    pub state: Vec<f32>,
    /// Accepted absolute targets in slots, one row a tick; empty where there is no prefix.
    pub prefix: Vec<Vec<f32>>,
    /// Guidance, where the strategy asks for it.
    pub guidance: Option<Guidance>,
    /// `(horizon, width)` standard normal numbers, row-major.
    pub noise: Vec<f32>,
    /// Euler steps.
    pub steps: u16,
}

/// A finished chunk's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ActRows {
    /// Rows.
    pub horizon: u16,
    /// Slots of a row.
    pub width: u16,
    /// Absolute targets in slots, row-major.
    pub rows: Vec<f32>,
}

/// The action expert's half.
pub trait Act: Send {
    /// Makes one chunk for each request, in their order.
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>>;
}

/// A policy, of which a process opens the half that it runs.
pub trait Policy: Send + Sync {
    /// Its name, what a person must know about it, and its hashes.
    fn label(&self) -> PolicyLabel;
    /// What it can do.
    fn capability(&self) -> Capability;
    /// SHA-256 of its weights, or of its parameters.
    fn model_hash(&self) -> Digest {
        self.label().model_hash
    }
    /// SHA-256 of its normaliser.
    fn normaliser_hash(&self) -> Digest {
        self.label().normaliser_hash
    }
    /// Opens the brain's half. May take long.
    ///
    /// # Errors
    /// [`PolicyError::Open`] if it cannot.
    fn open_think(&self) -> Result<Box<dyn Think>, PolicyError>;
    /// Opens the action expert's half. May take long.
    ///
    /// # Errors
    /// [`PolicyError::Open`] if it cannot.
    fn open_act(&self) -> Result<Box<dyn Act>, PolicyError>;
}
