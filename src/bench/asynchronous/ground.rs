//! `TwoGate`'s cell for the bench, with the shipped limits or wide open.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use vlad_actors::actuator::settings::GuardConfig;
use vlad_actors::expert::ExpertConfig;
use vlad_actors::perception::PerceptionConfig;
use vlad_cell::description::RobotDescription;
use vlad_motion::policy::Policy;
use vlad_sim::policy::twogate::TwoGatePolicy;
use vlad_wire::id::CellId;

use super::Limits;
use super::contender::Contender;
use crate::config::{Config, Sources};

/// The largest limits that a description may have. A row's usual step of 15 mm then takes a servo
/// period, and a jump of 300 mm, at which naive overlap arrives, three of the ten of a tick.
const SPEED_MAX_M_S: f64 = 100.0;
const ACCELERATION_MAX_M_S2: f64 = 10_000.0;
const JERK_MAX_M_S3: f64 = 10_000_000.0;
/// The same for where the point may be.
const RANGE_M: [f64; 2] = [-10.0, 10.0];
/// The point lags its command by 22 mm in steady motion and by a whole jump after one: E11 would see
/// a motor that is weak.
const FOLLOWING_M: f64 = 1.0;
const FOLLOWING_MS: u32 = 1000;
/// E7 from standstill. A first row lies 15 mm ahead, with a spread of 2 mm.
const FIRST_COMMAND_M: f64 = 0.2;

/// A sync chunk plays for a second, behind a decision of half a second.
const ACTION_AGE_MS: u32 = 2000;

/// What all runs stand on.
pub struct Ground {
    pub(super) cell: CellId,
    pub(super) robot: RobotDescription,
    pub(super) guard: GuardConfig,
    pub(super) perception: PerceptionConfig,
    pub(super) expert: ExpertConfig,
    /// By longest prefix.
    policies: BTreeMap<u16, Arc<dyn Policy>>,
}

impl Ground {
    /// Takes the shipped cell.
    ///
    /// # Errors
    /// What is wrong with the shipped files.
    pub fn new(limits: Limits) -> anyhow::Result<Self> {
        let config = Config::load(&Sources {
            cells: vec!["twogate".to_owned()],
            sets: vec!["daemon.policy=twogate".to_owned()],
            ..Sources::default()
        })?;
        let cell = config.cells.first().context("no cell")?;
        let (mut robot, mut guard) = (cell.robot.clone(), cell.guard.clone());
        if limits == Limits::Open {
            robot = opened(&robot)?;
            guard.late_chunk_rule = false;
            (guard.following_rad, guard.following_ms) = (FOLLOWING_M, FOLLOWING_MS);
            guard.first_command_rad = FIRST_COMMAND_M;
            guard.action_age_limit_ms = ACTION_AGE_MS;
        }
        let mut policies: BTreeMap<u16, Arc<dyn Policy>> = BTreeMap::new();
        for contender in Contender::ALL {
            let prefix_max = contender.prefix_max();
            policies.insert(prefix_max, Arc::new(TwoGatePolicy::new(prefix_max)?));
        }
        Ok(Self {
            cell: cell.cell.name.clone(),
            robot,
            guard,
            perception: cell.perception.clone(),
            expert: config.expert,
            policies,
        })
    }

    /// The policy of a contender.
    pub(super) fn policy(&self, contender: Contender) -> anyhow::Result<Arc<dyn Policy>> {
        let policy = self.policies.get(&contender.prefix_max());
        policy.cloned().context("no policy has this prefix")
    }
}

fn opened(robot: &RobotDescription) -> anyhow::Result<RobotDescription> {
    let mut toml = robot.toml().clone();
    for axis in &mut toml.axes {
        axis.range_m = RANGE_M;
        axis.speed_max_m_s = SPEED_MAX_M_S;
        axis.acceleration_max_m_s2 = ACCELERATION_MAX_M_S2;
        axis.jerk_max_m_s3 = JERK_MAX_M_S3;
        // The oracle's point is told a row when its tick begins.
        axis.snaps = true;
    }
    Ok(RobotDescription::new(toml)?)
}
