//! The repository's rules, as tests.
//!
//! Each rule is a pure function from files to a list of what breaks it; beside it stands a sample
//! that it must refuse. Here the rules meet the tree.
//!
//! | module | rules about |
//! |---|---|
//! | [`code`] | length, contracts, key expressions, the one holder of an envelope, unfinished code |
//! | [`manifests`] | arrows between crates, walls around heavy dependencies, one home of versions |
//! | [`documents`] | links, named files and tests, first commands, words that belong elsewhere |
//! | [`tree`] | how the tree is read |
#![cfg(test)]

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/tree.rs"]
mod tree;

use vlad_wire::stream::{CellRates, markdown};

use tree::{SourceFile, files, text_of};

/// Entries that the root may have; a new one needs a place in the code map too.
const TOP: &[&str] = &[
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SAFETY.md",
    "actors",
    "benches",
    "checkpoints",
    "clients",
    "clippy.toml",
    "config",
    "crates",
    "deny.toml",
    "docs",
    "examples",
    "justfile",
    "migrations",
    "ops",
    "rustfmt.toml",
    "src",
    "tests",
];

/// What a clone may cost: anything larger belongs beside the repository.
const BYTES_MAX: u64 = 1 << 20;

#[track_caller]
fn clean(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn the_tree_is_seen() {
    let has = |path: &str| files().iter().any(|file| file.path == path);
    assert!(has("Cargo.toml") && has("tests/tidy.rs") && has("crates/wire/src/stream.rs"));
}

#[test]
fn no_file_is_too_long() {
    clean(&code::too_long(files()));
}

#[test]
fn modules_are_named_after_their_folder() {
    clean(&code::mod_files(files()));
}

#[test]
fn every_module_opens_with_its_contract() {
    clean(&code::without_contract(files()));
}

#[test]
fn keys_are_spelled_in_the_streams_table_alone() {
    clean(&code::stray_keys(files()));
}

#[test]
fn the_guard_alone_holds_an_envelope() {
    clean(&code::holders_of_an_envelope(files()));
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    clean(&code::unfinished(files()));
}

#[test]
fn arrows_between_crates_point_down() {
    clean(&manifests::wrong_arrows(files()));
}

#[test]
fn heavy_dependencies_live_behind_one_crate() {
    clean(&manifests::broken_walls(files()));
}

#[test]
fn versions_stand_in_the_workspace_table() {
    clean(&manifests::stray_versions(files()));
}

#[test]
fn links_resolve() {
    clean(&documents::dead_links(files()));
}

#[test]
fn documents_name_files_that_exist() {
    clean(&documents::missing_files(files()));
}

#[test]
fn each_hazard_names_its_test() {
    clean(&documents::unproven_hazards(text_of("SAFETY.md"), files()));
}

#[test]
fn the_repository_speaks_of_itself_alone() {
    clean(&documents::foreign_words(files()));
}

#[test]
fn the_root_holds_what_the_code_map_names() {
    clean(&strange_entries(files()));
}

#[test]
fn no_file_is_too_large() {
    clean(&too_large(files()));
}

#[test]
fn every_shipped_setting_is_toml() {
    clean(&unreadable_settings(files()));
}

#[test]
fn the_architecture_holds_the_streams_table() {
    let table = markdown(&CellRates::NOMINAL);
    let holds = text_of("ARCHITECTURE.md").contains(&table);
    assert!(
        holds,
        "ARCHITECTURE.md must hold this text (vlad cell streams):\n{table}"
    );
}

#[test]
fn the_architecture_holds_the_arrows() {
    let arrows = manifests::arrows();
    let holds = text_of("ARCHITECTURE.md").contains(&arrows);
    assert!(holds, "ARCHITECTURE.md must hold this text:\n{arrows}");
}

#[test]
fn the_readme_opens_with_commands_that_work() {
    let commands = documents::first_commands(text_of("README.md"));
    let starts = |wanted: &str| commands.iter().any(|line| line.starts_with(wanted));
    assert!(starts("cargo run --release"), "{commands:?}");
    assert!(starts("cargo test --workspace"), "{commands:?}");
    assert!(text_of("Cargo.toml").contains("default-run = \"vlad\""));
    assert!(text_of(".ci/run").contains("cargo test --workspace --locked"));
}

#[test]
fn the_readme_names_the_oldest_toolchain() {
    let root: toml::Table = text_of("Cargo.toml").parse().unwrap();
    let oldest = root["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap();
    assert!(
        text_of("README.md").contains(&format!("({oldest} or newer)")),
        "{oldest}"
    );
}

#[cfg(unix)]
#[test]
fn the_check_can_be_run() {
    use std::os::unix::fs::PermissionsExt;

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run");
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "{mode:o}");
}

fn strange_entries(files: &[SourceFile]) -> Vec<String> {
    let mut strange: Vec<_> = files
        .iter()
        .filter_map(|file| file.path.split('/').next())
        .filter(|entry| !TOP.contains(entry))
        .map(|entry| format!("{entry}: not an entry of the root"))
        .collect();
    strange.sort();
    strange.dedup();
    strange
}

fn too_large(files: &[SourceFile]) -> Vec<String> {
    let large = files.iter().filter(|file| BYTES_MAX < file.bytes);
    large
        .map(|file| format!("{}: {} bytes, at most {BYTES_MAX}", file.path, file.bytes))
        .collect()
}

fn unreadable_settings(files: &[SourceFile]) -> Vec<String> {
    let settings = files
        .iter()
        .filter(|file| file.path.starts_with("config/") && file.has_ending("toml"));
    settings
        .filter_map(|file| {
            let error = file.text.parse::<toml::Table>().err()?;
            Some(format!("{}: {error}", file.path))
        })
        .collect()
}

#[test]
fn a_strange_entry_is_refused_once() {
    let tree = [
        SourceFile::sample("src/main.rs", ""),
        SourceFile::sample("attic/a.rs", ""),
        SourceFile::sample("attic/b.rs", ""),
    ];
    assert_eq!(strange_entries(&tree).len(), 1);
}

#[test]
fn a_large_file_is_refused() {
    let mut file = SourceFile::sample("docs/film.gif", "");
    file.bytes = BYTES_MAX;
    assert!(too_large(std::slice::from_ref(&file)).is_empty());
    file.bytes += 1;
    assert_eq!(too_large(&[file]).len(), 1);
}

#[test]
fn a_setting_that_is_no_toml_is_refused() {
    let tree = [
        SourceFile::sample("config/default.toml", "a = 1"),
        SourceFile::sample("config/cells/odd.toml", "a = = 1"),
        SourceFile::sample("config/README.md", "a = = 1"),
    ];
    assert_eq!(unreadable_settings(&tree).len(), 1);
}
