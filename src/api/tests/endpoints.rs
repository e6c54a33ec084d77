//! What each endpoint gives.

use std::collections::BTreeSet;

use axum::http::Method;
use futures_util::StreamExt;
use vlad_actors::gateway::desk::Snapshot;
use vlad_safety::mode::Mode;
use vlad_task::submit::Submission;

use super::gateway::EPISODE;
use super::*;

#[tokio::test]
async fn a_task_is_taken_shown_listed_and_cancelled() {
    let service = Service::new();
    let mut body = red_block();
    body["max_duration_s"] = json!(30);
    body["labels"] = json!({ "shift": "night" });
    let taken = service.post("/v1/tasks", &body).await;
    assert_eq!(taken.status, StatusCode::CREATED);
    let task = taken.json();
    let id = task["id"].as_str().unwrap();
    assert_eq!(taken.header("location"), format!("/v1/tasks/{id}"));
    assert_eq!(task["state"], "queued");
    assert_eq!(task["max_duration_s"], 30);
    assert_eq!(task["labels"]["shift"], "night");
    assert_eq!(task["episodes"], json!([]));

    let shown = service.get(&format!("/v1/tasks/{id}")).await;
    assert_eq!(shown.json(), task);
    let listed = service.get("/v1/tasks?state=queued&cell=demo").await.json();
    assert_eq!(listed, json!({ "items": [task] }));

    let cancelled = service
        .post(&format!("/v1/tasks/{id}/cancel"), &signed())
        .await;
    assert_eq!(cancelled.json()["state"], "cancelled");
    let again = service
        .post(&format!("/v1/tasks/{id}/cancel"), &signed())
        .await;
    let problem = again.problem(409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("submit a new one"),
        "{problem}"
    );
    let verdict = json!({ "result": "succeeded", "operator": "ada", "reason": "I saw it" });
    service
        .post(&format!("/v1/tasks/{id}/verdict"), &verdict)
        .await
        .problem(409);
}

#[tokio::test]
async fn a_cancel_needs_no_body() {
    let service = Service::new();
    let id = service.post("/v1/tasks", &red_block()).await.json()["id"].clone();
    let path = format!("/v1/tasks/{}/cancel", id.as_str().unwrap());
    let bare = request(Method::POST, &path).body(Body::empty()).unwrap();
    assert_eq!(
        service.send(bare).await.json()["reason"],
        "cancelled over REST"
    );
}

#[tokio::test]
async fn one_key_is_one_task() {
    let service = Service::new();
    let first = service.post_with_key("k-1", &red_block()).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let repeat = service.post_with_key("k-1", &red_block()).await;
    assert_eq!(repeat.status, StatusCode::OK);
    assert_eq!(repeat.json()["id"], first.json()["id"]);
    let mut other = red_block();
    other["instruction"] = json!("something else");
    let refused = service.post_with_key("k-1", &other).await.problem(409);
    assert_eq!(refused["type"], "urn:vlad:problem:idempotency-key-reused");
    for bad in ["", "a b", &"k".repeat(65)] {
        service.post_with_key(bad, &red_block()).await.problem(400);
    }
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let service = Service::new();
    for _ in 0..5 {
        service.post("/v1/tasks", &red_block()).await;
    }
    let mut ids = BTreeSet::new();
    let mut path = "/v1/tasks?limit=2".to_owned();
    for _ in 0..3 {
        let page = service.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        ids.extend(
            items
                .iter()
                .map(|task| task["id"].as_str().unwrap().to_owned()),
        );
        if let Some(next) = page["next"].as_str() {
            path = format!("/v1/tasks?limit=2&cursor={next}");
        }
    }
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_cell_says_how_it_stands_and_why() {
    let service = Service::new();
    let cell = service.get("/v1/cells/demo").await.json();
    assert_eq!(cell["mode"], "armed");
    assert_eq!(cell["reason"]["what_to_do"], "submit a task");
    assert_eq!(
        cell["policy"]["note"],
        "reads the scene's object poses; not a network"
    );
    assert_eq!(cell["joints"][0]["position"], 0.25);
    assert_eq!(cell["joints"][0]["velocity"], Value::Null);
    assert_eq!(cell["streams"][0]["age_ms"], Value::Null);
    assert_eq!(cell["counters"]["accepted"], 17);
    let listed = service.get("/v1/cells").await.json();
    assert_eq!(listed, json!({ "items": [cell] }));
    service.get("/v1/cells/other").await.problem(404);
}

#[tokio::test]
async fn commands_reach_the_guard_and_a_refusal_says_why() {
    let service = Service::new();
    for (verb, mode) in [
        ("estop", "estopped"),
        ("reset", "disarmed"),
        ("rearm", "armed"),
        ("park", "running"),
    ] {
        let answer = service
            .post(&format!("/v1/cells/demo/{verb}"), &signed())
            .await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json()["mode"], mode);
        service
            .post(&format!("/v1/cells/other/{verb}"), &signed())
            .await
            .problem(404);
        let stranger = json!({ "operator": "mallory", "reason": "because" });
        let refused = service
            .post(&format!("/v1/cells/demo/{verb}"), &stranger)
            .await
            .problem(409);
        assert!(
            refused["detail"]
                .as_str()
                .unwrap()
                .contains("it is latched"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn the_newest_frame_is_a_jpeg_of_its_size() {
    let service = Service::new();
    let frame = service.get("/v1/cells/demo/frames/ego").await;
    assert_eq!(frame.header("content-type"), "image/jpeg");
    assert_eq!(frame.header("cache-control"), "no-store");
    assert_eq!(frame.header("vlad-frame-seq"), "42");
    assert_eq!(size(&frame.bytes), (16, 8));
    service
        .get("/v1/cells/demo/frames/left_wrist")
        .await
        .problem(404);
    service.get("/v1/cells/other/frames/ego").await.problem(404);
}

fn size(jpeg: &[u8]) -> (u16, u16) {
    let mut decoder = jpeg_decoder::Decoder::new(jpeg);
    decoder.decode().unwrap();
    let info = decoder.info().unwrap();
    (info.width, info.height)
}

#[tokio::test]
async fn an_episode_can_be_browsed_image_by_image() {
    let service = Service::new();
    let listed = service.get("/v1/episodes").await.json();
    assert_eq!(listed["items"][0]["id"], EPISODE);
    let episode = service.get(&format!("/v1/episodes/{EPISODE}")).await.json();
    assert_eq!(episode, listed["items"][0]);
    assert_eq!(episode["outcome"], "succeeded");
    assert_eq!(episode["views"]["ego"]["frames"], 2);

    let first = service
        .get(episode["views"]["ego"]["first"].as_str().unwrap())
        .await;
    assert_eq!(size(&first.bytes), (16, 8));
    let next = format!("/v1/episodes/{EPISODE}/frames/ego/5");
    assert_eq!(first.header("link"), format!("<{next}>; rel=\"next\""));
    let last = service.get(&next).await;
    assert_eq!(size(&last.bytes), (16, 8));
    assert_eq!(last.header("link"), "");

    let gap = service
        .get(&format!("/v1/episodes/{EPISODE}/frames/ego/4"))
        .await
        .problem(404);
    assert!(
        gap["detail"]
            .as_str()
            .unwrap()
            .contains("the next one is 5"),
        "{gap}"
    );
    service
        .get(&format!("/v1/episodes/{EPISODE}/frames/other/3"))
        .await
        .problem(404);
    service
        .get("/v1/episodes/01JD3V7Q4Y8B3T0V5Z6W9X2C1B-1")
        .await
        .problem(404);
}

#[tokio::test]
async fn events_stream_with_number_kind_and_document() {
    let service = Service::new();
    let asked = request(Method::GET, "/v1/events")
        .body(Body::empty())
        .unwrap();
    let response = service.router.clone().oneshot(asked).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    service.gateway.tell(8, "armed\u{2028}again");
    let mut body = response.into_body().into_data_stream();
    let chunk = body.next().await.unwrap().unwrap();
    let text = String::from_utf8(chunk.to_vec()).unwrap();
    assert!(text.contains("event: mode_changed\n"), "{text}");
    assert!(text.contains("id: 8\n"), "{text}");
    let data = text
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap();
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!(event["severity"], "warn");
    assert_eq!(event["at_ms"], 2);
}

#[tokio::test]
async fn a_slow_reader_of_events_is_told_what_it_missed() {
    let service = Service::new();
    let asked = request(Method::GET, "/v1/events")
        .body(Body::empty())
        .unwrap();
    let response = service.router.clone().oneshot(asked).await.unwrap();
    for id in 0..1000 {
        service.gateway.tell(id, "much");
    }
    let mut body = response.into_body().into_data_stream();
    let chunk = body.next().await.unwrap().unwrap();
    let text = String::from_utf8(chunk.to_vec()).unwrap();
    assert!(text.contains("event: lagged\n"), "{text}");
    assert!(
        service
            .get("/metrics")
            .await
            .text()
            .contains("vlad_events_missed_total 744")
    );
}

#[tokio::test]
async fn followers_of_events_are_bounded() {
    let service = Service::new();
    let mut open = Vec::new();
    for _ in 0..EVENT_READERS_MAX {
        let asked = request(Method::GET, "/v1/events")
            .body(Body::empty())
            .unwrap();
        open.push(service.router.clone().oneshot(asked).await.unwrap());
    }
    service.get("/v1/events").await.problem(503);
    open.pop();
    let asked = request(Method::GET, "/v1/events")
        .body(Body::empty())
        .unwrap();
    let response = service.router.clone().oneshot(asked).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let service = Service::new();
    assert_eq!(service.get("/readyz").await.status, StatusCode::OK);
    let change = |change: fn(&mut Snapshot)| service.gateway.snapshot.send_modify(change);
    change(|snapshot| {
        snapshot
            .readiness
            .missing
            .push("the policy is not warm".to_owned());
    });
    let problem = service.get("/readyz").await.problem(503);
    assert_eq!(problem["missing"], json!(["the policy is not warm"]));
    change(|snapshot| *snapshot = Snapshot::default());
    service.get("/readyz").await.problem(503);
    let health = service.get("/healthz").await.json();
    assert_eq!(health["version"], "0.0.0-test");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let service = Service::new();
    service.get("/v1/nowhere").await;
    let answer = service.get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let text = answer.text();
    for line in [
        "vlad_guard_mode{cell=\"demo\",mode=\"armed\"} 1",
        "vlad_guard_mode{cell=\"demo\",mode=\"running\"} 0",
        "vlad_guard_total{cell=\"demo\",what=\"accepted\"} 17",
        "vlad_ticks_per_second{cell=\"demo\"} 29.5",
        "vlad_role_alive{cell=\"demo\",role=\"brain\"} 1",
        "vlad_heartbeat_age_ms{cell=\"demo\",role=\"brain\"} 12",
        "vlad_stream_age_ms{cell=\"demo\",stream=\"joints\"} +Inf",
        "vlad_stream_malformed_total{stream=\"frame/{view}\"} 0",
        "vlad_context_refused_total{reason=\"other_model\"} 0",
        "vlad_ready 1",
        "vlad_http_answers_total{class=\"4xx\"} 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
    }
    let modes = text
        .lines()
        .filter(|line| line.starts_with("vlad_guard_mode{"))
        .count();
    assert_eq!(modes, Mode::ALL.len());
}

#[tokio::test]
async fn the_document_and_the_routes_agree() {
    let document = openapi();
    let documented: BTreeSet<_> = document.paths.paths.keys().cloned().collect();
    let routed: BTreeSet<_> = routes()
        .iter()
        .map(|(path, _)| (*path).to_owned())
        .collect();
    assert_eq!(documented, routed);

    let service = Service::new();
    for (template, item) in &document.paths.paths {
        let path = template
            .replace(
                "{id}",
                if template.contains("cells") {
                    "demo"
                } else {
                    EPISODE
                },
            )
            .replace("{view}", "ego")
            .replace("{n}", "3");
        for (method, documented) in [
            (Method::GET, item.get.is_some()),
            (Method::POST, item.post.is_some()),
            (Method::PUT, item.put.is_some()),
            (Method::PATCH, item.patch.is_some()),
            (Method::DELETE, item.delete.is_some()),
        ] {
            let asked = request(method.clone(), &path).body(Body::empty()).unwrap();
            let response = service.router.clone().oneshot(asked).await.unwrap();
            let taken = !matches!(response.status().as_u16(), 404 | 405);
            assert_eq!(
                taken,
                documented,
                "{method} {template}: {}",
                response.status()
            );
        }
    }
    let served = service.get("/v1/openapi.json").await.json();
    assert_eq!(served, serde_json::to_value(&document).unwrap());
}

#[test]
fn operations_have_names_of_their_own() {
    let document = openapi();
    let mut names = BTreeSet::new();
    for item in document.paths.paths.values() {
        for operation in [&item.get, &item.post].into_iter().flatten() {
            assert!(
                names.insert(operation.operation_id.clone()),
                "{:?}",
                operation.operation_id
            );
        }
    }
}

#[test]
fn the_described_submission_is_the_one_that_is_read() {
    let submission: Submission = serde_json::from_value(red_block()).unwrap();
    let read = serde_json::to_value(submission).unwrap();
    let schema = serde_json::to_value(openapi()).unwrap();
    let schema = &schema["components"]["schemas"]["TaskSubmission"];
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(keys(&schema["properties"]), keys(&read));
    assert_eq!(schema["required"], json!(["cell", "instruction"]));
}
