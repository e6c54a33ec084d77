//! A servo loop, its robot, and a bus side that feeds it between its ticks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ulid::Ulid;
use vlad_actors::actuator::guard::Beat;
use vlad_actors::actuator::servo::{Ask, Inbound, Outbound, Sample, ServoLink, ServoLoop};
use vlad_actors::actuator::settings::{GuardConfig, Shape};
use vlad_cell::description::{RobotDescription, RobotToml};
use vlad_cell::robot::{Measured, Robot, RobotError};
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_sim::twogate::TwoGateWorld;
use vlad_wire::clock::{Clock as _, MS, ManualClock, SECOND};
use vlad_wire::codec::VERSION;
use vlad_wire::id::{ChunkId, Epoch, Role, TaskId};
use vlad_wire::msg::command::{Lease, Rearm, Reset, Signature};
use vlad_wire::msg::execute::GuardState;
use vlad_wire::msg::health::{Alive, Fitness, Version};
use vlad_wire::msg::think::{Chunk, ChunkHead, Digest, Start, Strategy};
use vlad_wire::text::{Name, Note};

/// Makes the robot fail from outside.
#[derive(Clone, Default)]
pub(crate) struct Switch(Arc<AtomicBool>);

impl Switch {
    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

/// A robot that can fail.
struct Failing {
    robot: Box<dyn Robot>,
    fails: Switch,
}

impl Robot for Failing {
    fn n_dofs(&self) -> usize {
        self.robot.n_dofs()
    }

    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError> {
        if self.fails.0.load(Ordering::Relaxed) {
            return Err(RobotError::Disconnected);
        }
        self.robot.read(measured)
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        self.robot.command(position)
    }

    fn watchdog(&self) -> Option<Duration> {
        self.robot.watchdog()
    }

    fn simulated(&self) -> bool {
        true
    }
}

/// A robot that is where it was commanded at its last read.
struct Follower {
    commanded: Vec<f64>,
    position: Vec<f64>,
    period_ns: u64,
    clock: Arc<ManualClock>,
}

impl Robot for Follower {
    fn n_dofs(&self) -> usize {
        self.position.len()
    }

    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "a period has few nanoseconds"
    )]
    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError> {
        let dt_s = self.period_ns as f64 / 1e9;
        measured.sampled_at_ns = self.clock.now_ns();
        let dofs = self.position.iter_mut().zip(&self.commanded);
        let measured = measured.position.iter_mut().zip(&mut measured.velocity);
        for ((place, commanded), (position, velocity)) in dofs.zip(measured) {
            *velocity = (commanded - *place) / dt_s;
            *place = *commanded;
            *position = *commanded;
        }
        Ok(())
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        self.commanded.copy_from_slice(position);
        Ok(())
    }

    fn watchdog(&self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }

    fn simulated(&self) -> bool {
        true
    }
}

/// One cell in virtual time.
pub(crate) struct Cell {
    servo: ServoLoop,
    link: ServoLink,
    advance: Box<dyn FnMut(u64)>,
    shape: Shape,
    /// The newest sample.
    sample: Option<Box<Sample>>,
    /// The guard's state as it was told last.
    state: Option<GuardState>,
    now_ns: u64,
    heartbeat_ns: u64,
    asked: u64,
    epoch: Epoch,
    requests: u64,
    /// Epoch of the lease.
    pub(crate) lease: Epoch,
    /// Whether the robot cannot be read.
    pub(crate) fails: Switch,
    /// Whether nobody is heard.
    pub(crate) silent: bool,
    /// Whether the bus side takes nothing.
    pub(crate) stalls: bool,
    /// Servo ticks that were counted.
    pub(crate) beats: u64,
}

pub(crate) fn by() -> Signature {
    Signature {
        operator: Note::cleaned("ada"),
        reason: Note::cleaned("test"),
    }
}

fn task() -> TaskId {
    TaskId(Ulid::from_parts(1, 1))
}

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
        following_lag_ms: 20,
        speed_min: 0.05,
        late_chunk_rule: true,
        disagreement_max: 5,
        realtime_priority: 0,
        lock_memory: false,
    }
}

fn description(text: &str) -> RobotDescription {
    let file: toml::Table = text.parse().unwrap();
    let toml: RobotToml = file["robot"].clone().try_into().unwrap();
    RobotDescription::new(toml).unwrap()
}

/// The point of TwoGate, in its own world.
pub(crate) fn two_gate() -> Cell {
    let description = description(include_str!("../../../config/robots/twogate.toml"));
    let world = TwoGateWorld::new(&description, 1, SECOND).unwrap();
    let robot = Box::new(world.robot());
    let advance = Box::new(move |now_ns| world.advance_to(now_ns));
    Cell::new(&description, robot, advance)
}

/// Two arms with grippers, boxes and capsules.
pub(crate) fn dual_arm() -> Cell {
    let description = description(include_str!("../../../config/robots/demo-dual-arm.toml"));
    let shape = Shape::new(&description);
    let clock = Arc::new(ManualClock::default());
    let robot = Follower {
        commanded: description.home().to_vec(),
        position: description.home().to_vec(),
        period_ns: shape.servo_ns,
        clock: Arc::clone(&clock),
    };
    let advance = Box::new(move |now_ns| clock.advance_to(now_ns));
    Cell::new(&description, Box::new(robot), advance)
}

impl Cell {
    fn new(
        description: &RobotDescription,
        robot: Box<dyn Robot>,
        mut advance: Box<dyn FnMut(u64)>,
    ) -> Self {
        let shape = Shape::new(description);
        let fails = Switch::default();
        let robot = Box::new(Failing {
            robot,
            fails: fails.clone(),
        });
        let now_ns = SECOND + shape.servo_ns;
        advance(now_ns);
        let name = Name::new("counted").unwrap();
        let (servo, link) = ServoLoop::new(name, config(), shape.clone(), robot).unwrap();
        let mut cell = Self {
            servo,
            link,
            advance,
            shape,
            sample: None,
            state: None,
            now_ns,
            heartbeat_ns: 0,
            asked: 0,
            epoch: 0,
            requests: 0,
            lease: 0,
            fails,
            silent: false,
            stalls: false,
            beats: 0,
        };
        cell.beats(10);
        cell
    }

    /// So many servo ticks, each of which must allocate and free nothing.
    pub(crate) fn beats(&mut self, count: u64) {
        for _ in 0..count {
            self.now_ns += self.shape.servo_ns;
            (self.advance)(self.now_ns);
            if self.heartbeat_ns <= self.now_ns && !self.silent && !self.stalls {
                self.heartbeat_ns = self.now_ns + 20 * MS;
                self.beat_hearts();
            }
            let beat = Beat {
                scheduled_ns: self.now_ns,
                now_ns: self.now_ns,
                suspended_ns: 0,
            };
            let servo = &mut self.servo;
            let mut connected = false;
            let counted = allocation_counter::measure(|| connected = servo.beat(beat));
            assert!(connected);
            // Frees count too: each brings `count_current` down without an allocation.
            assert_eq!(
                (counted.count_total, counted.count_current),
                (0, 0),
                "servo tick {} after {:?}",
                self.beats,
                self.state
            );
            self.beats += 1;
            if !self.stalls {
                self.drain();
            }
        }
    }

    /// What the bus side does with what comes: samples go round, the rest is freed here.
    fn drain(&mut self) {
        while let Ok(outbound) = self.link.outbound.try_recv() {
            if let Outbound::Sample(sample) = outbound {
                if sample.whole {
                    self.state = Some(sample.state.clone());
                }
                if let Some(old) = self.sample.replace(sample) {
                    self.link.spare.try_send(old).unwrap();
                }
            }
        }
    }

    pub(crate) fn send(&mut self, inbound: Inbound) {
        self.link.inbound.try_send(inbound).unwrap();
    }

    pub(crate) fn ask(&mut self, ask: Ask) {
        self.asked += 1;
        self.send(Inbound::Ask(self.asked, Box::new(ask)));
    }

    pub(crate) fn new_epoch(&mut self) -> Epoch {
        self.epoch += 1;
        self.epoch
    }

    fn beat_hearts(&mut self) {
        let challenge = self.now_ns;
        self.send(Inbound::Challenged(challenge));
        for role in [Role::Perception, Role::Brain, Role::ActionExpert] {
            self.send(Inbound::Heard(Box::new(Alive {
                role,
                session: 1,
                seq: self.asked,
                challenge: 0,
                echo: challenge,
                version: Version {
                    layout: VERSION,
                    package: Note::cleaned("test"),
                },
                in_flight: None,
                fitness: Fitness::Fit,
                policy: None,
                sent_at_ns: self.now_ns,
            })));
        }
        if 0 < self.lease {
            self.ask(Ask::Lease(Lease::Renew { epoch: self.lease }));
        }
    }

    /// Rearms and grants a lease.
    pub(crate) fn arm(&mut self) {
        let rearm = Rearm {
            epoch: self.new_epoch(),
            by: by(),
            expected_pose: vec![],
        };
        self.lease = 0;
        self.ask(Ask::Rearm(rearm));
        self.beats(2);
        assert_eq!(self.state(), (Mode::Armed, Reason::Rearmed));
        self.lease = self.new_epoch();
        self.ask(Ask::Lease(Lease::Grant {
            epoch: self.lease,
            task: task(),
            attempt: 1,
            ttl_ms: 2000,
        }));
        self.beats(2);
    }

    /// Resets a latched mode, and arms.
    pub(crate) fn recover(&mut self) {
        self.lease = 0;
        self.beats(300);
        let epoch = self.new_epoch();
        self.ask(Ask::Reset(Reset { epoch, by: by() }));
        self.beats(2);
        self.arm();
    }

    /// Until the robot stands.
    pub(crate) fn settle(&mut self) {
        for _ in 0..400 {
            if self.sample().still_since_ns.is_some() {
                return;
            }
            self.beats(1);
        }
        panic!("the robot does not stand: {:?}", self.state());
    }

    /// Plays chunks without a gap for so many policy ticks.
    pub(crate) fn play(&mut self, ticks: u64) {
        for tick in 0..ticks {
            if tick.is_multiple_of(5) {
                self.offer(|_| {});
            }
            self.beats(u64::from(self.shape.servo_per_tick));
        }
    }

    /// Offers a chunk that fits, but for what `spoil` does to it: degree of freedom 1 goes on from
    /// where it is, a little.
    pub(crate) fn offer(&mut self, spoil: impl Fn(&mut Chunk)) {
        self.requests += 1;
        let mut from = self.sample().executed.command.clone();
        let rows = (0..self.shape.horizon).flat_map(|_| {
            from[1] += 1e-3;
            self.shape.slots.to_slots(&from)
        });
        let mut chunk = Chunk {
            rows: rows.collect(),
            head: self.head(),
        };
        spoil(&mut chunk);
        self.send(Inbound::Chunk(Box::new(chunk)));
    }

    fn head(&self) -> ChunkHead {
        let now_ns = self.now_ns;
        let tick = self.sample().executed.tick;
        let running = self.state().0 == Mode::Running;
        ChunkHead {
            cell: Name::new("counted").unwrap(),
            epoch: self.lease,
            seq: self.requests,
            id: ChunkId {
                epoch: self.lease,
                request: self.requests,
            },
            task: task(),
            attempt: 1,
            obs_seq: self.requests,
            obs_tick: tick,
            view_captured_ns: vec![],
            captured_at_ns: now_ns,
            requested_at_ns: now_ns,
            acted_from_ns: now_ns,
            acted_until_ns: now_ns,
            start: if running {
                Start::At(tick + 1)
            } else {
                Start::OnArrival
            },
            horizon: u16::try_from(self.shape.horizon).unwrap(),
            width: u16::try_from(self.shape.slots.width()).unwrap(),
            prefix_len: 0,
            frozen_len: 0,
            request_id: self.requests,
            strategy: Strategy::Naive,
            rate: 1.0,
            dt_ns: u64::from(self.shape.servo_per_tick) * self.shape.servo_ns,
            noise_seed: 0,
            model_hash: Digest::from(vec![1; 32]),
            normaliser_hash: Digest::from(vec![2; 32]),
            frame_convention: Name::new("joint_absolute").unwrap(),
            mac: None,
        }
    }

    fn sample(&self) -> &Sample {
        self.sample.as_ref().unwrap()
    }

    pub(crate) fn state(&self) -> (Mode, Reason) {
        let state = self.state.as_ref().unwrap();
        (state.mode, state.reason)
    }

    /// The slot of a degree of freedom.
    pub(crate) fn slot(&self, dof: usize) -> usize {
        self.shape.slots.slots()[dof]
    }

    pub(crate) fn pose(&self) -> Vec<f64> {
        self.sample().executed.measured.clone()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.state.as_ref().unwrap().counters.dropped
    }
}
