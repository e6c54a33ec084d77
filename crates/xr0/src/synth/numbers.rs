//! Random weights: nearly normal numbers of a tensor's scale, as bf16.

use half::bf16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use crate::layout::{Part, TensorSpec};

/// Bytes whose sum is one nearly normal number.
const SUMMANDS: usize = 12;
/// Values of a byte.
const BYTE: usize = 256;
/// Numbers of the table: as many as 16 random bits can choose from.
const ENTRIES: usize = 1 << 16;

/// Mean and spread of a tensor's numbers, by its name.
///
/// Every matrix keeps the size of what goes through it, so that no stage swells or dies. The action
/// expert departs from that, or its chunks would be mere noise: the action tokens enter small
/// beside what they attend to, attention is broad and hangs on position, and the velocity is large
/// against the noise that it starts from. So neighbouring actions are alike.
pub(super) fn scale(spec: &TensorSpec) -> (f32, f32) {
    let mut names = spec.name.rsplit('.');
    let (kind, owner) = (names.next(), names.next());
    let expert = spec.part == Part::ActionExpert;
    let fan_in: usize = spec.shape.iter().skip(1).product();
    let keeping = 1.0 / (fan_in as f32).sqrt();
    match (owner, kind) {
        _ if spec.name == "action_projector.layers.2.weight" => (0.0, 0.01 * keeping),
        _ if spec.name == "action_output_layer.layers.2.weight" => (0.0, 100.0 * keeping),
        _ if spec.name == "t_projector.layers.0.weight" => (0.0, 0.1 * keeping),
        (Some("qkv_proj"), Some("bias")) if expert => (0.0, 1.0),
        (Some("q_norm"), _) if expert => (0.3, 0.1),
        (Some("o_proj"), _) if expert => (0.0, 20.0 * keeping),
        (_, Some("bias")) => (0.0, 0.02),
        (_, Some("adaln_table")) => (0.0, 0.1),
        (Some("embed_tokens" | "pos_embed" | "sink"), _) => (0.0, 0.05),
        // A weight that is no matrix belongs to a norm.
        _ if spec.shape.len() == 1 => (1.0, 0.1),
        _ => (0.0, keeping),
    }
}

/// Nearly normal numbers, by 16 random bits.
pub(super) struct Table(Vec<f32>);

impl Table {
    /// Makes the table: entry i is the number that a share of (i + 1/2) / 65536 lies below.
    ///
    /// The numbers are the sum of twelve uniform bytes, normalised, whose distribution integers
    /// count exactly; a normal one needs logarithms, which differ between machines.
    pub(super) fn new() -> Self {
        let counts = sums();
        let mean = (SUMMANDS * (BYTE - 1)) as f32 / 2.0;
        let spread = ((SUMMANDS * (BYTE * BYTE - 1)) as f32 / 12.0).sqrt();
        // 256^12 outcomes over 2^16 entries.
        let share = 1_u128 << (8 * SUMMANDS - 16);
        let mut entries = Vec::with_capacity(ENTRIES);
        let mut below = 0;
        for (sum, count) in counts.iter().enumerate() {
            below += count;
            while entries.len() < ENTRIES && entries.len() as u128 * share + share / 2 < below {
                entries.push((sum as f32 - mean) / spread);
            }
        }
        Self(entries)
    }

    /// Turns random bytes into little-endian bf16 numbers of this mean and spread, in place.
    fn shape(&self, bytes: &mut [u8], (mean, spread): (f32, f32)) {
        for pair in bytes.as_chunks_mut::<2>().0 {
            let entry = usize::from(u16::from_le_bytes(*pair));
            *pair = bf16::from_f32(mean + spread * self.0[entry]).to_le_bytes();
        }
    }
}

/// Counts the outcomes of twelve bytes by their sum.
fn sums() -> Vec<u128> {
    let mut counts = vec![1_u128];
    for _ in 0..SUMMANDS {
        let mut next = vec![0; counts.len() + BYTE - 1];
        for (sum, count) in counts.iter().enumerate() {
            for total in &mut next[sum..sum + BYTE] {
                *total += count;
            }
        }
        counts = next;
    }
    counts
}

/// One tensor's numbers, from its first to its last.
pub(super) struct Numbers<'a> {
    table: &'a Table,
    rng: ChaCha8Rng,
    scale: (f32, f32),
}

impl<'a> Numbers<'a> {
    /// Starts a tensor's numbers; they depend on the seed, its name, its shape and nothing else.
    pub(super) fn new(table: &'a Table, seed: u64, spec: &TensorSpec) -> Self {
        let mut key = Sha256::new();
        key.update(seed.to_le_bytes());
        key.update(&spec.name);
        let rng = ChaCha8Rng::from_seed(key.finalize().into());
        Self {
            table,
            rng,
            scale: scale(spec),
        }
    }

    /// Fills a buffer of whole numbers with the next ones.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.rng.fill_bytes(bytes);
        self.table.shape(bytes, self.scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[usize]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            part: Part::Text,
        }
    }

    #[test]
    fn the_table_is_centred_with_spread_one() {
        let table = Table::new();
        assert_eq!(ENTRIES, table.0.len());
        let of = |power| {
            table
                .0
                .iter()
                .map(|z| f64::from(*z).powi(power))
                .sum::<f64>()
                / 65536.0
        };
        assert!(of(1).abs() < 1e-3, "{}", of(1));
        assert!((of(2) - 1.0).abs() < 1e-3, "{}", of(2));
        assert!((2.8..3.0).contains(&of(4)), "{}", of(4));
        assert!(table.0.is_sorted());
        assert!(4.0 < table.0[ENTRIES - 1] && table.0[ENTRIES - 1] < 5.0);
    }

    #[test]
    fn a_matrix_keeps_the_size_of_what_it_multiplies() {
        let table = Table::new();
        let mut bytes = vec![0; 2 * 64 * 1024];
        Numbers::new(&table, 1, &spec("a.q_proj.weight", &[64, 1024])).fill(&mut bytes);
        let (pairs, _) = bytes.as_chunks::<2>();
        let squares = pairs
            .iter()
            .map(|pair| f64::from(bf16::from_le_bytes(*pair)).powi(2));
        let variance = squares.sum::<f64>() / 65536.0;
        assert!((variance * 1024.0 - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn tensors_differ_by_name_and_by_seed() {
        let table = Table::new();
        let numbers = |seed, name: &str| {
            let mut bytes = vec![0; 64];
            Numbers::new(&table, seed, &spec(name, &[32])).fill(&mut bytes);
            bytes
        };
        assert_eq!(numbers(1, "a"), numbers(1, "a"));
        assert_ne!(numbers(1, "a"), numbers(1, "b"));
        assert_ne!(numbers(1, "a"), numbers(2, "a"));
    }

    /// The bytes that a machine of another kind must give too.
    #[test]
    fn the_numbers_are_these() {
        let mut bytes = vec![0; 8];
        let table = Table::new();
        let numbers = Numbers::new(&table, 7, &spec("norm.weight", &[4]));
        Numbers {
            scale: (0.0, 1.0),
            ..numbers
        }
        .fill(&mut bytes);
        assert_eq!("453f963e873f8ebe", crate::checkpoint::digest::hex(&bytes));
    }

    #[test]
    fn norms_lie_near_one_and_biases_near_zero() {
        for name in [
            "a.norm1.weight",
            "a.q_norm.weight",
            "dit.layers.0.post_layernorm.weight",
        ] {
            assert_eq!((1.0, 0.1), scale(&spec(name, &[16])), "{name}");
        }
        assert_eq!(
            (0.0, 0.02),
            scale(&spec("vlm.model.visual.blocks.0.norm1.bias", &[16]))
        );
        assert_eq!(
            (0.0, 0.125),
            scale(&spec("patch_embed.proj.weight", &[8, 4, 4, 4]))
        );
    }
}
