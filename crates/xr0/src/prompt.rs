//! What the text model reads of a decision (reference §3.2 – §3.4): text, image placeholders, ids,
//! positions.
//!
//! ```text
//!  views, instruction ─ prompt ─► text ─ row ─► ids, positions of one sample ─ pad ─► a batch
//! ```
//! Foreign text goes through [`check`] first, so that it cannot end the user's turn or pose as an
//! image. A sample has at most [`TOKENS_MAX`] tokens: attention's memory grows with their square.

use std::ops::Range;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::preprocess::Grid;
use crate::tokenizer::Tokenizer;

/// Stands for one merged cell of an image; once per image before [`row`] repeats it.
const IMAGE_PAD: &str = "<|image_pad|>";
/// Tokens of the longest sample, text and images together: the context window that is served. Real
/// prompts have a quarter of it; the attention of one that fills it takes some gigabytes.
pub const TOKENS_MAX: usize = 4096;
/// Bytes of the longest prompt; more are refused before they are turned into tokens.
const BYTES_MAX: usize = 64 << 10;
/// Position of padding on all axes.
const PAD_POSITION: u32 = 1;

/// One sample, unpadded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Positions in time, height and width, each as long as `ids`.
    pub positions: [Vec<u32>; 3],
}

/// A batch of samples, padded on the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// Tokens of the longest sample.
    pub width: usize,
    /// Token ids, `(n, width)`.
    pub ids: Vec<u32>,
    /// 1 where a token is real, `(n, width)`.
    pub mask: Vec<u8>,
    /// Positions in time, height and width, each `(n, width)`; 1 on padding.
    pub positions: [Vec<u32>; 3],
    /// Samples.
    pub n: usize,
}

impl Rows {
    /// The columns from `first` on.
    #[must_use]
    pub fn from_column(&self, first: usize) -> Self {
        Self {
            width: self.width - first,
            ids: self.columns(&self.ids, first..self.width),
            mask: self.columns(&self.mask, first..self.width),
            positions: std::array::from_fn(|axis| {
                self.columns(&self.positions[axis], first..self.width)
            }),
            n: self.n,
        }
    }

    /// The first `n` columns of the first row, by themselves.
    #[must_use]
    pub fn opening(&self, n: usize) -> Self {
        Self {
            width: n,
            ids: self.ids[..n].to_vec(),
            mask: self.mask[..n].to_vec(),
            positions: std::array::from_fn(|axis| self.positions[axis][..n].to_vec()),
            n: 1,
        }
    }

    fn columns<T: Copy>(&self, cells: &[T], columns: Range<usize>) -> Vec<T> {
        let rows = cells.chunks_exact(self.width.max(1));
        rows.flat_map(|row| row[columns.clone()].iter().copied())
            .collect()
    }
}

/// Builds the prompt of a decision, to the byte the one that the networks were trained with
/// (reference §3.2). `views` are labels such as `Base View`, in the order of their images.
pub fn prompt(views: &[&str], instruction: &str) -> String {
    let view = |label: &&str| format!("# {label}\n<|vision_start|>{IMAGE_PAD}<|vision_end|>\n");
    let views: String = views.iter().map(view).collect();
    format!(
        "<|im_start|>user\n\
         The following observations are captured from multiple views.\n\
         {views}\
         Generate robot actions for the task:\n\
         {instruction} /no_cot<|im_end|>\n\
         <|im_start|>assistant\n\
         <cot></cot><|im_end|>\n"
    )
}

/// Checks that labels and instruction are text and nothing else.
///
/// # Errors
/// A special token such as `<|im_end|>` in one of them; a label that is empty or has more than one
/// line; together more than 64 KiB.
pub fn check(tokenizer: &Tokenizer, views: &[&str], instruction: &str) -> Result<()> {
    let bytes: usize = views.iter().map(|label| label.len()).sum();
    if BYTES_MAX < bytes + instruction.len() {
        return Err(too_long(bytes + instruction.len()));
    }
    for label in views {
        if label.trim().is_empty() || label.contains(['\n', '\r']) {
            return Err(Error::input(format!(
                "the view label {label:?} must be one line of text"
            )));
        }
    }
    let labels = views.iter().map(|label| ("view label", *label));
    for (what, text) in labels.chain([("instruction", instruction)]) {
        if let Some(token) = tokenizer.special_in(text)? {
            return Err(Error::input(format!(
                "the {what} contains {token}, which is a control token of the model; leave it out"
            )));
        }
    }
    Ok(())
}

/// Turns a prompt into ids and positions; `grids` are its images' patches, in order.
///
/// Each image's placeholder is repeated once per merged cell before the text is tokenised.
///
/// # Errors
/// Placeholders and images that differ in number; a grid that cannot be merged; a tokenizer whose
/// placeholder is not the configuration's; a prompt of more than 64 KiB; more than [`TOKENS_MAX`]
/// tokens.
pub fn row(tokenizer: &Tokenizer, config: &Config, prompt: &str, grids: &[Grid]) -> Result<Row> {
    if BYTES_MAX < prompt.len() {
        return Err(too_long(prompt.len()));
    }
    let image_token = config.image_token();
    if tokenizer.id(IMAGE_PAD) != Some(image_token) {
        return Err(Error::input(format!(
            "image_token_id of config.json is {image_token}, tokenizer.json has {:?} for {IMAGE_PAD}",
            tokenizer.id(IMAGE_PAD)
        )));
    }
    let merged = merged(grids, config.vision().spatial_merge_size)?;
    let ids = tokenizer.encode(&expand(prompt, &merged)?)?;
    if TOKENS_MAX < ids.len() {
        let images: usize = merged.iter().map(|grid| grid.rows * grid.columns).sum();
        return Err(Error::input(format!(
            "the prompt has {} tokens, {images} of them for its images, at most {TOKENS_MAX} are \
             taken: shorten the instruction, or show fewer or smaller images",
            ids.len()
        )));
    }
    let positions = positions(&ids, image_token, &merged)?;
    Ok(Row { ids, positions })
}

/// Pads samples on the right to the longest one: id `pad_id`, mask 0, position 1.
pub fn pad(rows: &[Row], pad_id: u32) -> Rows {
    let width = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let fill = |tokens: &dyn Fn(&Row) -> &[u32], padding: u32| {
        let mut all = Vec::with_capacity(rows.len() * width);
        for row in rows {
            all.extend_from_slice(tokens(row));
            all.extend(std::iter::repeat_n(padding, width - row.ids.len()));
        }
        all
    };
    let mut mask = Vec::with_capacity(rows.len() * width);
    for row in rows {
        mask.extend((0..width).map(|column| u8::from(column < row.ids.len())));
    }
    Rows {
        width,
        ids: fill(&|row| &row.ids, pad_id),
        mask,
        positions: std::array::from_fn(|axis| fill(&|row| &row.positions[axis], PAD_POSITION)),
        n: rows.len(),
    }
}

fn too_long(bytes: usize) -> Error {
    Error::input(format!(
        "the prompt has {bytes} bytes, at most {BYTES_MAX} are taken"
    ))
}

/// Cells of each image behind the merger; not more than a sample may have tokens.
fn merged(grids: &[Grid], merge: usize) -> Result<Vec<Grid>> {
    let mut total = 0_usize;
    let one = |grid: &Grid| {
        let Grid { rows, columns } = *grid;
        let fits = 0 < merge.min(rows).min(columns)
            && rows.is_multiple_of(merge)
            && columns.is_multiple_of(merge);
        if !fits {
            return Err(Error::input(format!(
                "a grid of {rows} x {columns} patches cannot be merged by {merge} x {merge}"
            )));
        }
        let merged = Grid {
            rows: rows / merge,
            columns: columns / merge,
        };
        total = total.saturating_add(merged.rows.saturating_mul(merged.columns));
        Ok(merged)
    };
    let merged = grids.iter().map(one).collect::<Result<Vec<_>>>()?;
    if TOKENS_MAX < total {
        return Err(Error::input(format!(
            "the images have {total} tokens together, at most {TOKENS_MAX} are taken: show fewer \
             or smaller images"
        )));
    }
    Ok(merged)
}

/// Repeats each placeholder once per cell of its image.
fn expand(prompt: &str, merged: &[Grid]) -> Result<String> {
    let pieces: Vec<_> = prompt.split(IMAGE_PAD).collect();
    if pieces.len() != merged.len() + 1 {
        return Err(Error::input(format!(
            "the prompt has {} image placeholders, there are {} images",
            pieces.len() - 1,
            merged.len()
        )));
    }
    let cells = merged.iter().map(|grid| grid.rows * grid.columns);
    let cells = cells.chain([0]);
    Ok(pieces
        .into_iter()
        .zip(cells)
        .fold(String::new(), |mut text, (piece, cells)| {
            text.push_str(piece);
            text.push_str(&IMAGE_PAD.repeat(cells));
            text
        }))
}

/// Gives the positions in time, height and width (reference §3.4).
///
/// Text counts on all axes at once. The cells of an image share the time at which it begins, and
/// count down and across from there; the text behind it goes on after the longer side.
fn positions(ids: &[u32], image_token: u32, merged: &[Grid]) -> Result<[Vec<u32>; 3]> {
    let [mut t, mut h, mut w] = [(); 3].map(|()| Vec::with_capacity(ids.len()));
    let (mut next, mut images, mut rest) = (0, merged.iter(), ids);
    while let Some((id, behind)) = rest.split_first() {
        if *id != image_token {
            t.push(next);
            h.push(next);
            w.push(next);
            next += 1;
            rest = behind;
            continue;
        }
        let image = images.next().filter(|grid| {
            let cells = rest.get(..grid.rows * grid.columns);
            cells.is_some_and(|cells| cells.iter().all(|id| *id == image_token))
        });
        let Some(Grid { rows, columns }) = image else {
            return Err(Error::input(
                "the prompt's image tokens do not fit its images",
            ));
        };
        for cell in 0..rows * columns {
            t.push(next);
            h.push(next + (cell / columns) as u32);
            w.push(next + (cell % columns) as u32);
        }
        next += (*rows.max(columns)) as u32;
        rest = &rest[rows * columns..];
    }
    if images.next().is_some() {
        return Err(Error::input(
            "the prompt has fewer image tokens than its images need",
        ));
    }
    Ok([t, h, w])
}

#[cfg(test)]
mod tests;
