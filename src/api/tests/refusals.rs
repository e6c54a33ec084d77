//! What is refused, and how.

use super::gateway::EPISODE;
use super::*;

/// Every POST with a body that it takes.
fn posts(task: &str) -> Vec<(String, Value)> {
    let verdict = json!({ "result": "failed", "operator": "ada", "reason": "it fell" });
    vec![
        ("/v1/tasks".to_owned(), red_block()),
        (format!("/v1/tasks/{task}/cancel"), signed()),
        (format!("/v1/tasks/{task}/verdict"), verdict),
        ("/v1/cells/demo/estop".to_owned(), signed()),
        ("/v1/cells/demo/reset".to_owned(), signed()),
        ("/v1/cells/demo/rearm".to_owned(), signed()),
    ]
}

/// Every GET.
fn gets(task: &str) -> Vec<String> {
    vec![
        "/v1/tasks".to_owned(),
        format!("/v1/tasks/{task}"),
        "/v1/cells".to_owned(),
        "/v1/cells/demo".to_owned(),
        "/v1/cells/demo/frames/ego".to_owned(),
        "/v1/episodes".to_owned(),
        format!("/v1/episodes/{EPISODE}"),
        format!("/v1/episodes/{EPISODE}/motion"),
        format!("/v1/episodes/{EPISODE}/frames/ego/3"),
        "/v1/events".to_owned(),
        "/v1/openapi.json".to_owned(),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/metrics".to_owned(),
    ]
}

async fn with_task() -> (Service, String) {
    let service = Service::new();
    let task = service.post("/v1/tasks", &red_block()).await.json();
    let id = task["id"].as_str().unwrap().to_owned();
    (service, id)
}

#[tokio::test]
async fn missing_wrong_huge_and_unknown_fields_are_refused() {
    let (service, task) = with_task().await;
    for (path, good) in posts(&task) {
        let fields: Vec<_> = good.as_object().unwrap().keys().cloned().collect();
        for field in &fields {
            let with = |value: Value| {
                let mut body = good.clone();
                body[field] = value;
                body
            };
            // A cancel's fields may be left out.
            if !path.ends_with("cancel") {
                let mut body = good.clone();
                body.as_object_mut().unwrap().remove(field);
                service.post(&path, &body).await.problem(422);
                service.post(&path, &with(Value::Null)).await.problem(422);
            }
            for wrong in [json!(1), json!([]), json!({}), json!(true), json!("")] {
                let problem = service.post(&path, &with(wrong)).await.problem(422);
                assert_eq!(
                    problem["errors"][0]["field"],
                    json!(field),
                    "{path} {problem}"
                );
            }
            for forged in ["a\u{0}b", "a\nb", "\u{1b}[2J"] {
                service.post(&path, &with(json!(forged))).await.problem(422);
            }
            let long = service.post(&path, &with(json!("x".repeat(4000)))).await;
            assert!(
                matches!(long.status.as_u16(), 413 | 422),
                "{path} {}",
                long.text()
            );
            long.problem(long.status.as_u16());
        }
        let mut body = good.clone();
        body["surprise"] = json!(1);
        let problem = service.post(&path, &body).await.problem(422);
        assert!(
            problem["detail"].as_str().unwrap().contains("surprise"),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_submission_is_bounded() {
    let service = Service::new();
    for (field, value) in [
        ("max_duration_s", json!(0)),
        ("max_duration_s", json!(86_401)),
        ("max_duration_s", json!(-1)),
        ("max_duration_s", json!(1.5)),
        ("max_duration_s", json!("120")),
        ("max_duration_s", json!(1e300)),
        ("labels", json!({ "Bad Name": "x" })),
        ("labels", json!({ "a": 1 })),
        (
            "labels",
            json!(
                (0..17)
                    .map(|i| (format!("l{i}"), "x"))
                    .collect::<std::collections::BTreeMap<_, _>>()
            ),
        ),
        ("cell", json!("../demo")),
        ("instruction", json!("x".repeat(2049))),
    ] {
        let mut body = red_block();
        body[field] = value;
        service.post("/v1/tasks", &body).await.problem(422);
    }
    let mut elsewhere = red_block();
    elsewhere["cell"] = json!("nowhere");
    service.post("/v1/tasks", &elsewhere).await.problem(404);
    let listed = service.get("/v1/tasks").await.json();
    assert_eq!(
        listed["items"],
        json!([]),
        "a refused submission left a task behind"
    );
}

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let (service, task) = with_task().await;
    for (path, good) in posts(&task) {
        for bad in ["{", "nonsense", "{\"a\":1}}", "\u{feff}{}", "'a'"] {
            let status = service.post_text(&path, bad).await.status.as_u16();
            assert!(matches!(status, 400 | 422), "{path} {bad} {status}");
        }
        // A body that is declared as JSON and empty is none.
        service.post_text(&path, "").await.problem(400);
        service
            .post_text(&path, format!("{good} {good}"))
            .await
            .problem(400);
        service
            .post_text(&path, vec![0xff, 0xfe])
            .await
            .problem(400);
        let deep = format!("{{\"operator\":{}{}}}", "[".repeat(300), "]".repeat(300));
        let status = service.post_text(&path, deep).await.status.as_u16();
        assert!(matches!(status, 400 | 422), "{path} {status}");
        let twice = good
            .to_string()
            .replacen('{', "{\"operator\":\"x\",\"operator\":\"y\",", 1);
        service.post_text(&path, twice).await.problem(422);
        for not_an_object in [json!([]), json!("x"), json!(7), Value::Null] {
            if not_an_object.is_null() && path.ends_with("cancel") {
                continue;
            }
            service.post(&path, &not_an_object).await.problem(422);
        }
    }
}

#[tokio::test]
async fn a_body_must_be_declared_as_json() {
    let (service, task) = with_task().await;
    for (path, good) in posts(&task) {
        for media_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
            "application/jsonx",
        ] {
            let request = request(Method::POST, &path).header(header::CONTENT_TYPE, media_type);
            let request = request.body(good.to_string().into()).unwrap();
            service.send(request).await.problem(415);
        }
        let bare = request(Method::POST, &path)
            .body(good.to_string().into())
            .unwrap();
        service.send(bare).await.problem(415);
        let charset = request(Method::POST, &path)
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(Body::from("{"))
            .unwrap();
        service.send(charset).await.problem(400);
    }
}

#[tokio::test]
async fn a_body_above_a_mebibyte_is_too_large() {
    let (service, task) = with_task().await;
    let huge = format!("{{\"instruction\":\"{}\"}}", "x".repeat(layers::BODY_MAX));
    for (path, _) in posts(&task) {
        service.post_text(&path, huge.clone()).await.problem(413);
        let declared = request(Method::POST, &path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, "99999999999")
            .body(Body::from("{}"))
            .unwrap();
        service.send(declared).await.problem(413);
    }
    let estop = format!(
        "{{\"operator\":\"{}\"}}",
        "x".repeat(layers::ESTOP_BODY_MAX)
    );
    service
        .post_text("/v1/cells/demo/estop", estop)
        .await
        .problem(413);
}

#[tokio::test]
async fn unknown_and_wrong_parameters_are_refused() {
    let (service, task) = with_task().await;
    for path in gets(&task) {
        service
            .get(&format!("{path}?surprise=1"))
            .await
            .problem(400);
    }
    for (path, good) in posts(&task) {
        service
            .post(&format!("{path}?surprise=1"), &good)
            .await
            .problem(400);
    }
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=99999999999999999999",
        "cursor=x",
        "cursor=../..",
        "cursor=",
        "limit=1&limit=2",
    ] {
        service
            .get(&format!("/v1/tasks?{query}"))
            .await
            .problem(400);
        service
            .get(&format!("/v1/episodes?{query}"))
            .await
            .problem(400);
    }
    for query in [
        "points=0",
        "points=2001",
        "points=-1",
        "points=x",
        "points=1&points=2",
    ] {
        let path = format!("/v1/episodes/{EPISODE}/motion?{query}");
        service.get(&path).await.problem(400);
    }
    for query in [
        "state=flying",
        "state=",
        "cell=..%2f",
        "cell=%00",
        "cell=%ff",
    ] {
        service
            .get(&format!("/v1/tasks?{query}"))
            .await
            .problem(400);
    }
}

#[tokio::test]
async fn ids_that_climb_or_hide_are_refused() {
    let service = Service::new();
    let ids = [
        "..",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "demo%00",
        "%ff%fe",
        "a%20b",
        "A",
        "%0a",
        "demo%2f..",
        "01jd3v7q4y8b3t0v5z6w9x2c1a",
        "01JD3V7Q4Y8B3T0V5Z6W9X2C1A-01",
        "-1",
        "%25",
    ];
    for id in ids {
        for path in [
            format!("/v1/tasks/{id}"),
            format!("/v1/cells/{id}"),
            format!("/v1/episodes/{id}"),
            format!("/v1/episodes/{id}/motion"),
            format!("/v1/cells/{id}/frames/ego"),
            format!("/v1/cells/demo/frames/{id}"),
            format!("/v1/episodes/{id}/frames/ego/3"),
            format!("/v1/episodes/{EPISODE}/frames/{id}/3"),
            format!("/v1/episodes/{EPISODE}/frames/ego/{id}"),
        ] {
            let answer = service.get(&path).await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 404),
                "{path} {}",
                answer.text()
            );
            answer.problem(answer.status.as_u16());
        }
        for path in [
            format!("/v1/tasks/{id}/cancel"),
            format!("/v1/cells/{id}/estop"),
            format!("/v1/cells/{id}/reset"),
            format!("/v1/cells/{id}/rearm"),
        ] {
            let answer = service.post(&path, &signed()).await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 404),
                "{path} {}",
                answer.text()
            );
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let service = Service::new();
    for path in [
        "/v1",
        "/v1/nothing",
        "/v2/tasks",
        "/v1/tasks/",
        "//",
        "/v1/cells/demo/fly",
    ] {
        service.get(path).await.problem(404);
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/v1/tasks", "GET,HEAD,POST"),
        (Method::POST, "/v1/cells", "GET,HEAD"),
        (Method::GET, "/v1/cells/demo/estop", "POST"),
        (Method::OPTIONS, "/v1/tasks", "GET,HEAD,POST"),
        (Method::POST, "/", "GET,HEAD"),
    ] {
        let answer = service
            .send(request(method, path).body(Body::empty()).unwrap())
            .await;
        answer.problem(405);
        let mut methods: Vec<_> = answer.header("allow").split(',').collect();
        methods.sort_unstable();
        assert_eq!(methods.join(","), allowed, "{path}");
    }
}

#[tokio::test]
async fn other_origins_and_hosts_are_kept_out_of_everything() {
    let (service, task) = with_task().await;
    let foreign = [
        ("origin", "http://example.com"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    let mut paths: Vec<_> = gets(&task)
        .into_iter()
        .map(|path| (Method::GET, path))
        .collect();
    paths.extend(
        posts(&task)
            .into_iter()
            .map(|(path, _)| (Method::POST, path)),
    );
    paths.push((Method::GET, "/".to_owned()));
    paths.push((Method::OPTIONS, "/v1/tasks".to_owned()));
    for (method, path) in paths {
        for (name, value) in foreign {
            let asked = request(method.clone(), &path).header(name, value);
            let answer = service.send(asked.body(Body::empty()).unwrap()).await;
            answer.problem(403);
            assert!(answer.headers.get("access-control-allow-origin").is_none());
        }
        for (host, status) in [("evil.example", 403), ("192.168.0.7:8640", 403)] {
            let asked = Request::builder()
                .method(method.clone())
                .uri(&path)
                .header("host", host);
            service
                .send(asked.body(Body::empty()).unwrap())
                .await
                .problem(status);
        }
        let nameless = Request::builder().method(method).uri(&path);
        service
            .send(nameless.body(Body::empty()).unwrap())
            .await
            .problem(400);
    }
    let own = request(Method::GET, "/v1/cells").header("origin", "http://127.0.0.1:8640");
    let own = own
        .header("sec-fetch-site", "same-origin")
        .body(Body::empty())
        .unwrap();
    assert_eq!(service.send(own).await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_carries_the_browser_locks() {
    let service = Service::new();
    for path in ["/", "/dashboard.js", "/v1/cells", "/v1/nothing"] {
        let answer = service.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_problem_and_nothing_more() {
    async fn broken() -> &'static str {
        panic!("secret")
    }
    let service = Service::new();
    let clock: SharedClock = Arc::new(ManualClock::default());
    let app = Arc::new(Shared {
        state: ApiState {
            desk: service.gateway.desk.clone(),
            episodes: None,
            shapes: Arc::default(),
            bus: Bus::queue(Arc::clone(&clock), |_| 0),
            refusals: Arc::default(),
            clock,
            version: "0",
        },
        heavy: Arc::new(Semaphore::new(1)),
        event_readers: Arc::new(Semaphore::new(1)),
        events_missed: AtomicU64::new(0),
        answers: AnswerCounts::default(),
        last_motions: Mutex::default(),
        started_at_ns: 0,
    });
    let guard = axum::middleware::from_fn_with_state(app, layers::guard);
    let router = Router::new().route("/", get(broken)).layer(guard);
    let service = Service {
        router,
        gateway: gateway::Gateway::start(),
    };
    let answer = service.get("/").await;
    answer.problem(500);
    assert!(!answer.text().contains("secret"));
}
