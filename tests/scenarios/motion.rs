//! How a recorded task moved: REST, metrics and the command line tell the same.

use serde_json::{Value, json};

use crate::support::http::Server;
use crate::support::process::{Daemon, data_in, vlad};
use crate::support::{TempDir, until};

const INSTRUCTION: &str = "put the red block in the left tray";

/// Waits until the recorder has closed a task's only episode, and gives its id.
fn finished(server: &Server, task: &Value) -> String {
    let id = task["episodes"][0].as_str().unwrap().to_owned();
    until("the episode is finished", || {
        let answer = server.get(&format!("/v1/episodes/{id}"));
        (answer.status == 200 && answer.json(200)["state"] == "finished").then_some(())
    });
    id
}

fn number(document: &Value, path: &str) -> u64 {
    let value = document.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no {path} in {document}"))
}

fn real(document: &Value, path: &str) -> f64 {
    let value = document.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no {path} in {document}"))
}

/// What holds of every episode whose cell was free before and after it.
fn demand_sound(motion: &Value, (before, after): (&Value, &Value)) {
    assert_eq!(
        (&motion["settings"], &motion["cut"]),
        (&json!("same"), &json!(false))
    );
    assert_eq!(number(motion, "/damaged"), 0);
    let oldest = real(motion, "/age_ms/max");
    assert!(
        oldest <= real(motion, "/action_age_limit_ms"),
        "{oldest} ms"
    );
    assert!(0 < number(motion, "/ticks_played"));
    assert_eq!(motion["ticks_played"], motion["ticks_counted"]);
    let taken = number(motion, "/economy/chunks") - number(motion, "/economy/discarded");
    let accepted = |cell: &Value| number(cell, "/counters/accepted");
    assert_eq!(taken, accepted(after) - accepted(before), "{motion}");
    assert_eq!(number(motion, "/economy/unanswered"), 0);
    let ticks = number(motion, "/stalls/ticks");
    assert_eq!(number(motion, "/age_ms/n"), number(motion, "/ticks_played"));
    assert!(number(motion, "/ticks_played") <= ticks, "{motion}");
    let tracked = motion["tracking"].as_array().unwrap().len();
    assert_eq!(tracked, after["joints"].as_array().unwrap().len());
}

/// A robot that stands while it thinks stalls in every gap; the report says so, in four places.
#[test]
fn a_recorded_task_says_how_it_moved() {
    let dir = TempDir::new();
    let daemon = Daemon::start_with(&data_in(&dir), &["--set", "expert.strategy=sync"]);
    let (server, cell) = (daemon.server(), daemon.cell());
    let before = cell.show();
    let task = cell.does(INSTRUCTION);
    let id = finished(server, &task);
    let after = cell.show();

    let motion = server.get(&format!("/v1/episodes/{id}/motion")).json(200);
    assert_eq!(
        (&motion["episode"], &motion["outcome"]),
        (&json!(id), &json!("succeeded"))
    );
    demand_sound(&motion, (&before, &after));
    assert!(0 < number(&motion, "/stalls/events"), "{motion}");
    assert!(number(&motion, "/stalls/stalled") < number(&motion, "/stalls/ticks"));
    assert_eq!(
        motion["seams"]["items"],
        json!([]),
        "chunks of sync meet nowhere"
    );
    assert_ne!(motion["stops"], json!([]), "each gap is a stop");

    let metrics = server.get("/metrics").text();
    let gauge = metrics
        .lines()
        .find_map(|line| line.strip_prefix("vlad_episode_stall_ratio{cell=\"demo\"} "));
    let gauge: f64 = gauge.expect("the gauge is there").parse().unwrap();
    assert!(
        (gauge - real(&motion, "/stalls/ratio")).abs() < 1e-12,
        "{gauge}"
    );

    let url = server.url();
    let report = |more: &[&str]| {
        let words = ["episode", "report", id.as_str(), "--server", url.as_str()];
        let ended = vlad(words.iter().chain(more));
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out
    };
    let machine: Value = serde_json::from_str(&report(&["--json"])).unwrap();
    assert_eq!(machine, motion);
    let page = dir.path().join("report.html");
    let text = report(&["--html", page.to_str().unwrap()]);
    assert!(
        text.contains("M1 stalls") && text.contains(INSTRUCTION),
        "{text}"
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(!page.contains("<script") && page.contains(INSTRUCTION));
    daemon.term();
}
