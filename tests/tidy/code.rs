//! Rules about Rust files.

use crate::tree::SourceFile;

/// Longest file, in lines: what a reader can hold.
const LINES_MAX: usize = 600;
/// Tables that may be longer, each with its reason.
const LONG_TABLES: &[(&str, &str)] = &[];
/// Where key expressions are spelled.
const KEYS_HOME: &str = "crates/wire/src/stream.rs";
/// Where the one envelope of a robot is made.
const ENVELOPE_HOME: &str = "actors/src/actuator/guard.rs";
/// Beginnings of a key expression. Parts, so that this file does not break its own rule.
const KEYS: [&str; 2] = [concat!("vlad", "/{"), concat!("\"vlad", "/")];
/// What no code that lands may hold.
const UNFINISHED: [&str; 7] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("#[should", "_panic"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("db", "g!("),
];

fn rust(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    files.iter().filter(|file| file.has_ending("rs"))
}

/// Files with more lines than a reader can hold.
pub(crate) fn too_long(files: &[SourceFile]) -> Vec<String> {
    let long = rust(files).filter_map(|file| {
        let lines = file.text.lines().count();
        let exempt = LONG_TABLES.iter().any(|(path, _)| *path == file.path);
        (LINES_MAX < lines && !exempt).then(|| {
            format!(
                "{}: {lines} lines, at most {LINES_MAX}: split it",
                file.path
            )
        })
    });
    long.collect()
}

/// Files that hide their module's name.
pub(crate) fn mod_files(files: &[SourceFile]) -> Vec<String> {
    let found = files
        .iter()
        .filter(|file| file.path.split('/').next_back() == Some("mod.rs"));
    found
        .map(|file| format!("{}: name it after its folder, beside it", file.path))
        .collect()
}

/// Modules that do not say what they are for.
pub(crate) fn without_contract(files: &[SourceFile]) -> Vec<String> {
    let found = files
        .iter()
        .filter(|file| file.is_shipped_code() && !file.text.starts_with("//!"));
    found
        .map(|file| format!("{}: must open with its contract (//!)", file.path))
        .collect()
}

/// Key expressions outside the streams table.
pub(crate) fn stray_keys(files: &[SourceFile]) -> Vec<String> {
    let elsewhere = rust(files).filter(|file| file.path != KEYS_HOME);
    lines_with(
        elsewhere,
        &KEYS,
        "keys are spelled in the streams table alone",
    )
}

/// Whatever names the safety crate's `Envelope` outside of it, but the guard, which makes one.
///
/// There are no re-exports, so a file that holds an envelope names its type.
pub(crate) fn holders_of_an_envelope(files: &[SourceFile]) -> Vec<String> {
    let outside = files
        .iter()
        .filter(|file| file.is_shipped_code() && !file.path.starts_with("crates/safety/"));
    let mut made = 0;
    let mut found = Vec::new();
    for file in outside {
        for (number, line) in file
            .code_lines()
            .filter(|(_, line)| has_word(line, "Envelope"))
        {
            if file.path == ENVELOPE_HOME {
                made += line.matches("Envelope::new(").count();
            } else {
                found.push(format!(
                    "{}:{number}: only the guard may hold an envelope",
                    file.path
                ));
            }
        }
    }
    if made != 1 {
        found.push(format!(
            "{ENVELOPE_HOME}: makes {made} envelopes, must be one"
        ));
    }
    found
}

/// Code that says of itself that it is not done, and tests that do not run.
pub(crate) fn unfinished(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust(files) {
        for (i, line) in file.text.lines().enumerate() {
            let words = UNFINISHED.iter().filter(|word| line.contains(**word));
            found.extend(words.map(|word| format!("{}:{}: {word}", file.path, i + 1)));
        }
    }
    found
}

fn lines_with<'a>(
    files: impl Iterator<Item = &'a SourceFile>,
    needles: &[&str],
    why: &str,
) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (number, line) in file.code_lines() {
            if needles.iter().any(|needle| line.contains(needle)) {
                found.push(format!("{}:{number}: {why}: {}", file.path, line.trim()));
            }
        }
    }
    found
}

/// Whether `word` stands in the line as a whole identifier.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.split_at(at).0.chars().next_back();
        let after = line.split_at(at + word.len()).1.chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

fn sample(path: &str, text: &str) -> [SourceFile; 1] {
    [SourceFile::sample(path, text)]
}

#[test]
fn one_line_above_the_bound_is_too_long() {
    assert!(too_long(&sample("a.rs", &"\n".repeat(LINES_MAX))).is_empty());
    assert_eq!(
        too_long(&sample("a.rs", &"\n".repeat(LINES_MAX + 1))).len(),
        1
    );
    assert!(too_long(&sample("a.md", &"\n".repeat(LINES_MAX + 1))).is_empty());
}

#[test]
fn long_tables_exist_and_are_long() {
    for (path, reason) in LONG_TABLES {
        assert!(!reason.is_empty());
        assert!(
            LINES_MAX < crate::tree::text_of(path).lines().count(),
            "{path} needs no place"
        );
    }
}

#[test]
fn a_mod_file_is_refused() {
    assert_eq!(mod_files(&sample("src/api/mod.rs", "")).len(), 1);
    assert!(mod_files(&sample("src/api.rs", "")).is_empty());
}

#[test]
fn a_module_without_contract_is_refused() {
    assert_eq!(
        without_contract(&sample("src/api.rs", "use std::fs;\n//! late")).len(),
        1
    );
    assert!(without_contract(&sample("src/api.rs", "//! The API.")).is_empty());
    assert!(without_contract(&sample("src/api/tests.rs", "use super::*;")).is_empty());
}

#[test]
fn a_key_outside_its_home_is_refused() {
    for begin in KEYS {
        let line = format!("put({begin}demo/joints)");
        assert_eq!(stray_keys(&sample("crates/bus/src/bus.rs", &line)).len(), 1);
        assert!(stray_keys(&sample(KEYS_HOME, &line)).is_empty());
    }
    let comment = format!("/// Below `{}cell}}/`.", KEYS[0]);
    assert!(stray_keys(&sample("crates/bus/src/bus.rs", &comment)).is_empty());
}

#[test]
fn a_second_holder_of_an_envelope_is_refused() {
    let text = "use envelope::Envelope;\nlet a = Envelope::new(b);";
    let guard = || SourceFile::sample(ENVELOPE_HOME, text);
    let other = |text| SourceFile::sample("actors/src/expert.rs", text);
    let n_found = |text| holders_of_an_envelope(&[guard(), other(text)]).len();
    assert_eq!(n_found("// the Envelope\nuse envelope::Limits;"), 0);
    assert_eq!(n_found("fn open(letter: Envelope) {}"), 1);
    assert_eq!(n_found("use envelope::Envelope as Letter;"), 1);
    let none = holders_of_an_envelope(&[other("")]);
    assert_eq!(none.len(), 1, "the guard must make it");
    let twice = format!("{text}\nlet c = Envelope::new(d);");
    let twice = SourceFile::sample(ENVELOPE_HOME, &twice);
    assert_eq!(holders_of_an_envelope(&[twice]).len(), 1);
}

#[test]
fn unfinished_code_is_refused_in_comments_too() {
    for word in UNFINISHED {
        assert_eq!(
            unfinished(&sample("a.rs", &format!("  // {word} x"))).len(),
            1
        );
    }
    assert!(unfinished(&sample("a.rs", "let to_do = ignore();")).is_empty());
}
