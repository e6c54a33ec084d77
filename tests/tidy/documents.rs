//! Rules about documents, and about words in every file.

use std::path::Path;

use crate::tree::SourceFile;

/// Words of other places: folders of somebody's machine, and rules of somebody's desk. In parts, so
/// that this file does not break its own rule.
const FOREIGN: [&str; 8] = [
    concat!("/wo", "rk/"),
    concat!("../sha", "red"),
    concat!("shared/re", "ference"),
    concat!("shared/DE", "SIGN"),
    concat!("session", " lasts"),
    concat!("issues", " show"),
    concat!("/tmp/", "vt"),
    concat!("/ro", "ot/"),
];

/// Endings of files that a document names in backticks.
const ENDINGS: [&str; 7] = [".rs", ".toml", ".md", ".sql", ".service", ".html", ".sh"];

fn documents(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    files.iter().filter(|file| file.has_ending("md"))
}

/// Links to files that are not there.
pub(crate) fn dead_links(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for document in documents(files) {
        for target in links(&document.text) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !exists(files, &beside(document, path)) {
                found.push(format!("{}: {target} is not there", document.path));
            }
        }
    }
    found
}

/// Files that a document names in backticks and that are not there.
pub(crate) fn missing_files(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for document in documents(files) {
        for name in backticked(&document.text).filter(|text| is_file_name(text)) {
            if !exists(files, name) && !exists(files, &beside(document, name)) {
                found.push(format!("{}: {name} is not there", document.path));
            }
        }
    }
    found
}

/// Rows of the hazards' table that name no test, or one that does not exist.
pub(crate) fn unproven_hazards(safety: &str, files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    let rows = safety
        .lines()
        .skip_while(|line| !line.starts_with("| hazard |"));
    let rows: Vec<_> = rows
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .collect();
    if rows.is_empty() {
        found.push("SAFETY.md: has no table of hazards".to_owned());
    }
    for row in rows {
        let hazard = row
            .trim_matches('|')
            .split('|')
            .next()
            .unwrap_or(row)
            .trim();
        let cell = row
            .trim()
            .trim_end_matches('|')
            .rsplit('|')
            .next()
            .unwrap_or_default();
        let names: Vec<_> = backticked(cell).collect();
        if names.is_empty() {
            found.push(format!("SAFETY.md: {hazard}: names no test"));
        }
        let missing = names.iter().filter(|name| !is_test(files, name));
        found.extend(missing.map(|name| format!("SAFETY.md: {hazard}: there is no test {name}")));
    }
    found
}

/// Words that mean nothing to a reader of this repository.
pub(crate) fn foreign_words(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (i, line) in file.text.lines().enumerate() {
            let words = FOREIGN.iter().filter(|word| line.contains(**word));
            found.extend(words.map(|word| format!("{}:{}: {word}", file.path, i + 1)));
        }
    }
    found
}

/// Gives the lines of the first block of code.
pub(crate) fn first_commands(document: &str) -> Vec<&str> {
    let mut lines = document.lines().skip_while(|line| !line.starts_with("```"));
    lines.next();
    lines
        .take_while(|line| !line.starts_with("```"))
        .map(str::trim)
        .collect()
}

fn is_test(files: &[SourceFile], name: &str) -> bool {
    let head = format!("fn {name}(");
    let mut rust = files.iter().filter(|file| file.has_ending("rs"));
    rust.any(|file| file.text.contains(&head))
}

fn is_file_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    // A name without a folder is a kind of file, and an absolute path one of another machine.
    text.contains('/')
        && !text.starts_with('/')
        && text.chars().all(plain)
        && ENDINGS.iter().any(|ending| text.ends_with(ending))
}

fn exists(files: &[SourceFile], path: &str) -> bool {
    let folder = format!("{}/", path.trim_end_matches('/'));
    files
        .iter()
        .any(|file| file.path == path || file.path.starts_with(&folder))
}

/// Gives the path from the root of what a document calls `target`.
fn beside(document: &SourceFile, target: &str) -> String {
    let folder = Path::new(&document.path)
        .parent()
        .and_then(Path::to_str)
        .unwrap_or_default();
    let mut parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            // Above the root there is nothing: the path that is left is not there.
            ".." if parts.is_empty() => parts.push(".."),
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The document's text outside blocks of code.
fn prose(document: &str) -> String {
    let blocks = document.split("\n```").enumerate();
    blocks
        .filter(|(i, _)| i % 2 == 0)
        .map(|(_, text)| text)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Gives what links outside code lead to, but for addresses of the web.
fn links(document: &str) -> Vec<String> {
    let prose = prose(document);
    let outside = prose.split('`').enumerate().filter(|(i, _)| i % 2 == 0);
    // A code span inside a link's text must not break the link apart.
    let text = outside.map(|(_, text)| text).collect::<Vec<_>>().join("_");
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let targets = targets.map(|(target, _)| target.trim().to_owned());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// Gives what stands in backticks, outside blocks of code.
fn backticked(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split("\n```").enumerate().filter(|(i, _)| i % 2 == 0);
    outside.flat_map(|(_, prose)| {
        prose
            .split('`')
            .enumerate()
            .filter(|(i, _)| i % 2 == 1)
            .map(|(_, code)| code)
    })
}

#[test]
fn a_link_to_nowhere_is_refused() {
    let tree = |text| {
        [
            SourceFile::sample("docs/a.md", text),
            SourceFile::sample("src/b.rs", ""),
        ]
    };
    let good = "[b](../src/b.rs) [`b`](../src/b.rs#L1) [up](#top) [web](https://x.org) `[c](d)`";
    assert_eq!(dead_links(&tree(good)), Vec::<String>::new());
    assert!(dead_links(&tree("a\n```text\n[c](nowhere)\n```\nb")).is_empty());
    assert_eq!(dead_links(&tree("[c](b.rs) and [d](../src/c.rs)")).len(), 2);
    assert_eq!(dead_links(&tree("a\n```text\n```\n[c](nowhere)")).len(), 1);
    assert_eq!(dead_links(&tree("[above](../../src/b.rs)")).len(), 1);
}

#[test]
fn a_named_file_must_be_there() {
    let tree = |text| {
        [
            SourceFile::sample("docs/a.md", text),
            SourceFile::sample("src/b.rs", ""),
        ]
    };
    assert!(missing_files(&tree("`src/b.rs` `src/<name>.rs` `b.rs` `/etc/x.toml`")).is_empty());
    assert_eq!(missing_files(&tree("`src/c.rs`")).len(), 1);
}

#[test]
fn a_hazard_without_a_test_is_refused() {
    let code = [SourceFile::sample("src/a.rs", "fn it_stops() {}")];
    let table = |row: &str| format!("# x\n| hazard | test |\n|---|---|\n{row}\n\n| other |\n");
    assert!(unproven_hazards(&table("| speed | `it_stops` |"), &code).is_empty());
    assert_eq!(
        unproven_hazards(&table("| speed | `it_halts` |"), &code).len(),
        1
    );
    assert_eq!(
        unproven_hazards(&table("| speed | `it_stops`, `it` |"), &code).len(),
        1
    );
    assert_eq!(
        unproven_hazards(&table("| speed | by design |"), &code).len(),
        1
    );
    assert_eq!(unproven_hazards("# nothing", &code).len(), 1);
}

#[test]
fn a_foreign_word_is_refused_in_any_file() {
    for word in FOREIGN {
        assert_eq!(
            foreign_words(&[SourceFile::sample("justfile", word)]).len(),
            1
        );
    }
    assert!(foreign_words(&[SourceFile::sample("a.md", "work shared by threads")]).is_empty());
}

#[test]
fn the_first_block_alone_counts() {
    let text = "# vlad\n\n```sh\ncargo run\n  cargo test\n```\n\n```sh\nlater\n```\n";
    assert_eq!(first_commands(text), ["cargo run", "cargo test"]);
    assert!(first_commands("# vlad").is_empty());
}
