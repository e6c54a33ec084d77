//! The same stories over both links, inside one process.

use std::collections::BTreeSet;
use std::future::Future;

use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::error::BusError;
use vlad_bus::liveliness::{AliveChange, AliveWatch};
use vlad_bus::waker::Waker;
use vlad_wire::id::Role;
use vlad_wire::msg::command::{Answer, Estop};
use vlad_wire::msg::execute::ExecutedTicks;
use vlad_wire::msg::sense::JointState;
use vlad_wire::msg::think::Chunk;
use vlad_wire::stream::{
    Chunks, EstopCommand, Events, ExecutedActions, Frames, Heartbeats, Joints, Keep, LeaseCommand,
    Stream,
};

use crate::samples::{
    PATIENCE, Sample, cell, counters, event, frame, name, next, prompt_queue, until,
};

async fn over_both<F: Future<Output = ()>>(story: impl Fn(Bus) -> F) {
    story(prompt_queue()).await;
    let bus = Bus::zenoh(ZenohConfig::default()).await.unwrap();
    story(bus.clone()).await;
    bus.close().await;
}

async fn next_change(watch: &mut AliveWatch, waker: &Waker) -> AliveChange {
    let wait = async {
        loop {
            if let Some(change) = watch.try_next() {
                return change;
            }
            waker.woken().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("no token came or went")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_every_view_finds_the_newest_frame_of_each() {
    over_both(|bus| async move {
        let mut subscriber = bus.subscriber::<Frames>(&cell(), "*", None).unwrap();
        for view in ["ego", "left", "right"] {
            let publisher = bus.publisher::<Frames>(&cell(), view).unwrap();
            for seq in 1..=5 {
                publisher.put(&frame(view, seq, 4, 2));
            }
        }
        until("all arrive", || {
            counters(&bus, Frames::ROW.key).received == 15
        })
        .await;
        let mut seen = BTreeSet::new();
        while let Some(frame) = subscriber.try_next() {
            assert!(seen.insert((frame.head.view, frame.head.seq)));
        }
        let newest = ["ego", "left", "right"].map(|view| (name(view), 5));
        assert_eq!(seen, BTreeSet::from(newest));
        assert_eq!(counters(&bus, Frames::ROW.key).overwritten, 12);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_one_view_does_not_hear_another() {
    over_both(|bus| async move {
        let waker = Waker::new();
        let mut ego = bus
            .subscriber::<Frames>(&cell(), "ego", Some(waker.clone()))
            .unwrap();
        bus.publisher::<Frames>(&cell(), "left")
            .unwrap()
            .put(&frame("left", 1, 4, 2));
        bus.publisher::<Frames>(&name("other"), "ego")
            .unwrap()
            .put(&frame("ego", 2, 4, 2));
        bus.publisher::<Frames>(&cell(), "ego")
            .unwrap()
            .put(&frame("ego", 3, 4, 2));
        assert_eq!(next(&mut ego, &waker).await.head.seq, 3);
        assert_eq!(counters(&bus, Frames::ROW.key).received, 1);
        assert!(bus.subscriber::<Frames>(&cell(), "ego/**", None).is_err());
        assert!(bus.publisher::<Frames>(&cell(), "*").is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ring_drops_the_oldest_and_counts_them() {
    over_both(|bus| async move {
        let mut subscriber = bus.subscriber::<Chunks>(&cell(), "", None).unwrap();
        let publisher = bus.publisher::<Chunks>(&cell(), "").unwrap();
        let Keep::Ring(n) = Chunks::ROW.keep else {
            panic!("chunks are kept in a ring")
        };
        let n_put = u64::from(n) + 3;
        for seq in 1..=n_put {
            let mut chunk = Chunk::sample();
            chunk.head.seq = seq;
            publisher.put(&chunk);
        }
        until("all arrive", || {
            counters(&bus, Chunks::ROW.key).received == n_put
        })
        .await;
        for seq in 4..=n_put {
            assert_eq!(subscriber.try_next().map(|chunk| chunk.head.seq), Some(seq));
        }
        assert!(subscriber.try_next().is_none());
        let seen = counters(&bus, Chunks::ROW.key);
        assert_eq!((seen.overwritten, seen.malformed, seen.put), (3, 0, n_put));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_gone_hears_nothing() {
    over_both(|bus| async move {
        let subscriber = bus.subscriber::<Events>(&cell(), "", None).unwrap();
        let publisher = bus.publisher::<Events>(&cell(), "").unwrap();
        drop(subscriber);
        let waker = Waker::new();
        let mut other = bus
            .subscriber::<Events>(&cell(), "", Some(waker.clone()))
            .unwrap();
        publisher.put(&event(1));
        next(&mut other, &waker).await;
        assert_eq!(counters(&bus, Events::ROW.key).received, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_readers_would_drop_is_not_sent_but_counted() {
    over_both(|bus| async move {
        let mut subscriber = bus.subscriber::<Joints>(&cell(), "", None).unwrap();
        let publisher = bus.publisher::<Joints>(&cell(), "").unwrap();
        publisher.put(&JointState {
            position: vec![0.5; 5000],
            ..JointState::sample()
        });
        assert!(subscriber.try_next().is_none());
        let seen = counters(&bus, Joints::ROW.key);
        assert_eq!((seen.put_failed, seen.put, seen.received), (1, 0, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_read_as_it_was_put() {
    over_both(|bus| async move {
        let waker = Waker::new();
        let mut executed = bus
            .subscriber::<ExecutedActions>(&cell(), "", Some(waker.clone()))
            .unwrap();
        bus.publisher::<ExecutedActions>(&cell(), "")
            .unwrap()
            .put(&ExecutedTicks::sample());
        assert_eq!(next(&mut executed, &waker).await, ExecutedTicks::sample());

        let mut frames = bus
            .subscriber::<Frames>(&cell(), "*", Some(waker.clone()))
            .unwrap();
        let sent = frame("ego", 9, 640, 480);
        bus.publisher::<Frames>(&cell(), "ego").unwrap().put(&sent);
        let got = next(&mut frames, &waker).await;
        assert_eq!(got, sent);
        // Inside one process pixels are handed over, not copied.
        assert_eq!(got.pixels.as_ptr(), sent.pixels.as_ptr());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_answered() {
    over_both(|bus| async move {
        let waker = Waker::new();
        let mut server = bus
            .server::<EstopCommand>(&cell(), Some(waker.clone()))
            .unwrap();
        let client = bus.client::<EstopCommand>(&cell()).unwrap();
        let mut pending = client.ask(&Estop::sample(), PATIENCE);
        assert!(pending.try_take().is_none());
        let mut asked = None;
        until("the ask arrives", || {
            asked = server.try_next();
            asked.is_some()
        })
        .await;
        let asked = asked.unwrap();
        assert_eq!(asked.ask, Estop::sample());
        asked.answer(&Answer::sample());
        let answer = tokio::time::timeout(PATIENCE, pending.wait())
            .await
            .unwrap();
        assert_eq!(answer.unwrap(), Answer::sample());
        tokio::time::timeout(PATIENCE, waker.woken())
            .await
            .expect("the server was not woken");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_taken_once() {
    over_both(|bus| async move {
        let mut server = bus.server::<EstopCommand>(&cell(), None).unwrap();
        let client = bus.client::<EstopCommand>(&cell()).unwrap();
        let mut pending = client.ask(&Estop::sample(), PATIENCE);
        let mut taken = None;
        until("the answer arrives", || {
            if let Some(asked) = server.try_next() {
                asked.answer(&Answer::sample());
            }
            taken = pending.try_take();
            taken.is_some()
        })
        .await;
        assert!(matches!(taken, Some(Ok(_))));
        assert!(pending.try_take().is_none());
        assert!(matches!(pending.wait().await, Err(BusError::NoAnswer)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_there_is_no_answer() {
    over_both(|bus| async move {
        let _other = bus.server::<LeaseCommand>(&cell(), None).unwrap();
        let _elsewhere = bus.server::<EstopCommand>(&name("other"), None).unwrap();
        let client = bus.client::<EstopCommand>(&cell()).unwrap();
        let pending = client.ask(&Estop::sample(), PATIENCE);
        let answer = tokio::time::timeout(PATIENCE, pending.wait())
            .await
            .unwrap();
        assert!(matches!(answer, Err(BusError::NoAnswer)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drops_an_ask_does_not_keep_the_asker_waiting() {
    over_both(|bus| async move {
        let mut server = bus.server::<EstopCommand>(&cell(), None).unwrap();
        let client = bus.client::<EstopCommand>(&cell()).unwrap();
        let pending = client.ask(&Estop::sample(), PATIENCE);
        until("the ask arrives", || server.try_next().is_some()).await;
        let answer = tokio::time::timeout(PATIENCE, pending.wait())
            .await
            .unwrap();
        assert!(matches!(answer, Err(BusError::NoAnswer)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_beyond_the_servers_ring_get_no_answer_at_once() {
    over_both(|bus| async move {
        let mut server = bus.server::<EstopCommand>(&cell(), None).unwrap();
        let client = bus.client::<EstopCommand>(&cell()).unwrap();
        let mut pending: Vec<_> = (0..17)
            .map(|_| client.ask(&Estop::sample(), PATIENCE))
            .collect();
        let first = pending.remove(0);
        let answer = tokio::time::timeout(PATIENCE, first.wait()).await.unwrap();
        assert!(matches!(answer, Err(BusError::NoAnswer)));
        let mut n_asked = 0;
        until("the others arrive", || {
            n_asked += usize::from(server.try_next().is_some());
            n_asked == 16
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_seen_whenever_they_came_and_when_they_go() {
    over_both(|bus| async move {
        let early = bus.declare_alive(&cell(), Role::Brain, 1).unwrap();
        let waker = Waker::new();
        let mut watch = bus.watch_alive(&cell(), Some(waker.clone())).unwrap();
        let change = |role, session, alive| AliveChange {
            role,
            session,
            alive,
        };
        assert_eq!(
            next_change(&mut watch, &waker).await,
            change(Role::Brain, 1, true)
        );
        let late = bus.declare_alive(&cell(), Role::ActionExpert, 2).unwrap();
        assert_eq!(
            next_change(&mut watch, &waker).await,
            change(Role::ActionExpert, 2, true)
        );
        drop(early);
        assert_eq!(
            next_change(&mut watch, &waker).await,
            change(Role::Brain, 1, false)
        );
        drop(late);
        assert_eq!(
            next_change(&mut watch, &waker).await,
            change(Role::ActionExpert, 2, false)
        );
        assert_eq!(watch.try_next(), None);
        assert_eq!(bus.peers(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_heartbeat_of_each_role_is_kept() {
    over_both(|bus| async move {
        let mut all = bus.subscriber::<Heartbeats>(&cell(), "*", None).unwrap();
        for role in Role::ALL {
            let publisher = bus.publisher::<Heartbeats>(&cell(), role.name()).unwrap();
            for seq in 1..=3 {
                let mut alive = <Heartbeats as Stream>::Body::sample();
                (alive.role, alive.seq) = (role, seq);
                publisher.put(&alive);
            }
        }
        until("all arrive", || {
            counters(&bus, Heartbeats::ROW.key).received == 18
        })
        .await;
        let kept: Vec<_> = std::iter::from_fn(|| all.try_next())
            .map(|alive| (alive.role, alive.seq))
            .collect();
        assert_eq!(kept, Role::ALL.map(|role| (role, 3)));
    })
    .await;
}
