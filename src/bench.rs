//! Measurements and trials between real processes: what `vlad bench` runs.
//!
//! A trial starts copies of this very binary, tells them over pipes what to do and ends them by
//! their id. A claim is a ratio of two things that one run measured side by side, in turns; raw
//! samples and what the machine is go beside it.
//!
//! | module | holds |
//! |---|---|
//! | [`machine`] | what the machine is; pinning to a core |
//! | [`samples`] | medians and the raw numbers behind them |
//! | [`payload`] | bytes whose every change is noticed, as parts of contexts |
//! | [`child`] | a copy of this binary: started, told, stopped, killed |
//! | [`source`] | the child that publishes parts |
//! | [`serve`] | what a child is told at its start |
//! | [`sink`] | the child that reads parts and looks at each |
//! | [`faults`] | every fault of the list, played in virtual time |
//! | [`handover`] | bytes from one process to another against a copy in memory |
//! | [`soak`] | shared memory under load, with stopped and killed processes |
//! | [`asynchronous`] | strategies against delay, in virtual time: no processes |
//! | [`reaction`] | how soon a sudden change is answered: the same |
//! | [`streaming`] | what it saves that a context is published layer by layer |

use vlad_wire::id::CellId;
use vlad_wire::text::Name;

pub mod asynchronous;
pub mod child;
pub mod faults;
pub mod handover;
pub mod machine;
pub mod payload;
pub mod reaction;
pub mod samples;
pub mod serve;
pub mod sink;
pub mod soak;
pub mod source;
pub mod streaming;
mod turns;

/// The cell of all trials; their buses are their own.
fn cell() -> anyhow::Result<CellId> {
    Ok(Name::new("bench")?)
}

/// What a session of zenoh needs around it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}
