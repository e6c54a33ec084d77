//! Contexts that do not fit: each is refused, with its kind of fault.

use bytes::Bytes;
use vlad_motion::policy::{ContextFault, PolicyError};
use vlad_wire::msg::think::{ContextHead, ContextPart, DType, Handle, PartData};
use vlad_wire::text::Name;
use vlad_xr0::context::bytes::Encoding;

use super::given::{Given, act, bytes, request, thought};
use super::*;

/// What is done to a good context, the kind of fault, and what its refusal must name.
type Damage = (fn(&mut Given), ContextFault, &'static str);

fn head(given: &mut Given) -> &mut ContextHead {
    given.head.as_mut().unwrap()
}

/// Says that there are eight tokens more.
fn lengthen(head: &mut ContextHead) {
    head.n_tokens += 8;
    head.mask.push(255);
}

fn replace(part: &mut ContextPart, bytes: impl Into<Bytes>) {
    part.data = PartData::Bytes(bytes.into());
}

/// Says that a part holds bf16, with as many bytes as that takes.
fn halve(part: &mut ContextPart) {
    let half = bytes(part).slice(..bytes(part).len() / 2);
    part.head.dtype = DType::Bf16;
    replace(part, half);
}

/// Puts a number into a part, `at` numbers from its beginning.
fn put(part: &mut ContextPart, at: usize, number: f32) {
    let mut changed = bytes(part).to_vec();
    changed[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
    replace(part, changed);
}

const REFUSED: &[Damage] = {
    use ContextFault::{Handle as ByHandle, NotFinite, OtherModel, OtherRequest, Unshaped};
    &[
        (
            |g| head(g).model_hash[0] ^= 1,
            OtherModel,
            "must load the same files",
        ),
        (
            |g| head(g).model_hash.clear(),
            OtherModel,
            "must load the same files",
        ),
        (|g| head(g).n_parts -= 1, Unshaped, "parts, expected"),
        (|g| lengthen(head(g)), Unshaped, "expected [2, "),
        (|g| head(g).n_tokens += 8, Unshaped, "does not fit"),
        (|g| head(g).mask.fill(0), Unshaped, "has holes"),
        (|g| head(g).mask[0] ^= 1, Unshaped, "has holes"),
        (
            |g| *head(g).mask.last_mut().unwrap() ^= 1,
            Unshaped,
            "has holes",
        ),
        (|g| head(g).p_end = 100_000, Unshaped, "cannot be the last"),
        (
            |g| g.parts[1].head.name = Name::new("plan").unwrap(),
            Unshaped,
            "part 1 is plan",
        ),
        (
            |g| g.parts[1].head.dtype = DType::Bytes,
            Unshaped,
            "which is no number",
        ),
        (|g| g.parts[1].head.shape[2] += 1, Unshaped, "has the shape"),
        (
            |g| g.parts[1].head.shape.truncate(3),
            Unshaped,
            "has the shape",
        ),
        (
            |g| g.parts[1].head.request_id = 6,
            OtherRequest,
            "answers request 6",
        ),
        (
            |g| {
                let cut = bytes(&g.parts[1]).slice(4..);
                replace(&mut g.parts[1], cut);
            },
            Unshaped,
            "bytes, which is not its shape",
        ),
        (|g| halve(&mut g.parts[1]), Unshaped, "another number type"),
        (
            |g| {
                // The content of two parts changes places, their indexes do not.
                let (one, two) = (g.parts[0].clone(), g.parts[1].clone());
                (g.parts[0].head, g.parts[1].head) = (two.head, one.head);
                (g.parts[0].head.index, g.parts[1].head.index) = (0, 1);
            },
            Unshaped,
            "expected kv_",
        ),
        (|g| put(&mut g.parts[0], 0, f32::NAN), NotFinite, "finite"),
        (
            |g| put(&mut g.parts[1], 37, f32::INFINITY),
            NotFinite,
            "finite",
        ),
        (
            |g| {
                g.parts[1].data = PartData::Handle(Handle { shelf: 1, key: 1 });
            },
            ByHandle,
            "not in one process",
        ),
        (
            |g| drop(g.parts.remove(1)),
            ContextFault::Late,
            "part 1 of the context did not come",
        ),
    ]
};

#[test]
fn contexts_that_do_not_fit_are_refused() {
    let policy = Tiny::new(1).open().unwrap();
    let good = thought(&policy, 1);
    for (damage, fault, named) in REFUSED {
        let mut bad = good.clone();
        damage(&mut bad);
        let error = act(&policy, request(bad, 1)).unwrap_err();
        assert_eq!(error.fault(), Some(*fault), "{named}: {error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
    assert!(act(&policy, request(good, 1)).is_ok());
}

#[test]
fn a_handle_of_another_process_or_of_an_old_context_is_refused() {
    let tiny = Tiny::new(1);
    let [ours, theirs] = [1, 2].map(|_| {
        let by_reference = |setup: &mut Setup| setup.by_reference = true;
        tiny.open_with(&by_reference).unwrap()
    });
    let refused = |policy: &Xr0Policy, context: Given| {
        let error = act(policy, request(context, 1)).unwrap_err();
        assert_eq!(error.fault(), Some(ContextFault::Handle), "{error}");
        error.to_string()
    };
    let first = thought(&ours, 1);
    assert!(refused(&theirs, first.clone()).contains("of another process"));
    let second = thought(&ours, 1);
    assert!(
        act(&ours, request(first.clone(), 1)).is_ok(),
        "two contexts stay"
    );
    let _third = thought(&ours, 1);
    assert!(refused(&ours, first).contains("newer contexts"));
    assert!(act(&ours, request(second, 1)).is_ok());
}

#[test]
fn eight_bit_parts_with_scales_that_are_no_numbers_are_refused() {
    let coarse = Tiny::new(1)
        .open_with(&|setup| setup.encoding = Encoding::EightBit)
        .unwrap();
    let good = thought(&coarse, 1);
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bad = good.clone();
        let mut changed = bytes(&bad.parts[2]).to_vec();
        let scale = changed.len() - 4;
        changed[scale..].copy_from_slice(&number.to_le_bytes());
        replace(&mut bad.parts[2], changed);
        let error = act(&coarse, request(bad, 1)).unwrap_err();
        assert_eq!(error.fault(), Some(ContextFault::NotFinite), "{error}");
    }
    assert!(act(&coarse, request(good, 1)).is_ok());
}

#[test]
fn states_and_noise_that_are_no_numbers_make_no_chunk() {
    let policy = Tiny::new(1).open().unwrap();
    let good = request(thought(&policy, 1), 1);
    let mut state = good.clone();
    state.state[7] = f32::INFINITY;
    let mut noise = good;
    noise.noise[7] = f32::NAN;
    for bad in [state, noise] {
        let error = act(&policy, bad).unwrap_err();
        assert!(matches!(&error, PolicyError::Decide(text) if text.contains("not finite")));
    }
}
