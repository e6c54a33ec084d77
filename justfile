# Each recipe is one plain command that works without `just` too.

# Lists the recipes.
default:
    @just --list

# Everything that must hold before a change lands: format, lints, tests, docs.
check:
    .ci/run

# Runs the tests whose names contain NAME, in every crate.
test NAME:
    cargo test --workspace {{NAME}}

# Measures the demo cell: physics steps and frames per second, with pictures of each view in DIR.
bench DIR:
    cargo run --release -p vlad-sim --example frames -- {{DIR}}

# Runs the demo cell, with its page on http://127.0.0.1:8640.
sim:
    cargo run --release

# Checks licences, advisories and sources of all dependencies (needs cargo-deny).
deny:
    cargo deny check
