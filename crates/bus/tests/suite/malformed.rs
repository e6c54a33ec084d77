//! Whatever bytes arrive on whatever row: they are dropped and counted, and the next good message
//! is read.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::{BufMut, Bytes, BytesMut};
use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::error::BusError;
use vlad_bus::waker::Waker;
use vlad_wire::codec::{Body, Packet};
use vlad_wire::msg::command::Answer;
use vlad_wire::stream::{
    AcceptedTargets, Chunks, Command, Contexts, EstopCommand, Events, ExecutedActions, Frames,
    Guards, Heartbeats, Joints, LeaseCommand, Observations, ParkCommand, PauseCommand,
    RearmCommand, Requests, ResetCommand, ResumeCommand, STREAMS, SpeedCommand, Stream, Tasks,
    Verdicts,
};

use crate::samples::{PATIENCE, Sample, cell, counters, next, prompt_queue, until};

/// Packets that are no body of `B`, each with what is wrong.
fn bad_packets<B: Body + Sample>() -> Vec<(&'static str, Packet)> {
    let good = B::sample().pack().unwrap();
    let with_head = |head: Bytes| Packet {
        head,
        raw: good.raw.clone(),
    };
    let mut other_version = BytesMut::from(&good.head[..]);
    other_version[0] += 1;
    let mut trailing = BytesMut::from(&good.head[..]);
    trailing.put_u8(0);
    let zeros = |n: usize| Bytes::from(vec![0; n]);
    vec![
        (
            "nothing",
            Packet {
                head: Bytes::new(),
                raw: Bytes::new(),
            },
        ),
        ("another version", with_head(other_version.freeze())),
        ("a version and nothing", with_head(good.head.slice(..1))),
        (
            "a cut head",
            with_head(good.head.slice(..good.head.len() - 1)),
        ),
        (
            "another type",
            with_head(Bytes::from_static(b"\x01\xa5vlad!")),
        ),
        (
            "a list that claims 4 billion items",
            with_head(Bytes::from_static(b"\x01\xdd\xff\xff\xff\xff")),
        ),
        ("trailing bytes", with_head(trailing.freeze())),
        ("a head that is too long", with_head(zeros(B::HEAD_MAX + 1))),
        (
            "raw bytes that are too long",
            Packet {
                head: good.head.clone(),
                raw: zeros(B::RAW_MAX + 1),
            },
        ),
    ]
}

async fn stream_survives<S: Stream<Body: Sample + PartialEq + Debug>>(bus: &Bus) -> &'static str {
    let waker = Waker::new();
    let mut subscriber = bus
        .subscriber::<S>(&cell(), "x", Some(waker.clone()))
        .unwrap();
    let key = S::key(&cell(), "x");
    let mut n_bad = 0;
    for (what, packet) in bad_packets::<S::Body>() {
        bus.put_raw(&key, S::ROW.lane, packet).unwrap();
        n_bad += 1;
        until(what, || {
            assert_eq!(subscriber.try_next(), None, "{key}: {what}");
            counters(bus, S::ROW.key).malformed == n_bad
        })
        .await;
    }
    let sample = S::Body::sample();
    bus.publisher::<S>(&cell(), "x").unwrap().put(&sample);
    assert_eq!(next(&mut subscriber, &waker).await, sample, "{key}");
    let seen = counters(bus, S::ROW.key);
    assert_eq!(
        (seen.received, seen.malformed, seen.put),
        (n_bad + 1, n_bad, 1),
        "{key}"
    );
    S::ROW.key
}

async fn command_survives<C>(bus: &Bus) -> &'static str
where
    C: Command<Ask: Sample + PartialEq + Debug, Answer = Answer>,
{
    let mut server = bus.server::<C>(&cell(), None).unwrap();
    let client = bus.client::<C>(&cell()).unwrap();
    for (n_bad, (what, packet)) in (1..).zip(bad_packets::<C::Ask>()) {
        let pending = client.ask_raw(packet, PATIENCE);
        until(what, || {
            assert!(server.try_next().is_none(), "{}: {what}", C::ROW.key);
            counters(bus, C::ROW.key).malformed == n_bad
        })
        .await;
        let answer = tokio::time::timeout(PATIENCE, pending.wait())
            .await
            .unwrap();
        assert!(
            matches!(answer, Err(BusError::NoAnswer)),
            "{}: {what}",
            C::ROW.key
        );
    }
    let pending = client.ask(&C::Ask::sample(), PATIENCE);
    let mut asked = None;
    until("the good ask arrives", || {
        asked = server.try_next();
        asked.is_some()
    })
    .await;
    let asked = asked.unwrap();
    assert_eq!(asked.ask, C::Ask::sample());
    asked.answer(&Answer::sample());
    assert_eq!(pending.wait().await.unwrap(), Answer::sample());
    C::ROW.key
}

macro_rules! each {
    ($claim:ident, $bus:expr, $($row:ty),+) => {
        [$($claim::<$row>($bus).await),+]
    };
}

async fn every_row_survives(bus: &Bus) {
    let mut rows = BTreeSet::new();
    rows.extend(each!(
        stream_survives,
        bus,
        Frames,
        Joints,
        Tasks,
        Observations,
        Requests,
        Contexts,
        Chunks,
        AcceptedTargets,
        ExecutedActions,
        Verdicts,
        Guards,
        Events,
        Heartbeats
    ));
    rows.extend(each!(
        command_survives,
        bus,
        LeaseCommand,
        RearmCommand,
        ResumeCommand,
        PauseCommand,
        ParkCommand,
        SpeedCommand,
        EstopCommand,
        ResetCommand
    ));
    let table: BTreeSet<_> = STREAMS.iter().map(|row| row.key).collect();
    assert_eq!(rows, table, "a row is not tested");
}

#[tokio::test]
async fn every_row_drops_and_counts_malformed_bytes_on_a_queue() {
    every_row_survives(&prompt_queue()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_drops_and_counts_malformed_bytes_on_zenoh() {
    let bus = Bus::zenoh(ZenohConfig::default()).await.unwrap();
    every_row_survives(&bus).await;
    bus.close().await;
}
