//! The kinds without a network: sizes and bytes of resized images, tokens of texts.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::preprocess::resize::resize;
use crate::preprocess::{ImageLimits, RgbImage, smart_resize};

use super::array::Array;
use super::case::{Case, PreprocessRow};
use super::judge::Judge;
use super::set::Set;

/// An entry of the file of the kind `tokenizer`.
#[derive(Debug, Deserialize)]
struct TokenizerRow {
    text: String,
    ids: Vec<u32>,
}

/// Resizes by the rows of the case: `size.i` and `grid_thw.i` of all, `resized.i` where bytes are
/// stored.
pub(super) fn preprocess(
    set: &Set,
    case: &Case,
    (rows, checkpoint): (&[PreprocessRow], &Checkpoint),
    judge: &mut Judge<'_>,
) -> Result<()> {
    let file = format!("{}.safetensors", case.name);
    let stored = set.tensors(&case.name)?;
    let settings = checkpoint.preprocessor();
    let patch = settings.patch_size;
    let mut computed = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        let limits = ImageLimits {
            min_pixels: row.min_pixels,
            max_pixels: row.max_pixels,
        };
        let [height, width] = row.size;
        let resized = match smart_resize(height, width, patch * settings.merge_size, limits) {
            Ok((height, width)) => [height, width],
            Err(error) => {
                judge.compare(&format!("size.{i}"), Err(error.to_string()));
                continue;
            }
        };
        let grid = [1, resized[0] / patch, resized[1] / patch];
        let sizes = [
            ("size", &row.resized[..], &resized[..]),
            ("grid_thw", &row.grid_thw, &grid),
        ];
        for (name, stored, computed) in sizes {
            let [stored, computed] = [stored, computed].map(|n| Array::counts(&[n.len()], n));
            judge.compare(&format!("{name}.{i}"), stored.difference(&computed, None));
        }
        if let Some(raw) = stored.get(&format!("raw.{i}")) {
            let image =
                image(raw).ok_or_else(|| set.fail(&file, format!("raw.{i} is no image")))?;
            if [image.height, image.width] != row.size {
                return Err(set.fail(
                    &file,
                    format!("raw.{i} has not the size that the case gives"),
                ));
            }
            let [height, width] = resized;
            let pixels = resize(&image, height, width).pixels;
            computed.insert(
                format!("resized.{i}"),
                Array::new(&[height, width, 3], &pixels),
            );
        }
    }
    judge.compare_all(&stored, |name| name.starts_with("raw."), &computed, None);
    Ok(())
}

/// Tokenises every text of the file: `ids.i`.
pub(super) fn tokenizer(
    set: &Set,
    file: &str,
    checkpoint: &Checkpoint,
    judge: &mut Judge<'_>,
) -> Result<()> {
    let rows: Vec<TokenizerRow> = set.json(file)?;
    for (i, row) in rows.iter().enumerate() {
        let difference = match checkpoint.tokenizer().encode(&row.text) {
            // Two empty lists agree, but have no difference to speak of.
            Ok(ids) if ids == row.ids => Ok(0.0),
            Ok(ids) => {
                let [stored, computed] = [&row.ids, &ids].map(|ids| Array::new(&[ids.len()], ids));
                stored.difference(&computed, None)
            }
            Err(error) => Err(error.to_string()),
        };
        judge.compare(&format!("ids.{i}"), difference);
    }
    Ok(())
}

/// Takes stored bytes as an image; none if they have another shape.
pub(super) fn image(array: &Array) -> Option<RgbImage> {
    let [height, width, 3] = array.shape[..] else {
        return None;
    };
    RgbImage::new(height, width, array.bytes()?).ok()
}
