//! All cores of one cell on one thread over the queue, in virtual time.
//!
//! The same cores as in real time, stepped once a servo period in the order of the data flow.
//! Messages arrive after the latency budgets of their streams, so that the order of events is that
//! of a healthy daemon. Same parts, same seed: bit-identical runs, as fast as the machine can.

use std::sync::Arc;

use vlad_bus::bus::Bus;
use vlad_bus::travel::Travel;
use vlad_bus::waker::Waker;
use vlad_cell::camera::Camera;
use vlad_cell::description::RobotDescription;
use vlad_cell::oracle::Oracle;
use vlad_cell::robot::Robot;
use vlad_motion::policy::Policy;
use vlad_wire::clock::{Clock, MS, ManualClock, SharedClock};
use vlad_wire::id::CellId;
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

/// One cell in virtual time.
pub struct Stepped {
    clock: Arc<ManualClock>,
    bus: Bus,
    advance: Box<dyn FnMut(u64)>,
    servo: ServoLoop,
    cores: Vec<Box<dyn Core>>,
    period_ns: u64,
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
        let shared: SharedClock = clock.clone();
        let bus = Bus::travelling(shared.clone(), conditions.travel);
        let shape = Shape::new(&parts.description);
        let age_limit_ns = parts.guard.action_age_ns();
        let period_ns = shape.servo_ns;
        let dt_ns = period_ns * u64::from(shape.servo_per_tick);
        let waker = Waker::new();
        let (servo, link) = ServoLoop::new(parts.cell.clone(), parts.guard, shape, parts.robot)
            .map_err(|error| CoreError::Failed(error.to_string()))?;
        let actuator = ActuatorParts {
            cell: parts.cell.clone(),
            robot: parts.description.clone(),
            link,
            thread: None,
            session: 1,
        };
        let perception = PerceptionParts {
            cell: parts.cell.clone(),
            cameras: parts.cameras,
            oracle: parts.oracle,
            robot: parts.description.clone(),
            config: parts.perception,
            session: 2,
        };
        let brain = BrainParts {
            cells: vec![parts.cell.clone()],
            policy: parts.policy.clone(),
            placement: Placement::Inline,
            stream_layers: true,
            session: 3,
        };
        let robot_type = parts.description.toml().robot_type.clone();
        let expert = ExpertParts {
            cells: vec![ExpertCell {
                id: parts.cell,
                robot_type,
                dt_ns,
                age_limit_ns,
                camera_ns: camera_ns(&parts.description),
            }],
            policy: parts.policy,
            placement: Placement::Inline,
            config: parts.expert,
            refusals: Arc::default(),
            session: 4,
        };
        let cores: Vec<Box<dyn Core>> = vec![
            Box::new(Actuator::new(&bus, &shared, &waker, actuator)?),
            Box::new(Perception::new(&bus, perception)?),
            Box::new(Brain::new(&bus, &shared, &waker, brain)?),
            Box::new(Expert::new(&bus, &shared, &waker, expert)?),
        ];
        Ok(Self {
            clock,
            bus,
            advance: parts.advance,
            servo,
            cores,
            period_ns,
        })
    }

    /// The bus, to speak and listen beside the cores.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The clock of the run.
    pub fn clock(&self) -> SharedClock {
        self.clock.clone()
    }

    /// Adds a core, such as a gateway or a recorder, stepped after the others.
    pub fn add(&mut self, core: Box<dyn Core>) {
        self.cores.push(core);
    }

    /// Goes on by one servo period.
    ///
    /// # Errors
    /// The first core's that cannot go on.
    pub fn step(&mut self) -> Result<(), CoreError> {
        let now_ns = self.clock.now_ns() + self.period_ns;
        self.clock.advance_to(now_ns);
        (self.advance)(now_ns);
        self.servo.beat(Beat {
            scheduled_ns: now_ns,
            now_ns,
            suspended_ns: 0,
        });
        self.cores.iter_mut().try_for_each(|core| core.step(now_ns))
    }
}
