//! A context as it travels from the brain to the action expert: one part per layer, to the bit.

use bytes::Bytes;
use vlad_motion::policy::{ContextSource, PolicyError};
use vlad_wire::codec::Body;
use vlad_wire::msg::think::{Context as Message, ContextPart, DType, PartHead};
use vlad_wire::text::Name;
use vlad_xr0::config::Config;
use vlad_xr0::context::{Context, LayerBytes};

/// Keys and values of one text layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    name: Name,
    dtype: DType,
    /// `[2, kv_heads, s, head_dim]`.
    shape: [u32; 4],
    data: Bytes,
}

/// What one prefill gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Thought {
    /// Largest position id of the prompt (reference §3.4).
    pub(super) p_end: u32,
    /// Which tokens are real.
    pub(super) tokens: Vec<bool>,
    /// Layers, in the order of the action expert's.
    pub(super) layers: Vec<Layer>,
}

/// What the layers of a checkpoint's contexts look like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    names: Vec<Name>,
    kv_heads: u32,
    head_dim: u32,
}

impl Form {
    /// Takes it from the sizes of the networks.
    ///
    /// # Errors
    /// Sizes that no message could carry.
    pub(super) fn new(config: &Config) -> Result<Self, PolicyError> {
        let from = config.first_context_layer();
        let layers = from..from + config.dit_config.num_hidden_layers;
        let absurd = |error: &dyn std::error::Error| PolicyError::Open(error.to_string());
        let size = |size: usize| u32::try_from(size).map_err(|error| absurd(&error));
        if usize::from(Message::PARTS_MAX) < layers.len() {
            let most = Message::PARTS_MAX;
            return Err(PolicyError::Open(format!(
                "the action expert has more than {most} layers"
            )));
        }
        let names = layers.map(|layer| Name::new(format!("kv_{layer}")));
        Ok(Self {
            names: names
                .collect::<Result<_, _>>()
                .map_err(|error| absurd(&error))?,
            kv_heads: size(config.dit_config.num_key_value_heads)?,
            head_dim: size(config.dit_config.head_dim)?,
        })
    }
}

impl Thought {
    /// Takes a context of one prompt apart.
    ///
    /// # Errors
    /// A context of several prompts, or one that is larger than a message may be.
    pub(super) fn new(context: &Context, form: &Form) -> Result<Self, PolicyError> {
        let odd = |problem: &str| PolicyError::Decide(problem.to_owned());
        let [p_end] = context.p_end.as_slice() else {
            return Err(odd("the context is not of one prompt"));
        };
        let [tokens] = context.mask.as_slice() else {
            return Err(odd("the context is not of one prompt"));
        };
        if context.layers.len() != form.names.len() {
            return Err(odd(
                "the context has another number of layers than config.json says",
            ));
        }
        let layers = form.names.iter().enumerate();
        let layers = layers.map(|(index, name)| Layer::new(context, index, name));
        Ok(Self {
            p_end: *p_end,
            tokens: tokens.clone(),
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// Takes a context off the bus, and checks everything about it but its numbers.
    ///
    /// # Errors
    /// [`PolicyError::Context`] with the first thing that does not fit; a part that is late.
    pub(super) fn received(source: &dyn ContextSource, form: &Form) -> Result<Self, PolicyError> {
        let head = source.head();
        let odd = |problem: String| PolicyError::Context(problem);
        if usize::from(head.n_parts) != form.names.len() {
            let expected = form.names.len();
            return Err(odd(format!(
                "it has {} parts, expected {expected}",
                head.n_parts
            )));
        }
        let tokens = from_bits(&head.mask, head.n_tokens).ok_or_else(|| {
            let (n_bytes, n_tokens) = (head.mask.len(), head.n_tokens);
            odd(format!(
                "a mask of {n_bytes} bytes does not fit {n_tokens} tokens"
            ))
        })?;
        if !tokens.contains(&true) || head.n_tokens <= head.p_end {
            let (p_end, n_tokens) = (head.p_end, head.n_tokens);
            return Err(odd(format!(
                "position {p_end} cannot be the last of {n_tokens} tokens"
            )));
        }
        let shape = [2, form.kv_heads, head.n_tokens, form.head_dim];
        let mut layers: Vec<Layer> = Vec::with_capacity(form.names.len());
        for (index, name) in (0..head.n_parts).zip(&form.names) {
            let part = source.part(index)?;
            if part.head.request_id != head.request.id {
                let (other, ours) = (part.head.request_id, head.request.id);
                return Err(odd(format!(
                    "part {index} answers request {other}, not {ours}"
                )));
            }
            let layer = Layer::received(part, (name, shape)).map_err(odd)?;
            if layers
                .first()
                .is_some_and(|first| first.dtype != layer.dtype)
            {
                return Err(odd(format!(
                    "part {index} has another number type than the first"
                )));
            }
            layers.push(layer);
        }
        Ok(Self {
            p_end: head.p_end,
            tokens,
            layers,
        })
    }

    /// Which tokens are real, one bit each, lowest bit first.
    pub(super) fn bits(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter()
                .rev()
                .fold(0, |byte, bit| byte << 1 | u8::from(*bit))
        };
        self.tokens.chunks(8).map(byte).collect()
    }

    /// Gives the parts as they go onto the bus.
    pub(super) fn parts(&self, request_id: u64) -> impl Iterator<Item = ContextPart> {
        (0..)
            .zip(&self.layers)
            .map(move |(index, layer)| ContextPart {
                head: PartHead {
                    request_id,
                    index,
                    name: layer.name.clone(),
                    dtype: layer.dtype,
                    shape: layer.shape.to_vec(),
                },
                data: layer.data.clone(),
            })
    }
}

impl Layer {
    fn new(context: &Context, index: usize, name: &Name) -> Result<Self, PolicyError> {
        let decide = |problem: String| PolicyError::Decide(problem);
        let layer = context
            .layer_bytes(index)
            .map_err(|error| decide(error.to_string()))?;
        let dtype = match layer.dtype.as_str() {
            "f32" => DType::F32,
            "bf16" => DType::Bf16,
            other => return Err(decide(format!("a context cannot travel as {other}"))),
        };
        if Message::RAW_MAX < layer.bytes.len() {
            let (n_bytes, most) = (layer.bytes.len(), Message::RAW_MAX);
            return Err(decide(format!(
                "{name} has {n_bytes} bytes, a message holds {most}"
            )));
        }
        let mut shape = [0; 4];
        for (place, size) in shape.iter_mut().zip(layer.shape) {
            *place = u32::try_from(size).map_err(|error| decide(error.to_string()))?;
        }
        Ok(Self {
            name: name.clone(),
            dtype,
            shape,
            data: layer.bytes.into(),
        })
    }

    fn received(part: ContextPart, (name, shape): (&Name, [u32; 4])) -> Result<Self, String> {
        let head = part.head;
        if head.name != *name {
            return Err(format!(
                "part {} is {}, expected {name}",
                head.index, head.name
            ));
        }
        if !matches!(head.dtype, DType::F32 | DType::Bf16) {
            return Err(format!(
                "{name} has the type {:?}, expected F32 or Bf16",
                head.dtype
            ));
        }
        if head.shape != shape {
            return Err(format!(
                "{name} has the shape {:?}, expected {shape:?}",
                head.shape
            ));
        }
        if head.n_bytes() != Some(part.data.len()) {
            return Err(format!(
                "{name} has {} bytes, which is not its shape",
                part.data.len()
            ));
        }
        Ok(Self {
            name: head.name,
            dtype: head.dtype,
            shape,
            data: part.data,
        })
    }

    /// The numbers, as the network's own code takes them.
    pub(super) fn numbers(&self) -> Result<LayerBytes, PolicyError> {
        let odd = |problem: String| PolicyError::Context(problem);
        let dtype = match self.dtype {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::Bytes => return Err(odd(format!("{} holds no numbers", self.name))),
        };
        let mut shape = [0; 4];
        for (place, size) in shape.iter_mut().zip(self.shape) {
            *place = usize::try_from(size).map_err(|error| odd(error.to_string()))?;
        }
        Ok(LayerBytes {
            dtype: dtype
                .parse()
                .map_err(|_| odd(format!("there is no type {dtype}")))?,
            shape,
            bytes: self.data.to_vec(),
        })
    }
}

/// Reads a mask; `None` if it has not exactly the bytes of `n_tokens` bits, or further bits.
fn from_bits(bytes: &[u8], n_tokens: u32) -> Option<Vec<bool>> {
    let n_tokens = usize::try_from(n_tokens).ok()?;
    if bytes.len() != n_tokens.div_ceil(8) {
        return None;
    }
    let all = bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    let mut all: Vec<_> = all.collect();
    let rest = all.split_off(n_tokens);
    (!rest.contains(&true)).then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mask_survives_its_bits(tokens in proptest::collection::vec(any::<bool>(), 0..40)) {
            let thought = Thought { p_end: 0, tokens: tokens.clone(), layers: vec![] };
            let n_tokens = u32::try_from(tokens.len()).unwrap();
            prop_assert_eq!(from_bits(&thought.bits(), n_tokens), Some(tokens));
        }
    }

    #[test]
    fn the_lowest_bit_is_the_first_token() {
        let tokens = [vec![true], vec![false; 7], vec![true]].concat();
        let thought = Thought {
            p_end: 0,
            tokens,
            layers: vec![],
        };
        assert_eq!(thought.bits(), [1, 1]);
    }

    #[test]
    fn a_mask_of_another_length_is_refused() {
        assert_eq!(from_bits(&[255], 9), None);
        assert_eq!(from_bits(&[255, 1, 0], 9), None);
        // A bit behind the last token.
        assert_eq!(from_bits(&[255, 3], 9), None);
        assert!(from_bits(&[255, 1], 9).is_some());
    }
}
