//! Spawns the roles, and spawns them again when they die: with back-off, with a cap.
//!
//! | | |
//! |---|---|
//! | in | ends of roles, [`Msg`] |
//! | out | restarts; [`SupervisorEvent`]s for the daemon |
//! | fails safe | a dead role's liveliness token is gone before it is restarted: the guard has stopped by then |
//!
//! The supervisor sends and never calls: it never waits on a child.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ractor::{Actor, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use vlad_wire::clock::{SECOND, SharedClock};
use vlad_wire::id::Role;

use crate::role::{Handled, Msg as RoleMsg, RoleActor, RoleSpec};

/// Restarts of one role within [`WINDOW_NS`]: a cause that five restarts do not cure is not cured
/// by a sixth.
const RESTARTS_MAX: usize = 5;
/// Long enough that a slow crash loop is seen as one.
const WINDOW_NS: u64 = 60 * SECOND;
/// First back-off; doubles with each restart in the window.
const BACKOFF: Duration = Duration::from_millis(100);

/// A running supervisor.
pub struct Supervision {
    actor: ActorRef<Msg>,
    task: tokio::task::JoinHandle<()>,
}

impl Supervision {
    /// Spawns the supervisor with its roles.
    ///
    /// # Errors
    /// What keeps a role's thread from being started.
    pub async fn start(arguments: Arguments) -> Result<Self, ractor::SpawnErr> {
        let (actor, task) = Actor::spawn(None, Supervisor, arguments).await?;
        Ok(Self { actor, task })
    }

    /// Asks roles to come to an end, in this order, without waiting: each one's
    /// [`SupervisorEvent::Stopped`] says when it has. `false` if the supervisor is gone.
    pub fn stop_roles(&self, roles: &[Role]) -> bool {
        self.actor.cast(Msg::Stop(roles.to_vec())).is_ok()
    }

    /// Ends the supervisor.
    ///
    /// # Errors
    /// If it panicked.
    pub async fn end(self) -> Result<(), tokio::task::JoinError> {
        self.actor.stop(None);
        self.task.await
    }
}

/// What the supervisor is asked.
#[derive(Debug)]
pub enum Msg {
    /// Spawn this role again.
    Restart(Role),
    /// Stop these roles, in this order, without waiting.
    Stop(Vec<Role>),
}

/// What the daemon learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SupervisorEvent {
    /// A role stopped as asked.
    Stopped(Role),
    /// A role died and will be restarted.
    Restarting(Role, String),
    /// A role died too often.
    GivenUp(Role),
}

/// What the supervisor is made from.
pub struct Arguments {
    /// The roles, in the order of their start.
    pub roles: Vec<RoleSpec>,
    /// The clock of the restart window.
    pub clock: SharedClock,
    /// Where the daemon listens.
    pub events: mpsc::Sender<SupervisorEvent>,
}

/// The actor.
pub struct Supervisor;

struct Child {
    spec: RoleSpec,
    actor: Option<ActorRef<RoleMsg>>,
    deaths_ns: VecDeque<u64>,
}

/// The actor's state.
pub struct State {
    children: BTreeMap<Role, Child>,
    clock: SharedClock,
    events: mpsc::Sender<SupervisorEvent>,
    stopping: bool,
}

impl Actor for Supervisor {
    type Msg = Msg;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(&self, me: ActorRef<Msg>, arguments: Arguments) -> Handled<State> {
        let Arguments {
            roles,
            clock,
            events,
        } = arguments;
        let mut state = State {
            children: BTreeMap::new(),
            clock,
            events,
            stopping: false,
        };
        for spec in roles {
            let role = spec.role;
            let (actor, _) =
                RoleActor::spawn_linked(None, RoleActor, spec.clone(), me.get_cell()).await?;
            let child = Child {
                spec,
                actor: Some(actor),
                deaths_ns: VecDeque::new(),
            };
            state.children.insert(role, child);
            info!(%role, "role started");
        }
        Ok(state)
    }

    async fn handle(&self, me: ActorRef<Msg>, message: Msg, state: &mut State) -> Handled {
        match message {
            Msg::Restart(role) => state.on_restart(&me, role).await,
            Msg::Stop(roles) => state.on_stop(&roles),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Handled {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                state.on_end(&me, cell.get_id(), "it ended");
            }
            SupervisionEvent::ActorFailed(cell, cause) => {
                state.on_end(&me, cell.get_id(), &cause.to_string());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl State {
    async fn on_restart(&mut self, me: &ActorRef<Msg>, role: Role) {
        if self.stopping {
            return;
        }
        let Some(child) = self.children.get_mut(&role) else {
            return;
        };
        let spec = child.spec.clone();
        match RoleActor::spawn_linked(None, RoleActor, spec, me.get_cell()).await {
            Ok((actor, _)) => child.actor = Some(actor),
            Err(cause) => error!(%role, %cause, "role cannot be started"),
        }
    }

    fn on_stop(&mut self, roles: &[Role]) {
        self.stopping = true;
        for role in roles {
            match self
                .children
                .get(role)
                .and_then(|child| child.actor.as_ref())
            {
                // A role that has just ended needs no order.
                Some(actor) => drop(actor.cast(RoleMsg::Stop)),
                None => self.tell(SupervisorEvent::Stopped(*role)),
            }
        }
    }

    fn on_end(&mut self, me: &ActorRef<Msg>, id: ractor::ActorId, cause: &str) {
        let ours = |child: &Child| child.actor.as_ref().is_some_and(|a| a.get_id() == id);
        let Some((&role, child)) = self.children.iter_mut().find(|(_, child)| ours(child)) else {
            return;
        };
        child.actor = None;
        if self.stopping {
            self.tell(SupervisorEvent::Stopped(role));
            return;
        }
        let now_ns = self.clock.now_ns();
        child.deaths_ns.push_back(now_ns);
        while child
            .deaths_ns
            .front()
            .is_some_and(|at| *at + WINDOW_NS < now_ns)
        {
            child.deaths_ns.pop_front();
        }
        let deaths = child.deaths_ns.len();
        if RESTARTS_MAX < deaths {
            error!(%role, cause, "role given up");
            self.tell(SupervisorEvent::GivenUp(role));
            return;
        }
        let backoff = BACKOFF * 2_u32.pow(u32::try_from(deaths.saturating_sub(1)).unwrap_or(0));
        warn!(%role, cause, ?backoff, "role died, restarting");
        me.send_after(backoff, move || Msg::Restart(role));
        self.tell(SupervisorEvent::Restarting(role, cause.to_owned()));
    }

    fn tell(&self, event: SupervisorEvent) {
        // A daemon that no longer listens is ending.
        drop(self.events.try_send(event));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use vlad_bus::waker::Waker;
    use vlad_wire::clock::SystemClock;

    use super::*;
    use crate::role::{Core, CoreError};

    /// Dies at its first step, by a panic or by an error, until it was started `lives` times.
    struct Mortal {
        dies: bool,
        by_panic: bool,
    }

    impl Core for Mortal {
        fn step(&mut self, _: u64) -> Result<(), CoreError> {
            match (self.dies, self.by_panic) {
                (false, _) => Ok(()),
                (true, false) => Err(CoreError::Failed("no camera".to_owned())),
                (true, true) => std::panic::panic_any("a bug"),
            }
        }
    }

    fn spec(role: Role, deaths: u64, by_panic: bool) -> (RoleSpec, Arc<AtomicU64>) {
        let starts = Arc::new(AtomicU64::new(0));
        let counted = starts.clone();
        let factory: crate::role::Factory = Arc::new(move |_| {
            let dies = counted.fetch_add(1, Ordering::AcqRel) < deaths;
            Ok(Box::new(Mortal { dies, by_panic }))
        });
        let period = Duration::from_millis(1);
        let clock = Arc::new(SystemClock);
        (
            RoleSpec {
                role,
                factory,
                waker: Waker::new(),
                period,
                clock,
            },
            starts,
        )
    }

    async fn supervise(roles: Vec<RoleSpec>) -> (Supervision, mpsc::Receiver<SupervisorEvent>) {
        let (events, inbox) = mpsc::channel(64);
        let clock = Arc::new(SystemClock);
        let supervision = Supervision::start(Arguments {
            roles,
            clock,
            events,
        })
        .await
        .unwrap();
        (supervision, inbox)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_role_that_dies_is_restarted_until_it_lives() {
        for by_panic in [false, true] {
            let (mortal, starts) = spec(Role::Brain, 2, by_panic);
            let (healthy, healthy_starts) = spec(Role::Recorder, 0, false);
            let (supervision, mut events) = supervise(vec![mortal, healthy]).await;
            for _ in 0..2 {
                let event = events.recv().await.unwrap();
                assert!(
                    matches!(event, SupervisorEvent::Restarting(Role::Brain, _)),
                    "{event:?}"
                );
            }
            while starts.load(Ordering::Acquire) < 3 {
                tokio::task::yield_now().await;
            }
            assert!(supervision.stop_roles(&[Role::Recorder]));
            assert_eq!(
                events.recv().await,
                Some(SupervisorEvent::Stopped(Role::Recorder))
            );
            assert_eq!(starts.load(Ordering::Acquire), 3);
            assert_eq!(
                healthy_starts.load(Ordering::Acquire),
                1,
                "its death is its own"
            );
            supervision.end().await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_role_that_never_lives_is_given_up() {
        let (mortal, starts) = spec(Role::ActionExpert, u64::MAX, false);
        let (supervision, mut events) = supervise(vec![mortal]).await;
        let mut restarts = 0;
        while let SupervisorEvent::Restarting(..) = events.recv().await.unwrap() {
            restarts += 1;
        }
        assert_eq!(restarts, RESTARTS_MAX, "then it is given up");
        assert_eq!(starts.load(Ordering::Acquire), 6);
        supervision.end().await.unwrap();
    }
}
