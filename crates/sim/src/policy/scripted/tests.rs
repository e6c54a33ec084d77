use std::sync::Arc;

use bytes::Bytes;
use vlad_motion::policy::{Act, ActRequest, ContextSource, PolicyError};
use vlad_safety::kinematics::{norm, sub};
use vlad_wire::msg::think::{ContextHead, ContextPart, PartData, ThinkRequest};

use super::act::ScriptedAct;
use super::inverse::{Reach, downward};
use super::plan::{Kind, Move, pack, unpack};
use crate::tests::{robot, scene};

fn moves() -> Vec<Move> {
    let each = |arm_idx, kind, position_m| Move {
        arm_idx,
        kind,
        position_m,
        yaw_rad: 0.5,
        gripper_m: 0.0625,
        seconds: 0.25,
    };
    vec![
        each(0, Kind::Reach, [0.25, 0.125, 0.875]),
        each(0, Kind::Line, [0.25, 0.125, 0.75]),
        each(0, Kind::Grip, [0.0; 3]),
        each(1, Kind::Home, [0.0; 3]),
    ]
}

struct Context {
    head: ContextHead,
    part: ContextPart,
}

impl ContextSource for Context {
    fn head(&self) -> &ContextHead {
        &self.head
    }

    fn part(&self, _: u16) -> Result<ContextPart, PolicyError> {
        Ok(self.part.clone())
    }
}

fn bytes(part: &ContextPart) -> &Bytes {
    let PartData::Bytes(bytes) = &part.data else {
        panic!("a plan is bytes");
    };
    bytes
}

fn request(part: ContextPart) -> ActRequest {
    let state = robot().slots().to_slots(robot().home());
    let request = ThinkRequest {
        id: 1,
        epoch: 1,
        task: "01JD3V7Q4Y8B3T0V5Z6W9X2C1A".parse().unwrap(),
        attempt: 1,
        requested_at_ns: 0,
        earliest_tick: 0,
        earliest_captured_ns: 0,
    };
    let head = ContextHead {
        request,
        obs_seq: 0,
        obs_tick: 0,
        captured_at_ns: 0,
        view_captured_ns: Vec::new(),
        state: state.clone(),
        p_end: 0,
        mask: Vec::new(),
        n_tokens: 0,
        n_parts: 1,
        model_hash: super::model_hash(),
        thinking: 0,
        thought_from_ns: 0,
        prepared_at_ns: 0,
    };
    ActRequest {
        context: Arc::new(Context { head, part }),
        state,
        prefix: Vec::new(),
        guidance: None,
        noise: Vec::new(),
        steps: 5,
    }
}

#[test]
fn a_plan_comes_back_out_of_its_part() {
    let part = pack(1, &moves()).unwrap();
    assert_eq!(part.head.n_bytes(), Some(bytes(&part).len()));
    assert_eq!(unpack(&part, 2).unwrap(), moves());
}

#[test]
fn parts_that_are_no_plan_are_refused() {
    let good = pack(1, &moves()).unwrap();
    let mut cut = good.clone();
    cut.data = PartData::Bytes(bytes(&good).slice(..8));
    let mut renamed = good.clone();
    renamed.head.name = "layer".parse().unwrap();
    let mut broken = good.clone();
    let damaged = [&f32::NAN.to_le_bytes(), &bytes(&good)[4..]].concat();
    broken.data = PartData::Bytes(damaged.into());
    for part in [cut, renamed, broken] {
        assert!(unpack(&part, 2).is_err(), "{:?}", part.head);
    }
    assert!(
        unpack(&good, 1).is_err(),
        "a move of an arm that the robot lacks"
    );
}

/// The whole region of the blocks, from grasp to travelling height, and each arm's own tray.
#[test]
fn both_arms_reach_all_places_from_above() {
    let (description, scene) = (robot(), scene());
    let table_m = scene.toml().table.height_m;
    for arm_idx in 0..2 {
        let reach = Reach::new(&description, arm_idx);
        let tray = scene.toml().trays[arm_idx].centre_m;
        let mut places = vec![tray];
        for x in scene.toml().spawn.x_m {
            places.extend(scene.toml().spawn.y_m.map(|y| [x, y]));
        }
        for [x, y] in places {
            for height_m in [0.02, 0.13] {
                let at = [x, y, table_m + height_m];
                for turn in [-0.78, 0.0, 0.78] {
                    let goal = downward(at, reach.azimuth(at) + std::f64::consts::PI + turn);
                    let joints = reach
                        .afar(&goal)
                        .unwrap_or_else(|| panic!("{arm_idx} {at:?}"));
                    let tool = reach.arm.chain.tool(&joints);
                    assert!(norm(sub(tool.position_m, at)) < 3e-4);
                    let limits = joints.iter().zip(reach.limits);
                    for (joint, limits) in limits {
                        assert!(limits.min <= *joint && *joint <= limits.max);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_out_of_reach_is_not_found() {
    let description = robot();
    let reach = Reach::new(&description, 0);
    assert_eq!(reach.afar(&downward([1.5, 0.0, 0.8], 0.0)), None);
}

#[test]
fn a_chunk_begins_at_the_state_and_ends_at_rest() {
    let part = pack(1, &moves()).unwrap();
    let rows = ScriptedAct::new(robot())
        .act(&[request(part)])
        .remove(0)
        .unwrap();
    assert_eq!((rows.horizon, rows.width), (30, 32));
    let home = robot().slots().to_slots(robot().home());
    let row = |idx: usize| &rows.rows[idx * 32..(idx + 1) * 32];
    let largest = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    assert!(largest(row(0), &home) < 0.02);
    assert!(
        largest(row(28), row(29)) < 0.002,
        "{}",
        largest(row(28), row(29))
    );
    assert!(0.2 < largest(row(29), &home), "it does not move");
}

#[test]
fn a_prefix_is_kept_and_gone_on_from() {
    let part = pack(1, &moves()).unwrap();
    let mut request = request(part);
    let mut last = request.state.clone();
    last[7] += 0.25;
    request.prefix = vec![request.state.clone(), last.clone()];
    let rows = ScriptedAct::new(robot())
        .act(&[request.clone()])
        .remove(0)
        .unwrap()
        .rows;
    assert_eq!(rows[..64], request.prefix.concat());
    assert!((rows[64 + 7] - last[7]).abs() < 0.02);
}

#[test]
fn an_empty_plan_stands_still() {
    let part = pack(1, &[]).unwrap();
    let request = request(part);
    let state = request.state.clone();
    let rows = ScriptedAct::new(robot())
        .act(&[request])
        .remove(0)
        .unwrap()
        .rows;
    assert!(rows.chunks_exact(32).all(|row| row == state));
}
