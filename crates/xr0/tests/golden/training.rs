//! The kinds `train`, `train_causal` and `train_proposal`: losses and gradients, each one detail off.

use serde_json::{Value, json};

use crate::copy::{Copy, add};

const EMBEDDING: &str = "vlm.model.language_model.embed_tokens.weight";

/// The set with one case of training and its base.
fn set(case: &str) -> Copy {
    let base = if case == "train_causal_r1" {
        "sync_v1_short"
    } else {
        "sync_b2"
    };
    Copy::of(&[base, case])
}

/// Names that fail in the case, its base's aside.
fn failing(set: &Copy) -> Vec<String> {
    set.failing()
}

fn assert_fails(set: &Copy, wanted: &[&str], what: &str) {
    let failing = failing(set);
    for wanted in wanted {
        assert!(
            failing.iter().any(|name| name == wanted),
            "{what}: {wanted} in {failing:?}"
        );
    }
}

#[test]
fn a_post_training_with_another_setting_fails_in_what_it_moves() {
    type Edit = fn(&mut Value);
    let table: [(&str, Edit, &[&str]); 4] = [
        (
            "train_p3",
            |case| case["local_window"] = json!(3),
            &[
                "dit.attn_mask",
                "pred",
                "online_actions",
                "loss",
                "cases.grad_norm_total",
            ],
        ),
        (
            "train_p3",
            |case| case["position_gap"] = json!(9),
            &["dit.position_ids", "pred", "loss_freq", "grad.sink.weight"],
        ),
        (
            "train_p3",
            |case| case["num_steps"] = json!(4),
            &["online_actions", "weight_final", "loss", "grad.sink.weight"],
        ),
        (
            "train_p0",
            |case| case["prefix_length"] = json!(1),
            &["pred", "target", "weight_final", "loss_mse", "loss_freq"],
        ),
    ];
    for (case, edit, wanted) in table {
        let set = set(case);
        set.edit_case(case, edit);
        assert_fails(&set, wanted, case);
    }
}

#[test]
fn a_hidden_prefix_that_is_ignored_fails() {
    let set = set("train_p6_hidden");
    set.edit_tensor("train_p6_hidden.safetensors", "hidden_prefix", |flags| {
        flags.fill(0);
    });
    let wanted = [
        "dit.attn_mask",
        "pred",
        "online_actions",
        "loss",
        "grad.sink.weight",
    ];
    assert_fails(&set, &wanted, "hidden_prefix");
}

/// All ones: what lies behind the end of the episode would be learned.
#[test]
fn a_mask_that_is_ignored_fails() {
    for (case, wanted) in [
        ("train_p0", &["pred", "loss_mse", "grad.sink.weight"][..]),
        ("train_causal_r1", &["pred", "loss", "grad.sink.weight"]),
        (
            "train_proposal",
            &["choice.distance", "loss_choice", "cases.loss"],
        ),
    ] {
        let set = set(case);
        set.edit_tensor(&format!("{case}.safetensors"), "action_mask", |mask| {
            for number in mask.chunks_exact_mut(4) {
                number.copy_from_slice(&1f32.to_le_bytes());
            }
        });
        assert_fails(&set, wanted, case);
    }
}

#[test]
fn a_changed_input_fails_in_loss_and_gradients() {
    // Of the noise the first number behind the prefix: three actions of eight slots.
    for (case, tensor, at, wanted) in [
        (
            "train_p3",
            "noise",
            24,
            &["x_t", "target", "online_actions", "loss"][..],
        ),
        ("train_p3", "t", 0, &["x_t", "pred", "loss"]),
        (
            "train_causal_r1",
            "state",
            0,
            &["pred", "loss", "cases.grad_norm_total"],
        ),
        (
            "train_proposal",
            "state",
            0,
            &[
                "choice.state_embed",
                "loss",
                "grad.action_embed_choice.weight",
            ],
        ),
        (
            "train_proposal",
            "action",
            0,
            &["choice.distance", "loss_choice", "loss_score", "cases.loss"],
        ),
    ] {
        let set = set(case);
        set.edit_tensor(&format!("{case}.safetensors"), tensor, |bytes| {
            add(bytes, at, 0.05);
        });
        assert_fails(&set, wanted, tensor);
    }
}

/// A table of single numbers of `cases.json`: a little more than the limit fails, a little less
/// passes.
#[test]
fn losses_and_norms_fail_beyond_their_limits() {
    let norm = "t_projector.layers.0.bias";
    let norms = format!("grad_norms.{norm}");
    for (key, inner, factor, wanted) in [
        ("loss", None, 1.0 + 2e-5, Some("cases.loss")),
        ("loss", None, 1.0 + 1e-6, None),
        (
            "grad_norm_total",
            None,
            1.0 - 2e-4,
            Some("cases.grad_norm_total"),
        ),
        ("grad_norm_total", None, 1.0 - 1e-5, None),
        ("grad_norms", Some(norm), 1.0 + 2e-4, Some(norms.as_str())),
        ("grad_norms", Some(norm), 1.0 + 1e-5, None),
    ] {
        let set = set("train_causal_r1");
        set.edit_case("train_causal_r1", |case| {
            let value = match inner {
                Some(inner) => &mut case[key][inner],
                None => &mut case[key],
            };
            *value = json!(value.as_f64().unwrap() * factor);
        });
        assert_eq!(failing(&set), Vec::from_iter(wanted), "{key} {factor}");
    }
}

/// One number of a stored gradient, by shares of its largest.
#[test]
fn a_gradient_fails_beyond_a_thousandth_of_its_largest_number() {
    for (share, fails) in [(2e-3, true), (1e-4, false)] {
        let set = set("train_causal_r1");
        set.edit_tensor("train_causal_r1.safetensors", "grad.sink.weight", |bytes| {
            let numbers = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes));
            let largest = numbers.fold(0f32, |largest, x| x.abs().max(largest));
            add(bytes, 5, share * largest);
        });
        let wanted: &[&str] = if fails { &["grad.sink.weight"] } else { &[] };
        assert_eq!(failing(&set), wanted, "{share}");
    }
}

#[test]
fn every_tensor_has_a_norm_or_is_absent_or_is_frozen() {
    type Edit = fn(&mut Value);
    let remove = |case: &mut Value, map: &str, key: &str| {
        assert!(case[map].as_object_mut().unwrap().remove(key).is_some());
    };
    let norm_gone = move |case: &mut Value| remove(case, "grad_norms", "sink.weight");
    let set = set("train_causal_r1");
    set.edit_case("train_causal_r1", norm_gone);
    assert_eq!(
        failing(&set),
        ["grad_norms.sink.weight"],
        "a norm that is not stored"
    );

    let table: [(&str, Edit, &[&str]); 5] = [
        (
            "train_causal_r1",
            |case| case["grads_absent"] = json!(["sink.weight"]),
            &["grads_absent.sink.weight"],
        ),
        (
            "train_causal_r1",
            |case| case["frozen"] = json!(["vlm.", "sink.weight"]),
            &["grad_norms.sink.weight", "grad.sink.weight"],
        ),
        (
            "train_causal_r1",
            |case| case["frozen"] = json!(["vlm.model.language_model."]),
            &["grad_norms.vlm.model.visual.pos_embed.weight"],
        ),
        (
            "train_p0",
            |case| {
                let absent = case["grads_absent"].as_array_mut().unwrap();
                absent.retain(|name| name != "vlm.model.language_model.norm.weight");
            },
            &["grad_norms.vlm.model.language_model.norm.weight"],
        ),
        (
            "train_p0",
            |case| {
                case["grads_absent"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!("dit.layers.9.nobody"));
            },
            &[],
        ),
    ];
    for (index, (case, edit, wanted)) in table.into_iter().enumerate() {
        let set = self::set(case);
        set.edit_case(case, edit);
        let failing = failing(&set);
        assert_eq!(
            failing.is_empty(),
            wanted.is_empty(),
            "{index}: {failing:?}"
        );
        assert_fails(&set, wanted, case);
    }
    let set = self::set("train_p0");
    set.edit_case("train_p0", |case| case["frozen"] = json!([]));
    assert_fails(
        &set,
        &[&format!("grad_norms.{EMBEDDING}")],
        "the embedding learns",
    );
}

#[test]
fn a_proposal_with_another_setting_fails_in_what_it_moves() {
    type Edit = fn(&mut Value);
    let table: [(Edit, &[&str]); 6] = [
        (
            |case| case["choice_weight"] = json!(0.4),
            &["loss", "grad.action_embed_choice.weight"],
        ),
        (
            |case| case["score_weight"] = json!(0.6),
            &["loss", "grad.score_embed_choice.weight"],
        ),
        (
            |case| case["steps"] = json!([10, 9]),
            &["input_ids", "choice.actions", "loss"],
        ),
        (
            |case| case["choices"] = json!(2),
            &["run", "loss", "grad.action_embed_choice.weight"],
        ),
        (
            |case| case["vl"]["answer"] = json!("The red block is on the bowl."),
            &[
                "vl.labels",
                "vl.input_ids",
                "vl_loss",
                "cases.grad_norm_total_vl",
            ],
        ),
        (
            |case| case["vl"]["question"] = json!("Which block?"),
            &["vl.input_ids", "vl.position_ids", "vl_loss"],
        ),
    ];
    for (index, (edit, wanted)) in table.into_iter().enumerate() {
        let set = set("train_proposal");
        set.edit_case("train_proposal", edit);
        assert_fails(&set, wanted, &index.to_string());
    }
    let set = set("train_proposal");
    set.edit_tensor("train_proposal.safetensors", "choice.winner", |bytes| {
        bytes[0] ^= 1;
    });
    assert_eq!(failing(&set), ["choice.winner"]);
}
