//! What people and the gateway may ask of the guard.

use vlad_safety::mode::{Event, Mode};
use vlad_safety::reason::Reason;
use vlad_wire::clock::MS;
use vlad_wire::id::Epoch;
use vlad_wire::msg::command::{Answer, Estop, Lease, Pause, Rearm, Reset, Resume, Signature};
use vlad_wire::msg::health::Severity;
use vlad_wire::text::Note;

use super::{Guard, Held, Lineage, Notice};

/// Longest lease without renewal.
const TTL_MAX_MS: u32 = 10_000;

impl Guard {
    /// Grants, renews or takes back the right to command the cell.
    pub fn lease(&mut self, ask: &Lease, now_ns: u64) -> Answer {
        match *ask {
            Lease::Grant {
                epoch,
                task,
                attempt,
                ttl_ms,
            } => {
                let free = self.lease.is_none()
                    && (self.state.mode == Mode::Armed || self.state.mode == Mode::Hold);
                if let Err(text) = self.check_epoch(epoch) {
                    return self.answer(false, text);
                }
                if !free || TTL_MAX_MS < ttl_ms {
                    return self.answer(false, "the cell is not free");
                }
                self.epoch = epoch;
                let ttl_ns = u64::from(ttl_ms) * MS;
                let expires_ns = now_ns.saturating_add(ttl_ns);
                self.lease = Some(Held {
                    epoch,
                    task,
                    attempt,
                    ttl_ns,
                    expires_ns,
                });
                self.lineage = Lineage::default();
                self.noted(
                    "lease_granted",
                    &format!("task {task}, try {attempt}, epoch {epoch}"),
                );
                self.apply(Event::LeaseGranted, now_ns);
                self.answer(true, "granted")
            }
            Lease::Renew { epoch } => match &mut self.lease {
                Some(held) if held.epoch == epoch => {
                    held.expires_ns = now_ns.saturating_add(held.ttl_ns);
                    self.answer(true, "renewed")
                }
                _ => self.refuse_epoch(),
            },
            Lease::Release { epoch } => match self.lease {
                Some(held) if held.epoch == epoch => {
                    self.lease = None;
                    self.noted("lease_released", &format!("epoch {epoch}"));
                    self.apply(Event::LeaseReleased, now_ns);
                    self.answer(true, "released")
                }
                _ => self.refuse_epoch(),
            },
        }
    }

    /// Leaves disarmed or stopped.
    pub fn rearm(&mut self, ask: &Rearm, now_ns: u64) -> Answer {
        if let Err(text) = self.check_epoch(ask.epoch) {
            return self.answer(false, text);
        }
        if !matches!(self.state.mode, Mode::Disarmed | Mode::Stopped) {
            return self.answer(false, "only a disarmed or stopped guard can be rearmed");
        }
        if !self.pose_is(&ask.expected_pose) {
            return self.answer(
                false,
                "the robot is not where it is expected: look at the cell",
            );
        }
        self.epoch = ask.epoch;
        self.lease = None;
        self.buffer.clear();
        // Joints may have been moved by hand since; a gripper keeps its command and so its grip.
        let joints = self
            .command
            .iter_mut()
            .zip(&self.measured.position)
            .zip(&self.shape.gripper);
        for ((command, measured), gripper) in joints {
            if !gripper {
                *command = *measured;
            }
        }
        self.velocity.fill(0.0);
        self.signed("rearm", &ask.by);
        self.apply(Event::Rearm, now_ns);
        self.answer(true, "armed")
    }

    /// Stops now, and latches.
    pub fn estop(&mut self, ask: &Estop, now_ns: u64) -> Answer {
        self.lease = None;
        self.signed("estop", &ask.by);
        self.apply(Event::Estop, now_ns);
        self.answer(true, "latched")
    }

    /// Leaves a latched mode.
    pub fn reset(&mut self, ask: &Reset, now_ns: u64) -> Answer {
        if let Err(text) = self.check_epoch(ask.epoch) {
            return self.answer(false, text);
        }
        if !self.state.mode.latched() {
            return self.answer(false, "only an e-stop or a fault can be reset");
        }
        let waited_ns = now_ns.saturating_sub(self.since_ns);
        if waited_ns < u64::from(self.config.reset_after_ms) * MS || self.still_since_ns.is_none() {
            return self.answer(
                false,
                "too early: wait until the robot stands and try again",
            );
        }
        self.epoch = ask.epoch;
        self.lineage = Lineage::default();
        self.signed("reset", &ask.by);
        self.apply(Event::Reset, now_ns);
        self.answer(true, "disarmed")
    }

    /// Holds; a tick of this guard is a safe point, because every hold is a controlled stop.
    pub fn pause(&mut self, ask: &Pause, now_ns: u64) -> Answer {
        self.signed("pause", &ask.by);
        self.apply(Event::Pause, now_ns);
        let paused = self.state.reason == Reason::Paused;
        self.answer(
            paused,
            if paused {
                "paused"
            } else {
                "nothing is running"
            },
        )
    }

    /// Goes on after a pause.
    pub fn resume(&mut self, ask: &Resume, now_ns: u64) -> Answer {
        if let Err(text) = self.check_epoch(ask.epoch) {
            return self.answer(false, text);
        }
        if self.state.reason != Reason::Paused {
            return self.answer(false, "the cell is not paused");
        }
        if ask.expected_pose.is_empty() || !self.pose_is(&ask.expected_pose) {
            return self.answer(
                false,
                "the robot is not where it was paused: look at the cell",
            );
        }
        self.epoch = ask.epoch;
        if let Some(held) = &mut self.lease {
            held.epoch = ask.epoch;
        }
        self.lineage = Lineage {
            hashes: self.lineage.hashes.take(),
            ..Lineage::default()
        };
        self.signed("resume", &ask.by);
        self.apply(Event::Resume, now_ns);
        self.answer(true, "resumed")
    }

    /// Says no to something that this guard does not offer.
    pub fn decline(&self) -> Answer {
        self.answer(false, "this guard does not offer that")
    }

    fn check_epoch(&mut self, epoch: Epoch) -> Result<(), &'static str> {
        if self.epoch < epoch {
            return Ok(());
        }
        self.counters.old_epochs += 1;
        Err("the epoch is not newer than the guard's")
    }

    fn refuse_epoch(&mut self) -> Answer {
        self.counters.old_epochs += 1;
        self.answer(false, "no such lease")
    }

    /// Whether the robot is where it is expected; an empty pose means wherever it is. A gripper's
    /// tolerance is that of a first command.
    fn pose_is(&self, expected: &[f64]) -> bool {
        if expected.is_empty() {
            return true;
        }
        let tolerance_rad = self.config.pose_tolerance_deg.to_radians();
        let dofs = self
            .measured
            .position
            .iter()
            .zip(expected)
            .zip(&self.shape.gripper);
        expected.len() == self.measured.position.len()
            && dofs.into_iter().all(|((measured, expected), gripper)| {
                let tolerance = if *gripper {
                    self.config.first_command_m
                } else {
                    tolerance_rad
                };
                (measured - expected).abs() <= tolerance
            })
    }

    fn signed(&mut self, kind: &'static str, by: &Signature) {
        self.noted(kind, &format!("{}: {}", by.operator, by.reason));
    }

    /// Commands and their results are logged as events.
    fn noted(&mut self, kind: &'static str, text: &str) {
        self.notice(Notice {
            kind,
            severity: Severity::Info,
            text: text.to_owned(),
            advice: None,
            chunk: None,
            task: None,
        });
    }

    fn answer(&self, done: bool, text: &str) -> Answer {
        Answer {
            done,
            text: Note::cleaned(text),
            mode: self.state.mode,
            reason: self.state.reason,
            epoch: self.epoch,
        }
    }
}
