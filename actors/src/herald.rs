//! Says what is worth a line on the stream `event`.

use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::publisher::Publisher;
use vlad_wire::clock::SharedClock;
use vlad_wire::id::{CellId, ChunkId, Role, TaskId};
use vlad_wire::msg::health::{Event, Severity};
use vlad_wire::stream::Events;
use vlad_wire::text::{Name, Note};

use crate::actuator::guard::notice::Notice;

/// One role's voice in one cell.
pub struct Herald {
    cell: CellId,
    role: Role,
    clock: SharedClock,
    publisher: Publisher<Events>,
}

/// What to say; most fields are optional.
#[derive(Debug, Clone, Default)]
pub struct Saying<'a> {
    /// For a person.
    pub text: &'a str,
    /// What to do about it.
    pub advice: Option<&'a str>,
    /// The task that it concerns.
    pub task: Option<TaskId>,
    /// The chunk that it concerns.
    pub chunk: Option<ChunkId>,
}

impl Herald {
    /// Makes a voice.
    ///
    /// # Errors
    /// [`BusError`] if the bus refuses.
    pub fn new(
        bus: &Bus,
        cell: &CellId,
        role: Role,
        clock: &SharedClock,
    ) -> Result<Self, BusError> {
        let publisher = bus.publisher(cell, "")?;
        Ok(Self {
            cell: cell.clone(),
            role,
            clock: clock.clone(),
            publisher,
        })
    }

    /// The cell that it speaks in.
    pub fn cell(&self) -> &CellId {
        &self.cell
    }

    /// Says something. A `kind` that is no name is a bug and is said as `unnamed`.
    pub fn say(&self, severity: Severity, kind: &'static str, saying: &Saying<'_>) {
        let Ok(kind) = Name::new(kind).or_else(|_| Name::new("unnamed")) else {
            return;
        };
        self.publisher.put(&Event {
            cell: self.cell.clone(),
            role: self.role,
            severity,
            kind,
            text: Note::cleaned(saying.text),
            advice: saying.advice.map(Note::cleaned),
            task: saying.task,
            chunk: saying.chunk,
            at_ns: self.clock.now_ns(),
            wall_ns: self.clock.wall_ns(),
        });
    }

    /// Passes on what the guard noticed.
    pub fn say_notice(&self, notice: &Notice) {
        let text = notice.words.to_string();
        let saying = Saying {
            text: &text,
            advice: notice.advice,
            task: notice.task.map(|(task, _)| task),
            chunk: notice.chunk,
        };
        self.say(notice.severity, notice.kind, &saying);
    }
}
