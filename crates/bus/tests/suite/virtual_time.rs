//! The queue delivers by virtual time, and the same way every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, proptest};
use vlad_bus::bus::Bus;
use vlad_bus::error::BusError;
use vlad_bus::travel::Travel;
use vlad_wire::clock::{MS, ManualClock};
use vlad_wire::codec::Body;
use vlad_wire::msg::command::{Answer, Estop};
use vlad_wire::msg::sense::JointState;
use vlad_wire::stream::{EstopCommand, Events, Frames, Joints, Lane, Stream};

use crate::samples::{Sample, cell, counters, event, frame};

fn slow_bus(delay_ns: u64) -> (Bus, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (Bus::queue(clock.clone(), move |_| delay_ns), clock)
}

#[test]
fn a_message_is_visible_from_its_delivery_time_on() {
    let (bus, clock) = slow_bus(5 * MS);
    clock.advance_to(MS);
    let mut subscriber = bus.subscriber::<Events>(&cell(), "", None).unwrap();
    bus.publisher::<Events>(&cell(), "").unwrap().put(&event(1));
    clock.advance_to(6 * MS - 1);
    assert_eq!(subscriber.try_next(), None);
    clock.advance_to(6 * MS);
    assert_eq!(subscriber.try_next(), Some(event(1)));
    assert_eq!(subscriber.try_next(), None);
}

#[test]
fn each_row_has_its_own_delay_also_for_raw_bytes() {
    let clock = Arc::new(ManualClock::default());
    let bus = Bus::queue(clock.clone(), |row| match row.lane {
        Lane::Control => MS,
        Lane::Bulk => 3 * MS,
    });
    let mut joints = bus.subscriber::<Joints>(&cell(), "", None).unwrap();
    let mut frames = bus.subscriber::<Frames>(&cell(), "*", None).unwrap();
    bus.publisher::<Frames>(&cell(), "ego")
        .unwrap()
        .put(&frame("ego", 1, 4, 2));
    let packet = JointState::sample().pack().unwrap();
    bus.put_raw(&Joints::key(&cell(), ""), Lane::Control, packet)
        .unwrap();
    clock.advance_to(MS);
    assert_eq!(joints.try_next(), Some(JointState::sample()));
    assert!(frames.try_next().is_none());
    clock.advance_to(3 * MS);
    assert!(frames.try_next().is_some());
}

#[test]
fn an_endless_delay_loses_the_message() {
    let (bus, clock) = slow_bus(u64::MAX);
    let mut subscriber = bus.subscriber::<Events>(&cell(), "", None).unwrap();
    bus.publisher::<Events>(&cell(), "").unwrap().put(&event(1));
    clock.advance_to(u64::MAX);
    assert_eq!(subscriber.try_next(), None);
}

/// The first message is slow and the second is doubled: copies come in the order of their times,
/// and the copy of one time after its message.
#[test]
fn a_travel_of_its_own_for_each_message_reorders_and_doubles() {
    let clock = Arc::new(ManualClock::default());
    let n_put = AtomicU64::new(0);
    let bus = Bus::travelling(clock.clone(), move |_| {
        match n_put.fetch_add(1, Ordering::Relaxed) {
            0 => Travel::once(5),
            1 => Travel {
                after_ns: 2,
                twin_after_ns: Some(9),
            },
            2 => Travel {
                after_ns: 6,
                twin_after_ns: Some(6),
            },
            _ => Travel::once(u64::MAX),
        }
    });
    let mut subscriber = bus.subscriber::<Events>(&cell(), "", None).unwrap();
    let publisher = bus.publisher::<Events>(&cell(), "").unwrap();
    (1..=4).for_each(|n| publisher.put(&event(n)));
    let mut seen = Vec::new();
    for now_ns in 1..=10 {
        clock.advance_to(now_ns);
        let news = std::iter::from_fn(|| subscriber.try_next());
        seen.extend(news.map(|event| (now_ns, event.at_ns)));
    }
    assert_eq!(seen, [(2, 2), (5, 1), (6, 3), (6, 3), (9, 2)]);
}

#[test]
fn a_reader_that_never_asks_does_not_fill_the_memory() {
    let (bus, clock) = slow_bus(MS);
    let mut subscriber = bus.subscriber::<Events>(&cell(), "", None).unwrap();
    let publisher = bus.publisher::<Events>(&cell(), "").unwrap();
    for n in 0..10_000 {
        publisher.put(&event(n));
    }
    clock.advance_to(MS);
    let kept: Vec<_> = std::iter::from_fn(|| subscriber.try_next())
        .map(|e| e.at_ns)
        .collect();
    assert_eq!(kept, (9_744..10_000).collect::<Vec<_>>());
    assert_eq!(counters(&bus, Events::ROW.key).overwritten, 9_744);
}

#[test]
fn ask_and_answer_travel_in_virtual_time() {
    let (bus, clock) = slow_bus(2 * MS);
    let mut server = bus.server::<EstopCommand>(&cell(), None).unwrap();
    let client = bus.client::<EstopCommand>(&cell()).unwrap();
    let mut pending = client.ask(&Estop::sample(), Duration::from_millis(100));
    clock.advance_to(2 * MS - 1);
    assert!(server.try_next().is_none());
    clock.advance_to(2 * MS);
    server.try_next().unwrap().answer(&Answer::sample());
    clock.advance_to(4 * MS - 1);
    assert!(pending.try_take().is_none());
    clock.advance_to(4 * MS);
    assert_eq!(pending.try_take().unwrap().unwrap(), Answer::sample());
}

#[test]
fn an_ask_ends_when_its_time_is_up() {
    let (bus, clock) = slow_bus(2 * MS);
    let mut server = bus.server::<EstopCommand>(&cell(), None).unwrap();
    let client = bus.client::<EstopCommand>(&cell()).unwrap();
    let mut silent = client.ask(&Estop::sample(), Duration::from_millis(3));
    let mut late = client.ask(&Estop::sample(), Duration::from_millis(3));
    let mut timely = client.ask(&Estop::sample(), Duration::from_millis(4));
    clock.advance_to(2 * MS);
    let _kept_unanswered = server.try_next().unwrap();
    server.try_next().unwrap().answer(&Answer::sample());
    server.try_next().unwrap().answer(&Answer::sample());
    clock.advance_to(3 * MS - 1);
    assert!(silent.try_take().is_none());
    // Also an answer that was under way when the time was up does not come after it.
    clock.advance_to(5 * MS);
    assert!(matches!(silent.try_take(), Some(Err(BusError::NoAnswer))));
    assert!(matches!(late.try_take(), Some(Err(BusError::NoAnswer))));
    assert!(matches!(timely.try_take(), Some(Ok(_))));
}

#[test]
fn a_lost_ask_ends_by_the_clock_only() {
    let (bus, clock) = slow_bus(u64::MAX);
    let _server = bus.server::<EstopCommand>(&cell(), None).unwrap();
    let client = bus.client::<EstopCommand>(&cell()).unwrap();
    let mut pending = client.ask(&Estop::sample(), Duration::from_millis(3));
    assert!(pending.try_take().is_none());
    clock.advance_to(3 * MS);
    assert!(matches!(pending.try_take(), Some(Err(BusError::NoAnswer))));
}

proptest! {
    /// Puts with any delays, between any steps of the clock, come in the order of delivery time
    /// and then of putting, none early and none missing.
    #[test]
    fn messages_come_by_delivery_time_then_by_order_of_putting(
        steps in vec((0_u64..5, 0_u64..5, any::<bool>()), 1..100),
    ) {
        let clock = Arc::new(ManualClock::default());
        let delay = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&delay);
        let bus = Bus::queue(clock.clone(), move |_| shared.load(Ordering::Relaxed));
        let mut subscriber = bus.subscriber::<Events>(&cell(), "", None).unwrap();
        let publisher = bus.publisher::<Events>(&cell(), "").unwrap();
        let mut under_way: Vec<(u64, u64)> = Vec::new();
        let mut now_ns = 0;
        for (n, (step_ns, delay_ns, reads)) in (0..).zip(steps) {
            now_ns += step_ns;
            clock.advance_to(now_ns);
            delay.store(delay_ns, Ordering::Relaxed);
            publisher.put(&event(n));
            under_way.push((now_ns + delay_ns, n));
            if reads {
                under_way.sort_unstable();
                let n_due = under_way.partition_point(|(due_ns, _)| *due_ns <= now_ns);
                let due: Vec<_> = under_way.drain(..n_due).map(|(_, n)| n).collect();
                let got: Vec<_> =
                    std::iter::from_fn(|| subscriber.try_next()).map(|e| e.at_ns).collect();
                prop_assert_eq!(got, due);
            }
        }
    }
}
