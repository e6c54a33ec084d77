//! Where a network's weights come from, and in which form it takes them.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which of its two forms a network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Path {
    /// Differentiable operations; everything is computed, and can be traced.
    Plain,
    /// Fused operations; nothing is computed that nobody reads.
    #[default]
    Served,
}

impl Path {
    /// Whether an operation on `x` takes its fused form: these cannot be gone back through.
    pub fn fuses(self, x: &Tensor) -> bool {
        self == Self::Served && !x.track_op()
    }
}

/// What the large weights are held as. Norms, biases and tables keep the type that is computed in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub enum WeightType {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, what the released files hold: on a processor widened to f32 piece by piece as they
    /// are used, so that their results are those of f32 (wider numbers of other files are rounded);
    /// on a GPU computed in.
    Bf16,
    /// Eight bits in blocks of 32 with a scale (ggml's `Q8_0`).
    Q8,
    /// Four bits in blocks of 256 with scales (ggml's `Q4_K`); embeddings and weights whose rows
    /// are no multiple of 256 have eight.
    Q4,
}

/// Names as settings and the command line spell them.
const NAMES: [(WeightType, &str); 4] = [
    (WeightType::F32, "f32"),
    (WeightType::Bf16, "bf16"),
    (WeightType::Q8, "q8"),
    (WeightType::Q4, "q4"),
];

impl WeightType {
    /// Gives what a device takes where nothing is said: f32 on a processor, bf16 on a GPU (reference
    /// §6.6).
    pub fn of(device: &Device) -> Self {
        if device.is_cuda() {
            Self::Bf16
        } else {
            Self::F32
        }
    }

    /// Gives the type of everything that flows between the layers.
    pub fn compute(self, device: &Device) -> DType {
        if device.is_cuda() && self == Self::Bf16 {
            DType::BF16
        } else {
            DType::F32
        }
    }
}

impl fmt::Display for WeightType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(of, _)| of == self);
        f.pad(name.map_or("f32", |(_, name)| name))
    }
}

impl FromStr for WeightType {
    type Err = Error;

    /// Reads `f32`, `bf16`, `q8` or `q4`.
    ///
    /// # Errors
    /// Any other text.
    fn from_str(text: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        let unknown = || {
            Error::input(format!(
                "{text:?} is no type of weights: say f32, bf16, q8 or q4"
            ))
        };
        found.map(|(of, _)| *of).ok_or_else(unknown)
    }
}

impl TryFrom<String> for WeightType {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<WeightType> for String {
    fn from(of: WeightType) -> Self {
        of.to_string()
    }
}

/// Weights by name, of one place in the checkpoint.
#[derive(Clone)]
pub struct Weights<'a> {
    builder: VarBuilder<'a>,
    held: WeightType,
    path: Path,
    few_rows: bool,
}

impl<'a> Weights<'a> {
    /// Takes them from `builder`, whose type is that of the computation.
    pub fn new(builder: VarBuilder<'a>, held: WeightType, path: Path) -> Self {
        Self {
            builder,
            held,
            path,
            few_rows: false,
        }
    }

    /// The same for a network that multiplies few rows at a time, such as the tokens of a chunk.
    #[must_use]
    pub fn for_few_rows(self) -> Self {
        Self {
            few_rows: true,
            ..self
        }
    }

    /// Goes one name further.
    #[must_use]
    pub fn pp(&self, name: impl ToString) -> Self {
        Self {
            builder: self.builder.pp(name),
            ..self.clone()
        }
    }

    /// Gives a tensor in the type that is computed in.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        Ok(self.builder.get(shape, name)?)
    }

    /// Gives a tensor in another type.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn get_as(&self, shape: impl Into<Shape>, name: &str, dtype: DType) -> Result<Tensor> {
        let init = candle_nn::Init::default();
        Ok(self
            .builder
            .get_with_hints_dtype(shape, name, init, dtype)?)
    }

    /// What large weights are held as.
    pub fn held(&self) -> WeightType {
        self.held
    }

    /// Which form the network takes.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Whether few rows are multiplied at a time.
    pub fn few_rows(&self) -> bool {
        self.few_rows
    }

    /// The type of everything that flows between the layers.
    pub fn dtype(&self) -> DType {
        self.builder.dtype()
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        self.builder.device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_reads_as_it_prints() {
        for (of, name) in NAMES {
            assert_eq!(name, of.to_string());
            assert_eq!(of, name.parse().unwrap());
        }
        assert!("int8".parse::<WeightType>().is_err());
    }

    #[test]
    fn a_processor_computes_in_f32_whatever_the_weights() {
        for (of, _) in NAMES {
            assert_eq!(of.compute(&Device::Cpu), DType::F32);
        }
        assert_eq!(WeightType::of(&Device::Cpu), WeightType::F32);
    }
}
