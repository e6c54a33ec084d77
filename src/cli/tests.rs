//! What can be typed, and what it means.

use super::cell::CellAction;
use super::task::TaskAction;
use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("vlad").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(Cli::into_command)
}

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn no_subcommand_runs_the_daemon_with_its_flags() {
    let flags = "--role brain --role action-expert --policy scripted --data /d --bind 127.0.0.1:1 \
                 --listen tcp/127.0.0.1:2 --connect a --connect b --config x.toml --set a.b=c=d \
                 --cell demo";
    for line in [flags.to_owned(), format!("run {flags}")] {
        let Ok(Command::Run(run)) = parse(&line) else {
            panic!("{line} is no run");
        };
        assert_eq!(run.roles, [Role::Brain, Role::ActionExpert]);
        assert_eq!(run.connect, ["a", "b"]);
        assert_eq!(run.settings, [("a.b".to_owned(), "c=d".to_owned())]);
        assert_eq!(run.bind.map(|bind| bind.port()), Some(1));
        assert_eq!(run.cells, ["demo"]);
    }
    assert!(matches!(parse(""), Ok(Command::Run(_))));
}

#[test]
fn the_log_filter_may_stand_anywhere() {
    for line in [
        "--log debug task list",
        "task --log debug list",
        "task list --log debug",
    ] {
        let words = std::iter::once("vlad").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!(cli.log.as_deref(), Some("debug"), "{line}");
        let command = cli.into_command();
        assert!(matches!(command, Command::Client(ClientCommand::Task(_))));
    }
}

#[test]
fn client_commands_read_their_flags() {
    let Ok(Command::Client(ClientCommand::Task(task))) = parse(
        "task submit go --cell demo --max-duration-s 5 --label a=b --idempotency-key k --wait \
         --json --server http://127.0.0.1:9",
    ) else {
        panic!("not a task");
    };
    assert!(task.server.json);
    assert_eq!(task.server.server, "http://127.0.0.1:9");
    let TaskAction::Submit(submit) = task.action else {
        panic!("not a submission");
    };
    assert!(submit.wait);
    assert_eq!(submit.max_duration_s, Some(5));
    assert_eq!(submit.labels.len(), 1);

    let Ok(Command::Client(ClientCommand::Cell(cell))) = parse("cell estop") else {
        panic!("not a cell");
    };
    let CellAction::Estop { cell, .. } = cell.action else {
        panic!("not an e-stop");
    };
    assert_eq!(cell.as_str(), "demo");
}

#[test]
fn a_line_that_makes_no_sense_ends_with_64() {
    for line in [
        "--nonsense",
        "fly",
        "task",
        "task show nonsense",
        "task show ../../etc/passwd",
        "task submit",
        "task submit go --max-duration-s 0",
        "task submit go --max-duration-s 86401",
        "task submit go --label nolabel",
        "task submit go --cell ../x",
        "task list --limit 1001",
        "task list --state sideways",
        "task verdict 01JD3V7Q4Y8B3T0V5Z6W9X2C1A --result maybe --operator a --reason b",
        "task list --server ftp://x",
        "episode show 01JD3V7Q4Y8B3T0V5Z6W9X2C1A",
        "episode report",
        "episode report 01JD3V7Q4Y8B3T0V5Z6W9X2C1A",
        "episode report 01JD3V7Q4Y8B3T0V5Z6W9X2C1A-1 --html",
        "cell reset demo",
        "cell rearm --operator ada",
        "cell park --operator ada",
        "cell speed --operator ada --reason slow",
        "run --role ceo",
        "run --bind nowhere",
        "--set novalue",
        "--role brain task list",
        "model",
        "model verify",
        "model verify set --tolerance -1",
        "model verify set --tolerance NaN",
        "model synth --preset huge out",
        "model synth out",
        "model infer dir --state [] --text go",
        "model infer dir --image a.png --state [] --text go --seed 1 --noise n.json",
        "model infer dir --image a.png --state [] --text go --device gpu",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(exit_code_of_clap_error(&error), EXIT_USAGE, "{line}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    for line in [
        "--help",
        "--version",
        "task --help",
        "task submit --help",
        "help cell",
        "model infer --help",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(exit_code_of_clap_error(&error), 0, "{line}");
    }
}

#[test]
fn the_manual_names_examples_and_exit_codes() {
    let manual = Cli::command().render_long_help().to_string();
    for wanted in [
        "Examples:",
        "Exit codes:",
        "78",
        "vlad task submit",
        "--bind",
        "--log",
    ] {
        assert!(manual.contains(wanted), "{wanted}");
    }
}

#[test]
fn configuration_can_be_checked() {
    let Ok(Command::Config(ConfigCommand::Check(check))) =
        parse("config check x.toml --set a=b --cell demo --json")
    else {
        panic!("not a check");
    };
    assert_eq!(check.file, Some(PathBuf::from("x.toml")));
    assert!(check.json);
}
