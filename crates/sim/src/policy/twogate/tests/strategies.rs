//! The benchmark's own gates, with the policy and the point but without bus, guard and interpolation:
//! what the pipeline is compared with must itself tell strategies apart.

use vlad_cell::description::RobotDescription;
use vlad_cell::oracle::Oracle as _;
use vlad_cell::robot::Robot as _;
use vlad_motion::noise::decision_seed;
use vlad_motion::policy::{Act, Think};

use super::*;
use crate::statistics::{mean, quantile};
use crate::twogate::TwoGateWorld;

const ROBOT: &str = include_str!("../../../../../../config/robots/twogate.toml");
/// Ticks from one decision to the next.
const DECIDES_EVERY: usize = 10;
const SEEDS: u64 = 60;

/// A chunk: the tick of its first row, and its rows.
type Chunk = (usize, Vec<[f32; 2]>);

/// One episode's strategy: rows of the accepted future that the next chunk begins with, at most, and
/// the ticks from a request to its chunk.
#[derive(Clone, Copy)]
struct Way {
    prefix_max: usize,
    delay: usize,
}

struct Minds {
    think: Box<dyn Think>,
    act: Box<dyn Act>,
}

impl Minds {
    fn decide(&mut self, world: &TwoGateWorld, prefix: Vec<Vec<f32>>, seed: u64) -> Vec<[f32; 2]> {
        let state = world.motion().0.map(|x| x as f32).to_vec();
        let mut given = Given::default();
        let job = job(state.clone(), Some(world.oracle().truth()));
        assert_eq!(self.think.think(&[job], &mut given), [Ok(())]);
        let request = ActRequest {
            context: Arc::new(given),
            state,
            prefix,
            guidance: None,
            noise: standard_normal(seed, 2 * HORIZON),
            steps: STEPS,
        };
        let rows = self.act.act(&[request]).remove(0).unwrap();
        rows.rows.as_chunks().0.to_vec()
    }
}

/// What one episode gave.
struct Ran {
    succeeded: bool,
    stalls: usize,
    boundaries_mm: Vec<f64>,
    rms_jerk: f64,
}

fn apart(a: [f32; 2], b: [f32; 2]) -> f64 {
    f64::from(a[0] - b[0]).hypot(f64::from(a[1] - b[1]))
}

fn run(way: Way, seed: u64) -> Ran {
    let file: toml::Table = ROBOT.parse().unwrap();
    let robot = RobotDescription::new(file["robot"].clone().try_into().unwrap()).unwrap();
    let world = TwoGateWorld::new(&robot, seed, 0).unwrap();
    let mut robot = world.robot();
    let policy = TwoGatePolicy::new(PREFIX_MAX).unwrap();
    let (think, act) = (policy.open_think().unwrap(), policy.open_act().unwrap());
    let mut minds = Minds { think, act };
    // The first chunk is free: nobody waits for it.
    let mut now: Chunk = (0, minds.decide(&world, Vec::new(), decision_seed(seed, 0)));
    let mut next: Option<(usize, Chunk)> = None;
    let (mut asked, mut stalls, mut boundaries_mm) = (0, 0, Vec::new());
    let mut commands = vec![now.1[0]];
    for tick in 0.. {
        if let Some((_, chunk)) = next.take_if(|(arrives, _)| *arrives <= tick) {
            if tick - now.0 < HORIZON {
                let step = apart(chunk.1[tick - chunk.0], now.1[tick - now.0]);
                boundaries_mm.push(step * 1e3);
            }
            now = chunk;
        }
        if next.is_none() && asked + DECIDES_EVERY <= tick {
            asked = tick;
            let left = now.1.get(tick - now.0..).unwrap_or_default();
            let prefix = left.iter().take(way.prefix_max.min(way.delay));
            let prefix = prefix.map(|row| row.to_vec()).collect();
            let rows = minds.decide(&world, prefix, decision_seed(seed, tick as u64));
            next = Some((tick + way.delay, (tick, rows)));
        }
        let row = now.1.get(tick - now.0).copied();
        stalls += usize::from(row.is_none());
        let row = row.or(commands.last().copied()).unwrap();
        commands.push(row);
        robot.command(&row.map(f64::from)).unwrap();
        world.advance_to(world.now_ns() + 33_333_330);
        if world.episode().over() {
            break;
        }
    }
    Ran {
        succeeded: world.episode().succeeded(),
        stalls,
        boundaries_mm,
        rms_jerk: rms_jerk(&commands[1..]),
    }
}

/// Root mean square of the third difference of the targets, m/s³.
fn rms_jerk(commands: &[[f32; 2]]) -> f64 {
    let third = commands.windows(4).map(|c| -> f64 {
        let along = |k: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| f64::from(c[i][k]));
            (d - 3.0 * c + 3.0 * b - a) * 27_000.0
        };
        along(0).powi(2) + along(1).powi(2)
    });
    let third: Vec<f64> = third.collect();
    mean(&third).sqrt()
}

/// Success, stalls, 95th percentile of the boundaries, mean jerk.
fn cell(way: Way) -> (f64, usize, f64, f64) {
    let runs: Vec<Ran> = (0..SEEDS).map(|seed| run(way, seed)).collect();
    let success = runs.iter().filter(|run| run.succeeded).count() as f64 / SEEDS as f64;
    let stalls = runs.iter().map(|run| run.stalls).sum();
    let jerks: Vec<f64> = runs.iter().map(|run| run.rms_jerk).collect();
    let boundaries: Vec<f64> = runs.into_iter().flat_map(|run| run.boundaries_mm).collect();
    (
        success,
        stalls,
        quantile(&boundaries, 0.95).unwrap(),
        mean(&jerks),
    )
}

#[test]
fn a_clean_prefix_succeeds_smoothly_where_it_covers_the_delay() {
    let (success, stalls, boundary_mm, jerk) = cell(Way {
        prefix_max: 29,
        delay: 3,
    });
    assert!(0.95 <= success, "{success}");
    assert_eq!(stalls, 0);
    assert!(boundary_mm <= 8.0, "{boundary_mm}");
    assert!(jerk <= 100.0, "{jerk}");
}

#[test]
fn naive_overlap_fails_at_twelve_ticks_without_a_stall() {
    let (success, stalls, boundary_mm, jerk) = cell(Way {
        prefix_max: 0,
        delay: 12,
    });
    assert!(success <= 0.5, "{success}");
    assert_eq!(stalls, 0);
    // The oracle's are 230 mm and 1559 m/s³.
    assert!((150.0..320.0).contains(&boundary_mm), "{boundary_mm}");
    assert!((1000.0..2200.0).contains(&jerk), "{jerk}");
}

#[test]
fn a_prefix_of_six_rows_keeps_success_and_loses_smoothness_beyond_its_reach() {
    let (success, stalls, boundary_mm, _) = cell(Way {
        prefix_max: 6,
        delay: 12,
    });
    assert!(0.95 <= success, "{success}");
    assert_eq!(stalls, 0);
    // The oracle's are 50 mm.
    assert!((25.0..90.0).contains(&boundary_mm), "{boundary_mm}");
}
