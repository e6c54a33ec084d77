//! The VLA daemon: a robot workcell and a vision-language-action policy as a service.
//!
//! This package assembles the parts and owns no logic of motion. Start reading in [`daemon`].

#![forbid(unsafe_code)]

pub mod daemon;

pub mod config;

pub mod api;
pub mod dashboard;
pub mod motion_report;

pub mod bench;
pub mod check;
pub mod cli;
pub mod rehearsal;

pub mod telemetry;
