//! Every fault that is played, one scenario each: what `vlad bench faults` plays, with one seed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use vlad::bench::faults::catalogue::FAULTS;
use vlad::bench::faults::{self, FaultOptions};

/// Plays one fault; panics with everything that was not as it must be.
#[track_caller]
fn play(id: &str) {
    let options = FaultOptions {
        only: vec![id.to_owned()],
        seeds: 1,
        first_seed: 1,
        threads: 1,
    };
    let rows = faults::run(&options, &|_| {}).unwrap();
    let row = &rows[0];
    assert!(0 < row.runs, "{id} is not played");
    assert!(row.pass, "{id}, {}: {:#?}", row.title, row.failed);
}

/// One test a fault.
macro_rules! scenarios {
    ($($name:ident $id:literal,)+) => {
        $(#[test] fn $name() { play($id); })+

        /// No fault is played by `vlad bench faults` alone.
        #[test]
        fn every_played_fault_is_a_scenario() {
            let mut played: Vec<&str> = FAULTS.iter().filter(|f| f.play.is_some()).map(|f| f.id).collect();
            played.retain(|id| ![$($id),+].contains(id));
            assert!(played.is_empty(), "{played:?}");
        }
    };
}

scenarios! {
    f01_a_killed_brain_or_expert_stops_the_robot "F01",
    f02_a_killed_gateway_ends_in_hold_with_its_lease "F02",
    f03_a_killed_guard_leaves_the_vendors_stop "F03",
    f04_a_killed_recorder_changes_no_command "F04",
    f05_a_stopped_model_process_stops_the_robot "F05",
    f06_a_gateway_that_was_stopped_is_fenced "F06",
    f07_threads_that_panic_leave_the_robot_standing "F07",
    f08_a_thread_that_hangs_leaves_the_robot_standing "F08",
    f09_late_servo_ticks_are_counted_and_stop "F09",
    f13_nothing_of_before_a_partition_is_replayed "F13",
    f14_a_router_that_restarts_doubles_no_command "F14",
    f15_a_rough_link_keeps_ticks_in_order "F15",
    f16_a_slow_reader_changes_no_command "F16",
    f17_lost_replies_leave_one_inference_in_flight "F17",
    f21_wall_clocks_move_nothing "F21",
    f22_another_hosts_stamps_are_mapped "F22",
    f23_a_machine_that_slept_is_a_fault "F23",
    f24_a_stalled_guard_sends_no_burst "F24",
    f25_out_of_memory_costs_a_decision "F25",
    f31_a_latency_ramp_does_not_make_the_strategy_waver "F31",
    f32_adversarial_chunks_stay_inside_and_loops_are_found "F32",
    f33_a_policy_that_contradicts_itself_is_held "F33",
    f34_an_impossible_strategy_is_refused_at_load "F34",
    f35_a_frozen_camera_is_known "F35",
    f36_a_camera_with_old_stamps_is_known "F36",
    f37_a_blind_camera_is_known "F37",
    f38_a_swapped_camera_moves_nothing "F38",
    f39_observations_never_go_back "F39",
    f40_skewed_cameras_are_known "F40",
    f41_a_failing_encoder_stops_the_robot "F41",
    f42_another_format_is_never_observed "F42",
    f43_a_vendors_stop_latches "F43",
    f44_a_failing_driver_stops_the_robot "F44",
    f45_a_robot_moved_by_hand_does_not_resume "F45",
    f46_a_jammed_gripper_is_not_crushed_nor_opened "F46",
}
