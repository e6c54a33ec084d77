//! Every fault of the reference's list (B.6), with what plays it.

use super::finding::Finding;
use super::{clocks, network, policies, processes, robots, sensors, threads};

/// Plays one fault with one seed.
pub type Play = fn(u64) -> anyhow::Result<Finding>;

/// A fault.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Its number in the reference.
    pub id: &'static str,
    /// What is injected.
    pub title: &'static str,
    /// What plays it; `None` where nothing does yet.
    pub play: Option<Play>,
}

const fn played(id: &'static str, title: &'static str, play: Play) -> Fault {
    Fault {
        id,
        title,
        play: Some(play),
    }
}

const fn open(id: &'static str, title: &'static str) -> Fault {
    Fault {
        id,
        title,
        play: None,
    }
}

/// All of them, in order.
pub const FAULTS: [Fault; 64] = [
    played(
        "F01",
        "brain or expert killed, at twelve moments of a decision",
        processes::model_killed,
    ),
    played("F02", "gateway killed in motion", processes::gateway_killed),
    played("F03", "guard killed in motion", processes::guard_killed),
    played(
        "F04",
        "recorder killed in motion",
        processes::recorder_killed,
    ),
    played(
        "F05",
        "expert, then brain, stopped for 5 s",
        processes::model_stopped,
    ),
    played(
        "F06",
        "a stopped gateway goes on after another took the cell",
        processes::gateway_stopped,
    ),
    played("F07", "every role's thread panics", threads::threads_panic),
    played(
        "F08",
        "one thread after the other hangs",
        threads::threads_hang,
    ),
    played(
        "F09",
        "the servo thread gets no processor",
        processes::processor_taken,
    ),
    open("F10", "memory runs out, a process is killed for it"),
    open("F11", "power cut in motion and in a commit"),
    open("F12", "file descriptors or threads run out"),
    played(
        "F13",
        "model or gateway cut off for 1, 5, 60 s",
        network::partitioned,
    ),
    played(
        "F14",
        "everything lost while a router restarts",
        network::router_restarts,
    ),
    played(
        "F15",
        "5 % loss, 20 % reordering, 5 % doubling, spikes of 300 ms",
        network::rough_link,
    ),
    played(
        "F16",
        "a reader of images reads once a second",
        network::slow_reader,
    ),
    played(
        "F17",
        "requests come through, chunks do not",
        network::replies_lost,
    ),
    open("F18", "half-open connections and slow requests at the API"),
    open("F19", "messages too large for the link"),
    open("F20", "two daemons for one cell"),
    played(
        "F21",
        "the wall clock jumps by an hour",
        clocks::wall_clock_jumps,
    ),
    played(
        "F22",
        "perception's host has another clock",
        clocks::hosts_differ,
    ),
    played("F23", "the machine was asleep", clocks::machine_slept),
    played(
        "F24",
        "the guard's thread stands still for 50 ms",
        clocks::guard_stalls,
    ),
    played(
        "F25",
        "a decision runs out of memory, once and always",
        policies::out_of_memory,
    ),
    open("F26", "the graphics processor is lost"),
    open("F27", "numbers that are none, in weights or results"),
    open("F28", "a checkpoint that is cut, damaged or another one"),
    open(
        "F29",
        "a checkpoint with other tensors or another normaliser",
    ),
    open(
        "F30",
        "a checkpoint that computes something else than where it was made",
    ),
    played(
        "F31",
        "decisions slow down from 80 to 500 ms and recover",
        policies::latency_ramp,
    ),
    played(
        "F32",
        "chunks that stand still, loop, dash or are no numbers",
        policies::adversarial,
    ),
    played(
        "F33",
        "each chunk contradicts the one before",
        policies::undecided,
    ),
    played(
        "F34",
        "a strategy that the checkpoint cannot follow",
        policies::impossible_strategy,
    ),
    played(
        "F35",
        "a camera repeats its picture under new stamps",
        sensors::frozen,
    ),
    played(
        "F36",
        "a camera repeats its frame",
        sensors::frozen_with_old_stamps,
    ),
    played("F37", "a camera sees black, white or noise", sensors::blind),
    played(
        "F38",
        "another device behind a camera's port",
        sensors::swapped,
    ),
    played(
        "F39",
        "frames lost, doubled and reordered",
        sensors::reordered,
    ),
    played(
        "F40",
        "one camera's stamps are 100 ms behind",
        sensors::skewed,
    ),
    played(
        "F41",
        "an encoder jumps, sticks or gives no number",
        robots::encoder_fails,
    ),
    played(
        "F42",
        "a camera changes its format",
        sensors::format_changes,
    ),
    played(
        "F43",
        "the robot's own controller stops it",
        robots::vendor_stops,
    ),
    played(
        "F44",
        "the driver fails, is gone, or repeats an old state",
        robots::driver_fails,
    ),
    played(
        "F45",
        "the robot is moved by hand while it waits",
        robots::moved_by_hand,
    ),
    played("F46", "a gripper jams", robots::gripper_jams),
    open("F47", "limits mistyped in a configuration"),
    open("F48", "a full disk"),
    open("F49", "a disk that fails or takes seconds"),
    open("F50", "torn and lost writes"),
    open("F51", "flipped bits on the disk"),
    open("F52", "a read-only disk, or one without inodes"),
    open("F53", "a recorder that stalls"),
    open("F54", "the same task submitted twice"),
    open("F55", "a crash between intent and first command"),
    open("F56", "cancel, pause and e-stop at once"),
    open("F57", "unknown keys and wrong types in a configuration"),
    open("F58", "bodies too large, too deep, compressed too well"),
    open("F59", "malformed MessagePack"),
    open("F60", "pickles and tensors with lying headers"),
    open("F61", "paths that lead out of a folder"),
    open("F62", "callers without the right"),
    open("F63", "certificates that are expired or another's"),
    open("F64", "instructions that inject lines or orders"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_complete_and_what_must_be_played_is() {
        for (fault, nth) in FAULTS.iter().zip(1..) {
            assert_eq!(fault.id, format!("F{nth:02}"));
            let must = matches!(nth, 1..=9 | 13..=17 | 21..=25 | 31..=46);
            assert_eq!(fault.play.is_some(), must, "{}", fault.id);
        }
    }
}
