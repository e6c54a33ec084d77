//! Counts as numbers.

/// Gives a count as a number; counts beyond 32 bits, which nothing here has, as the largest one.
pub(crate) fn real(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
