//! What can go wrong on the bus.

use vlad_wire::codec::CodecError;

/// An error of the zenoh library.
pub type LinkError = Box<dyn std::error::Error + Send + Sync>;

/// Why the bus cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// An endpoint that the bus does not open.
    #[error("endpoint {endpoint}: {why}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong, and what is allowed.
        why: &'static str,
    },
    /// The runtime has one thread; zenoh would abort the process on it.
    #[error("the bus over zenoh needs a tokio runtime of several threads")]
    Runtime,
    /// The session did not open: most often a port that is taken.
    #[error("cannot open the bus that listens on [{listen}] and connects to [{connect}]")]
    Open {
        /// Endpoints to listen on, separated by commas.
        listen: String,
        /// Endpoints to connect to, separated by commas.
        connect: String,
        /// What zenoh says.
        source: LinkError,
    },
    /// A key was refused.
    #[error("cannot use the key {key}")]
    Key {
        /// The key.
        key: String,
        /// What the link says.
        source: LinkError,
    },
    /// A part that is no single plain segment of a key.
    #[error("the part {part:?} of {row} must hold 1 to 32 characters of a-z, 0-9, _ and -")]
    Part {
        /// The row's key.
        row: &'static str,
        /// As it was given.
        part: String,
    },
    /// The message was not handed to the link.
    #[error("cannot send on {key}")]
    Send {
        /// The key.
        key: String,
        /// What the link says.
        source: LinkError,
    },
    /// Nobody serves the command, or the time is up.
    #[error("nobody answered")]
    NoAnswer,
    /// The bytes are no such message.
    #[error(transparent)]
    Codec(#[from] CodecError),
}
