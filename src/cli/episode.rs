//! `vlad episode`: list and show the logs of tries, and report how they moved.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::Value;
use vlad_wire::id::EpisodeId;

use super::connection::{Connection, ServerArgs, with_query};
use super::print::{field, items, line, table, time};

mod page;
mod plot;
mod report;

/// `vlad episode`.
#[derive(Debug, Args)]
pub struct EpisodeArgs {
    /// Which daemon, and how to print.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: EpisodeAction,
}

/// What can be done with episodes.
#[derive(Debug, Subcommand)]
pub enum EpisodeAction {
    /// Lists episodes, newest first.
    List {
        /// At most so many [default: 50].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
        /// Where the page before said that the next one begins.
        #[arg(long, value_name = "ID")]
        cursor: Option<EpisodeId>,
    },
    /// Shows an episode: how it ended, its records, its images.
    Show {
        /// The episode, such as `01JD3V7Q4Y8B3T0V5Z6W9X2C1A-1`.
        id: EpisodeId,
    },
    /// Reports how an episode moved: stalls, age, seams, smoothness, tracking, lateness, stops.
    Report {
        /// The episode, such as `01JD3V7Q4Y8B3T0V5Z6W9X2C1A-1`.
        id: EpisodeId,
        /// Write a page with plots there too; it needs nothing else and runs no script.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

/// Does the command.
///
/// # Errors
/// What the daemon refused, or that it cannot be reached.
pub fn run(args: &EpisodeArgs) -> anyhow::Result<()> {
    let connection = Connection::new(&args.server);
    match &args.action {
        EpisodeAction::List { limit, cursor } => {
            let params = [
                ("limit", limit.map(|limit| limit.to_string())),
                ("cursor", cursor.map(|id| id.to_string())),
            ];
            let page = connection.get(&with_query("/v1/episodes", &params))?;
            if args.server.json {
                line(&page.text)
            } else {
                print_list(&page.value)
            }
        }
        EpisodeAction::Show { id } => {
            let episode = connection.get(&format!("/v1/episodes/{id}"))?;
            if args.server.json {
                line(&episode.text)
            } else {
                print_episode(&episode.value, &args.server.server)
            }
        }
        EpisodeAction::Report { id, html } => {
            let points = html.as_ref().map(|_| page::POINTS.to_string());
            let path = with_query(&format!("/v1/episodes/{id}/motion"), &[("points", points)]);
            let motion = connection.get(&path)?;
            if let Some(file) = html {
                std::fs::write(file, page::page(&motion.value))
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
            if args.server.json {
                line(&motion.text)
            } else {
                line(&report::text(&motion.value))
            }
        }
    }
}

fn print_list(page: &Value) -> anyhow::Result<()> {
    let header = [
        "ID",
        "CELL",
        "STATE",
        "OUTCOME",
        "BEGAN",
        "SECONDS",
        "INSTRUCTION",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(items(page, "/items").map(|episode| {
        vec![
            field(episode, "/id"),
            field(episode, "/cell"),
            field(episode, "/state"),
            field(episode, "/outcome"),
            time(episode, "/began_at_ms"),
            seconds(episode),
            field(episode, "/instruction"),
        ]
    }));
    line(&table(&rows))?;
    match page.get("next").and_then(Value::as_str) {
        Some(next) => line(&format!("more: vlad episode list --cursor {next}")),
        None => Ok(()),
    }
}

fn seconds(episode: &Value) -> String {
    let ms = episode
        .get("duration_ms")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

fn print_episode(episode: &Value, server: &str) -> anyhow::Result<()> {
    let mut rows = vec![
        ("episode".to_owned(), field(episode, "/id")),
        ("instruction".to_owned(), field(episode, "/instruction")),
        ("cell".to_owned(), field(episode, "/cell")),
        ("state".to_owned(), field(episode, "/state")),
        ("outcome".to_owned(), field(episode, "/outcome")),
        ("reason".to_owned(), field(episode, "/reason")),
        ("began".to_owned(), time(episode, "/began_at_ms")),
        ("seconds".to_owned(), seconds(episode)),
        ("policy".to_owned(), field(episode, "/policy/name")),
        ("note".to_owned(), field(episode, "/policy/note")),
        ("seed".to_owned(), field(episode, "/seed")),
        ("dropped".to_owned(), field(episode, "/dropped")),
    ];
    let object = |key: &str| {
        episode
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    for (kind, count) in object("records") {
        rows.push((format!("{kind} records"), field(count, "")));
    }
    for (view, images) in object("views") {
        let [frames, lossless] = ["/frames", "/context_frames"].map(|path| field(images, path));
        let first = field(images, "/first");
        let text = format!("{frames}, {lossless} without loss; first: {server}{first}");
        rows.push((format!("{view} images"), text));
    }
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, text)| vec![name, text])
        .collect();
    line(&table(&rows))
}
