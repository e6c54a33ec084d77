//! A recorded run of the network, decided again: by brain, expert and the rest as three processes,
//! and from files. Each chunk must come out bit for bit.
//!
//! The rest is this process: it plays the recorded task and the recorded observations with their
//! pixels, and stands still as the recorded robot did when each decision was asked for. The expert
//! asks by itself; its request must be the recorded one in everything but id and time.

use std::path::{Path, PathBuf};

use serde_json::json;
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_motion::noise::standard_normal;
use vlad_safety::mode::Mode;
use vlad_safety::reason::Reason;
use vlad_store::episode::ImageData;
use vlad_store::episodes::EpisodeStore;
use vlad_store::png;
use vlad_store::record::RecordKind;
use vlad_wire::codec::{Body, Packet, decode, unpack};
use vlad_wire::id::{CellId, ChunkId, EpisodeId};
use vlad_wire::msg::execute::Accepted;
use vlad_wire::msg::sense::{Frame, JointState, Observation, ObservationHead};
use vlad_wire::msg::task::{ActiveTask, TaskNow};
use vlad_wire::msg::think::{Chunk, ThinkRequest};
use vlad_wire::stream::{AcceptedTargets, Chunks, Joints, Observations, Requests, Tasks};
use vlad_wire::text::Name;

use crate::support::events::Events;
use crate::support::process::{Daemon, Process, data_in, vlad};
use crate::support::{Places, TempDir, free_port, pause, until};

/// Decisions of a recording: enough for one chunk to follow another.
const DECISIONS: usize = 3;
/// Most records that are read of a kind; the recording is a few seconds long.
const RECORDS: usize = 1000;

/// One decision as it was recorded.
struct Decision {
    request: ThinkRequest,
    observation: Observation,
    chunk: Chunk,
}

/// A run of one daemon with the network and the strategy sync.
struct Run {
    _dir: TempDir,
    checkpoint: PathBuf,
    folder: PathBuf,
    task: ActiveTask,
    decisions: Vec<Decision>,
}

impl Run {
    fn record() -> Self {
        let dir = TempDir::new();
        let data = data_in(&dir);
        let daemon =
            Daemon::start_placeless(&data, &["--policy", "xr0", "--set", "expert.strategy=sync"]);
        let mut events = Events::follow(daemon.server());
        let task = daemon.cell().submit("put the red block in the left tray");
        for _ in 0..DECISIONS {
            events.wait("chunk_accepted", "");
        }
        task.post("cancel", &json!({})).json(200);
        until("the episode is whole", || {
            let episodes = daemon.server().get("/v1/episodes").json(200);
            (episodes["items"][0]["outcome"] == "cancelled").then_some(())
        });
        daemon.term();

        let store = EpisodeStore::open(&data).unwrap();
        let episode = store.list(None, 1).unwrap().items[0].clone();
        assert_eq!(episode.ending.unwrap().not_replayable_from_ns, None);
        let log = Log {
            store,
            id: episode.meta.id,
        };
        let tasks: Vec<TaskNow> = log.all(RecordKind::Task);
        let checkpoints = data.join("checkpoints");
        let checkpoint = std::fs::read_dir(checkpoints).unwrap().next().unwrap();
        Self {
            checkpoint: checkpoint.unwrap().path(),
            folder: dir.path().to_owned(),
            _dir: dir,
            task: tasks.into_iter().find_map(|now| now.task).unwrap(),
            decisions: log.decisions(),
        }
    }
}

/// An episode of a closed daemon.
struct Log {
    store: EpisodeStore,
    id: EpisodeId,
}

impl Log {
    fn packets(&self, kind: RecordKind) -> impl Iterator<Item = Packet> {
        let records = self.store.records(&self.id, kind, 0, RECORDS).unwrap();
        records.into_iter().map(|record| record.unwrap().packet)
    }

    fn all<B: Body>(&self, kind: RecordKind) -> Vec<B> {
        self.packets(kind)
            .map(|packet| unpack(packet).unwrap())
            .collect()
    }

    fn decisions(&self) -> Vec<Decision> {
        let requests: Vec<ThinkRequest> = self.all(RecordKind::Request);
        let heads = self.packets(RecordKind::Observation);
        let heads = heads.map(|packet| decode(&packet.head, Observation::HEAD_MAX).unwrap());
        let heads: Vec<ObservationHead> = heads.collect();
        let chunks: Vec<Chunk> = self.all(RecordKind::Chunk);
        assert!(DECISIONS <= chunks.len(), "{} chunks", chunks.len());
        let decision = |chunk: Chunk| {
            let asked = |request: &&ThinkRequest| request.id == chunk.head.request_id;
            let seen = |head: &&ObservationHead| head.seq == chunk.head.obs_seq;
            let head = heads.iter().find(seen).unwrap().clone();
            let images = head.views.iter().map(|view| {
                let image = self.store.image(&self.id, &view.view, view.seq).unwrap();
                assert!(image.for_context);
                let ImageData::Png(bytes) = &image.data else {
                    panic!("a context's pixels are stored with loss");
                };
                png::decode(bytes, view).unwrap().pixels
            });
            Decision {
                request: *requests.iter().find(asked).unwrap(),
                observation: Observation {
                    images: images.collect(),
                    head,
                },
                chunk,
            }
        };
        chunks.into_iter().take(DECISIONS).map(decision).collect()
    }
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|value| value.to_bits()).collect()
}

/// What a chunk is a function of, and what it is: the same in every run of the same decision.
fn identity(chunk: &Chunk) -> (Vec<u32>, u64, u64, Vec<u8>, Vec<u8>) {
    let head = &chunk.head;
    (
        bits(&chunk.rows),
        head.noise_seed,
        head.obs_seq,
        head.model_hash.to_vec(),
        head.normaliser_hash.to_vec(),
    )
}

/// Everything but brain and expert, played from the recording by this process.
struct Rest {
    tasks: Publisher<Tasks>,
    joints: Publisher<Joints>,
    accepted: Publisher<AcceptedTargets>,
    observations: Publisher<Observations>,
    requests: Subscriber<Requests>,
    chunks: Subscriber<Chunks>,
}

impl Rest {
    fn new(bus: &Bus, cell: &CellId) -> Self {
        Self {
            tasks: bus.publisher(cell, "").unwrap(),
            joints: bus.publisher(cell, "").unwrap(),
            accepted: bus.publisher(cell, "").unwrap(),
            observations: bus.publisher(cell, "").unwrap(),
            requests: bus.subscriber(cell, "", None).unwrap(),
            chunks: bus.subscriber(cell, "", None).unwrap(),
        }
    }

    /// The guard's buffer: empty.
    fn buffer(task: &ActiveTask, mode: Mode, chunk: Option<ChunkId>) -> Accepted {
        Accepted {
            epoch: task.epoch,
            sampled_at_ns: 0,
            tick: 0,
            mode,
            reason: Reason::Rearmed,
            chunk,
            strategy: None,
            played: 0,
            width: 0,
            rows: Vec::new(),
        }
    }

    /// Stands still as the recorded robot did when the decision was asked for.
    fn still(request: &ThinkRequest) -> JointState {
        JointState::still(request.earliest_tick, request.earliest_captured_ns)
    }

    /// Lets the two processes take one recorded decision, after the chunk `last`.
    fn play(&mut self, task: &ActiveTask, decision: &Decision, last: Option<ChunkId>) -> Chunk {
        let now = TaskNow {
            sent_at_ns: 0,
            task: Some(task.clone()),
            last: None,
        };
        // The last chunk is accepted while the robot runs, so that nothing is asked yet.
        for _ in 0..2 {
            self.tasks.put(&now);
            self.joints.put(&Self::still(&decision.request));
            self.accepted.put(&Self::buffer(task, Mode::Running, last));
            pause();
            // The last decision may have been asked for twice, where its context was late.
            while self.requests.try_next().is_some() {}
        }
        let asked = until("the expert asks", || {
            self.tasks.put(&now);
            self.joints.put(&Self::still(&decision.request));
            self.accepted.put(&Self::buffer(task, Mode::Armed, last));
            self.requests.try_next()
        });
        let recorded = ThinkRequest {
            id: asked.id,
            requested_at_ns: asked.requested_at_ns,
            ..decision.request
        };
        assert_eq!(
            asked, recorded,
            "the request is the recorded one but for id and time"
        );
        until("the chunk comes", || {
            self.tasks.put(&now);
            self.observations.put(&decision.observation);
            self.chunks.try_next()
        })
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Plays the recording into a brain and an expert, each in a process of its own. The recording's
/// contexts never left their process: these travel as bytes, layer by layer or all at the end.
fn decide_in_three_processes(run: &Run, stream_layers: bool) {
    let [rest, brain] = [free_port(), free_port()].map(|port| format!("tcp/127.0.0.1:{port}"));
    let checkpoint = run.checkpoint.display();
    let spawn = |name: &str, args: String| {
        let mut args = words(&args);
        args.extend(["--checkpoint".to_owned(), checkpoint.to_string()]);
        Process::spawn(
            &args,
            run.folder.join(format!("{name}-{stream_layers}.log")),
        )
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = ZenohConfig {
        listen: vec![rest.clone()],
        ..ZenohConfig::default()
    };
    let bus = runtime.block_on(Bus::zenoh(config)).unwrap();
    let mut think = spawn(
        "brain",
        format!(
            "run --role brain --listen {brain} --connect {rest} --set brain.stream_layers={stream_layers}"
        ),
    );
    // As it was recorded: `auto` would go by what decisions take here.
    let expert = format!(
        "run --role action-expert --connect {rest} --connect {brain} --set expert.strategy=sync"
    );
    let mut act = spawn("expert", expert);
    let mut player = Rest::new(&bus, &Name::new("demo").unwrap());
    let mut last = None;
    for decision in &run.decisions {
        let chunk = player.play(&run.task, decision, last);
        assert!(
            identity(&chunk) == identity(&decision.chunk),
            "another chunk: {:?}",
            chunk.head
        );
        last = Some(chunk.head.id);
    }
    assert_eq!((think.term(), act.term()), (0, 0), "a clean end");
    runtime.block_on(bus.close());
}

fn write_frame(folder: &Path, frame: &Frame) -> String {
    let path = folder.join(format!("{}.png", frame.head.view));
    std::fs::write(&path, png::encode_fast(frame).unwrap()).unwrap();
    format!("{}={}", frame.head.view, path.display())
}

/// Feeds a recorded decision to `vlad model infer`, with its noise by seed and from a file.
fn decide_from_files(run: &Run, decision: &Decision) {
    let head = &decision.observation.head;
    let noise = run.folder.join("noise.json");
    let seed = decision.chunk.head.noise_seed;
    let numbers = standard_normal(seed, decision.chunk.rows.len());
    std::fs::write(&noise, serde_json::to_string(&numbers).unwrap()).unwrap();
    let state = run.folder.join("state.json");
    std::fs::write(&state, serde_json::to_string(&head.state).unwrap()).unwrap();
    let mut args = words("model infer");
    args.push(run.checkpoint.display().to_string());
    for (view, pixels) in head.views.iter().zip(&decision.observation.images) {
        let frame = Frame {
            head: view.clone(),
            pixels: pixels.clone(),
        };
        args.extend(["--image".to_owned(), write_frame(&run.folder, &frame)]);
    }
    args.extend(["--state".to_owned(), state.display().to_string()]);
    args.extend(["--text".to_owned(), run.task.instruction.to_string()]);
    args.push("--json".to_owned());
    let from = [
        ["--seed".to_owned(), seed.to_string()],
        ["--noise".to_owned(), noise.display().to_string()],
    ];
    for noise in from {
        let ended = vlad(args.iter().chain(&noise));
        assert_eq!(ended.code, 0, "{}", ended.err);
        let decided: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        let targets: Vec<f32> = flat(&decided["targets"]);
        assert!(
            bits(&targets) == bits(&decision.chunk.rows),
            "{noise:?} gives another chunk"
        );
    }
}

/// The numbers of an array, nested or flat.
fn flat(value: &serde_json::Value) -> Vec<f32> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![serde_json::from_value(number.clone()).unwrap()],
    }
}

#[test]
fn a_recorded_run_is_decided_again_bit_for_bit_by_three_processes_and_from_files() {
    let _places = Places::take_all();
    let run = Run::record();
    let moved = |decision: &Decision| bits(&decision.chunk.rows);
    assert!(
        run.decisions
            .windows(2)
            .all(|pair| moved(&pair[0]) != moved(&pair[1])),
        "each decision is another one"
    );
    for stream_layers in [true, false] {
        decide_in_three_processes(&run, stream_layers);
    }
    for decision in &run.decisions {
        decide_from_files(&run, decision);
    }
}
