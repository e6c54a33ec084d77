//! A checkpoint from a hub: whole, verified and without code, or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;

use serde_json::{Value, json};

use crate::support::process::vlad;
use crate::support::{TempDir, until};

use self::hub::{COMMIT, Hub, REPOSITORY, Tricks, length, sha256};

mod hub;

/// The largest file of the synthesised checkpoint.
const SHARD: &str = "model-00001-of-00001.safetensors";
/// What the hub holds beside the checkpoint, and nobody may ask for.
const CODE: [&str; 3] = [
    "modeling_mibot.py",
    "pytorch_model.bin",
    "tools/config.json",
];
/// A place within the shard.
const MIDDLE: u64 = 700_000;

/// A hub with a checkpoint, and a folder to pull it into.
struct Story {
    dir: TempDir,
    hub: Hub,
    files: BTreeMap<String, Vec<u8>>,
}

/// What a pull has left.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Story {
    fn new() -> Self {
        let dir = TempDir::new();
        let made = dir.path().join("made");
        let words = ["model", "synth", "--preset", "tiny"].map(str::to_owned);
        let ended = vlad(words.into_iter().chain([made.display().to_string()]));
        assert_eq!(ended.code, 0, "{}", ended.err);
        let files = files(&made);
        let mut served = files.clone();
        served.insert("README.md".to_owned(), b"# tiny\n".to_vec());
        served.extend(CODE.map(|name| (name.to_owned(), b"import os\n".to_vec())));
        let hub = Hub::start(served);
        Self { dir, hub, files }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("pulled")
    }

    fn partial(&self) -> PathBuf {
        self.dir.path().join("pulled.partial")
    }

    /// `vlad model pull` of a revision, with nothing of this user's environment.
    fn command(&self, revision: &str, further: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", "120", env!("CARGO_BIN_EXE_vlad")])
            .args([
                "model",
                "pull",
                &format!("{REPOSITORY}@{revision}"),
                "--out",
            ])
            .arg(self.out())
            .args(["--endpoint", self.hub.url(), "--json"])
            .args(further)
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        command
    }

    fn pull(&self) -> Ended {
        ended(&mut self.command(COMMIT, &[]))
    }

    /// The same, which must make the folder; gives what it printed.
    #[track_caller]
    fn pulled(&self) -> Value {
        let ended = self.pull();
        assert_eq!(ended.code, 0, "{}", ended.err);
        self.check_whole();
        serde_json::from_str(&ended.out).unwrap()
    }

    /// The same with tricks, which must make nothing; gives what it said.
    #[track_caller]
    fn refused(&self, tricks: Tricks) -> String {
        self.hub.play(tricks);
        let ended = self.pull();
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{}", ended.err);
        assert!(!self.out().exists(), "{}", ended.err);
        ended.err
    }

    /// Every byte of the checkpoint, and no file that could run.
    #[track_caller]
    fn check_whole(&self) {
        let mut got = files(&self.out());
        assert_eq!(got.remove("README.md").as_deref(), Some(&b"# tiny\n"[..]));
        let note = got.remove("pulled.json").unwrap();
        let note: Value = serde_json::from_slice(&note).unwrap();
        assert_eq!(
            note,
            json!({ "repository": REPOSITORY, "revision": COMMIT })
        );
        assert!(got == self.files, "{:?}", got.keys());
        assert!(!self.partial().exists());
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// A branch is resolved once, and the files are those of its commit; code is not even asked for.
#[test]
fn a_checkpoint_comes_whole_and_without_code() {
    let story = Story::new();
    let ended = ended(&mut story.command("main", &[]));
    assert_eq!(ended.code, 0, "{}", ended.err);
    story.check_whole();
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(told["revision"], json!(COMMIT));
    assert_eq!(told["left"], json!(CODE));
    assert_eq!(told["kept_bytes"], json!(0));
    let listed = told["files"].as_array().unwrap();
    let shard = listed.iter().find(|file| file["name"] == SHARD).unwrap();
    assert_eq!(shard["sha256"], json!(sha256(&story.files[SHARD])));

    let seen = story.hub.seen();
    let asked = |text: &str| seen.iter().any(|seen| seen.path.contains(text));
    assert!(CODE.iter().all(|name| !asked(name)), "{seen:?}");
    assert_eq!(
        seen.iter()
            .filter(|seen| seen.path.contains("main"))
            .count(),
        1
    );
    assert!(asked(&format!(
        "/{REPOSITORY}/resolve/{COMMIT}/config.json"
    )));

    let out = story.out().display().to_string();
    let inspected = vlad(["model", "inspect", &out, "--json"]);
    assert_eq!(inspected.code, 0, "{}", inspected.err);
    let inspected: Value = serde_json::from_str(&inspected.out).unwrap();
    for digest in ["model_sha256", "normaliser_sha256"] {
        assert!(inspected[digest].is_string() && inspected[digest] == told[digest]);
    }
}

/// What is there is not looked for: the folder, and how to get another.
#[test]
fn an_existing_folder_is_left_alone() {
    let story = Story::new();
    fs::create_dir(story.out()).unwrap();
    let ended = story.pull();
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("--out"), "{}", ended.err);
    assert!(story.hub.seen().is_empty());
}

/// The hub knows the token, the storage that it leads to does not, and nobody reads it in a log.
#[test]
fn the_token_goes_to_the_hub_alone() {
    let story = Story::new();
    let mut command = story.command(COMMIT, &["--log", "trace"]);
    let ended = ended(command.env("HF_TOKEN", "hf_secret"));
    assert_eq!(ended.code, 0, "{}", ended.err);
    let (storage, own): (Vec<_>, Vec<_>) =
        story.hub.seen().into_iter().partition(|seen| seen.storage);
    assert!(!storage.is_empty() && storage.iter().all(|seen| seen.authorization.is_none()));
    let bearer = Some("Bearer hf_secret");
    assert!(
        own.iter()
            .all(|seen| seen.authorization.as_deref() == bearer)
    );
    assert!(!format!("{}{}", ended.out, ended.err).contains("hf_secret"));
    for (name, bytes) in files(&story.out()) {
        assert!(
            !String::from_utf8_lossy(&bytes).contains("hf_secret"),
            "{name}"
        );
    }
}

/// One command outlasts cuts, and asks each time for what it does not have.
#[test]
fn a_cut_in_mid_shard_is_resumed() {
    let story = Story::new();
    story.hub.play(Tricks {
        cut: Some((SHARD.to_owned(), MIDDLE, 2)),
        ..Tricks::default()
    });
    story.pulled();
    let ranges = story.hub.ranges(SHARD);
    assert_eq!((ranges.len(), ranges[0]), (3, 0), "{ranges:?}");
    assert!(ranges.is_sorted_by(|a, b| a < b), "{ranges:?}");
    assert!(ranges[2] <= 2 * MIDDLE, "{ranges:?}");
}

/// `kill -9` in mid-shard: nothing has appeared, and the next command asks for the rest alone.
#[test]
fn a_killed_pull_is_taken_up_again() {
    let story = Story::new();
    story.hub.play(Tricks {
        hold: Some((SHARD.to_owned(), MIDDLE)),
        ..Tricks::default()
    });
    let mut first = Command::new(env!("CARGO_BIN_EXE_vlad"));
    let mut child = Killed(
        first
            .args(story.command(COMMIT, &[]).get_args().skip(3))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let shard = story.partial().join(SHARD);
    let size = || fs::metadata(&shard).map_or(0, |metadata| metadata.len());
    until("half of the shard is there", || {
        (size() == MIDDLE).then_some(())
    });
    assert!(!story.out().exists());
    let second = story.pull();
    assert_eq!(second.code, 1);
    assert!(second.err.contains("another pull"), "{}", second.err);
    child.kill();

    story.hub.play(Tricks::default());
    let told = story.pulled();
    assert_eq!(story.hub.ranges(SHARD), [MIDDLE]);
    let others = story.files.iter().filter(|(name, _)| *name != SHARD);
    let others: u64 = others.map(|(_, bytes)| length(bytes)).sum();
    let kept = MIDDLE + others + length(b"# tiny\n");
    assert_eq!(told["kept_bytes"], json!(kept));
    // What was whole is verified where it lies.
    let asked = story.hub.seen();
    assert!(!asked.iter().any(|seen| seen.path.ends_with("/config.json")));
}

struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One bit in two megabytes, in a large file and in a small one.
#[test]
fn a_corrupt_byte_is_refused() {
    let story = Story::new();
    for name in ["config.json", SHARD] {
        let told = story.refused(Tricks {
            corrupt: Some(name.to_owned()),
            ..Tricks::default()
        });
        assert!(told.contains(name) && told.contains("checksum"), "{told}");
        assert!(!story.partial().join(name).exists());
    }
    story.hub.play(Tricks::default());
    story.pulled();
}

/// A bit that changed on the disk since the last try is found too.
#[test]
fn what_lies_in_the_partial_folder_is_not_believed() {
    let story = Story::new();
    story.refused(Tricks {
        corrupt: Some(SHARD.to_owned()),
        ..Tricks::default()
    });
    let config = story.partial().join("config.json");
    let mut bytes = fs::read(&config).unwrap();
    bytes[9] ^= 1;
    fs::write(&config, bytes).unwrap();
    let told = story.refused(Tricks::default());
    assert!(told.contains("config.json: the checksum"), "{told}");
    story.pulled();
}

/// Whether the hub says so itself or the bytes do.
#[test]
fn another_size_than_listed_is_refused() {
    let story = Story::new();
    let size = length(&story.files[SHARD]);
    for (silent, listed) in [(false, size + 1), (true, size + 1), (true, size - 1)] {
        let told = story.refused(Tricks {
            silent,
            listed: Some((SHARD.to_owned(), listed)),
            ..Tricks::default()
        });
        assert!(
            told.contains(SHARD) && told.contains(&listed.to_string()),
            "{told}"
        );
        // Not one byte of it was kept.
        assert_eq!(fs::metadata(story.partial().join(SHARD)).unwrap().len(), 0);
    }
    let told = story.refused(Tricks {
        listed: Some((SHARD.to_owned(), 1 << 50)),
        ..Tricks::default()
    });
    assert!(told.contains("at most"), "{told}");
}

/// One such name, and not a byte of the repository is fetched.
#[test]
fn a_name_that_leads_out_is_refused() {
    let story = Story::new();
    let evil = story.dir.path().join("evil.safetensors");
    for name in [
        "../evil.safetensors",
        evil.to_str().unwrap(),
        "a/../../evil.py",
    ] {
        let bytes = json!({ "rfilename": name, "size": 4, "blobId": "0".repeat(40) });
        let told = story.refused(Tricks {
            further: vec![bytes],
            ..Tricks::default()
        });
        assert!(told.contains(name) && told.contains("leads out"), "{told}");
        assert_eq!(story.hub.seen().len(), 1);
        assert!(!evil.exists() && !story.partial().exists());
    }
}

/// A server that gives no parts is asked for all of it again, and people hear why it takes longer.
#[test]
fn a_server_without_ranges_begins_anew() {
    let story = Story::new();
    story.hub.play(Tricks {
        no_ranges: true,
        cut: Some((SHARD.to_owned(), MIDDLE, 1)),
        ..Tricks::default()
    });
    let ended = story.pull();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("begins anew"), "{}", ended.err);
    story.check_whole();
    let ranges = story.hub.ranges(SHARD);
    assert!(ranges[0] == 0 && 0 < ranges[1], "{ranges:?}");
}

/// Each refusal says what to do.
#[test]
fn refusals_of_the_hub_say_what_to_do() {
    let story = Story::new();
    for (status, code, wanted) in [
        (401, "RepoNotFound", "slip in the name"),
        (401, "GatedRepo", "accept its terms"),
        (403, "GatedRepo", "HF_TOKEN"),
        (403, "", "HF_TOKEN"),
        (404, "RepoNotFound", "slip in the name"),
        (404, "RevisionNotFound", "no revision"),
        (418, "", "is it a hub"),
        (500, "", "later"),
    ] {
        let told = story.refused(Tricks {
            refuse: Some((status, code)),
            ..Tricks::default()
        });
        assert!(told.contains(wanted), "{status} {code}: {told}");
        let n_asked = if status == 500 { 3 } else { 1 };
        assert_eq!(story.hub.seen().len(), n_asked, "{status}");
    }
    story.hub.play(Tricks {
        busy: 2,
        ..Tricks::default()
    });
    story.pulled();
}

#[test]
fn a_revision_that_is_not_there_is_refused() {
    let story = Story::new();
    let other = "f".repeat(40);
    for revision in ["v2", &other] {
        let ended = ended(&mut story.command(revision, &[]));
        assert_eq!(ended.code, 1);
        let wanted = format!("no revision {revision}");
        assert!(ended.err.contains(&wanted), "{}", ended.err);
    }
    let told = story.refused(Tricks {
        commit: Some(other.clone()),
        ..Tricks::default()
    });
    assert!(told.contains(&other) && told.contains(COMMIT), "{told}");
    story.hub.play(Tricks::default());
    let ended = ended(&mut story.command("refs/pr/1", &[]));
    assert_eq!(ended.code, 0, "{}", ended.err);
}

/// Without TLS nothing leaves this machine, whoever asks for it.
#[test]
fn plain_http_leads_nowhere_else() {
    let story = Story::new();
    let told = story.refused(Tricks {
        elsewhere: Some("http://storage.example".to_owned()),
        ..Tricks::default()
    });
    assert!(told.contains("this machine alone"), "{told}");
    let far = vlad([
        "model",
        "pull",
        "libero",
        "--endpoint",
        "http://hub.example",
    ]);
    assert_eq!(far.code, 64, "{}", far.err);
    assert!(far.err.contains("https://hub.example"), "{}", far.err);
}

/// The first byte that an https hub sees is that of a TLS handshake.
#[test]
fn an_https_hub_is_spoken_to_in_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (tell, heard) = sync_channel(1);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        tell.send(first[0]).unwrap();
    });
    let ended = vlad(["model", "pull", "libero", "--endpoint", &url]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("cannot reach"), "{}", ended.err);
    assert_eq!(heard.try_recv(), Ok(0x16));
}

#[test]
fn words_that_name_no_checkpoint_are_refused() {
    for (words, code, wanted) in [
        (["liberty", "--json"], 1, "libero"),
        (["me/mine", "--json"], 1, "me/mine@COMMIT"),
        (["../x@main", "--json"], 64, "OWNER/NAME"),
        (["libero@../x", "--json"], 64, "revision"),
        (["libero", "--endpoint=ftp://x"], 64, "https://HOST"),
    ] {
        let ended = vlad([&["model", "pull"], &words[..]].concat());
        assert_eq!(ended.code, code, "{words:?}: {}", ended.err);
        assert!(ended.err.contains(wanted), "{words:?}: {}", ended.err);
    }
}
