//! A context as the action expert reads it off the bus: checked part by part, as the sampler's first
//! step asks for each, and kept for the later steps.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vlad_motion::policy::{ContextFault, ContextSource, PolicyError};
use vlad_wire::msg::think::{ContextHead, ContextPart, DType, PartData};
use vlad_xr0::context::bytes::{Encoding, LayerForm};
use vlad_xr0::context::{KvLayer, Source, Tokens};
use vlad_xr0::device::DeviceName;
use vlad_xr0::error::{Error, Result};

use super::shelf::Shelf;
use super::thought::{Form, from_bits, number};

/// A context that is taken off the bus.
pub(super) struct Received<'a> {
    context: &'a dyn ContextSource,
    form: &'a Form,
    shelf: Option<&'a Shelf>,
    tokens: Tokens,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    layers: Vec<Option<KvLayer>>,
    /// All parts have the number type of the first.
    dtype: Option<DType>,
    failed: Option<PolicyError>,
}

fn unshaped(problem: impl Into<String>) -> PolicyError {
    PolicyError::context(ContextFault::Unshaped, problem)
}

impl<'a> Received<'a> {
    /// Begins with a context's head, and checks everything about it. Handles are looked up on
    /// `shelf`; without one they are refused.
    ///
    /// # Errors
    /// [`PolicyError::Context`] with the first thing that does not fit.
    pub(super) fn new(
        context: &'a dyn ContextSource,
        form: &'a Form,
        shelf: Option<&'a Shelf>,
    ) -> std::result::Result<Self, PolicyError> {
        let head = context.head();
        if usize::from(head.n_parts) != form.n_parts() {
            let (n_parts, expected) = (head.n_parts, form.n_parts());
            let problem = format!("it has {n_parts} parts, expected {expected}");
            return Err(unshaped(problem));
        }
        Ok(Self {
            context,
            form,
            shelf,
            tokens: tokens(head)?,
            taken: Mutex::default(),
        })
    }

    /// Takes out why a layer was not to be had.
    pub(super) fn failed(&self) -> Option<PolicyError> {
        self.lock().failed.take()
    }

    fn known(&self, index: usize) -> Option<KvLayer> {
        self.lock().layers.get(index)?.clone()
    }

    /// Waits for a part, and checks it.
    fn take(&self, index: usize) -> std::result::Result<KvLayer, PolicyError> {
        let place = u16::try_from(index).map_err(|error| unshaped(error.to_string()))?;
        let part = self.context.part(place)?;
        let form = self.check(&part, index)?;
        let layer = match &part.data {
            PartData::Bytes(bytes) => {
                // Its form was checked: what is left are its numbers.
                let broken = |error: Error| {
                    let problem = format!("{}: {error}", part.head.name);
                    PolicyError::context(ContextFault::NotFinite, problem)
                };
                let cpu = DeviceName::Cpu.open().map_err(broken)?;
                KvLayer::read(&form, bytes, &cpu).map_err(broken)?
            }
            PartData::Handle(handle) => {
                let refused = |problem: &str| {
                    let problem = format!("{}: {problem}", part.head.name);
                    PolicyError::context(ContextFault::Handle, problem)
                };
                let apart = "it is a handle, but brain and action expert are not in one process";
                let shelf = self.shelf.ok_or_else(|| refused(apart))?;
                let layer = shelf.get(*handle, (part.head.request_id, place));
                let layer = layer.map_err(refused)?;
                let shape = layer.form(Encoding::Exact).map(|form| form.shape);
                if !shape.is_ok_and(|shape| shape == form.shape) {
                    return Err(refused("what its handle names has another shape"));
                }
                layer
            }
        };
        let mut taken = self.lock();
        let known = taken.layers.len();
        taken.layers.resize(known.max(index + 1), None);
        if let Some(slot) = taken.layers.get_mut(index) {
            *slot = Some(layer.clone());
        }
        Ok(layer)
    }

    /// Checks everything about a part but its numbers.
    fn check(
        &self,
        part: &ContextPart,
        index: usize,
    ) -> std::result::Result<LayerForm, PolicyError> {
        let (head, ours) = (&part.head, self.context.head().request.id);
        if head.request_id != ours {
            let other = head.request_id;
            let problem = format!("part {index} answers request {other}, not {ours}");
            return Err(PolicyError::context(ContextFault::OtherRequest, problem));
        }
        let name = self.form.name(index);
        if usize::from(head.index) != index || name != Some(&head.name) {
            let expected = name.map_or("no part", |name| name.as_str());
            let problem = format!("part {} is {}, expected {expected}", head.index, head.name);
            return Err(unshaped(problem));
        }
        let name = &head.name;
        let number = number(head.dtype).ok_or_else(|| {
            let problem = format!("{name} has the type {:?}, which is no number", head.dtype);
            unshaped(problem)
        })?;
        let first = *self.lock().dtype.get_or_insert(head.dtype);
        if first != head.dtype {
            let problem = format!("{name} has another number type than the first part");
            return Err(unshaped(problem));
        }
        let shape = self.form.shape(self.tokens.width());
        let sizes = head.shape.iter().map(|size| usize::try_from(*size).ok());
        if !sizes.eq(shape.map(Some)) {
            let problem = format!("{name} has the shape {:?}, expected {shape:?}", head.shape);
            return Err(unshaped(problem));
        }
        let form = LayerForm { number, shape };
        if let PartData::Bytes(bytes) = &part.data
            && form.n_bytes() != Some(bytes.len())
        {
            let problem = format!("{name} has {} bytes, which is not its shape", bytes.len());
            return Err(unshaped(problem));
        }
        Ok(form)
    }

    /// A panic elsewhere while the lock was held leaves whole layers behind: they stay in use.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mask and positions of a context's head.
fn tokens(head: &ContextHead) -> std::result::Result<Tokens, PolicyError> {
    let mask = from_bits(&head.mask, head.n_tokens).ok_or_else(|| {
        let (n_bytes, n_tokens) = (head.mask.len(), head.n_tokens);
        let problem = format!("a mask of {n_bytes} bytes does not fit {n_tokens} tokens");
        unshaped(problem)
    })?;
    // A brain sends the real tokens of one prompt and no filling: a hole is damage.
    if mask.contains(&false) {
        let n_tokens = head.n_tokens;
        let problem = format!("the mask of its {n_tokens} tokens has holes");
        return Err(unshaped(problem));
    }
    if head.n_tokens <= head.p_end {
        let (p_end, n_tokens) = (head.p_end, head.n_tokens);
        let problem = format!("position {p_end} cannot be the last of {n_tokens} tokens");
        return Err(unshaped(problem));
    }
    Ok(Tokens {
        p_end: vec![head.p_end],
        mask: vec![mask],
    })
}

impl Source for Received<'_> {
    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn layer(&self, index: usize) -> Result<KvLayer> {
        if let Some(layer) = self.known(index) {
            return Ok(layer);
        }
        self.take(index).map_err(|error| {
            let told = Error::input(error.to_string());
            self.lock().failed = Some(error);
            told
        })
    }
}
