//! Several jobs and requests in one call.

use std::collections::BTreeMap;
use std::sync::Arc;

use vlad_motion::policy::{ActRequest, ContextFault, ContextSink, ContextSource, ThinkJob};
use vlad_wire::msg::think::{ContextHead, ContextPart};
use vlad_wire::text::Instruction;

use super::given::{Given, TEXT, act as act_on, bytes, job, request};
use super::*;
use crate::policy::xr0::received::Received;

/// Largest difference of a normalised action that padding and the order of sums may make, in parts of
/// the action where that is larger than 1.
const NEAR: f32 = 2e-5;

/// Takes the contexts of several jobs.
#[derive(Default)]
struct Several {
    contexts: BTreeMap<usize, Given>,
    /// Which job's message came after which.
    order: Vec<usize>,
}

impl ContextSink for Several {
    fn head(&mut self, job: usize, head: ContextHead) {
        self.contexts.entry(job).or_default().head(0, head);
    }

    fn part(&mut self, job: usize, part: ContextPart) {
        self.order.push(job);
        self.contexts.entry(job).or_default().part(0, part);
    }
}

/// Jobs with other pixels and other words, so that none is as long as the next.
fn jobs() -> Vec<ThinkJob> {
    let texts = [
        TEXT,
        "go",
        "put the green block in the right tray, and then come home again",
    ];
    let job = |(shade, text): (u8, &str)| {
        let mut job = job(shade);
        job.task.instruction = Instruction::new(text).unwrap();
        job.request.id += u64::from(shade);
        job
    };
    (1..).zip(texts).map(job).collect()
}

/// Contexts of jobs, in one call.
fn together(policy: &Xr0Policy, jobs: &[ThinkJob]) -> Several {
    let mut several = Several::default();
    let mut think = policy.open_think().unwrap();
    for result in think.think(jobs, &mut several) {
        result.unwrap();
    }
    several
}

fn alone(policy: &Xr0Policy, job: &ThinkJob) -> Given {
    let mut given = Given::default();
    let mut think = policy.open_think().unwrap();
    think
        .think(std::slice::from_ref(job), &mut given)
        .remove(0)
        .unwrap();
    given
}

/// Farthest difference of two rows of numbers, in parts of those above 1.
fn farthest(ones: &[f32], others: &[f32]) -> f32 {
    let pairs = ones.iter().zip(others);
    let misses = pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
    misses.fold(0.0, f32::max)
}

#[test]
fn a_batch_is_its_single_decisions_within_rounding() {
    let policy = Tiny::new(1).open().unwrap();
    let jobs = jobs();
    let several = together(&policy, &jobs);
    assert_eq!(several.order[..4], [0, 1, 2, 0], "layer by layer");
    let how = (policy.profile(), policy.setup.expert);
    let sampler = Sampler::open(&policy.checkpoint, None, "dual_arm", how).unwrap();
    let singles: Vec<_> = jobs.iter().map(|job| alone(&policy, job)).collect();
    let requests: Vec<_> = (5..)
        .zip(several.contexts.into_values())
        .map(|(seed, given)| request(given, seed))
        .collect();
    let received = |request: &ActRequest| -> Vec<f32> {
        let source = Received::new(request.context.as_ref(), &sampler.form, None).unwrap();
        sampler
            .normalised(&[act::inputs(request, &source)])
            .unwrap()
    };
    let of = |one| Received::new(one, &sampler.form, None).unwrap();
    let sources: Vec<_> = requests
        .iter()
        .map(|one| of(one.context.as_ref()))
        .collect();
    let pairs = requests.iter().zip(&sources);
    let inputs: Vec<_> = pairs
        .map(|(one, source)| act::inputs(one, source))
        .collect();
    let batch = sampler.normalised(&inputs).unwrap();
    let mut lengths = Vec::new();
    for (at, given) in singles.into_iter().enumerate() {
        let (head, own) = (requests[at].context.head(), given.head());
        assert_eq!((head.n_tokens, head.p_end), (own.n_tokens, own.p_end));
        assert_eq!(head.mask, own.mask, "no padding is handed over");
        lengths.push(own.n_tokens);
        let mut single = request(given, 0);
        single.noise.clone_from(&requests[at].noise);
        let (single, n) = (received(&single), 30 * 32);
        let miss = farthest(&single, &batch[at * n..(at + 1) * n]);
        assert!(miss <= NEAR, "{miss}");
    }
    lengths.dedup();
    assert_eq!(lengths.len(), 3, "the prompts differ in length");
    let chunks = policy.open_act().unwrap().act(&requests);
    for (request, chunk) in requests.into_iter().zip(chunks) {
        let single = act_on(&policy, request).unwrap();
        assert!(farthest(&single.rows, &chunk.unwrap().rows) < 1e-6, "rad");
    }
}

#[test]
fn a_batch_by_reference_is_the_batch_by_bytes_to_the_bit() {
    let tiny = Tiny::new(1);
    let by_reference = |setup: &mut Setup| setup.by_reference = true;
    let one_cell = tiny.open_with(&by_reference).unwrap();
    let cells = [(); 3].map(|()| cell_shape(&robot()));
    let setup = one_cell.setup;
    let referring = Xr0Policy::open(&tiny.dir, &cells, setup).unwrap();
    let [bytes, handles] = [tiny.open().unwrap(), referring].map(|policy| {
        let several = together(&policy, &jobs());
        let requests = several
            .contexts
            .into_values()
            .map(|given| request(given, 5));
        policy
            .open_act()
            .unwrap()
            .act(&requests.collect::<Vec<_>>())
    });
    assert_eq!(bytes, handles);
    assert!(bytes.iter().all(Result::is_ok));
}

/// One view is missing, one sentence is none for the network: the third job is done.
#[test]
fn a_job_that_cannot_be_done_fails_alone() {
    let policy = Tiny::new(1).open().unwrap();
    let mut jobs = jobs();
    let observation = Arc::make_mut(&mut jobs[0].observation);
    observation.head.views[1].view = Name::new("overhead").unwrap();
    jobs[1].task.instruction = Instruction::new("dance <|image_pad|>").unwrap();
    let mut several = Several::default();
    let results = policy.open_think().unwrap().think(&jobs, &mut several);
    let text = |at: usize| results[at].as_ref().unwrap_err().to_string();
    assert!(text(0).contains("no view ego"), "{}", text(0));
    assert!(text(1).contains("<|image_pad|>"), "{}", text(1));
    assert!(results[2].is_ok());
    assert_eq!(several.contexts.keys().collect::<Vec<_>>(), [&2]);
    assert_eq!(several.contexts[&2].parts, alone(&policy, &jobs[2]).parts);
}

#[test]
fn a_request_whose_context_is_bad_or_late_fails_alone() {
    let policy = Tiny::new(1).open().unwrap();
    let good: Vec<_> = jobs().iter().map(|job| alone(&policy, job)).collect();
    let mut late = good[1].clone();
    late.parts.truncate(1);
    let mut broken = good[2].clone();
    let zeros = bytes(&broken.parts[0]).len() / 4;
    let bad: Vec<_> = std::iter::repeat_n(f32::NAN.to_le_bytes(), zeros)
        .flatten()
        .collect();
    broken.parts[0].data = vlad_wire::msg::think::PartData::Bytes(bad.into());
    let mut foreign = good[0].clone();
    foreign.head.as_mut().unwrap().model_hash[0] ^= 1;
    let requests = [foreign, good[0].clone(), late, broken].map(|given| request(given, 5));
    let results = policy.open_act().unwrap().act(&requests);
    let fault = |at: usize| results[at].as_ref().unwrap_err().fault();
    assert_eq!(fault(0), Some(ContextFault::OtherModel));
    assert_eq!(fault(2), Some(ContextFault::Late));
    assert_eq!(fault(3), Some(ContextFault::NotFinite));
    let single = act_on(&policy, request(good[0].clone(), 5)).unwrap();
    assert_eq!(results[1].as_ref().unwrap(), &single, "alone, to the bit");
}

#[test]
fn requests_with_other_steps_are_made_one_by_one() {
    let policy = Tiny::new(1).open().unwrap();
    let given = alone(&policy, &jobs()[0]);
    let steps = |steps| ActRequest {
        steps,
        ..request(given.clone(), 5)
    };
    let results = policy.open_act().unwrap().act(&[steps(5), steps(3)]);
    for (result, steps) in results.into_iter().zip([steps(5), steps(3)]) {
        assert_eq!(result.unwrap(), act_on(&policy, steps).unwrap());
    }
    assert!(policy.open_act().unwrap().act(&[]).is_empty());
}
