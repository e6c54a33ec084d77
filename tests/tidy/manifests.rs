//! Rules about manifests: which crate may see what.

use toml::{Table, Value};

use crate::tree::SourceFile;

/// What each package may depend on among ours. The root composes, so it may see every one.
const ARROWS: &[(&str, &[&str])] = &[
    ("vlad-safety", &[]),
    ("vlad-xr0", &[]),
    ("vlad-wire", &["vlad-safety"]),
    ("vlad-task", &["vlad-wire"]),
    ("vlad-bus", &["vlad-wire"]),
    ("vlad-cell", &["vlad-safety", "vlad-wire"]),
    ("vlad-motion", &["vlad-safety", "vlad-wire"]),
    ("vlad-store", &["vlad-task", "vlad-wire"]),
    (
        "vlad-sim",
        &["vlad-cell", "vlad-motion", "vlad-safety", "vlad-wire"],
    ),
    (
        "vlad-actors",
        &[
            "vlad-bus",
            "vlad-cell",
            "vlad-motion",
            "vlad-safety",
            "vlad-store",
            "vlad-task",
            "vlad-wire",
            "vlad-xr0",
        ],
    ),
];

/// Arrows that only tests may use. Tests of the actors move the demo cell's arms.
const TEST_ARROWS: &[(&str, &str)] = &[("vlad-actors", "vlad-sim")];

/// The package that composes the others.
const ROOT: &str = "vlad";

/// Dependencies that exactly one crate may see, so that replacing one touches one crate.
const WALLS: &[&str] = &[
    "axum",
    "candle-core",
    "candle-nn",
    "clap",
    "config",
    "ractor",
    "rapier3d",
    "rusqlite",
    "sled",
    "tokenizers",
    "zenoh",
];

/// A dependency as a manifest names it.
#[derive(Debug)]
struct Dependency {
    package: String,
    for_tests: bool,
    inherited: bool,
}

/// Gives the arrows as ARCHITECTURE.md holds them.
pub(crate) fn arrows() -> String {
    let line = |(package, allowed): &(&str, &[&str])| {
        let seen = if allowed.is_empty() {
            "nothing".to_owned()
        } else {
            allowed.join(", ")
        };
        format!("{package} → {seen}\n")
    };
    ARROWS.iter().map(line).collect()
}

/// Dependencies among our packages that the table does not allow.
pub(crate) fn wrong_arrows(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for (package, dependencies) in manifests(files).filter(|(package, _)| package != ROOT) {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
            found.push(format!("{package}: has no row in the table of arrows"));
            continue;
        };
        for dependency in dependencies {
            let name = dependency.package.as_str();
            let ours = name == ROOT || name.starts_with("vlad-");
            let in_tests = dependency.for_tests && TEST_ARROWS.contains(&(package.as_str(), name));
            if ours && !allowed.contains(&name) && !in_tests {
                found.push(format!("{package} → {name}: no such arrow"));
            }
        }
    }
    found
}

/// Heavy dependencies that no crate or more than one names.
pub(crate) fn broken_walls(files: &[SourceFile]) -> Vec<String> {
    let all: Vec<_> = manifests(files).collect();
    let mut found = Vec::new();
    for wall in WALLS {
        let behind = all.iter().filter(|(_, dependencies)| {
            dependencies
                .iter()
                .any(|dependency| dependency.package == *wall)
        });
        let behind: Vec<_> = behind.map(|(package, _)| package.as_str()).collect();
        if behind.len() != 1 {
            found.push(format!("{wall}: named by {behind:?}, must be one package"));
        }
    }
    found
}

/// Dependencies that do not inherit from the workspace's table.
pub(crate) fn stray_versions(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for (package, dependencies) in manifests(files) {
        for dependency in dependencies
            .iter()
            .filter(|dependency| !dependency.inherited)
        {
            let name = &dependency.package;
            found.push(format!(
                "{package}: {name} must be inherited (workspace = true)"
            ));
        }
    }
    found
}

/// Each package with what its manifest names.
fn manifests(files: &[SourceFile]) -> impl Iterator<Item = (String, Vec<Dependency>)> {
    let named = files
        .iter()
        .filter(|file| file.path.split('/').next_back() == Some("Cargo.toml"));
    named.filter_map(|file| {
        let manifest: Table = file
            .text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", file.path));
        let package = manifest.get("package")?.get("name")?.as_str()?.to_owned();
        let mut dependencies = of_sections(&manifest);
        let targets = manifest.get("target").and_then(Value::as_table);
        for target in targets
            .into_iter()
            .flat_map(Table::values)
            .filter_map(Value::as_table)
        {
            dependencies.extend(of_sections(target));
        }
        Some((package, dependencies))
    })
}

fn of_sections(manifest: &Table) -> Vec<Dependency> {
    let mut found = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let table = manifest.get(section).and_then(Value::as_table);
        for (key, value) in table.into_iter().flatten() {
            let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
            found.push(Dependency {
                package: package.to_owned(),
                for_tests: section == "dev-dependencies",
                inherited: value.get("workspace").and_then(Value::as_bool) == Some(true),
            });
        }
    }
    found
}

fn manifest(package: &str, rest: &str) -> SourceFile {
    let text = format!("[package]\nname = \"{package}\"\n{rest}");
    SourceFile::sample(&format!("{package}/Cargo.toml"), &text)
}

#[test]
fn every_package_of_the_table_exists() {
    let packages: Vec<_> = manifests(crate::tree::files())
        .map(|(package, _)| package)
        .collect();
    for (package, _) in ARROWS {
        assert!(packages.iter().any(|found| found == package), "{package}");
    }
}

#[test]
fn the_table_of_arrows_has_no_cycle() {
    for (i, (package, allowed)) in ARROWS.iter().enumerate() {
        let above = ARROWS
            .iter()
            .take(i)
            .map(|(name, _)| *name)
            .collect::<Vec<_>>();
        assert!(allowed.iter().all(|name| above.contains(name)), "{package}");
    }
}

#[test]
fn an_arrow_that_is_not_in_the_table_is_refused() {
    let wire = |rest| wrong_arrows(&[manifest("vlad-wire", rest)]);
    assert!(
        wire("[dependencies]\nvlad-safety.workspace = true\nserde.workspace = true").is_empty()
    );
    assert_eq!(wire("[dependencies]\nvlad-bus.workspace = true").len(), 1);
    assert_eq!(wire("[dependencies]\nvlad.workspace = true").len(), 1);
    assert_eq!(
        wire("[dev-dependencies]\nvlad-bus.workspace = true").len(),
        1
    );
    assert_eq!(
        wire("[target.'cfg(unix)'.dependencies]\nvlad-bus.workspace = true").len(),
        1
    );
    assert_eq!(
        wire("[dependencies]\nx = { workspace = true, package = \"vlad-bus\" }").len(),
        1
    );
    assert_eq!(wrong_arrows(&[manifest("vlad-new", "")]).len(), 1);
}

#[test]
fn an_arrow_of_tests_is_none_of_the_code() {
    let actors = |rest| wrong_arrows(&[manifest("vlad-actors", rest)]);
    assert!(actors("[dev-dependencies]\nvlad-sim.workspace = true").is_empty());
    assert_eq!(actors("[dependencies]\nvlad-sim.workspace = true").len(), 1);
}

#[test]
fn a_wall_stands_in_one_package() {
    let all = WALLS.join(".workspace = true\n");
    let whole = manifest("vlad", &format!("[dependencies]\n{all}.workspace = true"));
    assert!(broken_walls(std::slice::from_ref(&whole)).is_empty());
    let second = manifest("vlad-bus", "[dev-dependencies]\nzenoh.workspace = true");
    assert_eq!(broken_walls(&[whole, second]).len(), 1);
    assert_eq!(broken_walls(&[]).len(), WALLS.len());
}

#[test]
fn a_version_outside_the_workspace_table_is_refused() {
    let one = |rest| stray_versions(&[manifest("vlad-bus", rest)]).len();
    assert_eq!(one("[dependencies]\nbytes = \"1\""), 1);
    assert_eq!(one("[dependencies]\nbytes = { version = \"1\" }"), 1);
    assert_eq!(
        one("[dependencies]\nbytes = { workspace = true, features = [\"serde\"] }"),
        0
    );
}
