//! The shipped demo cell in virtual time, with a dispatcher in the gateway's place.

use std::sync::Arc;
use std::time::Duration;

use ulid::Ulid;
use vlad::config::{CellConfig, Config, Sources};
use vlad_actors::stepped::{Conditions, Stepped, SteppedParts};
use vlad_bus::command::{Client, Pending};
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_cell::camera::Camera;
use vlad_cell::description::{Arm, RobotDescription};
use vlad_cell::robot::{Measured, Robot, RobotError};
use vlad_motion::policy::Policy;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_sim::policy::scripted::ScriptedPolicy;
use vlad_sim::world::SimWorld;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::id::TaskId;
use vlad_wire::msg::command::{Lease, Rearm, Signature};
use vlad_wire::msg::execute::{ExecutedTicks, GuardState};
use vlad_wire::msg::task::{ActiveTask, Outcome, TaskNow, Verdict};
use vlad_wire::stream::{ExecutedActions, Guards, LeaseCommand, RearmCommand, Tasks, Verdicts};
use vlad_wire::text::{Instruction, Note};

/// Edge of the cameras, pixels: rendering is not what most stories are about.
const CAMERA_EDGE: u16 = 16;
/// In so few pixels an arm can move by a tenth of a radian unseen.
const COARSE: &str = "perception.frozen_motion_mrad=1000";
/// Farther between two servo ticks than a robot that begins or ends its motion is told to go.
const MOVING_RAD: f64 = 2e-3;

pub(crate) struct Run {
    pub(crate) stepped: Stepped,
    pub(crate) world: SimWorld,
    pub(crate) config: CellConfig,
}

/// A robot whose grippers are held open, whatever they are told.
struct HeldOpen {
    inner: Box<dyn Robot>,
    grippers: Vec<(usize, f64)>,
}

impl Robot for HeldOpen {
    fn n_dofs(&self) -> usize {
        self.inner.n_dofs()
    }

    fn read(&mut self, measured: &mut Measured) -> Result<(), RobotError> {
        self.inner.read(measured)
    }

    fn command(&mut self, position: &[f64]) -> Result<(), RobotError> {
        let mut position = position.to_vec();
        for (dof, opening_m) in &self.grippers {
            position[*dof] = *opening_m;
        }
        self.inner.command(&position)
    }

    fn watchdog(&self) -> Option<Duration> {
        self.inner.watchdog()
    }

    fn simulated(&self) -> bool {
        true
    }
}

/// Makes the policy for the cell's robot.
pub(crate) type MakePolicy = fn(&RobotDescription) -> Arc<dyn Policy>;

fn scripted(robot: &RobotDescription) -> Arc<dyn Policy> {
    Arc::new(ScriptedPolicy::new(Arc::new(robot.clone())).unwrap())
}

/// Puts something around a cell's first camera.
pub(crate) type MakeCamera = fn(Box<dyn Camera>) -> Box<dyn Camera>;

pub(crate) struct Options<'a> {
    pub(crate) policy: MakePolicy,
    pub(crate) camera: MakeCamera,
    pub(crate) camera_edge: u16,
    pub(crate) scene_seed: u64,
    pub(crate) sets: &'a [&'a str],
    pub(crate) grippers_held_open: bool,
    /// What it happens under, such as injected latency.
    pub(crate) conditions: fn() -> Conditions,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            policy: scripted,
            camera: |camera| camera,
            camera_edge: CAMERA_EDGE,
            scene_seed: 1,
            sets: &[],
            grippers_held_open: false,
            conditions: Conditions::default,
        }
    }
}

impl Run {
    pub(crate) fn new(options: &Options<'_>) -> Self {
        let coarse = (options.camera_edge == CAMERA_EDGE).then_some(&COARSE);
        let sets = coarse.into_iter().chain(options.sets);
        let sets = sets.map(ToString::to_string).collect();
        let config = Config::load(&Sources {
            sets,
            ..Sources::default()
        })
        .unwrap();
        let mut cell = config.cells[0].clone();
        let mut toml = cell.robot.toml().clone();
        for camera in &mut toml.cameras {
            (camera.width, camera.height) = (options.camera_edge, options.camera_edge);
        }
        cell.robot = RobotDescription::new(toml).unwrap();
        let scene = cell.scenery.table().unwrap();
        let world = SimWorld::new(scene, &cell.robot, options.scene_seed, 0).unwrap();
        let mut robot: Box<dyn Robot> = Box::new(world.robot());
        if options.grippers_held_open {
            let dofs = cell.robot.arms().iter().map(Arm::gripper_dof);
            let grippers = dofs
                .map(|dof| (dof, cell.robot.limits()[dof].max))
                .collect();
            robot = Box::new(HeldOpen {
                inner: robot,
                grippers,
            });
        }
        let policy = (options.policy)(&cell.robot);
        let mut cameras: Vec<Box<dyn Camera>> = Vec::new();
        for (idx, camera) in world.cameras().into_iter().enumerate() {
            let camera: Box<dyn Camera> = Box::new(camera);
            let first = idx == 0;
            cameras.push(if first {
                (options.camera)(camera)
            } else {
                camera
            });
        }
        let moving = world.clone();
        let parts = SteppedParts {
            cell: cell.cell.name.clone(),
            description: cell.robot.clone(),
            robot,
            cameras,
            oracle: Some(Box::new(world.oracle())),
            advance: Box::new(move |now_ns| moving.advance_to(now_ns)),
            policy,
            guard: cell.guard.clone(),
            perception: cell.perception.clone(),
            expert: config.expert,
        };
        Self {
            stepped: Stepped::under(parts, (options.conditions)()).unwrap(),
            world,
            config: cell,
        }
    }
}

/// Arms the guard, leases the cell to one task and follows it: the gateway's part, without a store,
/// so that a run has no random number in it.
pub(crate) struct Dispatcher {
    rearm: Client<RearmCommand>,
    lease: Client<LeaseCommand>,
    tasks: Publisher<Tasks>,
    verdicts: Subscriber<Verdicts>,
    executed: Subscriber<ExecutedActions>,
    guards: Subscriber<Guards>,
    renewal: Option<Pending<LeaseCommand>>,
    active: ActiveTask,
    next_ns: u64,
    report: Report,
}

/// How a dispatched task went.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) verdict: Option<Verdict>,
    pub(crate) seconds: u64,
    pub(crate) executed: Vec<ExecutedTicks>,
    pub(crate) guards: Vec<GuardState>,
}

impl Report {
    pub(crate) fn done(&self) -> bool {
        self.verdict
            .as_ref()
            .is_some_and(|verdict| verdict.outcome == Outcome::Done)
    }
}

impl Dispatcher {
    pub(crate) fn new(run: &Run, instruction: &str, seed: u64) -> Self {
        let (bus, cell) = (run.stepped.bus(), &run.config.cell.name);
        Self {
            rearm: bus.client(cell).unwrap(),
            lease: bus.client(cell).unwrap(),
            tasks: bus.publisher(cell, "").unwrap(),
            verdicts: bus.subscriber(cell, "", None).unwrap(),
            executed: bus.subscriber(cell, "", None).unwrap(),
            guards: bus.subscriber(cell, "", None).unwrap(),
            renewal: None,
            active: ActiveTask {
                id: TaskId(Ulid::from_parts(1, u128::from(seed))),
                attempt: 1,
                epoch: 2,
                instruction: Instruction::new(instruction).unwrap(),
                seed,
                deadline_ns: u64::MAX,
            },
            next_ns: 0,
            report: Report::default(),
        }
    }

    /// Runs the task for at most `seconds` of virtual time.
    pub(crate) fn run(&mut self, run: &mut Run, seconds: u64) -> Report {
        self.begin(run);
        self.follow(run, seconds)
    }

    /// Waits until the roles know each other, and takes the cell.
    pub(crate) fn begin(&mut self, run: &mut Run) {
        for _ in 0..240 {
            run.stepped.step().unwrap();
        }
        self.take_the_cell(run);
    }

    /// Goes on by one servo period, and keeps what is said.
    pub(crate) fn step(&mut self, run: &mut Run) {
        self.renew(run.stepped.clock().now_ns());
        run.stepped.step().unwrap();
        while let Some(executed) = self.executed.try_next() {
            self.report.executed.push(executed);
        }
        while let Some(guard) = self.guards.try_next() {
            self.report.guards.push(guard);
        }
        self.report.verdict = self.verdicts.try_next().or(self.report.verdict.take());
    }

    /// The guard's newest mode, and why.
    pub(crate) fn mode(&self) -> Option<(Mode, Reason)> {
        let guard = self.report.guards.last()?;
        Some((guard.mode, guard.reason))
    }

    /// Whether the arms were told to move well in the last tick that was executed.
    pub(crate) fn moving(&self) -> bool {
        let ticks = self.report.executed.iter().rev();
        let mut ticks = ticks.flat_map(|ticks| ticks.ticks.iter().rev());
        let (Some(now), Some(before)) = (ticks.next(), ticks.next()) else {
            return false;
        };
        let pairs = now.command.iter().zip(&before.command);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) > MOVING_RAD
    }

    /// Whether the scene's oracle is satisfied.
    pub(crate) fn done(&self) -> bool {
        self.report.done()
    }

    /// Follows the task to its verdict, for at most `seconds` of virtual time.
    pub(crate) fn follow(&mut self, run: &mut Run, seconds: u64) -> Report {
        let clock = run.stepped.clock();
        let began_ns = clock.now_ns();
        while clock.now_ns() < began_ns + seconds * SECOND {
            self.step(run);
            self.report.seconds = (clock.now_ns() - began_ns) / SECOND;
            let verdict = &self.report.verdict;
            if verdict.as_ref().is_some_and(|v| v.outcome != Outcome::Open) {
                break;
            }
        }
        std::mem::take(&mut self.report)
    }

    fn take_the_cell(&mut self, run: &mut Run) {
        let note = |text: &str| Note::new(text).unwrap();
        let by = Signature {
            operator: note("test"),
            reason: note("story"),
        };
        let rearm = Rearm {
            epoch: 1,
            by,
            expected_pose: vec![],
        };
        let mut rearmed = self.rearm.ask(&rearm, Duration::from_secs(1));
        let armed = loop {
            run.stepped.step().unwrap();
            if let Some(answer) = rearmed.try_take() {
                break answer.unwrap();
            }
        };
        assert!(armed.done, "{armed:?}");
        let (task, attempt) = (self.active.id, self.active.attempt);
        let grant = Lease::Grant {
            epoch: self.active.epoch,
            task,
            attempt,
            ttl_ms: 2000,
        };
        let mut granted = self.lease.ask(&grant, Duration::from_secs(1));
        let leased = loop {
            run.stepped.step().unwrap();
            if let Some(answer) = granted.try_take() {
                break answer.unwrap();
            }
        };
        assert!(leased.done, "{leased:?}");
    }

    fn renew(&mut self, now_ns: u64) {
        if now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + 500 * MS;
        let ask = Lease::Renew {
            epoch: self.active.epoch,
        };
        self.renewal = Some(self.lease.ask(&ask, Duration::from_secs(1)));
        self.tasks.put(&TaskNow {
            sent_at_ns: now_ns,
            task: Some(self.active.clone()),
            last: None,
        });
    }
}
