//! The newest sample, for one writer and readers that never wait.
//!
//! A sequence lock of atomics: the writer makes the count odd, writes, and makes it even; a reader
//! that saw an odd count, or another one afterwards, looks again. So the servo path takes no lock
//! that a thread of lower priority could hold.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use vlad_cell::robot::Measured;

use super::words::Sample;

/// Looks of a reader at one sample. A writer writes 240 times a second for less than a microsecond;
/// one that was put to sleep in the middle is not waited for.
const LOOKS: usize = 16;

/// Where the newest sample stands.
pub(crate) struct Slate {
    count: AtomicU64,
    step: AtomicU64,
    sampled_at_ns: AtomicU64,
    position: Vec<AtomicU64>,
    velocity: Vec<AtomicU64>,
}

impl Slate {
    pub(crate) fn new(n_dofs: usize) -> Self {
        let zeros = || (0..n_dofs).map(|_| AtomicU64::new(0)).collect();
        Self {
            count: AtomicU64::new(0),
            step: AtomicU64::new(0),
            sampled_at_ns: AtomicU64::new(0),
            position: zeros(),
            velocity: zeros(),
        }
    }

    /// Writes a sample; for one thread alone. `false` for one of another number of joints, or of an
    /// earlier time: stamps never go back.
    pub(crate) fn write(&self, sample: &Sample) -> bool {
        let fits = sample.position.len() == self.position.len()
            && sample.velocity.len() == self.velocity.len();
        if !fits || sample.sampled_at_ns < self.sampled_at_ns.load(Ordering::Relaxed) {
            return false;
        }
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.step.store(sample.step, Ordering::Relaxed);
        self.sampled_at_ns
            .store(sample.sampled_at_ns, Ordering::Relaxed);
        for (cell, value) in self.position.iter().zip(&sample.position) {
            cell.store(value.to_bits(), Ordering::Relaxed);
        }
        for (cell, value) in self.velocity.iter().zip(&sample.velocity) {
            cell.store(value.to_bits(), Ordering::Relaxed);
        }
        self.count.store(count.wrapping_add(2), Ordering::Release);
        true
    }

    /// Copies the newest sample and gives its step; `None`, and `to` as it was or torn, if the
    /// writer was in the middle of it at every look.
    pub(crate) fn read(&self, to: &mut Measured) -> Option<u64> {
        for _ in 0..LOOKS {
            let before = self.count.load(Ordering::Acquire);
            if before % 2 == 1 {
                std::hint::spin_loop();
                continue;
            }
            let step = self.step.load(Ordering::Relaxed);
            to.sampled_at_ns = self.sampled_at_ns.load(Ordering::Relaxed);
            copy(&self.position, &mut to.position);
            copy(&self.velocity, &mut to.velocity);
            fence(Ordering::Acquire);
            if self.count.load(Ordering::Relaxed) == before {
                return Some(step);
            }
        }
        None
    }

    /// When the newest sample was taken; 0 before the first.
    #[cfg(test)]
    pub(crate) fn sampled_at_ns(&self) -> u64 {
        self.sampled_at_ns.load(Ordering::Acquire)
    }
}

fn copy(from: &[AtomicU64], to: &mut Vec<f64>) {
    to.clear();
    to.extend(
        from.iter()
            .map(|cell| f64::from_bits(cell.load(Ordering::Relaxed))),
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn sample(number: u64) -> Sample {
        let value = number as f64;
        Sample {
            step: number,
            sampled_at_ns: number,
            position: vec![value; 14],
            velocity: vec![-value; 14],
        }
    }

    #[test]
    fn a_sample_of_another_robot_or_of_an_earlier_time_is_not_taken() {
        let slate = Slate::new(14);
        assert!(slate.write(&sample(5)));
        assert!(!slate.write(&sample(4)));
        let mut short = sample(6);
        short.velocity.pop();
        assert!(!slate.write(&short));
        let mut seen = Measured::default();
        assert_eq!(slate.read(&mut seen), Some(5));
        assert_eq!((seen.sampled_at_ns, seen.position[13]), (5, 5.0));
        assert_eq!(slate.sampled_at_ns(), 5);
    }

    /// A reader beside a writer that never rests: each sample is one that was written, whole.
    #[test]
    fn no_reader_sees_a_torn_sample() {
        let slate = Arc::new(Slate::new(14));
        slate.write(&sample(1));
        let done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (slate, done) = (Arc::clone(&slate), Arc::clone(&done));
            std::thread::spawn(move || {
                for number in 2..20_000 {
                    slate.write(&sample(number));
                }
                done.store(true, Ordering::Release);
            })
        };
        let mut seen = Measured::default();
        let mut last = 0;
        loop {
            let finished = done.load(Ordering::Acquire);
            if let Some(step) = slate.read(&mut seen) {
                let value = step as f64;
                assert!(last <= step);
                let whole = |x: &f64| x.to_bits() == value.to_bits();
                assert!(seen.position.iter().all(whole), "{seen:?}");
                let whole = |x: &f64| x.to_bits() == (-value).to_bits();
                assert!(seen.velocity.iter().all(whole), "{seen:?}");
                last = step;
            }
            if finished {
                break;
            }
        }
        writer.join().unwrap();
        assert_eq!(last, 19_999);
    }
}
