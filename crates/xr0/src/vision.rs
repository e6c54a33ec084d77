//! The vision tower: patch rows of images → image tokens and DeepStack features.
//!
//! Paper: Qwen3-VL's vision transformer. Reference §4. `N` patches of all images in prompt order,
//! in 2×2 merge blocks; `M = N/4` merged tokens; `h` the tower's width, `H` the text model's.
//!
//! What depends on an image's size alone, positions and rotations, is computed once a size.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::config::{Config, VisionConfig};
use crate::error::{Error, Result};
use crate::nn::linear::Linear;
use crate::nn::weights::{Path, Weights};
use crate::nn::{LayerNorm, attend};
use crate::preprocess::{Grid, merge_order};
use crate::rope::{Tables, vision_tables};
use crate::trace::Trace;

/// Epsilon of every layer norm of the tower.
const EPS: f64 = 1e-6;

/// Image sizes whose positions and rotations are kept.
const SIZES_KEPT: usize = 8;

/// What the tower gives of all images of a batch.
#[derive(Debug, Clone)]
pub struct ImageTokens {
    /// `(M, H)`: they replace the placeholders' embeddings.
    pub embeds: Tensor,
    /// `(M, H)` each: feature `i` is added to the image tokens behind text layer `i`.
    pub deepstack: Vec<Tensor>,
}

impl ImageTokens {
    /// Those of no image, for a text model `hidden` wide.
    ///
    /// # Errors
    /// What the device says.
    pub fn none(hidden: usize, (dtype, device): (DType, &Device)) -> Result<Self> {
        Ok(Self {
            embeds: Tensor::zeros((0, hidden), dtype, device)?,
            deepstack: Vec::new(),
        })
    }

    /// Puts those of several images behind each other.
    ///
    /// # Errors
    /// Images of different models.
    pub fn joined(images: &[Arc<Self>]) -> Result<Self> {
        let all = |of: &dyn Fn(&Self) -> Tensor| {
            let each: Vec<_> = images.iter().map(|image| of(image)).collect();
            Tensor::cat(&each, 0)
        };
        let features = images.first().map_or(0, |image| image.deepstack.len());
        let deepstack = (0..features).map(|i| all(&|image| image.deepstack[i].clone()));
        Ok(Self {
            embeds: all(&|image| image.embeds.clone())?,
            deepstack: deepstack.collect::<candle_core::Result<_>>()?,
        })
    }
}

/// Of an image of one size.
#[derive(Debug, Clone)]
struct Placing {
    /// `(n, h)`: the position embedding of its patches.
    embedding: Tensor,
    /// `(1, n, d/2)`.
    tables: Tables,
}

/// The vision tower.
#[derive(Debug)]
pub struct VisionTower {
    patch_embed: Linear,
    /// `(side², h)`: a square table of position embeddings.
    pos_embed: Tensor,
    side: usize,
    blocks: Vec<Block>,
    merger: Merger,
    deepstack_merger_list: Vec<Merger>,
    deepstack_visual_indexes: Vec<usize>,
    merge: usize,
    head_dim: usize,
    rope_bf16: bool,
    path: Path,
    device: Device,
    placings: Mutex<Vec<(Grid, Placing)>>,
}

impl VisionTower {
    /// Loads `vlm.model.visual`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, config: &Config, rope_bf16: bool) -> Result<Self> {
        let vision = config.vision();
        let hidden = vision.hidden_size;
        let patch = (
            hidden,
            vision.in_channels,
            vision.temporal_patch_size,
            vision.patch_size,
            vision.patch_size,
        );
        let proj = weights.pp("patch_embed.proj");
        let kernel = proj.get(patch, "weight")?.flatten_from(1)?; // (h, 3·T·p·p)
        let blocks = (0..vision.depth)
            .map(|index| Block::load(&weights.pp("blocks").pp(index), vision))
            .collect::<Result<_>>()?;
        let list = weights.pp("deepstack_merger_list");
        let deepstack_merger_list = (0..vision.deepstack_visual_indexes.len())
            .map(|index| Merger::load(&list.pp(index), vision, NormPlace::AfterGrouping))
            .collect::<Result<_>>()?;
        Ok(Self {
            patch_embed: Linear::new(&kernel, weights)?.with_bias(proj.get(hidden, "bias")?),
            pos_embed: weights.get((vision.num_position_embeddings, hidden), "pos_embed.weight")?,
            side: vision.num_position_embeddings.isqrt(),
            blocks,
            merger: Merger::load(&weights.pp("merger"), vision, NormPlace::BeforeGrouping)?,
            deepstack_merger_list,
            deepstack_visual_indexes: vision.deepstack_visual_indexes.clone(),
            merge: vision.spatial_merge_size,
            head_dim: hidden / vision.num_heads,
            rope_bf16,
            path: weights.path(),
            device: weights.device().clone(),
            placings: Mutex::default(),
        })
    }

    /// Computes the tokens of all images at once; an image's patches see that image alone.
    ///
    /// `pixel_values`: `(N, 3·T·p·p)`; `grids`: one an image, in the rows' order.
    ///
    /// # Errors
    /// Rows that do not fit the grids.
    pub fn forward(
        &self,
        pixel_values: &Tensor,
        grids: &[Grid],
        trace: &mut dyn Trace,
    ) -> Result<ImageTokens> {
        let patches = self.patch_embed.forward(pixel_values)?; // (N, h)
        trace.take("vision.patch_embed", None, &patches);
        let placings = grids.iter().map(|grid| self.placing(*grid));
        let placings = placings.collect::<Result<Vec<_>>>()?;
        let embeddings: Vec<_> = placings.iter().map(|own| &own.embedding).collect();
        let pos_embed = Tensor::cat(&embeddings, 0)?; // (N, h)
        trace.take("vision.pos_embed", None, &pos_embed);
        let mut h = (patches + pos_embed)?;
        let tables: Vec<_> = placings.into_iter().map(|own| own.tables).collect();
        let mut deepstack = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            h = block.forward(&h, &tables)?;
            trace.take("vision.block_out", Some(index), &h);
            let taps = self.deepstack_visual_indexes.iter();
            for (_, merger) in taps
                .zip(&self.deepstack_merger_list)
                .filter(|(tap, _)| **tap == index)
            {
                deepstack.push(merger.forward(&h)?); // (M, H)
            }
        }
        for (index, feature) in deepstack.iter().enumerate() {
            trace.take("vision.deepstack", Some(index), feature);
        }
        let embeds = self.merger.forward(&h)?; // (M, H)
        trace.take("vision.image_embeds", None, &embeds);
        Ok(ImageTokens { embeds, deepstack })
    }

    /// Where the patches of an image stand. The plain form computes it anew, since the table of
    /// positions may be learning.
    fn placing(&self, grid: Grid) -> Result<Placing> {
        let kept = || self.placings.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept().iter().find(|(of, _)| *of == grid).cloned();
        if let Some((_, placing)) = known {
            return Ok(placing);
        }
        let places: Vec<_> = merge_order(grid, self.merge).collect();
        let placing = Placing {
            embedding: self.position_embedding(grid, &places)?,
            tables: vision_tables(&places, self.head_dim, self.rope_bf16, &self.device)?,
        };
        if self.path == Path::Served {
            let mut kept = kept();
            if SIZES_KEPT <= kept.len() {
                kept.remove(0);
            }
            kept.push((grid, placing.clone()));
        }
        Ok(placing)
    }

    /// Samples the square table bilinearly at each patch, in merge-block order (reference §4.2).
    fn position_embedding(&self, grid: Grid, places: &[(usize, usize)]) -> Result<Tensor> {
        let (ys, xs) = (
            linspace(self.side, grid.rows),
            linspace(self.side, grid.columns),
        );
        let mut corners: [(Vec<u32>, Vec<f32>); 4] = Default::default();
        for (row, column) in places {
            let (y, x) = (ys[*row], xs[*column]);
            let (y0, x0) = (y.floor(), x.floor());
            let (dy, dx) = (y - y0, x - x0);
            let (y0, x0) = (y0 as usize, x0 as usize);
            let (y1, x1) = ((y0 + 1).min(self.side - 1), (x0 + 1).min(self.side - 1));
            let at = [
                (y0, x0, (1.0 - dy) * (1.0 - dx)),
                (y0, x1, (1.0 - dy) * dx),
                (y1, x0, dy * (1.0 - dx)),
                (y1, x1, dy * dx),
            ];
            for ((cells, shares), (y, x, share)) in corners.iter_mut().zip(at) {
                cells.push((y * self.side + x) as u32);
                shares.push(share);
            }
        }
        let mut sum: Option<Tensor> = None;
        for (cells, shares) in corners {
            let n = cells.len();
            let cells = Tensor::from_vec(cells, n, &self.device)?;
            let shares = Tensor::from_vec(shares, (n, 1), &self.device)?;
            let shares = shares.to_dtype(self.pos_embed.dtype())?;
            let corner = self
                .pos_embed
                .index_select(&cells, 0)?
                .broadcast_mul(&shares)?;
            sum = Some(match sum {
                Some(sum) => (sum + corner)?,
                None => corner,
            });
        }
        sum.ok_or_else(|| Error::input("there is no image"))
    }
}

/// `n` numbers from 0 to `side − 1`, evenly, computed from both ends as the reference does.
fn linspace(side: usize, n: usize) -> Vec<f32> {
    if n < 2 {
        return vec![0.0; n];
    }
    let end = side as f32 - 1.0;
    let step = end / (n as f32 - 1.0);
    let at = |i: usize| {
        if i < n / 2 {
            step * i as f32
        } else {
            end - step * (n - 1 - i) as f32
        }
    };
    (0..n).map(at).collect()
}

/// One transformer block, pre-norm.
#[derive(Debug, Clone)]
struct Block {
    norm1: LayerNorm,
    norm2: LayerNorm,
    qkv: Linear,
    proj: Linear,
    linear_fc1: Linear,
    linear_fc2: Linear,
    heads: usize,
    path: Path,
}

impl Block {
    fn load(weights: &Weights, config: &VisionConfig) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (attn, mlp) = (weights.pp("attn"), weights.pp("mlp"));
        Ok(Self {
            norm1: LayerNorm::load(&weights.pp("norm1"), hidden, EPS)?,
            norm2: LayerNorm::load(&weights.pp("norm2"), hidden, EPS)?,
            qkv: Linear::load(&attn.pp("qkv"), hidden, 3 * hidden)?,
            proj: Linear::load(&attn.pp("proj"), hidden, hidden)?,
            linear_fc1: Linear::load(&mlp.pp("linear_fc1"), hidden, inner)?,
            linear_fc2: Linear::load(&mlp.pp("linear_fc2"), inner, hidden)?,
            heads: config.num_heads,
            path: weights.path(),
        })
    }

    fn forward(&self, h: &Tensor, images: &[Tables]) -> Result<Tensor> {
        let h = (h + self.attention(&self.norm1.forward(h)?, images)?)?;
        let inner = self.linear_fc1.forward(&self.norm2.forward(&h)?)?;
        Ok((&h + self.linear_fc2.forward(&inner.gelu()?)?)?) // the tanh form
    }

    /// Full attention within each image.
    fn attention(&self, x: &Tensor, images: &[Tables]) -> Result<Tensor> {
        let (n, hidden) = x.dims2()?;
        let qkv = self.qkv.forward(x)?; // (N, 3h)
        let qkv = qkv.reshape((n, 3, self.heads, hidden / self.heads))?;
        let mut mixed = Vec::with_capacity(images.len());
        let mut first = 0;
        for tables in images {
            let patches = tables.positions()?;
            let own = qkv.narrow(0, first, patches)?.permute((1, 2, 0, 3))?; // (3, heads, n, d)
            let part = |index| own.narrow(0, index, 1);
            let q = tables.rotate(&part(0)?, self.path)?; // (1, heads, n, d)
            let k = tables.rotate(&part(1)?, self.path)?;
            let v = part(2)?;
            mixed.push(attend(&q, &[(&k, &v)], None, self.path)?.squeeze(0)?); // (n, h)
            first += patches;
        }
        self.proj.forward(&Tensor::cat(&mixed, 0)?)
    }
}

/// Where a merger normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NormPlace {
    /// Each patch: the main merger.
    BeforeGrouping,
    /// Each block of patches: the DeepStack mergers.
    AfterGrouping,
}

/// Four patches → one token of the text model's width.
#[derive(Debug, Clone)]
struct Merger {
    norm: LayerNorm,
    linear_fc1: Linear,
    linear_fc2: Linear,
    place: NormPlace,
    grouped: usize,
}

impl Merger {
    fn load(weights: &Weights, config: &VisionConfig, place: NormPlace) -> Result<Self> {
        let grouped = config.hidden_size * config.spatial_merge_size.pow(2);
        let normed = match place {
            NormPlace::BeforeGrouping => config.hidden_size,
            NormPlace::AfterGrouping => grouped,
        };
        let out = config.out_hidden_size;
        Ok(Self {
            norm: LayerNorm::load(&weights.pp("norm"), normed, EPS)?,
            linear_fc1: Linear::load(&weights.pp("linear_fc1"), grouped, grouped)?,
            linear_fc2: Linear::load(&weights.pp("linear_fc2"), grouped, out)?,
            place,
            grouped,
        })
    }

    fn forward(&self, h: &Tensor) -> Result<Tensor> {
        let group = |x: &Tensor| x.reshape(((), self.grouped)); // (M, 4h)
        let x = match self.place {
            NormPlace::BeforeGrouping => group(&self.norm.forward(h)?)?,
            NormPlace::AfterGrouping => self.norm.forward(&group(h)?)?,
        };
        let x = self.linear_fc1.forward(&x)?.gelu_erf()?; // the exact form
        self.linear_fc2.forward(&x) // (M, H)
    }
}

/// `(N, …)` pixel rows on the tower's device and in its type.
///
/// # Errors
/// Rows of another length.
pub fn pixel_values(rows: Vec<f32>, width: usize, to: (DType, &Device)) -> Result<Tensor> {
    let n = rows.len() / width.max(1);
    let (dtype, device) = to;
    Ok(Tensor::from_vec(rows, (n, width), device)?.to_dtype(dtype)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linspace_meets_both_ends() {
        assert_eq!(linspace(48, 1), [0.0]);
        let points = linspace(8, 4);
        assert_eq!((points[0], points[3]), (0.0, 7.0));
        assert!(points.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
