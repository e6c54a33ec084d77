//! A context from one process to another, against a copy of its bytes in memory.
//!
//! All ways are measured in turns within one run: the machine may be slow today, but it is as slow
//! for all of them. Publisher and reader are two processes, each pinned to a core of its own where
//! there are two. The time of a hand-over is from before the first byte is copied into a buffer
//! until the reader holds all parts, with every checksum verified where parts have one; copies in
//! memory are made by the reader, on its core.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use vlad_bus::buffer::Buffers;
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_wire::clock::{Clock, SystemClock};
use vlad_wire::codec::{Body, CodecError, Packet, unpack};
use vlad_wire::id::CellId;
use vlad_wire::msg::think::{Context, ContextPart};
use vlad_wire::stream::{Contexts, Row, Stream};

use super::child::{Child, Launcher};
use super::machine::{Machine, pin};
use super::payload::{N_PARTS, fill, head};
use super::samples::{Samples, ratio};
use super::soak::free_endpoint;
use super::source::{Order, Published, Whole};

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rounds before the first that counts: memory is mapped, both sides know each other.
const WARM_UP: usize = 3;
/// Keys and values, heads of them, numbers of a head: a layer of the released network.
const NUMBERS_PER_TOKEN: usize = 2 * 8 * 128;

/// How many rounds, and with how much memory.
#[derive(Debug, Clone, Copy)]
pub struct HandoverOptions {
    /// Rounds: each measures every way once.
    pub rounds: usize,
    /// Mebibytes of shared memory; the largest context has 53 MB.
    pub shared_memory_mib: u16,
}

/// The size of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Number type.
    pub dtype: &'static str,
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Bytes of each of its 16 parts.
    pub part_bytes: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A copy in one process, into memory that was written before.
    Memcpy,
    /// A copy in one process, into memory that is new.
    MemcpyNew,
    /// By reference within one process, over the bus.
    Reference,
    /// To the other process as bytes.
    Socket,
    /// The same, with checksums.
    SocketChecked,
    /// To the other process in shared memory.
    Shared,
    /// The same, with checksums.
    SharedChecked,
}

impl Way {
    /// All of them, in the order of measuring.
    pub const ALL: [Self; 7] = [
        Self::Memcpy,
        Self::Socket,
        Self::Shared,
        Self::MemcpyNew,
        Self::SocketChecked,
        Self::SharedChecked,
        Self::Reference,
    ];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memcpy => "memcpy",
            Self::MemcpyNew => "memcpy into new memory",
            Self::Reference => "by reference, one process",
            Self::Socket => "bytes",
            Self::SocketChecked => "bytes, checked",
            Self::Shared => "shared memory",
            Self::SharedChecked => "shared memory, checked",
        }
    }
}

/// One way for one size of context.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// How.
    pub way: Way,
    /// Of what.
    pub size: Size,
    /// Every time that was taken.
    pub samples: Samples,
    /// The middle one, nanoseconds.
    pub median_ns: Option<u64>,
    /// The median over that of a copy into memory that was written before.
    pub times_memcpy: f64,
    /// Contexts that did not arrive whole, and were measured again.
    pub lost: u64,
    /// Parts that should have been in shared memory and were not.
    pub refused: u64,
}

/// Everything that a run has found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// Each way for each size.
    pub measured: Vec<Measured>,
}

/// Contexts as they travel: nobody looks at the checksum before it is asked for.
#[derive(Debug, Clone)]
struct Unseen(Packet);

impl Body for Unseen {
    const HEAD_MAX: usize = Context::HEAD_MAX;
    const RAW_MAX: usize = Context::RAW_MAX;

    fn pack(&self) -> Result<Packet, CodecError> {
        Ok(self.0.clone())
    }

    fn unpack_parts(packet: Packet) -> Result<Self, CodecError> {
        Ok(Self(packet))
    }
}

struct UnseenContexts;

impl Stream for UnseenContexts {
    type Body = Unseen;
    const ROW: Row = Contexts::ROW;
}

struct Bench {
    source: Child,
    there: Reader,
    here: (Publisher<UnseenContexts>, Reader),
    runtime: tokio::runtime::Runtime,
    buses: [Bus; 2],
}

/// A reader of contexts, and what wakes it.
struct Reader {
    parts: Subscriber<UnseenContexts>,
    waker: Waker,
}

/// Memory of one size that copies go between.
struct Memory {
    from: Vec<Vec<u8>>,
    to: Vec<Vec<u8>>,
}

/// Measures; `progress` is told how many rounds are done.
///
/// # Errors
/// A child that does not start or hangs; contexts that never arrive whole.
pub fn run(
    launcher: &Launcher,
    options: HandoverOptions,
    progress: &mut dyn FnMut(usize),
) -> anyhow::Result<Report> {
    let machine = Machine::read();
    let cores = if 1 < machine.cores { [0, 1] } else { [0, 0] };
    let mut bench = Bench::start(launcher, options, cores)?;
    let sizes = sizes();
    let mut measured: Vec<Measured> = Vec::new();
    for size in &sizes {
        for way in Way::ALL {
            measured.push(Measured {
                way,
                size: *size,
                samples: Samples::default(),
                median_ns: None,
                times_memcpy: f64::INFINITY,
                lost: 0,
                refused: 0,
            });
        }
    }
    for round in 0..WARM_UP + options.rounds {
        for row in &mut measured {
            let ns = bench.measure(row)?;
            if WARM_UP <= round {
                row.samples.push(ns);
            }
        }
        progress((round + 1).saturating_sub(WARM_UP));
    }
    conclude(&mut measured);
    bench.close();
    Ok(Report { machine, measured })
}

/// Both number types at two lengths of prompt.
fn sizes() -> Vec<Size> {
    let mut sizes = Vec::new();
    for (dtype, number_bytes) in [("f32", 4), ("bf16", 2)] {
        for tokens in [200, 400] {
            sizes.push(Size {
                dtype,
                tokens,
                part_bytes: NUMBERS_PER_TOKEN * tokens * number_bytes,
            });
        }
    }
    sizes
}

fn conclude(measured: &mut [Measured]) {
    let copies: Vec<(Size, Option<u64>)> = measured
        .iter()
        .filter(|row| row.way == Way::Memcpy)
        .map(|row| (row.size, row.samples.median()))
        .collect();
    for row in measured {
        let copy = copies.iter().find(|(size, _)| *size == row.size);
        row.median_ns = row.samples.median();
        row.times_memcpy = ratio(row.median_ns, copy.and_then(|(_, ns)| *ns));
    }
}

impl Bench {
    fn start(
        launcher: &Launcher,
        options: HandoverOptions,
        [source_core, own_core]: [usize; 2],
    ) -> anyhow::Result<Self> {
        let endpoint = free_endpoint()?;
        let mib = options.shared_memory_mib.to_string();
        let core = source_core.to_string();
        let arguments = [
            "source",
            "--listen",
            &endpoint,
            "--shared-memory-mib",
            &mib,
            "--core",
            &core,
        ];
        let source = launcher.start(&arguments.map(str::to_owned))?;
        let _there: Published = source.answer(PATIENCE)?;
        pin(own_core)?;
        let runtime = super::runtime()?;
        let bus = runtime.block_on(Bus::zenoh(ZenohConfig {
            connect: vec![endpoint],
            shared_memory_mib: options.shared_memory_mib,
            ..ZenohConfig::default()
        }))?;
        let inside = runtime.block_on(Bus::zenoh(ZenohConfig::default()))?;
        let cell = super::cell()?;
        let mut bench = Self {
            source,
            there: Reader::new(&bus, &cell)?,
            here: (inside.publisher(&cell, "0")?, Reader::new(&inside, &cell)?),
            runtime,
            buses: [bus, inside],
        };
        bench.meet()?;
        Ok(bench)
    }

    /// Sends small contexts until one arrives whole.
    fn meet(&mut self) -> anyhow::Result<()> {
        for _ in 0..1000 {
            let whole = Whole {
                n_bytes: 1,
                shared: false,
                checked: true,
            };
            if self.hand_over(whole)?.is_some() {
                return Ok(());
            }
        }
        anyhow::bail!("the two processes do not meet")
    }

    /// Gives the nanoseconds of one hand-over.
    fn measure(&mut self, row: &mut Measured) -> anyhow::Result<u64> {
        let n_bytes = row.size.part_bytes;
        let (shared, checked) = match row.way {
            Way::Memcpy | Way::MemcpyNew => return Ok(copy(n_bytes, row.way == Way::MemcpyNew)),
            Way::Reference => return self.by_reference(n_bytes),
            Way::Socket => (false, false),
            Way::SocketChecked => (false, true),
            Way::Shared => (true, false),
            Way::SharedChecked => (true, true),
        };
        let whole = Whole {
            n_bytes,
            shared,
            checked,
        };
        for _ in 0..100 {
            if let Some((ns, published)) = self.hand_over(whole)? {
                if shared {
                    row.refused += u64::from(N_PARTS) - published.shared;
                }
                return Ok(ns);
            }
            row.lost += 1;
        }
        anyhow::bail!("100 contexts were lost one after the other")
    }

    /// Lets the source publish a context and takes it; `None` if it did not arrive whole.
    fn hand_over(&mut self, whole: Whole) -> anyhow::Result<Option<(u64, Published)>> {
        self.there.empty();
        self.source.tell(&Order::Context(whole))?;
        let taken = self.runtime.block_on(self.there.take_all(whole.checked));
        let until_ns = SystemClock.now_ns();
        let published: Published = self.source.answer(PATIENCE)?;
        let Some(parts) = taken else {
            return Ok(None);
        };
        for part in &parts {
            ensure!(whole.n_bytes <= part.raw.len(), "a part is too short");
        }
        Ok(Some((
            until_ns.saturating_sub(published.from_ns),
            published,
        )))
    }

    fn by_reference(&mut self, n_bytes: usize) -> anyhow::Result<u64> {
        let (publisher, reader) = &mut self.here;
        reader.empty();
        let mut packets = Vec::new();
        for number in 0..u64::from(N_PARTS) {
            let mut buffer = Buffers::default().take(n_bytes);
            fill(number, &mut buffer);
            packets.push(Packet {
                head: ContextPart::small(&head(0, number, n_bytes)?)?,
                raw: buffer.freeze(),
            });
        }
        let _inside = self.runtime.enter();
        let from_ns = SystemClock.now_ns();
        for packet in packets {
            publisher.put_packed(packet);
        }
        let taken = self.runtime.block_on(reader.take_all(false));
        let until_ns = SystemClock.now_ns();
        taken.context("a part was lost within the process")?;
        Ok(until_ns.saturating_sub(from_ns))
    }

    fn close(self) {
        for bus in &self.buses {
            self.runtime.block_on(bus.close());
        }
    }
}

impl Reader {
    fn new(bus: &Bus, cell: &CellId) -> anyhow::Result<Self> {
        let waker = Waker::new();
        Ok(Self {
            parts: bus.subscriber(cell, "*", Some(waker.clone()))?,
            waker,
        })
    }

    /// Drops what is left of a context that did not arrive whole.
    fn empty(&mut self) {
        while self.parts.try_next().is_some() {}
    }

    /// Takes all parts, and verifies each as it comes if they are checked.
    async fn take_all(&mut self, checked: bool) -> Option<Vec<Packet>> {
        let all = async {
            let mut parts = Vec::new();
            while parts.len() < usize::from(N_PARTS) {
                while let Some(Unseen(packet)) = self.parts.try_next() {
                    if checked && unpack::<Context>(packet.clone()).is_err() {
                        return None;
                    }
                    parts.push(packet);
                }
                if parts.len() < usize::from(N_PARTS) {
                    self.waker.woken().await;
                }
            }
            Some(parts)
        };
        // Parts that are lost never come.
        let patience = Duration::from_millis(500);
        tokio::time::timeout(patience, all).await.ok().flatten()
    }
}

/// Copies a context's bytes, part by part; gives the nanoseconds.
fn copy(n_bytes: usize, into_new: bool) -> u64 {
    let mut memory = Memory::new(n_bytes);
    let from_ns = SystemClock.now_ns();
    if into_new {
        memory.to = memory.from.clone();
    } else {
        for (from, to) in memory.from.iter().zip(&mut memory.to) {
            to.copy_from_slice(from);
        }
    }
    let until_ns = SystemClock.now_ns();
    std::hint::black_box(&memory.to);
    until_ns.saturating_sub(from_ns)
}

impl Memory {
    fn new(n_bytes: usize) -> Self {
        let part = |number| {
            let mut bytes = vec![0; n_bytes];
            fill(number, &mut bytes);
            bytes
        };
        let all = |from: u64| (from..from + u64::from(N_PARTS)).map(part).collect();
        Self {
            from: all(0),
            to: all(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_to_the_copy_of_the_same_size() {
        let row = |way, size, ns| Measured {
            way,
            size,
            samples: Samples { ns: vec![ns] },
            median_ns: None,
            times_memcpy: f64::INFINITY,
            lost: 0,
            refused: 0,
        };
        let [small, .., large] = sizes()[..] else {
            panic!("there is more than one size");
        };
        let mut rows = [
            row(Way::Memcpy, small, 10),
            row(Way::Shared, small, 15),
            row(Way::Memcpy, large, 100),
            row(Way::Shared, large, 110),
        ];
        conclude(&mut rows);
        let ratios = rows.map(|row| row.times_memcpy.to_bits());
        assert_eq!(ratios, [1.0, 1.5, 1.0, 1.1].map(f64::to_bits));
    }

    #[test]
    fn a_layer_of_200_tokens_in_f32_has_1_6_megabytes() {
        assert_eq!(sizes()[0].part_bytes, 1_638_400);
    }
}
