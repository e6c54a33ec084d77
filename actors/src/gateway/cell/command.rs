//! What people command: it goes to the guard, and its answer back when it comes.

use tracing::{info, warn};
use vlad_bus::command::Pending;
use vlad_safety::mode::State;
use vlad_store::tasks::{TaskStore, TaskStoreError};
use vlad_task::actor::Actor;
use vlad_wire::id::CellId;
use vlad_wire::msg::command::{Answer, Estop, Park, Rearm, Reset, Signature, Speed};
use vlad_wire::stream::Command;
use vlad_wire::text::{Name, Note};

use super::start::AtStart;
use super::{ANSWER, CellGate};
use crate::gateway::desk::{DeskError, GuardOrder, Reply};
use crate::gateway::{by_gateway, store_error};

/// A person's command that waits for the guard's answer.
pub(super) type Waiting = Box<dyn FnMut(&mut TaskStore) -> bool + Send>;

impl CellGate {
    /// Passes a person's command to the guard; the answer goes to `reply` when it comes.
    pub(in crate::gateway) fn command(
        &mut self,
        store: &mut TaskStore,
        order: GuardOrder,
        by: Signature,
        reply: Reply<Answer>,
    ) {
        info!(cell = %self.spec.id, ?order, operator = %by.operator, reason = %by.reason, "command");
        self.at_start = AtStart::Nothing;
        // An e-stop needs no epoch, and waits for no disk before the guard has stopped.
        if order == GuardOrder::Estop {
            let cell = self.spec.id.clone();
            // Whoever hears of the stop may rely on its latch, after a power cut too.
            let latch = move |store: &mut TaskStore, answer: &Answer| {
                let (mode, reason) = (answer.mode, answer.reason);
                if let Err(error) = remember_latch(store, &cell, State { mode, reason }) {
                    warn!(%cell, %error, "the latch is not on the disk yet");
                }
            };
            let asked = self.estop.ask(&Estop { by }, ANSWER);
            self.waiting.push(wait(asked, reply, latch));
            return;
        }
        let waiting = self.signed_command(store, order, by, reply);
        self.waiting.extend(waiting);
    }

    /// Passes a command with a new epoch to the guard, unless the cell's latch forbids it.
    fn signed_command(
        &mut self,
        store: &mut TaskStore,
        order: GuardOrder,
        by: Signature,
        reply: Reply<Answer>,
    ) -> Option<Waiting> {
        let id = &self.spec.id;
        let prepared = store
            .next_epoch(id)
            .and_then(|epoch| Ok((epoch, store.latch(id)?)));
        match (order, prepared) {
            (_, Err(error)) => drop(reply.send(Err(store_error(error)))),
            (GuardOrder::Rearm, Ok((_, Some(latch)))) => {
                let text = format!("the cell is latched ({}): reset it first", latch.mode);
                drop(reply.send(Err(DeskError::Conflict(text))));
            }
            (GuardOrder::Rearm, Ok((epoch, None))) => {
                let ask = Rearm {
                    epoch,
                    by,
                    expected_pose: Vec::new(),
                };
                return Some(wait(self.rearm.ask(&ask, ANSWER), reply, |_, _| {}));
            }
            (GuardOrder::Park, Ok((epoch, _))) => {
                let asked = self.park.ask(&Park { epoch, by }, ANSWER);
                return Some(wait(asked, reply, |_, _| {}));
            }
            // Slower or faster is no new right to command: the epoch stays unused.
            (GuardOrder::Speed(rate), Ok(_)) => {
                let asked = self.speed.ask(&Speed { rate, by }, ANSWER);
                return Some(wait(asked, reply, |_, _| {}));
            }
            (GuardOrder::Reset | GuardOrder::Estop, Ok((epoch, _))) => {
                let (cell, why) = (id.clone(), by.reason.clone());
                let doer = Actor::Operator(by.operator.clone());
                // A rearm may follow at once: the latch goes with the answer.
                let forget = move |store: &mut TaskStore, answer: &Answer| {
                    if !answer.done {
                        return;
                    }
                    if let Err(error) = store.set_latch(&cell, None, &doer, &why) {
                        warn!(%cell, %error, "the latch stays on the disk");
                    }
                };
                let asked = self.reset.ask(&Reset { epoch, by }, ANSWER);
                return Some(wait(asked, reply, forget));
            }
        }
        None
    }
}

/// Makes a latched mode durable.
pub(super) fn remember_latch(
    store: &mut TaskStore,
    cell: &CellId,
    state: State,
) -> Result<(), TaskStoreError> {
    let why = Note::cleaned(state.reason.meaning());
    let names = (Name::new(state.mode.name()), Name::new(state.reason.name()));
    let (Ok(mode), Ok(reason)) = names else {
        return Ok(());
    };
    store.set_latch(cell, Some((&mode, &reason)), &by_gateway(), &why)
}

/// Gives something that waits for an answer, does `first` with it and passes it on; `true` when it
/// has.
fn wait<C: Command<Answer = Answer>>(
    mut answer: Pending<C>,
    reply: Reply<Answer>,
    mut first: impl FnMut(&mut TaskStore, &Answer) + Send + 'static,
) -> Waiting {
    let mut reply = Some(reply);
    Box::new(move |store| {
        let Some(result) = answer.try_take() else {
            return false;
        };
        if let Ok(answer) = &result {
            first(store, answer);
        }
        if let Some(reply) = reply.take() {
            let unavailable = |_| DeskError::Unavailable("the guard did not answer".to_owned());
            // A client that no longer waits has nobody to tell.
            drop(reply.send(result.map_err(unavailable)));
        }
        true
    })
}
