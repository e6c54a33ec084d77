//! Stories of episodes, each on real files.

use std::collections::BTreeSet;

use vlad_wire::id::TaskId;

use super::*;
use crate::png;
use crate::temp::TempDir;

fn id(task: u128, attempt: u32) -> EpisodeId {
    EpisodeId {
        task: TaskId(ulid::Ulid(task)),
        attempt,
    }
}

fn meta(id: EpisodeId) -> EpisodeMeta {
    EpisodeMeta {
        id,
        cell: "demo".parse().unwrap(),
        instruction: "put the red block in the left tray".parse().unwrap(),
        epoch: 3,
        seed: 42,
        began_at_ns: 100,
        began_at_ms: 1_767_225_600_000,
        policy: None,
        model_hash: Some(vec![1; 32].into()),
        normaliser_hash: None,
        config_hash: None,
        n_threads: Some(2),
        package: "0.1.0".parse().unwrap(),
    }
}

fn ending() -> Ending {
    Ending {
        outcome: "succeeded".parse().unwrap(),
        reason: None,
        ended_at_ns: 900,
        ended_at_ms: 1_767_225_601_000,
        not_replayable_from_ns: None,
        dropped: 0,
    }
}

fn stamp(at_ns: u64) -> Stamp {
    Stamp {
        at_ns,
        tick: Some(i64::try_from(at_ns).unwrap() - 500),
    }
}

fn packet(text: &str) -> Packet {
    Packet {
        head: Bytes::from(text.to_owned()),
        raw: Bytes::from_static(b"\0raw"),
    }
}

fn image(n: u64, data: ImageData) -> StoredImage {
    let mut head = png::tests::frame(16, 16).head;
    (head.seq, head.captured_at_ns) = (n, 1000 + n);
    StoredImage {
        n,
        head,
        for_context: matches!(data, ImageData::Png(_)),
        data,
    }
}

fn jpeg(n: u64) -> StoredImage {
    image(n, ImageData::Jpeg(vec![7; 3000].into()))
}

fn png_of(n: u64) -> StoredImage {
    let bytes = png::encode_fast(&png::tests::frame(16, 16)).unwrap();
    image(n, ImageData::Png(bytes.into()))
}

fn view() -> View {
    "ego".parse().unwrap()
}

/// An open episode with five executed ticks, an event, two JPEG and a PNG.
fn filled(store: &EpisodeStore, id: EpisodeId) {
    store.begin(&meta(id)).unwrap();
    for i in 0..5 {
        let seq = store.append(
            &id,
            RecordKind::Executed,
            stamp(200 + i),
            &packet(&i.to_string()),
        );
        assert_eq!(seq.unwrap(), i);
    }
    store
        .append(
            &id,
            RecordKind::Event,
            Stamp {
                at_ns: 150,
                tick: None,
            },
            &packet("e"),
        )
        .unwrap();
    for image in [jpeg(10), jpeg(12), png_of(11)] {
        store.append_image(&id, &image).unwrap();
    }
}

fn check_filled(store: &EpisodeStore, id: EpisodeId) {
    let summary = store.get(&id).unwrap();
    assert_eq!(summary.meta, meta(id));
    assert_eq!(
        summary.counts,
        [(RecordKind::Executed, 5), (RecordKind::Event, 1)].into()
    );
    assert_eq!(
        (summary.first_at_ns, summary.last_at_ns),
        (Some(150), Some(1012))
    );
    assert_eq!(summary.duration_ns(), 862);
    let ego = summary.views[&view()];
    assert_eq!(
        (ego.frames, ego.context_frames, ego.first_n, ego.last_n),
        (3, 1, 10, 12)
    );
    let records = store.records(&id, RecordKind::Executed, 3, 100).unwrap();
    let records: Vec<_> = records.into_iter().map(Result::unwrap).collect();
    let want = StoredRecord {
        seq: 3,
        stamp: stamp(203),
        packet: packet("3"),
    };
    assert_eq!((records.len(), &records[0]), (2, &want));
    assert_eq!(store.image(&id, &view(), 12).unwrap(), jpeg(12));
    assert_eq!(store.image(&id, &view(), 11).unwrap(), png_of(11));
    let frames = store.frames(&id, &view(), 11, 100).unwrap();
    let frames: Vec<_> = frames.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        frames.iter().map(|f| (f.n, f.lossless)).collect::<Vec<_>>(),
        [(11, true), (12, false)]
    );
}

#[test]
fn a_finished_episode_is_whole_after_a_reopen() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    filled(&store, id(1, 1));
    check_filled(&store, id(1, 1));
    store.finish(&id(1, 1), &ending()).unwrap();
    drop(store);
    let store = EpisodeStore::open(temp.path()).unwrap();
    check_filled(&store, id(1, 1));
    let summary = store.get(&id(1, 1)).unwrap();
    assert_eq!(
        (summary.state, summary.ending),
        (EpisodeState::Finished, Some(ending()))
    );
    assert!(matches!(
        store.begin(&meta(id(1, 1))),
        Err(EpisodeError::Over(_))
    ));
}

/// Gives every body of the log another layout byte.
fn relabel(store: &EpisodeStore, layout: u8) {
    let Trees {
        heads,
        records,
        images,
        ..
    } = &store.trees;
    for tree in [heads, records, images] {
        let rows: Vec<_> = tree.iter().map(Result::unwrap).collect();
        for (key, value) in rows {
            let kind = value[1];
            let mut body = unseal(&key, kind, &value).unwrap().to_vec();
            body[0] = layout;
            let sealed = seal(&key, kind, &body);
            tree.insert(key, sealed).unwrap();
        }
    }
}

#[test]
fn bodies_of_earlier_builds_are_read_and_those_of_a_newer_layout_are_not() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    filled(&store, id(1, 1));
    store.finish(&id(1, 1), &ending()).unwrap();
    for layout in [1, 2] {
        relabel(&store, layout);
        check_filled(&store, id(1, 1));
        let page = store.list(None, 10).unwrap();
        assert_eq!((page.items.len(), page.damaged), (1, vec![]), "{layout}");
    }
    relabel(&store, 3);
    assert_eq!(store.list(None, 10).unwrap().damaged, [id(1, 1)]);
    let records = store.records(&id(1, 1), RecordKind::Executed, 0, 100);
    assert!(records.unwrap().iter().all(Result::is_err));
    assert!(store.image(&id(1, 1), &view(), 11).is_err());
}

#[test]
fn an_episode_that_was_never_finished_is_recovered() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    filled(&store, id(1, 1));
    store.flush().unwrap();
    drop(store);
    for _ in 0..2 {
        let store = EpisodeStore::open(temp.path()).unwrap();
        check_filled(&store, id(1, 1));
        assert_eq!(store.get(&id(1, 1)).unwrap().state, EpisodeState::Recovered);
        let late = store.append(&id(1, 1), RecordKind::Event, stamp(999), &packet("late"));
        assert!(matches!(late, Err(EpisodeError::NotOpen(_))));
    }
}

#[test]
fn a_restarted_writer_goes_on_with_its_episode() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    filled(&store, id(1, 1));
    store.begin(&meta(id(1, 1))).unwrap();
    let seq = store
        .append(&id(1, 1), RecordKind::Executed, stamp(300), &packet("6"))
        .unwrap();
    assert_eq!(seq, 5);
}

#[test]
fn nothing_is_written_without_an_open_episode() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    let none = id(9, 1);
    let record = store.append(&none, RecordKind::Event, stamp(600), &packet("e"));
    assert!(matches!(record, Err(EpisodeError::NotOpen(_))));
    assert!(matches!(
        store.append_image(&none, &jpeg(1)),
        Err(EpisodeError::NotOpen(_))
    ));
    assert!(matches!(
        store.finish(&none, &ending()),
        Err(EpisodeError::NotOpen(_))
    ));
    assert!(matches!(store.get(&none), Err(EpisodeError::NotFound(_))));
    assert!(matches!(
        store.image(&none, &view(), 1),
        Err(EpisodeError::NotFound(_))
    ));
    let records = store.records(&none, RecordKind::Event, 0, 1);
    assert!(matches!(records, Err(EpisodeError::NotFound(_))));
}

#[test]
fn episodes_are_listed_newest_first_and_pages_meet() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    let ids = [id(1, 1), id(1, 2), id(2, 1), id(300, 1), id(1 << 90, 1)];
    for id in ids {
        store.begin(&meta(id)).unwrap();
        if id.attempt == 1 {
            store.finish(&id, &ending()).unwrap();
        }
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.list(cursor.as_ref(), 2).unwrap();
        seen.extend(page.items.iter().map(|summary| summary.meta.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    seen.reverse();
    assert_eq!(seen, ids);
}

#[test]
fn the_lossless_image_of_a_number_stays() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    store.begin(&meta(id(1, 1))).unwrap();
    for image in [jpeg(10), png_of(10), jpeg(10), png_of(10)] {
        store.append_image(&id(1, 1), &image).unwrap();
    }
    assert_eq!(store.image(&id(1, 1), &view(), 10).unwrap(), png_of(10));
    let ego = store.get(&id(1, 1)).unwrap().views[&view()];
    assert_eq!((ego.frames, ego.context_frames), (1, 1));
}

#[test]
fn a_stored_png_is_served_as_jpeg() {
    let bytes = png_of(1).jpeg(90).unwrap();
    let mut decoder = jpeg_decoder::Decoder::new(bytes.as_ref());
    assert_eq!(decoder.decode().unwrap().len(), 16 * 16 * 3);
    assert_eq!(jpeg(1).jpeg(90).unwrap(), *jpeg(1).data.bytes());
}

/// Every value of every tree with one bit flipped: reads are errors, other values stay readable.
#[test]
fn a_flipped_bit_in_the_index_is_an_error_in_its_place() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    filled(&store, id(1, 1));
    store.finish(&id(1, 1), &ending()).unwrap();
    let bad_key = key::record(&id(1, 1), RecordKind::Executed, 2);
    let good = store.trees.records.get(bad_key).unwrap().unwrap();
    for byte in 0..good.len() {
        let mut bad = good.to_vec();
        bad[byte] ^= 4;
        store.trees.records.insert(bad_key, bad).unwrap();
        let records = store
            .records(&id(1, 1), RecordKind::Executed, 0, 100)
            .unwrap();
        let bad: BTreeSet<_> = (0..)
            .zip(&records)
            .filter(|(_, r)| r.is_err())
            .map(|r| r.0)
            .collect();
        assert_eq!((records.len(), bad), (5, BTreeSet::from([2])));
    }
    let place = key::image(&id(1, 1), &view(), 11);
    let mut bad = store.trees.images.get(&place).unwrap().unwrap().to_vec();
    bad[3] ^= 1;
    store.trees.images.insert(place, bad).unwrap();
    let refused = store.image(&id(1, 1), &view(), 11);
    assert!(matches!(refused, Err(EpisodeError::Damaged { .. })));
    assert!(store.image(&id(1, 1), &view(), 12).is_ok());
    let mut bad = store
        .trees
        .heads
        .get(key::episode(&id(1, 1)))
        .unwrap()
        .unwrap()
        .to_vec();
    bad[40] ^= 1;
    store
        .trees
        .heads
        .insert(key::episode(&id(1, 1)), bad)
        .unwrap();
    assert!(matches!(
        store.get(&id(1, 1)),
        Err(EpisodeError::Damaged { .. })
    ));
    assert_eq!(store.list(None, 10).unwrap().damaged, [id(1, 1)]);
}

#[test]
fn a_flipped_bit_in_a_segment_is_an_error() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    filled(&store, id(1, 1));
    store.finish(&id(1, 1), &ending()).unwrap();
    let file = temp.path().join("episodes/segments/000000.seg");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(
        store.image(&id(1, 1), &view(), 10),
        Err(EpisodeError::Segment(_))
    ));
    assert_eq!(store.image(&id(1, 1), &view(), 12).unwrap(), jpeg(12));
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(
        store.image(&id(1, 1), &view(), 12),
        Err(EpisodeError::Segment(_))
    ));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(
        store.image(&id(1, 1), &view(), 12),
        Err(EpisodeError::Segment(_))
    ));
}

#[test]
fn a_damaged_open_episode_does_not_keep_the_daemon_from_starting() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    filled(&store, id(1, 1));
    store
        .trees
        .heads
        .insert(key::episode(&id(1, 1)), b"garbage")
        .unwrap();
    store.flush().unwrap();
    drop(store);
    let store = EpisodeStore::open(temp.path()).unwrap();
    assert_eq!(store.list(None, 10).unwrap().damaged, [id(1, 1)]);
}

#[test]
fn a_newer_layout_is_refused() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    let tree = store.db.open_tree("layout").unwrap();
    tree.insert("layout", &99_u32.to_be_bytes()).unwrap();
    drop((tree, store));
    let text = EpisodeStore::open(temp.path()).err().unwrap().to_string();
    assert!(text.contains("layout 99"), "{text}");
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    let temp = TempDir::new();
    let store = EpisodeStore::open(temp.path()).unwrap();
    store.begin(&meta(id(1, 1))).unwrap();
    let long = |length| Packet {
        head: Bytes::new(),
        raw: vec![0; length].into(),
    };
    let append = |length| store.append(&id(1, 1), RecordKind::Chunk, stamp(600), &long(length));
    assert_eq!(append(RECORD_MAX).unwrap(), 0);
    assert!(matches!(
        append(RECORD_MAX + 1),
        Err(EpisodeError::TooLong { .. })
    ));
    assert!(store.records(&id(1, 1), RecordKind::Chunk, 0, 1).unwrap()[0].is_ok());
}

#[test]
fn an_index_that_is_still_closing_is_waited_for() {
    let temp = TempDir::new();
    for _ in 0..20 {
        let store = EpisodeStore::open(temp.path()).unwrap();
        store.db.insert("key", "value").unwrap();
        drop(store);
    }
}
