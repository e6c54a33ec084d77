//! Marks episodes whose writer died, with counts taken from what is there.

use vlad_wire::id::EpisodeId;

use super::{EpisodeError, Trees, image_entry, key, read_head, read_record};
use crate::episode::{EpisodeState, EpisodeSummary};
use crate::record::RecordKind;

/// Marks every episode that is still open as recovered.
pub(super) fn mark_recovered(trees: &Trees) -> Result<(), EpisodeError> {
    for marker in &trees.open {
        let (key, _) = marker?;
        if let Some(id) = key::parse_episode(&key) {
            recover(trees, &id)?;
        }
        trees.open.remove(key)?;
    }
    Ok(())
}

fn recover(trees: &Trees, id: &EpisodeId) -> Result<(), EpisodeError> {
    // The writer may have died between marker and head: then there is nothing of it.
    let Some(value) = trees.heads.get(key::episode(id))? else {
        return Ok(());
    };
    let summary = match read_head(id, &value) {
        Ok(summary) if summary.state == EpisodeState::Open => summary,
        Ok(_) => return Ok(()),
        Err(error) => {
            // It stays, and is listed as damaged; the daemon starts all the same.
            tracing::error!(episode = %id, %error, "cannot recover an episode");
            return Ok(());
        }
    };
    let mut summary = EpisodeSummary::new(summary.meta);
    summary.state = EpisodeState::Recovered;
    for kind in RecordKind::ALL {
        count_records(trees, &mut summary, kind)?;
    }
    count_images(trees, &mut summary)?;
    tracing::warn!(episode = %id, "recovered an episode that was never finished");
    trees.put_head(&summary)
}

/// Takes a kind's count from its last key, and stamps from its first and last record.
fn count_records(
    trees: &Trees,
    summary: &mut EpisodeSummary,
    kind: RecordKind,
) -> Result<(), EpisodeError> {
    let id = summary.meta.id;
    let mut rows = trees
        .records
        .range(key::record(&id, kind, 0)..=key::record(&id, kind, u64::MAX));
    let (first, last) = (rows.next().transpose()?, rows.next_back().transpose()?);
    for (key, value) in first.into_iter().chain(last) {
        let Some(seq) = key::last_number(&key) else {
            continue;
        };
        summary.counts.insert(kind, seq.saturating_add(1));
        if let Ok(record) = read_record(&key, kind, seq, &value) {
            summary.saw(record.stamp.at_ns);
        }
    }
    Ok(())
}

fn count_images(trees: &Trees, summary: &mut EpisodeSummary) -> Result<(), EpisodeError> {
    let id = summary.meta.id;
    for row in trees.images.scan_prefix(key::episode(&id)) {
        let (key, value) = row?;
        let Some(n) = key::last_number(&key) else {
            continue;
        };
        if let Ok(entry) = image_entry(&id, &key, &value) {
            summary.saw_image(n, &entry.head, entry.for_context);
        }
    }
    Ok(())
}
