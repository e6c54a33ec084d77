//! Each endpoint of the served description, with what it must refuse.

use serde_json::{Value, json};

use crate::support::process::{Daemon, data_in};
use crate::support::{TempDir, until};

/// Twice what the API takes.
const HUGE: usize = 2 << 20;
/// Ids that climb out, end early or hide.
const BAD_IDS: &[&str] = &[
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%00",
    "demo%00",
    "a%20b",
    "%0a",
    "%ff%fe",
    "DEMO",
    "%25",
];

/// One operation of the description.
struct Operation {
    method: String,
    /// With good values in its variables.
    path: String,
    /// With bad values in one variable each.
    bad_paths: Vec<String>,
    /// The schema of its body, if it takes one, and whether it must have one.
    body: Option<(Value, bool)>,
}

/// Something to name in paths: a task that has ended, and its episode.
struct Things {
    task: String,
    episode: String,
}

impl Things {
    fn good(&self, path: &str, variable: &str) -> String {
        let id = match path.split('/').nth(2) {
            Some("tasks") => &self.task,
            Some("episodes") => &self.episode,
            _ => "demo",
        };
        match variable {
            "id" => id.to_owned(),
            "view" => "ego".to_owned(),
            "n" => "1".to_owned(),
            other => panic!("{path} has a variable {other} that this test does not know"),
        }
    }

    /// Reads every operation.
    fn operations(&self, document: &Value) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            let variables: Vec<_> = path
                .split('{')
                .skip(1)
                .map(|rest| rest.split_once('}').unwrap().0)
                .collect();
            let filled = |bad: Option<(&str, &str)>| {
                variables.iter().fold(path.clone(), |path, variable| {
                    let value = match bad {
                        Some((name, value)) if name == *variable => value.to_owned(),
                        _ => self.good(&path, variable),
                    };
                    path.replace(&format!("{{{variable}}}"), &value)
                })
            };
            let bad_paths: Vec<_> = variables
                .iter()
                .flat_map(|variable| BAD_IDS.iter().map(|bad| filled(Some((*variable, *bad)))))
                .collect();
            for (method, operation) in methods.as_object().unwrap() {
                let body = operation.get("requestBody").map(|body| {
                    let name = find_ref(&body["content"]["application/json"]["schema"]).unwrap();
                    let schema = &document["components"]["schemas"][&name];
                    (schema.clone(), body["required"] == true)
                });
                operations.push(Operation {
                    method: method.to_uppercase(),
                    path: filled(None),
                    bad_paths: bad_paths.clone(),
                    body,
                });
            }
        }
        operations
    }
}

/// Finds the name of the first schema that is referred to.
fn find_ref(schema: &Value) -> Option<String> {
    match schema {
        Value::Object(fields) => fields.iter().find_map(|(key, value)| match value.as_str() {
            Some(path) if key == "$ref" => path.rsplit('/').next().map(str::to_owned),
            _ => find_ref(value),
        }),
        Value::Array(items) => items.iter().find_map(find_ref),
        _ => None,
    }
}

/// Fills a schema's fields with something of the right type; ids and words need not exist.
fn example(schema: &Value) -> Value {
    let fields = schema["properties"].as_object().unwrap().iter();
    let value = |field: &Value| {
        if let Some(word) = field["enum"].get(0) {
            return word.clone();
        }
        let kind = match &field["type"] {
            Value::Array(kinds) => kinds[0].as_str().unwrap_or(""),
            kind => kind.as_str().unwrap_or(""),
        };
        match kind {
            "integer" => json!(5),
            "object" => json!({}),
            _ => json!("demo"),
        }
    };
    fields
        .map(|(name, field)| (name.clone(), value(field)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Bodies that an operation must refuse, each with what is wrong.
fn bad_bodies(schema: &Value, required: bool) -> Vec<(String, String)> {
    let good = example(schema);
    let mut bodies = Vec::new();
    let mut add = |what: String, body: Value| bodies.push((what, body.to_string()));
    for name in good.as_object().unwrap().keys() {
        let with = |value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body
        };
        let needed = schema["required"]
            .as_array()
            .is_some_and(|all| all.contains(&json!(name)));
        if needed {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(name);
            add(format!("{name} missing"), body);
            add(format!("{name} null"), with(Value::Null));
        }
        for wrong in [json!(-1.5), json!(["x"]), json!(true), json!({ "x": [] })] {
            add(format!("{name} = {wrong}"), with(wrong));
        }
        add(format!("{name} long"), with(json!("x".repeat(5000))));
    }
    let mut surprising = good.clone();
    surprising["surprise"] = json!(1);
    add("unknown field".to_owned(), surprising);
    for wrong in [json!([]), json!(1), json!("x")] {
        add(format!("{wrong}"), wrong);
    }
    bodies.push((
        "half a document".to_owned(),
        good.to_string()[..2].to_owned(),
    ));
    bodies.push(("two documents".to_owned(), format!("{good}{good}")));
    if required {
        bodies.push(("nothing".to_owned(), String::new()));
    }
    bodies
}

/// Sends a request past every client's checks, and demands a problem document.
#[track_caller]
fn refused(daemon: &Daemon, operation: (&str, &str), headers: &str, body: &str, statuses: &[u16]) {
    let (method, path) = operation;
    let port = daemon.server().port;
    let sent = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{headers}\
         content-length: {sent}\r\n\r\n"
    );
    let answer = daemon.server().talk(&head, body.as_bytes());
    problem(
        &answer,
        statuses,
        &format!("{method} {path} {headers} {}", &body[..body.len().min(200)]),
    );
}

#[track_caller]
fn problem(answer: &str, statuses: &[u16], what: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<u16>().ok());
    let status = status.unwrap_or_else(|| panic!("{what}: no answer: {answer:?}"));
    assert!(statuses.contains(&status), "{what}: {status} {body}");
    assert!(head.contains("application/problem+json"), "{what}: {head}");
    let document: Value =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{what}: {error} {body}"));
    assert_eq!(document["status"], status, "{what}");
    assert!(
        document["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty()),
        "{what}"
    );
}

const JSON: &str = "content-type: application/json\r\n";

fn abuse(daemon: &Daemon, operation: &Operation) {
    let asked = (operation.method.as_str(), operation.path.as_str());
    refused(
        daemon,
        (asked.0, &format!("{}?surprise=1", asked.1)),
        JSON,
        "",
        &[400],
    );
    for path in &operation.bad_paths {
        let body = operation
            .body
            .as_ref()
            .map(|(schema, _)| example(schema).to_string());
        refused(
            daemon,
            (asked.0, path),
            JSON,
            &body.unwrap_or_default(),
            &[400, 404, 422],
        );
    }
    for foreign in [
        "origin: http://example.com",
        "origin: null",
        "sec-fetch-site: cross-site",
    ] {
        refused(daemon, asked, &format!("{JSON}{foreign}\r\n"), "", &[403]);
    }
    let port = daemon.server().port;
    let head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", asked.0, asked.1);
    let foreign = daemon
        .server()
        .talk(&format!("{head}host: example.com:{port}\r\n\r\n"), b"");
    problem(&foreign, &[403], "foreign host");
    let huge = format!("{head}host: 127.0.0.1:{port}\r\n{JSON}content-length: {HUGE}\r\n\r\n");
    problem(
        &daemon.server().talk(&huge, b"{"),
        &[413],
        &format!("{asked:?} 2 MiB"),
    );

    let Some((schema, required)) = &operation.body else {
        return;
    };
    for (what, body) in bad_bodies(schema, *required) {
        refused(
            daemon,
            asked,
            &format!("{JSON}what: {what}\r\n"),
            &body,
            &[400, 413, 422],
        );
    }
    let good = example(schema).to_string();
    refused(daemon, asked, "content-type: text/plain\r\n", &good, &[415]);
}

/// Nothing of it is taken, nothing of it moves or stops anything.
#[test]
fn each_endpoint_refuses_what_it_does_not_know() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&data_in(&dir));
    let (server, cell) = (daemon.server(), daemon.cell());
    let task = cell.submit("dance").wait_end();
    let id = |text: &Value| text.as_str().unwrap().to_owned();
    let things = Things {
        task: id(&task["id"]),
        episode: id(&task["episodes"][0]),
    };
    let operations = things.operations(&server.get("/v1/openapi.json").json(200));
    assert!(
        18 <= operations.len(),
        "the description has lost operations"
    );
    assert_eq!(
        operations
            .iter()
            .filter(|operation| operation.method == "POST")
            .count(),
        8
    );
    let before = until("the cell rests", || {
        let cell = cell.show();
        let idle = cell["mode"] == "hold" || cell["mode"] == "armed";
        let rests = idle && cell["task"].is_null();
        (rests && cell["epoch"] == task["epoch"]).then_some(cell)
    });
    for operation in &operations {
        abuse(&daemon, operation);
    }
    let after = cell.show();
    for key in ["mode", "reason", "epoch", "task"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    let tasks = server.get("/v1/tasks").json(200);
    assert_eq!(tasks["items"].as_array().unwrap().len(), 1, "{tasks}");

    let long = "x".repeat(64 * 1024);
    let head = format!("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nlong: {long}\r\n\r\n");
    let answer = server.talk(&head, b"");
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let foreign = server.talk(
        "GET /v1/none HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
        b"",
    );
    problem(&foreign, &[404], "unknown path");
    assert_eq!(server.get("/readyz").status, 200);
    cell.does("put the red block in the left tray");
    daemon.term();
}
