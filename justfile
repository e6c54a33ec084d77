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

# Writes the full-size network with random weights to DIR (9.4 GB of disk), decides with it in bf16, eight
# and four bits, and prints peak memory, times and how far the actions are apart (24 GiB of memory, 10 min).
full-size DIR:
    cargo run --release -- model synth --preset xr0-4.7b {{DIR}}
    cargo bench -p vlad-xr0 --bench parity -- {{DIR}} 2 bf16 q8 q4

# The same comparison, against f32, on a network of the released widths with few layers (1.7 GB).
parity DIR:
    cargo run --release -- model synth --preset shallow {{DIR}}
    cargo bench -p vlad-xr0 --bench parity -- {{DIR}}

# Compares strategies against delay in virtual time, with the shipped limits too, and with the oracle
# (needs numpy); n = 200 a row. A quarter of an hour of one core, the oracle's as much again. Writes
# DIR/open.json, DIR/guard.json, DIR/reaction.json and docs/async.svg. A prefix has a row to spare: its
# oracle is that of the delay of its first free row.
bench-async DIR:
    python3 tests/oracle/twogate_golden.py statistics 200 0,2,3,5,8,12,15 > {{DIR}}/oracle.jsonl
    python3 tests/oracle/twogate_golden.py statistics 200 4,6 clean-prefix,clean-prefix-ideal >> {{DIR}}/oracle.jsonl
    python3 tests/oracle/twogate_golden.py statistics 200 9,13,16 clean-prefix-ideal >> {{DIR}}/oracle.jsonl
    cargo run --release -- bench async --oracle {{DIR}}/oracle.jsonl --out {{DIR}}/open.json --plot docs/async.svg
    cargo run --release -- bench async --guard --delays 3,8,15 --out {{DIR}}/guard.json
    cargo run --release -- bench reaction --out {{DIR}}/reaction.json

# Runs the demo cell, with its page on http://127.0.0.1:8640.
sim:
    cargo run --release

# Checks licences, advisories and sources of all dependencies (needs cargo-deny).
deny:
    cargo deny check

# Offers CHUNKS random and adversarial chunks to the guard and judges every servo command by differences;
# a broken promise prints the command that tells its story again. Some minutes a million on a busy machine.
fuzz-guard CHUNKS='10000000' SEED='1':
    cargo bench --workspace --bench fuzz_guard -- --chunks {{CHUNKS}} --seed {{SEED}}

# Line coverage of vlad-safety, which must be whole (needs cargo-llvm-cov, and llvm-cov and llvm-profdata of
# the LLVM that `rustc -vV` names: in LLVM_COV and LLVM_PROFDATA where the toolchain has none).
coverage-safety:
    cargo llvm-cov -p vlad-safety --ignore-filename-regex tests --fail-under-lines 100

# Changes vlad-safety in all ways that cargo-mutants knows; at least 95 % of the changes must fail a test
# (needs cargo-mutants, half an hour of one core).
mutants-safety:
    rm -rf target/mutants.out
    -cargo mutants -p vlad-safety --timeout 20 --output target
    cd target/mutants.out && awk 'FILENAME == "missed.txt" { missed++ } END { \
        printf "%d of %d killed\n", NR - missed, NR; exit (NR == 0 || 20 * missed > NR) }' caught.txt timeout.txt missed.txt
