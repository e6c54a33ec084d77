//! What the rows of a chunk look like: smooth, at limits, beyond them, or no numbers at all.

use vlad_actors::actuator::settings::Shape;

use super::draw::Draw;

/// How one degree of freedom goes on from row to row.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// Stays.
    Still,
    /// So much a tick.
    Line(f64),
    /// So much a tick, turning every so many rows.
    Zigzag(f64, u64),
    /// A share of the largest step, drawn anew for each row.
    Walk(f64),
    /// So much a tick up to this position, then along it.
    Ride(f64, f64),
    /// Stays, then jumps by so much in this row.
    Jump(f64, u64),
    /// Anywhere between these, in every row.
    Wild(f64, f64),
}

/// Makes rows that go on from `from`, by degree of freedom; the more `malice`, the worse.
pub(crate) fn rows(draw: &mut Draw, shape: &Shape, from: &[f64], malice: u64) -> Vec<f32> {
    let tick_s = f64::from(shape.servo_per_tick) * shape.servo_ns as f64 / 1e9;
    let kinds = [6, 14, 16][malice as usize];
    // All degrees of freedom alike, or each by itself.
    let alike = draw.below(2) == 0;
    let kind = draw.below(kinds);
    let mut courses: Vec<_> = (0..from.len())
        .map(|dof| {
            let kind = if alike { kind } else { draw.below(kinds) };
            course(draw, shape, dof, (kind, tick_s))
        })
        .collect();
    let width = shape.slots.width();
    let mut rows = vec![0.0_f32; shape.horizon * width];
    let mut at = from.to_vec();
    for (index, row) in rows.chunks_mut(width).enumerate() {
        for (dof, (course, at)) in courses.iter_mut().zip(&mut at).enumerate() {
            *at = next(
                draw,
                course,
                (*at, shape.limits[dof].speed_max * tick_s),
                index as u64,
            );
        }
        shape.slots.write_slots(&at, row);
    }
    if 0 < malice && draw.once_in(60 / (1 + malice * malice)) {
        spoil(draw, &mut rows);
    }
    rows
}

fn course(draw: &mut Draw, shape: &Shape, dof: usize, (kind, tick_s): (u64, f64)) -> Course {
    let limits = shape.limits[dof];
    let step = limits.speed_max * tick_s;
    let range = limits.max - limits.min;
    if shape.gripper[dof] && draw.below(2) == 0 {
        return Course::Wild(limits.min, limits.max);
    }
    // Just inside, at, and just beyond a limit.
    let near = [
        0.0, 1.0, -1.0, 1e-9, -1e-9, 1e-3, -1e-3, 0.009, 0.011, -0.02, 0.5,
    ];
    match kind {
        0 | 1 => Course::Still,
        2..=4 => Course::Line(draw.between(-0.3, 0.3) * step),
        5 => Course::Zigzag(draw.between(0.0, 0.3) * step, 1 + draw.below(8)),
        6 => Course::Zigzag(draw.between(0.0, 1.0) * step, 1 + draw.below(8)),
        7 => Course::Zigzag(step, 1 + draw.below(4)),
        8 | 9 => Course::Walk(draw.pick(&[0.01, 0.1, 0.5, 1.0])),
        10 => Course::Line(draw.pick(&[-1.0, 1.0, -0.99, 0.99, 1.000_001]) * step),
        11..=13 => {
            let beyond = draw.pick(&near)
                * if draw.below(4) == 0 {
                    range
                } else {
                    range * 0.02
                };
            let (end, way) = if draw.below(2) == 0 {
                (limits.max + beyond, step)
            } else {
                (limits.min - beyond, -step)
            };
            Course::Ride(way * draw.between(0.05, 1.0), end)
        }
        14 => Course::Jump(draw.between(-2.0, 2.0) * step, draw.below(30)),
        _ => Course::Wild(limits.min - range, limits.max + range),
    }
}

fn next(draw: &mut Draw, course: &mut Course, (at, step): (f64, f64), index: u64) -> f64 {
    match course {
        Course::Still => at,
        Course::Line(by) => at + *by,
        Course::Zigzag(by, rows) => {
            if (index + 1).is_multiple_of(*rows) {
                *by = -*by;
            }
            at + *by
        }
        Course::Walk(share) => at + draw.between(-1.0, 1.0) * *share * step,
        Course::Ride(by, end) => {
            if 0.0 < *by {
                (at + *by).min(at.max(*end))
            } else {
                (at + *by).max(at.min(*end))
            }
        }
        Course::Jump(by, row) => at + if index == *row { *by } else { 0.0 },
        Course::Wild(low, high) => draw.between(*low, *high),
    }
}

/// Puts numbers among the rows that no robot may be told, or that look like it.
fn spoil(draw: &mut Draw, rows: &mut Vec<f32>) {
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE / 8.0,
        -0.0,
        1e3,
        -1000.1,
    ];
    match draw.below(8) {
        0 => rows.truncate(draw.below(rows.len() as u64) as usize),
        1 => rows.extend_from_within(..rows.len() / 2),
        2 => rows
            .iter_mut()
            .for_each(|x| *x = f32::from_bits(draw.bits() as u32)),
        _ => {
            for _ in 0..=draw.below(3) {
                let at = draw.below(rows.len() as u64) as usize;
                rows[at] = if draw.below(2) == 0 {
                    draw.pick(&odd)
                } else {
                    f32::from_bits(draw.bits() as u32)
                };
            }
        }
    }
}
