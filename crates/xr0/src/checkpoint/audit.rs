//! One pass over the weights' bytes: their SHA-256, and every number that is none.
//!
//! Read in pieces through a buffer and not through the map: a file of gigabytes leaves no page in
//! this process, whose memory then holds the weights once, as it computes with them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::{bf16, f16};
use safetensors::Dtype;
use sha2::{Digest as _, Sha256};

use crate::checkpoint::digest::Digest;
use crate::checkpoint::shard::{Shard, Stored};
use crate::error::Fault;

/// Bytes read at once: of a disk's speed, and still within a core's own cache.
const PIECE: usize = 1 << 20;
/// Files read at once. A released checkpoint has two.
const THREADS: usize = 2;
/// Tensors named in one file; weights that were lost in transfer would fill the screen.
const NAMED_MAX: usize = 20;

/// What one shard holds.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    /// The file's fingerprint.
    pub(crate) digest: Digest,
    /// Tensors that hold a number that is not finite, each with the first one's place.
    odd: Vec<String>,
}

impl Audit {
    /// The tensors that hold a number that is not finite, as faults of the file.
    pub(crate) fn faults(&self) -> impl Iterator<Item = Fault> {
        let file = &self.digest.name;
        self.odd.iter().map(|problem| Fault {
            file: file.clone(),
            problem: problem.clone(),
        })
    }
}

/// Reads all shards once, two at a time; gives one audit each, in their order.
///
/// # Errors
/// The name of a file that cannot be read, with what the system says.
pub(crate) fn all(shards: &[Shard]) -> Result<Vec<Audit>, (String, std::io::Error)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(shards.len()));
    let work = || {
        while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
            let audited = one(shard).map_err(|error| (shard.name.clone(), error));
            let mut done = done
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            done.push((shard.name.as_str(), audited));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(shards.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = |name: &str| shards.iter().position(|shard| shard.name == name);
    done.sort_by_key(|(name, _)| place(name));
    done.into_iter().map(|(_, audited)| audited).collect()
}

fn one(shard: &Shard) -> std::io::Result<Audit> {
    let mut pass = Pass {
        file: &shard.file,
        at: 0,
        hash: Sha256::new(),
        buffer: vec![0; PIECE],
    };
    let length = shard.file.metadata()?.len();
    let mut odd = Vec::new();
    let mut surplus = 0;
    let mut tensors: Vec<_> = shard.tensors.iter().flatten().collect();
    tensors.sort_by_key(|(_, stored)| stored.range.start);
    for (name, stored) in tensors {
        // The header, or nothing: the format leaves no gap between tensors.
        pass.skip_to(stored.range.start as u64)?;
        let found = pass.tensor(stored)?;
        match found.describe(&stored.shape) {
            Some(problem) if odd.len() < NAMED_MAX => odd.push(format!("{name} {problem}")),
            Some(_) => surplus += 1,
            None => {}
        }
    }
    pass.skip_to(length)?;
    if 0 < surplus {
        odd.push(format!(
            "{surplus} more tensors hold numbers that are not finite"
        ));
    }
    let digest = Digest {
        name: shard.name.clone(),
        size: pass.at,
        sha256: pass.hash.finalize().into(),
    };
    Ok(Audit { digest, odd })
}

/// A file that is read from its start to its end.
struct Pass<'a> {
    file: &'a File,
    at: u64,
    hash: Sha256,
    buffer: Vec<u8>,
}

impl Pass<'_> {
    /// Reads and fingerprints at most a piece of the bytes before `end`.
    fn piece(&mut self, end: u64) -> std::io::Result<&[u8]> {
        let rest = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let piece = &mut self.buffer[..rest.min(PIECE)];
        self.file.read_exact_at(piece, self.at)?;
        self.hash.update(&*piece);
        self.at += piece.len() as u64;
        Ok(piece)
    }

    fn skip_to(&mut self, end: u64) -> std::io::Result<()> {
        while self.at < end {
            self.piece(end)?;
        }
        Ok(())
    }

    fn tensor(&mut self, stored: &Stored) -> std::io::Result<Odd> {
        let mut odd = Odd::default();
        let end = stored.range.end as u64;
        while self.at < end {
            // Pieces hold whole numbers: they begin with the tensor, and have an even length.
            odd.look(self.piece(end)?, stored.dtype);
        }
        Ok(odd)
    }
}

/// The numbers of a tensor that are not finite.
#[derive(Default)]
struct Odd {
    seen: usize,
    n: usize,
    first: Option<(usize, &'static str)>,
}

impl Odd {
    fn look(&mut self, bytes: &[u8], dtype: Dtype) {
        match dtype {
            Dtype::BF16 => self.numbers(
                bytes.as_chunks().0,
                |number| u16::from_le_bytes(*number) & 0x7f80 == 0x7f80,
                |number| bf16::from_le_bytes(*number).is_nan(),
            ),
            Dtype::F16 => self.numbers(
                bytes.as_chunks().0,
                |number| u16::from_le_bytes(*number) & 0x7c00 == 0x7c00,
                |number| f16::from_le_bytes(*number).is_nan(),
            ),
            Dtype::F32 => self.numbers(
                bytes.as_chunks().0,
                |number| u32::from_le_bytes(*number) & 0x7f80_0000 == 0x7f80_0000,
                |number| f32::from_le_bytes(*number).is_nan(),
            ),
            // Refused before: no weight has another type.
            _ => {}
        }
    }

    /// Looks for numbers whose exponent is all ones: those that `is_odd` finds.
    fn numbers<const N: usize>(
        &mut self,
        numbers: &[[u8; N]],
        is_odd: impl Fn(&[u8; N]) -> bool,
        is_nan: impl Fn(&[u8; N]) -> bool,
    ) {
        // Without a branch, as nearly all pieces are fine: this is as fast as memory.
        let any = numbers
            .iter()
            .fold(false, |any, number| any | is_odd(number));
        if any {
            let found = numbers.iter().enumerate();
            for (at, number) in found.filter(|(_, number)| is_odd(number)) {
                self.n += 1;
                let name = if is_nan(number) { "NaN" } else { "infinity" };
                self.first.get_or_insert((self.seen + at, name));
            }
        }
        self.seen += numbers.len();
    }

    /// Says what is wrong with a tensor of this shape; nothing if nothing is.
    fn describe(&self, shape: &[usize]) -> Option<String> {
        let (mut at, name) = self.first?;
        let mut place = Vec::with_capacity(shape.len());
        for size in shape.iter().rev() {
            place.push(at % size);
            at /= size;
        }
        place.reverse();
        let others = match self.n {
            1 => String::new(),
            n => format!(", the first of {n} numbers that are not finite"),
        };
        Some(format!(
            "holds {name} at {place:?}{others}: the weights are damaged, fetch the file again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::digest::sha256;

    /// Numbers of the large tensor: more than a piece holds.
    const N: usize = PIECE / 4 + 1000;

    /// A file with three f16 and then `N` f32, which so begin at no multiple of four.
    fn file(halves: [u16; 3], odd: &[(usize, f32)]) -> Vec<u8> {
        let header = format!(
            "{{\"a\":{{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]}},\
             \"b\":{{\"dtype\":\"F32\",\"shape\":[{},4],\"data_offsets\":[6,{}]}}}}",
            N / 4,
            6 + 4 * N
        );
        let mut numbers = vec![f32::MAX; N];
        for (at, number) in odd {
            numbers[*at] = *number;
        }
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    fn audited(test: &str, files: &[Vec<u8>]) -> Vec<Audit> {
        let name = format!("vlad-xr0-audit-{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let mut faults = Vec::new();
        let mut shards = Vec::new();
        for (i, bytes) in files.iter().enumerate() {
            let name = format!("{i}.safetensors");
            std::fs::write(dir.join(&name), bytes).unwrap();
            shards.push(Shard::open(&dir, &name, &mut faults).unwrap());
        }
        assert_eq!(Vec::<String>::new(), faults);
        let audits = all(&shards).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        audits
    }

    #[test]
    fn every_file_has_its_fingerprint_in_order() {
        let files = [0x3c00, 0x0001, 0x7bff].map(|half| file([half; 3], &[]));
        let audits = audited("order", &files);
        assert_eq!(3, audits.len());
        for (i, (audit, bytes)) in audits.iter().zip(&files).enumerate() {
            let digest = &audit.digest;
            assert_eq!(format!("{i}.safetensors"), digest.name);
            assert_eq!(bytes.len() as u64, digest.size);
            assert_eq!(sha256(bytes), digest.sha256);
            assert_eq!(0, audit.faults().count());
        }
    }

    #[test]
    fn a_number_that_is_none_is_named_wherever_it_lies() {
        // The last number of the first piece, the first of the second, the last of all.
        let ends = [PIECE / 4 - 1, PIECE / 4, N - 1];
        for at in ends {
            let audits = audited("ends", &[file([0; 3], &[(at, f32::NEG_INFINITY)])]);
            let told: Vec<_> = audits[0].faults().map(|fault| fault.to_string()).collect();
            let place = format!(
                "0.safetensors: b holds infinity at [{}, {}]: the weights",
                at / 4,
                at % 4
            );
            assert!(told.len() == 1 && told[0].starts_with(&place), "{told:?}");
        }
        let audits = audited("all", &[file([0x7e00, 0, 0xfc00], &[(5, f32::NAN)])]);
        let told: Vec<_> = audits[0].faults().map(|fault| fault.problem).collect();
        let half = "a holds NaN at [0], the first of 2 numbers that are not finite: ";
        assert!(told.len() == 2 && told[0].starts_with(half), "{told:?}");
        assert!(told[1].starts_with("b holds NaN at [1, 1]: "), "{told:?}");
    }
}
