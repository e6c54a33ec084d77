//! Keys of the index; numbers are big endian, so that the order of keys is the order of things.

use vlad_wire::id::{EpisodeId, TaskId, View};

use crate::record::RecordKind;

/// Bytes of an episode's key: the task's ULID, the attempt.
pub(super) const EPISODE_LEN: usize = 20;
/// Bytes of a record's key: the episode's, the kind, the sequence number.
const RECORD_LEN: usize = EPISODE_LEN + 1 + 8;

/// Key of an episode, and prefix of everything in it.
pub(super) fn episode(id: &EpisodeId) -> [u8; EPISODE_LEN] {
    let mut key = [0; EPISODE_LEN];
    let parts = id
        .task
        .0
        .to_bytes()
        .into_iter()
        .chain(id.attempt.to_be_bytes());
    for (place, byte) in key.iter_mut().zip(parts) {
        *place = byte;
    }
    key
}

/// Reads an episode's key.
pub(super) fn parse_episode(key: &[u8]) -> Option<EpisodeId> {
    let key: &[u8; EPISODE_LEN] = key.try_into().ok()?;
    let (task, attempt) = key.split_last_chunk::<4>()?;
    let task = <[u8; 16]>::try_from(task).ok()?;
    Some(EpisodeId {
        task: TaskId(ulid::Ulid::from_bytes(task)),
        attempt: u32::from_be_bytes(*attempt),
    })
}

/// Key of a record.
pub(super) fn record(id: &EpisodeId, kind: RecordKind, seq: u64) -> [u8; RECORD_LEN] {
    let mut key = [0; RECORD_LEN];
    let parts = episode(id)
        .into_iter()
        .chain([kind.code()])
        .chain(seq.to_be_bytes());
    for (place, byte) in key.iter_mut().zip(parts) {
        *place = byte;
    }
    key
}

/// Key of an image: the episode's, the view's length and name, the number.
pub(super) fn image(id: &EpisodeId, view: &View, n: u64) -> Vec<u8> {
    let name = view.as_str().as_bytes();
    let mut key = episode(id).to_vec();
    // A name has at most 32 bytes.
    key.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    key.extend_from_slice(name);
    key.extend_from_slice(&n.to_be_bytes());
    key
}

/// The number that a record's or an image's key ends with.
pub(super) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>()
        .map(|number| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(task: u128, attempt: u32) -> EpisodeId {
        EpisodeId {
            task: TaskId(ulid::Ulid(task)),
            attempt,
        }
    }

    #[test]
    fn an_episodes_key_reads_back_and_sorts_by_task_then_try() {
        let ids = [id(1, 1), id(1, 2), id(1, 300), id(2, 1), id(1 << 100, 1)];
        assert!(ids.iter().map(episode).is_sorted());
        for id in ids {
            assert_eq!(parse_episode(&episode(&id)), Some(id));
        }
        assert_eq!(parse_episode(b"short"), None);
    }

    #[test]
    fn no_view_is_a_prefix_of_another() {
        let view = |name: &str| -> View { name.parse().unwrap() };
        let (left, wrist) = (view("left"), view("left_wrist"));
        let range = image(&id(1, 1), &left, 0)..=image(&id(1, 1), &left, u64::MAX);
        assert!(range.contains(&image(&id(1, 1), &left, 7)));
        assert!(!range.contains(&image(&id(1, 1), &wrist, 7)));
        assert_eq!(last_number(&image(&id(1, 1), &wrist, 7)), Some(7));
    }
}
