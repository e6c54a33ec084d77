//! Contexts in shared memory, between real processes that are stopped and killed: whatever arrives
//! is what was sent, as long as anybody holds it.

use std::time::Duration;

use vlad::bench::child::Launcher;
use vlad::bench::soak::{SoakOptions, run};

use crate::support::Places;

#[test]
fn nothing_that_arrives_in_shared_memory_was_ever_anything_else() {
    let _place = Places::take(2);
    let launcher = Launcher {
        binary: env!("CARGO_BIN_EXE_vlad").into(),
        arguments: vec!["bench".to_owned(), "child".to_owned()],
    };
    let options = SoakOptions {
        parts: 200,
        faults: 2,
        // So that the pool is used up, and the socket is full.
        stopped: Duration::from_millis(300),
        busy_threads: 2,
        // Below what a user may lock into memory, often 8 MiB.
        shared_memory_mib: 6,
        sizes: (50_000, 200_000),
    };
    let phases = run(&launcher, options, &mut |_| {}).unwrap();
    for phase in &phases {
        assert!(phase.is_clean(), "{phase:?}");
        assert!(0 < phase.seen.shared, "{phase:?}");
    }
    let stopped = phases.iter().find(|phase| phase.name == "reader stopped");
    assert!(0 < stopped.unwrap().refused, "the pool was never used up");
}
