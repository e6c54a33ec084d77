//! The kind `async`: window, gap, prefix and codec, each one detail off.

use serde_json::{Value, json};

use crate::copy::{Copy, add};

/// The file of the case that is changed here, and its base.
const FILE: &str = "async_p3.safetensors";

fn prefix_of_three() -> Copy {
    Copy::of(&["sync_v2", "async_p3"])
}

#[test]
fn a_profile_that_differs_in_one_number_fails_in_what_it_moves() {
    type Edit = fn(&mut Value);
    let table: [(Edit, &[&str], &[&str]); 4] = [
        (
            |case| case["local_window"] = json!(3),
            &[
                "dit.attn_mask",
                "probe.v",
                "actions",
                "served/actions",
                "served/probe.v",
            ],
            &["dit.position_ids", "prefix_encoded"],
        ),
        (
            |case| case["position_gap"] = json!(9),
            &[
                "dit.position_ids",
                "dit.rope_cos",
                "actions",
                "served/actions",
            ],
            &["dit.attn_mask", "prefix_encoded"],
        ),
        (
            |case| case["prefix_length"] = json!(2),
            &["dit.position_ids", "euler.x.0", "actions", "served/actions"],
            &["dit.attn_mask", "prefix_encoded"],
        ),
        (
            |case| case["num_steps"] = json!(4),
            &["actions", "actions_decoded", "served/actions"],
            &["probe.v", "euler.v.0"],
        ),
    ];
    for (index, (edit, fail, pass)) in table.into_iter().enumerate() {
        let set = prefix_of_three();
        set.edit_case("async_p3", edit);
        let failing = set.failing();
        let fails = |name: &&&str| failing.iter().any(|failing| failing == **name);
        assert!(fail.iter().all(|name| fails(&name)), "{index}: {failing:?}");
        assert!(
            !pass.iter().any(|name| fails(&name)),
            "{index}: {failing:?}"
        );
    }
}

/// Not the same as no prefix: the gap lies before every action, and the window holds.
#[test]
fn the_released_path_does_not_pass_for_a_prefix_of_zero() {
    let set = Copy::of(&["sync_v2", "async_p0"]);
    set.edit_case("async_p0", |case| {
        case["position_gap"] = json!(0);
        case["local_window"] = json!(100);
    });
    let failing = set.failing();
    for wanted in [
        "dit.position_ids",
        "dit.attn_mask",
        "actions",
        "served/actions",
    ] {
        assert!(
            failing.iter().any(|name| name == wanted),
            "{wanted} in {failing:?}"
        );
    }
}

/// The first number of the prefix: a velocity there would leave it elsewhere.
#[test]
fn a_prefix_that_moves_fails() {
    for (tensor, addend, served) in [
        ("probe.v", 3e-5, true),
        ("actions", 3e-5, true),
        ("euler.v.0", 1.5e-4, false),
        ("euler.x.0", 1.5e-4, false),
    ] {
        let set = prefix_of_three();
        set.edit_tensor(FILE, tensor, |bytes| add(bytes, 0, addend));
        let mut wanted = vec![tensor.to_owned()];
        if served {
            wanted.push(format!("served/{tensor}"));
        }
        assert_eq!(set.failing(), wanted, "{tensor}");
    }
}

/// What the network never sees may be anything: rows behind the prefix, and inactive slots.
#[test]
fn rows_behind_the_prefix_and_unused_slots_play_no_part() {
    let (width, slots_unused) = (8, 6);
    for (at, fails) in [
        (3 * width, false),
        (9 * width + 7, false),
        (2 * width, true),
    ] {
        let set = prefix_of_three();
        set.edit_tensor(FILE, "action_source", |bytes| add(bytes, at, 0.5));
        assert_eq!(set.failing().is_empty(), !fails, "{at}");
    }
    let set = prefix_of_three();
    set.edit_tensor(FILE, "action_source", |bytes| add(bytes, slots_unused, 0.5));
    // It stays where it is, in the numbers that nobody decodes.
    let failing = set.failing();
    assert_eq!(failing, ["actions", "euler.x.0", "served/actions"]);
}

/// Leaving out the epsilon moves the codec by 1e-5.
#[test]
fn the_codec_is_close_enough_to_see_its_epsilon() {
    for (addend, fails) in [(5e-6, true), (-5e-6, true), (2e-7, false)] {
        let set = prefix_of_three();
        set.edit_tensor(FILE, "prefix_encoded", |bytes| add(bytes, 1, addend));
        let wanted: &[&str] = if fails { &["prefix_encoded"] } else { &[] };
        assert_eq!(set.failing(), wanted, "{addend}");
    }
}
