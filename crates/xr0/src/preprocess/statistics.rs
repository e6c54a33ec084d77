//! The robot types of `action_config` (reference §1.3, §7.5).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;
use crate::normaliser::Normaliser;

/// Rows beyond it are refused before memory is asked for.
const ROWS_MAX: usize = 4096;

/// The statistics of a robot type, as they stand in the file.
#[derive(Deserialize)]
struct Entry {
    mean: Option<Table>,
    std: Option<Table>,
}

/// A table may be one number for all, one row for all, or all rows.
#[derive(Deserialize)]
#[serde(untagged)]
enum Table {
    Number(f32),
    Row(Vec<f32>),
    Rows(Vec<Vec<f32>>),
}

/// Reads the statistics of all robot types, and lists what is wrong with them.
pub(super) fn read(
    entries: &BTreeMap<String, Value>,
    config: &Config,
) -> (BTreeMap<String, Normaliser>, Vec<String>) {
    let (mut robot_types, mut faults) = (BTreeMap::new(), Vec::new());
    for (name, entry) in entries {
        match one(entry, config) {
            Ok(normaliser) => {
                robot_types.insert(name.clone(), normaliser);
            }
            Err(problem) => faults.push(format!("action_config.{name}: {problem}")),
        }
    }
    (robot_types, faults)
}

fn one(entry: &Value, config: &Config) -> Result<Normaliser, String> {
    let entry = Entry::deserialize(entry).map_err(|error| {
        format!(
            "{error}; mean and std are a row of {} numbers or a list of such rows",
            config.action_dim
        )
    })?;
    let mean = entry.mean.unwrap_or(Table::Number(0.0));
    let std = entry.std.unwrap_or(Table::Number(1.0));
    let horizon = std.rows().or(mean.rows()).unwrap_or(config.action_length);
    if ROWS_MAX < horizon {
        return Err(format!("{horizon} rows, at most {ROWS_MAX} are taken"));
    }
    let width = config.action_dim;
    let mean = mean
        .fill(horizon, width)
        .map_err(|problem| format!("mean {problem}"))?;
    let std = std
        .fill(horizon, width)
        .map_err(|problem| format!("std {problem}"))?;
    Normaliser::new(horizon, width, mean, std)
}

impl Table {
    /// The rows that it spells out.
    fn rows(&self) -> Option<usize> {
        match self {
            Self::Rows(rows) => Some(rows.len()),
            Self::Number(_) | Self::Row(_) => None,
        }
    }

    /// Gives `(horizon, width)` values, row-major.
    fn fill(self, horizon: usize, width: usize) -> Result<Vec<f32>, String> {
        let rows = match self {
            Self::Number(number) => return Ok(vec![number; horizon * width]),
            Self::Row(row) => vec![row; horizon],
            Self::Rows(rows) => rows,
        };
        if rows.len() != horizon {
            return Err(format!("has {} rows, std has {horizon}", rows.len()));
        }
        if let Some(row) = rows.iter().find(|row| row.len() != width) {
            return Err(format!(
                "has a row of {} slots, action_dim is {width}",
                row.len()
            ));
        }
        Ok(rows.into_iter().flatten().collect())
    }
}
