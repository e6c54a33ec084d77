//! Rows on settings, tokenizer, statistics and the manifest.

use super::*;

pub(super) const MUTATIONS: &[Mutation] = &[
    // config.json.
    row(
        "a size is a text",
        |dir| set(dir, CONFIG, "/action_dim", &json!("32")),
        "config.json: invalid type: string \"32\", expected usize",
    ),
    row(
        "a size is negative",
        |dir| {
            set(
                dir,
                CONFIG,
                "/vlm_config/text_config/hidden_size",
                &json!(-1),
            );
        },
        "config.json: invalid value: integer `-1`, expected usize",
    ),
    row(
        "a size is 0",
        |dir| set(dir, CONFIG, "/dit_config/head_dim", &json!(0)),
        "config.json: dit_config.head_dim is 0, must lie in 1 to",
    ),
    row(
        "a size is absurd",
        |dir| {
            set(
                dir,
                CONFIG,
                "/vlm_config/text_config/vocab_size",
                &json!(1_u64 << 40),
            );
        },
        "config.json: text_config.vocab_size is 1099511627776, must lie in 1 to",
    ),
    row(
        "heads do not divide",
        |dir| {
            set(
                dir,
                CONFIG,
                "/vlm_config/text_config/num_attention_heads",
                &json!(3),
            );
        },
        "text_config.num_attention_heads must be a multiple of num_key_value_heads",
    ),
    row(
        "the expert has other key and value heads",
        |dir| set(dir, CONFIG, "/dit_config/num_key_value_heads", &json!(1)),
        "dit_config.num_key_value_heads must be the text model's",
    ),
    row(
        "rotary sections do not add up",
        |dir| {
            let pointer = "/vlm_config/text_config/rope_scaling/mrope_section/0";
            set(dir, CONFIG, pointer, &json!(1));
        },
        "mrope_section is missing or does not fit head_dim",
    ),
    row(
        "a deep feature is taken from no block",
        |dir| {
            let pointer = "/vlm_config/vision_config/deepstack_visual_indexes/0";
            set(dir, CONFIG, pointer, &json!(99));
        },
        "vision_config.deepstack_visual_indexes names a block that is not there",
    ),
    row(
        "the image token is another one",
        |dir| set(dir, CONFIG, "/vlm_config/image_token_id", &json!(5)),
        "image_token_id of config.json says 5",
    ),
    row(
        "the settings are another model's",
        |dir| set(dir, CONFIG, "/model_type", &json!("pi0")),
        "config.json: model_type must be mibot",
    ),
    row(
        "the statistics are nested beyond reason",
        |dir| {
            let deep = ["[".repeat(500), "]".repeat(500)].concat();
            put(
                dir,
                PREPROCESSOR,
                format!("{{\"action_config\":{{\"a\":{deep}}}}}"),
            );
        },
        "preprocessor_config.json: recursion limit exceeded",
    ),
    row(
        "the settings are no text",
        |dir| put(dir, CONFIG, [b'{', 0xff, b'}']),
        "config.json: is no UTF-8 text",
    ),
    row(
        "the settings are a link to themselves",
        |dir| {
            remove(dir, CONFIG);
            std::os::unix::fs::symlink(CONFIG, dir.join(CONFIG)).unwrap();
        },
        "config.json: cannot be read: ",
    ),
    // The tokenizer.
    row(
        "the tokenizer is missing",
        |dir| remove(dir, TOKENIZER),
        "tokenizer.json: is absent",
    ),
    row(
        "the tokenizer is a folder",
        |dir| {
            remove(dir, TOKENIZER);
            std::fs::create_dir(dir.join(TOKENIZER)).unwrap();
        },
        "tokenizer.json: is not a regular file",
    ),
    row(
        "the tokenizer lacks a token",
        |dir| {
            let text = String::from_utf8(read(&dir.join(TOKENIZER))).unwrap();
            put(dir, TOKENIZER, text.replace("<|im_start|>", "<|im_begin|>"));
        },
        "tokenizer.json: lacks the token <|im_start|>",
    ),
    row(
        "the tokenizer has more tokens than the embedding",
        |dir| {
            edit(dir, TOKENIZER, |json| {
                json["model"]["vocab"]["zzz"] = 100_000.into();
            });
        },
        "tokenizer.json: gives \"zzz\" the id 100000, but vocab_size of config.json is 512",
    ),
    row(
        "a control token is no special one",
        |dir| {
            edit(dir, TOKENIZER, |json| {
                for token in json["added_tokens"].as_array_mut().unwrap() {
                    token["special"] = false.into();
                }
            });
        },
        "tokenizer.json: says that <|image_pad|> is not special",
    ),
    // Statistics and image limits.
    row(
        "statistics have a narrower row",
        |dir| {
            edit(dir, PREPROCESSOR, |json| {
                let row = &mut json["action_config"]["dual_arm"]["mean"][4];
                row.as_array_mut().unwrap().pop();
            });
        },
        "action_config.dual_arm: mean has a row of 31 slots, action_dim is 32",
    ),
    row(
        "statistics have another horizon than the manifest",
        |dir| {
            edit(dir, PREPROCESSOR, |json| {
                for table in ["mean", "std"] {
                    let rows = &mut json["action_config"]["dual_arm"][table];
                    rows.as_array_mut().unwrap().truncate(29);
                }
            });
        },
        "dual_arm has horizon 30, but the rows of its statistics is 29",
    ),
    row(
        "mean and deviation have different rows",
        |dir| {
            edit(dir, PREPROCESSOR, |json| {
                let rows = &mut json["action_config"]["dual_arm"]["mean"];
                rows.as_array_mut().unwrap().pop();
            });
        },
        "action_config.dual_arm: mean has 29 rows, std has 30",
    ),
    row(
        "a deviation is negative",
        |dir| {
            set(
                dir,
                PREPROCESSOR,
                "/action_config/dual_arm/std/2/7",
                &json!(-0.1),
            );
        },
        "action_config.dual_arm: std holds a negative value",
    ),
    row(
        "a deviation is beyond every number",
        |dir| {
            set(
                dir,
                PREPROCESSOR,
                "/action_config/dual_arm/std/2/7",
                &json!(1e300),
            );
        },
        "action_config.dual_arm: std holds a value that no f32 can hold",
    ),
    row(
        "a mean is NaN",
        |dir| {
            edit(dir, PREPROCESSOR, |json| {
                json["action_config"]["dual_arm"]["mean"][0][0] = "SWAP".into();
            });
            replace(dir, PREPROCESSOR, "\"SWAP\"", "NaN");
        },
        "preprocessor_config.json: expected value at line 1",
    ),
    row(
        "a slot that moves has no deviation",
        |dir| {
            edit(dir, PREPROCESSOR, |json| {
                for row in json["action_config"]["dual_arm"]["std"]
                    .as_array_mut()
                    .unwrap()
                {
                    row[21] = 0.0.into();
                }
            });
        },
        "slot 21 of dual_arm is an action's, but its std in row 0",
    ),
    row(
        "a slot that moves has next to none in one row",
        |dir| {
            set(
                dir,
                PREPROCESSOR,
                "/action_config/dual_arm/std/17/8",
                &json!(9e-6),
            );
        },
        "slot 8 of dual_arm is an action's, but its std in row 17",
    ),
    row(
        "patches have another size",
        |dir| set(dir, PREPROCESSOR, "/patch_size", &json!(14)),
        "preprocessor_config.json: patch_size is 14, config.json wants",
    ),
    row(
        "images may be larger than memory",
        |dir| set(dir, PREPROCESSOR, "/max_pixels", &json!(1_u64 << 40)),
        "preprocessor_config.json: max_pixels is 1099511627776, at most",
    ),
    row(
        "colours are divided by 0",
        |dir| set(dir, PREPROCESSOR, "/image_std/1", &json!(0.0)),
        "preprocessor_config.json: image_std must be finite and above 0",
    ),
    // The manifest.
    row(
        "the manifest gives a number as a text",
        |dir| {
            replace(
                dir,
                manifest::FILE,
                "rope_inv_freq_bf16 = false",
                "rope_inv_freq_bf16 = \"no\"",
            );
        },
        "expected a boolean",
    ),
    row(
        "the manifest has an unknown key",
        |dir| manifest_says(dir, "colour = \"red\""),
        "unknown field `colour`",
    ),
    row(
        "profile A has a prefix",
        |dir| manifest_says(dir, "prefix_trained_max = 6"),
        "vlad.toml: prefix_trained_max: must be 0: profile A was trained synchronously",
    ),
    row(
        "profile B has no window",
        |dir| replace(dir, manifest::FILE, "profile = \"A\"", "profile = \"B\""),
        "vlad.toml: profile: B needs local_window and position_gap",
    ),
    row(
        "the pinned hash of the weights is another one",
        |dir| manifest_says(dir, &format!("model_sha256 = \"{}\"", "0".repeat(64))),
        "vlad.toml: model_sha256: 0000000000000000000000000000000000000000000000000000000000000000 here",
    ),
    row(
        "the statistics are not the pinned ones",
        |dir| manifest_says(dir, &format!("normaliser_sha256 = \"{}\"", "1".repeat(64))),
        "vlad.toml: normaliser_sha256: 1111111111111111111111111111111111111111111111111111111111111111 here",
    ),
    row(
        "the self-test is not the pinned one",
        |dir| {
            put(dir, "golden.safetensors", "golden");
            let digest = "0".repeat(64);
            manifest_says(
                dir,
                &format!("self_test = {{ file = \"golden.safetensors\", sha256 = \"{digest}\" }}"),
            );
        },
        "golden.safetensors: has the SHA-256 ",
    ),
    row(
        "the self-test is missing",
        |dir| {
            let digest = "0".repeat(64);
            manifest_says(
                dir,
                &format!("self_test = {{ file = \"golden.safetensors\", sha256 = \"{digest}\" }}"),
            );
        },
        "golden.safetensors: is absent",
    ),
    row(
        "the self-test lies outside",
        |dir| {
            let digest = "0".repeat(64);
            manifest_says(
                dir,
                &format!("self_test = {{ file = \"../golden\", sha256 = \"{digest}\" }}"),
            );
        },
        "vlad.toml: self_test: its file must be the name of a file beside vlad.toml",
    ),
    row(
        "two joints share a slot",
        |dir| replace(dir, manifest::FILE, "slot = 8,", "slot = 7,"),
        "vlad.toml: slots: slot 7 is used twice",
    ),
];
