//! Shared memory under load: two processes, a busy machine, readers that are stopped, processes
//! that are killed.
//!
//! Every part that arrives must be its number's content to the last byte, when it arrives and as
//! long as it is held. Lost parts are counted and no fault: the bus may lose messages.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::child::{Child, Launcher};
use super::sink::Seen;
use super::source::{Order, Parts, Published, halt};

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at a child.
const PAUSE: Duration = Duration::from_millis(20);
/// Parts of one order: a machine with ten times as much to do publishes them in a few seconds.
const ORDER_MAX: u64 = 200;
/// Parts on the way at a time: two contexts.
const WINDOW: u64 = 32;

/// How long and how hard.
#[derive(Debug, Clone, Copy)]
pub struct SoakOptions {
    /// Parts of each of the two phases without faults.
    pub parts: u64,
    /// How often each fault happens.
    pub faults: u64,
    /// How long a reader is stopped.
    pub stopped: Duration,
    /// Threads that do nothing but work.
    pub busy_threads: usize,
    /// Mebibytes of shared memory; 0 sends bytes.
    pub shared_memory_mib: u16,
    /// Shortest and longest part, bytes.
    pub sizes: (usize, usize),
}

/// What came of one phase.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Phase {
    /// What happened.
    pub name: &'static str,
    /// Parts that were handed to the bus.
    pub published: u64,
    /// Of these, in shared memory; those of killed sources are not known.
    pub published_shared: u64,
    /// Parts for which the pool had no room.
    pub refused: u64,
    /// What arrived.
    pub seen: Seen,
}

impl Phase {
    /// Tells whether nothing that arrived was ever anything else than what was sent.
    pub fn is_clean(&self) -> bool {
        let Seen {
            malformed,
            wrong,
            changed,
            disordered,
            ..
        } = self.seen;
        [malformed, wrong, changed, disordered] == [0; 4]
    }
}

/// Two processes on a bus of their own.
struct Pair<'a> {
    launcher: &'a Launcher,
    options: SoakOptions,
    endpoint: String,
    source: Child,
    sink: Child,
    next: u64,
}

/// What happens in one phase.
type Story = fn(&mut Pair<'_>, &mut Phase) -> anyhow::Result<()>;

/// Runs all phases, each with processes of its own; `progress` is told their names.
///
/// # Errors
/// Processes that do not start, end by themselves or hang.
pub fn run(
    launcher: &Launcher,
    options: SoakOptions,
    progress: &mut dyn FnMut(&Phase),
) -> anyhow::Result<Vec<Phase>> {
    let phases: [(&'static str, Story); 5] = [
        ("quiet", steady),
        ("busy", busy),
        ("reader stopped", reader_stopped),
        ("reader killed", reader_killed),
        ("publisher killed", publisher_killed),
    ];
    let mut done = Vec::new();
    for (name, story) in phases {
        let mut pair = Pair::start(launcher, options)?;
        let mut phase = Phase {
            name,
            ..Phase::default()
        };
        story(&mut pair, &mut phase).context(name)?;
        progress(&phase);
        done.push(phase);
    }
    Ok(done)
}

fn steady(pair: &mut Pair<'_>, phase: &mut Phase) -> anyhow::Result<()> {
    pair.publish(phase, pair.options.parts)?;
    pair.settle(phase)
}

fn busy(pair: &mut Pair<'_>, phase: &mut Phase) -> anyhow::Result<()> {
    let _load = Load::start(pair.options.busy_threads)?;
    steady(pair, phase)
}

/// While the reader stands still the publisher goes on without a window, until the pool is used
/// up and the socket is full.
fn reader_stopped(pair: &mut Pair<'_>, phase: &mut Phase) -> anyhow::Result<()> {
    let _load = Load::start(pair.options.busy_threads)?;
    for _ in 0..pair.options.faults {
        pair.publish(phase, 2 * WINDOW)?;
        pair.sink.stop()?;
        let endless = pair.order(u64::MAX, 0);
        pair.source.tell(&endless)?;
        wait(pair.options.stopped);
        pair.sink.go_on()?;
        let published = halt(&mut pair.source, PATIENCE)?;
        pair.account(phase, published);
        pair.publish(phase, 2 * WINDOW)?;
    }
    pair.settle(phase)
}

/// A killed reader held buffers; another takes its place.
fn reader_killed(pair: &mut Pair<'_>, phase: &mut Phase) -> anyhow::Result<()> {
    let _load = Load::start(pair.options.busy_threads)?;
    let mut before = Seen::default();
    for _ in 0..pair.options.faults {
        pair.publish(phase, 2 * WINDOW)?;
        let endless = pair.order(u64::MAX, WINDOW);
        pair.source.tell(&endless)?;
        wait(PAUSE);
        before = add(before, pair.ask()?);
        pair.sink.kill();
        pair.sink = pair.launch_sink()?;
        let published = halt(&mut pair.source, PATIENCE)?;
        pair.account(phase, published);
        pair.meet(phase)?;
    }
    pair.publish(phase, 2 * WINDOW)?;
    pair.settle(phase)?;
    phase.seen = add(before, phase.seen);
    Ok(())
}

/// The reader holds parts of a publisher that is gone, and goes on with those of another.
fn publisher_killed(pair: &mut Pair<'_>, phase: &mut Phase) -> anyhow::Result<()> {
    let _load = Load::start(pair.options.busy_threads)?;
    for _ in 0..pair.options.faults {
        pair.publish(phase, 2 * WINDOW)?;
        let endless = pair.order(u64::MAX, WINDOW);
        pair.source.tell(&endless)?;
        wait(PAUSE);
        pair.source.kill();
        pair.source = pair.launch_source()?;
        pair.next = 0;
        // What is held is looked at again: its publisher is gone.
        pair.ask()?;
        pair.meet(phase)?;
    }
    pair.publish(phase, 2 * WINDOW)?;
    pair.settle(phase)
}

impl<'a> Pair<'a> {
    fn start(launcher: &'a Launcher, options: SoakOptions) -> anyhow::Result<Self> {
        let endpoint = free_endpoint()?;
        let start = |role, end: &str| start(launcher, role, (end, &endpoint), options);
        let mut pair = Self {
            source: start("source", "--listen")?,
            sink: start("sink", "--connect")?,
            launcher,
            options,
            endpoint: endpoint.clone(),
            next: 0,
        };
        pair.meet(&mut Phase::default())?;
        Ok(pair)
    }

    fn launch_source(&self) -> anyhow::Result<Child> {
        let end = ("--listen", self.endpoint.as_str());
        start(self.launcher, "source", end, self.options)
    }

    fn launch_sink(&self) -> anyhow::Result<Child> {
        let end = ("--connect", self.endpoint.as_str());
        start(self.launcher, "sink", end, self.options)
    }

    /// Publishes single parts until one arrives.
    fn meet(&mut self, phase: &mut Phase) -> anyhow::Result<()> {
        let before = self.ask()?.parts;
        for _ in 0..1000 {
            self.publish(phase, 1)?;
            wait(PAUSE);
            if before < self.ask()?.parts {
                return Ok(());
            }
        }
        anyhow::bail!("the two processes do not meet")
    }

    fn order(&self, count: u64, window: u64) -> Order {
        Order::Parts(Parts {
            first: self.next,
            count,
            sizes: self.options.sizes,
            window,
        })
    }

    fn publish(&mut self, phase: &mut Phase, count: u64) -> anyhow::Result<()> {
        let mut left = count;
        while 0 < left {
            let some = left.min(ORDER_MAX);
            let order = self.order(some, WINDOW);
            self.source.tell(&order)?;
            let published = self.source.answer(PATIENCE)?;
            self.account(phase, published);
            left -= some;
        }
        Ok(())
    }

    fn account(&mut self, phase: &mut Phase, published: Published) {
        phase.published += published.next.saturating_sub(self.next);
        phase.published_shared += published.shared;
        phase.refused += published.refused;
        self.next = published.next;
    }

    fn ask(&mut self) -> anyhow::Result<Seen> {
        self.sink.tell(&())?;
        self.sink.answer(PATIENCE)
    }

    /// Waits until nothing more arrives.
    fn settle(&mut self, phase: &mut Phase) -> anyhow::Result<()> {
        loop {
            let before = self.ask()?;
            wait(PAUSE);
            wait(PAUSE);
            phase.seen = self.ask()?;
            if phase.seen == before {
                return Ok(());
            }
        }
    }
}

fn start(
    launcher: &Launcher,
    role: &str,
    (flag, endpoint): (&str, &str),
    options: SoakOptions,
) -> anyhow::Result<Child> {
    let mib = options.shared_memory_mib.to_string();
    let arguments = [role, flag, endpoint, "--shared-memory-mib", &mib];
    let child = launcher.start(&arguments.map(str::to_owned))?;
    // The first answer says that it is there.
    let _there: serde_json::Value = child.answer(PATIENCE)?;
    Ok(child)
}

fn add(a: Seen, b: Seen) -> Seen {
    Seen {
        parts: a.parts + b.parts,
        shared: a.shared + b.shared,
        malformed: a.malformed + b.malformed,
        overwritten: a.overwritten + b.overwritten,
        wrong: a.wrong + b.wrong,
        changed: a.changed + b.changed,
        missing: a.missing + b.missing,
        disordered: a.disordered + b.disordered,
        next: b.next,
        bytes: a.bytes + b.bytes,
    }
}

/// Gives an endpoint of the loopback that is free now, and so is the port after it.
///
/// # Errors
/// A machine without free ports.
pub fn free_endpoint() -> anyhow::Result<String> {
    for _ in 0..100 {
        let first = TcpListener::bind(("127.0.0.1", 0))?;
        let port = first.local_addr()?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(format!("tcp/127.0.0.1:{port}"));
        }
    }
    anyhow::bail!("no two free ports on the loopback")
}

/// Waits for so long.
fn wait(time: Duration) {
    let (_open, silent) = sync_channel::<()>(1);
    // Nothing is ever sent: this only takes its time.
    let _: Result<(), RecvTimeoutError> = silent.recv_timeout(time);
}

/// Threads that do nothing but work, until dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(n_threads: usize) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..n_threads {
            let stop = Arc::clone(&stop);
            let work = move || {
                let mut x = 1_u64;
                while !stop.load(Ordering::Relaxed) {
                    x = std::hint::black_box(x.wrapping_mul(3).wrapping_add(1));
                }
            };
            let named = Builder::new().name("bench-load".to_owned());
            threads.push(named.spawn(work)?);
        }
        ensure!(threads.len() == n_threads, "threads are missing");
        Ok(Self { stop, threads })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}
