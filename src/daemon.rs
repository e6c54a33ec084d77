//! The composition root: START READING HERE.
//!
//! Straight through: settings → policy → data folder → bus → world → roles → REST → wait → stop.
//! Nothing is decided here; every part is made from its own settings and handed to the supervisor.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};
use vlad_actors::gateway::desk::{Desk, GuardOrder, desk};
use vlad_actors::supervisor::{Arguments, Supervision, SupervisorEvent};
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::waker::Waker;
use vlad_motion::policy::Policy;
use vlad_store::episodes::EpisodeStore;
use vlad_store::lock::DataDir;
use vlad_wire::clock::{SharedClock, SystemClock};
use vlad_wire::id::Role;
use vlad_wire::msg::command::Signature;
use vlad_wire::text::Note;

use crate::api::{self, ApiState};
use crate::cli::RunArgs;
use crate::config::world::World;
use crate::config::{CellConfig, Config, ConfigError, Sources};
use roles::{Ground, Storage};

pub mod policy;
pub mod roles;
pub mod world;

/// Worker threads of the runtime: REST, the bus and the actors' shells are light, and the cores
/// belong to the roles' own threads.
const RUNTIME_THREADS: usize = 2;

/// Runs the daemon until it is told to end.
///
/// # Errors
/// [`ConfigError`] for settings; anything else that keeps it from starting, or a role that was
/// given up.
pub fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    let config = Config::load(&sources(arguments)).context("the configuration is refused")?;
    let roles = which_roles(arguments, &config)?;
    check_endpoints(arguments)?;
    let policy = policy::open(&config, &roles)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(arguments, (config, policy), roles))
}

async fn serve(
    arguments: &RunArgs,
    (config, policy): (Config, Option<Arc<dyn Policy>>),
    roles: Vec<Role>,
) -> anyhow::Result<()> {
    let clock: SharedClock = Arc::new(SystemClock);
    let bind: SocketAddr = config.daemon.bind.parse().context("daemon.bind")?;
    let listener = if roles.contains(&Role::Gateway) {
        Some(TcpListener::bind(bind).await.with_context(|| {
            format!("cannot listen on {bind}: is another daemon running? --bind takes another port")
        })?)
    } else {
        None
    };
    let storage = storage(&roles, &config, &clock)?;
    let bus = Bus::zenoh(ZenohConfig {
        listen: arguments.listen.iter().cloned().collect(),
        connect: arguments.connect.clone(),
        shared_memory_mib: config.daemon.shared_memory_mib,
    })
    .await?;
    let ground = Ground::new(config, policy, bus.clone(), clock.clone())?;
    let worlds = ground.run_worlds()?;

    let waker = Waker::new();
    let (desk, desk_server) = desk(waker.clone());
    let desk_server = Arc::new(Mutex::new(desk_server));
    let specs = roles::specs(&ground, &roles, storage.as_ref(), (waker, desk_server))?;
    let (events, mut supervised) = mpsc::channel(64);
    let supervisor_arguments = Arguments {
        roles: specs,
        clock: clock.clone(),
        events,
    };
    let supervisor = Supervision::start(supervisor_arguments)
        .await
        .context("cannot start the roles")?;

    let (stop, stopped) = watch::channel(false);
    let http = listener.map(|listener| {
        let state = ApiState {
            desk: desk.clone(),
            episodes: storage.as_ref().map(|storage| storage.episodes.clone()),
            shapes: Arc::new(roles::shapes(&ground.config)),
            bus: bus.clone(),
            refusals: ground.refusals.clone(),
            clock: clock.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        info!("the page and the API are on http://{bind}");
        tokio::spawn(api::serve::serve(
            listener,
            api::router(state),
            until(stopped),
        ))
    });

    let result = wait(&ground, &roles, &desk, &mut supervised).await;
    info!("stopping");
    shut_down(&supervisor, &roles, &mut supervised).await;
    stop.send_replace(true);
    if let Some(http) = http {
        http.await.context("the HTTP server panicked")??;
    }
    supervisor.end().await.context("the supervisor panicked")?;
    drop(worlds);
    bus.close().await;
    if let Some(storage) = storage {
        storage
            .episodes
            .flush()
            .context("the episode log cannot be flushed")?;
    }
    result
}

fn sources(arguments: &RunArgs) -> Sources {
    let sets = arguments
        .settings
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let typed = [
        (
            "--policy",
            "daemon.policy",
            arguments.policy.as_ref().map(ToString::to_string),
        ),
        (
            "--checkpoint",
            "daemon.checkpoint",
            arguments
                .checkpoint
                .as_ref()
                .map(|dir| dir.display().to_string()),
        ),
        (
            "--bind",
            "daemon.bind",
            arguments.bind.as_ref().map(ToString::to_string),
        ),
        (
            "--data",
            "daemon.data",
            arguments.data.as_ref().map(|dir| dir.display().to_string()),
        ),
    ];
    let flags = typed.into_iter().filter_map(|(flag, key, value)| {
        let value = value?;
        let quoted = serde_json::Value::String(value.clone());
        Some((format!("{flag} {value}"), format!("{key}={quoted}")))
    });
    let mut flags: Vec<_> = flags.collect();
    if let (Some(dir), None) = (&arguments.checkpoint, &arguments.policy) {
        let flag = format!("--checkpoint {}", dir.display());
        flags.push((flag, "daemon.policy=xr0".to_owned()));
    }
    Sources {
        cells: arguments.cells.clone(),
        files: arguments.configs.clone(),
        sets: sets.collect(),
        flags,
    }
}

/// Says which roles this process runs, and refuses a split that cannot work.
fn which_roles(arguments: &RunArgs, config: &Config) -> Result<Vec<Role>, ConfigError> {
    let fault = |problem: &str| ConfigError {
        layer: "--role".to_owned(),
        key: "-".to_owned(),
        problem: problem.to_owned(),
    };
    let wanted = |role: &Role| arguments.roles.is_empty() || arguments.roles.contains(role);
    let roles: Vec<_> = Role::ALL.into_iter().filter(wanted).collect();
    let has = |role| roles.contains(&role);
    let in_process = |cell: &CellConfig| cell.cell.world == World::InProcess;
    if has(Role::Perception) != has(Role::Actuator) && config.cells.iter().any(in_process) {
        return Err(fault(
            "perception and actuator of a simulated cell must run in one process, because a world \
             has one owner; or let `vlad sim` serve the world, and set cell.world to its socket",
        ));
    }
    if has(Role::Gateway) != has(Role::Recorder) {
        return Err(fault(
            "gateway and recorder share a data folder: name both or none",
        ));
    }
    if roles.len() < Role::ALL.len() && arguments.listen.is_none() && arguments.connect.is_empty() {
        return Err(fault(
            "some roles alone need --listen or --connect, to reach the others",
        ));
    }
    if let Some(name) = arguments.faults.first() {
        return Err(ConfigError {
            layer: "--fault".to_owned(),
            key: name.clone(),
            problem: "there is no such fail point in this build".to_owned(),
        });
    }
    Ok(roles)
}

/// Refuses endpoints of the bus before anything is made.
fn check_endpoints(arguments: &RunArgs) -> Result<(), ConfigError> {
    let flags = [
        ("--listen", arguments.listen.as_slice()),
        ("--connect", &arguments.connect),
    ];
    for (flag, endpoints) in flags {
        let config = ZenohConfig {
            listen: endpoints.to_vec(),
            ..ZenohConfig::default()
        };
        config.check().map_err(|error| ConfigError {
            layer: flag.to_owned(),
            key: "-".to_owned(),
            problem: error.to_string(),
        })?;
    }
    Ok(())
}

fn storage(
    roles: &[Role],
    config: &Config,
    clock: &SharedClock,
) -> anyhow::Result<Option<Storage>> {
    if !roles.contains(&Role::Gateway) {
        return Ok(None);
    }
    let path = data_folder(config)?;
    let dir = DataDir::open(&path)?;
    info!(data = %path.display(), "data folder");
    let episodes = EpisodeStore::open(dir.path()).context("cannot open the episode log")?;
    Ok(Some(Storage {
        dir: Arc::new(dir),
        episodes,
        clock: clock.clone(),
    }))
}

/// Says where tasks, episodes and checkpoints of our own making lie.
///
/// # Errors
/// No setting and no environment that names a folder.
pub fn data_folder(config: &Config) -> anyhow::Result<PathBuf> {
    match &config.daemon.data {
        Some(path) => Ok(path.clone()),
        None => default_data_folder(),
    }
}

/// Gives the data folder that is used where no setting names one.
///
/// # Errors
/// No environment that names a folder.
#[expect(
    clippy::disallowed_methods,
    reason = "systemd and XDG name folders by environment"
)]
pub fn default_data_folder() -> anyhow::Result<PathBuf> {
    if let Ok(folder) = std::env::var("STATE_DIRECTORY") {
        // systemd lists several folders with colons between them; the first one is ours.
        return Ok(PathBuf::from(folder.split(':').next().unwrap_or(&folder)));
    }
    if let Ok(folder) = std::env::var("XDG_DATA_HOME")
        && !folder.is_empty()
    {
        return Ok(PathBuf::from(folder).join("vlad"));
    }
    let home = std::env::var("HOME").context("no data folder: set HOME, or give --data DIR")?;
    Ok(PathBuf::from(home).join(".local/share/vlad"))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop too.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// Waits for a signal, or for a role that was given up.
async fn wait(
    ground: &Ground,
    roles: &[Role],
    desk: &Desk,
    supervised: &mut mpsc::Receiver<SupervisorEvent>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            event = supervised.recv() => match event {
                None => anyhow::bail!("the supervisor has ended"),
                Some(SupervisorEvent::GivenUp(role))
                    if roles.len() < Role::ALL.len() || matches!(role, Role::Gateway | Role::Actuator) =>
                {
                    anyhow::bail!("{role} was restarted too often; see the log above");
                }
                Some(SupervisorEvent::GivenUp(role)) => latch_all(ground, desk, role).await,
                Some(SupervisorEvent::Stopped(_) | SupervisorEvent::Restarting(..)) => {}
            },
        }
    }
}

/// Latches every cell: a role that cannot be kept alive needs a person.
async fn latch_all(ground: &Ground, desk: &Desk, role: Role) {
    let by = Signature {
        operator: Note::cleaned("supervisor"),
        reason: Note::cleaned(&format!("{role} was restarted too often")),
    };
    for cell in &ground.config.cells {
        let order = desk.guard(cell.cell.name.clone(), GuardOrder::Estop, by.clone());
        if let Err(error) = order.await {
            error!(cell = %cell.cell.name, %error, "the guard cannot be latched");
        }
    }
}

/// Stops the roles: tasks and motion first, then upstream to downstream, the log last.
async fn shut_down(
    supervisor: &Supervision,
    roles: &[Role],
    supervised: &mut mpsc::Receiver<SupervisorEvent>,
) {
    let phases: [&[Role]; 3] = [
        &[Role::Gateway],
        &[
            Role::Perception,
            Role::Brain,
            Role::ActionExpert,
            Role::Actuator,
        ],
        &[Role::Recorder],
    ];
    for phase in phases {
        let mut ending: Vec<_> = phase
            .iter()
            .copied()
            .filter(|role| roles.contains(role))
            .collect();
        if !supervisor.stop_roles(&ending) {
            return;
        }
        let all = async {
            while !ending.is_empty() {
                match supervised.recv().await {
                    Some(SupervisorEvent::Stopped(role)) => ending.retain(|other| *other != role),
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(5), all)
            .await
            .is_err()
        {
            warn!(roles = ?phase, "did not stop in time");
        }
    }
}
