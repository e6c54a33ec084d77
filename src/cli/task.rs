//! `vlad task`: submit, list, show, cancel, verdict.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use vlad_task::record::VerdictResult;
use vlad_task::state::TaskState;
use vlad_task::submit::IdempotencyKey;
use vlad_wire::id::{CellId, TaskId};
use vlad_wire::text::{Instruction, Name, Note};

use super::connection::{Connection, Document, ServerArgs, with_query};
use super::print::{field, items, line, table, time};

/// Quick for a person, slow for a daemon.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// `vlad task`.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// Which daemon, and how to print.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: TaskAction,
}

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub enum TaskAction {
    /// Submits a task in plain language.
    ///
    /// It is durable when this command ends. With --wait the command ends when the task does, and
    /// with 1 unless it succeeded.
    Submit(SubmitArgs),
    /// Lists tasks, newest first.
    List(ListArgs),
    /// Shows a task.
    Show {
        /// The task.
        id: TaskId,
    },
    /// Cancels a task: at once if it waits, by a controlled stop if it moves.
    Cancel {
        /// The task.
        id: TaskId,
        /// Who cancels.
        #[arg(long, default_value = "cli")]
        operator: Note,
        /// Why.
        #[arg(long, default_value = "cancelled on the command line")]
        reason: Note,
    },
    /// Says what became of a task that was interrupted, or that runs.
    Verdict {
        /// The task.
        id: TaskId,
        /// What became of it: succeeded, failed, or requeue to try it again.
        #[arg(long)]
        result: VerdictResult,
        /// Who says so.
        #[arg(long)]
        operator: Note,
        /// Why.
        #[arg(long)]
        reason: Note,
    },
}

/// `vlad task submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// What to do, such as 'put the red block in the left tray'.
    pub instruction: Instruction,
    /// The cell that shall do it.
    #[arg(long, default_value = "demo")]
    pub cell: CellId,
    /// Longest run in seconds [default: 120].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub max_duration_s: Option<u32>,
    /// A note of your own; repeat for several.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(Name, Note)>,
    /// The same key with the same task is the same task, for 7 days.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<IdempotencyKey>,
    /// Wait until it has ended.
    #[arg(long)]
    pub wait: bool,
}

/// `vlad task list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those in this state.
    #[arg(long)]
    pub state: Option<TaskState>,
    /// Only those of this cell.
    #[arg(long)]
    pub cell: Option<CellId>,
    /// At most so many [default: 50].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Where the page before said that the next one begins.
    #[arg(long, value_name = "ID")]
    pub cursor: Option<TaskId>,
}

/// Does the command.
///
/// # Errors
/// What the daemon refused, or that it cannot be reached; with `--wait` that the task did not
/// succeed.
pub fn run(args: &TaskArgs) -> anyhow::Result<()> {
    let connection = Connection::new(&args.server);
    match &args.action {
        TaskAction::Submit(submit) => return run_submit(&connection, submit, args.server.json),
        TaskAction::List(list) => {
            let page = connection.get(&list_path(list))?;
            return if args.server.json {
                line(&page.text)
            } else {
                print_list(&page.value)
            };
        }
        TaskAction::Show { id } => connection.get(&format!("/v1/tasks/{id}")),
        TaskAction::Cancel {
            id,
            operator,
            reason,
        } => {
            let body = json!({ "operator": operator, "reason": reason });
            connection.post(&format!("/v1/tasks/{id}/cancel"), &body, None)
        }
        TaskAction::Verdict {
            id,
            result,
            operator,
            reason,
        } => {
            let body = json!({ "result": result, "operator": operator, "reason": reason });
            connection.post(&format!("/v1/tasks/{id}/verdict"), &body, None)
        }
    }
    .and_then(|document| print_task(&document, args.server.json))
}

fn run_submit(connection: &Connection, args: &SubmitArgs, json: bool) -> anyhow::Result<()> {
    let mut body = Map::from_iter([
        ("cell".to_owned(), json!(args.cell)),
        ("instruction".to_owned(), json!(args.instruction)),
    ]);
    if let Some(seconds) = args.max_duration_s {
        body.insert("max_duration_s".to_owned(), json!(seconds));
    }
    if !args.labels.is_empty() {
        let labels = args
            .labels
            .iter()
            .map(|(name, text)| (name.to_string(), json!(text)));
        body.insert("labels".to_owned(), labels.collect::<Map<_, _>>().into());
    }
    let body = Value::Object(body);
    let key = args.idempotency_key.as_ref().map(IdempotencyKey::as_str);
    let mut task = connection.post("/v1/tasks", &body, key)?;
    if !args.wait {
        return print_task(&task, json);
    }
    let path = format!("/v1/tasks/{}", field(&task.value, "/id"));
    while !over(&task.value) {
        pause();
        task = connection.get(&path)?;
    }
    print_task(&task, json)?;
    let state = field(&task.value, "/state");
    if state != TaskState::Succeeded.name() {
        bail!(
            "the task did not succeed: it is {state} ({})",
            field(&task.value, "/reason")
        );
    }
    Ok(())
}

/// Whether nothing more happens without a person.
fn over(task: &Value) -> bool {
    let state = field(task, "/state").parse::<TaskState>();
    state.is_ok_and(|state| state.terminal() || state == TaskState::Interrupted)
}

fn pause() {
    let (_open, silent) = sync_channel::<()>(1);
    // Nothing is ever sent: this is the wait between two questions.
    let _ = silent.recv_timeout(POLL_EVERY);
}

fn list_path(args: &ListArgs) -> String {
    with_query(
        "/v1/tasks",
        &[
            ("state", args.state.map(|state| state.to_string())),
            ("cell", args.cell.as_ref().map(ToString::to_string)),
            ("limit", args.limit.map(|limit| limit.to_string())),
            ("cursor", args.cursor.map(|id| id.to_string())),
        ],
    )
}

fn print_list(page: &Value) -> anyhow::Result<()> {
    let mut rows = vec![
        ["ID", "CELL", "STATE", "REASON", "SUBMITTED", "INSTRUCTION"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(items(page, "/items").map(|task| {
        vec![
            field(task, "/id"),
            field(task, "/cell"),
            field(task, "/state"),
            field(task, "/reason"),
            time(task, "/submitted_at_ms"),
            field(task, "/instruction"),
        ]
    }));
    line(&table(&rows))?;
    match page.get("next").and_then(Value::as_str) {
        Some(next) => line(&format!("more: vlad task list --cursor {next}")),
        None => Ok(()),
    }
}

fn print_task(document: &Document, json: bool) -> anyhow::Result<()> {
    if json {
        return line(&document.text);
    }
    let task = &document.value;
    let mut rows = vec![
        ("task", field(task, "/id")),
        ("instruction", field(task, "/instruction")),
        ("cell", field(task, "/cell")),
        ("state", field(task, "/state")),
        ("reason", field(task, "/reason")),
        ("attempt", field(task, "/attempt")),
        ("submitted", time(task, "/submitted_at_ms")),
        ("started", time(task, "/started_at_ms")),
        ("ended", time(task, "/ended_at_ms")),
    ];
    let labels = task
        .get("labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    rows.extend(labels.map(|(name, text)| ("label", format!("{name}={}", field(text, "")))));
    if task.get("verdict").is_some_and(Value::is_object) {
        let verdict = ["result", "operator", "reason"];
        let [result, operator, why] = verdict.map(|key| field(task, &format!("/verdict/{key}")));
        rows.push(("verdict", format!("{result} by {operator}: {why}")));
    }
    rows.extend(items(task, "/episodes").map(|id| ("episode", field(id, ""))));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, text)| vec![name.to_owned(), text])
        .collect();
    line(&table(&rows))
}

fn label(text: &str) -> Result<(Name, Note), String> {
    let (name, note) = super::key_value(text)?;
    let name = Name::new(name).map_err(|error| format!("the key {error}"))?;
    let note = Note::new(note).map_err(|error| format!("the value {error}"))?;
    Ok((name, note))
}
