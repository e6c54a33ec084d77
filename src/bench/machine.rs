//! What the machine is, and on which of its cores a thread runs.

use std::fs;
use std::thread::available_parallelism;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// What a measurement was made on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor's own name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Memory, mebibytes.
    pub memory_mib: u64,
    /// Processes that wanted a core in the last minute, on average, before the run.
    pub load: String,
    /// This build's version.
    pub version: &'static str,
    /// Whether this build is optimised; numbers of another say nothing.
    pub optimised: bool,
}

impl Machine {
    /// Reads what the kernel tells; what it does not tell is empty.
    pub fn read() -> Self {
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_default();
        let memory_kib = field("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            processor,
            cores: available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// Gives the first value of a name in one of the kernel's lists.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Pins this thread, and every thread that it starts from now on, to one core.
///
/// # Errors
/// What the system says, for a core that there is not.
pub fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}

/// Does something while this thread is pinned to a core, such as starting a process, which stays
/// there.
///
/// # Errors
/// What the system says, for a core that there is not.
pub fn on_core<T>(core: usize, doing: impl FnOnce() -> T) -> anyhow::Result<T> {
    let before = sched_getaffinity(None).context("cannot read which cores are allowed")?;
    pin(core)?;
    let done = doing();
    sched_setaffinity(None, &before).context("cannot leave the core again")?;
    Ok(done)
}
