//! Torn tails, flipped bits, full segments.

use proptest::prelude::*;

use super::*;
use crate::temp::TempDir;

const KEYS: [&[u8]; 3] = [b"first", b"second", b"third"];

/// Three entries in segment 0, and where they are.
fn three(dir: &Path) -> Vec<Place> {
    let mut segments = Segments::open(dir).unwrap();
    let place = |(i, key): (u8, &&[u8])| segments.append(key, 1, &vec![i; 1000]).unwrap();
    (0..).zip(&KEYS).map(place).collect()
}

fn length_of(path: &Path) -> usize {
    std::fs::read(path).unwrap().len()
}

#[test]
fn what_was_appended_reads_back_also_after_a_reopen() {
    let temp = TempDir::new();
    let places = three(temp.path());
    let mut segments = Segments::open(temp.path()).unwrap();
    let fourth = segments.append(b"fourth", 2, b"png").unwrap();
    assert_eq!(fourth.segment, 0);
    for (i, (key, place)) in (0..).zip(KEYS.iter().zip(places)) {
        assert_eq!(read(temp.path(), place, key).unwrap(), (1, vec![i; 1000]));
    }
    assert_eq!(
        read(temp.path(), fourth, b"fourth").unwrap(),
        (2, b"png".to_vec())
    );
}

#[test]
fn an_entry_of_another_key_is_refused() {
    let temp = TempDir::new();
    let places = three(temp.path());
    let error = read(temp.path(), places[1], b"first").unwrap_err();
    assert!(error.to_string().contains("another image"), "{error}");
}

#[test]
fn a_flipped_bit_costs_its_entry_and_no_other() {
    let temp = TempDir::new();
    let places = three(temp.path());
    let path = path_of(temp.path(), 0);
    let whole = std::fs::read(&path).unwrap();
    let begin = usize::try_from(places[1].offset).unwrap();
    let length = usize::try_from(places[1].length).unwrap();
    for byte in (begin..begin + 30).chain([begin + length - 1]) {
        let mut bad = whole.clone();
        bad[byte] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        Segments::open(temp.path()).unwrap();
        assert_eq!(length_of(&path), whole.len(), "byte {byte}");
        assert!(
            read(temp.path(), places[1], KEYS[1]).is_err(),
            "byte {byte}"
        );
        assert!(read(temp.path(), places[0], KEYS[0]).is_ok(), "byte {byte}");
        assert!(read(temp.path(), places[2], KEYS[2]).is_ok(), "byte {byte}");
    }
}

#[test]
fn a_torn_tail_is_cut_at_every_length() {
    let temp = TempDir::new();
    let places = three(temp.path());
    let path = path_of(temp.path(), 0);
    let whole = std::fs::read(&path).unwrap();
    let last = usize::try_from(places[2].offset).unwrap();
    for length in [
        last,
        last + 1,
        last + 15,
        last + 16,
        last + 40,
        whole.len() - 1,
    ] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let mut segments = Segments::open(temp.path()).unwrap();
        assert_eq!(length_of(&path), last, "{length}");
        assert!(read(temp.path(), places[1], KEYS[1]).is_ok());
        let error = read(temp.path(), places[2], KEYS[2]).unwrap_err();
        assert!(error.to_string().contains("ends before"), "{error}");
        let again = segments.append(b"again", 1, &[9; 1000]).unwrap();
        assert_eq!(usize::try_from(again.offset).unwrap(), last);
        assert!(read(temp.path(), places[2], KEYS[2]).is_err());
    }
}

#[test]
fn a_full_segment_is_followed_by_the_next() {
    let temp = TempDir::new();
    let image = vec![7; IMAGE_MAX];
    let mut segments = Segments::open(temp.path()).unwrap();
    let places: Vec<_> = (0..9)
        .map(|_| segments.append(b"key", 1, &image).unwrap())
        .collect();
    let numbers: Vec<_> = places.iter().map(|place| place.segment).collect();
    assert_eq!(numbers, [0, 0, 0, 0, 0, 0, 0, 1, 1]);
    assert!(std::fs::metadata(path_of(temp.path(), 0)).unwrap().len() <= SEGMENT_MAX);
    assert_eq!(read(temp.path(), places[8], b"key").unwrap().1, image);
    let error = segments
        .append(b"key", 1, &vec![7; IMAGE_MAX + 1])
        .unwrap_err();
    assert!(matches!(error, SegmentError::TooLong { .. }));
}

#[test]
fn files_of_others_are_left_alone() {
    let temp = TempDir::new();
    for name in ["notes.txt", "7.seg", "x.seg", "000003.seg.bak"] {
        std::fs::write(temp.path().join(name), "x").unwrap();
    }
    let mut segments = Segments::open(temp.path()).unwrap();
    assert_eq!(segments.append(b"key", 1, b"image").unwrap().segment, 0);
}

proptest! {
    /// Whatever a file holds, opening it neither fails nor invents an entry.
    #[test]
    fn any_bytes_can_be_read_through(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(end_of_whole(&bytes), 0);
        let mut behind = bytes;
        behind.extend(entry(b"key", 1, b"image").unwrap());
        prop_assert_eq!(end_of_whole(&behind), behind.len());
    }
}
