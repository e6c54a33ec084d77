//! Lists what manifest, checkpoint and cell do not agree on.

use vlad_wire::manifest::{ActionRepresentation, CellShape, Manifest};
use vlad_wire::robot_type::RobotType;
use vlad_xr0::checkpoint::Checkpoint;
use vlad_xr0::checkpoint::digest::hex;
use vlad_xr0::error::Error;
use vlad_xr0::normaliser::Normaliser;
use vlad_xr0::prompt::check;
use vlad_xr0::self_test::SelfTest;

use super::{FILE, images};

/// Lists what is wrong with the manifest alone, and what this build does not do.
pub(super) fn own_faults(manifest: &Manifest) -> Vec<String> {
    let mut faults: Vec<_> = manifest.faults().iter().map(ToString::to_string).collect();
    let mut demand = |holds: bool, problem: &str| {
        if !holds {
            faults.push(problem.to_owned());
        }
    };
    demand(
        manifest.flow,
        "flow: must be true, the network integrates a flow",
    );
    in_file(&faults)
}

/// Lists what keeps the checkpoint from driving a cell.
pub(super) fn cell_faults(manifest: &Manifest, cell: &CellShape) -> Vec<String> {
    let found = manifest.mismatches(cell);
    let mut faults: Vec<_> = found.iter().map(ToString::to_string).collect();
    match manifest.action_representation {
        Some(ActionRepresentation::JointAbsolute | ActionRepresentation::JointDelta) | None => {}
        Some(ActionRepresentation::EefDelta | ActionRepresentation::StepDelta) => {
            let problem = "action_representation: joint_absolute and joint_delta alone drive a \
                           cell in this build";
            faults.push(problem.to_owned());
        }
    }
    in_file(&faults)
}

/// Lists what manifest and checkpoint do not agree on. Reads the weights if their hash is pinned.
pub(super) fn checkpoint_faults(
    manifest: &Manifest,
    checkpoint: &Checkpoint,
) -> Result<Vec<String>, Error> {
    let robot_types = manifest.robot_types.iter();
    let mut faults: Vec<_> = robot_types
        .flat_map(|robot_type| robot_type_faults(manifest, robot_type, checkpoint))
        .collect();
    faults.extend(label_faults(manifest, checkpoint));
    faults.extend(images::faults(manifest, checkpoint.preprocessor()));
    if let Some(test) = &manifest.self_test {
        // Its name was judged with the manifest: nothing outside the folder is read.
        let inside = manifest.faults().is_empty();
        let opened =
            inside.then(|| SelfTest::open(&checkpoint.dir().join(&test.file), &test.sha256));
        let refused = opened.and_then(Result::err);
        faults.extend(refused.map(|error| format!("self_test: {error}")));
    }
    if let Some(pinned) = &manifest.model_sha256 {
        let digest = checkpoint.model_digest()?;
        faults.extend(pin_fault("model_sha256", pinned, &digest));
    }
    if let Some(pinned) = &manifest.normaliser_sha256 {
        let digest = checkpoint.normaliser_digest()?;
        faults.extend(pin_fault("normaliser_sha256", pinned, &digest));
    }
    Ok(in_file(&faults))
}

fn in_file(faults: &[String]) -> Vec<String> {
    let named = faults.iter().map(|fault| format!("{FILE}: {fault}"));
    named.collect()
}

/// Lists the labels that the prompt cannot hold, with why.
fn label_faults(manifest: &Manifest, checkpoint: &Checkpoint) -> Vec<String> {
    let labels: Vec<_> = manifest
        .views
        .iter()
        .map(|view| view.label.as_str())
        .collect();
    let refused = |labels: &[&str]| check(checkpoint.tokenizer(), labels, "").err();
    let each = labels.iter().filter_map(|label| refused(&[label]));
    let mut found: Vec<_> = each.collect();
    if found.is_empty() {
        // Labels that are fine one by one may be too long together.
        found.extend(refused(&labels));
    }
    found
        .iter()
        .map(|error| format!("views: {error}"))
        .collect()
}

fn robot_type_faults(
    manifest: &Manifest,
    robot_type: &RobotType,
    checkpoint: &Checkpoint,
) -> Vec<String> {
    let RobotType {
        name,
        width,
        horizon,
    } = robot_type;
    let tables = &checkpoint.preprocessor().robot_types;
    let Some(table) = tables.get(name.as_str()) else {
        let known: Vec<_> = tables.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return vec![format!(
            "robot_types: {name} is not among those of preprocessor_config.json: {known}"
        )];
    };
    let config = checkpoint.config();
    let sizes = [
        (
            "horizon",
            *horizon,
            "rows of its statistics",
            table.horizon(),
        ),
        (
            "width",
            *width,
            "action_dim of config.json",
            config.action_dim,
        ),
        (
            "width",
            *width,
            "state_dim of config.json",
            config.state_dim,
        ),
    ];
    let wrong = sizes.iter().filter(|(_, ours, _, theirs)| ours != theirs);
    let wrong = wrong.map(|(field, ours, what, theirs)| {
        format!("robot_types: {name} has {field} {ours}, but the {what} is {theirs}")
    });
    wrong.chain(still(manifest, name.as_str(), table)).collect()
}

/// Names the slots that an action should use, but whose deviation is too small for it: they would be
/// masked, and stand still (reference §7.4).
fn still(manifest: &Manifest, robot_type: &str, table: &Normaliser) -> Vec<String> {
    let (mask, width) = (table.mask(), table.width());
    let mut slots = manifest.action_slots();
    slots.sort_unstable();
    let row_of = |slot: usize| {
        mask.chunks_exact(width)
            .position(|row| row.get(slot) == Some(&0.0))
    };
    let still = slots
        .into_iter()
        .filter_map(|slot| Some((slot, row_of(slot)?)));
    still
        .map(|(slot, row)| {
            format!(
                "robot_types: slot {slot} of {robot_type} is an action's, but its std in row {row} \
                 of preprocessor_config.json is at most 1e-5: it would not move"
            )
        })
        .collect()
}

fn pin_fault(field: &str, pinned: &str, digest: &[u8]) -> Option<String> {
    let found = hex(digest);
    let same = pinned.eq_ignore_ascii_case(&found);
    (!same).then(|| format!("{field}: {pinned} here, but the files have {found}"))
}
