//! Rows on tensors, shards and the index.

use super::*;

/// bfloat16.
const NAN: u16 = 0x7fc0;
const INFINITY: u16 = 0x7f80;
const MINUS_INFINITY: u16 = 0xff80;

/// A tensor with two axes of different length.
const TABLE: &str = "dit.layers.0.adaln_table";

pub(super) const MUTATIONS: &[Mutation] = &[
    // Tensors.
    row(
        "a tensor is missing",
        |dir| {
            header(dir, SECOND, |json| {
                let info = json.as_object_mut().unwrap().remove(EXPERT).unwrap();
                json["sink.bias"] = info;
            });
            edit(dir, INDEX, |json| {
                let map = json["weight_map"].as_object_mut().unwrap();
                map.remove(EXPERT);
            });
        },
        "model.safetensors.index.json: lacks sink.weight, expected with shape [1, 64]",
    ),
    row(
        "a tensor is surplus",
        |dir| {
            append(dir, SECOND, "dit.extra.weight");
            edit(dir, INDEX, |json| {
                json["weight_map"]["dit.extra.weight"] = SECOND.into();
            });
        },
        "model-00002-of-00002.safetensors: dit.extra.weight is surplus",
    ),
    row(
        "two axes are swapped",
        |dir| {
            header(dir, &shard(dir, TABLE), |json| {
                json[TABLE]["shape"].as_array_mut().unwrap().reverse();
            });
        },
        "dit.layers.0.adaln_table has shape [64, 6], expected [6, 64]",
    ),
    row(
        "weights are integers",
        |dir| header(dir, SECOND, |json| json[EXPERT]["dtype"] = "I16".into()),
        "sink.weight has number type I16, expected BF16, F16 or F32",
    ),
    row(
        "a number type that does not exist",
        |dir| header(dir, SECOND, |json| json[EXPERT]["dtype"] = "BF17".into()),
        "its header is wrong: unknown variant `BF17`",
    ),
    row(
        "the vision tower holds a NaN",
        |dir| number(dir, VISION, 5, NAN),
        "vlm.model.visual.patch_embed.proj.bias holds NaN at [5]: the weights are damaged",
    ),
    row(
        "the text model holds an infinity",
        |dir| number(dir, TEXT, 3, INFINITY),
        "vlm.model.language_model.layers.0.self_attn.q_norm.weight holds infinity at [3]",
    ),
    row(
        "the action expert holds two",
        |dir| {
            number(dir, EXPERT, 7, MINUS_INFINITY);
            number(dir, EXPERT, 9, NAN);
        },
        "sink.weight holds infinity at [0, 7], the first of 2 numbers that are not finite",
    ),
    // Shards.
    row(
        "a shard is cut",
        |dir| {
            let bytes = read(&dir.join(FIRST));
            put(dir, FIRST, &bytes[..bytes.len() - 100]);
        },
        "model-00001-of-00002.safetensors: is truncated: its header describes",
    ),
    row(
        "a shard has bytes at its end",
        |dir| {
            let bytes = read(&dir.join(SECOND));
            put(dir, SECOND, [&bytes[..], &[0; 16]].concat());
        },
        "model-00002-of-00002.safetensors: is too long: its header describes",
    ),
    row(
        "a shard is empty",
        |dir| put(dir, SECOND, []),
        "model-00002-of-00002.safetensors: is truncated: 0 bytes are no safetensors file",
    ),
    row(
        "a header is longer than its file",
        |dir| put(dir, SECOND, 4096_u64.to_le_bytes()),
        "is truncated: its header should have 4096 bytes, 0 follow",
    ),
    row(
        "a header is longer than any",
        |dir| put(dir, SECOND, u64::MAX.to_le_bytes()),
        "says its header has 18446744073709551615 bytes, at most 100000000 are read",
    ),
    row(
        "a header is no JSON",
        |dir| {
            put(
                dir,
                SECOND,
                [&8_u64.to_le_bytes()[..], b"{\"a\": }}"].concat(),
            );
        },
        "model-00002-of-00002.safetensors: its header is no JSON",
    ),
    row(
        "two tensors overlap",
        |dir| {
            header(dir, SECOND, |json| {
                for offset in json[EXPERT]["data_offsets"].as_array_mut().unwrap() {
                    *offset = (offset.as_u64().unwrap() - 2).into();
                }
            });
        },
        "model-00002-of-00002.safetensors: its header is wrong: sink.weight begins at byte",
    ),
    row(
        "a gap lies between tensors",
        |dir| {
            let (mut json, mut tensors) = split(dir, FIRST);
            let n = tensors.len();
            json["a"] = json!({ "dtype": "BF16", "shape": [4], "data_offsets": [n + 8, n + 16] });
            tensors.extend([0; 16]);
            join(dir, FIRST, &json, &tensors);
        },
        "model-00001-of-00002.safetensors: its header is wrong: a begins at byte",
    ),
    row(
        "a tensor has fewer bytes than its shape",
        |dir| header(dir, SECOND, |json| json[EXPERT]["shape"] = json!([1, 63])),
        "its header is wrong: sink.weight has 128 bytes, which shape [1, 63] of BF16 does not",
    ),
    row(
        "a header names a tensor twice",
        |dir| {
            let (json, tensors) = split(dir, SECOND);
            let again = format!("{{\"{EXPERT}\":{},", json[EXPERT]);
            let text = json.to_string().replacen('{', &again, 1);
            let length = u64::try_from(text.len()).unwrap().to_le_bytes();
            put(dir, SECOND, [&length, text.as_bytes(), &tensors].concat());
        },
        "its header names sink.weight twice",
    ),
    row(
        "a header is nested beyond reason",
        |dir| {
            let deep = format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
            let length = u64::try_from(deep.len()).unwrap().to_le_bytes();
            put(dir, SECOND, [&length, deep.as_bytes()].concat());
        },
        "its header is wrong: recursion limit exceeded",
    ),
    row(
        "a shard is a folder",
        |dir| {
            remove(dir, FIRST);
            std::fs::create_dir(dir.join(FIRST)).unwrap();
        },
        "model-00001-of-00002.safetensors: is not a regular file",
    ),
    row(
        "a shard is a named pipe",
        |dir| {
            remove(dir, SECOND);
            pipe(&dir.join(SECOND));
        },
        "model-00002-of-00002.safetensors: is not a regular file",
    ),
    row(
        "a shard is a link to nowhere",
        |dir| {
            remove(dir, SECOND);
            std::os::unix::fs::symlink("/nowhere", dir.join(SECOND)).unwrap();
        },
        "model-00002-of-00002.safetensors: is absent",
    ),
    // The index.
    row(
        "the index names a file outside",
        |dir| {
            edit(dir, INDEX, |json| {
                json["weight_map"][EXPERT] = "../other.safetensors".into();
            });
        },
        "\"../other.safetensors\" must be the name of a file beside the index",
    ),
    row(
        "the index names an absolute path",
        |dir| {
            edit(dir, INDEX, |json| {
                json["weight_map"][EXPERT] = "/etc/passwd".into();
            });
        },
        "\"/etc/passwd\" must be the name of a file beside the index",
    ),
    row(
        "the index names a nested file",
        |dir| {
            edit(dir, INDEX, |json| {
                json["weight_map"][EXPERT] = "a/b.safetensors".into();
            });
        },
        "\"a/b.safetensors\" must be the name of a file beside the index",
    ),
    row(
        "the index names a shard that is not there",
        |dir| remove(dir, FIRST),
        "model-00001-of-00002.safetensors: is absent",
    ),
    row(
        "a tensor lies in two shards",
        |dir| append(dir, SECOND, VISION),
        "holds vlm.model.visual.patch_embed.proj.bias, which model.safetensors.index.json places in",
    ),
    row(
        "the index places a tensor in the wrong shard",
        |dir| edit(dir, INDEX, |json| json["weight_map"][EXPERT] = FIRST.into()),
        "lacks sink.weight, which model.safetensors.index.json places here",
    ),
    row(
        "the index places a tensor twice",
        |dir| {
            let again = format!("\"weight_map\":{{\"{EXPERT}\":\"{SECOND}\",");
            edit(dir, INDEX, |_| {});
            replace(dir, INDEX, "\"weight_map\":{", &again);
        },
        "model.safetensors.index.json: places sink.weight twice",
    ),
    row(
        "the index has no map",
        |dir| put(dir, INDEX, "{}"),
        "model.safetensors.index.json: missing field `weight_map`",
    ),
    row(
        "the index is empty",
        |dir| put(dir, INDEX, ""),
        "model.safetensors.index.json: EOF while parsing a value",
    ),
    row(
        "the index is gigantic",
        |dir| put(dir, INDEX, vec![b' '; (16 << 20) + 1]),
        "model.safetensors.index.json: is 16777217 bytes long, at most 16777216 are read",
    ),
    row(
        "there are an index and a single file",
        |dir| {
            std::fs::copy(dir.join(FIRST), dir.join(SINGLE)).unwrap();
        },
        "model.safetensors: stands beside model.safetensors.index.json: remove one of both",
    ),
    row(
        "there are no weights",
        |dir| {
            for file in [INDEX, FIRST, SECOND] {
                remove(dir, file);
            }
        },
        "model.safetensors.index.json: is absent, and so is model.safetensors",
    ),
    row(
        "there is a pickle alone",
        |dir| {
            for file in [INDEX, FIRST, SECOND] {
                remove(dir, file);
            }
            put(dir, "pytorch_model.bin", "cos\nsystem\n(S'true'\ntR.");
        },
        "pytorch_model.bin may run code when it is opened, and is never read: convert it",
    ),
];
