//! Think and Act through their traits: chunks, sameness, and contexts that are refused.

use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;
use vlad_motion::noise::standard_normal;
use vlad_motion::policy::{
    ActRequest, ActRows, ContextSink, ContextSource, Guidance, PolicyError, ThinkJob,
};
use vlad_wire::id::TaskId;
use vlad_wire::msg::sense::{FrameHead, Observation, ObservationHead};
use vlad_wire::msg::task::ActiveTask;
use vlad_wire::msg::think::{ContextHead, ContextPart, DType, ThinkRequest};
use vlad_wire::text::Instruction;
use vlad_xr0::preprocess::RgbImage;

use super::*;
use crate::policy::xr0::decide::{Image, Inputs, Noise, decide};

const TEXT: &str = "put the red block in the left tray";
const EDGE: u16 = 96;

/// Takes a context, and gives it to the action expert.
#[derive(Debug, Clone, Default)]
struct Given {
    head: Option<ContextHead>,
    parts: Vec<ContextPart>,
}

impl ContextSink for Given {
    fn head(&mut self, head: ContextHead) {
        self.head = Some(head);
    }

    fn part(&mut self, part: ContextPart) {
        self.parts.push(part);
    }
}

impl ContextSource for Given {
    fn head(&self) -> &ContextHead {
        self.head.as_ref().unwrap()
    }

    fn part(&self, index: u16) -> Result<ContextPart, PolicyError> {
        let found = self.parts.iter().find(|part| part.head.index == index);
        found.cloned().ok_or(PolicyError::Late { index })
    }
}

/// A view of stripes, which `shade` makes another one.
fn pixels(shade: u8) -> Vec<u8> {
    let n = usize::from(EDGE) * usize::from(EDGE) * 3;
    (0..n)
        .map(|at| u8::try_from(at % 251).unwrap().wrapping_mul(shade))
        .collect()
}

fn state() -> Vec<f32> {
    let robot = robot();
    robot.slots().to_slots(robot.home())
}

fn job(shade: u8) -> ThinkJob {
    let task = TaskId(Ulid::from_parts(1, 1));
    // Not in the manifest's order: views are found by name.
    let views = ["right_wrist", "ego", "left_wrist"].map(|view| FrameHead {
        view: Name::new(view).unwrap(),
        seq: 1,
        captured_at_ns: 5,
        width: EDGE,
        height: EDGE,
    });
    let images = [shade.wrapping_add(2), shade, shade.wrapping_add(1)];
    let observation = Observation {
        head: ObservationHead {
            seq: 3,
            tick: 9,
            captured_at_ns: 5,
            views: views.to_vec(),
            state: state(),
            state_at_ns: 6,
            truth: None,
        },
        images: images.map(|shade| Bytes::from(pixels(shade))).to_vec(),
    };
    ThinkJob {
        request: ThinkRequest {
            id: 7,
            epoch: 1,
            task,
            attempt: 1,
            requested_at_ns: 0,
            earliest_tick: 0,
            earliest_captured_ns: 0,
        },
        observation: Arc::new(observation),
        task: ActiveTask {
            id: task,
            attempt: 1,
            epoch: 1,
            instruction: Instruction::new(TEXT).unwrap(),
            seed: 1,
            deadline_ns: 0,
        },
    }
}

fn thought(policy: &Xr0Policy, shade: u8) -> Given {
    let mut given = Given::default();
    policy
        .open_think()
        .unwrap()
        .think(&[job(shade)], &mut given)
        .unwrap();
    given
}

fn request(context: Given, seed: u64) -> ActRequest {
    ActRequest {
        state: context.head().state.clone(),
        context: Arc::new(context),
        prefix: Vec::new(),
        guidance: None,
        noise: standard_normal(seed, 30 * 32),
        steps: 5,
    }
}

fn act(policy: &Xr0Policy, request: ActRequest) -> Result<ActRows, PolicyError> {
    policy.open_act().unwrap().act(&[request]).remove(0)
}

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
        assert_eq!(part.head.n_bytes(), Some(part.data.len()));
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

/// What is done to a good context, and what its refusal must name.
type Damage = (fn(&mut Given), &'static str);

#[test]
fn contexts_that_do_not_fit_are_refused() {
    let policy = Tiny::new(1).open().unwrap();
    let good = thought(&policy, 1);
    let table: &[Damage] = &[
        (
            |g| g.head.as_mut().unwrap().model_hash[0] ^= 1,
            "must load the same files",
        ),
        (|g| g.head.as_mut().unwrap().n_parts -= 1, "parts, expected"),
        (|g| lengthen(g.head.as_mut().unwrap()), "expected [2, "),
        (|g| g.head.as_mut().unwrap().n_tokens += 8, "does not fit"),
        (
            |g| g.head.as_mut().unwrap().mask.fill(0),
            "cannot be the last",
        ),
        (
            |g| g.head.as_mut().unwrap().p_end = 100_000,
            "cannot be the last",
        ),
        (
            |g| g.parts[1].head.name = Name::new("plan").unwrap(),
            "part 1 is plan",
        ),
        (
            |g| g.parts[1].head.dtype = DType::Bytes,
            "expected F32 or Bf16",
        ),
        (|g| g.parts[1].head.shape[2] += 1, "has the shape"),
        (|g| g.parts[1].head.request_id = 6, "answers request 6"),
        (
            |g| g.parts[1].data = g.parts[1].data.slice(4..),
            "bytes, which is not its shape",
        ),
        (|g| halve(&mut g.parts[1]), "another number type"),
        (
            |g| drop(g.parts.remove(1)),
            "part 1 of the context did not come",
        ),
    ];
    for (damage, named) in table {
        let mut bad = good.clone();
        damage(&mut bad);
        let text = act(&policy, request(bad, 1)).unwrap_err().to_string();
        assert!(text.contains(named), "{named}: {text}");
    }
    assert!(act(&policy, request(good, 1)).is_ok());
}

/// Says that there are eight tokens more.
fn lengthen(head: &mut ContextHead) {
    head.n_tokens += 8;
    head.mask.push(255);
}

/// Says that a part holds bf16, with as many bytes as that takes.
fn halve(part: &mut ContextPart) {
    part.head.dtype = DType::Bf16;
    part.data = part.data.slice(..part.data.len() / 2);
}

#[test]
fn numbers_that_are_not_finite_make_no_chunk() {
    let policy = Tiny::new(1).open().unwrap();
    let good = thought(&policy, 1);
    let mut bad = good.clone();
    for part in &mut bad.parts {
        part.data = f32::NAN.to_le_bytes().repeat(part.data.len() / 4).into();
    }
    let text = act(&policy, request(bad, 1)).unwrap_err().to_string();
    assert!(text.contains("is not finite"), "{text}");
    let mut odd = request(good, 1);
    odd.state[7] = f32::INFINITY;
    let text = act(&policy, odd).unwrap_err().to_string();
    assert!(text.contains("not finite"), "{text}");
}

#[test]
fn a_request_that_profile_a_cannot_serve_is_refused() {
    let policy = Tiny::new(1).open().unwrap();
    let good = request(thought(&policy, 1), 1);
    let guidance = Guidance {
        target: vec![],
        weights: vec![],
        beta: 1.0,
    };
    let changed = |change: &dyn Fn(&mut ActRequest)| {
        let mut request = good.clone();
        change(&mut request);
        act(&policy, request).unwrap_err().to_string()
    };
    assert!(changed(&|r| r.prefix = vec![vec![0.0; 32]]).contains("takes no prefix"));
    assert!(changed(&|r| r.guidance = Some(guidance.clone())).contains("no guidance"));
    assert!(changed(&|r| r.noise.truncate(31)).contains("30 × 32"));
    assert!(changed(&|r| r.state.truncate(31)).contains("reads 32"));
    assert!(changed(&|r| r.steps = 0).contains("step"));
}

#[test]
fn a_view_that_is_not_there_is_named() {
    let policy = Tiny::new(1).open().unwrap();
    let mut think = policy.open_think().unwrap();
    let mut job = job(1);
    Arc::make_mut(&mut job.observation).head.views[1].view = Name::new("overhead").unwrap();
    let error = think.think(&[job], &mut Given::default()).unwrap_err();
    assert!(error.to_string().contains("no view ego"), "{error}");
}

#[test]
fn an_instruction_with_the_models_own_tokens_is_refused() {
    let policy = Tiny::new(1).open().unwrap();
    let mut think = policy.open_think().unwrap();
    let mut job = job(1);
    job.task.instruction = Instruction::new("dance <|image_pad|>").unwrap();
    let error = think.think(&[job], &mut Given::default()).unwrap_err();
    assert!(error.to_string().contains("<|image_pad|>"), "{error}");
}

fn inputs() -> Inputs {
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
        steps: 5,
        device: DeviceName::Cpu,
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
    let place = (Profile::default(), DeviceName::Cpu);
    let image = |shade: u8| {
        // Large enough for products that are worth splitting.
        let raw: Vec<_> = (0..160 * 160 * 3_usize)
            .map(|at| u8::try_from(at % 251).unwrap().wrapping_mul(shade))
            .collect();
        RgbImage::new(160, 160, raw).unwrap()
    };
    let images = [("Ego View", image(1)), ("Left-Wrist View", image(3))];
    let decided = [1, 2, 3].map(|threads| {
        let mut prefill = Prefill::open(&checkpoint, place.0, place.1).unwrap();
        prefill.pool = pool::Pool::of("think", threads).unwrap();
        let mut sampler = Sampler::open(&checkpoint, "dual_arm", place).unwrap();
        sampler.pool = pool::Pool::of("act", threads).unwrap();
        let thought = prefill.thought(&images, TEXT).unwrap();
        let (state, noise) = (state(), standard_normal(5, 30 * 32));
        let given = act::Inputs {
            state: &state,
            noise: &noise,
            steps: 5,
        };
        let actions = sampler.actions(&thought, &given).unwrap();
        let bits: Vec<_> = actions.iter().map(|action| action.to_bits()).collect();
        (thought, bits)
    });
    assert!(decided[0] == decided[1] && decided[1] == decided[2]);
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
