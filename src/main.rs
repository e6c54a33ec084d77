//! The `vlad` daemon and its command line.
fn main() {}
