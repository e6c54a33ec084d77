//! A golden set that may be changed, and what the verifier says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vlad_xr0::verify::{Line, Options, Summary, verify};

/// Where a set lies that comes with the repository.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    sets.join(name)
}

/// A copy of the set that may be changed; it goes when the value goes.
pub(crate) struct Copy(pub(crate) PathBuf);

impl Copy {
    /// With only these cases.
    pub(crate) fn of(cases: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("vlad-golden-{}-{number}", std::process::id()));
        let copy = Self(dir);
        fs::create_dir_all(copy.0.join("model")).unwrap();
        for entry in fs::read_dir(fixture("xr0-tiny"))
            .unwrap()
            .chain(fs::read_dir(fixture("xr0-tiny").join("model")).unwrap())
        {
            let path = entry.unwrap().path();
            if path.is_file() {
                let to = copy.0.join(path.strip_prefix(fixture("xr0-tiny")).unwrap());
                // Written anew: a copied file would keep the mode of one that may not be changed.
                fs::write(to, fs::read(&path).unwrap()).unwrap();
            }
        }
        copy.edit_json("cases.json", |all| {
            all.as_object_mut()
                .unwrap()
                .retain(|name, _| cases.contains(&name.as_str()));
        });
        copy.vouch("cases.json");
        copy
    }

    pub(crate) fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.0.join(file);
        let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut value);
        fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }

    /// Writes size and hash of a changed file into the manifest.
    pub(crate) fn vouch(&self, file: &str) {
        let bytes = fs::read(self.0.join(file)).unwrap();
        let digits = Sha256::digest(&bytes)
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from_digit(digit.into(), 16).unwrap())
            .collect::<String>();
        self.edit_json("manifest.json", |manifest| {
            manifest["files"][file]["bytes"] = json!(bytes.len());
            manifest["files"][file]["sha256"] = json!(digits);
        });
    }

    /// Changes the cases, and vouches for them.
    pub(crate) fn edit_cases(&self, edit: impl FnOnce(&mut Value)) {
        self.edit_json("cases.json", edit);
        self.vouch("cases.json");
    }

    /// Changes one case, and vouches for it.
    pub(crate) fn edit_case(&self, case: &str, edit: impl FnOnce(&mut Value)) {
        self.edit_cases(|cases| edit(&mut cases[case]));
    }

    /// Changes the bytes of a stored tensor, and vouches for the file.
    pub(crate) fn edit_tensor(&self, file: &str, tensor: &str, edit: impl FnOnce(&mut [u8])) {
        let path = self.0.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let n = size(u64::from_le_bytes(bytes[..8].try_into().unwrap()));
        let header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        let at = |i: usize| size(header[tensor]["data_offsets"][i].as_u64().unwrap());
        let [from, to] = [0, 1].map(|i| at(i) + 8 + n);
        edit(&mut bytes[from..to]);
        fs::write(path, bytes).unwrap();
        self.vouch(file);
    }

    /// Renames a stored tensor to a name of the same length, and vouches for the file.
    pub(crate) fn rename_tensor(&self, file: &str, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let path = self.0.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let quoted = format!("\"{from}\"");
        let at = bytes
            .windows(quoted.len())
            .position(|window| window == quoted.as_bytes())
            .unwrap();
        bytes[at + 1..=from.len() + at].copy_from_slice(to.as_bytes());
        fs::write(path, bytes).unwrap();
        self.edit_json("manifest.json", |manifest| {
            let tensors = manifest["files"][file]["tensors"].as_object_mut().unwrap();
            let shape = tensors.remove(from).unwrap();
            tensors.insert(to.to_owned(), shape);
        });
        self.vouch(file);
    }

    pub(crate) fn verify(&self, options: &Options) -> (Summary, Vec<Line>) {
        let mut lines = Vec::new();
        let summary = verify(&self.0, options, &mut |line| lines.push(line.clone())).unwrap();
        (summary, lines)
    }

    /// The tensors that do not pass.
    pub(crate) fn failing(&self) -> Vec<String> {
        let (summary, lines) = self.verify(&Options::default());
        let failing: Vec<_> = lines
            .into_iter()
            .filter(|line| !line.passed)
            .map(|line| line.tensor)
            .collect();
        assert_eq!(summary.passed(), failing.is_empty());
        failing
    }

    /// Why it cannot be verified at all.
    pub(crate) fn refusal(&self) -> String {
        verify(&self.0, &Options::default(), &mut |_| {})
            .unwrap_err()
            .to_string()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// Adds to one number of an f32 tensor.
pub(crate) fn add(bytes: &mut [u8], at: usize, addend: f32) {
    let at = 4 * at..4 * at + 4;
    let value = f32::from_le_bytes(bytes[at.clone()].try_into().unwrap()) + addend;
    bytes[at].copy_from_slice(&value.to_le_bytes());
}
