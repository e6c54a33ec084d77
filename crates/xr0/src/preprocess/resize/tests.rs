use std::fmt::Write;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use sha2::{Digest, Sha256};

use super::{bicubic, fixed_point, resize};
use crate::preprocess::RgbImage;

/// `(height, width)` before and after, and the SHA-256 of the bytes that Pillow 13.0.0 gives for
/// [`pattern`] with `Image.resize((width, height), Image.BICUBIC)`: up, down, one side alone, one
/// pixel, extreme aspects.
const PILLOW: [([usize; 2], [usize; 2], &str); 18] = [
    (
        [64, 80],
        [64, 64],
        "16258ba8f0fdff129501e0b1c03e61904fd8e7b6e1c0f7917f3d4a61e51862bc",
    ),
    (
        [1, 1],
        [32, 32],
        "a0365e85e6627be3cc450f142b3b577e0234f75091792a36ff6da4e4bf0c679d",
    ),
    (
        [2, 3],
        [700, 5],
        "0f0bdbda641f7f942d677f7bf0503d9830dd9cc1263f655dd5701a805004153d",
    ),
    (
        [700, 700],
        [1, 1],
        "d8d83e152275cdecf91efea09d7aebf3060c10fe7042abaabf8b5df0c6d36173",
    ),
    (
        [480, 640],
        [256, 320],
        "6bab9ba88853af0771f04f5e60165e9a02df2ca62d7e1fec7abf6359e5788bfe",
    ),
    (
        [200, 200],
        [192, 192],
        "4b8d76e5c9c3ae1fc985692b30dda84bb50bd798566552b979a839ca2c7f9449",
    ),
    (
        [84, 84],
        [96, 96],
        "40ae3a09163e052def13f1664ec6ca3e5030dda0575c11f3e5b020298cc28b6c",
    ),
    (
        [1, 200],
        [64, 640],
        "fa715985fc010597c0e4b70c0a6b4553f6ad30fd5de2d4eef6a5626b9dd9f762",
    ),
    (
        [333, 7],
        [31, 699],
        "08d464bfaecad9aa47f75642951e89e8459e7c941c96f2ac5ba5bcc3addf03ab",
    ),
    (
        [97, 101],
        [97, 64],
        "04cc62912164f437ad195378c2a66ca3e3762b311accfff24d1d18705501f802",
    ),
    (
        [97, 101],
        [64, 101],
        "0d20957437e367dd463efb4f81e37fcfa205a637a29d174ac8b849043a034c52",
    ),
    (
        [5, 5],
        [700, 700],
        "10ad866cf062084120ba4fc15d64bd676ba56eb50cc230b900b0aab5d122b01b",
    ),
    (
        [256, 256],
        [256, 256],
        "1f35070b3dc11c455826a94f4fcd776f8300ffe512421826bbfbd12d98c82ef2",
    ),
    // Both sides of the order's border.
    (
        [70, 90],
        [64, 96],
        "b19c36acdfc28728b79f019b5e0525eb2e58dd2aa05cc70280e22e8dcd95784f",
    ),
    (
        [60, 58],
        [48, 52],
        "3d17ca925c45e8ed6be4099b6ccce59aabb4c4985b27088ecbcbac071eccde22",
    ),
    (
        [60, 58],
        [47, 52],
        "6be582467df44cab7b2f45141464220ae794031b7d94b666b8f2fec6d82d8d25",
    ),
    (
        [60, 58],
        [59, 59],
        "9c3c63029fe89c033702525a12288e2d9c98fb73e5fb182dc097e20621bb8643",
    ),
    (
        [60, 58],
        [61, 59],
        "1a77f8e88616c8c777a6502a51c8dc9992d7867462f29d616e473ab03abb1a25",
    ),
];

/// An image whose byte `i` is the top byte of `2654435761 i + 40503 i²` in 32 bits.
fn pattern(height: usize, width: usize) -> RgbImage {
    let byte = |i: u32| {
        let value = i.wrapping_mul(2_654_435_761);
        value
            .wrapping_add(i.wrapping_mul(i).wrapping_mul(40_503))
            .to_be_bytes()[0]
    };
    let pixels = (0..(height * width * 3) as u32).map(byte).collect();
    RgbImage {
        height,
        width,
        pixels,
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn every_byte_is_pillows() {
    for ([height, width], [to_height, to_width], want) in PILLOW {
        let resized = resize(&pattern(height, width), to_height, to_width);
        let got = sha256(&resized.pixels);
        assert_eq!(got, want, "{height} x {width} to {to_height} x {to_width}");
    }
}

#[test]
#[expect(clippy::float_cmp, reason = "these values are exact in binary")]
fn the_kernel_is_one_at_its_center_and_nothing_at_whole_pixels() {
    assert_eq!(
        [0.0, 1.0, -1.0, 2.0, 3.0].map(bicubic),
        [1.0, 0.0, 0.0, 0.0, 0.0]
    );
    // Catmull-Rom: half a pixel off, two neighbours count 9/16 and the next two -1/16.
    assert_eq!([0.5, -0.5, 1.5].map(bicubic), [0.5625, 0.5625, -0.0625]);
}

#[test]
fn weights_are_rounded_with_halves_away_from_zero() {
    let unit = 1.0 / f64::from(1 << 22);
    assert_eq!(
        [1.5, -1.5, 1.4, -1.4, 0.0].map(|n| fixed_point(n * unit)),
        [2, -2, 1, -1, 0]
    );
}

/// Where nothing can be sampled, nothing is indexed.
#[test]
fn a_side_of_zero_gives_black() {
    let nothing = RgbImage {
        height: 0,
        width: 4,
        pixels: vec![],
    };
    assert_eq!(resize(&nothing, 2, 1).pixels, [0; 6]);
    assert!(resize(&pattern(3, 3), 0, 5).pixels.is_empty());
}

proptest! {
    #[test]
    fn a_constant_image_stays_constant(
        from in (1_usize..120, 1_usize..120),
        to in (1_usize..120, 1_usize..120),
        colour in any::<[u8; 3]>(),
    ) {
        let image = RgbImage { height: from.0, width: from.1, pixels: colour.repeat(from.0 * from.1) };
        let resized = resize(&image, to.0, to.1);
        prop_assert_eq!((resized.height, resized.width), to);
        prop_assert_eq!(resized.pixels.len(), to.0 * to.1 * 3);
        prop_assert!(resized.pixels.chunks_exact(3).all(|pixel| pixel == colour));
    }

    /// Both passes are symmetric but for the rounding of a half, which may fall on either side.
    #[test]
    fn a_mirrored_image_gives_the_mirrored_result(
        from in (1_usize..40, 1_usize..40),
        to in (1_usize..40, 1_usize..40),
    ) {
        let turn = |image: &RgbImage| RgbImage {
            height: image.height,
            width: image.width,
            pixels: image.pixels.chunks_exact(3).rev().flatten().copied().collect(),
        };
        let image = pattern(from.0, from.1);
        let there = resize(&turn(&image), to.0, to.1);
        let back = turn(&resize(&image, to.0, to.1));
        let pairs = there.pixels.iter().zip(&back.pixels);
        prop_assert!(pairs.map(|(a, b)| a.abs_diff(*b)).all(|levels| levels <= 1));
    }
}
