use std::path::PathBuf;

use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::resize::resize;
use super::{Grid, ImageLimits, PreprocessorConfig, RgbImage, merge_order, smart_resize};
use crate::config::Config;

const STOCK: ImageLimits = ImageLimits {
    min_pixels: 65536,
    max_pixels: 16_777_216,
};
const POST_TRAINING: ImageLimits = ImageLimits {
    min_pixels: 1024,
    max_pixels: 90000,
};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/xr0-tiny"
    ))
    .join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

fn network() -> Config {
    Config::parse(&text("model/config.json")).unwrap()
}

fn tiny() -> PreprocessorConfig {
    PreprocessorConfig::parse(&text("model/preprocessor_config.json"), &network()).unwrap()
}

/// The tiny model's file with some keys changed.
fn with(changes: &Value) -> Result<PreprocessorConfig, Vec<String>> {
    let mut file: Value = serde_json::from_str(&text("model/preprocessor_config.json")).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        file[key] = value.clone();
    }
    PreprocessorConfig::parse(&file.to_string(), &network())
}

fn image(tensors: &SafeTensors<'_>, name: &str) -> Option<RgbImage> {
    let view = tensors.tensor(name).ok()?;
    let [height, width, 3] = *view.shape() else {
        panic!("{name} is no image");
    };
    Some(RgbImage::new(height, width, view.data().to_vec()).unwrap())
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = tensors.tensor(name).unwrap();
    let values = view.data().chunks_exact(4);
    values
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[test]
fn the_golden_rows_have_their_sizes_and_bytes() {
    let cases: Value = serde_json::from_str(&text("cases.json")).unwrap();
    let bytes = std::fs::read(fixture("preprocess.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let mut compared = 0;
    for (i, row) in cases["preprocess"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let limits = ImageLimits {
            min_pixels: number(&row["min_pixels"]),
            max_pixels: number(&row["max_pixels"]),
        };
        let (height, width) = (number(&row["size"][0]), number(&row["size"][1]));
        let resized = smart_resize(height, width, 32, limits).unwrap();
        assert_eq!(json!([resized.0, resized.1]), row["resized"], "row {i}");
        assert_eq!(
            json!([1, resized.0 / 16, resized.1 / 16]),
            row["grid_thw"],
            "row {i}"
        );
        if let Some(raw) = image(&tensors, &format!("raw.{i}")) {
            let want = image(&tensors, &format!("resized.{i}")).unwrap();
            assert!(resize(&raw, resized.0, resized.1) == want, "row {i}");
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
}

#[test]
fn the_golden_images_become_the_golden_patch_rows() {
    let bytes = std::fs::read(fixture("sync_v2.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut rows = Vec::new();
    for (i, grid) in [
        Grid {
            rows: 4,
            columns: 4,
        },
        Grid {
            rows: 4,
            columns: 6,
        },
    ]
    .into_iter()
    .enumerate()
    {
        let raw = image(&tensors, &format!("image_raw.{i}")).unwrap();
        let want = image(&tensors, &format!("image_resized.{i}")).unwrap();
        let resized = resize(&raw, want.height, want.width);
        assert!(resized == want, "image {i} differs");
        let pixels = tiny().pixel_rows(&raw).unwrap();
        assert_eq!(pixels.grid, tiny().grid(&raw).unwrap());
        assert_eq!(pixels.grid, grid);
        rows.extend(pixels.rows);
    }
    let want = floats(&tensors, "pixel_values");
    assert_eq!(rows.len(), want.len());
    let worst = rows
        .iter()
        .zip(&want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst <= 1e-6, "largest difference {worst:e}");
}

#[test]
fn sides_become_multiples_of_thirty_two_within_the_limits() {
    for (limits, from, to) in [
        (STOCK, (256, 256), (256, 256)),
        (STOCK, (256, 320), (256, 320)),
        (STOCK, (200, 200), (256, 256)),
        (STOCK, (84, 84), (256, 256)),
        (POST_TRAINING, (480, 640), (256, 320)),
        (POST_TRAINING, (144, 192), (128, 192)),
        (POST_TRAINING, (200, 200), (192, 192)),
        (POST_TRAINING, (84, 84), (96, 96)),
        // The slow processor's own: what CALVIN's cameras become.
        (ImageLimits::default(), (200, 200), (192, 192)),
        (ImageLimits::default(), (84, 84), (96, 96)),
        // Halves go to the even multiple.
        (ImageLimits::default(), (80, 112), (64, 128)),
    ] {
        assert_eq!(
            smart_resize(from.0, from.1, 32, limits).unwrap(),
            to,
            "{from:?}"
        );
    }
}

/// What cameras of high resolution become: size, limits, size behind the resize, image tokens.
#[test]
fn large_frames_have_the_size_and_the_tokens_of_the_reference() {
    for ((height, width), limits, (rows, columns), tokens) in [
        ((720, 1280), ImageLimits::default(), (704, 1280), 880),
        ((1080, 1920), ImageLimits::default(), (736, 1312), 943),
        ((720, 1280), POST_TRAINING, (224, 384), 84),
        ((1080, 1920), POST_TRAINING, (224, 384), 84),
        ((480, 640), POST_TRAINING, (256, 320), 80),
        // A budget of tokens is a limit of as many merged cells.
        ((720, 1280), budget(84), (192, 384), 72),
        ((256, 256), budget(64), (256, 256), 64),
    ] {
        let resized = smart_resize(height, width, 32, limits).unwrap();
        assert_eq!(resized, (rows, columns), "{height} x {width}");
        assert_eq!(rows * columns / (32 * 32), tokens, "{height} x {width}");
    }
}

fn budget(tokens: usize) -> ImageLimits {
    ImageLimits {
        min_pixels: 1024,
        max_pixels: tokens * 32 * 32,
    }
}

/// The limits of a view take the place of the checkpoint's, for the grid and for the pixels.
#[test]
fn a_view_may_have_limits_of_its_own() {
    let raw = RgbImage::new(200, 200, vec![7; 200 * 200 * 3]).unwrap();
    let own = tiny().pixel_rows(&raw).unwrap();
    assert_eq!(tiny().pixel_rows_within(&raw, None).unwrap(), own);
    let side = |limits| {
        let rows = tiny().pixel_rows_within(&raw, Some(limits)).unwrap();
        assert_eq!(rows.grid, tiny().grid_within(&raw, Some(limits)).unwrap());
        (rows.grid.rows, rows.grid.columns)
    };
    assert_eq!(side(budget(9)), (6, 6));
    assert_eq!(side(STOCK), (16, 16));
}

#[test]
fn an_image_of_absurd_size_or_shape_is_refused() {
    let size = |height, width| smart_resize(height, width, 32, STOCK);
    assert!(size(1, 200).is_ok());
    assert!(size(200, 1).is_ok());
    assert!(size(8192, 8192).is_ok());
    for (height, width) in [
        (1, 201),
        (201, 1),
        (0, 4),
        (4, 0),
        (8193, 8192),
        (usize::MAX, 2),
        (usize::MAX, usize::MAX),
    ] {
        assert!(size(height, width).is_err(), "{height} x {width} was taken");
    }
    assert!(smart_resize(64, 64, 0, STOCK).is_err());
}

#[test]
fn patches_come_in_blocks_of_a_merged_token() {
    let order: Vec<_> = merge_order(
        Grid {
            rows: 2,
            columns: 4,
        },
        2,
    )
    .collect();
    assert_eq!(
        order,
        [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
            (0, 2),
            (0, 3),
            (1, 2),
            (1, 3)
        ]
    );
}

#[test]
#[expect(clippy::float_cmp, reason = "black and white are exactly -1 and 1")]
fn a_patch_row_is_colour_then_frame_then_row_then_column() {
    let config = with(&json!({"min_pixels": 1})).unwrap();
    let mut image = RgbImage::new(32, 64, vec![0; 32 * 64 * 3]).unwrap();
    // Green of the pixel in row 17, column 34: patch (1, 2), the seventh; inside it (1, 2).
    image.pixels[(17 * 64 + 34) * 3 + 1] = 255;
    let (rows, width) = (config.pixel_rows(&image).unwrap().rows, config.row_width());
    assert_eq!(width, 3 * 2 * 16 * 16);
    let lit: Vec<_> = (0..rows.len()).filter(|i| rows[*i] == 1.0).collect();
    let first = 6 * width + 2 * 256 + 16 + 2;
    assert_eq!(lit, [first, first + 256]);
    assert_eq!(
        rows.iter().filter(|value| **value == -1.0).count(),
        rows.len() - 2
    );
}

#[test]
fn an_image_must_have_three_bytes_for_each_pixel() {
    assert!(RgbImage::new(2, 2, vec![0; 12]).is_ok());
    let error = RgbImage::new(2, 2, vec![0; 11]).unwrap_err().to_string();
    assert_eq!(error, "an image of 2 x 2 pixels needs 12 bytes, it has 11");
    let lie = RgbImage {
        height: 64,
        width: 64,
        pixels: vec![0; 3],
    };
    assert!(tiny().pixel_rows(&lie).is_err());
    assert!(tiny().grid(&lie).is_err());
}

#[test]
fn the_size_entry_is_ignored_and_explicit_limits_are_not() {
    assert_eq!(
        tiny().limits,
        ImageLimits {
            min_pixels: 3136,
            max_pixels: 1_003_520
        }
    );
    let limits = with(&json!({"min_pixels": 9000, "max_pixels": null}))
        .unwrap()
        .limits;
    assert_eq!(
        limits,
        ImageLimits {
            min_pixels: 9000,
            max_pixels: 1_003_520
        }
    );
}

#[test]
fn the_chunk_length_is_the_number_of_rows_of_the_robot_type() {
    let types = tiny().robot_types;
    let lengths: Vec<_> = types
        .iter()
        .map(|(name, table)| (name.as_str(), table.horizon()))
        .collect();
    assert_eq!(lengths, [("tiny_all", 10), ("tiny_short", 4)]);
    assert_eq!(
        types["tiny_all"].mask()[..8],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    );
}

#[test]
fn a_table_may_be_one_row_or_missing() {
    let row: Vec<_> = (0..8).map(f64::from).collect();
    let types = with(&json!({"action_config": {
        "one_row": {"mean": row, "std": row},
        "bare": {},
        "mixed": {"mean": row, "std": [row, row, row]},
    }}))
    .unwrap()
    .robot_types;
    assert_eq!(types["one_row"].horizon(), 10);
    assert_eq!(
        types["one_row"].std()[72..],
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    );
    assert_eq!(
        (types["bare"].mean()[79], types["bare"].std()[79]),
        (0.0, 1.0)
    );
    assert_eq!(
        (types["mixed"].horizon(), types["mixed"].mean()[23]),
        (3, 7.0)
    );
}

#[test]
fn everything_wrong_is_named_at_once() {
    let row = [1.0; 8];
    let faults = with(&json!({
        "patch_size": 14,
        "min_pixels": 0,
        "image_std": [0.5, 0.0, 0.5],
        "resample": 2,
        "rescale_factor": 1.0,
        "do_resize": false,
        "action_config": {
            "narrow": {"mean": [[1.0]], "std": [[1.0]]},
            "short": {"mean": [row], "std": [row, row]},
            "words": {"std": "none"},
            "empty": {"std": []},
            "negative": {"std": -1.0},
            "huge": {"mean": [1e39, 0, 0, 0, 0, 0, 0, 0]},
            "good": {"std": row},
        },
    }))
    .unwrap_err();
    let begins: Vec<_> = faults
        .iter()
        .map(|fault| &fault[..14.min(fault.len())])
        .collect();
    assert_eq!(faults.len(), 12, "{faults:#?}");
    assert!(begins.contains(&"patch_size is "), "{faults:#?}");
    assert!(
        !faults.iter().any(|fault| fault.contains("good")),
        "{faults:#?}"
    );
}

#[test]
fn a_missing_key_is_named() {
    let faults = PreprocessorConfig::parse(r#"{"image_mean": [0, 0, 0]}"#, &network()).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("image_std"), "{faults:?}");
}

proptest! {
    /// The upper limit yields only where a side would become less than one factor.
    #[test]
    fn sides_are_multiples_of_the_factor_and_within_the_limits(
        height in 1_usize..3000,
        width in 1_usize..3000,
        factor in 1_usize..64,
        min in 1_usize..100_000,
        more in 0_usize..1_000_000,
    ) {
        // A band so narrow that no multiple lies in it cannot be kept.
        let limits = ImageLimits { min_pixels: min, max_pixels: 4 * min + 400 * factor * factor + more };
        match smart_resize(height, width, factor, limits) {
            Ok((rows, columns)) => {
                prop_assert_eq!((rows % factor, columns % factor), (0, 0));
                prop_assert!(min <= rows * columns || limits.max_pixels < height * width);
                let at_the_floor = rows == factor || columns == factor;
                prop_assert!(rows * columns <= limits.max_pixels || at_the_floor);
            }
            Err(_) => prop_assert!(200 * height.min(width) < height.max(width)),
        }
    }
}
