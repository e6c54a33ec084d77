//! The demo cell and its tasks, as a story tells them.

use serde_json::{Value, json};
use vlad_wire::clock::SECOND;

use super::http::{Reply, Server};
use super::{pause, until, until_within};

/// Longer than a task may run by default.
const TASK_NS: u64 = 150 * SECOND;
/// Looks over which something must not change.
const LOOKS: usize = 20;
/// Farther than a robot that holds sways, nearer than a tick of motion.
const STILL_RAD: f64 = 2e-3;
/// Faster than a robot that holds trembles.
const MOVING_RAD_S: f64 = 0.1;

/// A cell of a daemon.
#[derive(Clone, Copy)]
pub(crate) struct Cell<'a> {
    server: &'a Server,
    name: &'static str,
}

impl<'a> Cell<'a> {
    /// The demo cell.
    pub(crate) fn new(server: &'a Server) -> Self {
        Self::named(server, "demo")
    }

    /// The cell of this name.
    pub(crate) fn named(server: &'a Server, name: &'static str) -> Self {
        Self { server, name }
    }

    pub(crate) fn show(self) -> Value {
        let path = format!("/v1/cells/{}", self.name);
        self.server.get(&path).json(200)
    }

    pub(crate) fn mode(self) -> String {
        self.show()["mode"].as_str().unwrap_or("unknown").to_owned()
    }

    /// Waits for a mode, and gives the cell in it.
    #[track_caller]
    pub(crate) fn wait_mode(self, what: &str, fits: impl Fn(&str) -> bool) -> Value {
        until(what, || {
            let cell = self.show();
            cell["mode"].as_str().is_some_and(&fits).then_some(cell)
        })
    }

    /// Commands the guard as a person.
    pub(crate) fn command(self, verb: &str) -> Reply {
        let body = json!({ "operator": "ada", "reason": "a story" });
        let path = format!("/v1/cells/{}/{verb}", self.name);
        self.server.post(&path, &body)
    }

    /// Waits until a task moves the arms.
    #[track_caller]
    pub(crate) fn wait_motion(self) {
        until("an arm moves", || {
            let cell = self.show();
            let joints = cell["joints"].as_array()?;
            let moves = joints.iter().any(|joint| {
                joint["unit"] == "rad"
                    && joint["velocity"]
                        .as_f64()
                        .is_some_and(|speed| MOVING_RAD_S < speed.abs())
            });
            (cell["mode"] == "running" && moves).then_some(())
        });
    }

    /// Gives the measured positions.
    pub(crate) fn joints(self) -> Vec<f64> {
        let cell = self.show();
        let joints = cell["joints"].as_array().unwrap().iter();
        joints
            .map(|joint| joint["position"].as_f64().unwrap())
            .collect()
    }

    /// Looks many times, and demands that nothing moves.
    #[track_caller]
    pub(crate) fn demand_still(self) {
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= STILL_RAD);
        let mut last = self.joints();
        let mut rests = 0;
        until("the arms come to rest", || {
            let now = self.joints();
            // Two looks may fall into one snapshot of the daemon; four in a row do not.
            rests = if near(&last, &now) { rests + 1 } else { 0 };
            last.clone_from(&now);
            (4 <= rests).then_some(())
        });
        for _ in 0..LOOKS {
            pause();
            let now = self.joints();
            assert!(near(&last, &now), "moved by itself: {last:?} → {now:?}");
        }
    }

    /// Submits a task.
    #[track_caller]
    pub(crate) fn submit(self, instruction: &str) -> Task<'a> {
        let task = self
            .server
            .post("/v1/tasks", &submission(instruction))
            .json(201);
        Task::new(self.server, &task)
    }

    /// Does a task to its good end.
    #[track_caller]
    pub(crate) fn does(self, instruction: &str) -> Value {
        let ended = self.submit(instruction).wait_end();
        assert_eq!(ended["state"], "succeeded", "{ended}");
        ended
    }
}

/// The body of a task for the demo cell.
pub(crate) fn submission(instruction: &str) -> Value {
    json!({ "cell": "demo", "instruction": instruction })
}

/// A task of a daemon.
pub(crate) struct Task<'a> {
    server: &'a Server,
    pub(crate) id: String,
}

impl<'a> Task<'a> {
    pub(crate) fn new(server: &'a Server, task: &Value) -> Self {
        Self {
            server,
            id: task["id"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn show(&self) -> Value {
        self.server.get(&format!("/v1/tasks/{}", self.id)).json(200)
    }

    pub(crate) fn state(&self) -> String {
        self.show()["state"].as_str().unwrap().to_owned()
    }

    pub(crate) fn post(&self, verb: &str, body: &Value) -> Reply {
        self.server
            .post(&format!("/v1/tasks/{}/{verb}", self.id), body)
    }

    /// Waits for a state.
    #[track_caller]
    pub(crate) fn wait_state(&self, wanted: &str) -> Value {
        until(&format!("the task is {wanted}"), || {
            let task = self.show();
            (task["state"] == wanted).then_some(task)
        })
    }

    /// Waits until nothing more happens without a person.
    #[track_caller]
    pub(crate) fn wait_end(&self) -> Value {
        let open = [
            "queued",
            "leased",
            "running",
            "pausing",
            "paused",
            "cancelling",
        ];
        until_within(TASK_NS, "the task ends", || {
            let task = self.show();
            (!open.contains(&task["state"].as_str().unwrap())).then_some(task)
        })
    }

    /// Looks many times, and demands that its state stays.
    #[track_caller]
    pub(crate) fn demand_stays(&self, state: &str) {
        for _ in 0..LOOKS {
            assert_eq!(self.state(), state);
            pause();
        }
    }
}
