//! Where a network computes: `cpu`, or `cuda:N` for the N-th NVIDIA GPU.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A device by name, as settings spell it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, counted from 0.
    Cuda(usize),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = Error;

    /// Reads `cpu` or `cuda:N`.
    ///
    /// # Errors
    /// Any other text.
    fn from_str(text: &str) -> Result<Self> {
        let index = |digits: &str| digits.parse().ok().map(Self::Cuda);
        let name = match text {
            "cpu" => Some(Self::Cpu),
            _ => text.strip_prefix("cuda:").and_then(index),
        };
        // One spelling per device: what is read must print as it was written.
        let name = name.filter(|name| name.to_string() == text);
        name.ok_or_else(|| Error::input(format!("{text:?} is no device: say cpu or cuda:N")))
    }
}

impl TryFrom<String> for DeviceName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl DeviceName {
    /// Opens the device.
    ///
    /// # Errors
    /// A device that is absent, with the names of those present; what the driver says.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) if present().contains(&self) => Ok(Device::new_cuda(index)?),
            Self::Cuda(_) => Err(Error::Input(
                self.absence(&present(), cfg!(feature = "cuda")),
            )),
        }
    }

    fn absence(self, present: &[Self], has_cuda: bool) -> String {
        let names: Vec<_> = present.iter().map(ToString::to_string).collect();
        let why = if has_cuda {
            ""
        } else {
            " (this build has no CUDA: it lacks the feature `cuda`)"
        };
        format!(
            "there is no device {self}; present: {}{why}",
            names.join(", ")
        )
    }
}

/// Lists the devices of this machine that this build can use, the processor first.
pub fn present() -> Vec<DeviceName> {
    let gpus = (0..gpu_count()).map(DeviceName::Cuda);
    std::iter::once(DeviceName::Cpu).chain(gpus).collect()
}

/// A driver that is missing or broken is no GPU.
#[cfg(feature = "cuda")]
fn gpu_count() -> usize {
    let count = candle_core::cuda::cudarc::driver::CudaContext::device_count();
    count
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(0)
}

#[cfg(not(feature = "cuda"))]
fn gpu_count() -> usize {
    0
}

/// Gives the number type to compute in: f32 on the processor, bf16 on a GPU (reference §6.6).
pub fn compute_dtype(device: &Device) -> DType {
    if device.is_cuda() {
        DType::BF16
    } else {
        DType::F32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_reads_as_it_prints() {
        for text in ["cpu", "cuda:0", "cuda:7", "cuda:12"] {
            assert_eq!(text, text.parse::<DeviceName>().unwrap().to_string());
        }
        assert_eq!(DeviceName::Cuda(3), "cuda:3".parse().unwrap());
    }

    #[test]
    fn another_spelling_of_a_device_is_refused() {
        for text in [
            "", "CPU", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cpu:0",
        ] {
            let refused = text.parse::<DeviceName>().unwrap_err().to_string();
            assert!(refused.contains("say cpu or cuda:N"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_setting_is_the_name() {
        let name: DeviceName = serde_json::from_str("\"cuda:1\"").unwrap();
        assert_eq!(DeviceName::Cuda(1), name);
        assert_eq!("\"cuda:1\"", serde_json::to_string(&name).unwrap());
        assert!(serde_json::from_str::<DeviceName>("\"tpu\"").is_err());
    }

    #[test]
    fn an_absent_device_is_refused_with_those_present() {
        assert!(DeviceName::Cpu.open().unwrap().is_cpu());
        let refused = DeviceName::Cuda(4096).open().unwrap_err().to_string();
        assert!(
            refused.contains("no device cuda:4096; present: cpu"),
            "{refused}"
        );
        assert_eq!(
            !cfg!(feature = "cuda"),
            refused.contains("no CUDA"),
            "{refused}"
        );
    }

    #[test]
    fn the_refusal_lists_gpus_too() {
        let present = [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(1)];
        assert_eq!(
            "there is no device cuda:2; present: cpu, cuda:0, cuda:1",
            DeviceName::Cuda(2).absence(&present, true)
        );
    }

    #[test]
    fn the_processor_computes_in_f32() {
        assert_eq!(DType::F32, compute_dtype(&Device::Cpu));
    }
}
