//! `vlad cell`: status, e-stop, reset, rearm, park, speed, and the table of streams.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use vlad_wire::id::CellId;
use vlad_wire::stream::{CellRates, STREAMS, markdown};
use vlad_wire::text::Note;

use super::connection::{Connection, Document, ServerArgs};
use super::print::{field, items, line, table};

/// `vlad cell`.
#[derive(Debug, Args)]
pub struct CellArgs {
    /// Which daemon, and how to print.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: CellAction,
}

/// What can be done with cells.
#[derive(Debug, Subcommand)]
pub enum CellAction {
    /// Shows a cell, or all: mode, its reason and what to do, roles, rates.
    Status {
        /// The cell [default: all].
        cell: Option<CellId>,
    },
    /// Stops a cell now, and latches it: only a reset leaves it.
    Estop {
        /// The cell.
        #[arg(default_value = "demo")]
        cell: CellId,
        /// Who stops it.
        #[arg(long, default_value = "cli")]
        operator: Note,
        /// Why.
        #[arg(long, default_value = "e-stop on the command line")]
        reason: Note,
    },
    /// Leaves a latched mode (estopped, fault), by name and reason; the cell is disarmed after it.
    Reset(OrderArgs),
    /// Arms a disarmed or stopped cell, by name and reason: after it, tasks move the robot.
    Rearm(OrderArgs),
    /// Sends the robot to its park pose, slowly, by name and reason; the cell must be armed and free.
    Park(OrderArgs),
    /// Changes the speed fraction, by name and reason, from the next tick on.
    Speed {
        /// Fraction of full speed, above 0 and at most 1.
        rate: f64,
        /// Who commands which cell, and why.
        #[command(flatten)]
        order: OrderArgs,
    },
    /// Prints the table of streams; asks no daemon.
    Streams,
}

/// Who commands which cell, and why.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// The cell.
    #[arg(default_value = "demo")]
    pub cell: CellId,
    /// Who commands it.
    #[arg(long)]
    pub operator: Note,
    /// Why.
    #[arg(long)]
    pub reason: Note,
}

/// Does the command.
///
/// # Errors
/// What the daemon refused, or that it cannot be reached.
pub fn run(args: &CellArgs) -> anyhow::Result<()> {
    let connection = Connection::new(&args.server);
    let json = args.server.json;
    let send = |verb: &str, cell: &CellId, body: Value| {
        let answer = connection.post(&format!("/v1/cells/{cell}/{verb}"), &body, None)?;
        if json {
            line(&answer.text)
        } else {
            print_answer(&answer)
        }
    };
    let order = |verb: &str, cell: &CellId, operator: &Note, reason: &Note| {
        send(
            verb,
            cell,
            json!({ "operator": operator, "reason": reason }),
        )
    };
    match &args.action {
        CellAction::Status { cell: Some(cell) } => {
            let status = connection.get(&format!("/v1/cells/{cell}"))?;
            if json {
                line(&status.text)
            } else {
                line(&status_text(&status.value))
            }
        }
        CellAction::Status { cell: None } => {
            let cells = connection.get("/v1/cells")?;
            if json {
                return line(&cells.text);
            }
            let texts: Vec<_> = items(&cells.value, "/items").map(status_text).collect();
            line(&texts.join("\n\n"))
        }
        CellAction::Estop {
            cell,
            operator,
            reason,
        } => order("estop", cell, operator, reason),
        CellAction::Reset(args) => order("reset", &args.cell, &args.operator, &args.reason),
        CellAction::Rearm(args) => order("rearm", &args.cell, &args.operator, &args.reason),
        CellAction::Park(args) => order("park", &args.cell, &args.operator, &args.reason),
        CellAction::Speed { rate, order: args } => {
            let by = json!({ "operator": args.operator, "reason": args.reason });
            send("speed", &args.cell, json!({ "rate": rate, "by": by }))
        }
        CellAction::Streams if json => line(&streams_json()),
        CellAction::Streams => line(&markdown(&CellRates::NOMINAL)),
    }
}

fn print_answer(answer: &Document) -> anyhow::Result<()> {
    let [text, mode, todo] =
        ["/text", "/mode", "/reason/what_to_do"].map(|path| field(&answer.value, path));
    line(&format!("{text}; the cell is {mode}; next: {todo}"))
}

/// Gives a cell as lines for a person.
fn status_text(cell: &Value) -> String {
    let row = |name: &str, text: String| vec![name.to_owned(), text];
    let mut rows = vec![
        row("cell", field(cell, "/id")),
        row("robot", field(cell, "/robot")),
        row("mode", field(cell, "/mode")),
        row("because", field(cell, "/reason/meaning")),
        row("what to do", field(cell, "/reason/what_to_do")),
        row("task", field(cell, "/task")),
        row("policy", field(cell, "/policy/name")),
        row("note", field(cell, "/policy/note")),
        row("strategy", field(cell, "/strategy")),
        row("ticks per s", field(cell, "/ticks_per_s")),
        row("speed", field(cell, "/speed_limit")),
    ];
    rows.extend(items(cell, "/not_ready").map(|why| row("not ready", field(why, ""))));
    let mut roles = vec![
        ["ROLE", "ALIVE", "FIT", "AGE MS", "WHY"]
            .map(str::to_owned)
            .to_vec(),
    ];
    roles.extend(items(cell, "/roles").map(|role| {
        ["/role", "/alive", "/fit", "/age_ms", "/unfit_reason"]
            .map(|path| field(role, path))
            .to_vec()
    }));
    let mut streams = vec![["STREAM", "HZ", "AGE MS"].map(str::to_owned).to_vec()];
    streams.extend(items(cell, "/streams").map(|stream| {
        ["/key", "/rate_hz", "/age_ms"]
            .map(|path| field(stream, path))
            .to_vec()
    }));
    format!(
        "{}\n\n{}\n\n{}",
        table(&rows),
        table(&roles),
        table(&streams)
    )
}

/// Gives the table of streams for machines.
fn streams_json() -> String {
    let rates = CellRates::NOMINAL;
    let rows = STREAMS.iter().map(|row| {
        json!({
            "key": row.key,
            "body": row.body,
            "from": row.from,
            "to": row.to,
            "rate_hz": row.hz(&rates),
            "stale_ms": row.stale_ms(&rates),
            "keep": format!("{:?}", row.keep),
            "lane": format!("{:?}", row.lane),
            "logged": format!("{:?}", row.logged),
            "budget_ms": row.budget_ms,
            "doc": row.doc.trim(),
        })
    });
    json!({ "items": rows.collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_for_machines_have_each_row() {
        let streams: Value = serde_json::from_str(&streams_json()).unwrap();
        let keys: Vec<_> = items(&streams, "/items")
            .map(|row| field(row, "/key"))
            .collect();
        assert_eq!(keys.len(), STREAMS.len());
        assert!(keys.contains(&"cmd/estop".to_owned()), "{keys:?}");
    }

    #[test]
    fn a_status_says_what_to_do() {
        let cell = json!({
            "id": "demo", "mode": "estopped",
            "reason": { "meaning": "somebody stopped it", "what_to_do": "reset it" },
            "not_ready": ["the cell is estopped"],
            "roles": [{ "role": "brain", "alive": false, "fit": true, "age_ms": null }],
        });
        let text = status_text(&cell);
        for wanted in [
            "estopped",
            "what to do   reset it",
            "not ready",
            "brain  false  true  -",
        ] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
    }
}
