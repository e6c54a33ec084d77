//! The command line: what can be typed, and the commands that only speak REST.
//!
//! `run` and `config check` are done by the daemon's own modules, [`model`] works on files, [`mod@bench`]
//! starts processes of its own, [`sim`] serves a world, [`doctor`] looks at the machine;
//! everything else is a client. Ids and texts are checked here already, so that a slip of the
//! keyboard ends with exit code 64 and a refusal by the daemon with 1.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use vlad_wire::id::Role;
use vlad_wire::text::Name;

pub mod bench;
pub mod cell;
pub mod connection;
pub mod doctor;
pub mod episode;
pub mod model;
pub mod print;
pub mod sim;
pub mod task;

/// Exit code of a command line that makes no sense (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

const EXAMPLES: &str = "\
Examples:
  vlad                                       the demo cell with its page on http://127.0.0.1:8640
  vlad task submit 'put the red block in the left tray' --wait
  vlad cell status                           mode, reason and what to do about it
  vlad cell estop                            stop now; only a reset leaves it
  vlad cell reset --operator ada --reason 'cell is clear'
  vlad episode report ID --html report.html  how an episode moved, with plots
  vlad run --role brain --connect tcp/127.0.0.1:7447
  vlad config check cell.toml --set guard.think_timeout_ms=1500
  vlad model inspect checkpoints/mine

Exit codes:
  0   done
  1   failed: the daemon refused, could not be reached, or the task did not succeed
  64  the command line makes no sense
  78  the configuration is refused; the message names file, field and reason

Files:
  Data lies in $STATE_DIRECTORY, else in the XDG data folder, and is locked: one daemon per folder.
  Logs go to standard error.";

/// Runs vision-language-action policies on robot cells.
///
/// vlad turns a robot workcell and a policy into a service: submit a task in plain language, the
/// robot does it, and every tick is logged and replayable. Without a subcommand it runs the daemon,
/// with all flags of `run`.
#[derive(Debug, Parser)]
#[command(name = "vlad", version, after_help = EXAMPLES, max_term_width = 100)]
struct Line {
    /// What to log, such as `info` or `vlad_actors=debug,warn`.
    #[arg(
        long,
        value_name = "FILTER",
        global = true,
        help_heading = "Global options"
    )]
    log: Option<String>,
    /// What to do; the daemon if left out.
    #[command(subcommand)]
    command: Option<Command>,
    /// The daemon's flags, when no subcommand is given.
    #[command(flatten)]
    run: RunArgs,
}

/// A command line that makes sense.
#[derive(Debug)]
pub struct Cli {
    /// What to log, if that was said.
    pub log: Option<String>,
    command: Command,
}

/// Everything that `vlad` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon: all roles in one process, or some of them.
    ///
    /// Without flags it runs the embedded demo cell: two simulated arms, three cameras, the
    /// scripted policy, the page and the API on the loopback. SIGTERM and Ctrl-C bring the robot
    /// to hold, finish the log and end with 0.
    Run(RunArgs),
    /// Reads and checks configuration; moves nothing.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Checks, shows, makes and tries checkpoints; asks no daemon.
    Model(model::ModelArgs),
    /// Serves the demo world on a local socket, for daemons of several processes.
    ///
    /// The robot with its command watchdog, the cameras and the oracle; `cell.world` of the daemons
    /// names the socket. A guard process can then die without its robot.
    Sim(sim::SimArgs),
    /// Says what this machine is good for, what is wrong and what to do about it.
    ///
    /// Lateness of ticks and the platform's tier, kernel, limits, clocks, disk, graphics processors,
    /// settings, checkpoint and cameras. Moves nothing. Ends with 1 if something must be mended.
    Doctor(doctor::DoctorArgs),
    /// Measures and tries on this machine what the processes of a cell do with each other.
    Bench(bench::BenchArgs),
    /// What speaks to a running daemon.
    #[command(flatten)]
    Client(ClientCommand),
}

/// Commands that speak REST to a running daemon.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Submits, lists, shows, cancels and judges tasks.
    Task(task::TaskArgs),
    /// Lists and shows episodes, the logs of tries, and reports how they moved.
    Episode(episode::EpisodeArgs),
    /// Shows cells, and commands their guards.
    Cell(cell::CellArgs),
}

/// Flags of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// Run this role only; repeat for several [default: all].
    ///
    /// One of perception, brain, action-expert, actuator, recorder, gateway. Roles in several
    /// processes need --listen or --connect.
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<Role>,
    /// The policy that decides: `scripted`, `xr0` for the network, or `twogate` in the cell of that
    /// name [default: scripted].
    ///
    /// Without --checkpoint the network has random weights, made on first start: it is untrained,
    /// and only wanders.
    #[arg(long, value_name = "NAME")]
    pub policy: Option<Name>,
    /// Folder of a checkpoint; implies --policy xr0.
    ///
    /// A released one is known by its robot types and needs no vlad.toml; where there is one, it
    /// overrides key by key.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// Folder of tasks and episodes.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API and the page listen; only a loopback address is accepted
    /// [default: 127.0.0.1:8640].
    #[arg(long, value_name = "ADDR:PORT")]
    pub bind: Option<SocketAddr>,
    /// Where the bus listens for other processes, such as `tcp/127.0.0.1:7447`.
    #[arg(long, value_name = "EP")]
    pub listen: Option<String>,
    /// A process to join over the bus; repeat for several.
    #[arg(long, value_name = "EP")]
    pub connect: Vec<String>,
    /// A configuration file on top of the defaults; later ones win; repeat for several.
    #[arg(long = "config", value_name = "FILE")]
    pub configs: Vec<PathBuf>,
    /// A single setting on top of all files; repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
    /// A cell to serve: a shipped name (demo, twogate) or a TOML file; repeat for several
    /// [default: demo].
    #[arg(long = "cell", value_name = "NAME|FILE")]
    pub cells: Vec<String>,
    /// Switch a named fail point on, from its Nth use; for fault scenarios, refused with a real
    /// robot.
    #[arg(long = "fault", value_name = "NAME[@N]", hide = true)]
    pub faults: Vec<String>,
}

/// What can be done with configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Prints the merged configuration and the layer that set each key.
    ///
    /// Ends with 78 and file, field and reason if the configuration is refused.
    Check(ConfigCheckArgs),
}

/// Flags of `config check`.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigCheckArgs {
    /// A configuration file on top of the defaults.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A single setting on top of the file; repeat for several.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
    /// A cell to check with it: a shipped name or a TOML file; repeat for several.
    #[arg(long = "cell", value_name = "NAME|FILE")]
    pub cells: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl Cli {
    /// Gives the command, which is `run` where none was typed.
    pub fn into_command(self) -> Command {
        self.command
    }
}

impl TryFrom<Line> for Cli {
    type Error = clap::Error;

    fn try_from(line: Line) -> Result<Self, clap::Error> {
        let log = line.log;
        match line.command {
            None => Ok(Self {
                log,
                command: Command::Run(line.run),
            }),
            Some(command) if line.run == RunArgs::default() => Ok(Self { log, command }),
            // The other command would ignore them, which nobody means.
            Some(_) => Err(clap::Error::raw(
                ErrorKind::ArgumentConflict,
                "flags of `run` stand before another command: put them after `run`",
            )),
        }
    }
}

impl FromArgMatches for Cli {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Line::from_arg_matches(matches)?.try_into()
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl CommandFactory for Cli {
    fn command() -> clap::Command {
        Line::command()
    }

    fn command_for_update() -> clap::Command {
        Line::command_for_update()
    }
}

impl Parser for Cli {}

/// Does a command that speaks REST, and prints what came of it to standard output.
///
/// # Errors
/// What the daemon refused and why, or that it cannot be reached; exit code 1.
pub fn client(command: &ClientCommand) -> anyhow::Result<()> {
    match command {
        ClientCommand::Task(args) => task::run(args),
        ClientCommand::Episode(args) => episode::run(args),
        ClientCommand::Cell(args) => cell::run(args),
    }
}

/// Gives the exit code of a command line that was not taken: 0 for help and version, else 64.
pub fn exit_code_of_clap_error(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ => EXIT_USAGE,
    }
}

/// Takes `key=value` apart; the value may hold further equal signs.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("must have the form key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests;
