//! What a context looks like on its way from the brain to the action expert: one part per layer.

use vlad_motion::policy::PolicyError;
use vlad_wire::codec::Body;
use vlad_wire::msg::think::{Context as Message, DType, PartHead};
use vlad_wire::text::Name;
use vlad_xr0::config::Config;
use vlad_xr0::context::bytes::{LayerForm, Number};

/// What the layers of a checkpoint's contexts look like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    names: Vec<Name>,
    kv_heads: usize,
    head_dim: usize,
}

impl Form {
    /// Takes it from the sizes of the networks.
    ///
    /// # Errors
    /// Sizes that no message could carry.
    pub(super) fn new(config: &Config) -> Result<Self, PolicyError> {
        let from = config.first_context_layer();
        let layers = from..from + config.dit_config.num_hidden_layers;
        if usize::from(Message::PARTS_MAX) < layers.len() {
            let most = Message::PARTS_MAX;
            return Err(PolicyError::Open(format!(
                "the action expert has more than {most} layers"
            )));
        }
        let names = layers.map(|layer| Name::new(format!("kv_{layer}")));
        let names = names.collect::<Result<_, _>>();
        Ok(Self {
            names: names.map_err(|error| PolicyError::Open(error.to_string()))?,
            kv_heads: config.dit_config.num_key_value_heads,
            head_dim: config.dit_config.head_dim,
        })
    }

    /// Layers, in the order of the action expert's.
    pub(super) fn n_parts(&self) -> usize {
        self.names.len()
    }

    /// The name of a layer's part.
    pub(super) fn name(&self, index: usize) -> Option<&Name> {
        self.names.get(index)
    }

    /// `[2, kv_heads, s, head_dim]` of a prompt of so many tokens.
    pub(super) fn shape(&self, n_tokens: usize) -> [usize; 4] {
        [2, self.kv_heads, n_tokens, self.head_dim]
    }

    /// The head of a layer's part.
    ///
    /// # Errors
    /// A layer that is not the action expert's, or larger than a message may be.
    pub(super) fn part(
        &self,
        request_id: u64,
        index: usize,
        layer: &LayerForm,
    ) -> Result<PartHead, PolicyError> {
        let odd = |problem: String| PolicyError::Decide(problem);
        let name = self.name(index);
        let name = name.ok_or_else(|| odd(format!("the action expert has no layer {index}")))?;
        let most = Message::RAW_MAX;
        if layer.n_bytes().is_none_or(|n_bytes| most < n_bytes) {
            return Err(odd(format!(
                "{name} is larger than the {most} bytes of a message"
            )));
        }
        let sizes = layer.shape.into_iter().map(u32::try_from);
        Ok(PartHead {
            request_id,
            index: u16::try_from(index).map_err(|error| odd(error.to_string()))?,
            name: name.clone(),
            dtype: match layer.number {
                Number::F32 => DType::F32,
                Number::Bf16 => DType::Bf16,
                Number::Int8 => DType::Int8,
            },
            shape: sizes
                .collect::<Result<_, _>>()
                .map_err(|error| odd(error.to_string()))?,
            thinking: 0,
            ready_at_ns: 0,
        })
    }
}

/// The number type of a part's bytes; `None` where they are no numbers.
pub(super) fn number(dtype: DType) -> Option<Number> {
    match dtype {
        DType::F32 => Some(Number::F32),
        DType::Bf16 => Some(Number::Bf16),
        DType::Int8 => Some(Number::Int8),
        DType::Bytes => None,
    }
}

/// Which tokens are real, one bit each, lowest bit first.
pub(super) fn to_bits(tokens: &[bool]) -> Vec<u8> {
    let byte = |bits: &[bool]| {
        let bits = bits.iter().rev();
        bits.fold(0, |byte, bit| byte << 1 | u8::from(*bit))
    };
    tokens.chunks(8).map(byte).collect()
}

/// Reads a mask; `None` if it has not exactly the bytes of `n_tokens` bits, or further bits.
pub(super) fn from_bits(bytes: &[u8], n_tokens: u32) -> Option<Vec<bool>> {
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
            let n_tokens = u32::try_from(tokens.len()).unwrap();
            prop_assert_eq!(from_bits(&to_bits(&tokens), n_tokens), Some(tokens));
        }
    }

    #[test]
    fn the_lowest_bit_is_the_first_token() {
        let tokens = [vec![true], vec![false; 7], vec![true]].concat();
        assert_eq!(to_bits(&tokens), [1, 1]);
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
