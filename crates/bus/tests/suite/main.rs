//! The bus from outside: the same stories over both links, virtual time, and two processes' worth
//! of zenoh on loopback.
#![cfg(test)]

mod endpoints;
mod links;
mod malformed;
mod peers;
mod samples;
mod shared;
mod virtual_time;
