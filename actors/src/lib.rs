//! perception → brain → action expert → actuator, with the recorder and the gateway beside them.
//!
//! Each role is a [`role::Core`]: it reads its streams, decides, and publishes, in one bounded step
//! on a thread of its own; [`role::RoleActor`] is the shell that the [`supervisor`] watches. The
//! same cores run on one thread in virtual time under [`stepped`].

#![forbid(unsafe_code)]

pub mod perception;

pub mod brain;

pub mod expert;

pub mod actuator;

pub mod recorder;

pub mod gateway;

pub mod policy;

pub mod herald;
pub mod pulse;
pub mod role;
pub mod stepped;
pub mod supervisor;
pub mod worker;
