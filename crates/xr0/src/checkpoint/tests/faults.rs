//! The table of mutations.

use super::*;

/// Appends a tensor of `bytes` zero bytes to the second shard.
pub(super) fn append(dir: &Path, name: &str, dtype: &str, bytes: usize) {
    let (header, mut tensors) = split(dir, SECOND);
    let mut header: Value = serde_json::from_str(&header).unwrap();
    let (from, to) = (tensors.len(), tensors.len() + bytes);
    let size = if dtype == "F32" { 4 } else { 2 };
    header[name] = serde_json::json!({
        "dtype": dtype, "shape": [bytes / size], "data_offsets": [from, to],
    });
    tensors.resize(to, 0);
    join(dir, SECOND, &header.to_string(), &tensors);
}

/// A way to break a checkpoint, and how each fault then begins, in order.
struct Case {
    what: &'static str,
    change: fn(&Path),
    faults: &'static [&'static str],
}

/// Opens every broken copy and compares what is said of it, fault by fault.
fn check(test: &str, cases: &[Case]) {
    for Case {
        what,
        change,
        faults,
    } in cases
    {
        let copy = Copy::new(test);
        change(&copy.0);
        let error = Checkpoint::open(&copy.0).expect_err(what);
        assert!(
            error.to_string().starts_with(&copy.0.display().to_string()),
            "{what}: {error}"
        );
        let Error::Checkpoint { faults: found, .. } = error else {
            panic!("{what}: {error}");
        };
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let fits = |(found, wanted): (&String, &&str)| found.starts_with(*wanted);
        let all = found.len() == faults.len() && found.iter().zip(*faults).all(fits);
        assert!(all, "{what}: {found:#?}");
    }
}

#[test]
fn settings_that_cannot_be_read_are_named() {
    let cases = [
        Case {
            what: "an empty directory",
            change: |dir| {
                for entry in fs::read_dir(dir).unwrap() {
                    fs::remove_file(entry.unwrap().path()).unwrap();
                }
            },
            faults: &[
                "config.json: is absent",
                "model.safetensors.index.json: is absent, and so is model.safetensors",
                "preprocessor_config.json: is absent",
                "tokenizer.json: is absent",
            ],
        },
        Case {
            what: "a config that is no JSON",
            change: |dir| fs::write(dir.join("config.json"), "weights").unwrap(),
            faults: &["config.json: expected value at line 1 column 1"],
        },
        Case {
            what: "a config that is no text",
            change: |dir| fs::write(dir.join("config.json"), [b'{', 0xff]).unwrap(),
            faults: &["config.json: is no UTF-8 text"],
        },
        Case {
            what: "a config beyond the bound",
            change: |dir| fs::write(dir.join("config.json"), vec![b' '; 1_048_577]).unwrap(),
            faults: &["config.json: is 1048577 bytes long, at most 1048576 are read"],
        },
        Case {
            what: "a tokenizer that is a directory",
            change: |dir| {
                fs::remove_file(dir.join("tokenizer.json")).unwrap();
                fs::create_dir(dir.join("tokenizer.json")).unwrap();
            },
            faults: &["tokenizer.json: is not a regular file"],
        },
        Case {
            what: "a tokenizer of another kind",
            change: |dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap(),
            faults: &["tokenizer.json: "],
        },
        Case {
            what: "an index that is no JSON",
            change: |dir| fs::write(dir.join(read::INDEX), "{").unwrap(),
            faults: &["model.safetensors.index.json: EOF while parsing"],
        },
        Case {
            what: "an index without a map",
            change: |dir| fs::write(dir.join(read::INDEX), "{}").unwrap(),
            faults: &["model.safetensors.index.json: missing field `weight_map`"],
        },
    ];
    check("settings", &cases);
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let cases = [
        Case {
            what: "sizes that contradict",
            change: |dir| {
                edit(dir, "config.json", |config| {
                    config["dit_config"]["num_key_value_heads"] = 4.into();
                    config["state_length"] = 2.into();
                });
            },
            faults: &[
                "config.json: dit_config.num_key_value_heads must be the text model's",
                "config.json: state_length must be 1",
            ],
        },
        Case {
            what: "an image token with another id",
            change: |dir| {
                edit(dir, "config.json", |config| {
                    config["vlm_config"]["image_token_id"] = 397.into();
                    config["vlm_config"]["vision_end_token_id"] = 1.into();
                });
            },
            faults: &[
                "tokenizer.json: gives <|image_pad|> the id 398, image_token_id of config.json says 397",
                "tokenizer.json: gives <|vision_end|> the id 396, vision_end_token_id of config.json says 1",
            ],
        },
        Case {
            what: "a tokenizer without image tokens",
            change: |dir| {
                edit(dir, "tokenizer.json", |tokenizer| {
                    tokenizer["added_tokens"]
                        .as_array_mut()
                        .unwrap()
                        .truncate(12);
                });
            },
            faults: &[
                "tokenizer.json: lacks the token <|image_pad|>, image_token_id of config.json says 398",
            ],
        },
        Case {
            what: "a std table of another width",
            change: |dir| {
                edit(dir, "preprocessor_config.json", |file| {
                    file["action_config"]["tiny_all"]["std"] = vec![vec![0.5; 7]; 10].into();
                });
            },
            faults: &["preprocessor_config.json: action_config.tiny_all: std"],
        },
    ];
    check("contradictions", &cases);
}

#[test]
fn prompt_tokens_that_are_not_special_are_named() {
    let cases = [Case {
        what: "prompt tokens that foreign text could hold",
        change: |dir| {
            edit(dir, "tokenizer.json", |tokenizer| {
                for token in tokenizer["added_tokens"].as_array_mut().unwrap() {
                    if ["<|im_end|>", "<|image_pad|>"]
                        .map(Value::from)
                        .contains(&token["content"])
                    {
                        token["special"] = false.into();
                    }
                }
            });
        },
        faults: &[
            "tokenizer.json: says that <|im_end|> is not special, it must be",
            "tokenizer.json: says that <|image_pad|> is not special, it must be",
        ],
    }];
    check("special", &cases);
}

#[test]
fn shards_that_lie_are_named() {
    let cases = [
        Case {
            what: "a truncated shard",
            change: |dir| {
                let bytes = fs::read(dir.join(SECOND)).unwrap();
                fs::write(dir.join(SECOND), &bytes[..bytes.len() - 1]).unwrap();
            },
            faults: &[
                "model-00002-of-00002.safetensors: is truncated: its header describes 774944 bytes, it has 774943",
            ],
        },
        Case {
            what: "a shard with bytes behind",
            change: |dir| {
                let bytes = fs::read(dir.join(SECOND)).unwrap();
                fs::write(dir.join(SECOND), [&*bytes, &[0]].concat()).unwrap();
            },
            faults: &[
                "model-00002-of-00002.safetensors: is too long: its header describes 774944 bytes, it has 774945",
            ],
        },
        Case {
            what: "an empty shard",
            change: |dir| fs::write(dir.join(FIRST), "").unwrap(),
            faults: &[
                "model-00001-of-00002.safetensors: is truncated: 0 bytes are no safetensors file",
            ],
        },
        Case {
            what: "an absurd header length",
            change: |dir| {
                let mut bytes = fs::read(dir.join(FIRST)).unwrap();
                bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
                fs::write(dir.join(FIRST), bytes).unwrap();
            },
            faults: &[
                "model-00001-of-00002.safetensors: says its header has 18446744073709551615 bytes, at most 100000000",
            ],
        },
        Case {
            what: "a header longer than the file",
            change: |dir| {
                let mut bytes = fs::read(dir.join(FIRST)).unwrap();
                bytes[..8].copy_from_slice(&99_999_999_u64.to_le_bytes());
                fs::write(dir.join(FIRST), bytes).unwrap();
            },
            faults: &[
                "model-00001-of-00002.safetensors: is truncated: its header should have 99999999 bytes, 779944 follow",
            ],
        },
        Case {
            what: "a header that is no JSON",
            change: |dir| {
                let (header, tensors) = split(dir, FIRST);
                join(dir, FIRST, &header.replacen('{', "[", 1), &tensors);
            },
            faults: &["model-00001-of-00002.safetensors: its header is no JSON"],
        },
    ];
    check("shards", &cases);
}

#[test]
fn headers_that_lie_are_named() {
    let cases = [
        Case {
            what: "offsets that overlap",
            change: |dir| {
                edit_header(dir, SECOND, |header| {
                    header["sink.weight"]["data_offsets"] = vec![0, 128].into();
                });
            },
            faults: &[
                "model-00002-of-00002.safetensors: its header is wrong: action_output_layer.layers.0.weight begins at byte 0, inside of sink.weight",
            ],
        },
        Case {
            what: "a shape that overflows",
            change: |dir| {
                edit_header(dir, SECOND, |header| {
                    header["sink.weight"]["shape"] = vec![u64::MAX, 2].into();
                });
            },
            faults: &[
                "model-00002-of-00002.safetensors: its header is wrong: sink.weight has 128 bytes, which shape [18446744073709551615, 2]",
            ],
        },
        Case {
            what: "a shape that its bytes do not hold",
            change: |dir| {
                edit_header(dir, SECOND, |header| {
                    header["sink.weight"]["shape"] = vec![1, 65].into();
                });
            },
            faults: &[
                "model-00002-of-00002.safetensors: its header is wrong: sink.weight has 128 bytes, which shape [1, 65]",
            ],
        },
        Case {
            what: "a number type that nobody knows",
            change: |dir| {
                edit_header(dir, SECOND, |header| {
                    header["sink.weight"]["dtype"] = "Q4".into();
                });
            },
            faults: &[
                "model-00002-of-00002.safetensors: its header is wrong: unknown variant `Q4`",
            ],
        },
        Case {
            what: "a tensor twice in a header",
            change: |dir| {
                let (header, tensors) = split(dir, SECOND);
                let again =
                    r#"{"sink.weight":{"dtype":"BF16","shape":[1,64],"data_offsets":[0,128]},"#;
                join(dir, SECOND, &header.replacen('{', again, 1), &tensors);
            },
            faults: &["model-00002-of-00002.safetensors: its header names sink.weight twice"],
        },
    ];
    check("headers", &cases);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let cases = [
        Case {
            what: "a tensor that no shard is said to hold",
            change: |dir| {
                edit_header(dir, SECOND, |header| {
                    rename(header, "sink.weight", "dit.sink.weight");
                });
                edit(dir, read::INDEX, |index| {
                    rename(&mut index["weight_map"], "sink.weight", "dit.sink.weight");
                });
            },
            faults: &[
                "model-00002-of-00002.safetensors: dit.sink.weight is surplus: the networks of config.json have none",
                "model.safetensors.index.json: lacks sink.weight, expected with shape [1, 64]",
            ],
        },
        Case {
            what: "tensors of two layers more than the config has",
            change: |dir| {
                edit(dir, "config.json", |config| {
                    config["vlm_config"]["vision_config"]["deepstack_visual_indexes"] =
                        vec![0, 1].into();
                });
            },
            faults: &[
                "model-00001-of-00002.safetensors: vlm.model.visual.deepstack_merger_list.2.linear_fc1.bias is surplus",
                "model-00001-of-00002.safetensors: vlm.model.visual.deepstack_merger_list.2.linear_fc1.weight is surplus",
                "model-00001-of-00002.safetensors: vlm.model.visual.deepstack_merger_list.2.linear_fc2.bias is surplus",
                "model-00001-of-00002.safetensors: vlm.model.visual.deepstack_merger_list.2.linear_fc2.weight is surplus",
                "model-00001-of-00002.safetensors: vlm.model.visual.deepstack_merger_list.2.norm.bias is surplus",
                "model-00001-of-00002.safetensors: vlm.model.visual.deepstack_merger_list.2.norm.weight is surplus",
            ],
        },
        Case {
            what: "a shape with its axes swapped, and an integer",
            change: |dir| {
                edit_header(dir, SECOND, |header| {
                    header["dit.layers.0.adaln_table"]["shape"] = vec![64, 6].into();
                    header["sink.weight"]["dtype"] = "I16".into();
                });
            },
            faults: &[
                "model-00002-of-00002.safetensors: dit.layers.0.adaln_table has shape [64, 6], expected [6, 64]",
                "model-00002-of-00002.safetensors: sink.weight has number type I16, expected BF16, F16 or F32",
            ],
        },
    ];
    check("tensors", &cases);
}

#[test]
fn tensors_that_stand_elsewhere_are_named() {
    let cases = [
        Case {
            what: "a tensor in another shard than the index says",
            change: |dir| {
                edit(dir, read::INDEX, |index| {
                    index["weight_map"]["sink.weight"] = FIRST.into();
                });
            },
            faults: &[
                "model-00001-of-00002.safetensors: lacks sink.weight, which model.safetensors.index.json places here",
                "model-00002-of-00002.safetensors: holds sink.weight, which model.safetensors.index.json places in model-00001-of-00002.safetensors",
            ],
        },
        Case {
            what: "a tensor in two shards",
            change: |dir| append(dir, "vlm.model.visual.merger.norm.bias", "BF16", 64),
            faults: &[
                "model-00002-of-00002.safetensors: holds vlm.model.visual.merger.norm.bias, which model.safetensors.index.json places in model-00001",
            ],
        },
        Case {
            what: "a tensor that the index does not list",
            change: |dir| append(dir, "dit.norm.weight", "BF16", 64),
            faults: &[
                "model-00002-of-00002.safetensors: dit.norm.weight is surplus",
                "model-00002-of-00002.safetensors: holds dit.norm.weight, which model.safetensors.index.json does not list",
            ],
        },
    ];
    check("places", &cases);
}

#[test]
fn an_index_that_leads_elsewhere_is_refused() {
    let cases = [
        Case {
            what: "an absent shard",
            change: |dir| fs::remove_file(dir.join(FIRST)).unwrap(),
            faults: &["model-00001-of-00002.safetensors: is absent"],
        },
        Case {
            what: "paths out of the directory",
            change: |dir| {
                edit(dir, read::INDEX, |index| {
                    index["weight_map"]["sink.weight"] = "../model/secret".into();
                    index["weight_map"]["dit.layers.0.adaln_table"] = "/etc/passwd".into();
                });
            },
            faults: &[
                "model-00002-of-00002.safetensors: holds dit.layers.0.adaln_table, which",
                "model-00002-of-00002.safetensors: holds sink.weight, which",
                "model.safetensors.index.json: \"../model/secret\" must be the name of a file beside the index",
                "model.safetensors.index.json: \"/etc/passwd\" must be the name of a file beside the index",
            ],
        },
        Case {
            what: "a tensor placed twice",
            change: |dir| {
                let index = fs::read_to_string(dir.join(read::INDEX)).unwrap();
                let again = format!("\"weight_map\": {{ \"sink.weight\": \"{SECOND}\",");
                fs::write(
                    dir.join(read::INDEX),
                    index.replacen("\"weight_map\": {", &again, 1),
                )
                .unwrap();
            },
            faults: &["model.safetensors.index.json: places sink.weight twice"],
        },
        Case {
            what: "a shard that is something else",
            change: |dir| {
                edit(dir, read::INDEX, |index| {
                    for place in index["weight_map"].as_object_mut().unwrap().values_mut() {
                        *place = if place == FIRST {
                            "config.json".into()
                        } else {
                            SECOND.into()
                        };
                    }
                });
            },
            faults: &["config.json: says its header has "],
        },
    ];
    check("index", &cases);
}

/// All parts are looked at, whatever is wrong with the others.
#[test]
fn everything_that_is_wrong_is_said_at_once() {
    check(
        "everything",
        &[Case {
            what: "a fault in every file",
            change: |dir| {
                edit(dir, "config.json", |config| config["state_dim"] = 9.into());
                edit(dir, "tokenizer.json", |tokenizer| {
                    tokenizer["added_tokens"].as_array_mut().unwrap().remove(0);
                });
                edit(dir, "preprocessor_config.json", |file| {
                    file["patch_size"] = 14.into();
                });
                edit(dir, read::INDEX, |index| {
                    index["weight_map"]["a"] = "b".into();
                });
                fs::write(dir.join(FIRST), "none").unwrap();
            },
            faults: &[
                "b: a is surplus",
                "b: is absent",
                "model-00001-of-00002.safetensors: is truncated",
                "model-00002-of-00002.safetensors: state_projector.layers.0.weight has shape [64, 8], expected [64, 9]",
                "preprocessor_config.json: patch_size",
                "tokenizer.json: gives <|image_pad|> the id 397",
                "tokenizer.json: gives <|vision_end|> the id 395",
                "tokenizer.json: gives <|vision_start|> the id 394",
                "tokenizer.json: lacks the token <|endoftext|>",
            ],
        }],
    );
}

#[test]
fn a_place_that_is_no_directory_is_refused() {
    let nowhere = golden().join("nowhere");
    for (place, problem) in [
        (nowhere, "there is no such folder"),
        (golden().join("config.json"), "this is no folder"),
    ] {
        let refused = Checkpoint::open(&place).unwrap_err().to_string();
        assert_eq!(format!("{}: {problem}", place.display()), refused);
    }
}

fn rename(map: &mut Value, from: &str, to: &str) {
    let map = map.as_object_mut().unwrap();
    let value = map.remove(from).unwrap();
    map.insert(to.to_owned(), value);
}
