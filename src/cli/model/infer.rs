//! `vlad model infer`: one decision from files.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use vlad_actors::policy::xr0::decide::{Decided, Image, Inputs, Noise, decide};
use vlad_actors::policy::xr0::setup::{Half, WeightsChoice};
use vlad_wire::text::Instruction;
use vlad_xr0::context::bytes::Encoding;
use vlad_xr0::device::DeviceName;

use crate::cli::print::{line, table};

use super::picture;

/// Largest file of numbers.
const NUMBERS_BYTES_MAX: u64 = 16 << 20;
/// Slots of a row that the table shows; `--json` has all.
const COLUMNS_MAX: usize = 8;

/// Flags of `model infer`.
#[derive(Debug, Clone, Args)]
pub struct InferArgs {
    /// The checkpoint.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// An image, PNG, JPEG or PPM; repeat for several, in the prompt's order or each with its
    /// label.
    ///
    /// A label is the text in the prompt, such as `Base View`, or the view's name in vlad.toml.
    /// Where no manifest names views each image needs one.
    #[arg(long = "image", value_name = "[LABEL=]FILE", required = true, value_parser = labelled)]
    pub images: Vec<LabelledFile>,
    /// The state, raw and in slots: a JSON array, or a file with one.
    #[arg(long, value_name = "FILE|JSON")]
    pub state: String,
    /// What is to be done, a bare sentence.
    #[arg(long, value_name = "TEXT")]
    pub text: Instruction,
    /// Where the sampler starts: a JSON array, flat or of rows.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    pub noise: Option<PathBuf>,
    /// Draw the start from this seed; reproducible within vlad, not equal to that of PyTorch
    /// [default: 0].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Whose statistics of actions [default: the only one].
    #[arg(long, value_name = "NAME")]
    pub robot_type: Option<String>,
    /// Steps of the sampler.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub steps: u16,
    /// Where to compute: `cpu` or `cuda:N`.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// What the weights are kept as: `f32`, `bf16`, `q8` or `q4`; `auto` is the device's own.
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    pub weights: WeightsChoice,
    /// How the context becomes bytes between the two halves: `exact` or `eight-bit`.
    #[arg(long, value_name = "ENCODING", default_value = "exact")]
    pub encoding: Encoding,
    /// Actions that are already decided, absolute targets in slots: a JSON array of rows.
    ///
    /// They are the chunk's first rows; a checkpoint of profile B takes as many as its vlad.toml
    /// says in `prefix_trained_max`.
    #[arg(long, value_name = "FILE")]
    pub prefix: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// An image file and its label, if one was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledFile {
    /// The label in the prompt, or the view's name.
    pub label: Option<String>,
    /// The file.
    pub path: PathBuf,
}

/// What is printed with `--json`; arrays are rows of slots.
#[derive(Debug, Serialize)]
struct Document<'a> {
    robot_type: &'a str,
    horizon: usize,
    width: usize,
    prompt: &'a str,
    n_tokens: usize,
    p_end: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<Vec<&'a [f32]>>,
    actions: Vec<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<Vec<&'a [f32]>>,
}

/// Does the command.
///
/// # Errors
/// Files that cannot be used, or inputs that do not fit the checkpoint.
pub fn run(args: &InferArgs) -> anyhow::Result<()> {
    let images = args.images.iter().map(|image| {
        let pixels = picture::read(&image.path)?;
        let label = image.label.clone();
        Ok(Image { label, pixels })
    });
    let noise = match &args.noise {
        Some(file) => Noise::Given(numbers_in(file).context("--noise")?),
        None => Noise::Seed(args.seed.unwrap_or(0)),
    };
    let inputs = Inputs {
        images: images.collect::<anyhow::Result<_>>().context("--image")?,
        state: state(&args.state).context("--state")?,
        text: args.text.clone(),
        noise,
        robot_type: args.robot_type.clone(),
        prefix: match &args.prefix {
            Some(file) => rows_in(file).context("--prefix")?,
            None => Vec::new(),
        },
        steps: usize::from(args.steps),
        half: Half {
            device: args.device,
            weights: args.weights,
        },
        encoding: args.encoding,
    };
    let decided = decide(&args.dir, &inputs)?;
    if args.json {
        line(&serde_json::to_string(&document(&decided))?)
    } else {
        line(&summary(&decided))
    }
}

fn document(decided: &Decided) -> Document<'_> {
    Document {
        robot_type: &decided.robot_type,
        horizon: decided.horizon,
        width: decided.width,
        prompt: &decided.prompt,
        n_tokens: decided.n_tokens,
        p_end: decided.p_end,
        seed: decided.seed,
        noise: decided
            .seed
            .is_none()
            .then(|| rows_of(&decided.noise, decided.width)),
        actions: rows_of(&decided.actions, decided.width),
        targets: decided
            .targets
            .as_ref()
            .map(|targets| rows_of(targets, decided.width)),
    }
}

fn rows_of(numbers: &[f32], width: usize) -> Vec<&[f32]> {
    numbers.chunks(width.max(1)).collect()
}

fn summary(decided: &Decided) -> String {
    let Decided {
        robot_type,
        horizon,
        width,
        n_tokens,
        p_end,
        ..
    } = decided;
    let start = match decided.seed {
        Some(seed) => format!("seed {seed}"),
        None => "the given noise".to_owned(),
    };
    let (what, numbers) = match &decided.targets {
        Some(targets) => ("absolute targets in slots", targets),
        None => ("decoded actions", &decided.actions),
    };
    let shown = COLUMNS_MAX.min(*width);
    let mut rows = vec![
        std::iter::once("ROW".to_owned())
            .chain((0..shown).map(|slot| format!("SLOT {slot}")))
            .collect::<Vec<_>>(),
    ];
    rows.extend(
        numbers
            .chunks((*width).max(1))
            .enumerate()
            .map(|(row, values)| {
                let values = values.iter().take(shown).map(|value| format!("{value:.5}"));
                std::iter::once(row.to_string()).chain(values).collect()
            }),
    );
    let rest = match width - shown {
        0 => String::new(),
        n => format!(", {n} more slots with --json"),
    };
    format!(
        "{robot_type}: {horizon} × {width} {what}, from {start}; {n_tokens} tokens, positions up to {p_end}{rest}\n{}",
        table(&rows)
    )
}

/// A path holds a slash before its first equal sign, or no equal sign at all; a label never does.
fn labelled(text: &str) -> Result<LabelledFile, String> {
    let (label, path) = match text.split_once('=') {
        Some((label, path)) if !label.contains('/') => (Some(label.trim().to_owned()), path),
        _ => (None, text),
    };
    if label.as_deref() == Some("") || path.is_empty() {
        return Err("must be a file, or LABEL=FILE".to_owned());
    }
    let path = PathBuf::from(path);
    Ok(LabelledFile { label, path })
}

/// Takes JSON as it was typed, or the file of that name.
fn state(text: &str) -> anyhow::Result<Vec<f32>> {
    if text.trim_start().starts_with('[') {
        numbers(text.as_bytes())
    } else {
        numbers_in(Path::new(text))
    }
}

fn numbers_in(file: &Path) -> anyhow::Result<Vec<f32>> {
    let bytes = picture::bounded(file, NUMBERS_BYTES_MAX)?;
    numbers(&bytes).with_context(|| file.display().to_string())
}

fn rows_in(file: &Path) -> anyhow::Result<Vec<Vec<f32>>> {
    let bytes = picture::bounded(file, NUMBERS_BYTES_MAX)?;
    rows(&bytes).with_context(|| file.display().to_string())
}

/// Reads an array of rows.
fn rows(json: &[u8]) -> anyhow::Result<Vec<Vec<f32>>> {
    let value: Value = serde_json::from_slice(json).context("is no JSON")?;
    let Value::Array(rows) = value else {
        bail!("must be a JSON array of rows of numbers");
    };
    let row = |row: &Value| match row {
        Value::Array(row) => flat(row),
        _ => bail!("must be a JSON array of rows of numbers"),
    };
    rows.iter().map(row).collect()
}

/// Reads an array of numbers, or of rows of numbers of the same length.
fn numbers(json: &[u8]) -> anyhow::Result<Vec<f32>> {
    let value: Value = serde_json::from_slice(json).context("is no JSON")?;
    let Value::Array(items) = value else {
        bail!("must be a JSON array of numbers");
    };
    if let Some(Value::Array(first)) = items.first() {
        let length = first.len();
        let rows = items.iter().map(|row| match row {
            Value::Array(row) if row.len() == length => flat(row),
            _ => bail!("must have rows of the same length"),
        });
        Ok(rows.collect::<anyhow::Result<Vec<_>>>()?.concat())
    } else {
        flat(&items)
    }
}

fn flat(items: &[Value]) -> anyhow::Result<Vec<f32>> {
    let number = |item: &Value| match serde_json::from_value::<f32>(item.clone()) {
        Ok(number) if number.is_finite() => Ok(number),
        _ => bail!("{item} is no number that f32 holds"),
    };
    items.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stands_before_the_first_equal_sign() {
        for (text, label, path) in [
            ("a.png", None, "a.png"),
            ("ego=a.png", Some("ego"), "a.png"),
            ("Ego View=/x/a=b.png", Some("Ego View"), "/x/a=b.png"),
            ("./a=b.png", None, "./a=b.png"),
        ] {
            let wanted = LabelledFile {
                label: label.map(str::to_owned),
                path: PathBuf::from(path),
            };
            assert_eq!(labelled(text), Ok(wanted));
        }
        for text in ["=a.png", "ego=", ""] {
            assert!(labelled(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_flat_or_in_rows() {
        let read = |json: &str| numbers(json.as_bytes()).ok();
        assert_eq!(read("[1, -2.5]"), Some(vec![1.0, -2.5]));
        assert_eq!(read("[[1, 2], [3, 4]]"), Some(vec![1.0, 2.0, 3.0, 4.0]));
        assert_eq!(read("[]"), Some(vec![]));
        for wrong in [
            "[[1, 2], [3]]",
            "[1, [2]]",
            "{}",
            "1",
            "[\"1\"]",
            "[1e39]",
            "[null]",
            "[",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_an_array_of_rows() {
        let read = |json: &str| rows(json.as_bytes()).ok();
        assert_eq!(read("[[1, 2], [3]]"), Some(vec![vec![1.0, 2.0], vec![3.0]]));
        assert_eq!(read("[]"), Some(vec![]));
        for wrong in ["[1, 2]", "{}", "[[1e39]]", "["] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    /// The shortest text of an f32 reads back to the same bits, over JSON too.
    #[test]
    fn numbers_keep_their_bits() {
        let given = [0.1_f32, -1.234_567_9, f32::MIN_POSITIVE, 16_777_217.0];
        let json = serde_json::to_vec(&given).unwrap();
        assert_eq!(numbers(&json).unwrap(), given);
    }
}
