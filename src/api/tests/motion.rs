//! How an episode moved, over REST and for Prometheus.

use super::gateway::EPISODE;
use super::*;
use crate::motion_report::testing::PLAYED;

fn path(query: &str) -> String {
    format!("/v1/episodes/{EPISODE}/motion{query}")
}

#[tokio::test]
async fn an_episode_says_how_it_moved() {
    let service = Service::new();
    let answer = service.get(&path("")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let motion = answer.json();
    assert_eq!(motion["episode"], EPISODE);
    assert_eq!(motion["outcome"], "succeeded");
    assert_eq!(motion["settings"], "unknown");
    assert_eq!(motion["ticks_played"], json!(PLAYED));
    assert_eq!(motion["ticks_counted"], json!(PLAYED));
    assert_eq!(motion["stalls"]["stalled"], 3);
    let oldest = motion["age_ms"]["max"].as_f64().unwrap();
    assert!(oldest <= motion["action_age_limit_ms"].as_f64().unwrap());
    let seam = &motion["seams"]["items"][0];
    assert_eq!(
        (&seam["tick"], &seam["strategy"]),
        (&json!(106), &json!("clean-prefix"))
    );
    assert_eq!(motion["seams"]["rho"].as_array().unwrap().len(), 4);
    assert_eq!(motion["tracking"][0]["name"], "left_joint_1");
    assert_eq!(motion["economy"]["refused"], 1);
    assert_eq!(motion["interventions"]["by_flag"]["workspace"], 0);
    assert_eq!(motion["curves"], Value::Null);
}

#[tokio::test]
async fn curves_come_with_as_many_points_as_were_asked_for() {
    let service = Service::new();
    let motion = service.get(&path("?points=11")).await.json();
    let curves = &motion["curves"];
    assert_eq!(curves["points"].as_array().unwrap().len(), 11);
    assert_eq!(curves["points"][0]["position"].as_array().unwrap().len(), 1);
    let n = |key: &str| curves[key].as_array().unwrap().len();
    assert_eq!(n("late"), n("late_us") + 1);
}

#[tokio::test]
async fn a_cell_that_is_not_served_is_said() {
    let service = Service::with_shapes(CellShapes::new());
    let problem = service.get(&path("")).await.problem(409);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("--cell demo"), "{detail}");
    let absent = "/v1/episodes/01JD3V7Q4Y8B3T0V5Z6W9X2C1B-1/motion";
    service.get(absent).await.problem(404);
}

#[tokio::test]
async fn the_last_finished_episode_is_in_the_metrics() {
    let service = Service::new();
    let text = service.get("/metrics").await.text();
    for line in [
        "# TYPE vlad_episode_stall_ratio gauge",
        "vlad_episode_age_max_ms{cell=\"demo\"} 352",
        "vlad_episode_seams{cell=\"demo\"} 1",
        "vlad_episode_deadlines_missed{cell=\"demo\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let figures = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| line.starts_with("vlad_episode_"));
        lines.map(str::to_owned).collect()
    };
    // From memory, the same.
    let again = service.get("/metrics").await.text();
    assert_eq!(figures(&again), figures(&text));
    let unserved = Service::with_shapes(CellShapes::new());
    let text = unserved.get("/metrics").await.text();
    assert!(figures(&text).is_empty(), "{text}");
}
