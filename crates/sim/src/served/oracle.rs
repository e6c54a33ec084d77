//! The oracle of a served world: it is asked over the socket and answers within a moment.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use tracing::debug;
use vlad_cell::oracle::{Judgement, Oracle};
use vlad_wire::msg::sense::TrueObject;
use vlad_wire::msg::task::Outcome;
use vlad_wire::text::{Instruction, Note};

use super::parcel;
use super::remote::Door;
use super::words::{Answer, Question, Wish};

/// How long perception waits for an answer: a look at a dozen poses takes microseconds.
const PATIENCE: Duration = Duration::from_millis(100);

/// The oracle of a served world.
pub struct RemoteOracle {
    door: Door,
    stream: Option<UnixStream>,
}

impl RemoteOracle {
    pub(crate) fn new(door: Door) -> Self {
        Self { door, stream: None }
    }

    /// Asks; a world that does not answer is asked anew the next time.
    fn ask(&mut self, question: &Question) -> Option<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let answer = parcel::write(&mut stream, question).and_then(|()| parcel::read(&mut stream));
        match answer {
            Ok(answer) => {
                self.stream = Some(stream);
                Some(answer)
            }
            Err(error) => {
                debug!(%error, "the oracle does not answer");
                None
            }
        }
    }

    fn connect(&self) -> Option<UnixStream> {
        let stream = self.door.knock(Wish::Oracle).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(stream)
    }
}

impl Oracle for RemoteOracle {
    /// Judges the task; one that nobody can judge now stays open.
    fn judge(&mut self, instruction: &Instruction) -> Judgement {
        match self.ask(&Question::Judge(instruction.clone())) {
            Some(Answer::Judgement { outcome, reason }) => Judgement { outcome, reason },
            Some(Answer::Truth(_)) | None => Judgement {
                outcome: Outcome::Open,
                reason: Note::cleaned("the simulated world does not answer"),
            },
        }
    }

    /// Gives the pose of every object; none if the world does not answer.
    fn truth(&mut self) -> Vec<TrueObject> {
        match self.ask(&Question::Truth) {
            Some(Answer::Truth(objects)) => objects,
            Some(Answer::Judgement { .. }) | None => Vec::new(),
        }
    }
}
