//! One story: a guard, a robot that follows, peers that lie or fall silent, and a person.

use vlad_actors::actuator::guard::{Beat, Failure, Guard};
use vlad_actors::actuator::servo::{Ask, Sample};
use vlad_actors::actuator::settings::{GuardConfig, Shape};
use vlad_cell::robot::Measured;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_wire::clock::{MS, SECOND};
use vlad_wire::codec::VERSION;
use vlad_wire::id::{Epoch, Role, Tick};
use vlad_wire::msg::command::{Estop, Lease, Park, Pause, Rearm, Reset, Resume, Signature, Speed};
use vlad_wire::msg::execute::GuardCounters;
use vlad_wire::msg::health::{Alive, Fitness, Version};
use vlad_wire::text::{Name, Note};

use super::cells::config;
use super::chunks::{Expert, Moment, task};
use super::draw::Draw;
use super::judge::{Found, Judge, Seen};

/// Chunks that a story offers at least.
const CHUNKS: u64 = 400;
/// Acts of a story at most: one whose guard takes nothing any more ends too.
const ACTS: u64 = 2000;
/// Session of every role.
const SESSION: u64 = 7;
/// Period of the heartbeats.
const HEARTBEAT_NS: u64 = 20 * MS;

/// A guard and everything around it.
pub(crate) struct Story<'c> {
    draw: Draw,
    shape: &'c Shape,
    config: GuardConfig,
    guard: Guard,
    sample: Box<Sample>,
    judge: Judge,
    expert: Expert,
    measured: Measured,
    /// A gripper that holds something, or a joint that something holds.
    stuck: Option<(usize, f64)>,
    alive: [Alive; 3],
    /// Whether each of `alive` is silent.
    silent: [bool; 3],
    renews: bool,
    now_ns: u64,
    suspended_ns: u64,
    heartbeat_ns: u64,
    epoch: Epoch,
    /// How bad the policy is: 0 to 2.
    malice: u64,
    /// Chunks that were offered.
    pub(crate) offered: u64,
}

fn by() -> Signature {
    Signature {
        operator: Note::cleaned("ada"),
        reason: Note::cleaned("fuzz"),
    }
}

fn heartbeat(role: Role) -> Alive {
    Alive {
        role,
        session: SESSION,
        seq: 0,
        challenge: 0,
        echo: 0,
        version: Version {
            layout: VERSION,
            package: Note::cleaned("fuzz"),
        },
        in_flight: None,
        fitness: Fitness::Fit,
        policy: None,
        sent_at_ns: 0,
    }
}

impl<'c> Story<'c> {
    /// A disarmed guard that finds its robot somewhere, mostly inside its limits.
    pub(crate) fn new(mut draw: Draw, shape: &'c Shape) -> Self {
        let config = config(&mut draw);
        let inside = !draw.once_in(8);
        let somewhere = draw.below(2) == 0;
        let dofs = shape.limits.iter().zip(&shape.park);
        let position: Vec<_> = dofs
            .map(|(limits, park)| match (inside, somewhere) {
                (true, true) => draw.between(limits.min, limits.max),
                (true, false) => *park,
                (false, _) => draw.between(limits.min - 0.1, limits.max + 0.1),
            })
            .collect();
        let measured = Measured {
            sampled_at_ns: SECOND,
            velocity: vec![0.0; position.len()],
            position,
        };
        let cell = Name::new("fuzzed").unwrap();
        let guard = Guard::new(cell, config.clone(), shape.clone(), &measured);
        Self {
            judge: Judge::new(shape, config.action_age_ns(), &measured.position),
            sample: Box::new(guard.empty_sample()),
            guard,
            config,
            shape,
            expert: Expert::default(),
            measured,
            stuck: None,
            alive: [Role::Perception, Role::Brain, Role::ActionExpert].map(heartbeat),
            silent: [false; 3],
            renews: true,
            now_ns: SECOND,
            suspended_ns: 0,
            heartbeat_ns: 0,
            epoch: 0,
            malice: draw.below(3),
            offered: 0,
            draw,
        }
    }

    /// Tells it; what is wrong, if anything is.
    pub(crate) fn tell(&mut self) -> Found {
        self.run(3)?;
        self.recover()?;
        for _ in 0..ACTS {
            if CHUNKS <= self.offered {
                break;
            }
            self.act()?;
            let state = self.guard.state();
            let stands = !state.mode.takes_chunks() || self.judge.lease.is_none();
            if stands && self.draw.below(4) != 0 {
                self.recover()?;
            }
        }
        Ok(())
    }

    /// What was seen, and what the guard counted.
    pub(crate) fn tally(&mut self) -> (Seen, GuardCounters) {
        (self.judge.seen, self.sample.state.counters)
    }

    fn act(&mut self) -> Found {
        match self.draw.below(256) {
            0..=227 => {
                let burst = self.draw.pick(&[1, 1, 1, 1, 2, 3, 6]);
                (0..burst).try_for_each(|_| self.offer())?;
                let policy_ticks = self.draw.pick(&[0, 0, 1, 1, 2, 4, 8]);
                let more = self.draw.below(u64::from(self.shape.servo_per_tick));
                self.run(policy_ticks * u64::from(self.shape.servo_per_tick) + more)
            }
            228 | 229 => {
                let ticks = 20 + self.draw.below(400);
                self.run(ticks)
            }
            230..=241 => self.command(),
            242..=247 => self.peers(),
            248..=253 => self.trouble(),
            _ => self.go_home(),
        }
    }

    fn offer(&mut self) -> Found {
        let state = self.guard.state();
        let now = Moment {
            shape: self.shape,
            epoch: self.judge.lease.unwrap_or(self.epoch),
            now_ns: self.now_ns,
            tick: self.guard.tick(),
            running: state.mode == Mode::Running,
            age_limit_ns: self.config.action_age_ns(),
            malice: self.malice,
            command: self.guard.command_now(),
        };
        let chunk = self.expert.next(&mut self.draw, &now);
        self.offered += 1;
        let first = self.guard.chunk(&chunk, self.now_ns);
        self.judge.mode(self.guard.state().mode)?;
        if let Some(first) = first {
            self.take(&chunk, first)?;
            self.expert.accepted(chunk, first);
        }
        Ok(())
    }

    fn take(&mut self, chunk: &vlad_wire::msg::think::Chunk, first: Tick) -> Found {
        let head = &chunk.head;
        self.judge.accepted(head.id, first, head.captured_at_ns)
    }

    fn run(&mut self, ticks: u64) -> Found {
        (0..ticks).try_for_each(|_| self.step((0, 0), None))
    }

    /// One servo tick, so much later than its period, and late by so much; with this failure of the
    /// robot.
    fn step(&mut self, (gap_ns, late_ns): (u64, u64), failure: Option<Failure>) -> Found {
        let scheduled_ns = self.now_ns + self.shape.servo_ns + gap_ns;
        self.now_ns = scheduled_ns + late_ns;
        if self.heartbeat_ns <= self.now_ns {
            self.heartbeat_ns = self.now_ns + HEARTBEAT_NS;
            self.beat_hearts();
        }
        self.measured.sampled_at_ns = self.now_ns;
        self.serve(scheduled_ns, failure)
    }

    /// One servo tick with the sample as it is.
    fn serve(&mut self, scheduled_ns: u64, failure: Option<Failure>) -> Found {
        let beat = Beat {
            scheduled_ns,
            now_ns: self.now_ns,
            suspended_ns: self.suspended_ns,
        };
        let flags = match failure {
            None => self.guard.servo(beat, Ok(&self.measured)),
            Some(failure) => self.guard.servo(beat, Err(failure)),
        };
        self.guard.fill(&mut self.sample, beat, flags);
        while self.guard.next_notice().is_some() {}
        let stop_ms = self.sample.state.stop_ms;
        self.judge
            .tick(&self.sample.executed, self.now_ns, stop_ms)?;
        self.follow();
        Ok(())
    }

    /// The robot is where it is commanded one servo tick later, but for what is stuck.
    fn follow(&mut self) {
        let dt_s = self.shape.servo_ns as f64 / 1e9;
        let commands = self.guard.command_now().iter();
        let dofs = commands.zip(&mut self.measured.position);
        for ((command, position), velocity) in dofs.zip(&mut self.measured.velocity) {
            *velocity = (command - *position) / dt_s;
            *position = *command;
        }
        if let Some((dof, position)) = self.stuck {
            self.measured.position[dof] = position;
            self.measured.velocity[dof] = 0.0;
        }
    }

    fn beat_hearts(&mut self) {
        let challenge = self.now_ns;
        self.guard.challenged(challenge);
        for (alive, silent) in self.alive.iter_mut().zip(self.silent) {
            if !silent {
                alive.seq += 1;
                alive.echo = challenge;
                alive.sent_at_ns = self.now_ns;
                self.guard.heard(alive, self.now_ns);
            }
        }
        if let (true, Some(epoch)) = (self.renews, self.judge.lease) {
            self.ask(&Ask::Lease(Lease::Renew { epoch }));
        }
    }

    /// Asks, and notes what the answer means for the lease; gives whether it was done.
    fn ask(&mut self, ask: &Ask) -> bool {
        let reply = self.guard.ask(ask, self.now_ns);
        let lease = &mut self.judge.lease;
        match ask {
            Ask::Lease(Lease::Grant { epoch, .. }) if reply.done => *lease = Some(*epoch),
            Ask::Lease(Lease::Renew { epoch }) if !reply.done && *lease == Some(*epoch) => {
                *lease = None;
            }
            Ask::Lease(Lease::Release { .. }) if reply.done => *lease = None,
            Ask::Resume(resume) if reply.done => *lease = lease.map(|_| resume.epoch),
            Ask::Estop(_) => *lease = None,
            Ask::Reset(_) if reply.done => self.judge.reset(),
            _ => {}
        }
        reply.done
    }

    fn rearm(&mut self, epoch: Epoch, expected_pose: Vec<f64>) -> Found {
        let ask = Ask::Rearm(Rearm {
            epoch,
            by: by(),
            expected_pose,
        });
        if self.ask(&ask) {
            let command = self.guard.command_now();
            let found = &self.guard.measured().position;
            self.judge.rearmed(found, command)?;
        }
        Ok(())
    }

    fn new_epoch(&mut self) -> Epoch {
        self.epoch += 1;
        self.epoch
    }

    /// Mostly a new epoch, else one that is none.
    fn some_epoch(&mut self) -> Epoch {
        if self.draw.below(4) != 0 {
            return self.new_epoch();
        }
        let held = self.judge.lease.unwrap_or(0);
        self.draw.pick(&[0, held, self.epoch, self.epoch / 2])
    }

    fn some_pose(&mut self) -> Vec<f64> {
        match self.draw.below(6) {
            0 => vec![],
            1 => vec![f64::NAN; self.measured.position.len()],
            2 => vec![0.0; self.draw.below(20) as usize],
            _ => self.measured.position.clone(),
        }
    }

    /// A command of a person or of the gateway, right or wrong.
    fn command(&mut self) -> Found {
        let (epoch, pose) = (self.some_epoch(), self.some_pose());
        let ttl_ms = self.draw.pick(&[0, 30, 2000, 2000, 10_000, u32::MAX]);
        let rates = [1.0, 1.0, 0.5, 0.1, 1e-9, 0.0, -1.0, 2.0, f64::NAN];
        let rate = self.draw.pick(&rates);
        let ask = match self.draw.below(16) {
            0..=2 => Ask::Lease(Lease::Grant {
                epoch,
                task: task(),
                attempt: 1,
                ttl_ms,
            }),
            3 => Ask::Lease(Lease::Renew { epoch }),
            4 => Ask::Lease(Lease::Release {
                epoch: self.judge.lease.unwrap_or(epoch),
            }),
            5 => return self.rearm(epoch, pose),
            6 | 7 => Ask::Pause(Pause { by: by() }),
            8 | 9 => Ask::Resume(Resume {
                epoch,
                by: by(),
                expected_pose: pose,
            }),
            10 => Ask::Estop(Estop { by: by() }),
            11 => Ask::Reset(Reset { epoch, by: by() }),
            12 => Ask::Park(Park { epoch, by: by() }),
            _ => Ask::Speed(Speed { rate, by: by() }),
        };
        self.ask(&ask);
        self.judge.mode(self.guard.state().mode)
    }

    /// Peers die, fall silent, become unfit, think.
    fn peers(&mut self) -> Found {
        match self.draw.below(8) {
            0 => {
                let role = self.draw.pick(&[Role::Brain, Role::ActionExpert]);
                let session = self.draw.pick(&[SESSION, SESSION, SESSION - 1]);
                self.guard.died(role, session, self.now_ns);
            }
            1 => {
                let at = self.draw.below(3) as usize;
                self.silent[at] = true;
            }
            2 => self.alive[0].fitness = Fitness::Unfit(Note::cleaned("dark")),
            3 => self.renews = false,
            4 => self.alive[0].version.layout = VERSION.wrapping_add(1),
            5 => self.guard.wind_down(self.now_ns),
            _ => self.alive[2].in_flight = (self.draw.below(2) == 0).then_some(1),
        }
        if self.draw.below(2) == 0 {
            let ticks = self.draw.below(300);
            self.run(ticks)?;
        }
        if self.draw.below(2) == 0 {
            self.everybody_is_well();
        }
        Ok(())
    }

    fn everybody_is_well(&mut self) {
        self.silent = [false; 3];
        self.renews = true;
        self.alive[0].fitness = Fitness::Fit;
        self.alive[0].version.layout = VERSION;
        self.stuck = None;
    }

    /// The robot or the machine does something odd.
    fn trouble(&mut self) -> Found {
        let n_dofs = self.shape.limits.len() as u64;
        let dof = self.draw.below(n_dofs) as usize;
        let period_ns = self.shape.servo_ns;
        match self.draw.below(10) {
            0 => {
                let failure = self.draw.pick(&[Failure::Robot, Failure::VendorStop]);
                self.step((0, 0), Some(failure))
            }
            1 => {
                let late_ns = self.draw.below(5) * period_ns + self.draw.below(period_ns);
                let times = 1 + self.draw.below(4);
                (0..times).try_for_each(|_| self.step((0, late_ns), None))
            }
            2 => {
                // The process stood still: its schedule began anew, time did not.
                let gap_ns = self.draw.below(3 * SECOND);
                self.step((gap_ns, 0), None)
            }
            3 => {
                self.suspended_ns += self.draw.below(SECOND / 5);
                self.run(1)
            }
            4 => {
                self.measured.position[dof] = self.draw.pick(&[f64::NAN, f64::INFINITY, 1e6]);
                self.run(1)
            }
            5 => {
                let position = self.measured.position[dof];
                self.stuck = Some((dof, position));
                self.run(30)
            }
            6 => {
                // The robot repeats a sample.
                for _ in 0..=self.draw.below(5) {
                    self.now_ns += period_ns;
                    self.serve(self.now_ns, None)?;
                }
                Ok(())
            }
            7 => {
                self.guard.robot_failed(Failure::Robot, self.now_ns);
                self.run(1)
            }
            _ => self.hand(dof),
        }
    }

    /// Somebody moves a joint by hand, of a robot that stands.
    fn hand(&mut self, dof: usize) -> Found {
        let state = self.guard.state();
        if !matches!(state.mode, Mode::Disarmed | Mode::Stopped | Mode::Estopped) {
            return Ok(());
        }
        let step = self.shape.limits[dof].speed_max * self.shape.servo_ns as f64 / 1e9;
        let by = self.draw.between(-1.0, 1.0) * step;
        for _ in 0..self.draw.below(200) {
            let position = self.measured.position[dof] + by;
            self.stuck = Some((dof, position));
            self.measured.position[dof] = position;
            self.measured.velocity[dof] = 0.0;
            self.run(1)?;
        }
        Ok(())
    }

    /// Gives the lease back, waits, and parks; chunks come all the same.
    fn go_home(&mut self) -> Found {
        if let Some(epoch) = self.judge.lease {
            self.ask(&Ask::Lease(Lease::Release { epoch }));
        }
        self.run(120)?;
        let epoch = self.new_epoch();
        self.ask(&Ask::Park(Park { epoch, by: by() }));
        for _ in 0..self.draw.below(20) {
            self.offer()?;
            self.run(60)?;
        }
        Ok(())
    }

    /// What a person does so that it goes on.
    fn recover(&mut self) -> Found {
        self.everybody_is_well();
        self.run(8)?;
        if self.guard.state().mode == Mode::Stopping {
            self.run(120)?;
        }
        if self.guard.state().mode.latched() {
            // A second passes at once, in which nobody asked for a servo tick.
            self.step((SECOND, 0), None)?;
            self.run(8)?;
            let epoch = self.new_epoch();
            self.ask(&Ask::Reset(Reset { epoch, by: by() }));
        }
        if self.guard.state().reason == Reason::Paused {
            let ask = Ask::Resume(Resume {
                epoch: self.new_epoch(),
                by: by(),
                expected_pose: self.measured.position.clone(),
            });
            self.ask(&ask);
        }
        if matches!(self.guard.state().mode, Mode::Disarmed | Mode::Stopped) {
            let epoch = self.new_epoch();
            self.rearm(epoch, vec![])?;
        }
        if self.judge.lease.is_none() {
            let grant = Lease::Grant {
                epoch: self.new_epoch(),
                task: task(),
                attempt: 1,
                ttl_ms: 2000,
            };
            self.ask(&Ask::Lease(grant));
        }
        self.judge.mode(self.guard.state().mode)
    }
}
