//! Brain, action expert and the rest as three processes over the loopback.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use crate::support::cell::Cell;
use crate::support::events::Events;
use crate::support::http::Server;
use crate::support::process::{Process, data_in, run_args};
use crate::support::{Places, TempDir, free_port, until};

/// Which of the two dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Brain,
    Expert,
}

/// Three processes with the endpoints that join them.
pub(crate) struct Fleet {
    _places: Places,
    dir: TempDir,
    /// Where the rest and the brain listen.
    endpoints: [String; 2],
    /// Further arguments of brain and expert.
    policy: Vec<String>,
    starts: u32,
    server: Server,
    rest: Process,
    brain: Process,
    expert: Process,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Fleet {
    /// Starts them with the policy that `--policy` names.
    pub(crate) fn start(policy: &str) -> Self {
        let places = Places::take_all();
        let dir = TempDir::new();
        let endpoints = [free_port(), free_port()].map(|port| format!("tcp/127.0.0.1:{port}"));
        let port = free_port();
        let mut args = run_args(&data_in(&dir), port);
        let roles = "--role gateway --role perception --role actuator --role recorder";
        args.extend(words(&format!("{roles} --listen {}", endpoints[0])));
        let rest = Process::spawn(&args, dir.path().join("rest.log"));
        let data = data_in(&dir).display().to_string();
        let policy = ["--policy", policy, "--data", &data].map(str::to_owned);
        let brain = Self::spawn_brain(&endpoints, &policy, dir.path().join("brain.log"));
        let expert = Self::spawn_expert(&endpoints, &policy, dir.path().join("expert.log"));
        let server = Server::new(port);
        let fleet = Self {
            _places: places,
            dir,
            endpoints,
            policy: policy.to_vec(),
            starts: 0,
            server,
            rest,
            brain,
            expert,
        };
        fleet.wait_ready();
        fleet
            .cell()
            .wait_mode("armed at start", |mode| mode == "armed");
        fleet
    }

    fn spawn_brain([rest, own]: &[String; 2], policy: &[String], log: PathBuf) -> Process {
        let args = words(&format!("run --role brain --listen {own} --connect {rest}"));
        Process::spawn(&[&args, policy].concat(), log)
    }

    fn spawn_expert([rest, brain]: &[String; 2], policy: &[String], log: PathBuf) -> Process {
        let args = format!("run --role action-expert --connect {rest} --connect {brain}");
        Process::spawn(&[&words(&args), policy].concat(), log)
    }

    /// Its API.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Its demo cell.
    pub(crate) fn cell(&self) -> Cell<'_> {
        Cell::new(&self.server)
    }

    pub(crate) fn wait_ready(&self) {
        until("all three are ready", || {
            (self.server.try_get("/readyz")?.status == 200).then_some(())
        });
    }

    pub(crate) fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Brain => self.brain.kill(),
            Victim::Expert => self.expert.kill(),
        }
    }

    pub(crate) fn start_again(&mut self, victim: Victim) {
        self.starts += 1;
        let log = self.dir.path().join(format!("again-{}.log", self.starts));
        match victim {
            Victim::Brain => self.brain = Self::spawn_brain(&self.endpoints, &self.policy, log),
            Victim::Expert => {
                self.expert = Self::spawn_expert(&self.endpoints, &self.policy, log);
            }
        }
    }

    /// Kills one of the two in mid-motion: the robot stops for this reason, and the task at `path` is
    /// interrupted.
    pub(crate) fn stops_without(
        &mut self,
        victim: Victim,
        events: &mut Events,
        (path, reason): (&str, &str),
    ) {
        self.kill(victim);
        events.wait_modes(&["running", "stopping", "stopped"]);
        let stopped = self
            .cell()
            .wait_mode("it is shown", |mode| mode == "stopped");
        assert_eq!(
            stopped["reason"]["name"],
            json!(reason),
            "{:#?}",
            events.texts()
        );
        until("the task is interrupted", || {
            (self.server.get(path).json(200)["state"] == "interrupted").then_some(())
        });
    }

    /// Brain and expert take these further arguments when they are started again.
    pub(crate) fn set_policy(&mut self, policy: &[&str]) {
        self.policy = policy.iter().map(ToString::to_string).collect();
    }

    /// Ends all three; each of them with 0.
    pub(crate) fn term(mut self) {
        for process in [&mut self.rest, &mut self.expert, &mut self.brain] {
            assert_eq!(process.term(), 0, "a clean end");
        }
    }
}

/// Gives the chunks that lines with `word` name.
fn chunks_in(log: &str, word: &str) -> BTreeSet<String> {
    let lines = log.lines().filter(|line| line.contains(word));
    let chunk = |line: &str| {
        let (_, rest) = line.split_once(" chunk=")?;
        let id = rest
            .trim_start_matches('"')
            .split(|c: char| !c.is_ascii_alphanumeric());
        id.map(str::to_owned).next()
    };
    lines.filter_map(chunk).collect()
}

/// The story of a death in mid-motion, from the stop to the next good task.
fn dies_and_comes_back(victim: Victim, role: &str, reason: &str) {
    let mut fleet = Fleet::start("scripted");
    fleet.cell().does("put the red block in the left tray");
    let sent = chunks_in(&fleet.expert.log(), "chunk sent");
    let accepted = chunks_in(&fleet.rest.log(), "chunk_accepted");
    assert!(
        !accepted.is_empty() && accepted.is_subset(&sent),
        "{accepted:?} of {sent:?}"
    );

    let mut events = Events::follow(&fleet.server);
    let task = fleet
        .cell()
        .submit("put the green block in the left tray")
        .id;
    fleet.cell().wait_motion();
    let path = format!("/v1/tasks/{task}");
    fleet.stops_without(victim, &mut events, (&path, reason));
    until("readiness names the dead", || {
        let ready = fleet.server.get("/readyz");
        (ready.status == 503 && ready.problem(503)["missing"].to_string().contains(role))
            .then_some(())
    });
    fleet.cell().demand_still();

    fleet.start_again(victim);
    fleet.wait_ready();
    fleet.cell().demand_still();
    assert_eq!(fleet.cell().mode(), "stopped", "it waits for a person");
    assert_eq!(fleet.server.get(&path).json(200)["state"], "interrupted");
    assert_eq!(fleet.cell().command("rearm").json(200)["mode"], "armed");
    let (verb, body, end) = match victim {
        Victim::Brain => {
            let verdict = json!({ "result": "failed", "operator": "ada", "reason": "not moved" });
            ("verdict", verdict, "failed")
        }
        Victim::Expert => ("cancel", json!({}), "cancelled"),
    };
    let ended = fleet
        .server
        .post(&format!("{path}/{verb}"), &body)
        .json(200);
    assert_eq!(ended["state"], end);
    fleet.cell().does("put the blue block in the right tray");
    fleet.term();
}

#[test]
fn a_brain_that_dies_in_mid_motion_stops_the_robot_and_is_taken_back() {
    dies_and_comes_back(Victim::Brain, "brain", "brain_lost");
}

#[test]
fn an_expert_that_dies_in_mid_motion_stops_the_robot_and_is_taken_back() {
    dies_and_comes_back(Victim::Expert, "action-expert", "expert_lost");
}
