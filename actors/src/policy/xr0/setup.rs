//! How the two halves are loaded, and how a context goes from one to the other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vlad_xr0::context::bytes::Encoding;
use vlad_xr0::device::DeviceName;
use vlad_xr0::error::Error;
use vlad_xr0::model::{Options, Profile};
use vlad_xr0::nn::weights::WeightType;

/// In which type large weights are kept: one that is named, or the device's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WeightsChoice {
    /// f32 on a processor, bf16 on a GPU.
    #[default]
    Auto,
    /// This type.
    Kept(WeightType),
}

impl fmt::Display for WeightsChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.pad("auto"),
            Self::Kept(weights) => weights.fmt(formatter),
        }
    }
}

impl FromStr for WeightsChoice {
    type Err = Error;

    /// Reads `auto`, `f32`, `bf16`, `q8` or `q4`.
    ///
    /// # Errors
    /// Any other text.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let unknown = |_| {
            let known = "say auto, f32, bf16, q8 or q4";
            Error::input(format!("{text:?} is no type of weights: {known}"))
        };
        text.parse().map(Self::Kept).map_err(unknown)
    }
}

impl TryFrom<String> for WeightsChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<WeightsChoice> for String {
    fn from(choice: WeightsChoice) -> Self {
        choice.to_string()
    }
}

/// How one half is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Half {
    /// Where it computes.
    pub device: DeviceName,
    /// What its large weights are kept as.
    pub weights: WeightsChoice,
}

impl Half {
    /// What the network's own code takes.
    ///
    /// # Errors
    /// A device that is absent.
    pub(super) fn options(self, profile: Profile) -> Result<Options, Error> {
        let mut options = Options::served(self.device.open()?);
        options.profile = profile;
        if let WeightsChoice::Kept(weights) = self.weights {
            options.weights = weights;
        }
        Ok(options)
    }
}

/// How both halves are loaded, and what is between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setup {
    /// The brain's half.
    pub brain: Half,
    /// The action expert's half.
    pub expert: Half,
    /// How a context becomes bytes. By reference it is always exact.
    pub encoding: Encoding,
    /// Whether both halves run in this process: then a context is handed over by reference.
    pub by_reference: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_prints() {
        for text in ["auto", "f32", "bf16", "q8", "q4"] {
            let choice: WeightsChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!(WeightsChoice::default(), "auto".parse().unwrap());
        let refused = "int8".parse::<WeightsChoice>().unwrap_err().to_string();
        assert!(
            refused.contains("say auto, f32, bf16, q8 or q4"),
            "{refused}"
        );
    }

    #[test]
    fn a_named_type_of_weights_takes_the_place_of_the_devices_own() {
        let options = |weights| {
            let half = Half {
                weights,
                ..Half::default()
            };
            half.options(Profile::default()).unwrap().weights
        };
        assert_eq!(options(WeightsChoice::Auto), WeightType::F32);
        assert_eq!(options(WeightsChoice::Kept(WeightType::Q8)), WeightType::Q8);
    }
}
