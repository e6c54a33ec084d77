//! Reads the tree: what git tracks or would track, or without git everything but build outputs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file of the tree.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Path from the root, with slashes.
    pub(crate) path: String,
    /// What it holds; empty if that is no text.
    pub(crate) text: String,
    /// Its size.
    pub(crate) bytes: u64,
}

impl SourceFile {
    /// Makes a file that a rule is tried on.
    pub(crate) fn sample(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            bytes: 0,
        }
    }

    /// Whether the name ends in `.ending`.
    pub(crate) fn has_ending(&self, ending: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| found == ending)
    }

    /// Whether it is code of a package that ships: below a `src`, and no test module.
    pub(crate) fn is_shipped_code(&self) -> bool {
        let mut folders = self.path.split('/');
        let in_src = folders.clone().any(|folder| folder == "src");
        let in_tests = folders.any(|folder| folder == "tests" || folder == "tests.rs");
        self.has_ending("rs") && in_src && !in_tests
    }

    /// Gives the lines that are code, numbered from 1, without comments.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
        code.map(|(i, line)| (i + 1, line.split(" // ").next().unwrap_or(line)))
    }
}

/// Gives every file, in the order of their paths.
pub(crate) fn files() -> &'static [SourceFile] {
    static FILES: OnceLock<Vec<SourceFile>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut paths = listed().unwrap_or_else(|| {
            let mut found = Vec::new();
            walk(Path::new(ROOT), "", &mut found);
            found
        });
        paths.sort();
        paths.dedup();
        paths.into_iter().filter_map(read).collect()
    })
}

/// Gives a file's text.
pub(crate) fn text_of(path: &str) -> &'static str {
    let file = files().iter().find(|file| file.path == path);
    file.map_or_else(|| panic!("there is no {path}"), |file| file.text.as_str())
}

fn read(path: String) -> Option<SourceFile> {
    let full = Path::new(ROOT).join(&path);
    // What was deleted and not yet committed is still listed.
    let bytes = fs::symlink_metadata(&full).ok()?.len();
    let text = fs::read_to_string(&full).unwrap_or_default();
    Some(SourceFile { path, text, bytes })
}

fn listed() -> Option<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(ROOT)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<_> = text
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    // Beside a clone, as in a source archive inside another repository, git lists nothing.
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            if ![".git", "target"].contains(&name.as_str()) {
                walk(&entry.path(), &format!("{path}/"), found);
            }
        } else {
            found.push(path);
        }
    }
}

#[test]
fn a_walk_finds_what_git_lists() {
    let mut walked = Vec::new();
    walk(Path::new(ROOT), "", &mut walked);
    let missing = files().iter().filter(|file| !walked.contains(&file.path));
    assert_eq!(
        missing.map(|file| &file.path).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

#[test]
fn shipped_code_lies_below_src_and_is_no_test() {
    let shipped = |path| SourceFile::sample(path, "").is_shipped_code();
    assert!(shipped("src/main.rs") && shipped("crates/wire/src/id.rs"));
    assert!(!shipped("crates/safety/src/mode/tests.rs") && !shipped("src/api/tests/errors.rs"));
    assert!(!shipped("tests/tidy.rs") && !shipped("src/dashboard/page.js"));
}

#[test]
fn comments_are_no_code() {
    let file = SourceFile::sample("a.rs", "//! a\nlet b = 1; // c\n  // d\n\"http://e\"");
    let lines: Vec<_> = file.code_lines().collect();
    assert_eq!(lines, [(2, "let b = 1;"), (4, "\"http://e\"")]);
}
