//! The shell of every role: a named thread that steps a core, and the actor that watches it.
//!
//! ```text
//!  supervisor ─ spawns ─► RoleActor ─ starts ─► thread: wait for a waker or the period, step
//!       ▲                     │ ▲                        │
//!       └── Err: restart me ──┘ └───── Ended ────────────┘   (a panic ends it too)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::runtime::Handle;
use tracing::{error, info};
use vlad_bus::waker::Waker;
use vlad_wire::clock::SharedClock;
use vlad_wire::id::Role;

/// What a handler gives.
pub type Handled<T = ()> = Result<T, ActorProcessingErr>;

/// What a role decides: one bounded, non-blocking step at a time.
pub trait Core: Send {
    /// Reads what arrived, decides, publishes.
    ///
    /// # Errors
    /// [`CoreError`] means "restart me"; what can be handled is handled and counted inside.
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError>;

    /// Comes to an end; called instead of `step` from the moment that the role shall stop. `true`
    /// when there is nothing left to do.
    fn finish(&mut self, now_ns: u64) -> bool {
        let _ = now_ns;
        true
    }
}

/// The cores of several cells, one after the other on one thread.
impl Core for Vec<Box<dyn Core>> {
    fn step(&mut self, now_ns: u64) -> Result<(), CoreError> {
        self.iter_mut().try_for_each(|core| core.step(now_ns))
    }

    fn finish(&mut self, now_ns: u64) -> bool {
        // Each one is asked, also after one that is not done.
        let unfinished = self
            .iter_mut()
            .filter_map(|core| (!core.finish(now_ns)).then_some(()));
        unfinished.count() == 0
    }
}

/// Why a role cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The bus refused.
    #[error("the bus failed: {0}")]
    Bus(#[from] vlad_bus::error::BusError),
    /// A device, a store or a policy failed.
    #[error("{0}")]
    Failed(String),
}

/// Makes a role's core anew at each start.
pub type Factory = Arc<dyn Fn(&Waker) -> Result<Box<dyn Core>, CoreError> + Send + Sync>;

/// What a role is made from.
#[derive(Clone)]
pub struct RoleSpec {
    /// Which role.
    pub role: Role,
    /// Makes its core.
    pub factory: Factory,
    /// Wakes it; the same one at each start, so that handles stay valid.
    pub waker: Waker,
    /// Longest time between two steps.
    pub period: Duration,
    /// The clock.
    pub clock: SharedClock,
}

/// How a role's thread ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// Its core gave up.
    Failed(CoreError),
    /// It panicked.
    Panicked,
}

/// What a role's actor is asked.
#[derive(Debug)]
pub enum Msg {
    /// The thread has ended.
    Ended(Ended),
    /// How many steps the core has done.
    Observe(RpcReplyPort<Observed>),
    /// Come to an end.
    Stop,
}

/// A role's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Steps since the start.
    pub steps: u64,
}

/// The actor.
pub struct RoleActor;

/// The actor's state.
pub struct State {
    role: Role,
    waker: Waker,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    steps: std::sync::atomic::AtomicU64,
}

impl Actor for RoleActor {
    type Msg = Msg;
    type State = State;
    type Arguments = RoleSpec;

    async fn pre_start(&self, me: ActorRef<Msg>, spec: RoleSpec) -> Handled<State> {
        let shared = Arc::new(Shared::default());
        let state = State {
            role: spec.role,
            waker: spec.waker.clone(),
            shared: shared.clone(),
        };
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name(spec.role.name().to_owned())
            .spawn(move || run(&spec, &shared, &runtime, me))?;
        Ok(state)
    }

    async fn handle(&self, me: ActorRef<Msg>, message: Msg, state: &mut State) -> Handled {
        match message {
            Msg::Ended(ended) => state.on_ended(&me, ended),
            Msg::Observe(reply) => state.on_observe(reply),
            Msg::Stop => state.on_stop(),
        }
    }

    async fn post_stop(&self, _: ActorRef<Msg>, state: &mut State) -> Handled {
        state.on_stop()
    }
}

impl State {
    fn on_ended(&self, me: &ActorRef<Msg>, ended: Ended) -> Handled {
        let role = self.role;
        match ended {
            Ended::Stopped => {
                info!(%role, "role stopped");
                me.stop(None);
                Ok(())
            }
            Ended::Failed(cause) => {
                error!(%role, %cause, "role failed");
                Err(cause.into())
            }
            Ended::Panicked => {
                error!(%role, "role panicked");
                Err("the role panicked".into())
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "all handlers have one shape")]
    fn on_observe(&self, reply: RpcReplyPort<Observed>) -> Handled {
        let steps = self.shared.steps.load(Ordering::Relaxed);
        // The one who asked may be gone.
        drop(reply.send(Observed { steps }));
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "all handlers have one shape")]
    fn on_stop(&self) -> Handled {
        self.shared.stop.store(true, Ordering::Release);
        self.waker.wake();
        Ok(())
    }
}

/// Says that the thread has ended, also when it unwinds.
struct Farewell {
    me: ActorRef<Msg>,
    ended: Option<Ended>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let ended = self.ended.take().unwrap_or(Ended::Panicked);
        // The actor may be gone already; then nobody waits for this.
        drop(self.me.cast(Msg::Ended(ended)));
    }
}

fn run(spec: &RoleSpec, shared: &Shared, runtime: &Handle, me: ActorRef<Msg>) {
    let mut farewell = Farewell { me, ended: None };
    farewell.ended = Some(match drive(spec, shared, runtime) {
        Ok(()) => Ended::Stopped,
        Err(error) => Ended::Failed(error),
    });
}

fn drive(spec: &RoleSpec, shared: &Shared, runtime: &Handle) -> Result<(), CoreError> {
    let mut core = (spec.factory)(&spec.waker)?;
    loop {
        let now_ns = spec.clock.now_ns();
        if shared.stop.load(Ordering::Acquire) {
            if core.finish(now_ns) {
                return Ok(());
            }
        } else {
            core.step(now_ns)?;
        }
        shared.steps.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(async {
            // Running out of time is the normal case: the period.
            drop(tokio::time::timeout(spec.period, spec.waker.woken()).await);
        });
    }
}
