//! `vlad config check`: the merged settings, and which layer set each key.

use std::fmt::Write;

use serde_json::{Map, json};

use crate::cli::print;
use crate::cli::{ConfigCheckArgs, ConfigCommand};
use crate::config::{Config, Sources};
use crate::daemon::policy;

/// Checks settings and prints them.
///
/// # Errors
/// [`crate::config::ConfigError`] if they are refused.
pub fn run(command: &ConfigCommand) -> anyhow::Result<()> {
    let ConfigCommand::Check(arguments) = command;
    let config = Config::load(&sources(arguments))?;
    policy::check(&config)?;
    let mut text = String::new();
    if arguments.json {
        let cells = config.cells.iter().map(|cell| {
            let keys = cell.merged.keys().map(|(key, value, layer)| {
                (key.to_owned(), json!({ "value": value, "set_by": layer }))
            });
            (
                cell.cell.name.to_string(),
                keys.collect::<Map<_, _>>().into(),
            )
        });
        text = serde_json::to_string_pretty(&cells.collect::<Map<_, _>>())?;
    } else {
        for cell in &config.cells {
            writeln!(text, "# cell {}", cell.cell.name)?;
            for (key, value, layer) in cell.merged.keys() {
                writeln!(text, "{key} = {value}  # {layer}")?;
            }
        }
    }
    print::line(text.trim_end())
}

fn sources(arguments: &ConfigCheckArgs) -> Sources {
    Sources {
        cells: arguments.cells.clone(),
        files: arguments.file.iter().cloned().collect(),
        sets: arguments
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect(),
        ..Sources::default()
    }
}
