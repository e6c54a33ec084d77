//! The VLA daemon.
