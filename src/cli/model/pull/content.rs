//! What a hub says of a file's bytes, and the proof that these are they.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use vlad_xr0::checkpoint::digest::hex;

/// Hash of a file's bytes, lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// Of large files: SHA-256.
    Sha256(String),
    /// Of small files: git's, the SHA-1 of `blob N`, a zero byte and the N bytes.
    GitBlob(String),
}

impl Proof {
    /// Reads a SHA-256.
    pub(super) fn sha256(text: &str) -> Option<Self> {
        digits(text, 64).map(Self::Sha256)
    }

    /// Reads git's hash.
    pub(super) fn git_blob(text: &str) -> Option<Self> {
        digits(text, 40).map(Self::GitBlob)
    }

    /// Whether a tag of an answer (`"…"`, `W/"…"`) names other bytes. One of another kind, such as
    /// a storage's own, says nothing.
    pub(super) fn contradicts(&self, tag: &str) -> bool {
        let tag = tag.trim_start_matches("W/").trim_matches('"');
        match self {
            Self::Sha256(_) => Self::sha256(tag).is_some_and(|other| other != *self),
            Self::GitBlob(_) => Self::git_blob(tag).is_some_and(|other| other != *self),
        }
    }
}

fn digits(text: &str, n: usize) -> Option<String> {
    let fits = text.len() == n && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_ascii_lowercase())
}

/// Hashes a file's bytes as they come.
pub(super) struct Hasher {
    sha256: Sha256,
    git: Option<Sha1>,
}

impl Hasher {
    /// Begins a file of so many bytes.
    pub(super) fn new(proof: &Proof, size: u64) -> Self {
        let git = matches!(proof, Proof::GitBlob(_)).then(|| {
            let mut git = Sha1::new();
            git.update(format!("blob {size}\0"));
            git
        });
        Self {
            sha256: Sha256::new(),
            git,
        }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    /// Gives the SHA-256 of all, and what stands for the proof.
    pub(super) fn finish(self) -> (String, Proof) {
        let sha256 = hex(&self.sha256.finalize());
        let proof = match self.git {
            Some(git) => Proof::GitBlob(hex(&git.finalize())),
            None => Proof::Sha256(sha256.clone()),
        };
        (sha256, proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `hello\n`, as `git hash-object` and `sha256sum` give them.
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    #[test]
    fn bytes_prove_themselves_in_any_pieces() {
        for proof in [
            Proof::git_blob(GIT).unwrap(),
            Proof::sha256(&SHA256.to_uppercase()).unwrap(),
        ] {
            let mut hasher = Hasher::new(&proof, 6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), (SHA256.to_owned(), proof.clone()));
            let mut other = Hasher::new(&proof, 6);
            other.update(b"hallo\n");
            assert_ne!(other.finish().1, proof);
        }
        assert_eq!(Proof::sha256(GIT), None);
        assert_eq!(Proof::git_blob(&"g".repeat(40)), None);
    }

    #[test]
    fn a_tag_of_another_kind_says_nothing() {
        let proof = Proof::sha256(SHA256).unwrap();
        assert!(!proof.contradicts(&format!("\"{SHA256}\"")));
        assert!(!proof.contradicts(&format!("W/\"{GIT}\"")));
        assert!(!proof.contradicts("\"5d41402abc4b2a76b9719d911017c592-7\""));
        assert!(proof.contradicts(&format!("\"{}\"", "0".repeat(64))));
    }
}
