//! What a child is told at its start, and the bus that it opens.

use clap::ValueEnum;
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;

use super::{machine, sink, source};

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChildRole {
    /// Publishes parts.
    Source,
    /// Reads parts.
    Sink,
}

/// A child's duty.
#[derive(Debug, Clone)]
pub struct Duty {
    /// What it does.
    pub role: ChildRole,
    /// Where its bus listens.
    pub listen: Option<String>,
    /// Whom its bus calls.
    pub connect: Option<String>,
    /// Mebibytes of shared memory.
    pub shared_memory_mib: u16,
    /// The core that it is pinned to.
    pub core: Option<usize>,
}

/// Does it until nobody tells any more.
///
/// # Errors
/// A bus that does not open, orders that make no sense.
pub fn run(duty: &Duty) -> anyhow::Result<()> {
    if let Some(core) = duty.core {
        machine::pin(core)?;
    }
    let runtime = super::runtime()?;
    let cell = super::cell()?;
    runtime.block_on(async {
        let bus = Bus::zenoh(ZenohConfig {
            listen: duty.listen.iter().cloned().collect(),
            connect: duty.connect.iter().cloned().collect(),
            shared_memory_mib: duty.shared_memory_mib,
        })
        .await?;
        match duty.role {
            ChildRole::Source => source::run(&bus, &cell).await?,
            ChildRole::Sink => sink::run(&bus, &cell).await?,
        }
        bus.close().await;
        Ok(())
    })
}
