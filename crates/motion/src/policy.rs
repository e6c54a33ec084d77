//! What turns observation and instruction into a context, and a context into a chunk.
//!
//! Two traits, so that a process loads only its half: the brain opens [`Think`], the action expert
//! [`Act`]. A chunk is a function of observation, instruction, prefix and seed, and of nothing
//! else: a policy keeps no state between decisions.

use std::sync::Arc;

use bytes::BytesMut;
use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::msg::sense::Observation;
use vlad_wire::msg::task::ActiveTask;
use vlad_wire::msg::think::{ContextHead, ContextPart, Digest, PartData, PartHead, ThinkRequest};

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
    #[error("the context does not fit: {problem}")]
    Context {
        /// Which kind of fault, to be counted.
        fault: ContextFault,
        /// What is wrong.
        problem: String,
    },
    /// A part of the context did not come in time.
    #[error("part {index} of the context did not come within expert.context_timeout_ms")]
    Late {
        /// The part.
        index: u16,
    },
}

impl PolicyError {
    /// Refuses a context.
    pub fn context(fault: ContextFault, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self::Context { fault, problem }
    }

    /// The fault of a context that was refused or is late.
    pub fn fault(&self) -> Option<ContextFault> {
        match self {
            Self::Context { fault, .. } => Some(*fault),
            Self::Late { .. } => Some(ContextFault::Late),
            Self::Open(_) | Self::Decide(_) => None,
        }
    }
}

/// Why a context is not used. Each kind is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContextFault {
    /// Bytes that are no message: cut, or with a wrong checksum.
    Malformed,
    /// It answers another request than the one that was made.
    OtherRequest,
    /// A part of another thinking than its head: two brains answer.
    OtherThinking,
    /// The same message twice, with different content.
    Doubled,
    /// Another checkpoint, or the same one under another profile.
    OtherModel,
    /// Number, name, type, shape, mask or positions do not fit.
    Unshaped,
    /// A handle of another process, or of a place that is empty.
    Handle,
    /// A number that is not finite.
    NotFinite,
    /// It did not come in time.
    Late,
}

impl ContextFault {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::OtherRequest,
        Self::OtherThinking,
        Self::Doubled,
        Self::OtherModel,
        Self::Unshaped,
        Self::Handle,
        Self::NotFinite,
        Self::Late,
    ];

    /// The name in counters and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OtherRequest => "other_request",
            Self::OtherThinking => "other_thinking",
            Self::Doubled => "doubled",
            Self::OtherModel => "other_model",
            Self::Unshaped => "unshaped",
            Self::Handle => "handle",
            Self::NotFinite => "not_finite",
            Self::Late => "late",
        }
    }
}

/// What a policy can do beyond a plain chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capability {
    /// Longest clean prefix that it was trained with.
    pub prefix_trained_max: u16,
    /// Whether it takes guidance (a vector-Jacobian product inside).
    pub guidance: bool,
    /// Most jobs or requests in one call, at least 1.
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

/// Where a brain's results go, as they become ready. The parts' order is the policy's own. `job` is
/// the place among the jobs of the call. Times and the number of the thinking are filled in here.
pub trait ContextSink: Send {
    /// Takes a context's head, before its parts, and before these are computed where that is
    /// possible: the action expert begins then.
    fn head(&mut self, job: usize, head: ContextHead);

    /// Takes one part.
    fn part(&mut self, job: usize, part: ContextPart);

    /// Takes one part whose bytes `write` writes in place, as many as the head asks for: so they
    /// are copied once, to where they are sent from.
    ///
    /// # Errors
    /// What `write` says; a head without a number of bytes.
    fn write(
        &mut self,
        job: usize,
        head: PartHead,
        write: &mut dyn FnMut(&mut [u8]) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let n_bytes = head.n_bytes();
        let n_bytes =
            n_bytes.ok_or_else(|| PolicyError::Decide("a part is too large".to_owned()))?;
        let mut bytes = BytesMut::zeroed(n_bytes);
        write(&mut bytes)?;
        let data = PartData::Bytes(bytes.freeze());
        self.part(job, ContextPart { head, data });
        Ok(())
    }
}

/// The brain's half.
pub trait Think: Send {
    /// Computes one context for each job and hands it to `sink`; gives for each job whether it
    /// could, in their order. One job that cannot be done does not keep the others from being done.
    fn think(
        &mut self,
        jobs: &[ThinkJob],
        sink: &mut dyn ContextSink,
    ) -> Vec<Result<(), PolicyError>>;

    /// Thinks once about nothing, so that the first real decision is not the slow one, and so that
    /// weights that give no numbers are found before anything moves.
    ///
    /// # Errors
    /// [`PolicyError::Open`] if what comes out is not what must.
    fn warm_up(&mut self) -> Result<(), PolicyError> {
        Ok(())
    }
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
    ///
    /// It may begin while a context's parts still arrive. One request that cannot be served does
    /// not keep the others from being served.
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>>;

    /// As [`Think::warm_up`].
    ///
    /// # Errors
    /// [`PolicyError::Open`] if what comes out is not what must.
    fn warm_up(&mut self) -> Result<(), PolicyError> {
        Ok(())
    }

    /// Decides once about nothing, as a real decision of so many Euler steps is made, so that its
    /// time can be taken; `false` where no time is worth taking.
    ///
    /// # Errors
    /// As [`Act::warm_up`].
    fn rehearse(&mut self, steps: u16) -> Result<bool, PolicyError> {
        let _ = steps;
        Ok(false)
    }
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
