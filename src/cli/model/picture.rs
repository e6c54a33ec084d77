//! Image files for a decision: PNG, JPEG and binary PPM, 8 bits a colour.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use jpeg_decoder::PixelFormat;
use png::{ColorType, Decoder, Limits, Transformations};
use vlad_xr0::preprocess::RgbImage;

/// Largest file; above every camera's.
const BYTES_MAX: u64 = 256 << 20;
/// Most pixels; the preprocessing takes no more.
const PIXELS_MAX: usize = 64 << 20;

/// Reads an image file by its first bytes, whatever its name.
///
/// # Errors
/// A file that cannot be read, or is no image of a known format, by name.
pub(super) fn read(path: &Path) -> anyhow::Result<RgbImage> {
    let bytes = bounded(path, BYTES_MAX)?;
    decode(&bytes).with_context(|| format!("{} is no image that can be used", path.display()))
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// A file that cannot be read, is larger or is none, by name.
pub(super) fn bounded(path: &Path, max: u64) -> anyhow::Result<Vec<u8>> {
    let read = vlad_xr0::checkpoint::read::bounded(path, max);
    read.map_err(|unreadable| anyhow!("{} {}", path.display(), unreadable.problem()))
}

fn decode(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png(bytes).map_err(|error| once(&error)),
        [0xff, 0xd8, ..] => jpeg(bytes).map_err(|error| once(&error)),
        [b'P', b'6', rest @ ..] => ppm(rest),
        _ => bail!("it is neither PNG, JPEG nor binary PPM (P6)"),
    }
}

/// The decoders put their causes into their texts too: the text alone says each once.
fn once(error: &anyhow::Error) -> anyhow::Error {
    anyhow!("{error}")
}

/// Transparency is dropped, grey is the same in all colours, 16 bits lose their lower half.
fn png(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    let limits = Limits {
        bytes: PIXELS_MAX * 8,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let (height, width) = sides(reader.info().height, reader.info().width)?;
    let samples = match reader.output_color_type().0 {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => bail!("its palette is missing"),
    };
    let n_bytes = reader
        .output_buffer_size()
        .ok_or_else(|| anyhow!("it is too large"))?;
    let mut raw = vec![0; n_bytes];
    reader.next_frame(&mut raw)?;
    Ok(RgbImage::new(height, width, rgb(&raw, samples))?)
}

fn jpeg(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    let mut decoder = jpeg_decoder::Decoder::new(Cursor::new(bytes));
    decoder.set_max_decoding_buffer_size(PIXELS_MAX * 3);
    decoder.read_info()?;
    let info = decoder.info().ok_or_else(|| anyhow!("it has no header"))?;
    let samples = match info.pixel_format {
        PixelFormat::L8 => 1,
        PixelFormat::RGB24 => 3,
        other => bail!("its pixel format is {other:?}; colour or grey of 8 bits is expected"),
    };
    let (height, width) = sides(info.height.into(), info.width.into())?;
    Ok(RgbImage::new(
        height,
        width,
        rgb(&decoder.decode()?, samples),
    )?)
}

/// `P6 WIDTH HEIGHT 255`, one white space, then the pixels; `#` begins a comment in the header.
fn ppm(mut rest: &[u8]) -> anyhow::Result<RgbImage> {
    let mut number = || -> anyhow::Result<u32> {
        loop {
            rest = rest.trim_ascii_start();
            let Some(comment) = rest.strip_prefix(b"#") else {
                break;
            };
            let end = comment.iter().position(|byte| *byte == b'\n');
            rest = comment
                .get(end.unwrap_or(comment.len())..)
                .unwrap_or_default();
        }
        let end = rest.iter().position(|byte| !byte.is_ascii_digit());
        let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        std::str::from_utf8(digits)?
            .parse()
            .context("its header is wrong")
    };
    let (width, height, largest) = (number()?, number()?, number()?);
    ensure!(
        largest == 255,
        "its largest value is {largest}; 255 is expected"
    );
    let (height, width) = sides(height, width)?;
    let pixels = match rest {
        [space, pixels @ ..] if space.is_ascii_whitespace() => pixels,
        _ => bail!("its header is wrong"),
    };
    Ok(RgbImage::new(height, width, pixels.to_vec())?)
}

fn sides(height: u32, width: u32) -> anyhow::Result<(usize, usize)> {
    let sides = (usize::try_from(height)?, usize::try_from(width)?);
    let fits = sides
        .0
        .checked_mul(sides.1)
        .is_some_and(|n| (1..=PIXELS_MAX).contains(&n));
    ensure!(
        fits,
        "{width} × {height} pixels are not between 1 and {PIXELS_MAX}"
    );
    Ok(sides)
}

fn rgb(raw: &[u8], samples: usize) -> Vec<u8> {
    let pixels = raw.chunks_exact(samples);
    match samples {
        3 => raw.to_vec(),
        4 => pixels
            .flat_map(|pixel| pixel.iter().take(3))
            .copied()
            .collect(),
        _ => pixels
            .flat_map(|pixel| pixel.iter().take(1).flat_map(|grey| [*grey; 3]))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use png::{BitDepth, Encoder};

    use super::*;

    fn encoded(color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn every_kind_of_png_becomes_rgb() {
        for (color, depth, data, pixels) in [
            (
                ColorType::Rgb,
                BitDepth::Eight,
                &[1, 2, 3, 4, 5, 6][..],
                [1, 2, 3, 4, 5, 6],
            ),
            (
                ColorType::Rgba,
                BitDepth::Eight,
                &[1, 2, 3, 0, 4, 5, 6, 9],
                [1, 2, 3, 4, 5, 6],
            ),
            (
                ColorType::Grayscale,
                BitDepth::Eight,
                &[7, 8],
                [7, 7, 7, 8, 8, 8],
            ),
            (
                ColorType::GrayscaleAlpha,
                BitDepth::Eight,
                &[7, 0, 8, 0],
                [7, 7, 7, 8, 8, 8],
            ),
            (
                ColorType::Grayscale,
                BitDepth::Sixteen,
                &[7, 9, 8, 9],
                [7, 7, 7, 8, 8, 8],
            ),
        ] {
            let image = decode(&encoded(color, depth, data)).unwrap();
            assert_eq!((image.height, image.width), (1, 2));
            assert_eq!(image.pixels, pixels, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn a_ppm_may_have_comments() {
        let image = decode(b"P6 # by hand\n2\n1 255\n\x01\x02\x03\x04\x05\x06").unwrap();
        assert_eq!((image.height, image.width), (1, 2));
        assert_eq!(image.pixels, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let short = &encoded(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6])[..40];
        for bytes in [
            &b""[..],
            b"GIF89a",
            b"P6 2 1 255\n\x01",
            b"P6 2 1 65535\n\x01\x02\x03\x04\x05\x06",
            b"P6 2",
            b"P6 0 1 255\n",
            b"P6 4000000000 4000000000 255\n",
            b"\xff\xd8\xff\xd9",
            short,
        ] {
            assert!(decode(bytes).is_err(), "{bytes:?}");
        }
    }

    /// As the command prints it: with all causes.
    #[test]
    fn a_torn_image_is_refused_without_saying_a_cause_twice() {
        let whole = encoded(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6]);
        for bytes in [&whole[..30], b"\xff\xd8\xff\xe0\x00\x10"] {
            let refused = format!("{:#}", decode(bytes).unwrap_err());
            let mut parts: Vec<_> = refused.split(": ").collect();
            parts.sort_unstable();
            assert!(parts.windows(2).all(|two| two[0] != two[1]), "{refused}");
        }
    }
}
