//! The actuator: the bus side of the guard.
//!
//! | | |
//! |---|---|
//! | in | `chunk`, `cmd/*`, `alive/*`, liveliness tokens; samples of the servo thread |
//! | out | `joints`, `accepted`, `executed`, `guard`, `event`, `alive/actuator`, answers |
//! | period | at each servo tick, woken by the servo thread |
//! | fails safe | the servo thread needs nothing from here: when this side ends, it stops the robot, then itself |
//!
//! The guard itself is [`guard`], pure; [`servo`] is its thread. This side decodes and publishes,
//! so that nothing of the bus runs on the servo path.

use std::collections::BTreeMap;

use tracing::{debug, debug_span, info, info_span, warn};
use vlad_bus::bus::Bus;
use vlad_bus::command::{Asked, Server};
use vlad_bus::error::BusError;
use vlad_bus::liveliness::AliveWatch;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_cell::description::RobotDescription;
use vlad_wire::clock::{MS, SharedClock};
use vlad_wire::id::{CellId, EpisodeId, Role};
use vlad_wire::msg::command::{Answer, Signature};
use vlad_wire::msg::execute::{Executed, ExecutedTicks};
use vlad_wire::msg::health::{Fitness, Severity};
use vlad_wire::msg::sense::{Echo, JointState, PoseQuat};
use vlad_wire::stream::{
    AcceptedTargets, Chunks, Command, EstopCommand, ExecutedActions, Guards, Heartbeats, Joints,
    LeaseCommand, ParkCommand, PauseCommand, RearmCommand, ResetCommand, ResumeCommand,
    SpeedCommand,
};
use vlad_wire::text::Note;

use crate::herald::{Herald, Saying};
use crate::pulse::{Condition, Pulse};
use crate::role::{Core, CoreError};
use guard::commands::{Reply, UNFIT};
use guard::notice::Notice;
use servo::{Ask, Inbound, Outbound, Sample, ServoLink, ServoThread};

pub mod guard;
pub mod servo;
pub mod settings;
mod watch;

/// Period of `guard` when nothing changes: the stream's 10 Hz.
const STATE_PERIOD_NS: u64 = 100 * MS;

/// Everything that the bus side of one cell's guard is made from.
pub struct ActuatorParts {
    /// The cell.
    pub cell: CellId,
    /// Its robot.
    pub robot: RobotDescription,
    /// Ends of the servo thread's channels.
    pub link: ServoLink,
    /// The thread itself; `None` in virtual time, where the caller beats.
    pub thread: Option<ServoThread>,
    /// Differs from start to start.
    pub session: u64,
}

/// The bus side of one cell's guard.
pub struct Actuator {
    robot: RobotDescription,
    link: ServoLink,
    thread: Option<ServoThread>,
    pulse: Pulse,
    herald: Herald,
    chunks: Subscriber<Chunks>,
    heartbeats: Subscriber<Heartbeats>,
    tokens: AliveWatch,
    commands: Commands,
    waiting: BTreeMap<u64, Answering>,
    next_number: u64,
    joints: Publisher<Joints>,
    accepted: Publisher<AcceptedTargets>,
    executed: Publisher<ExecutedActions>,
    guard: Publisher<Guards>,
    ticks: Vec<Executed>,
    next_state_ns: u64,
    clock: SharedClock,
    /// Perception's newest challenge.
    echo: Echo,
    /// Why perception is unfit, in its newest words.
    unfit: Option<Note>,
}

/// Passes the guard's answer on to the one who asked.
type Answering = Box<dyn FnOnce(&Answer) + Send>;

struct Commands {
    lease: Server<LeaseCommand>,
    rearm: Server<RearmCommand>,
    resume: Server<ResumeCommand>,
    pause: Server<PauseCommand>,
    park: Server<ParkCommand>,
    speed: Server<SpeedCommand>,
    estop: Server<EstopCommand>,
    reset: Server<ResetCommand>,
}

impl Actuator {
    /// Subscribes to everything that reaches the guard.
    ///
    /// # Errors
    /// [`BusError`] if the bus refuses.
    pub fn new(
        bus: &Bus,
        clock: &SharedClock,
        waker: &Waker,
        parts: ActuatorParts,
    ) -> Result<Self, BusError> {
        let ActuatorParts {
            cell,
            robot,
            link,
            thread,
            session,
        } = parts;
        let wake = || Some(waker.clone());
        Ok(Self {
            clock: clock.clone(),
            echo: Echo::default(),
            unfit: None,
            pulse: Pulse::new(bus, &cell, Role::Actuator, session)?,
            herald: Herald::new(bus, &cell, Role::Actuator, clock)?,
            chunks: bus.subscriber(&cell, "", wake())?,
            heartbeats: bus.subscriber(&cell, "*", wake())?,
            tokens: bus.watch_alive(&cell, wake())?,
            commands: Commands {
                lease: bus.server(&cell, wake())?,
                rearm: bus.server(&cell, wake())?,
                resume: bus.server(&cell, wake())?,
                pause: bus.server(&cell, wake())?,
                park: bus.server(&cell, wake())?,
                speed: bus.server(&cell, wake())?,
                estop: bus.server(&cell, wake())?,
                reset: bus.server(&cell, wake())?,
            },
            joints: bus.publisher(&cell, "")?,
            accepted: bus.publisher(&cell, "")?,
            executed: bus.publisher(&cell, "")?,
            guard: bus.publisher(&cell, "")?,
            waiting: BTreeMap::new(),
            next_number: 0,
            ticks: Vec::new(),
            next_state_ns: 0,
            robot,
            link,
            thread,
        })
    }

    fn take_commands(&mut self) {
        // The e-stop first: it must not wait behind a queue of other commands.
        while let Some(asked) = self.commands.estop.try_next() {
            self.put(asked, Ask::Estop);
        }
        while let Some(asked) = self.commands.lease.try_next() {
            self.put(asked, Ask::Lease);
        }
        while let Some(asked) = self.commands.rearm.try_next() {
            self.put(asked, Ask::Rearm);
        }
        while let Some(asked) = self.commands.resume.try_next() {
            self.put(asked, Ask::Resume);
        }
        while let Some(asked) = self.commands.pause.try_next() {
            self.put(asked, Ask::Pause);
        }
        while let Some(asked) = self.commands.reset.try_next() {
            self.put(asked, Ask::Reset);
        }
        while let Some(asked) = self.commands.park.try_next() {
            self.put(asked, Ask::Park);
        }
        while let Some(asked) = self.commands.speed.try_next() {
            self.put(asked, Ask::Speed);
        }
    }

    /// Hands a command to the guard. What does not fit is not answered, and the asker hears so.
    fn put<C>(&mut self, asked: Asked<C>, ask: impl FnOnce(C::Ask) -> Ask)
    where
        C: Command<Answer = Answer>,
    {
        self.next_number += 1;
        let number = self.next_number;
        if self
            .link
            .inbound
            .try_send(Inbound::Ask(number, Box::new(ask(asked.ask.clone()))))
            .is_ok()
        {
            self.waiting
                .insert(number, Box::new(move |answer| asked.answer(answer)));
        }
    }

    fn take_streams(&mut self) {
        while let Some(chunk) = self.chunks.try_next() {
            let head = &chunk.head;
            let episode = EpisodeId {
                task: head.task,
                attempt: head.attempt,
            };
            let _span = debug_span!("decision", cell = %head.cell, task = %head.task, %episode,
                obs = head.obs_seq, chunk = %head.id)
            .entered();
            debug!("chunk received");
            self.hand(Inbound::Chunk(Box::new(chunk)));
        }
        while let Some(alive) = self.heartbeats.try_next() {
            if alive.role == Role::Perception {
                self.echo = Echo {
                    challenge: alive.challenge,
                    // Read after it came: a bound must not lie before its cause.
                    heard_at_ns: self.clock.now_ns(),
                };
                self.unfit = match &alive.fitness {
                    Fitness::Fit => None,
                    Fitness::Unfit(why) => Some(why.clone()),
                };
            }
            if alive.role != Role::Actuator {
                self.hand(Inbound::Heard(Box::new(alive)));
            }
        }
        while let Some(change) = self.tokens.try_next() {
            if !change.alive {
                self.hand(Inbound::Died(change.role, change.session));
            }
        }
    }

    fn hand(&self, inbound: Inbound) {
        if self.link.inbound.try_send(inbound).is_err() {
            warn!("the servo thread takes nothing");
        }
    }

    fn take_outbound(&mut self, now_ns: u64) {
        while let Ok(outbound) = self.link.outbound.try_recv() {
            match outbound {
                Outbound::Sample(sample) => {
                    self.publish_sample(&sample, now_ns);
                    // The servo thread is gone when nobody takes it back.
                    drop(self.link.spare.try_send(sample));
                }
                Outbound::Answer(number, ask, reply) => self.answer(number, &ask, reply),
                Outbound::Spent(inbound) => drop(inbound),
                Outbound::Notice(notice) => self.say(&notice),
            }
        }
    }

    /// Answers, and says who had what done.
    fn answer(&mut self, number: u64, ask: &Ask, reply: Reply) {
        if let Some((kind, by)) = signed(ask)
            && reply.done
        {
            let text = format!("{}: {}", by.operator, by.reason);
            info!(cell = %self.herald.cell(), kind, "{text}");
            let saying = Saying {
                text: &text,
                ..Saying::default()
            };
            self.herald.say(Severity::Info, kind, &saying);
        }
        if let Some(answering) = self.waiting.remove(&number) {
            let text = match &self.unfit {
                Some(why) if reply.text == UNFIT => Note::cleaned(&format!("{UNFIT}: {why}")),
                _ => Note::cleaned(reply.text),
            };
            answering(&Answer {
                done: reply.done,
                text,
                mode: reply.state.mode,
                reason: reply.state.reason,
                epoch: reply.epoch,
            });
        }
    }

    fn say(&mut self, notice: &Notice) {
        let chunk = notice.chunk.map(|id| id.to_string());
        let (cell, kind) = (self.herald.cell(), notice.kind);
        let episode = notice
            .task
            .map(|(task, attempt)| EpisodeId { task, attempt });
        let _span = info_span!("decision", %cell, chunk,
            task = episode.map(|id| id.task.to_string()),
            episode = episode.map(|id| id.to_string()))
        .entered();
        if notice.severity == Severity::Info {
            info!(kind, "{}", notice.words);
        } else {
            warn!(kind, "{}", notice.words);
        }
        self.herald.say_notice(notice);
    }

    fn publish_sample(&mut self, sample: &Sample, now_ns: u64) {
        self.joints.put(&self.joint_state(sample));
        if sample.whole {
            self.accepted.put(&sample.accepted);
            if sample.changed || self.next_state_ns <= now_ns {
                self.next_state_ns = now_ns + STATE_PERIOD_NS;
                self.guard.put(&sample.state);
            }
            if !self.ticks.is_empty() {
                let ticks = std::mem::take(&mut self.ticks);
                self.executed.put(&ExecutedTicks { ticks });
            }
        }
        self.ticks.push(sample.executed.clone());
    }

    fn joint_state(&self, sample: &Sample) -> JointState {
        let executed = &sample.executed;
        let eef = self.robot.arms().iter().map(|arm| {
            let joints = executed.measured.get(arm.first_dof..arm.gripper_dof());
            let tool = arm.chain.tool(joints.unwrap_or_default());
            PoseQuat {
                position_m: tool.position_m,
                quaternion_xyzw: tool.quaternion_xyzw(),
            }
        });
        JointState {
            tick: executed.tick,
            servo_tick: executed.servo_tick,
            sampled_at_ns: sample.sampled_at_ns,
            position: executed.measured.clone(),
            velocity: sample.velocity.clone(),
            commanded: executed.command.clone(),
            eef: eef.collect(),
            standstill: sample.still_since_ns.is_some(),
            still_since_ns: sample.still_since_ns.unwrap_or_default(),
            rate: sample.rate,
            echo: self.echo,
        }
    }
}

/// Kind and signature of a command that a person gave.
fn signed(ask: &Ask) -> Option<(&'static str, &Signature)> {
    match ask {
        Ask::Lease(_) => None,
        Ask::Rearm(rearm) => Some(("rearm", &rearm.by)),
        Ask::Resume(resume) => Some(("resume", &resume.by)),
        Ask::Pause(pause) => Some(("pause", &pause.by)),
        Ask::Park(park) => Some(("park", &park.by)),
        Ask::Speed(speed) => Some(("speed", &speed.by)),
        Ask::Estop(estop) => Some(("estop", &estop.by)),
        Ask::Reset(reset) => Some(("reset", &reset.by)),
    }
}

impl Core for Actuator {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        if self.thread.as_ref().is_some_and(ServoThread::ended) {
            return Err(CoreError::Failed("the servo thread has ended".to_owned()));
        }
        self.take_commands();
        self.take_streams();
        if let Some(challenge) = self.pulse.beat(&Condition::fit(), now_ns) {
            self.hand(Inbound::Challenged(challenge));
        }
        self.take_outbound(now_ns);
        Ok(())
    }

    /// The robot comes to standstill before the guard ends, and the log shows it.
    fn finish(&mut self, now_ns: u64) -> bool {
        if let Some(thread) = &self.thread {
            thread.wind_down();
        }
        let ended = self.thread.as_ref().is_none_or(ServoThread::ended);
        self.take_outbound(now_ns);
        ended
    }
}
