//! Where a robot's arms may be: the table `workspace` of its description.

use serde::{Deserialize, Serialize};
use vlad_safety::workspace::{self, Box3, Workspace};

use super::{Arm, DescriptionError, RobotToml, demand};

/// A box in a file, by its smallest and largest corner in the cell's frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxToml {
    /// Smallest corner, metres.
    pub min_m: [f64; 3],
    /// Largest corner, metres.
    pub max_m: [f64; 3],
}

/// Where the arms may be, in a file (checks E8 and E9).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceToml {
    /// Tools and elbows stay inside it.
    pub inside: BoxToml,
    /// Tools and elbows stay out of each.
    #[serde(default)]
    pub keep_out: Vec<BoxToml>,
    /// Smallest distance between the capsules of two arms, metres.
    pub clearance_m: f64,
    /// Largest speed of a tool point, metres per second.
    pub tool_speed_max_m_s: f64,
}

/// Gives the workspace as the guard knows it; without a table nothing is bounded.
pub(super) fn workspace(toml: Option<&WorkspaceToml>, arms: &[Arm]) -> Workspace {
    let corners = |each: &BoxToml| Box3 {
        min_m: each.min_m,
        max_m: each.max_m,
    };
    let arm = |arm: &Arm| workspace::Arm {
        chain: arm.chain.clone(),
        first_dof: arm.first_dof,
        capsules: arm.capsules.clone(),
    };
    Workspace {
        arms: arms.iter().map(arm).collect(),
        inside: toml.map(|toml| corners(&toml.inside)),
        keep_out: toml
            .iter()
            .flat_map(|toml| &toml.keep_out)
            .map(corners)
            .collect(),
        // Without arms nothing is measured.
        clearance_m: toml.map_or(0.0, |toml| toml.clearance_m),
        tool_speed_max_m_s: toml.map_or(f64::INFINITY, |toml| toml.tool_speed_max_m_s),
    }
}

/// Checks the table, which a robot with arms must have.
pub(super) fn check_workspace(toml: &RobotToml) -> Result<(), DescriptionError> {
    let Some(workspace) = &toml.workspace else {
        let problem = "is needed: say where the arms may be";
        return demand(toml.arms.is_empty(), "workspace", problem);
    };
    let sound = |each: &BoxToml| {
        let mut corners = each.min_m.iter().zip(&each.max_m);
        corners.all(|(min, max)| min.is_finite() && max.is_finite() && min < max)
    };
    demand(
        sound(&workspace.inside),
        "workspace.inside",
        "each number of min_m must lie below that of max_m",
    )?;
    demand(
        workspace.keep_out.iter().all(sound) && workspace.keep_out.len() <= 16,
        "workspace.keep_out",
        "at most 16 boxes; each number of min_m must lie below that of max_m",
    )?;
    demand(
        (0.0..=0.5).contains(&workspace.clearance_m),
        "workspace.clearance_m",
        "must lie in 0 to 0.5",
    )?;
    let speed = workspace.tool_speed_max_m_s;
    demand(
        0.0 < speed && speed <= 5.0,
        "workspace.tool_speed_max_m_s",
        "must lie above 0 and at most at 5",
    )
}
