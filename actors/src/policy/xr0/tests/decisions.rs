//! Think and Act through their traits: chunks, and their sameness.

use vlad_motion::noise::standard_normal;
use vlad_motion::policy::{ActRequest, ContextSource};
use vlad_wire::clock::{SECOND, SharedClock, SystemClock};
use vlad_wire::msg::think::{DType, PartData};
use vlad_wire::text::Instruction;
use vlad_xr0::context::KvLayer;
use vlad_xr0::context::bytes::Encoding;
use vlad_xr0::dit::layout::Kind;
use vlad_xr0::preprocess::RgbImage;

use super::given::{EDGE, Given, TEXT, act, bytes, job, pixels, request, state, thought};
use super::*;
use crate::expert::arriving::Arriving;
use crate::policy::xr0::decide::{Image, Inputs, Noise, context, decide};
use crate::policy::xr0::sampler::Inputs as SamplerInputs;
use crate::policy::xr0::setup::Half;
use crate::policy::xr0::think::{Question, Seen};

#[test]
fn a_context_has_a_head_and_one_part_per_layer_of_the_action_expert() {
    let policy = Tiny::new(1).open().unwrap();
    let context = thought(&policy, 1);
    let head = context.head();
    let config = policy.checkpoint.config();
    assert_eq!(
        usize::from(head.n_parts),
        config.dit_config.num_hidden_layers
    );
    assert_eq!(context.parts.len(), usize::from(head.n_parts));
    assert_eq!((head.obs_seq, head.obs_tick, head.request.id), (3, 9, 7));
    assert_eq!(head.view_captured_ns.len(), 3);
    assert_eq!(
        (&head.state, &head.model_hash),
        (&state(), &policy.model_hash())
    );
    assert!(head.p_end < head.n_tokens);
    for (index, part) in context.parts.iter().enumerate() {
        let layer = config.first_context_layer() + index;
        assert_eq!(part.head.name.as_str(), format!("kv_{layer}"));
        let (kv, d) = (
            config.dit_config.num_key_value_heads,
            config.dit_config.head_dim,
        );
        let sizes = [2, kv, usize::try_from(head.n_tokens).unwrap(), d];
        assert_eq!(
            part.head.shape,
            sizes.map(|size| u32::try_from(size).unwrap())
        );
        assert_eq!((part.head.dtype, part.head.request_id), (DType::F32, 7));
        assert_eq!(part.head.n_bytes(), Some(bytes(part).len()));
    }
}

#[test]
fn a_chunk_is_absolute_targets_near_home_in_the_slots_with_a_joint() {
    let policy = Tiny::new(1).open().unwrap();
    let robot = robot();
    let (used, home) = (robot.slots().slots(), state());
    for seed in 0..4 {
        let chunk = act(&policy, request(thought(&policy, 1), seed)).unwrap();
        assert_eq!(
            (chunk.horizon, chunk.width, chunk.rows.len()),
            (30, 32, 30 * 32)
        );
        for (at, target) in chunk.rows.iter().enumerate() {
            let slot = at % 32;
            if used.contains(&slot) {
                // The guard's bound on the first action, whatever the pose of the wandering arm.
                assert!(
                    (target - home[slot]).abs() < 0.05,
                    "seed {seed}, at {at}: {target}"
                );
            } else {
                assert_eq!(target.to_bits(), 0, "slot {slot} has no joint");
            }
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_bits() {
    let tiny = Tiny::new(1);
    let (one, two) = (tiny.open().unwrap(), tiny.open().unwrap());
    let context = thought(&one, 1);
    assert_eq!(context.parts, thought(&two, 1).parts);
    let chunk = act(&one, request(context.clone(), 5)).unwrap();
    assert_eq!(chunk, act(&two, request(context, 5)).unwrap());
}

#[test]
fn a_chunk_depends_on_what_is_seen_and_on_the_noise() {
    let policy = Tiny::new(1).open().unwrap();
    let chunk = |shade, seed| act(&policy, request(thought(&policy, shade), seed)).unwrap();
    let first = chunk(1, 5);
    assert_ne!(first, chunk(3, 5));
    assert_ne!(first, chunk(1, 6));
}

#[test]
fn a_request_that_profile_a_cannot_serve_is_refused() {
    let policy = Tiny::new(1).open().unwrap();
    let good = request(thought(&policy, 1), 1);
    let changed = |change: &dyn Fn(&mut ActRequest)| {
        let mut request = good.clone();
        change(&mut request);
        act(&policy, request).unwrap_err().to_string()
    };
    assert!(changed(&|r| r.prefix = vec![vec![0.0; 32]]).contains("takes no prefix"));
    assert!(changed(&|r| r.noise.truncate(31)).contains("30 × 32"));
    assert!(changed(&|r| r.state.truncate(31)).contains("reads 32"));
    assert!(changed(&|r| r.steps = 0).contains("step"));
}

#[test]
fn numbers_that_are_not_finite_make_no_chunk() {
    let policy = Tiny::new(1).open().unwrap();
    let good = thought(&policy, 1);
    let filled = |number: f32| {
        let mut context = good.clone();
        for part in &mut context.parts {
            let n = bytes(part).len() / 4;
            part.data = PartData::Bytes(number.to_le_bytes().repeat(n).into());
        }
        request(context, 1)
    };
    let refused = |request| act(&policy, request).unwrap_err().to_string();
    assert!(refused(filled(f32::NAN)).contains("not finite"));
    // Each number is one, but the network cannot compute with them.
    let text = refused(filled(f32::MAX));
    assert!(text.contains("of the chunk is not finite"), "{text}");
    let mut odd = request(good.clone(), 1);
    odd.state[7] = f32::INFINITY;
    assert!(refused(odd).contains("not finite"));
}

#[test]
fn a_view_that_is_not_there_is_named() {
    let policy = Tiny::new(1).open().unwrap();
    let mut think = policy.open_think().unwrap();
    let mut job = job(1);
    Arc::make_mut(&mut job.observation).head.views[1].view = Name::new("overhead").unwrap();
    let error = think
        .think(&[job], &mut Given::default())
        .remove(0)
        .unwrap_err();
    assert!(error.to_string().contains("no view ego"), "{error}");
}

#[test]
fn an_instruction_with_the_models_own_tokens_is_refused() {
    let policy = Tiny::new(1).open().unwrap();
    let mut think = policy.open_think().unwrap();
    let mut job = job(1);
    job.task.instruction = Instruction::new("dance <|image_pad|>").unwrap();
    let error = think
        .think(&[job], &mut Given::default())
        .remove(0)
        .unwrap_err();
    assert!(error.to_string().contains("<|image_pad|>"), "{error}");
}

/// What [`job`] sees, as files would give it.
pub(super) fn inputs() -> Inputs {
    let image = |shade| Image {
        label: None,
        pixels: RgbImage::new(usize::from(EDGE), usize::from(EDGE), pixels(shade)).unwrap(),
    };
    Inputs {
        images: [1, 2, 3].map(image).to_vec(),
        state: state(),
        text: Instruction::new(TEXT).unwrap(),
        noise: Noise::Seed(5),
        robot_type: None,
        prefix: Vec::new(),
        steps: 5,
        half: Half::default(),
        encoding: Encoding::Exact,
    }
}

#[test]
fn a_decision_from_files_is_the_daemons_to_the_bit() {
    let tiny = Tiny::new(1);
    let policy = tiny.open().unwrap();
    let chunk = act(&policy, request(thought(&policy, 1), 5)).unwrap();
    let decided = decide(&tiny.dir, &inputs()).unwrap();
    assert_eq!(decided.targets, Some(chunk.rows));
    assert_eq!(
        (decided.horizon, decided.width, decided.seed),
        (30, 32, Some(5))
    );
    assert!(decided.prompt.contains("# Left-Wrist View") && decided.prompt.contains(TEXT));
    // The noise that it drew, given, is the same decision.
    let given = Inputs {
        noise: Noise::Given(decided.noise.clone()),
        ..inputs()
    };
    assert_eq!(decide(&tiny.dir, &given).unwrap().targets, decided.targets);
}

/// Machines with other numbers of cores, and replays there, give the same chunk.
#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let tiny = Tiny::new(1);
    let checkpoint = Checkpoint::open(&tiny.dir).unwrap();
    let how = (Profile::default(), Half::default());
    let image = |shade: u8| {
        // Large enough for products that are worth splitting.
        let raw: Vec<_> = (0..160 * 160 * 3_usize)
            .map(|at| u8::try_from(at % 251).unwrap().wrapping_mul(shade))
            .collect();
        RgbImage::new(160, 160, raw).unwrap()
    };
    let images = [("Ego View", 1), ("Left-Wrist View", 3)].map(|(label, shade)| Seen {
        label,
        image: image(shade),
        limits: None,
    });
    let question = Question {
        images: images.into(),
        instruction: TEXT.to_owned(),
    };
    let decided = [1, 2, 3].map(|threads| {
        let mut prefill = Prefill::open(&checkpoint, how.0, how.1).unwrap();
        prefill.pool = pool::Pool::of("think", threads).unwrap();
        let mut sampler = Sampler::open(&checkpoint, None, "dual_arm", how).unwrap();
        sampler.pool = pool::Pool::of("act", threads).unwrap();
        let context = context(&prefill, &question, Encoding::Exact).unwrap();
        let (state, noise) = (state(), standard_normal(5, 30 * 32));
        let given = SamplerInputs {
            source: &context,
            state: &state,
            prefix: &[],
            guidance: None,
            noise: &noise,
            steps: 5,
        };
        let actions = sampler.actions(&[given]).unwrap().concat();
        let numbers = |layer: &KvLayer| {
            let form = layer.form(Encoding::Exact).unwrap();
            let mut bytes = vec![0; form.n_bytes().unwrap()];
            layer.write(Encoding::Exact, &mut bytes).unwrap();
            bytes
        };
        let layers: Vec<_> = context.layers.iter().map(numbers).collect();
        let bits: Vec<_> = actions.iter().map(|action| action.to_bits()).collect();
        (layers, bits)
    });
    assert!(decided[0] == decided[1] && decided[1] == decided[2]);
}

/// Three ways from the brain to the action expert, one chunk.
#[test]
fn streamed_or_whole_by_reference_or_by_bytes_is_the_same_chunk_to_the_bit() {
    let tiny = Tiny::new(1);
    let policy = tiny.open().unwrap();
    let given = thought(&policy, 1);
    let whole = act(&policy, request(given.clone(), 5)).unwrap();

    let clock: SharedClock = Arc::new(SystemClock);
    let deadline_ns = clock.now_ns() + 60 * SECOND;
    let arriving = Arc::new(Arriving::new(given.head().clone(), deadline_ns, clock));
    let streamed = ActRequest {
        context: arriving.clone(),
        ..request(given.clone(), 5)
    };
    let feeder = std::thread::spawn(move || {
        for part in given.parts {
            std::thread::yield_now();
            arriving.take(part).unwrap();
        }
    });
    assert_eq!(act(&policy, streamed).unwrap(), whole);
    feeder.join().unwrap();

    let referring = tiny.open_with(&|setup| setup.by_reference = true).unwrap();
    let context = thought(&referring, 1);
    let handles = context.parts.iter().map(|part| &part.data);
    assert!(
        handles
            .clone()
            .all(|data| matches!(data, PartData::Handle(_)))
    );
    assert_eq!(act(&referring, request(context, 5)).unwrap(), whole);
}

#[test]
fn eight_bits_are_fewer_bytes_and_nearly_the_same_chunk() {
    let tiny = Tiny::new(1);
    let policy = tiny.open().unwrap();
    let coarse = tiny
        .open_with(&|setup| setup.encoding = Encoding::EightBit)
        .unwrap();
    let (exact, context) = (thought(&policy, 1), thought(&coarse, 1));
    let n_bytes = |given: &Given| {
        given
            .parts
            .iter()
            .map(|part| bytes(part).len())
            .sum::<usize>()
    };
    assert!(n_bytes(&context) < n_bytes(&exact) / 3, "from f32");
    assert!(
        context
            .parts
            .iter()
            .all(|part| part.head.dtype == DType::Int8)
    );
    let exact = act(&policy, request(exact, 5)).unwrap();
    let near = act(&policy, request(context, 5)).unwrap();
    let pairs = exact.rows.iter().zip(&near.rows);
    let farthest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(0.0 < farthest && farthest < 1e-3, "{farthest} rad");
}

#[test]
fn a_half_is_warm_before_the_first_decision_and_decides_as_a_cold_one() {
    let policy = Tiny::new(1).open().unwrap();
    let cold = act(&policy, request(thought(&policy, 1), 5)).unwrap();
    let (mut think, mut expert) = (policy.open_think().unwrap(), policy.open_act().unwrap());
    think.warm_up().unwrap();
    expert.warm_up().unwrap();
    let mut given = Given::default();
    think.think(&[job(1)], &mut given).remove(0).unwrap();
    assert_eq!(expert.act(&[request(given, 5)]).remove(0).unwrap(), cold);
}

/// Each half alone computes what the file beside its manifest says, or does not start.
#[test]
fn a_half_that_computes_something_else_than_its_golden_decision_does_not_start() {
    let tiny = Tiny::new(1);
    let (_, line) = golden::write(&tiny.dir).unwrap();
    // In front of the first table.
    let manifest = tiny.dir.join(manifest::FILE);
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{line}\n{text}")).unwrap();
    let good = tiny.open().unwrap();
    good.open_think().unwrap().warm_up().unwrap();
    good.open_act().unwrap().warm_up().unwrap();

    // The same golden decision beside other weights.
    let other = Tiny::new(2);
    let file = golden::FILE;
    std::fs::copy(tiny.dir.join(file), other.dir.join(file)).unwrap();
    let text = std::fs::read_to_string(other.dir.join(manifest::FILE)).unwrap();
    std::fs::write(other.dir.join(manifest::FILE), format!("{line}\n{text}")).unwrap();
    let wrong = other.open().unwrap();
    let refused = [
        wrong.open_think().unwrap().warm_up().unwrap_err(),
        wrong.open_act().unwrap().warm_up().unwrap_err(),
    ];
    for (error, half) in refused.iter().zip(["brain", "action expert"]) {
        assert!(
            matches!(error, PolicyError::Open(text) if text.contains(half)),
            "{error}"
        );
    }
}

/// What changes the numbers of one half must be known to the other.
#[test]
fn a_profile_of_its_own_changes_the_model_hash() {
    let tiny = Tiny::new(1);
    let plain = tiny.open().unwrap();
    let files = plain.checkpoint.model_digest().unwrap().to_vec();
    assert_eq!(
        plain.model_hash().to_vec(),
        files,
        "the plain profile is the files'"
    );
    let rounded = Profile {
        rope_inv_freq_bf16: true,
        ..Profile::default()
    };
    let kind = |local_window| Profile {
        kind: Kind::B {
            local_window,
            position_gap: 10,
        },
        ..Profile::default()
    };
    let profiles = [Profile::default(), rounded, kind(4), kind(5)];
    let hashes = profiles.map(|profile| model_hash(Digest::from(files.clone()), profile).to_vec());
    let different: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert_eq!(different.len(), profiles.len());
}

#[test]
fn images_are_taken_by_view_or_label_or_order() {
    let tiny = Tiny::new(1);
    let expected = decide(&tiny.dir, &inputs()).unwrap();
    let mut labelled = inputs();
    for (image, label) in labelled
        .images
        .iter_mut()
        .zip(["ego", "Left-Wrist View", "right_wrist"])
    {
        image.label = Some(label.to_owned());
    }
    labelled.images.reverse();
    assert_eq!(decide(&tiny.dir, &labelled).unwrap(), expected);
    labelled.images[0].label = None;
    let text = decide(&tiny.dir, &labelled).unwrap_err().to_string();
    assert!(text.contains("all images or none"), "{text}");
    for (label, named) in [
        ("overhead", "no view overhead; the views are ego, "),
        ("Ego View", "two images are of the view ego"),
        ("left_wrist", "two images are of the view left_wrist"),
    ] {
        labelled.images[0].label = Some(label.to_owned());
        let text = decide(&tiny.dir, &labelled).unwrap_err().to_string();
        assert!(text.contains(named), "{named}: {text}");
    }
    labelled.images.pop();
    let text = decide(&tiny.dir, &labelled).unwrap_err().to_string();
    assert!(text.contains("2 images"), "{text}");
}

#[test]
fn without_a_manifest_labels_are_needed_and_there_are_no_targets() {
    let tiny = Tiny::new(1);
    std::fs::remove_file(tiny.dir.join(manifest::FILE)).unwrap();
    let text = decide(&tiny.dir, &inputs()).unwrap_err().to_string();
    assert!(text.contains("needs its label"), "{text}");
    let mut labelled = inputs();
    for image in &mut labelled.images {
        image.label = Some("Ego View".to_owned());
    }
    labelled.robot_type = Some("r2d2".to_owned());
    let text = decide(&tiny.dir, &labelled).unwrap_err().to_string();
    assert!(
        text.contains("no robot type r2d2; there are: dual_arm"),
        "{text}"
    );
    labelled.robot_type = None;
    let decided = decide(&tiny.dir, &labelled).unwrap();
    assert_eq!(
        (decided.targets, decided.robot_type.as_str()),
        (None, "dual_arm")
    );
}

#[test]
fn differences_of_joints_count_from_the_state_and_other_rows_without_a_pose_are_no_targets() {
    let tiny = Tiny::new(1);
    let absolute = decide(&tiny.dir, &inputs()).unwrap();
    tiny.edit("\"joint_absolute\"", "\"joint_delta\"");
    let delta = decide(&tiny.dir, &inputs()).unwrap();
    assert_eq!(delta.actions, absolute.actions, "the network is the same");
    let (given, used) = (state(), robot().slots().slots().to_vec());
    let targets = delta.targets.unwrap();
    for (at, (target, action)) in targets.iter().zip(&delta.actions).enumerate() {
        let slot = at % 32;
        let expected = if used.contains(&slot) {
            given[slot] + action
        } else {
            0.0
        };
        assert!((target - expected).abs() < 1e-6, "at {at}: {target}");
    }
    for representation in ["eef_delta", "step_delta"] {
        let tiny = Tiny::new(1);
        tiny.edit("joint_absolute", representation);
        let decided = decide(&tiny.dir, &inputs()).unwrap();
        assert_eq!(decided.targets, None, "{representation}");
        assert_eq!(decided.actions, absolute.actions);
    }
}

#[test]
fn a_manifest_without_views_leaves_the_labels_to_the_images() {
    let tiny = Tiny::new(1);
    let path = tiny.dir.join(manifest::FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("views = [").unwrap();
    let (_, after) = rest.split_once("\n]").unwrap();
    std::fs::write(&path, format!("{before}{after}")).unwrap();
    let read = manifest::read(&tiny.dir).unwrap().unwrap();
    assert!(read.views.is_empty());
    let text = decide(&tiny.dir, &inputs()).unwrap_err().to_string();
    assert!(text.contains("needs its label"), "{text}");
    let mut labelled = inputs();
    labelled.images.truncate(1);
    labelled.images[0].label = Some("Any View".to_owned());
    let decided = decide(&tiny.dir, &labelled).unwrap();
    assert!(decided.prompt.contains("Any View"), "{}", decided.prompt);
    // What the actions are is still the manifest's to say.
    assert!(decided.targets.is_some());
}
