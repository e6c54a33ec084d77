//! Large bodies in memory that two sessions share, and every way in which they are not shared.

use bytes::Bytes;
use tokio::sync::Mutex;
use vlad_bus::buffer::{BufferCounters, Buffers};
use vlad_bus::bus::Bus;
use vlad_bus::publisher::Publisher;
use vlad_bus::subscriber::Subscriber;
use vlad_bus::waker::Waker;
use vlad_wire::codec::{Body, Packet};
use vlad_wire::msg::think::{Context, ContextPart, DType, PartData, PartHead};
use vlad_wire::stream::{Contexts, Frames, Stream};

use crate::peers::{AGAIN, close, pair_sharing, tcp_endpoint};
use crate::samples::{PATIENCE, cell, counters, frame, name, next, prompt_queue};

/// Of a part; a pool of a mebibyte holds ten of them.
const LARGE: usize = 100 * 1024;

/// One story at a time: together they would lock more into memory than a user may, often 8 MiB.
static PLACE: Mutex<()> = Mutex::const_new(());

fn head(index: u16, n_bytes: usize) -> PartHead {
    PartHead {
        request_id: 1,
        index,
        name: name("layer"),
        dtype: DType::Bytes,
        shape: vec![u32::try_from(n_bytes).unwrap()],
        thinking: 1,
        ready_at_ns: 1,
    }
}

/// A part whose bytes are all its index, packed in place.
fn filled(buffers: &Buffers, index: u16, n_bytes: usize) -> Packet {
    let small = ContextPart::small(&head(index, n_bytes)).unwrap();
    let mut buffer = buffers.take(n_bytes + ContextPart::SEAL);
    buffer[..n_bytes].fill(index.to_le_bytes()[0]);
    ContextPart::seal(&small, &mut buffer).unwrap();
    Packet {
        head: small,
        raw: buffer.freeze(),
    }
}

/// A publisher and a reader that know each other.
async fn meet(from: &Bus, to: &Bus) -> (Publisher<Contexts>, Subscriber<Contexts>, Waker) {
    let waker = Waker::new();
    let mut reader = to
        .subscriber::<Contexts>(&cell(), "*", Some(waker.clone()))
        .unwrap();
    let publisher = from.publisher::<Contexts>(&cell(), "0").unwrap();
    let known = async {
        while reader.try_next().is_none() {
            publisher.put_packed(filled(&Buffers::default(), 0, 1));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, known)
        .await
        .expect("they do not meet");
    // Whatever was on the way behind the first one.
    let part = || filled(&Buffers::default(), 1, 1);
    deliver(&publisher, (&mut reader, &waker), part).await;
    (publisher, reader, waker)
}

/// Puts a part until it arrives: on a busy machine a message may be lost. Gives it, and how often it
/// was put.
async fn deliver(
    publisher: &Publisher<Contexts>,
    (reader, waker): (&mut Subscriber<Contexts>, &Waker),
    part: impl Fn() -> Packet,
) -> (Context, u64) {
    let mut n_put = 0;
    let arrives = async {
        loop {
            let packet = part();
            let sent = packet.head.clone();
            publisher.put_packed(packet);
            n_put += 1;
            // Late is as good as woken: the loop looks again.
            let _ = tokio::time::timeout(AGAIN, waker.woken()).await;
            while let Some(got) = reader.try_next() {
                // Copies of the part before it may come late.
                if small_of(&got) == sent {
                    return got;
                }
            }
        }
    };
    let got = tokio::time::timeout(PATIENCE, arrives).await;
    (got.expect("nothing arrived"), n_put)
}

fn small_of(context: &Context) -> Bytes {
    let Context::Part(part) = context else {
        panic!("a part was sent, and a head came");
    };
    ContextPart::small(&part.head).unwrap()
}

fn index_of(context: &Context) -> u16 {
    let Context::Part(part) = context else {
        panic!("a part was sent, and a head came");
    };
    part.head.index
}

fn bytes_of(context: &Context) -> &[u8] {
    let Context::Part(ContextPart {
        data: PartData::Bytes(bytes),
        ..
    }) = context
    else {
        panic!("bytes were sent, and something else came");
    };
    bytes
}

/// Put in shared memory, received in shared memory.
fn n_shared(from: &Bus, to: &Bus) -> (u64, u64) {
    (
        counters(from, Contexts::ROW.key).put_shared,
        counters(to, Contexts::ROW.key).received_shared,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_filled_in_place_is_read_in_place() {
    let _place = PLACE.lock().await;
    let (left, right) = pair_sharing(&tcp_endpoint(), [1, 1]).await;
    let (publisher, mut reader, waker) = meet(&left, &right).await;
    let buffers = left.buffers();
    assert!(buffers.are_shared());
    let mut n_put = 0;
    for index in 2..40 {
        let part = || filled(&buffers, index, LARGE);
        let (got, times) = deliver(&publisher, (&mut reader, &waker), part).await;
        n_put += times;
        assert_eq!(index_of(&got), index);
        assert!(bytes_of(&got) == vec![index.to_le_bytes()[0]; LARGE]);
    }
    // Every piece was free again in time: 3.7 MiB went through 1.
    let all_shared = BufferCounters {
        shared: n_put,
        refused: 0,
    };
    assert_eq!(buffers.counters(), all_shared);
    let (put, received) = n_shared(&left, &right);
    assert!(
        put == n_put && 38 <= received,
        "{put} {received} of {n_put}"
    );
    close([&left, &right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_shared_memory_is_sent_a_copy() {
    let _place = PLACE.lock().await;
    let (left, right) = pair_sharing(&tcp_endpoint(), [1, 0]).await;
    let (publisher, mut reader, waker) = meet(&left, &right).await;
    let part = || filled(&left.buffers(), 2, LARGE);
    let (got, n_put) = deliver(&publisher, (&mut reader, &waker), part).await;
    assert!(bytes_of(&got) == vec![2; LARGE]);
    assert_eq!(n_shared(&left, &right), (n_put, 0));
    close([&left, &right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_gives_buffers_of_the_heap_which_arrive_too() {
    let _place = PLACE.lock().await;
    let (left, right) = pair_sharing(&tcp_endpoint(), [1, 1]).await;
    let (publisher, mut reader, waker) = meet(&left, &right).await;
    let buffers = left.buffers();
    let mut held = Vec::new();
    for index in 2..20 {
        let part = || filled(&buffers, index, LARGE);
        held.push(deliver(&publisher, (&mut reader, &waker), part).await.0);
    }
    let BufferCounters { shared, refused } = buffers.counters();
    assert!(0 < refused && 0 < shared, "{shared} {refused}");
    // Nothing that is held was used again.
    for (got, index) in held.iter().zip(2_u8..) {
        assert!(bytes_of(got) == vec![index; LARGE]);
    }
    drop(held);
    let part = || filled(&buffers, 20, LARGE);
    deliver(&publisher, (&mut reader, &waker), part).await;
    // There is room again.
    assert_eq!(buffers.counters().refused, refused);
    close([&left, &right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_filled_in_a_shared_buffer_does_not_go_through_shared_memory() {
    let _place = PLACE.lock().await;
    let (left, right) = pair_sharing(&tcp_endpoint(), [1, 1]).await;
    let (publisher, mut reader, waker) = meet(&left, &right).await;
    let part = || filled(&Buffers::default(), 2, LARGE);
    deliver(&publisher, (&mut reader, &waker), part).await;
    // A part of a buffer is not the buffer.
    let part = || {
        let whole = filled(&left.buffers(), 3, LARGE);
        let raw = [b"x", &whole.raw[..]].concat();
        let mut buffer = left.buffers().take(raw.len());
        buffer.copy_from_slice(&raw);
        Packet {
            head: whole.head,
            raw: buffer.freeze().slice(1..),
        }
    };
    let (got, _) = deliver(&publisher, (&mut reader, &waker), part).await;
    assert_eq!(index_of(&got), 3);
    assert_eq!(n_shared(&left, &right), (0, 0));

    let arrival = Waker::new();
    let mut frames = right
        .subscriber::<Frames>(&cell(), "*", Some(arrival.clone()))
        .unwrap();
    let images = left.publisher::<Frames>(&cell(), "ego").unwrap();
    let sent = frame("ego", 1, 640, 480);
    let arrives = async {
        loop {
            images.put(&sent);
            if let Some(got) = frames.try_next() {
                return got;
            }
            tokio::task::yield_now().await;
        }
    };
    let got = tokio::time::timeout(PATIENCE, arrives).await.unwrap();
    assert!(got == sent);
    assert_eq!(counters(&right, Frames::ROW.key).received_shared, 0);
    close([&left, &right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_peer_to_share_with_buffers_are_of_the_heap() {
    let alone = Bus::zenoh(vlad_bus::config::ZenohConfig {
        shared_memory_mib: 1,
        ..vlad_bus::config::ZenohConfig::default()
    });
    let alone = alone.await.unwrap();
    for bus in [&alone, &prompt_queue()] {
        assert!(!bus.buffers().are_shared());
        let (publisher, mut reader, waker) = meet(bus, bus).await;
        publisher.put_packed(filled(&bus.buffers(), 2, LARGE));
        let got = next(&mut reader, &waker).await;
        assert!(bytes_of(&got) == vec![2; LARGE]);
        assert_eq!(n_shared(bus, bus), (0, 0));
    }
    alone.close().await;
}

#[tokio::test]
async fn a_packed_body_beyond_the_bounds_of_its_stream_is_not_sent() {
    let bus = prompt_queue();
    let publisher = bus.publisher::<Contexts>(&cell(), "0").unwrap();
    publisher.put_packed(filled(&bus.buffers(), 2, Context::RAW_MAX));
    let seen = counters(&bus, Contexts::ROW.key);
    assert_eq!((seen.put, seen.put_failed), (0, 1));
}
