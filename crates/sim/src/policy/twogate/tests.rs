//! Every formula against the oracle's numbers, and the policy through its traits.

use std::sync::Arc;

use serde::Deserialize;
use vlad_motion::noise::standard_normal;
use vlad_motion::policy::{
    ActRequest, ActRows, ContextSink, ContextSource, Guidance, Policy, PolicyError, ThinkJob,
};
use vlad_wire::msg::sense::{Observation, ObservationHead, PoseQuat, TrueObject};
use vlad_wire::msg::task::ActiveTask;
use vlad_wire::msg::think::{ContextHead, ContextPart, PartData, ThinkRequest};
use vlad_wire::text::{Instruction, Name};

use super::flow::{Modes, Pull, Sampler, Step, covariance};
use super::plan::{Mixture, SCALE_M, mixture, pack, plan, unpack};
use super::{HORIZON, PREFIX_MAX, Row, TwoGatePolicy};

mod strategies;

const GOLDEN: &str = include_str!("../../../../../tests/fixtures/twogate/golden.json");
/// Both sides are float64; they differ by how a 30×30 matrix is inverted.
const TOLERANCE: f64 = 1e-9;
const STEPS: u16 = 5;

#[derive(Deserialize)]
struct Golden {
    plan: Vec<PlanCase>,
    mix: Vec<MixCase>,
    denoise: Vec<DenoiseCase>,
    flow: Vec<FlowCase>,
    prefix: Vec<PrefixCase>,
}

#[derive(Deserialize)]
struct PlanCase {
    p: Row,
    goal_y: f64,
    sides: [f64; 2],
    rows: Vec<f64>,
}

#[derive(Deserialize)]
struct MixCase {
    p: Row,
    goal_y: f64,
    weights: [f64; 2],
    means: [Vec<f64>; 2],
}

#[derive(Deserialize)]
struct DenoiseCase {
    place: usize,
    t: f64,
    x: Vec<f64>,
    e: Vec<f64>,
    clean: Vec<f64>,
    vjp: Vec<f64>,
}

#[derive(Deserialize)]
struct FlowCase {
    place: usize,
    x0: Vec<f64>,
    result: Vec<f64>,
    #[serde(default)]
    target: Vec<f64>,
    #[serde(default)]
    mask: Vec<f64>,
    #[serde(default)]
    beta: f64,
}

#[derive(Deserialize)]
struct PrefixCase {
    place: usize,
    d: usize,
    x0: Vec<f64>,
    prefix: Vec<f64>,
    result: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).unwrap()
}

fn rows(flat: &[f64]) -> Vec<Row> {
    flat.as_chunks::<2>().0.to_vec()
}

#[track_caller]
fn close(got: &[Row], want: &[f64]) {
    assert_eq!(got.len() * 2, want.len());
    for (i, (got, want)) in got.iter().flatten().zip(want).enumerate() {
        assert!((got - want).abs() < TOLERANCE, "{i}: {got} and {want}");
    }
}

impl Golden {
    fn mixture(&self, place: usize) -> Mixture {
        mixture(self.mix[place].p, self.mix[place].goal_y)
    }
}

#[test]
fn plans_are_the_oracles() {
    let golden = golden();
    assert_eq!(golden.plan.len(), 6);
    for case in &golden.plan {
        close(&plan(case.p, case.goal_y, case.sides), &case.rows);
    }
}

#[test]
fn mixtures_are_the_oracles() {
    let golden = golden();
    assert_eq!(golden.mix.len(), 12);
    for case in &golden.mix {
        let got = mixture(case.p, case.goal_y);
        for mode in 0..2 {
            assert!((got.weights[mode] - case.weights[mode]).abs() < TOLERANCE);
            close(&got.means[mode], &case.means[mode]);
        }
    }
}

#[test]
fn estimates_and_their_derivatives_are_the_oracles() {
    let golden = golden();
    assert_eq!(golden.denoise.len(), 10);
    for case in &golden.denoise {
        let step = Step::new(&covariance(), case.t).unwrap();
        let modes = Modes::of(&golden.mixture(case.place));
        let estimate = step.estimate(&rows(&case.x), &modes);
        close(&estimate.clean, &case.clean);
        close(&step.pull_back(&estimate, &rows(&case.e)), &case.vjp);
    }
}

/// The derivative is the estimate's own: `eᵀ·J` by finite differences along every coordinate.
#[test]
fn the_vector_jacobian_product_is_the_estimates_derivative() {
    let golden = golden();
    let case = &golden.denoise[3];
    let step = Step::new(&covariance(), case.t).unwrap();
    let modes = Modes::of(&golden.mixture(case.place));
    let (x, e) = (rows(&case.x), rows(&case.e));
    let along = |x: &[Row]| {
        let clean = step.estimate(x, &modes).clean;
        let pairs = clean.iter().flatten().zip(e.iter().flatten());
        pairs.map(|(a, b)| a * b).sum::<f64>()
    };
    let product = step.pull_back(&step.estimate(&x, &modes), &e);
    for row in 0..HORIZON {
        for side in 0..2 {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[row][side] += by;
                along(&x)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - product[row][side]).abs() < 1e-6, "{row} {side}");
        }
    }
}

#[test]
fn flows_are_the_oracles_plain_and_guided() {
    let golden = golden();
    let sampler = Sampler::new(0, STEPS).unwrap();
    let guided = golden.flow.iter().filter(|case| !case.mask.is_empty());
    assert_eq!((golden.flow.len(), guided.count()), (10, 6));
    for case in &golden.flow {
        let pull = (!case.mask.is_empty()).then(|| Pull {
            target: rows(&case.target),
            weights: case.mask.clone(),
            beta: case.beta,
        });
        let mixture = golden.mixture(case.place);
        let got = sampler.sample(&mixture, &rows(&case.x0), &[], pull.as_ref());
        close(&got, &case.result);
    }
}

#[test]
fn flows_behind_a_prefix_are_the_oracles() {
    let golden = golden();
    assert_eq!(golden.prefix.len(), 8);
    for case in &golden.prefix {
        let sampler = Sampler::new(case.d, STEPS).unwrap();
        let prefix = rows(&case.prefix);
        let mixture = golden.mixture(case.place);
        let got = sampler.sample(&mixture, &rows(&case.x0), &prefix, None);
        let whole: Vec<Row> = prefix.iter().chain(&got).copied().collect();
        close(&whole, &case.result);
    }
}

#[test]
fn a_mixture_travels_as_a_part() {
    let sent = mixture([0.31, -0.02], 0.12);
    let part = pack(4, &sent).unwrap();
    let got = unpack(&part).unwrap();
    for mode in 0..2 {
        assert!((got.weights[mode] - sent.weights[mode]).abs() < 1e-7);
        let pairs = got.means[mode].iter().flatten();
        for (got, want) in pairs.zip(sent.means[mode].iter().flatten()) {
            assert!((got - want).abs() < 2e-6, "{got} and {want}");
        }
    }
}

#[test]
fn parts_that_are_no_plan_are_refused() {
    let part = || pack(4, &mixture([0.0, 0.0], 0.0)).unwrap();
    let spoiled = |at: usize, value: f32| {
        let mut part = part();
        if let PartData::Bytes(data) = &part.data {
            let mut bytes = data.to_vec();
            bytes[at * 4..][..4].copy_from_slice(&value.to_le_bytes());
            part.data = PartData::Bytes(bytes.into());
        }
        part
    };
    let renamed = |change: fn(&mut ContextPart)| {
        let mut part = part();
        change(&mut part);
        part
    };
    for odd in [
        spoiled(0, 0.0),
        spoiled(0, f32::NAN),
        spoiled(61, 1.5),
        spoiled(5, f32::INFINITY),
        renamed(|part| part.head.shape = vec![122]),
        renamed(|part| part.head.name = Name::new("map").unwrap()),
        renamed(|part| {
            if let PartData::Bytes(data) = &part.data {
                part.data = PartData::Bytes(data.slice(4..));
            }
        }),
    ] {
        assert!(unpack(&odd).is_err(), "{:?}", odd.head);
    }
    assert!(unpack(&spoiled(0, 0.5)).is_ok());
}

/// The brain's half, and what it gave.
#[derive(Default)]
struct Given {
    head: Option<ContextHead>,
    part: Option<ContextPart>,
}

impl ContextSink for Given {
    fn head(&mut self, _: usize, head: ContextHead) {
        self.head = Some(head);
    }

    fn part(&mut self, _: usize, part: ContextPart) {
        self.part = Some(part);
    }
}

impl ContextSource for Given {
    fn head(&self) -> &ContextHead {
        self.head.as_ref().unwrap()
    }

    fn part(&self, index: u16) -> Result<ContextPart, PolicyError> {
        let part = self.part.clone();
        part.ok_or(PolicyError::Late { index })
    }
}

fn goal(y_m: f64) -> TrueObject {
    TrueObject {
        name: Name::new("goal").unwrap(),
        kind: Name::new("goal").unwrap(),
        label: Name::new("goal").unwrap(),
        pose: PoseQuat {
            position_m: [1.6, y_m, 0.0],
            quaternion_xyzw: [0.0, 0.0, 0.0, 1.0],
        },
        size_m: [0.0; 3],
    }
}

fn job(state: Vec<f32>, truth: Option<Vec<TrueObject>>) -> ThinkJob {
    let task = "01JD3V7Q4Y8B3T0V5Z6W9X2C1A".parse().unwrap();
    ThinkJob {
        request: ThinkRequest {
            id: 1,
            epoch: 1,
            task,
            attempt: 1,
            requested_at_ns: 0,
            earliest_tick: 0,
            earliest_captured_ns: 0,
        },
        observation: Arc::new(Observation {
            head: ObservationHead {
                seq: 9,
                tick: 3,
                captured_at_ns: 77,
                views: Vec::new(),
                state,
                state_at_ns: 0,
                truth,
            },
            images: Vec::new(),
        }),
        task: ActiveTask {
            id: task,
            attempt: 1,
            epoch: 1,
            instruction: Instruction::new("pass both gates").unwrap(),
            seed: 0,
            deadline_ns: 0,
        },
    }
}

fn thought(state: [f32; 2], goal_y_m: f64) -> Given {
    let mut given = Given::default();
    let job = job(state.to_vec(), Some(vec![goal(goal_y_m)]));
    let mut think = TwoGatePolicy::new(6).unwrap().open_think().unwrap();
    assert_eq!(think.think(&[job], &mut given), [Ok(())]);
    given
}

fn request(state: [f32; 2]) -> ActRequest {
    ActRequest {
        context: Arc::new(thought(state, 0.12)),
        state: state.to_vec(),
        prefix: Vec::new(),
        guidance: None,
        noise: standard_normal(5, 2 * HORIZON),
        steps: STEPS,
    }
}

fn act(prefix_max: u16, request: ActRequest) -> Result<ActRows, PolicyError> {
    let mut act = TwoGatePolicy::new(prefix_max).unwrap().open_act().unwrap();
    act.act(&[request]).remove(0)
}

#[test]
fn a_decision_is_the_formulas_rows_in_metres() {
    let state = [0.3_f32, -0.02];
    let request = request(state);
    let position = state.map(f64::from);
    let noise: Vec<f64> = request.noise.iter().map(|x| f64::from(*x)).collect();
    let want = Sampler::new(0, STEPS).unwrap();
    let want = want.sample(&mixture(position, 0.12), &rows(&noise), &[], None);
    let got = act(6, request).unwrap();
    assert_eq!((got.horizon, got.width), (30, 2));
    for (got, want) in got.rows.as_chunks::<2>().0.iter().zip(want) {
        for side in 0..2 {
            let want = want[side] * SCALE_M + position[side];
            // The plan travels as f32.
            assert!((f64::from(got[side]) - want).abs() < 2e-6);
        }
    }
}

#[test]
fn a_prefix_comes_back_as_it_was_given() {
    let plain = act(6, request([0.3, -0.02])).unwrap();
    let prefix: Vec<Vec<f32>> = plain.rows.chunks(2).take(6).map(<[f32]>::to_vec).collect();
    let mut behind = request([0.3, -0.02]);
    behind.prefix.clone_from(&prefix);
    let got = act(6, behind).unwrap();
    assert_eq!(got.rows[..12], prefix.concat());
    assert_eq!(got.rows.len(), 60);
    // The same side of the gate, with no step at the seam that is larger than within the chunk.
    let step = (got.rows[12] - got.rows[10]).hypot(got.rows[13] - got.rows[11]);
    assert!(step < 0.03, "{step}");
}

/// Guidance with weight 1 everywhere draws the chunk to its target, weight 0 leaves it alone.
#[test]
fn guidance_draws_as_much_as_it_weighs() {
    let plain = act(6, request([0.3, -0.02])).unwrap();
    let target: Vec<f32> = plain.rows.iter().map(|x| x + 0.004).collect();
    let guided = |weight: f32| {
        let mut guided = request([0.3, -0.02]);
        guided.guidance = Some(Guidance {
            target: target.clone(),
            weights: vec![weight; HORIZON],
            beta: 5.0,
        });
        act(6, guided).unwrap()
    };
    let off = |rows: &ActRows| {
        let pairs = rows.rows.iter().zip(&target);
        pairs.map(|(a, b)| (a - b).abs()).sum::<f32>()
    };
    assert_eq!(guided(0.0), plain);
    assert!(off(&guided(1.0)) < 0.5 * off(&plain));
}

#[test]
fn the_same_request_gives_the_same_rows_in_any_company() {
    let mut shared = TwoGatePolicy::new(PREFIX_MAX).unwrap().open_act().unwrap();
    let alone = act(PREFIX_MAX, request([0.3, -0.02])).unwrap();
    let mut other = request([0.1, 0.01]);
    other.prefix = vec![vec![0.1, 0.01]; 4];
    let both = shared.act(&[other, request([0.3, -0.02])]);
    assert_eq!(both[1].as_ref().unwrap(), &alone);
    let again = shared.act(&[request([0.3, -0.02])]);
    assert_eq!(again[0].as_ref().unwrap(), &alone);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let changes: [fn(&mut ActRequest); 11] = [
        |r| r.steps = 0,
        |r| r.steps = 51,
        |r| r.noise.truncate(58),
        |r| r.noise[3] = f32::NAN,
        |r| r.state = vec![0.0; 3],
        |r| r.state = vec![0.0, f32::INFINITY],
        |r| r.prefix = vec![vec![0.0, 0.0]; 7],
        |r| r.prefix = vec![vec![0.0]; 2],
        |r| r.prefix = vec![vec![0.0, f32::NAN]],
        |r| r.guidance.as_mut().unwrap().weights[2] = 1.5,
        |r| {
            r.guidance.as_mut().unwrap().target.pop();
        },
    ];
    let guided = || {
        let mut guided = request([0.3, -0.02]);
        guided.guidance = Some(Guidance {
            target: vec![0.0; 2 * HORIZON],
            weights: vec![0.5; HORIZON],
            beta: 5.0,
        });
        guided
    };
    for (i, change) in changes.iter().enumerate() {
        let mut request = guided();
        change(&mut request);
        if !request.prefix.is_empty() {
            request.guidance = None;
        }
        assert!(act(6, request).is_err(), "change {i}");
    }
    assert!(act(6, guided()).is_ok());
    let mut both = guided();
    both.prefix = vec![vec![0.0, 0.0]];
    assert!(act(6, both).is_err());
}

#[test]
fn a_context_of_another_policy_is_refused() {
    let mut given = thought([0.0, 0.0], 0.0);
    if let Some(head) = &mut given.head {
        head.model_hash = vlad_wire::msg::think::Digest::from(vec![0; 32]);
    }
    let mut request = request([0.0, 0.0]);
    request.context = Arc::new(given);
    assert!(matches!(act(6, request), Err(PolicyError::Context { .. })));
}

#[test]
fn without_a_goal_or_a_place_nothing_is_decided() {
    let mut think = TwoGatePolicy::new(6).unwrap().open_think().unwrap();
    for job in [
        job(vec![0.0, 0.0], None),
        job(vec![0.0, 0.0], Some(Vec::new())),
        job(vec![0.0], Some(vec![goal(0.0)])),
        job(vec![0.0, 0.0], Some(vec![goal(f64::NAN)])),
    ] {
        let mut given = Given::default();
        assert!(think.think(&[job], &mut given)[0].is_err());
        assert!(given.part.is_none());
    }
}

#[test]
fn what_it_can_is_what_it_was_made_with() {
    for prefix in [0, 6, PREFIX_MAX] {
        let capability = TwoGatePolicy::new(prefix).unwrap().capability();
        assert_eq!(capability.prefix_trained_max, prefix);
        assert!(capability.guidance);
    }
    assert!(TwoGatePolicy::new(PREFIX_MAX + 1).is_err());
}
