//! `vlad sim`: the demo world in a process of its own, for daemons whose roles are several processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use vlad_sim::served::server::WorldServer;
use vlad_wire::clock::{SharedClock, SystemClock};

use crate::cli::key_value;
use crate::config::world::World;
use crate::config::{Config, Sources};
use crate::daemon::{data_folder, world};

/// The socket's name in the runtime or data folder.
const SOCKET: &str = "world.sock";

/// Flags of `sim`.
#[derive(Debug, Clone, Default, Args)]
pub struct SimArgs {
    /// Where to serve [default: the path in cell.world, else world.sock in systemd's runtime folder,
    /// else in the data folder].
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The cell whose world it is: a shipped name or a TOML file [default: demo].
    #[arg(long, value_name = "NAME|FILE")]
    pub cell: Option<String>,
    /// A configuration file on top of the defaults; later ones win; repeat for several.
    #[arg(long = "config", value_name = "FILE")]
    pub configs: Vec<PathBuf>,
    /// A single setting on top of all files; repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
}

/// Serves one cell's world until it is told to end.
///
/// # Errors
/// [`crate::config::ConfigError`] for settings; a socket that is taken or cannot be made.
pub fn run(args: &SimArgs) -> anyhow::Result<()> {
    let sets = args.settings.iter();
    let config = Config::load(&Sources {
        cells: args.cell.iter().cloned().collect(),
        files: args.configs.clone(),
        sets: sets.map(|(key, value)| format!("{key}={value}")).collect(),
        ..Sources::default()
    })
    .context("the configuration is refused")?;
    let [cell] = config.cells.as_slice() else {
        anyhow::bail!("a world has one cell: name it with --cell");
    };
    let path = match (&args.socket, &cell.cell.world) {
        (Some(path), _) | (None, World::Unix(path)) => path.clone(),
        (None, World::InProcess) => default_socket(&config)?,
    };
    let path = std::path::absolute(&path).context("--socket")?;
    let clock: SharedClock = Arc::new(SystemClock);
    let scene = cell.scenery.table().ok_or_else(|| {
        let problem = "must be sim: the world of another kind runs in the daemon's own process";
        cell.merged.error("cell.kind", problem)
    });
    let scene = scene.context("the configuration is refused")?;
    let world = world::make(cell, scene, clock.now_ns())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // Before the socket: whoever sees it may already send a signal.
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let running = world.run_realtime(clock.clone())?;
        let server = WorldServer::start(world, &path)?;
        info!(cell = %cell.cell.name, "the world is served: set cell.world to unix:{}", path.display());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let counts = server.counts();
        info!(?counts, n_skipped = running.n_skipped(), "the world ends");
        anyhow::Ok(())
    })
}

/// Gives the socket's usual place, in a folder that is there.
fn default_socket(config: &Config) -> anyhow::Result<PathBuf> {
    let folder = match runtime_folder() {
        Some(folder) => folder,
        None => data_folder(config)?,
    };
    make_folder(&folder)?;
    Ok(folder.join(SOCKET))
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make {}: name a --socket", folder.display()))?;
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "systemd names the folder of sockets by environment"
)]
fn runtime_folder() -> Option<PathBuf> {
    let folders = std::env::var("RUNTIME_DIRECTORY").ok()?;
    // systemd lists several folders with colons between them; the first one is ours.
    let first = folders.split(':').next()?;
    (!first.is_empty()).then(|| PathBuf::from(first))
}
