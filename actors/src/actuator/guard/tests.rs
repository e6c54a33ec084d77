//! The guard's promises, servo tick by servo tick, against a robot that follows exactly.

use ulid::Ulid;
use vlad_cell::robot::Measured;
use vlad_safety::envelope::Limits;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_safety::workspace::Workspace;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::codec::VERSION;
use vlad_wire::id::{ChunkId, Epoch, Role, TaskId, Tick};
use vlad_wire::msg::command::{Lease, Pause, Rearm, Reset, Resume, Signature};
use vlad_wire::msg::execute::{Accepted, Executed};
use vlad_wire::msg::health::{Alive, Fitness, Version};
use vlad_wire::msg::think::{Chunk, ChunkHead, Digest, Start, Strategy};
use vlad_wire::robot_type::SlotMap;
use vlad_wire::text::{Name, Note};

use super::commands::Reply;
use super::{Beat, Failure, Guard};
use crate::actuator::servo::Sample;
use crate::actuator::settings::{GuardConfig, Shape};

mod anything;
mod chunks;
mod commands;
mod losses;
mod waits;

/// Rows of a chunk: one second.
const HORIZON: u16 = 30;
/// Slots of a row; slot 3 belongs to no joint.
const WIDTH: u16 = 4;
const SERVO_PER_TICK: u32 = 8;
/// 240 Hz.
const SERVO_NS: u64 = 4_166_667;
/// Servo ticks between two heartbeats: 20.8 ms.
const BEAT_EVERY: u64 = 5;
/// Session of every role unless a test says otherwise.
const SESSION: u64 = 7;
/// Lease of a task; renewed by the bench as long as `renews` holds.
const TTL_MS: u32 = 2000;

fn config() -> GuardConfig {
    GuardConfig {
        think_timeout_ms: 2000,
        unfit_timeout_ms: 1000,
        heartbeat_missed_max: 5,
        first_command_rad: 0.05,
        first_command_m: 0.02,
        pose_tolerance_deg: 2.0,
        action_age_limit_ms: 1500,
        reset_after_ms: 500,
        overrun_max: 3,
        overrun_per_s_max: 10,
        state_late_max: 3,
        following_rad: 0.1,
        following_ms: 50,
        following_lag_ms: 0,
        speed_min: 0.05,
        late_chunk_rule: true,
        disagreement_max: 5,
        realtime_priority: 0,
        lock_memory: false,
    }
}

/// Two joints, then a gripper that stands in slot 0.
fn shape() -> Shape {
    let joint = Limits {
        min: -2.0,
        max: 2.0,
        speed_max: 2.5,
        acceleration_max: 15.0,
        jerk_max: 1500.0,
    };
    let gripper = Limits {
        min: 0.0,
        max: 0.08,
        speed_max: 0.25,
        acceleration_max: 4.0,
        jerk_max: 400.0,
    };
    let wide = |limits: Limits| Limits {
        min: limits.min - 2.0,
        max: limits.max + 2.0,
        ..limits
    };
    Shape {
        limits: vec![joint, joint, gripper],
        plausible: vec![wide(joint), wide(joint), wide(gripper)],
        squeeze_max: vec![f64::INFINITY, f64::INFINITY, 0.03],
        park: vec![0.0, 0.0, 0.07],
        workspace: Workspace {
            arms: Vec::new(),
            inside: None,
            keep_out: Vec::new(),
            clearance_m: 0.04,
            tool_speed_max_m_s: 1.0,
        },
        gripper: vec![false, false, true],
        snaps: vec![false, false, true],
        slots: SlotMap::new(usize::from(WIDTH), vec![1, 2, 0]).unwrap(),
        horizon: usize::from(HORIZON),
        servo_per_tick: SERVO_PER_TICK,
        servo_ns: SERVO_NS,
    }
}

fn task() -> TaskId {
    TaskId(Ulid::from_parts(1, 1))
}

fn by() -> Signature {
    Signature {
        operator: Note::cleaned("ada"),
        reason: Note::cleaned("test"),
    }
}

/// What a role's heartbeats say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    Fit,
    Unfit,
    Silent,
}

/// A guard, a robot that stands where it was commanded one servo tick ago, and three peers.
struct Bench {
    guard: Guard,
    sample: Box<Sample>,
    measured: Measured,
    now_ns: u64,
    servo_tick: u64,
    epoch: Epoch,
    seq: u64,
    perception: Voice,
    brain: Voice,
    expert: Voice,
    in_flight: bool,
    renews: bool,
    /// Where the robot stands whatever it is told, by degree of freedom: a held object, a hand.
    stuck: Vec<(usize, f64)>,
}

impl Bench {
    /// A disarmed guard with everybody well; has run for a tenth of a second.
    fn new() -> Self {
        Self::found_at(&[0.0, 0.5, 0.04])
    }

    fn found_at(position: &[f64]) -> Self {
        let measured = Measured {
            sampled_at_ns: SECOND,
            position: position.to_vec(),
            velocity: vec![0.0; position.len()],
        };
        let guard = Guard::new(Name::new("demo").unwrap(), config(), shape(), &measured);
        let mut bench = Self {
            sample: Box::new(guard.empty_sample()),
            guard,
            measured,
            now_ns: SECOND,
            servo_tick: 0,
            epoch: 0,
            seq: 0,
            perception: Voice::Fit,
            brain: Voice::Fit,
            expert: Voice::Fit,
            in_flight: false,
            renews: true,
            stuck: Vec::new(),
        };
        bench.ticks(3);
        bench
    }

    /// Armed, with a lease.
    fn leased() -> Self {
        let mut bench = Self::new();
        assert!(bench.rearm().done);
        assert!(bench.grant().done);
        bench
    }

    /// Playing a chunk of this strategy that moves joint 0, one tick into it.
    fn running(strategy: Strategy) -> Self {
        let mut bench = Self::leased();
        assert!(bench.send(strategy).is_some());
        bench.ticks(2);
        assert_eq!(bench.state(), (Mode::Running, Reason::Playing));
        bench
    }

    fn state(&self) -> (Mode, Reason) {
        (self.guard.state().mode, self.guard.state().reason)
    }

    /// One servo tick with everything that belongs to it.
    fn step(&mut self) -> Executed {
        self.now_ns += SERVO_NS;
        self.servo_tick += 1;
        if self.servo_tick.is_multiple_of(BEAT_EVERY) {
            self.beat_hearts();
        }
        let beat = Beat {
            scheduled_ns: self.now_ns,
            now_ns: self.now_ns,
            suspended_ns: 0,
        };
        let measured = self.measured.clone();
        let executed = self.servo(beat, Ok(&measured));
        self.follow();
        executed
    }

    /// One servo tick of the guard alone.
    fn servo(&mut self, beat: Beat, measured: Result<&Measured, Failure>) -> Executed {
        let flags = self.guard.servo(beat, measured);
        self.guard.fill(&mut self.sample, beat, flags);
        self.sample.executed.clone()
    }

    /// Commanded speed.
    fn speed(&self, dof: usize) -> f64 {
        self.guard.envelope.motion()[dof].velocity.abs()
    }

    fn accepted(&self) -> Accepted {
        let mut accepted = self.sample.accepted.clone();
        self.guard.fill_accepted(&mut accepted, 0);
        accepted
    }

    fn follow(&mut self) {
        self.measured.sampled_at_ns = self.now_ns;
        let dofs = self
            .measured
            .position
            .iter_mut()
            .zip(&mut self.measured.velocity);
        for ((position, velocity), command) in dofs.zip(self.guard.command_now()) {
            *velocity = (command - *position) * 240.0;
            *position = *command;
        }
        for &(dof, position) in &self.stuck {
            self.measured.position[dof] = position;
            self.measured.velocity[dof] = 0.0;
        }
    }

    fn beat_hearts(&mut self) {
        self.guard.challenged(self.servo_tick);
        for (role, voice) in [
            (Role::Perception, self.perception),
            (Role::Brain, self.brain),
            (Role::ActionExpert, self.expert),
        ] {
            if voice != Voice::Silent {
                let in_flight = self.in_flight.then_some(1);
                self.say(role, SESSION, voice, in_flight);
            }
        }
        if self.renews && self.guard.lease.is_some() {
            self.guard
                .lease(&Lease::Renew { epoch: self.epoch }, self.now_ns);
        }
    }

    fn say(&mut self, role: Role, session: u64, voice: Voice, in_flight: Option<u64>) {
        let fitness = match voice {
            Voice::Unfit => Fitness::Unfit(Note::cleaned("dark")),
            Voice::Fit | Voice::Silent => Fitness::Fit,
        };
        let alive = Alive {
            role,
            session,
            seq: self.servo_tick,
            challenge: 0,
            echo: self.servo_tick,
            version: Version {
                layout: VERSION,
                package: Note::cleaned("test"),
            },
            in_flight,
            fitness,
            policy: None,
            sent_at_ns: self.now_ns,
        };
        self.guard.heard(&alive, self.now_ns);
    }

    fn steps(&mut self, count: u64) -> Vec<Executed> {
        (0..count).map(|_| self.step()).collect()
    }

    /// So many policy ticks.
    fn ticks(&mut self, count: u64) -> Vec<Executed> {
        self.steps(count * u64::from(SERVO_PER_TICK))
    }

    /// At least so much time, in whole servo ticks.
    fn millis(&mut self, ms: u64) -> Vec<Executed> {
        self.steps((ms * MS).div_ceil(SERVO_NS))
    }

    fn rearm(&mut self) -> Reply {
        self.epoch += 1;
        let ask = Rearm {
            epoch: self.epoch,
            by: by(),
            expected_pose: Vec::new(),
        };
        self.guard.rearm(&ask, self.now_ns)
    }

    fn grant(&mut self) -> Reply {
        self.epoch += 1;
        self.seq = 0;
        let (epoch, task) = (self.epoch, task());
        let ask = Lease::Grant {
            epoch,
            task,
            attempt: 1,
            ttl_ms: TTL_MS,
        };
        self.guard.lease(&ask, self.now_ns)
    }

    fn release(&mut self) -> Reply {
        self.guard
            .lease(&Lease::Release { epoch: self.epoch }, self.now_ns)
    }

    fn pause(&mut self) -> Reply {
        self.guard.pause(&Pause { by: by() }, self.now_ns)
    }

    fn resume_at(&mut self, pose: &[f64]) -> Reply {
        self.epoch += 1;
        let ask = Resume {
            epoch: self.epoch,
            by: by(),
            expected_pose: pose.to_vec(),
        };
        self.guard.resume(&ask, self.now_ns)
    }

    fn reset(&mut self) -> Reply {
        self.epoch += 1;
        self.guard.reset(
            &Reset {
                epoch: self.epoch,
                by: by(),
            },
            self.now_ns,
        )
    }

    /// The next chunk of the current lease; joint 0 moves 0.01 rad a tick (0.3 rad/s) from where
    /// the robot is commanded to be, in the direction that leaves most room.
    fn next_chunk(&mut self, strategy: Strategy) -> Chunk {
        let from = self.guard.command_now().to_vec();
        let per_tick = if from[0] < 0.0 { 0.01 } else { -0.01 };
        self.chunk_along(strategy, &from, per_tick)
    }

    fn chunk_along(&mut self, strategy: Strategy, from: &[f64], per_tick: f64) -> Chunk {
        self.seq += 1;
        let row = |index: u16| {
            let joint = from[0] + per_tick * f64::from(index + 1);
            shape().slots.to_slots(&[joint, from[1], from[2]])
        };
        let start = match self.guard.state().mode {
            Mode::Running => Start::At(self.guard.tick + 1),
            _ => Start::OnArrival,
        };
        Chunk {
            head: self.head(strategy, start),
            rows: (0..HORIZON).flat_map(row).collect(),
        }
    }

    fn head(&self, strategy: Strategy, start: Start) -> ChunkHead {
        ChunkHead {
            cell: Name::new("demo").unwrap(),
            epoch: self.epoch,
            seq: self.seq,
            id: ChunkId {
                epoch: self.epoch,
                request: self.seq,
            },
            task: task(),
            attempt: 1,
            obs_seq: self.seq,
            obs_tick: self.guard.tick,
            view_captured_ns: vec![],
            captured_at_ns: self.now_ns,
            requested_at_ns: self.now_ns,
            acted_from_ns: self.now_ns,
            acted_until_ns: self.now_ns,
            start,
            horizon: HORIZON,
            width: WIDTH,
            prefix_len: 0,
            frozen_len: 0,
            request_id: self.seq,
            strategy,
            rate: 1.0,
            dt_ns: u64::from(SERVO_PER_TICK) * SERVO_NS,
            noise_seed: 0,
            model_hash: Digest::from(vec![1; 32]),
            normaliser_hash: Digest::from(vec![2; 32]),
            frame_convention: Name::new("joint_absolute").unwrap(),
            mac: None,
        }
    }

    /// Makes the next chunk and hands it to the guard; gives the tick of its row 0.
    fn send(&mut self, strategy: Strategy) -> Option<Tick> {
        let chunk = self.next_chunk(strategy);
        self.guard.chunk(&chunk, self.now_ns)
    }

    /// Plays naive chunks without a gap for so many ticks.
    fn keep_running(&mut self, ticks: u64) {
        for _ in 0..ticks.div_ceil(10) {
            assert!(self.send(Strategy::Naive).is_some());
            self.ticks(10);
            assert_eq!(self.state(), (Mode::Running, Reason::Playing));
        }
    }

    /// Runs until the robot stands in `stopped`, for at most a second.
    fn until_stopped(&mut self) {
        for _ in 0..240 {
            if self.state().0 == Mode::Stopped {
                return;
            }
            self.step();
        }
        panic!("the guard does not stop: {:?}", self.state());
    }
}
