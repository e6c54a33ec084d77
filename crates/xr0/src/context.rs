//! The context: what the brain hands to the action expert (reference §5, "what the DiT reads").
//!
//! It is known in two steps: how many tokens there are and where they stand, before the prefill; then
//! keys and values, one layer after the other, in the order in which the expert's layers read them.
//! So the expert asks a [`Source`], which may wait for a layer that is still being computed.
//!
//! | module | holds |
//! |---|---|
//! | [`bytes`] | a layer as bytes, between processes |
//! | here | a layer, a whole context, several contexts as one batch |

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};

pub mod bytes;

/// Keys and values of one text layer, of `b` prompts of `s` tokens.
#[derive(Debug, Clone)]
pub struct KvLayer {
    /// `(b, kv_heads, s, head_dim)`: behind the key norm and the rotation.
    pub k: Tensor,
    /// `(b, kv_heads, s, head_dim)`.
    pub v: Tensor,
}

impl KvLayer {
    /// Takes one prompt of a batch, without its padding: `(1, kv_heads, n_tokens, head_dim)`.
    ///
    /// # Errors
    /// A row or a token that the layer does not have.
    pub fn of_prompt(&self, row: usize, n_tokens: usize) -> Result<Self> {
        let own = |x: &Tensor| x.narrow(0, row, 1)?.narrow(2, 0, n_tokens)?.contiguous();
        Ok(Self {
            k: own(&self.k)?,
            v: own(&self.v)?,
        })
    }

    /// Brings it to a device and a number type.
    ///
    /// # Errors
    /// What the device says.
    pub fn to(&self, device: &Device, dtype: DType) -> Result<Self> {
        let to = |x: &Tensor| x.to_device(device)?.to_dtype(dtype);
        Ok(Self {
            k: to(&self.k)?,
            v: to(&self.v)?,
        })
    }

    /// Pads each prompt on the right with zeros, to `s` tokens.
    fn padded(&self, s: usize) -> Result<Self> {
        let pad = |x: &Tensor| x.pad_with_zeros(2, 0, s.saturating_sub(x.dim(2)?));
        Ok(Self {
            k: pad(&self.k)?,
            v: pad(&self.v)?,
        })
    }
}

/// The tokens that a context's layers stand for; known before a layer is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Largest position id of each prompt; the expert's tokens continue behind it.
    pub p_end: Vec<u32>,
    /// `(b, s)`: which tokens are real.
    pub mask: Vec<Vec<bool>>,
}

impl Tokens {
    /// Tokens of the longest prompt.
    pub fn width(&self) -> usize {
        self.mask.first().map_or(0, Vec::len)
    }

    /// Tokens of one prompt, its padding not counted.
    pub fn len_of(&self, row: usize) -> usize {
        let flags = self.mask.get(row).into_iter().flatten();
        flags.filter(|real| **real).count()
    }
}

/// Where the action expert gets a context from.
pub trait Source: Sync {
    /// The tokens of its prompts.
    fn tokens(&self) -> &Tokens;
    /// Gives the layer that the expert's layer `index` reads, and waits for it if need be. The
    /// sampler asks for each once, in order, as its first step comes to it.
    ///
    /// # Errors
    /// A layer that does not exist, does not come, or is not what it should be.
    fn layer(&self, index: usize) -> Result<KvLayer>;
}

/// A whole context of `b` prompts.
#[derive(Debug, Clone)]
pub struct Context {
    /// Its tokens.
    pub tokens: Tokens,
    /// The layers that the action expert reads, in its own order.
    pub layers: Vec<KvLayer>,
}

impl Source for Context {
    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn layer(&self, index: usize) -> Result<KvLayer> {
        let layer = self.layers.get(index).cloned();
        layer.ok_or_else(|| Error::input(format!("the context has no layer {index}")))
    }
}

/// Several contexts as one batch, padded on the right.
pub struct Joined<'a> {
    sources: Vec<&'a dyn Source>,
    tokens: Tokens,
}

impl<'a> Joined<'a> {
    /// Joins contexts, each of one prompt or of several.
    pub fn new(sources: Vec<&'a dyn Source>) -> Self {
        let widths = sources.iter().map(|source| source.tokens().width());
        let width = widths.max().unwrap_or(0);
        let of_all = |source: &&dyn Source| source.tokens().clone();
        let mut tokens = Tokens::default();
        for own in sources.iter().map(of_all) {
            tokens.p_end.extend(own.p_end);
            tokens.mask.extend(own.mask.into_iter().map(|mut row| {
                row.resize(width, false);
                row
            }));
        }
        Self { sources, tokens }
    }
}

impl Source for Joined<'_> {
    fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn layer(&self, index: usize) -> Result<KvLayer> {
        let width = self.tokens.width();
        let padded = |source: &&dyn Source| source.layer(index)?.padded(width);
        let layers = self
            .sources
            .iter()
            .map(padded)
            .collect::<Result<Vec<_>>>()?;
        let all = |of: fn(&KvLayer) -> &Tensor| {
            Tensor::cat(&layers.iter().map(of).collect::<Vec<_>>(), 0)
        };
        Ok(KvLayer {
            k: all(|layer| &layer.k)?,
            v: all(|layer| &layer.v)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One layer of `s` tokens, numbered from `from`.
    fn context(from: f32, s: usize) -> Context {
        let n = 2 * s * 4;
        let tensor = |from: f32| {
            let values = Tensor::arange(from, from + n as f32, &Device::Cpu).unwrap();
            values.reshape((1, 2, s, 4)).unwrap()
        };
        Context {
            tokens: Tokens {
                p_end: vec![s as u32 - 1],
                mask: vec![vec![true; s]],
            },
            layers: vec![KvLayer {
                k: tensor(from),
                v: tensor(from + 0.5),
            }],
        }
    }

    #[test]
    fn joined_contexts_are_padded_on_the_right_and_come_apart_again() {
        let (short, long) = (context(0.0, 2), context(100.0, 3));
        let joined = Joined::new(vec![&short, &long]);
        assert_eq!(joined.tokens().p_end, [1, 2]);
        assert_eq!(joined.tokens().mask[0], [true, true, false]);
        assert_eq!(
            (joined.tokens().len_of(0), joined.tokens().len_of(1)),
            (2, 3)
        );
        let layer = joined.layer(0).unwrap();
        assert_eq!(layer.k.dims(), [2, 2, 3, 4]);
        for (row, own) in [(0, &short), (1, &long)] {
            let apart = layer.of_prompt(row, joined.tokens().len_of(row)).unwrap();
            let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(numbers(&apart.k), numbers(&own.layers[0].k));
            assert_eq!(numbers(&apart.v), numbers(&own.layers[0].v));
        }
    }

    #[test]
    fn a_layer_that_is_not_there_is_an_error() {
        assert!(context(0.0, 2).layer(1).is_err());
    }
}
