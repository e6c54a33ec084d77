//! Against Pillow 13.0.0, by the SHA-256 of the pixels.

use super::*;
use crate::checkpoint::digest::{hex, sha256};

/// Size, what is kept of it, where that begins, and what comes out of [`pattern`].
type Crop = ([usize; 2], [usize; 2], [usize; 2], &'static str);

const CROPS: [Crop; 4] = [
    (
        [200, 200],
        [190, 190],
        [5, 5],
        "2b63c612e87f9e78e89502c7056e1e646e6fa550ad22b722f0d0896863e44669",
    ),
    (
        [84, 84],
        [79, 79],
        [2, 2],
        "70cb1a1a2f01817b73f3173d8172ef2b695997c2ce529cea879ff61f53f16223",
    ),
    (
        [256, 256],
        [243, 243],
        [6, 6],
        "1090c6c1aea6aee5de906fa41147a37e8ae66027f1bb09e58380bb6a4e1f01e4",
    ),
    (
        [256, 320],
        [243, 304],
        [6, 8],
        "393101bac92db6d0db62644ad022095aadfe277a4a9e0408de86442631c33a9b",
    ),
];

/// Size before and after a bilinear resize, and what comes out of [`pattern`].
const BILINEAR: [([usize; 2], [usize; 2], &str); 6] = [
    (
        [190, 190],
        [200, 200],
        "552b368e872da8c114d1b947b6d84588584790c01d9de26dab3b681076fff152",
    ),
    (
        [79, 79],
        [84, 84],
        "6ef4b8490db5f8ba122182fe271234b19bf942dbe97fed89e94630d1df125973",
    ),
    (
        [243, 304],
        [256, 320],
        "dd6c6bb2308f666055a1f4d42c9298c7b1a90aa82c35003f6c0812dceed444fe",
    ),
    (
        [480, 640],
        [84, 97],
        "a7dc6c488607c7986dea5f4513680450bee839e57db2df0c8e16f44df2f63f0a",
    ),
    (
        [5, 7],
        [300, 2],
        "36a03f99126884ecfb99553d2aed3dedc2de530a8c411512cf16e73575f0b077",
    ),
    (
        [300, 9],
        [4, 90],
        "812980c1e417c7ebe974a8559c83b338b9ce40ef733d0fc0ca78dcc1ea76ad35",
    ),
];

/// An image whose byte `i` is the top byte of `2654435761 i + 40503 i²` in 32 bits.
fn pattern(height: usize, width: usize) -> RgbImage {
    let byte = |i: u32| {
        let square = i.wrapping_mul(i).wrapping_mul(40_503);
        i.wrapping_mul(2_654_435_761)
            .wrapping_add(square)
            .to_be_bytes()[0]
    };
    let pixels = (0..(height * width * 3) as u32).map(byte).collect();
    RgbImage::new(height, width, pixels).unwrap()
}

#[test]
fn a_centre_crop_is_pillows() {
    for ([height, width], [kept_rows, kept_columns], [top, left], wanted) in CROPS {
        let cropped = centre_crop(&pattern(height, width), 0.95);
        assert_eq!((cropped.height, cropped.width), (height, width));
        assert_eq!(hex(&sha256(&cropped.pixels)), wanted, "{height} x {width}");
        assert_eq!(offset(height, kept_rows), top);
        assert_eq!(offset(width, kept_columns), left);
    }
}

#[test]
fn a_crop_of_everything_changes_nothing() {
    for (height, width) in [(1, 1), (3, 5), (64, 48)] {
        let image = pattern(height, width);
        assert_eq!(centre_crop(&image, 1.0), image);
        // One pixel is the least that is kept.
        assert_eq!(centre_crop(&image, 1e-9).pixels.len(), image.pixels.len());
    }
}

#[test]
fn a_bilinear_resize_is_pillows() {
    for ([height, width], [rows, columns], wanted) in BILINEAR {
        let image = pattern(height, width);
        let resized = resize_by(&image, (rows, columns), Filter::Bilinear);
        assert_eq!(hex(&sha256(&resized.pixels)), wanted, "{height} x {width}");
    }
}

#[test]
fn half_a_turn_reverses_both_axes() {
    let image = pattern(5, 4);
    let turned = rotate_180(&image);
    assert_eq!(
        hex(&sha256(&turned.pixels)),
        "4f1b2884736d9197b12abce6b4a1ff42d4246461fa2bd896a0c91c3e3137423b"
    );
    assert_eq!(rotate_180(&turned), image);
}
