//! Filling triangles: a depth and a colour for each sample.
//!
//! Depth is kept as 1/z, which is linear on the screen; larger is nearer. A sample belongs to a
//! triangle if its centre does, with right and lower edges inside: neighbours leave no gap.

/// Samples along each edge of a pixel.
pub(super) const SAMPLES: usize = 2;

/// A vertex in the camera's frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Corner {
    /// Metres: x right, y down, z along the optical axis.
    pub(super) at: [f32; 3],
    /// Brightness, about 0 to 1.
    pub(super) bright: f32,
}

/// What a triangle does to the samples that it covers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Paint {
    /// Colours them.
    Plain([u8; 3]),
    /// Colours them and lets shadows fall on them.
    Shadowed([u8; 3]),
    /// Darkens them once, where a shadow may fall.
    Shadow,
}

/// Mark of a colour on which a shadow may still fall.
const TAKES_SHADOW: u32 = 1 << 24;

/// The samples of a picture.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    focal: f32,
    near: Vec<f32>,
    colour: Vec<u32>,
}

/// A vertex on the screen: column, row, 1/z, brightness.
type Point = [f32; 4];

/// A value that is linear on the screen.
#[derive(Clone, Copy)]
struct Slope {
    at_origin: f32,
    by_column: f32,
    by_row: f32,
}

impl Slope {
    /// The plane through three points' `value`s.
    fn new([a, b, c]: &[Point; 3], value: usize, by_area: f32) -> Self {
        let (ab, ac) = (b[value] - a[value], c[value] - a[value]);
        let by_column = (ab * (c[1] - a[1]) - ac * (b[1] - a[1])) * by_area;
        let by_row = (ac * (b[0] - a[0]) - ab * (c[0] - a[0])) * by_area;
        Self {
            at_origin: a[value] - by_column * a[0] - by_row * a[1],
            by_column,
            by_row,
        }
    }

    fn at(&self, column: f32, row: f32) -> f32 {
        self.at_origin + self.by_column * column + self.by_row * row
    }
}

impl Canvas {
    /// Makes the samples of a picture of `width`×`height` pixels.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let (width, height) = (width * SAMPLES, height * SAMPLES);
        Self {
            width,
            height,
            focal: 1.0,
            near: vec![0.0; width * height],
            colour: vec![0; width * height],
        }
    }

    /// Begins a picture: nothing but a backdrop from `sky[0]` above to `sky[1]` below.
    pub(super) fn clear(&mut self, sky: [[u8; 3]; 2], focal: f32) {
        self.focal = focal;
        self.near.fill(0.0);
        let last_row = (self.height.max(2) - 1) as f32;
        for (row, line) in self.colour.chunks_exact_mut(self.width).enumerate() {
            let part = row as f32 / last_row;
            let mix = |i: usize| {
                let (above, below) = (f32::from(sky[0][i]), f32::from(sky[1][i]));
                (above + (below - above) * part) as u8
            };
            line.fill(pack([mix(0), mix(1), mix(2)]));
        }
    }

    /// Fills a triangle that lies before the near plane.
    pub(super) fn fill(&mut self, corners: &[Corner; 3], paint: Paint) {
        let (mid_x, mid_y) = (self.width as f32 / 2.0, self.height as f32 / 2.0);
        let points: [Point; 3] = corners.map(|corner| {
            let [x, y, z] = corner.at;
            let inverse = 1.0 / z;
            [
                mid_x + self.focal * x * inverse,
                mid_y + self.focal * y * inverse,
                inverse,
                corner.bright,
            ]
        });
        let [a, b, c] = points;
        let area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
        if area.abs() < 1e-6 || !area.is_finite() {
            return;
        }
        let mut by_row = points;
        by_row.sort_by(|p, q| p[1].total_cmp(&q[1]));
        let inverse = Slope::new(&points, 2, 1.0 / area);
        let bright = Slope::new(&points, 3, 1.0 / area);
        let first = first_inside(by_row[0][1], self.height);
        let end = first_inside(by_row[2][1], self.height);
        for row in first..end {
            let y = row as f32 + 0.5;
            let long = crossing(&by_row[0], &by_row[2], y);
            let short = if y < by_row[1][1] {
                crossing(&by_row[0], &by_row[1], y)
            } else {
                crossing(&by_row[1], &by_row[2], y)
            };
            let from = first_inside(long.min(short), self.width);
            let until = first_inside(long.max(short), self.width);
            if from < until {
                let span = Span {
                    from: row * self.width + from,
                    until: row * self.width + until,
                    inverse: inverse.at(from as f32 + 0.5, y),
                    inverse_step: inverse.by_column,
                    bright: bright.at(from as f32 + 0.5, y),
                    bright_step: bright.by_column,
                };
                self.fill_span(&span, paint);
            }
        }
    }

    fn fill_span(&mut self, span: &Span, paint: Paint) {
        let colours = &mut self.colour[span.from..span.until];
        let nears = &mut self.near[span.from..span.until];
        let (rgb, mark) = match paint {
            Paint::Shadow => {
                for colour in colours {
                    // Written without a branch, so that the compiler does several at once.
                    let falls = *colour & TAKES_SHADOW != 0;
                    *colour = if falls { darkened(*colour) } else { *colour };
                }
                return;
            }
            Paint::Plain(rgb) => (rgb, 0),
            Paint::Shadowed(rgb) => (rgb, TAKES_SHADOW),
        };
        if span.bright_step.abs() * ((span.until - span.from) as f32) < 1e-3 {
            let flat = lit(pack(rgb), span.bright) | mark;
            fill_flat(span, flat, nears, colours);
            return;
        }
        let rgb = pack(rgb);
        let (mut inverse, mut bright) = (span.inverse, span.bright);
        for (near, colour) in nears.iter_mut().zip(colours) {
            if *near < inverse {
                *near = inverse;
                *colour = lit(rgb, bright) | mark;
            }
            inverse += span.inverse_step;
            bright += span.bright_step;
        }
    }

    /// Averages the samples of each pixel into 8-bit RGB.
    pub(super) fn resolve(&self, to: &mut Vec<u8>) {
        to.clear();
        to.resize(self.near.len() / (SAMPLES * SAMPLES) * 3, 0);
        let rows = to.chunks_exact_mut(self.width / SAMPLES * 3);
        for (row, samples) in rows.zip(self.colour.chunks_exact(self.width * SAMPLES)) {
            let (upper, lower) = samples.split_at(self.width);
            let (upper, _) = upper.as_chunks::<SAMPLES>();
            let (lower, _) = lower.as_chunks::<SAMPLES>();
            let (pixels, _) = row.as_chunks_mut::<3>();
            for (pixel, (upper, lower)) in pixels.iter_mut().zip(upper.iter().zip(lower)) {
                // Red and blue in one number, green in the other: sums of four need ten bits each.
                let (mut red_blue, mut green) = (0, 0);
                for colour in [upper[0], upper[1], lower[0], lower[1]] {
                    red_blue += colour & 0x00ff_00ff;
                    green += colour & 0x0000_ff00;
                }
                pixel[0] = (red_blue >> 18) as u8;
                pixel[1] = (green >> 10) as u8;
                pixel[2] = ((red_blue & 0xffff) >> 2) as u8;
            }
        }
    }
}

/// Samples that are worked on at once, with a slope computed for each from the first.
const LANES: usize = 8;

fn fill_flat(span: &Span, flat: u32, nears: &mut [f32], colours: &mut [u32]) {
    let (near_chunks, near_rest) = nears.as_chunks_mut::<LANES>();
    let (colour_chunks, colour_rest) = colours.as_chunks_mut::<LANES>();
    let lanes: [f32; LANES] = std::array::from_fn(|lane| lane as f32 * span.inverse_step);
    let mut inverse = span.inverse;
    for (nears, colours) in near_chunks.iter_mut().zip(colour_chunks) {
        for lane in 0..LANES {
            // Likewise without a branch.
            let here = inverse + lanes[lane];
            let wins = nears[lane] < here;
            nears[lane] = if wins { here } else { nears[lane] };
            colours[lane] = if wins { flat } else { colours[lane] };
        }
        inverse += span.inverse_step * LANES as f32;
    }
    for (near, colour) in near_rest.iter_mut().zip(colour_rest) {
        if *near < inverse {
            (*near, *colour) = (inverse, flat);
        }
        inverse += span.inverse_step;
    }
}

/// A run of samples in one row.
struct Span {
    from: usize,
    until: usize,
    inverse: f32,
    inverse_step: f32,
    bright: f32,
    bright_step: f32,
}

/// Index of the first sample whose centre lies beyond `edge`, within `0..=n`.
fn first_inside(edge: f32, n: usize) -> usize {
    // A cast from float saturates: what lies left of the picture becomes 0.
    ((edge + 0.5) as usize).min(n)
}

/// Column at which the edge from `p` to `q` crosses `row`.
fn crossing(p: &Point, q: &Point, row: f32) -> f32 {
    p[0] + (q[0] - p[0]) * (row - p[1]) / (q[1] - p[1])
}

fn pack([r, g, b]: [u8; 3]) -> u32 {
    (u32::from(r) << 16) | (u32::from(g) << 8) | u32::from(b)
}

/// Scales a colour; brightness is such that no channel runs over.
fn lit(rgb: u32, bright: f32) -> u32 {
    let scale = (bright * 256.0) as u32;
    let red_blue = (((rgb & 0x00ff_00ff) * scale) >> 8) & 0x00ff_00ff;
    let green = (((rgb >> 8) & 0xff) * scale) & 0xff00;
    red_blue | green
}

/// Three quarters of a colour, on which no further shadow falls.
fn darkened(colour: u32) -> u32 {
    ((colour >> 1) & 0x007f_7f7f) + ((colour >> 2) & 0x003f_3f3f)
}
