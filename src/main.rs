//! Arguments → configuration → daemon → exit code.

#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use vlad::cli::{Cli, Command, bench, client, doctor, exit_code_of_clap_error, model, sim};
use vlad::config::ConfigError;
use vlad::{check, daemon, telemetry};

/// The configuration is wrong (`EX_CONFIG`): a restart would not help.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed standard output is nobody's error.
            drop(error.print());
            return ExitCode::from(exit_code_of_clap_error(&error));
        }
    };
    let log = cli.log.clone();
    let result = match cli.into_command() {
        Command::Run(arguments) => {
            telemetry::start(log.as_deref()).and_then(|()| daemon::run(&arguments))
        }
        Command::Config(command) => check::run(&command),
        Command::Model(command) => model::run(&command),
        Command::Bench(command) => {
            // Thousands of played runs say thousands of lines; figures are what is asked for.
            let log = log.as_deref().unwrap_or("off");
            telemetry::start(Some(log)).and_then(|()| bench::run(&command))
        }
        Command::Sim(arguments) => {
            telemetry::start(log.as_deref()).and_then(|()| sim::run(&arguments))
        }
        Command::Doctor(arguments) => {
            telemetry::start(log.as_deref()).and_then(|()| doctor::run(&arguments))
        }
        Command::Client(command) => client(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vlad: {error:#}");
            let is_config = error.chain().any(<dyn Error>::is::<ConfigError>);
            ExitCode::from(if is_config { EXIT_CONFIG } else { 1 })
        }
    }
}
