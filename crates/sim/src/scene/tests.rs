use super::*;

pub(crate) const CELL: &str = include_str!("../../../../config/cells/demo.toml");

fn table() -> toml::Table {
    let mut file: toml::Table = CELL.parse().unwrap();
    match file.remove("scene") {
        Some(toml::Value::Table(table)) => table,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_shipped_scene_parses_and_checks() {
    let scene = Scene::parse(table()).unwrap();
    assert_eq!(scene.toml().blocks.len(), 4);
    assert_eq!(scene.toml().trays.len(), 2);
}

const BAD: &[(&str, &str, &str)] = &[
    ("seed = 1", "seed = -1", "scene.seed"),
    ("seed = 1", "seed = 1\nsaed = 2", "scene.saed"),
    ("seed = 1", "", "scene"),
    ("height_m = 0.72", "height_m = nan", "scene.table.height_m"),
    (
        "height_m = 0.72",
        "height_m = \"x\"",
        "scene.table.height_m",
    ),
    (
        "size_m = [0.84, 1.30]",
        "size_m = [0.84, 9.0]",
        "scene.table.size_m",
    ),
    (
        "x_m = [0.23, 0.41]",
        "x_m = [0.41, 0.23]",
        "scene.spawn.x_m",
    ),
    ("x_m = [0.23, 0.41]", "x_m = [0.23, 4.1]", "scene.spawn"),
    ("y_m = [-0.15, 0.15]", "y_m = [-0.15, 0.35]", "scene.spawn"),
    ("spacing_m = 0.09", "spacing_m = 0.3", "scene.spawn"),
    (
        "spacing_m = 0.09",
        "spacing_m = 0.05",
        "scene.blocks[0].size_m",
    ),
    (
        "colour = \"blue\"",
        "colour = \"red\"",
        "scene.blocks[2].colour",
    ),
    (
        "colour = \"blue\"",
        "colour = \"bleu\"",
        "scene.blocks[2].colour",
    ),
    (
        "name = \"green_block\"",
        "name = \"red_block\"",
        "scene.blocks[1].name",
    ),
    (
        "name = \"green_block\"",
        "name = \"Green\"",
        "scene.blocks[1].name",
    ),
    ("mass_kg = 0.06", "mass_kg = 0.0", "scene.blocks[0].mass_kg"),
    (
        "friction = 0.9",
        "friction = -0.9",
        "scene.blocks[0].friction",
    ),
    ("size_m = 0.04", "size_m = 0.4", "scene.blocks[0].size_m"),
    ("side = \"right\"", "side = \"left\"", "scene.trays[1].side"),
    (
        "centre_m = [0.27, 0.37]",
        "centre_m = [0.27, 0.6]",
        "scene.trays[0].centre_m",
    ),
    (
        "centre_m = [0.27, -0.37]",
        "centre_m = [0.27, 0.36]",
        "scene.trays[1].centre_m",
    ),
    (
        "wall_height_m = 0.03",
        "wall_height_m = 1.0",
        "scene.trays[0].wall_height_m",
    ),
];

/// Each line of the table changes one text of the shipped file, and names the field that must be blamed.
#[test]
fn a_bad_scene_is_refused_with_the_path_of_its_field() {
    for &(from, to, field) in BAD {
        assert!(CELL.contains(from), "{from}");
        let file: toml::Table = CELL.replacen(from, to, 1).parse().unwrap();
        let error = Scene::parse(file["scene"].clone()).unwrap_err();
        assert_eq!(error.field, field, "{to}: {error}");
    }
}

#[test]
fn blocks_keep_their_spacing_and_their_region() {
    let scene = Scene::parse(table()).unwrap();
    let SpawnToml {
        x_m,
        y_m,
        spacing_m,
    } = scene.toml().spawn.clone();
    for seed in 0..200 {
        let poses = scene.place_blocks(seed).unwrap();
        for (idx, pose) in poses.iter().enumerate() {
            let [x, y, _] = pose.position_m;
            assert!(x_m[0] <= x && x <= x_m[1] && y_m[0] <= y && y <= y_m[1]);
            for other in &poses[..idx] {
                let apart = (x - other.position_m[0]).hypot(y - other.position_m[1]);
                assert!(spacing_m <= apart, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_seed_gives_one_scene_and_another_seed_another() {
    let scene = Scene::parse(table()).unwrap();
    assert_eq!(scene.place_blocks(7), scene.place_blocks(7));
    assert_ne!(scene.place_blocks(7), scene.place_blocks(8));
}
