//! Bad bytes on each stream and command, from another process's session: dropped and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_wire::codec::{Body, Packet, VERSION};
use vlad_wire::id::CellId;
use vlad_wire::stream::{
    AcceptedTargets, Chunks, Command, Contexts, EstopCommand, Events, ExecutedActions, Frames,
    Guards, Heartbeats, Joints, LeaseCommand, Observations, ParkCommand, PauseCommand,
    RearmCommand, Requests, ResetCommand, ResumeCommand, STREAMS, SpeedCommand, Stream, Tasks,
    Verdicts,
};
use vlad_wire::text::Name;

use crate::support::http::Server;
use crate::support::process::{Daemon, data_in};
use crate::support::{TempDir, free_port, until};

/// Long enough for an answer that never comes to be given up by the asker alone.
const ASK: Duration = Duration::from_secs(5);

/// What the daemon has dropped, by stream.
fn malformed(server: &Server) -> BTreeMap<String, u64> {
    let metrics = server.get("/metrics").text();
    let rows = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("vlad_stream_malformed_total{stream=\"")?;
        let (stream, count) = rest.split_once("\"} ")?;
        Some((stream.to_owned(), count.parse().unwrap()))
    });
    rows.collect()
}

/// Packets that are no body of the type, each with what is wrong.
fn bad_packets<B: Body>() -> Vec<(&'static str, Packet)> {
    let packet = |head: Vec<u8>| Packet {
        head: head.into(),
        raw: Bytes::new(),
    };
    vec![
        ("nothing", packet(Vec::new())),
        ("noise", packet(vec![0xc1; 64])),
        ("another version", packet(vec![VERSION + 1, 0x90])),
        (
            "a list that claims 4 billion items",
            packet(vec![VERSION, 0xdd, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("trailing bytes", packet(vec![VERSION, 0x90, 0x90, 0x90])),
        (
            "a head that is too long",
            packet(vec![VERSION; B::HEAD_MAX + 1]),
        ),
    ]
}

/// A stranger's session on the bus, and the daemon's own count of what it drops.
struct Stranger<'a> {
    bus: &'a Bus,
    server: &'a Server,
    cell: CellId,
}

impl Stranger<'_> {
    /// Sends a packet until the daemon counts one more; a newest-wins reader may miss some.
    fn counted(&self, row: &str, what: &str, send: impl Fn()) {
        let count = || malformed(self.server)[row];
        let before = count();
        until(&format!("{row}: {what} is counted"), || {
            send();
            (before < count()).then_some(())
        });
    }

    fn stream<S: Stream>(&self, part: &str) -> &'static str {
        let key = S::key(&self.cell, part);
        for (what, packet) in bad_packets::<S::Body>() {
            self.counted(S::ROW.key, what, || {
                self.bus.put_raw(&key, S::ROW.lane, packet.clone()).unwrap();
            });
        }
        S::ROW.key
    }

    fn command<C: Command>(&self) -> &'static str {
        let client = self.bus.client::<C>(&self.cell).unwrap();
        for (what, packet) in bad_packets::<C::Ask>() {
            let mut asked = Vec::new();
            let before = malformed(self.server)[C::ROW.key];
            until(&format!("{}: {what} is counted", C::ROW.key), || {
                if asked.is_empty() {
                    asked.push(client.ask_raw(packet.clone(), ASK));
                }
                (before < malformed(self.server)[C::ROW.key]).then_some(())
            });
        }
        C::ROW.key
    }

    /// Each row of the table; gives those that were tried.
    fn every_row(&self) -> BTreeSet<&'static str> {
        BTreeSet::from([
            self.stream::<Frames>("ego"),
            self.stream::<Joints>(""),
            self.stream::<Tasks>(""),
            self.stream::<Observations>(""),
            self.stream::<Requests>(""),
            self.stream::<Contexts>("head"),
            self.stream::<Chunks>(""),
            self.stream::<AcceptedTargets>(""),
            self.stream::<ExecutedActions>(""),
            self.stream::<Verdicts>(""),
            self.stream::<Guards>(""),
            self.stream::<Events>(""),
            self.stream::<Heartbeats>("brain"),
            self.command::<LeaseCommand>(),
            self.command::<RearmCommand>(),
            self.command::<ResumeCommand>(),
            self.command::<PauseCommand>(),
            self.command::<ParkCommand>(),
            self.command::<SpeedCommand>(),
            self.command::<EstopCommand>(),
            self.command::<ResetCommand>(),
        ])
    }
}

/// The daemon neither falls nor stops, and does its next task.
#[test]
fn bad_bytes_on_each_stream_are_dropped_and_counted() {
    let dir = TempDir::new();
    let endpoint = format!("tcp/127.0.0.1:{}", free_port());
    let daemon = Daemon::start_with(&data_in(&dir), &["--listen", &endpoint]);
    let (server, cell) = (daemon.server(), daemon.cell());
    assert_eq!(malformed(server).values().sum::<u64>(), 0);

    // The session's own threads do the work while the story waits.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = ZenohConfig {
        connect: vec![endpoint],
        ..ZenohConfig::default()
    };
    let bus = runtime.block_on(Bus::zenoh(config)).unwrap();
    until("the stranger is connected", || {
        (0 < bus.peers()).then_some(())
    });
    let stranger = Stranger {
        bus: &bus,
        server,
        cell: Name::new("demo").unwrap(),
    };
    let tried = {
        let _inside = runtime.enter();
        stranger.every_row()
    };
    let table: BTreeSet<_> = STREAMS.iter().map(|row| row.key).collect();
    assert_eq!(tried, table, "a row is not tried");

    assert_eq!(
        server.get("/readyz").status,
        200,
        "{}",
        server.get("/readyz").text()
    );
    assert_eq!(cell.mode(), "armed");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    runtime.block_on(bus.close());
    cell.does("put the red block in the left tray");
    daemon.term();
}
