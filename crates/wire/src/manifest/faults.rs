//! What can be wrong with a manifest, or between it and a cell: always listed as a whole.

use std::collections::BTreeMap;

use crate::robot_type::{HORIZON_MAX, RobotType, SlotError, SlotMap, WIDTH_MAX};
use crate::text::Name;

use super::{ActionRepresentation, CellShape, Manifest, Profile, Publication, SlotLabel};

/// Most image tokens that a view may have: what a prompt takes altogether.
const TOKENS_MAX: u32 = 4096;
/// Pixels of the largest image that is taken.
const PIXELS_MAX: u32 = 64 << 20;
/// Longest local window and widest gap: a chunk.
const POSITIONS_MAX: u16 = 256;

/// One thing that is wrong with a manifest, or between it and a cell.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ManifestFault {
    /// A field outside its range.
    #[error("{field}: {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Two slots collide, or one lies outside.
    #[error("{field}: {fault}")]
    Slots {
        /// The field.
        field: &'static str,
        /// What is wrong.
        fault: SlotError,
    },
    /// The checkpoint does not know the cell's robot type.
    #[error("robot_types: the cell's robot type {0} is not among them")]
    RobotType(Name),
    /// The checkpoint needs a view that the cell lacks.
    #[error("views: the cell has no camera {0}")]
    View(Name),
    /// A joint that one side has and the other lacks, or has elsewhere.
    #[error("slots: slot {slot} is {manifest} here and {cell} in the cell")]
    Joint {
        /// The slot.
        slot: usize,
        /// Joint and unit in the manifest.
        manifest: String,
        /// Joint and unit in the cell.
        cell: String,
    },
    /// Different tick lengths.
    #[error("dt_ms: {manifest} here and {cell} in the cell")]
    Dt {
        /// The manifest's.
        manifest: f64,
        /// The cell's.
        cell: f64,
    },
}

/// A list that grows by what does not hold.
#[derive(Default)]
struct Faults(Vec<ManifestFault>);

impl Faults {
    fn demand(&mut self, holds: bool, field: &'static str, problem: impl Into<String>) {
        if !holds {
            let problem = problem.into();
            self.0.push(ManifestFault::Field { field, problem });
        }
    }

    fn slots(&mut self, field: &'static str, width: usize, slots: Vec<usize>) {
        if let Err(fault) = SlotMap::new(width, slots) {
            self.0.push(ManifestFault::Slots { field, fault });
        }
    }
}

impl Manifest {
    /// Lists everything that is wrong with the manifest by itself.
    pub fn faults(&self) -> Vec<ManifestFault> {
        let mut faults = Faults::default();
        self.check_shapes(&mut faults);
        self.check_profile(&mut faults);
        self.check_layouts(&mut faults);
        self.check_views(&mut faults);
        self.check_files(&mut faults);
        faults.0
    }

    fn check_shapes(&self, faults: &mut Faults) {
        let sane = self.dt_ms.is_none_or(|dt| (1.0..=1000.0).contains(&dt));
        faults.demand(sane, "dt_ms", "must lie between 1 and 1000");
        let some = !self.robot_types.is_empty();
        faults.demand(some, "robot_types", "must not be empty");
        let fits = |t: &RobotType| {
            (1..=WIDTH_MAX).contains(&t.width) && (1..=HORIZON_MAX).contains(&t.horizon)
        };
        let fit = self.robot_types.iter().all(fits);
        faults.demand(fit, "robot_types", "has a shape out of bounds");
        let names = self.robot_types.iter().map(|t| t.name.as_str());
        for problem in doubled(names) {
            faults.demand(false, "robot_types", problem);
        }
        let shortest = self.robot_types.iter().map(|t| t.horizon).min();
        let within = |steps: u16| (1..=shortest.unwrap_or(HORIZON_MAX)).contains(&steps.into());
        let replans = self.replan_steps.is_none_or(within);
        faults.demand(replans, "replan_steps", "must lie in 1 to the horizon");
    }

    fn check_profile(&self, faults: &mut Faults) {
        let asynchronous = self.profile == Profile::B;
        faults.demand(
            asynchronous || self.prefix_trained_max == 0,
            "prefix_trained_max",
            "must be 0: profile A was trained synchronously",
        );
        let neither = self.local_window.is_none() && self.position_gap.is_none();
        let both = self.local_window.is_some() && self.position_gap.is_some();
        faults.demand(
            if asynchronous { both } else { neither },
            "profile",
            "B needs local_window and position_gap, A has neither",
        );
        let sane = |n: Option<u16>| n.is_none_or(|n| n <= POSITIONS_MAX);
        let bound = format!("must be at most {POSITIONS_MAX}");
        faults.demand(sane(self.local_window), "local_window", bound.as_str());
        faults.demand(sane(self.position_gap), "position_gap", bound);
        let shortest = self.robot_types.iter().map(|t| t.horizon).min();
        let free = shortest.is_none_or(|shortest| usize::from(self.prefix_trained_max) < shortest);
        faults.demand(
            free,
            "prefix_trained_max",
            "must leave at least one free action of every chunk",
        );
        faults.demand(!self.vjp || self.flow, "vjp", "needs a flow");
    }

    fn check_layouts(&self, faults: &mut Faults) {
        let width = self.robot_types.iter().map(|t| t.width).min();
        let width = width.unwrap_or(WIDTH_MAX);
        let slots = |quantities: &[super::Quantity]| quantities.iter().map(|q| q.slot).collect();
        let joints = self.slots.iter().map(|label| label.slot);
        faults.slots("slots", width, joints.collect());
        faults.slots("state", width, slots(&self.state));
        faults.slots("actions", width, slots(&self.actions));
        let grippers = self.grippers.iter().map(|gripper| gripper.slot);
        faults.slots("grippers", width, grippers.collect());
        for gripper in &self.grippers {
            if let Some(problem) = gripper.problem() {
                faults.demand(false, "grippers", problem);
            }
            let named = self.action_slots().contains(&gripper.slot);
            let problem = format!("slot {} is no action's", gripper.slot);
            faults.demand(named, "grippers", problem);
        }
        let joints = matches!(
            self.action_representation,
            Some(ActionRepresentation::JointAbsolute | ActionRepresentation::JointDelta)
        );
        let problem = "must not be empty: the actions are joints";
        faults.demand(!joints || !self.slots.is_empty(), "slots", problem);
    }

    fn check_views(&self, faults: &mut Faults) {
        let names = self.views.iter().map(|view| view.view.as_str());
        let labels = self.views.iter().map(|view| view.label.as_str());
        for problem in doubled(names).into_iter().chain(doubled(labels)) {
            faults.demand(false, "views", problem);
        }
        for view in &self.views {
            let budget = view.tokens_max;
            let problem = format!("{}: tokens_max must lie in 1 to {TOKENS_MAX}", view.view);
            let sane = budget.is_none_or(|tokens| (1..=TOKENS_MAX).contains(&tokens));
            faults.demand(sane, "views", problem);
            for problem in view.steps.iter().filter_map(super::ImageStep::problem) {
                faults.demand(false, "views", format!("{}: {problem}", view.view));
            }
        }
        let pixels = [
            ("image_pixels_min", self.image_pixels_min),
            ("image_pixels_max", self.image_pixels_max),
        ];
        for (field, pixels) in pixels {
            let sane = pixels.is_none_or(|pixels| (1..=PIXELS_MAX).contains(&pixels));
            faults.demand(sane, field, format!("must lie in 1 to {PIXELS_MAX}"));
        }
        if let (Some(min), Some(max)) = (self.image_pixels_min, self.image_pixels_max) {
            let problem = format!("must not exceed image_pixels_max, {max}");
            faults.demand(min <= max, "image_pixels_min", problem);
        }
    }

    fn check_files(&self, faults: &mut Faults) {
        let test = self.self_test.as_ref();
        let digests = [
            ("model_sha256", self.model_sha256.as_ref()),
            ("normaliser_sha256", self.normaliser_sha256.as_ref()),
            ("self_test", test.map(|test| &test.sha256)),
        ];
        for (field, digest) in digests {
            let sane = digest.is_none_or(|text| is_hexadecimal(text, 64));
            let problem = match field {
                "self_test" => "its sha256 must be 64 hexadecimal digits",
                _ => "must be 64 hexadecimal digits",
            };
            faults.demand(sane, field, problem);
        }
        let beside = test.is_none_or(|test| is_plain(&test.file));
        let problem = "its file must be the name of a file beside vlad.toml";
        faults.demand(beside, "self_test", problem);
        if let Some(Publication {
            repository,
            revision,
        }) = &self.published
        {
            let named = repository.split('/').filter(|part| !part.is_empty());
            let problem = "its repository must be organisation/name";
            faults.demand(named.count() == 2, "published", problem);
            let problem = "its revision must be 40 hexadecimal digits";
            faults.demand(is_hexadecimal(revision, 40), "published", problem);
        }
    }

    /// Lists everything that keeps this checkpoint from driving `cell`.
    pub fn mismatches(&self, cell: &CellShape) -> Vec<ManifestFault> {
        let mut faults = Faults::default();
        let known = self.action_representation.is_some();
        let problem = "is not given; write what a row means into vlad.toml";
        faults.demand(known, "action_representation", problem);
        let problem = "none are given; write into vlad.toml which camera is which image";
        faults.demand(!self.views.is_empty(), "views", problem);
        let problem = format!("is not given; the cell's is {}", cell.dt_ms);
        faults.demand(self.dt_ms.is_some(), "dt_ms", problem);

        let mut faults = faults.0;
        if !self.robot_types.contains(&cell.robot_type) {
            faults.push(ManifestFault::RobotType(cell.robot_type.name.clone()));
        }
        for label in &self.views {
            if !cell.views.contains(&label.view) {
                faults.push(ManifestFault::View(label.view.clone()));
            }
        }
        for slot in 0..cell.robot_type.width {
            let (manifest, cell) = (joint(&self.slots, slot), joint(&cell.slots, slot));
            if manifest != cell {
                faults.push(ManifestFault::Joint {
                    slot,
                    manifest,
                    cell,
                });
            }
        }
        if let Some(dt) = self.dt_ms.filter(|dt| 0.01 < (dt - cell.dt_ms).abs()) {
            faults.push(ManifestFault::Dt {
                manifest: dt,
                cell: cell.dt_ms,
            });
        }
        faults
    }
}

/// The joint in a slot, with its unit.
fn joint(labels: &[SlotLabel], slot: usize) -> String {
    let label = labels.iter().find(|label| label.slot == slot);
    label.map_or("unused".to_owned(), |l| {
        format!("{} in {}", l.joint, l.unit)
    })
}

/// Says once of each name that stands there more than once how often it does.
fn doubled<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut times = BTreeMap::<_, usize>::new();
    for name in names {
        *times.entry(name).or_default() += 1;
    }
    let doubled = times.into_iter().filter(|(_, n)| 1 < *n);
    let text = doubled.map(|(name, n)| format!("{name:?} stands there {n} times"));
    text.collect()
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether a name stands for a file of the manifest's own folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
