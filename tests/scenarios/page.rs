//! The page in a real browser.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::TempDir;
use crate::support::process::{Daemon, data_in};

/// Names that Debian and others give to the browser.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Finds a browser; without one the story is left out, in CI it fails.
#[expect(
    clippy::disallowed_methods,
    reason = "a tool is looked for, and CI says that it is CI"
)]
fn browser() -> Option<PathBuf> {
    let folders = std::env::var("PATH").unwrap_or_default();
    let candidates =
        std::env::split_paths(&folders).flat_map(|folder| BROWSERS.map(|name| folder.join(name)));
    let found = candidates.into_iter().find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var("VLAD_CI").is_err(),
            "CI needs a browser: install chromium"
        );
        eprintln!("left out: there is no browser on this machine; install chromium");
    }
    found
}

/// Opens an address, lets its scripts run for a while, and gives what the page has become.
fn dump(browser: &PathBuf, profile: &TempDir, url: &str) -> String {
    let output = Command::new(browser)
        .args([
            "--headless",
            // Root in a container has no user namespaces; only our own page is opened.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--virtual-time-budget=6000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Mode, policy with its note, cameras with pictures, queue and buttons are there for a person.
#[test]
fn the_page_shows_the_cell() {
    let Some(browser) = browser() else { return };
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    daemon.cell().does("put the red block in the left tray");
    let page = dump(&browser, &TempDir::new(), &daemon.server().url());
    let mode = daemon.cell().mode();
    let note = daemon.cell().show()["policy"]["note"]
        .as_str()
        .unwrap()
        .to_owned();
    for wanted in [
        format!("data-mode=\"{mode}\">{mode}<"),
        ">scripted<".to_owned(),
        note,
        "put the red block in the left tray".to_owned(),
        "data-state=\"succeeded\"".to_owned(),
        "E-STOP".to_owned(),
        ">Reset<".to_owned(),
        ">Rearm<".to_owned(),
        "action-expert".to_owned(),
    ] {
        assert!(page.contains(&wanted), "{wanted} in\n{page}");
    }
    for view in ["ego", "left_wrist", "right_wrist"] {
        assert!(
            page.contains(&format!("what camera {view} sees")),
            "{view} in\n{page}"
        );
    }
    assert!(
        page.contains("data-stale=\"false\"") && page.contains(">frame "),
        "no picture in\n{page}"
    );
    daemon.term();
}

/// Whoever opens the page reads that the network has learnt nothing.
#[test]
fn the_page_says_that_the_network_is_untrained() {
    let Some(browser) = browser() else { return };
    let dir = TempDir::new();
    let daemon = Daemon::start_with(&data_in(&dir), &["--policy", "xr0"]);
    let page = dump(&browser, &TempDir::new(), &daemon.server().url());
    for wanted in [">xr0-tiny-untrained<", "untrained: random weights"] {
        assert!(page.contains(wanted), "{wanted} in\n{page}");
    }
    daemon.term();
}
