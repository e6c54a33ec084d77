use serde_json::{Value, json};

use super::Config;

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/fixtures/xr0-tiny/model/config.json"
);

fn golden() -> Value {
    serde_json::from_slice(&std::fs::read(GOLDEN).unwrap()).unwrap()
}

/// Sets the value at a JSON pointer; the table around it must be there.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (table, key) = pointer.rsplit_once('/').unwrap();
    let table = config.pointer_mut(table).unwrap().as_object_mut().unwrap();
    table.insert(key.to_owned(), value);
}

const SECTION: &str = "text_config.rope_scaling.mrope_section is missing or does not fit head_dim: it must add up to head_dim / 2";

#[test]
fn a_setting_that_is_not_computed_is_refused_by_name() {
    let text = "/vlm_config/text_config";
    let vision = "/vlm_config/vision_config";
    let table = [
        (
            "/model_type".to_owned(),
            json!("pi0"),
            "model_type must be mibot",
        ),
        (
            format!("{text}/hidden_act"),
            json!("gelu"),
            "text_config.hidden_act must be silu",
        ),
        (
            format!("{vision}/hidden_act"),
            json!("gelu"),
            "vision_config.hidden_act must be gelu_pytorch_tanh",
        ),
        (
            format!("{text}/rope_scaling/rope_type"),
            json!("yarn"),
            "text_config.rope_scaling.rope_type must be default",
        ),
        (
            format!("{text}/rms_norm_eps"),
            json!(0.0),
            "text_config.rms_norm_eps must be above 0",
        ),
        (
            format!("{text}/rms_norm_eps"),
            json!(-1e-6),
            "text_config.rms_norm_eps must be above 0",
        ),
        // Too few, too many, and more than a number holds.
        (
            format!("{text}/rope_scaling/mrope_section"),
            json!([3, 2, 2]),
            SECTION,
        ),
        (
            format!("{text}/rope_scaling/mrope_section"),
            json!([5, 2, 2]),
            SECTION,
        ),
        (
            format!("{text}/rope_scaling/mrope_section"),
            json!([u64::MAX, u64::MAX, u64::MAX]),
            SECTION,
        ),
        // Adds up, but the frequencies of the height do not reach.
        (
            format!("{text}/rope_scaling/mrope_section"),
            json!([2, 4, 2]),
            SECTION,
        ),
        (
            format!("{vision}/deepstack_visual_indexes"),
            json!([0, 2, 1]),
            "vision_config.deepstack_visual_indexes must ascend",
        ),
        (
            format!("{vision}/deepstack_visual_indexes"),
            json!([0, 1, 1]),
            "vision_config.deepstack_visual_indexes must ascend",
        ),
    ];
    for (pointer, value, problem) in table {
        let mut config = golden();
        set(&mut config, &pointer, value.clone());
        let faults = Config::parse(&config.to_string()).unwrap_err();
        assert_eq!([problem], *faults, "{pointer} = {value}");
    }
}

#[test]
fn a_setting_with_one_known_value_may_be_absent() {
    let mut config = golden();
    for (table, key) in [
        ("", "model_type"),
        ("/vlm_config/text_config", "hidden_act"),
        ("/vlm_config/vision_config", "hidden_act"),
        ("/vlm_config/text_config/rope_scaling", "rope_type"),
    ] {
        let table = config.pointer_mut(table).unwrap().as_object_mut().unwrap();
        assert!(table.remove(key).is_some(), "{key}");
    }
    assert!(Config::parse(&config.to_string()).is_ok());
}
