//! Frames to PNG and back, bit for bit: what a context was computed from.

use std::io::Cursor;

use ::png::{BitDepth, ColorType, Compression, Decoder, Encoder, Limits};
use vlad_wire::msg::FRAME_BYTES_MAX;
use vlad_wire::msg::sense::{Frame, FrameHead};

/// Why a frame cannot be encoded, or bytes are not that frame.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// The encoder refuses.
    #[error("the frame cannot be encoded as PNG")]
    Encode(#[from] ::png::EncodingError),
    /// The bytes are no PNG.
    #[error("the image is no readable PNG")]
    Decode(#[from] ::png::DecodingError),
    /// The image has another size or pixel format than its header says.
    #[error("the PNG is not an 8-bit RGB image of {width} × {height}")]
    Shape {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// Encodes a frame without loss, fast rather than small.
///
/// # Errors
/// [`PngError::Shape`] or [`PngError::Encode`] if the frame is empty or does not fit its size.
pub fn encode_fast(frame: &Frame) -> Result<Vec<u8>, PngError> {
    let FrameHead { width, height, .. } = frame.head;
    if frame.pixels.len() != frame.head.n_bytes() {
        return Err(PngError::Shape { width, height });
    }
    let mut bytes = Vec::with_capacity(frame.pixels.len() / 2);
    let mut encoder = Encoder::new(&mut bytes, u32::from(width), u32::from(height));
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&frame.pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Decodes a frame whose header is known; sizes are checked before anything is allocated.
///
/// # Errors
/// [`PngError`] if the bytes are not an image of that size.
pub fn decode(bytes: &[u8], head: &FrameHead) -> Result<Frame, PngError> {
    let FrameHead { width, height, .. } = *head;
    let shape = PngError::Shape { width, height };
    let limits = Limits {
        bytes: FRAME_BYTES_MAX,
    };
    let mut reader = Decoder::new_with_limits(Cursor::new(bytes), limits).read_info()?;
    let info = reader.info();
    let fits = (info.width, info.height) == (u32::from(width), u32::from(height))
        && reader.output_color_type() == (ColorType::Rgb, BitDepth::Eight)
        && reader.output_buffer_size() == Some(head.n_bytes());
    if !fits {
        return Err(shape);
    }
    let mut pixels = vec![0; head.n_bytes()];
    reader.next_frame(&mut pixels)?;
    Ok(Frame {
        head: head.clone(),
        pixels: pixels.into(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A picture with slopes, an edge and a number in it.
    pub(crate) fn frame(width: u16, height: u16) -> Frame {
        let head = FrameHead {
            view: "ego".parse().unwrap(),
            seq: 3,
            captured_at_ns: 1_000,
            width,
            height,
        };
        let pixel = |i: u16| {
            let (x, y) = (i % width, i / width);
            let edge = if x < width / 2 { 40 } else { 200 };
            [
                edge,
                u8::try_from(x * 3 % 256).unwrap(),
                u8::try_from(y * 2 % 256).unwrap(),
            ]
        };
        let pixels: Vec<u8> = (0..width * height).flat_map(pixel).collect();
        Frame {
            head,
            pixels: pixels.into(),
        }
    }

    #[test]
    fn a_frame_comes_back_bit_for_bit() {
        let frame = frame(64, 48);
        let bytes = encode_fast(&frame).unwrap();
        assert!(bytes.len() < frame.pixels.len());
        assert_eq!(decode(&bytes, &frame.head).unwrap(), frame);
    }

    #[test]
    fn an_image_of_another_size_is_refused() {
        let frame = frame(64, 48);
        let bytes = encode_fast(&frame).unwrap();
        let other = FrameHead {
            width: 48,
            height: 64,
            ..frame.head.clone()
        };
        assert!(matches!(
            decode(&bytes, &other),
            Err(PngError::Shape {
                width: 48,
                height: 64
            })
        ));
        assert!(decode(&bytes[..bytes.len() / 2], &frame.head).is_err());
        assert!(decode(b"no image", &frame.head).is_err());
        let short = Frame {
            pixels: frame.pixels.slice(1..),
            ..frame
        };
        assert!(encode_fast(&short).is_err());
    }
}
