//! All cores of one cell on one thread over the queue, in virtual time.
//!
//! The same cores as in real time, stepped once a servo period in the order of the data flow.
//! Messages arrive after the latency budgets of their streams, so that the order of events is that
//! of a healthy daemon. Same parts, same seed: bit-identical runs, as fast as the machine can.
//!
//! What a healthy daemon does not do can be made to happen between two periods:
//!
//! | injected | as | what the others see |
//! |---|---|---|
//! | [`Stepped::kill`] | `kill -9` of a role's process | its liveliness token ends, then silence |
//! | [`Stepped::freeze`] | `SIGSTOP` | silence, with the token alive |
//! | [`Stepped::panic_next`] | a panic in a role's thread, which its supervisor catches | as of a kill; of the actuator it is the bus side alone, and the servo loop winds down |
//! | [`Stepped::revive`], [`Stepped::restart_guard`], [`Stepped::restart_perception`] | a start by its supervisor | another session |
//! | [`Stepped::stall`] | a servo tick that begins late | lateness |
//! | [`Stepped::skew_perception`] | cameras on a host with another clock | stamps of another clock |
//! | [`Stepped::jump_wall`] | somebody sets the wall clock | other wall times |
//! | [`Stepped::suspend`] | the machine was asleep | a gap between two clocks |

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use vlad_bus::bus::Bus;
use vlad_bus::travel::Travel;
use vlad_bus::waker::Waker;
use vlad_cell::camera::Camera;
use vlad_cell::description::RobotDescription;
use vlad_cell::oracle::Oracle;
use vlad_cell::robot::Robot;
use vlad_motion::policy::Policy;
use vlad_wire::clock::{Clock, MS, ManualClock, SharedClock};
use vlad_wire::id::{CellId, Role};
use vlad_wire::stream::Row;

use crate::actuator::guard::Beat;
use crate::actuator::servo::ServoLoop;
use crate::actuator::settings::{GuardConfig, Shape};
use crate::actuator::{Actuator, ActuatorParts};
use crate::brain::{Brain, BrainParts, Placement};
use crate::expert::{Expert, ExpertCell, ExpertConfig, ExpertParts, camera_ns};
use crate::perception::{Perception, PerceptionConfig, PerceptionParts};
use crate::role::{Core, CoreError};

/// Everything that a virtual run of one cell is made from.
pub struct SteppedParts {
    /// The cell.
    pub cell: CellId,
    /// Its robot's description.
    pub description: RobotDescription,
    /// Its robot.
    pub robot: Box<dyn Robot>,
    /// Its cameras.
    pub cameras: Vec<Box<dyn Camera>>,
    /// The scene's oracle.
    pub oracle: Option<Box<dyn Oracle>>,
    /// Lets the simulated world go on to a time.
    pub advance: Box<dyn FnMut(u64)>,
    /// The policy.
    pub policy: Arc<dyn Policy>,
    /// Settings of the guard.
    pub guard: GuardConfig,
    /// Settings of perception.
    pub perception: PerceptionConfig,
    /// Settings of the expert.
    pub expert: ExpertConfig,
}

/// What a virtual run happens under.
pub struct Conditions {
    /// Time of the clock at its start, nanoseconds: a world that began earlier has its cameras at
    /// another phase of the servo periods.
    pub start_ns: u64,
    /// How each message travels, by its stream's row; called once a message, in the order of sending.
    pub travel: Box<dyn Fn(&Row) -> Travel + Send + Sync>,
}

impl Default for Conditions {
    /// From time 0, each message after the latency budget of its stream.
    fn default() -> Self {
        Self {
            start_ns: 0,
            travel: Box::new(|row| Travel::once(u64::from(row.budget_ms) * MS)),
        }
    }
}

/// Of the first role that is made; the others' are counted from there.
const FIRST_SESSION: u64 = 1;

/// The clock of perception's host: the guard's, moved by what was injected.
#[derive(Debug)]
struct HostClock {
    guards: Arc<ManualClock>,
    skew: Mutex<Skew>,
}

/// How a host's clock differs from the guard's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Skew {
    /// Ahead by so much at time 0, nanoseconds.
    pub offset_ns: i64,
    /// Too fast by so much, parts per million.
    pub drift_ppm: i64,
}

impl Skew {
    /// What a clock with this skew shows at a time of the guard's.
    pub fn shown(self, guard_ns: u64) -> u64 {
        let passed_ns = i64::try_from(guard_ns).unwrap_or(i64::MAX);
        let drift_ns = passed_ns / 1_000_000 * self.drift_ppm;
        guard_ns.saturating_add_signed(self.offset_ns.saturating_add(drift_ns))
    }
}

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        let skew = *self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        skew.shown(self.guards.now_ns())
    }

    fn wall_ns(&self) -> u64 {
        self.guards.wall_ns()
    }
}

/// One core, and whether it may step.
struct Seat {
    role: Role,
    core: Box<dyn Core>,
    frozen: bool,
    /// Whether its next step ends in a panic.
    panics: bool,
}

impl Seat {
    fn new(role: Role, core: Box<dyn Core>) -> Self {
        Self {
            role,
            core,
            frozen: false,
            panics: false,
        }
    }

    /// One step. An injected panic is caught where the supervisor catches one, and gives `false`: the core
    /// must be dropped. Any other goes on, as a bug that it is.
    fn step(&mut self, now_ns: u64) -> Result<bool, CoreError> {
        if !self.panics {
            return self.core.step(now_ns).map(|()| true);
        }
        let core = &mut self.core;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            drop(core.step(now_ns));
            // Not the macro: it would write a backtrace of an intended end.
            resume_unwind(Box::new(Injected));
        }));
        match ended {
            Err(cause) if !cause.is::<Injected>() => resume_unwind(cause),
            _ => Ok(false),
        }
    }
}

/// What an injected panic carries.
struct Injected;

/// What guard and perception are made from, but for their devices.
struct CellParts {
    id: CellId,
    description: RobotDescription,
    guard: GuardConfig,
    perception: PerceptionConfig,
}

/// One cell in virtual time.
pub struct Stepped {
    clock: Arc<ManualClock>,
    /// The clock of perception's host.
    perceptions: Arc<HostClock>,
    bus: Bus,
    advance: Box<dyn FnMut(u64)>,
    cell: CellParts,
    brain: BrainParts,
    expert: ExpertParts,
    /// `None` while the guard's process is dead.
    servo: Option<ServoLoop>,
    seats: Vec<Seat>,
    period_ns: u64,
    scheduled_ns: u64,
    /// By how much the next servo tick begins late.
    late_ns: u64,
    suspended_ns: u64,
    /// Of the next role that is made.
    session: u64,
}

impl Stepped {
    /// Makes the cores of perception, brain, action expert and actuator, under the usual conditions.
    ///
    /// # Errors
    /// [`CoreError`] if one of them cannot be made.
    pub fn new(parts: SteppedParts) -> Result<Self, CoreError> {
        Self::under(parts, Conditions::default())
    }

    /// The same under other conditions, such as injected latency.
    ///
    /// # Errors
    /// [`CoreError`] if one of the cores cannot be made.
    pub fn under(parts: SteppedParts, conditions: Conditions) -> Result<Self, CoreError> {
        let clock = Arc::new(ManualClock::default());
        clock.advance_to(conditions.start_ns);
        let bus = Bus::travelling(clock.clone(), conditions.travel);
        let period_ns = Shape::new(&parts.description).servo_ns;
        // Sessions of these two are given at each start.
        let brain = BrainParts {
            cells: vec![parts.cell.clone()],
            policy: parts.policy.clone(),
            placement: Placement::Inline,
            stream_layers: true,
            session: 0,
        };
        let expert = ExpertParts {
            cells: vec![expert_cell(&parts.cell, &parts.description, &parts.guard)],
            policy: parts.policy,
            placement: Placement::Inline,
            config: parts.expert,
            refusals: Arc::default(),
            session: 0,
        };
        let mut stepped = Self {
            scheduled_ns: clock.now_ns(),
            perceptions: Arc::new(HostClock {
                guards: clock.clone(),
                skew: Mutex::default(),
            }),
            clock,
            bus,
            advance: parts.advance,
            cell: CellParts {
                id: parts.cell,
                description: parts.description,
                guard: parts.guard,
                perception: parts.perception,
            },
            brain,
            expert,
            servo: None,
            seats: Vec::new(),
            period_ns,
            late_ns: 0,
            suspended_ns: 0,
            session: FIRST_SESSION,
        };
        stepped.restart_guard(parts.robot)?;
        stepped.restart_perception(parts.cameras, parts.oracle)?;
        stepped.revive(Role::Brain)?;
        stepped.revive(Role::ActionExpert)?;
        Ok(stepped)
    }

    /// The bus, to speak and listen beside the cores.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The clock of the run.
    pub fn clock(&self) -> SharedClock {
        self.clock.clone()
    }

    /// A servo period, nanoseconds.
    pub fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// Adds a core, such as a gateway or a recorder, stepped after the others.
    pub fn add(&mut self, role: Role, core: Box<dyn Core>) {
        self.seats.push(Seat::new(role, core));
    }

    /// Ends a role without a word, as `kill -9` of its process: what it holds of the bus is dropped.
    /// With the actuator the robot is dropped too.
    pub fn kill(&mut self, role: Role) {
        self.seats.retain(|seat| seat.role != role);
        if role == Role::Actuator {
            self.servo = None;
        }
    }

    /// Keeps a role from stepping, or lets it go on; of the actuator the bus side alone.
    pub fn freeze(&mut self, role: Role, frozen: bool) {
        for seat in self.seats.iter_mut().filter(|seat| seat.role == role) {
            seat.frozen = frozen;
        }
    }

    /// Lets a role's next step panic. As its supervisor does, the core is dropped and the others go on.
    pub fn panic_next(&mut self, role: Role) {
        for seat in self.seats.iter_mut().filter(|seat| seat.role == role) {
            seat.panics = true;
        }
    }

    /// Starts a brain or an action expert, after the cores that there are. Other roles own devices,
    /// and are not made here.
    ///
    /// # Errors
    /// [`CoreError`] if it cannot be made.
    pub fn revive(&mut self, role: Role) -> Result<(), CoreError> {
        let (clock, waker): (SharedClock, _) = (self.clock.clone(), Waker::new());
        let session = self.next_session();
        let core: Box<dyn Core> = match role {
            Role::Brain => {
                let parts = BrainParts {
                    session,
                    ..self.brain.clone()
                };
                Box::new(Brain::new(&self.bus, &clock, &waker, parts)?)
            }
            Role::ActionExpert => {
                let parts = ExpertParts {
                    session,
                    ..self.expert.clone()
                };
                Box::new(Expert::new(&self.bus, &clock, &waker, parts)?)
            }
            Role::Actuator | Role::Perception | Role::Recorder | Role::Gateway => {
                return Err(CoreError::Failed(format!("{role} is not made anew here")));
            }
        };
        self.add(role, core);
        Ok(())
    }

    /// Starts a guard, disarmed as every one, before the cores that there are.
    ///
    /// # Errors
    /// [`CoreError`] if the robot cannot be read, or the bus refuses.
    pub fn restart_guard(&mut self, robot: Box<dyn Robot>) -> Result<(), CoreError> {
        let session = self.next_session();
        let CellParts {
            id, description, ..
        } = &self.cell;
        let shape = Shape::new(description);
        let (servo, link) = ServoLoop::new(id.clone(), self.cell.guard.clone(), shape, robot)
            .map_err(|error| CoreError::Failed(error.to_string()))?;
        let parts = ActuatorParts {
            cell: id.clone(),
            robot: description.clone(),
            link,
            thread: None,
            session,
        };
        let clock: SharedClock = self.clock.clone();
        let core = Actuator::new(&self.bus, &clock, &Waker::new(), parts)?;
        self.servo = Some(servo);
        let seat = Seat::new(Role::Actuator, Box::new(core));
        self.seats.insert(0, seat);
        Ok(())
    }

    /// Starts perception behind the guard, with its cameras and, of a simulated cell, the scene's oracle.
    ///
    /// # Errors
    /// [`CoreError`] if the bus refuses.
    pub fn restart_perception(
        &mut self,
        cameras: Vec<Box<dyn Camera>>,
        oracle: Option<Box<dyn Oracle>>,
    ) -> Result<(), CoreError> {
        let parts = PerceptionParts {
            cell: self.cell.id.clone(),
            cameras,
            oracle,
            robot: self.cell.description.clone(),
            config: self.cell.perception.clone(),
            session: self.next_session(),
        };
        let clock: SharedClock = self.perceptions.clone();
        let perception = Perception::new(&self.bus, &clock, parts)?;
        let behind = self
            .seats
            .iter()
            .position(|seat| seat.role != Role::Actuator);
        let seat = Seat::new(Role::Perception, Box::new(perception));
        self.seats.insert(behind.unwrap_or(self.seats.len()), seat);
        Ok(())
    }

    /// Lets the next servo tick begin late by so many nanoseconds.
    pub fn stall(&mut self, by_ns: u64) {
        self.late_ns = by_ns;
    }

    /// Sets the clock of perception's host; cameras stamp with it too, which is their maker's part.
    pub fn skew_perception(&self, skew: Skew) {
        let place = &self.perceptions.skew;
        *place.lock().unwrap_or_else(PoisonError::into_inner) = skew;
    }

    /// The wall clock is set forward, or back.
    pub fn jump_wall(&self, by_ns: i64) {
        self.clock.jump_wall(by_ns);
    }

    /// The machine was asleep for so many nanoseconds, in which the clock stood still.
    pub fn suspend(&mut self, for_ns: u64) {
        self.suspended_ns += for_ns;
    }

    /// Goes on by one servo period; after a stall by as many as were missed too.
    ///
    /// # Errors
    /// The first core's that cannot go on.
    pub fn step(&mut self) -> Result<(), CoreError> {
        self.scheduled_ns += self.period_ns;
        let now_ns = self.scheduled_ns + std::mem::take(&mut self.late_ns);
        self.clock.advance_to(now_ns);
        (self.advance)(now_ns);
        if let Some(servo) = &mut self.servo {
            let connected = servo.beat(Beat {
                scheduled_ns: self.scheduled_ns,
                now_ns,
                suspended_ns: self.suspended_ns,
            });
            // As the servo thread: without its bus side it brings the robot to standstill, and ends.
            if !connected && servo.wind_down(now_ns) {
                self.servo = None;
            }
        }
        // As the servo thread: what was missed is missed.
        let missed = (now_ns - self.scheduled_ns) / self.period_ns;
        self.scheduled_ns += missed * self.period_ns;
        let here_ns = self.perceptions.now_ns();
        let mut idx = 0;
        while let Some(seat) = self.seats.get_mut(idx) {
            let perceives = seat.role == Role::Perception;
            let lives = seat.frozen || seat.step(if perceives { here_ns } else { now_ns })?;
            if lives {
                idx += 1;
            } else {
                self.seats.remove(idx);
            }
        }
        Ok(())
    }

    fn next_session(&mut self) -> u64 {
        let session = self.session;
        self.session += 1;
        session
    }
}

fn expert_cell(id: &CellId, robot: &RobotDescription, guard: &GuardConfig) -> ExpertCell {
    let shape = Shape::new(robot);
    ExpertCell {
        id: id.clone(),
        robot_type: robot.toml().robot_type.clone(),
        dt_ns: shape.servo_ns * u64::from(shape.servo_per_tick),
        age_limit_ns: guard.action_age_ns(),
        camera_ns: camera_ns(robot),
    }
}
