//! The real gateway in a rehearsal: tasks come from a store on a disk, not from a dispatcher.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use vlad_actors::gateway::cell::CellSpec;
use vlad_actors::gateway::desk::desk;
use vlad_actors::gateway::{Gateway, GatewayParts};
use vlad_bus::waker::Waker;
use vlad_store::tasks::TaskStore;
use vlad_wire::id::Role;
use vlad_wire::text::Name;

use super::Run;

/// Of the gateway; others have small numbers.
const SESSION: u64 = 1000;

/// Adds the gateway, which arms the guard once and gives the cell to the store's tasks.
///
/// # Errors
/// What the bus says.
pub fn add(run: &mut Run, store: TaskStore) -> anyhow::Result<()> {
    let (bus, clock) = (run.stepped.bus().clone(), run.stepped.clock());
    let waker = Waker::new();
    let (_, server) = desk(waker.clone());
    let spec = CellSpec {
        id: run.config.cell.name.clone(),
        robot: run.config.robot.clone(),
        simulated: true,
        arm_at_start: true,
        strategy: Name::new("auto")?,
    };
    let parts = GatewayParts {
        cells: vec![spec],
        store,
        desk: Arc::new(Mutex::new(server)),
        armed_once: Arc::new(AtomicBool::new(false)),
        session: SESSION,
    };
    let gateway = Gateway::new(&bus, &clock, &waker, parts)?;
    run.stepped.add(Role::Gateway, Box::new(gateway));
    Ok(())
}
