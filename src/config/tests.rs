use super::*;

fn load(sets: &[&str]) -> Result<Config, ConfigError> {
    let sets = sets.iter().map(ToString::to_string).collect();
    Config::load(&Sources {
        sets,
        ..Sources::default()
    })
}

#[test]
fn the_shipped_settings_make_the_demo_cell() {
    let config = load(&[]).unwrap();
    assert_eq!(config.cells.len(), 1);
    let cell = &config.cells[0];
    assert_eq!(cell.cell.name.as_str(), "demo");
    assert_eq!((cell.robot.n_dofs(), cell.robot.cameras().len()), (14, 3));
    let robot_type = &cell.robot.toml().robot_type;
    assert_eq!((robot_type.width, robot_type.horizon), (32, 30));
}

fn load_twogate(sets: &[&str]) -> Result<Config, ConfigError> {
    let sets = [&["daemon.policy=twogate"][..], sets].concat();
    Config::load(&Sources {
        cells: vec!["twogate".to_owned()],
        sets: sets.iter().map(ToString::to_string).collect(),
        ..Sources::default()
    })
}

#[test]
fn the_shipped_settings_make_the_cell_of_twogate() {
    let config = load_twogate(&["twogate.seed=7"]).unwrap();
    let cell = &config.cells[0];
    assert_eq!(cell.cell.kind, CellKind::TwoGate);
    assert_eq!((cell.robot.n_dofs(), cell.robot.cameras().len()), (2, 1));
    assert!(cell.scenery.table().is_none());
    assert!(matches!(
        cell.scenery,
        Scenery::TwoGate(TwoGateToml { seed: 7 })
    ));
}

#[test]
fn a_cell_of_twogate_is_refused_what_it_cannot_be() {
    for (set, key, reason) in [
        (
            "daemon.policy=scripted",
            "daemon.policy",
            "--policy twogate",
        ),
        ("scene.seed=1", "scene", "missing field"),
        (
            "cell.world=unix:/run/vlad/world.sock",
            "cell.world",
            "in-process",
        ),
        ("twogate.seed=-1", "twogate.seed", "invalid"),
        ("twogate.goal=1", "twogate", "unknown field"),
        ("cell.kind=sim", "scene", "missing"),
    ] {
        let error = load_twogate(&[set]).unwrap_err();
        assert!(error.key.starts_with(key), "{set}: {error}");
        assert!(error.problem.contains(reason), "{set}: {error}");
    }
}

#[test]
fn every_shipped_file_is_compiled_in() {
    let count = |folder: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(folder);
        let files = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
            .count()
    };
    assert_eq!(count("robots"), ROBOTS.len());
    assert_eq!(count("cells"), CELLS.len());
    for (name, text) in ROBOTS.iter().chain(CELLS) {
        assert!(Layer::parse(name, text).is_ok(), "{name}");
    }
}

#[test]
fn a_later_layer_wins_and_is_named() {
    let config = load(&["guard.think_timeout_ms=3000", "guard.think_timeout_ms=4000"]).unwrap();
    let cell = &config.cells[0];
    assert_eq!(cell.guard.think_timeout_ms, 4000);
    let layer_of = |wanted: &str| {
        let found = cell.merged.keys().find(|(key, _, _)| *key == wanted);
        found.map(|(_, _, layer)| layer.to_owned())
    };
    assert_eq!(
        layer_of("guard.think_timeout_ms").as_deref(),
        Some("--set guard.think_timeout_ms=4000")
    );
    assert_eq!(
        layer_of("guard.unfit_timeout_ms").as_deref(),
        Some("config/default.toml")
    );
    assert_eq!(
        layer_of("guard.heartbeat_missed_max").as_deref(),
        Some("config/cells/demo.toml")
    );
    assert_eq!(
        layer_of("robot.servo_hz").as_deref(),
        Some("config/robots/demo-dual-arm.toml")
    );
}

#[test]
fn what_is_wrong_is_named_with_layer_key_and_reason() {
    let rows = [
        (
            "guard.think_timeout_ms=5",
            "guard.think_timeout_ms",
            "50 to 60000",
        ),
        ("guard.reset_after_ms=10", "guard.reset_after_ms", "500"),
        (
            "guard.first_command_rad=1.0",
            "guard.first_command_rad",
            "0.2",
        ),
        ("guard.typo=1", "guard", "unknown field"),
        ("typo.key=1", "typo", "unknown field"),
        ("expert.strategy=sideways", "expert.strategy", "sideways"),
        (
            "expert.context_timeout_ms=2500",
            "expert.context_timeout_ms",
            "think_timeout_ms",
        ),
        ("perception.stale_ms=1", "perception.stale_ms", "20 to 5000"),
        ("daemon.bind=0.0.0.0:8640", "daemon.bind", "loopback"),
        ("daemon.bind=nonsense", "daemon.bind", "address and a port"),
        ("daemon.policy=oracle", "daemon.policy", "scripted"),
        ("daemon.cells=[]", "daemon.cells", "at least one"),
        ("robot.servo_hz=1", "robot.servo_hz", "50 and 2000"),
        ("robot.policy_hz=31", "robot.policy_hz", "divide"),
        ("cell.kind=real", "cell.kind", "real"),
        ("daemon.policy=twogate", "daemon.policy", "--cell twogate"),
        ("twogate.seed=1", "twogate", "kind twogate"),
        ("cell.name=Not_A_Name", "cell.name", "letter"),
    ];
    for (set, key, reason) in rows {
        let error = load(&[set]).unwrap_err();
        assert_eq!(error.layer, format!("--set {set}"), "{error}");
        assert!(error.key.starts_with(key), "{set}: {error}");
        assert!(error.problem.contains(reason), "{set}: {error}");
    }
}

#[test]
fn a_set_that_is_no_setting_is_refused() {
    for bad in ["guard", "=1", ".a=1", "a b=1", "a..b=1"] {
        assert!(load(&[bad]).is_err(), "{bad}");
    }
}

#[test]
fn an_unknown_cell_or_file_is_refused_by_name() {
    for (name, layer, key) in [
        ("nowhere", "--cell", "nowhere"),
        ("/no/such/file.toml", "/no/such/file.toml", "-"),
    ] {
        let sources = Sources {
            cells: vec![name.to_owned()],
            ..Sources::default()
        };
        let error = Config::load(&sources).unwrap_err();
        assert_eq!((error.layer.as_str(), error.key.as_str()), (layer, key));
    }
    let twice = vec!["demo".to_owned(), "demo".to_owned()];
    let error = Config::load(&Sources {
        cells: twice,
        ..Sources::default()
    })
    .unwrap_err();
    assert_eq!(error.key, "cell.name");
}

#[test]
fn a_value_of_another_type_is_refused_even_if_it_could_be_read() {
    for (set, key) in [
        ("cell.arm_at_start=1.5", "cell.arm_at_start"),
        ("guard.overrun_max=\"3\"", "guard.overrun_max"),
        ("guard.overrun_max=3.0", "guard.overrun_max"),
    ] {
        let error = load(&[set]).unwrap_err();
        assert_eq!(
            (error.layer, error.key),
            (format!("--set {set}"), key.to_owned())
        );
    }
    assert!(
        load(&["robot.servo_hz=240"]).is_ok(),
        "a whole number is a number"
    );
}
