//! What a repository holds at a revision, and what of it is fetched.
//!
//! Names and sizes come from a server and are not believed: a name decides nothing but whether it
//! stands in the list below. Code, and formats that run code when they are read, are never asked
//! for.

use std::collections::BTreeSet;

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;

use super::content::Proof;

/// Files that a checkpoint is made of, beside its weights.
const NAMES: &[&str] = &[
    "LICENSE",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vlad.toml",
    "vocab.json",
];
/// Without these nothing can be loaded.
const NEEDED: &[&str] = &["config.json", "preprocessor_config.json", "tokenizer.json"];
/// How weights end.
const WEIGHTS: &str = ".safetensors";
/// Longest file beside the weights; the released tokenizer has 11 MB.
const BESIDE_MAX: u64 = 64 << 20;
/// All files together; the released network has 9.4 GB, and twice that in f32.
const TOTAL_MAX: u64 = 64_000_000_000;
/// Files of one repository, fetched or not; the released ones have some twenty.
const FILES_MAX: usize = 10_000;
/// Longest name that a file system takes.
const NAME_MAX: usize = 255;

/// The hub's document of one revision, as far as it is read.
#[derive(Debug, Deserialize)]
struct Document {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

/// A large file: it lies outside git, which holds a pointer to it.
#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name, of letters, digits, `.`, `_` and `-`.
    pub(super) name: String,
    /// Its bytes.
    pub(super) size: u64,
    /// What proves it.
    pub(super) proof: Proof,
}

/// A revision.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// Its commit: 40 hexadecimal digits.
    pub(super) commit: String,
    /// What is fetched, small files first. What stands in them is looked at when all are there.
    pub(super) files: Vec<Wanted>,
    /// Names of what is not.
    pub(super) left: Vec<String>,
}

impl Listing {
    /// Reads the hub's document.
    ///
    /// # Errors
    /// What is no such document; a name that leads out of a folder; a file without size or hash;
    /// sizes beyond all reason; a repository without the files of a checkpoint.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let document: Document =
            serde_json::from_str(text).context("the hub's answer is no list of files")?;
        let commit = document.sha.to_ascii_lowercase();
        ensure!(is_commit(&commit), "the hub's answer names no commit");
        let n_files = document.siblings.len();
        ensure!(
            n_files <= FILES_MAX,
            "the repository has {n_files} files, at most {FILES_MAX} are looked at"
        );
        let (mut files, mut left, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for sibling in document.siblings {
            let name = sibling.rfilename.clone();
            check_name(&name)?;
            ensure!(
                seen.insert(name.clone()),
                "the hub lists {name:?} twice, which is not believed"
            );
            if is_wanted(&name) {
                files.push(wanted(sibling)?);
            } else {
                left.push(name);
            }
        }
        files.sort_by(|a: &Wanted, b| (a.size, &a.name).cmp(&(b.size, &b.name)));
        left.sort();
        let listing = Self {
            commit,
            files,
            left,
        };
        listing.check()?;
        Ok(listing)
    }

    /// Bytes of all files to fetch.
    pub(super) fn total(&self) -> u64 {
        let sizes = self.files.iter().map(|file| file.size);
        sizes.fold(0, u64::saturating_add)
    }

    fn check(&self) -> anyhow::Result<()> {
        let total = self.total();
        ensure!(
            total <= TOTAL_MAX,
            "the repository's files have {total} bytes, at most {TOTAL_MAX} are fetched"
        );
        let has = |name: &str| self.files.iter().any(|file| file.name == name);
        for needed in NEEDED {
            ensure!(
                has(needed),
                "it holds no {needed}: it is no checkpoint of this network"
            );
        }
        ensure!(
            self.files.iter().any(|file| file.name.ends_with(WEIGHTS)),
            "it holds no weights in safetensors, and other formats are never fetched"
        );
        Ok(())
    }
}

/// Whether a text names a commit in full.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A hub that lists such a name is broken or hostile: nothing of it is fetched.
fn check_name(name: &str) -> anyhow::Result<()> {
    let strange = NAME_MAX < name.len() || name.contains('\\') || name.contains(char::is_control);
    let outside = name.split('/').any(|part| matches!(part, "" | "." | ".."));
    ensure!(
        !strange && !outside,
        "the hub lists a file {:?}, a name that leads out of a folder: nothing of this repository is fetched",
        name.chars().take(NAME_MAX).collect::<String>()
    );
    Ok(())
}

fn is_wanted(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_weights = name.ends_with(WEIGHTS)
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    is_weights || NAMES.contains(&name)
}

fn wanted(sibling: Sibling) -> anyhow::Result<Wanted> {
    let name = sibling.rfilename;
    let (size, proof) = match (sibling.lfs, sibling.size, sibling.blob_id) {
        (Some(lfs), ..) => (lfs.size, Proof::sha256(&lfs.sha256)),
        (None, Some(size), Some(blob)) => (size, Proof::git_blob(&blob)),
        _ => bail!("the hub gives no size or no hash of {name}: it could not be verified"),
    };
    let proof = proof.ok_or_else(|| anyhow!("the hub's hash of {name} is none"))?;
    let most = if name.ends_with(WEIGHTS) {
        TOTAL_MAX
    } else {
        BESIDE_MAX
    };
    ensure!(
        size <= most,
        "the hub says that {name} has {size} bytes, at most {most} are fetched"
    );
    Ok(Wanted { name, size, proof })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const COMMIT: &str = "fc04bbdcc53e498695cfad95d1199091396ef55b";

    fn small(name: &str) -> Value {
        json!({ "rfilename": name, "size": 7, "blobId": "ce013625030ba8dba906f756967f9e9ca394464a" })
    }

    fn large(name: &str, size: u64) -> Value {
        let lfs = json!({ "sha256": "a".repeat(64), "size": size, "pointerSize": 135 });
        json!({ "rfilename": name, "size": size, "blobId": "b".repeat(40), "lfs": lfs })
    }

    /// A checkpoint's files, and these.
    fn listing(further: &[Value]) -> anyhow::Result<Listing> {
        let mut siblings = vec![large("model.safetensors", 4_990_000_000)];
        siblings.extend(NEEDED.iter().map(|name| small(name)));
        siblings.extend_from_slice(further);
        Listing::parse(&json!({ "sha": COMMIT, "siblings": siblings }).to_string())
    }

    #[test]
    fn code_is_left_and_named() {
        let left = [
            ".gitattributes",
            "assets/config.json",
            "modeling_mibot.py",
            "optimizer.pt",
            "pytorch_model.bin",
            "-rf.safetensors",
            "sh.safetensors.py",
        ];
        let further: Vec<_> = left.iter().map(|name| large(name, 9)).collect();
        let listing = listing(&further).unwrap();
        let mut sorted = left.to_vec();
        sorted.sort_unstable();
        assert_eq!(listing.left, sorted);
        let names: Vec<_> = listing
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        assert_eq!(names, [NEEDED, &["model.safetensors"]].concat());
        assert_eq!(listing.total(), 4_990_000_021);
        assert_eq!(listing.commit, COMMIT);
    }

    #[test]
    fn what_is_not_believed_is_refused() {
        let unproven = json!({ "rfilename": "vocab.json", "size": 7 });
        let mut odd = large("x.safetensors", 9);
        odd["lfs"]["sha256"] = json!("aa");
        for (file, wanted) in [
            (small("../evil.safetensors"), "leads out"),
            (small("a/../../config.json"), "leads out"),
            (small("/etc/passwd"), "leads out"),
            (small("a//b"), "leads out"),
            (small(""), "leads out"),
            (small("a\\b.json"), "leads out"),
            (small("a\nb.json"), "leads out"),
            (small(&"a".repeat(256)), "leads out"),
            (small("config.json"), "twice"),
            (large("vocab.json", 1 << 30), "at most"),
            (large("x.safetensors", u64::MAX), "at most"),
            (large("x.safetensors", 60_000_000_000), "at most"),
            (unproven, "no hash of vocab.json"),
            (odd, "hash of x.safetensors"),
        ] {
            let error = listing(std::slice::from_ref(&file))
                .unwrap_err()
                .to_string();
            assert!(error.contains(wanted), "{file}: {error}");
        }
    }

    #[test]
    fn a_repository_without_a_checkpoint_is_refused() {
        let parse = |document: Value| Listing::parse(&document.to_string());
        let weights = [large("model.safetensors", 9)];
        let error = parse(json!({ "sha": COMMIT, "siblings": weights })).unwrap_err();
        assert!(error.to_string().contains("no config.json"), "{error}");
        let needed: Vec<_> = NEEDED.iter().map(|name| small(name)).collect();
        let error = parse(json!({ "sha": COMMIT, "siblings": needed })).unwrap_err();
        assert!(error.to_string().contains("no weights"), "{error}");
        let error = parse(json!({ "sha": "main", "siblings": [] })).unwrap_err();
        assert!(error.to_string().contains("no commit"), "{error}");
        assert!(Listing::parse("<html>").is_err());
    }
}
