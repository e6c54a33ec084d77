//! `vlad model`: checkpoints as files. Asks no daemon and moves nothing.

use clap::{Args, Subcommand};

pub mod infer;
pub mod inspect;
mod picture;
pub mod pull;
pub mod self_test;
pub mod synth;
pub mod verify;

/// `vlad model`.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: ModelAction,
}

/// What can be done with checkpoints.
#[derive(Debug, Subcommand)]
pub enum ModelAction {
    /// Computes a set of golden numbers anew and compares, tensor by tensor; ends with 1 on any
    /// excess.
    ///
    /// The set is a directory with manifest.json, cases.json, a safetensors file per case and a
    /// checkpoint in model/. Its files are checked first. Every stored tensor that is no input must
    /// be computed and agree; kinds of cases that are not known are skipped, by name. Computes in
    /// f32 on the processor.
    Verify(verify::VerifyArgs),
    /// Shows what a checkpoint is, and what is wrong with it; ends with 1 if anything is.
    ///
    /// Reads all files and loads nothing: parameters, number types, robot types with their chunk
    /// lengths, image limits, hashes; with a vlad.toml also its profile and views.
    Inspect(inspect::InspectArgs),
    /// Writes a checkpoint with random weights: for a look at the architecture, never for a task.
    ///
    /// The weights are random: untrained. The files are those of a released checkpoint, with a
    /// vlad.toml for the demo cell. `tiny` has 2 MB; `narrow` has all layers, each narrow, 0.4 GB;
    /// `shallow` has few layers of the released widths, 1.7 GB; `xr0-4.7b` has the full network's
    /// shapes and needs 9.4 GB of disk. The same preset and seed give the same bytes on every machine.
    Synth(synth::SynthArgs),
    /// Downloads a checkpoint from a hub, verifies every byte, and never fetches code.
    ///
    /// Fetches settings, tokenizer and weights in safetensors alone; what else a repository holds
    /// is left, and named. The folder appears whole or not at all: until then it lies beside its
    /// place as NAME.partial, and the same command goes on where it was cut. Gated and private
    /// repositories need HF_TOKEN, HF_TOKEN_PATH or a login by the hub's own tools. A proxy is
    /// taken from HTTPS_PROXY.
    #[expect(
        clippy::doc_markdown,
        reason = "people read it in a terminal as it stands"
    )]
    Pull(pull::PullArgs),
    /// Tries the golden decision that a checkpoint's manifest names; ends with 1 if it comes out
    /// otherwise.
    ///
    /// Brain and action expert are tried each by itself, as the daemon does at its start. With --write
    /// the decision is made and stored beside vlad.toml.
    SelfTest(self_test::SelfTestArgs),
    /// Makes one decision from files, by the same code as the daemon's brain and action expert.
    ///
    /// The same files and seed give the same actions, also as the daemon computes them from the
    /// same seed. Seeds are reproducible within vlad, not equal to those of PyTorch: to compare
    /// with another program, give both the same --noise.
    Infer(infer::InferArgs),
}

/// Does the command.
///
/// # Errors
/// Files that cannot be used, inputs that do not fit, numbers that disagree; exit code 1.
pub fn run(args: &ModelArgs) -> anyhow::Result<()> {
    match &args.action {
        ModelAction::Verify(args) => verify::run(args),
        ModelAction::Inspect(args) => inspect::run(args),
        ModelAction::Synth(args) => synth::run(args),
        ModelAction::Pull(args) => pull::run(args),
        ModelAction::SelfTest(args) => self_test::run(args),
        ModelAction::Infer(args) => infer::run(args),
    }
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_432_548_352, "9.4 GB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }
}
