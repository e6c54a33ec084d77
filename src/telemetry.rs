//! Logs: text on a terminal, JSON lines under systemd; always to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::ConfigError;

/// What is logged when nobody says otherwise: our facts, and what libraries warn of.
const FILTER: &str =
    "info,zenoh=error,zenoh_transport=error,zenoh_link_commons=warn,zenoh_shm=error";

/// Begins to log. `filter` is `--log`.
///
/// # Errors
/// [`ConfigError`] if the filter cannot be read.
pub fn start(filter: Option<&str>) -> anyhow::Result<()> {
    let filter = filter.unwrap_or(FILTER);
    let filter = EnvFilter::try_new(filter).map_err(|error| ConfigError {
        layer: "--log".to_owned(),
        key: filter.to_owned(),
        problem: format!("is no filter such as info or vlad_actors=debug,warn: {error}"),
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    if under_systemd() {
        builder
            .json()
            .flatten_event(true)
            .with_thread_names(true)
            .init();
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_thread_names(true)
            .init();
    }
    Ok(())
}

/// Whether systemd started this process.
#[expect(
    clippy::disallowed_methods,
    reason = "systemd speaks by environment variables"
)]
fn under_systemd() -> bool {
    std::env::var("INVOCATION_ID").is_ok()
}
