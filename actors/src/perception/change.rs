//! Whether something in a camera's picture changed at once: it appeared, vanished or jumped.
//!
//! The picture is told as the brightness of 32 × 32 cells. What moves changes cells next to those
//! that it changed a frame before; what jumps changes cells around which all was quiet. So an arm in
//! front of the camera, or the whole picture of a camera on a hand, is no sudden change, whatever its
//! speed, and neither is a drift of the light; a lamp that is switched on is one.

use super::picture::brightness;

/// Cells a row, and rows of cells.
const GRID: usize = 32;
/// Pixels that are looked at in a cell, a row and rows: the mean of four keeps a sensor's noise,
/// about 2, far below any limit of use.
const LOOKS: usize = 2;
const LOOKS_A_CELL: u16 = 4;
/// Cells that must change at once: one or two are a spark.
const CELLS_MIN: usize = 3;
/// What moves may cross so many cells in a frame: 2 are 40 pixels of 640.
const REACH: usize = 2;
/// Share of the limit from which on a cell counts as not quiet: motion begins slowly.
const STIRS: u16 = 4;

/// One value a cell, by rows.
type Cells<T> = [[T; GRID]; GRID];

/// What is remembered of one camera's pictures.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// Least difference of a cell's brightness, 0 to 255; 0: nothing is ever a change.
    limit: u8,
    before: Option<Box<Cells<u16>>>,
    /// Cells that were not quiet from the frame before last to the last one; none is known to have
    /// been quiet at first.
    stirred: Box<Cells<bool>>,
}

impl Change {
    /// Has seen nothing yet.
    pub(super) fn new(limit: u8) -> Self {
        Self {
            limit,
            before: None,
            stirred: Box::new([[true; GRID]; GRID]),
        }
    }

    /// Sees the next RGB image of `width` × `height`; says whether it changed at once.
    pub(super) fn see(&mut self, pixels: &[u8], (width, height): (usize, usize)) -> bool {
        if self.limit == 0 {
            return false;
        }
        let now = cells(pixels, (width, height));
        let Some(before) = self.before.replace(now) else {
            return false;
        };
        let now = self.before.as_deref().unwrap_or(&before);
        let limit = u16::from(self.limit);
        let steps = differences(now, &before);
        let stirred = map(&steps, |step| limit <= step * STIRS);
        let was = std::mem::replace(&mut self.stirred, stirred);
        let all = (0..GRID).flat_map(|y| (0..GRID).map(move |x| (x, y)));
        let sudden = all.filter(|at| limit <= get(&steps, *at) && quiet_around(&was, *at));
        CELLS_MIN <= sudden.count()
    }
}

/// The mean brightness of each cell.
fn cells(pixels: &[u8], (width, height): (usize, usize)) -> Box<Cells<u16>> {
    let looks = GRID * LOOKS;
    let mut sums = Box::new([[0_u16; GRID]; GRID]);
    for (idx, sum) in sums.iter_mut().flatten().enumerate() {
        let (x, y) = (idx % GRID * LOOKS, idx / GRID * LOOKS);
        for look in 0..LOOKS * LOOKS {
            let column = (x + look % LOOKS) * width / looks;
            let row = (y + look / LOOKS) * height / looks;
            let at = 3 * (row * width + column);
            *sum += u16::from(pixels.get(at..at + 3).map_or(0, brightness));
        }
        *sum /= LOOKS_A_CELL;
    }
    sums
}

fn differences(a: &Cells<u16>, b: &Cells<u16>) -> Box<Cells<u16>> {
    let mut steps = Box::new([[0; GRID]; GRID]);
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    for (step, (a, b)) in steps.iter_mut().flatten().zip(pairs) {
        *step = a.abs_diff(*b);
    }
    steps
}

fn map(steps: &Cells<u16>, of: impl Fn(u16) -> bool) -> Box<Cells<bool>> {
    Box::new(steps.map(|row| row.map(&of)))
}

fn get<T: Copy + Default>(cells: &Cells<T>, (x, y): (usize, usize)) -> T {
    let row = cells.get(y);
    row.and_then(|row| row.get(x)).copied().unwrap_or_default()
}

/// Whether nothing stirred within reach of a cell.
fn quiet_around(stirred: &Cells<bool>, (x, y): (usize, usize)) -> bool {
    let rows = stirred.iter().skip(y.saturating_sub(REACH));
    let mut rows = rows.take(y + REACH + 1 - y.saturating_sub(REACH));
    let (from, n) = (
        x.saturating_sub(REACH),
        x + REACH + 1 - x.saturating_sub(REACH),
    );
    !rows.any(|row| row.iter().skip(from).take(n).any(|stirred| *stirred))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: (usize, usize) = (64, 48);
    const LIMIT: u8 = 20;

    /// A grey table with a bright square of 8 pixels on it, `left` in tenths of a pixel; its edges are
    /// as soft as a pixel is wide, as those of any camera.
    fn scene((left, top): (i32, usize), table: u8, square: u8) -> Vec<u8> {
        let at = |x: usize, y: usize| {
            let x = 10 * i32::try_from(x).unwrap();
            let overlap = (left + 80).min(x + 10) - left.max(x);
            let cover = if (top..top + 8).contains(&y) {
                overlap.max(0)
            } else {
                0
            };
            let (dark, bright) = (i32::from(table), i32::from(square));
            [u8::try_from(dark + (bright - dark) * cover / 10).unwrap(); 3]
        };
        let rows = (0..SIZE.1).flat_map(|y| (0..SIZE.0).map(move |x| (x, y)));
        rows.flat_map(|(x, y)| at(x, y)).collect()
    }

    /// In which pictures a change is seen.
    fn seen(pictures: impl IntoIterator<Item = Vec<u8>>) -> Vec<usize> {
        let mut change = Change::new(LIMIT);
        let all = pictures.into_iter().enumerate();
        let changed = all.filter(|(_, picture)| change.see(picture, SIZE));
        changed.map(|(nth, _)| nth).collect()
    }

    #[test]
    fn what_jumps_appears_or_vanishes_is_seen_once() {
        let (here, there) = (scene((80, 8), 60, 180), scene((400, 30), 60, 180));
        let empty = scene((80, 8), 60, 60);
        let three = |a: &[u8], b: &[u8]| [a, a, a, b, b, b].map(<[u8]>::to_vec);
        assert_eq!(seen(three(&here, &there)), [3]);
        assert_eq!(seen(three(&empty, &here)), [3]);
        assert_eq!(seen(three(&here, &empty)), [3]);
        assert_eq!(seen(three(&here, &here)), [0_usize; 0]);
    }

    /// Neither from slow to fast, nor when it turns round.
    #[test]
    fn what_moves_is_no_sudden_change() {
        let way = [
            0, 0, 1, 2, 5, 10, 20, 40, 70, 110, 150, 190, 230, 250, 240, 200, 160,
        ];
        let pictures = way.map(|x| scene((80 + x, 8), 60, 180));
        assert_eq!(seen(pictures), [0_usize; 0]);
    }

    /// 4 levels a frame is a second from night to day.
    #[test]
    fn light_that_drifts_is_none_and_light_that_is_switched_on_is() {
        let drift = (0..30).map(|step| scene((80, 8), 60 + 4 * step, 100 + 4 * step));
        assert_eq!(seen(drift), [0_usize; 0]);
        let dark = || scene((80, 8), 60, 100);
        let lit = || scene((80, 8), 120, 160);
        assert_eq!(seen([dark(), dark(), dark(), lit(), lit()]), [3]);
    }

    /// What happened before two frames are known cannot be told from motion.
    #[test]
    fn the_first_difference_is_none_and_no_limit_means_never() {
        let (here, there) = (scene((80, 8), 60, 180), scene((400, 30), 60, 180));
        assert_eq!(seen([here.clone(), there.clone()]), [0_usize; 0]);
        let mut off = Change::new(0);
        assert!(
            ![&here, &here, &here, &there]
                .map(|p| off.see(p, SIZE))
                .contains(&true)
        );
    }

    #[test]
    fn a_spark_of_one_cell_is_none() {
        let calm = || scene((80, 8), 60, 60);
        let mut spark = calm();
        spark[3 * (20 * SIZE.0 + 20)..][..3].fill(255);
        spark[3 * (20 * SIZE.0 + 21)..][..3].fill(255);
        assert_eq!(seen([calm(), calm(), calm(), spark]), [0_usize; 0]);
    }

    proptest! {
        /// A sensor's noise of a few levels.
        #[test]
        fn noise_is_no_change(seed in any::<u64>(), table in 10_u8..240) {
            let mut state = seed | 1;
            let mut noisy = || {
                let mut picture = scene((80, 8), table, table);
                for pixel in picture.chunks_exact_mut(3) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    pixel.fill(table - 4 + u8::try_from(state >> 61).unwrap());
                }
                picture
            };
            prop_assert_eq!(seen((0..6).map(|_| noisy())), [0_usize; 0]);
        }

        /// Whatever is given, nothing panics: cameras may lie about their size.
        #[test]
        fn sizes_that_do_not_fit_are_survived(
            pixels in prop::collection::vec(any::<u8>(), 0..3000),
            width in 0_usize..70,
            height in 0_usize..70,
        ) {
            let mut change = Change::new(LIMIT);
            for _ in 0..3 {
                prop_assert!(!change.see(&pixels, (width, height)));
            }
        }
    }
}
