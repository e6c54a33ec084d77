//! What holds whatever arrives, in any order.

use std::collections::HashMap;

use proptest::prelude::*;
use vlad_safety::mode::Mode;
use vlad_wire::clock::MS;
use vlad_wire::id::{ChunkId, Epoch, Role};
use vlad_wire::msg::command::{Estop, Lease, Rearm, Reset, Resume};
use vlad_wire::msg::execute::{Executed, Source};
use vlad_wire::msg::think::{Start, Strategy as Meets};

use super::{Beat, Bench, Failure, SESSION, TTL_MS, Voice, by, config, shape, task};

/// Something that may happen to a guard.
#[derive(Debug, Clone)]
enum Act {
    Run(u64),
    Lose(u64),
    Late(u64),
    Chunk {
        rows: Rows,
        sync: bool,
        start: Option<i64>,
        age_ms: u64,
        back: u64,
    },
    Grant(u64),
    Renew(u64),
    Release,
    Rearm(u64),
    Pause,
    Resume(u64),
    Estop,
    Reset(u64),
    Died(bool, u64),
    Voices([Voice; 3], bool, bool),
}

/// What the rows of a chunk look like.
#[derive(Debug, Clone)]
enum Rows {
    /// From the command on, so many radians a tick.
    Line(f64),
    /// Row 0 passes E7, the others are anywhere.
    Wild(f32),
    /// One number is replaced.
    Spoilt(usize, f32),
}

fn rows() -> impl Strategy<Value = Rows> {
    let number = prop_oneof![
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        Just(1e9_f32),
        any::<u32>().prop_map(f32::from_bits),
    ];
    prop_oneof![
        4 => (-0.04..0.04).prop_map(Rows::Line),
        3 => (-1000.0..1000.0_f32).prop_map(Rows::Wild),
        1 => (0_usize..120, number).prop_map(|(at, number)| Rows::Spoilt(at, number)),
    ]
}

fn chunk() -> impl Strategy<Value = Act> {
    let start = prop_oneof![
        6 => Just(None),
        2 => (-40_i64..40).prop_map(Some),
        1 => any::<i64>().prop_map(Some),
    ];
    let age_ms = prop_oneof![4 => 0_u64..200, 1 => 0_u64..2000];
    (
        rows(),
        any::<bool>(),
        start,
        age_ms,
        prop_oneof![6 => Just(0), 1 => 1_u64..4],
    )
        .prop_map(|(rows, sync, start, age_ms, back)| Act::Chunk {
            rows,
            sync,
            start,
            age_ms,
            back,
        })
}

fn act() -> impl Strategy<Value = Act> {
    let voice =
        || prop_oneof![4 => Just(Voice::Fit), 1 => Just(Voice::Unfit), 1 => Just(Voice::Silent)];
    // 0 is a new epoch, more is so much too old.
    let old = || prop_oneof![5 => Just(0_u64), 1 => 1_u64..3];
    prop_oneof![
        8 => (1_u64..60).prop_map(Act::Run),
        1 => (60_u64..700).prop_map(Act::Run),
        1 => (1_u64..3).prop_map(Act::Lose),
        1 => (1_u64..5).prop_map(Act::Late),
        12 => chunk(),
        4 => old().prop_map(Act::Grant),
        2 => old().prop_map(Act::Renew),
        1 => Just(Act::Release),
        4 => old().prop_map(Act::Rearm),
        1 => Just(Act::Pause),
        2 => old().prop_map(Act::Resume),
        1 => Just(Act::Estop),
        2 => old().prop_map(Act::Reset),
        1 => (any::<bool>(), SESSION - 1..=SESSION).prop_map(|(a, b)| Act::Died(a, b)),
        3 => ([voice(), voice(), voice()], any::<bool>(), any::<bool>())
            .prop_map(|(voices, in_flight, renews)| Act::Voices(voices, in_flight, renews)),
    ]
}

/// The bench, and what is remembered to judge it.
struct Judge {
    bench: Bench,
    captured: HashMap<ChunkId, u64>,
    last: Option<Executed>,
    /// The last four commands, newest last.
    commands: Vec<Vec<f64>>,
    latched: bool,
    requests: u64,
    moved: u64,
}

impl Judge {
    fn new() -> Self {
        let bench = Bench::leased();
        Self {
            bench,
            captured: HashMap::new(),
            last: None,
            commands: Vec::new(),
            latched: false,
            requests: 1,
            moved: 0,
        }
    }

    fn epoch(&mut self, old: u64) -> Epoch {
        if old == 0 {
            self.bench.epoch += 1;
            return self.bench.epoch;
        }
        self.bench.epoch.saturating_sub(old - 1)
    }

    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Run(steps) => (0..*steps).try_for_each(|_| self.step())?,
            Act::Lose(steps) => (0..*steps).try_for_each(|_| self.odd(None))?,
            Act::Late(periods) => self.odd(Some(*periods))?,
            Act::Chunk { .. } => self.chunk(act),
            Act::Died(brain, session) => {
                let role = if *brain {
                    Role::Brain
                } else {
                    Role::ActionExpert
                };
                let now_ns = self.bench.now_ns;
                self.bench.guard.died(role, *session, now_ns);
            }
            Act::Voices([perception, brain, expert], in_flight, renews) => {
                self.bench.perception = *perception;
                self.bench.brain = *brain;
                self.bench.expert = *expert;
                self.bench.in_flight = *in_flight;
                self.bench.renews = *renews;
            }
            _ => self.command(act),
        }
        self.check_mode()
    }

    fn command(&mut self, act: &Act) {
        let now_ns = self.bench.now_ns;
        let held = self.bench.guard.epoch;
        let expected_pose = self.bench.measured.position.clone();
        match act {
            Act::Grant(old) => {
                let epoch = self.epoch(*old);
                let ask = Lease::Grant {
                    epoch,
                    task: task(),
                    attempt: 1,
                    ttl_ms: TTL_MS,
                };
                self.bench.guard.lease(&ask, now_ns);
            }
            Act::Renew(old) => {
                let epoch = held.saturating_sub(*old);
                self.bench.guard.lease(&Lease::Renew { epoch }, now_ns);
            }
            Act::Release => {
                let ask = Lease::Release { epoch: held };
                self.bench.guard.lease(&ask, now_ns);
            }
            Act::Rearm(old) => {
                let epoch = self.epoch(*old);
                let ask = Rearm {
                    epoch,
                    by: by(),
                    expected_pose: vec![],
                };
                self.bench.guard.rearm(&ask, now_ns);
            }
            Act::Pause => drop(self.bench.pause()),
            Act::Resume(old) => {
                let epoch = self.epoch(*old);
                let ask = Resume {
                    epoch,
                    by: by(),
                    expected_pose,
                };
                self.bench.guard.resume(&ask, now_ns);
            }
            Act::Estop => drop(self.bench.guard.estop(&Estop { by: by() }, now_ns)),
            Act::Reset(old) => {
                let epoch = self.epoch(*old);
                let ask = Reset { epoch, by: by() };
                self.latched &= !self.bench.guard.reset(&ask, now_ns).done;
            }
            _ => {}
        }
    }

    fn chunk(&mut self, act: &Act) {
        let Act::Chunk {
            rows,
            sync,
            start,
            age_ms,
            back,
        } = act
        else {
            return;
        };
        let bench = &mut self.bench;
        bench.epoch = bench.guard.epoch;
        let from = bench.guard.command_now().to_vec();
        let strategy = if *sync { Meets::Sync } else { Meets::Naive };
        let per_tick = if let Rows::Line(per_tick) = rows {
            *per_tick
        } else {
            0.0
        };
        let mut chunk = bench.chunk_along(strategy, &from, per_tick);
        match rows {
            Rows::Line(_) => {}
            Rows::Wild(x) => chunk.rows.iter_mut().skip(4).for_each(|row| *row += x),
            Rows::Spoilt(at, number) => chunk.rows[*at] = *number,
        }
        self.requests += 1;
        chunk.head.id.request = self.requests;
        chunk.head.seq = self.requests.saturating_sub(*back);
        chunk.head.obs_seq = self.requests;
        chunk.head.captured_at_ns = bench.now_ns.saturating_sub(age_ms * MS);
        if let (Some(offset), Start::At(tick)) = (start, chunk.head.start) {
            chunk.head.start = Start::At(tick.saturating_add(*offset));
        }
        self.captured
            .insert(chunk.head.id, chunk.head.captured_at_ns);
        bench.guard.chunk(&chunk, bench.now_ns);
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        let executed = self.bench.step();
        self.check(executed)
    }

    /// A servo tick without a sample, or one that begins late.
    fn odd(&mut self, late_periods: Option<u64>) -> Result<(), TestCaseError> {
        let scheduled_ns = self.bench.now_ns + super::SERVO_NS;
        self.bench.now_ns = scheduled_ns + late_periods.unwrap_or(0) * super::SERVO_NS;
        let beat = Beat {
            scheduled_ns,
            now_ns: self.bench.now_ns,
            suspended_ns: 0,
        };
        let sample = self.bench.measured.clone();
        let executed = self
            .bench
            .servo(beat, late_periods.map(|_| &sample).ok_or(Failure::Robot));
        self.bench.follow();
        self.check(executed)
    }

    fn check_mode(&mut self) -> Result<(), TestCaseError> {
        let mode = self.bench.guard.state().mode;
        prop_assert!(mode != Mode::Running || self.bench.guard.lease.is_some());
        prop_assert!(
            mode.latched() || !self.latched,
            "left a latched mode for {}",
            mode
        );
        self.latched = mode.latched();
        Ok(())
    }

    fn check(&mut self, executed: Executed) -> Result<(), TestCaseError> {
        let dt_s = 4_166_667.0 / 1e9;
        prop_assert_eq!(executed.command.len(), 3);
        for (limits, command) in shape().limits.iter().zip(&executed.command) {
            prop_assert!(command.is_finite());
            prop_assert!(limits.min <= *command && *command <= limits.max);
        }
        if let Some(last) = &self.last {
            prop_assert!(last.tick <= executed.tick && executed.tick <= last.tick + 1);
            prop_assert_eq!(executed.servo_tick, last.servo_tick + 1);
            prop_assert!(last.epoch <= executed.epoch);
            let steps = shape()
                .limits
                .into_iter()
                .zip(last.command.iter().zip(&executed.command));
            for (limits, (last, command)) in steps {
                let reach = limits.speed_max * dt_s;
                prop_assert!(last - reach <= *command && *command <= last + reach);
            }
            self.moved += u64::from(last.command != executed.command);
        }
        if let (Source::Policy, Some(chunk)) = (executed.source, executed.chunk) {
            prop_assert_eq!(executed.mode, Mode::Running);
            let captured_ns = self.captured.get(&chunk).copied();
            let age_ns = captured_ns.map(|captured_ns| self.bench.now_ns - captured_ns);
            let fresh = age_ns.is_some_and(|age_ns| age_ns <= config().action_age_ns());
            prop_assert!(fresh || !self.bench.guard.pace.begins());
        }
        self.check_smoothness(&executed.command, dt_s)?;
        self.last = Some(executed);
        self.check_mode()
    }

    /// Acceleration and jerk of the commands, by differences.
    fn check_smoothness(&mut self, command: &[f64], dt_s: f64) -> Result<(), TestCaseError> {
        self.commands.push(command.to_vec());
        let [.., a, b, c, d] = self.commands.as_slice() else {
            return Ok(());
        };
        for (dof, limits) in shape().limits.iter().enumerate() {
            let acceleration = (d[dof] - 2.0 * c[dof] + b[dof]) / dt_s.powi(2);
            let jerk = (d[dof] - 3.0 * c[dof] + 3.0 * b[dof] - a[dof]) / dt_s.powi(3);
            prop_assert!(acceleration.abs() <= limits.acceleration_max * (1.0 + 1e-6));
            prop_assert!(jerk.abs() <= limits.jerk_max * (1.0 + 1e-5), "{}", jerk);
        }
        self.commands.remove(0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Finite, inside, within reach, forward, fresh, leased, latched: after any story.
    #[test]
    fn no_story_makes_the_guard_break_a_promise(
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut judge = Judge::new();
        judge.act(&Act::Chunk {
            rows: Rows::Line(0.01), sync: false, start: None, age_ms: 0, back: 0,
        })?;
        for act in &acts {
            judge.act(act)?;
        }
        // The first chunk alone moves the arm, unless something forbade it.
        let steps = |act: &Act| if let Act::Run(steps) = act { *steps } else { 0 };
        let ran: u64 = acts.iter().map(steps).sum();
        let only_runs = acts.iter().all(|act| matches!(act, Act::Run(_)));
        prop_assert!(!only_runs || ran < 20 || 0 < judge.moved);
    }

    /// A stopped world stays where it is: without chunks nothing ever moves.
    #[test]
    fn without_a_chunk_nothing_moves(
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut judge = Judge::new();
        for act in acts.iter().filter(|act| !matches!(act, Act::Chunk { .. })) {
            judge.act(act)?;
        }
        prop_assert_eq!(judge.moved, 0);
    }
}
