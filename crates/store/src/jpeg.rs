//! Frames to JPEG: previews in the log, images over REST.

use jpeg_encoder::{ColorType, Encoder};
use vlad_wire::msg::sense::Frame;

/// A frame that is no image.
#[derive(Debug, thiserror::Error)]
pub enum JpegError {
    /// The pixels do not fit the size.
    #[error("the frame has {got} bytes, its size asks for {want}")]
    Shape {
        /// Bytes that are there.
        got: usize,
        /// Bytes of an RGB image of that size.
        want: usize,
    },
    /// The encoder refuses.
    #[error("the frame cannot be encoded as JPEG")]
    Encode(#[from] jpeg_encoder::EncodingError),
}

/// Encodes a frame; `quality` is 1 to 100, another one is taken as the nearest.
///
/// # Errors
/// [`JpegError`] if the frame is empty or its pixels do not fit its size.
pub fn encode(frame: &Frame, quality: u8) -> Result<Vec<u8>, JpegError> {
    let (got, want) = (frame.pixels.len(), frame.head.n_bytes());
    if got != want {
        return Err(JpegError::Shape { got, want });
    }
    // About two bits a pixel: what a camera image takes at the quality of a preview.
    let mut bytes = Vec::with_capacity(want / 12);
    let encoder = Encoder::new(&mut bytes, quality.clamp(1, 100));
    encoder.encode(
        &frame.pixels,
        frame.head.width,
        frame.head.height,
        ColorType::Rgb,
    )?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::png::tests::frame;

    #[test]
    fn a_jpeg_looks_like_its_frame() {
        let frame = frame(64, 48);
        let bytes = encode(&frame, 90).unwrap();
        let mut decoder = jpeg_decoder::Decoder::new(bytes.as_slice());
        let pixels = decoder.decode().unwrap();
        let info = decoder.info().unwrap();
        assert_eq!((info.width, info.height), (64, 48));
        let off: u64 = pixels
            .iter()
            .zip(&frame.pixels)
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        assert!(
            off < 4 * u64::try_from(pixels.len()).unwrap(),
            "mean difference {off} / {}",
            pixels.len()
        );
    }

    #[test]
    fn a_frame_that_is_no_image_is_refused() {
        let mut short = frame(8, 8);
        short.pixels = short.pixels.slice(1..);
        assert!(matches!(
            encode(&short, 90),
            Err(JpegError::Shape {
                got: 191,
                want: 192
            })
        ));
        assert!(encode(&frame(0, 0), 90).is_err());
    }
}
