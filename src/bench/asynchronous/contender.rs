//! The strategies that are compared, each with what the expert and the policy must be told for it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vlad_actors::expert::ExpertConfig;
use vlad_motion::gate::Wanted;
use vlad_motion::guidance::Schedule;
use vlad_sim::policy::twogate::PREFIX_MAX;
use vlad_wire::msg::think::Strategy;

/// Longest prefix that Xiaomi-Robotics-0 was trained with, rows.
const PREFIX_TRAINED: u16 = 6;

/// One strategy with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Play a chunk, stand still, look, think.
    Sync,
    /// Switch to the new chunk at the tick's own index.
    Naive,
    /// The mean of all chunks that overlap.
    Ensemble,
    /// 0.3 of the old chunk and 0.7 of the new one.
    Blend,
    /// Guidance towards the rows that will be over alone.
    GuidedHard,
    /// Guidance with weights that fall along the old chunk.
    Guided,
    /// A clean prefix of at most six rows.
    CleanPrefix,
    /// The same, slower where the delay is longer.
    CleanPrefixSlow,
    /// A clean prefix of any length.
    CleanPrefixIdeal,
}

impl Contender {
    /// All, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::Sync,
        Self::Naive,
        Self::Ensemble,
        Self::Blend,
        Self::GuidedHard,
        Self::Guided,
        Self::CleanPrefix,
        Self::CleanPrefixSlow,
        Self::CleanPrefixIdeal,
    ];

    /// The name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Naive => "naive",
            Self::Ensemble => "ensemble",
            Self::Blend => "blend",
            Self::GuidedHard => "guided-hard",
            Self::Guided => "guided",
            Self::CleanPrefix => "clean-prefix",
            Self::CleanPrefixSlow => "clean-prefix-slow",
            Self::CleanPrefixIdeal => "clean-prefix-ideal",
        }
    }

    /// The expert's settings for it.
    pub fn expert(self, base: &ExpertConfig) -> ExpertConfig {
        let strategy = match self {
            Self::Sync => Strategy::Sync,
            Self::Naive => Strategy::Naive,
            Self::Ensemble => Strategy::Ensemble,
            Self::Blend => Strategy::Blend,
            Self::GuidedHard | Self::Guided => Strategy::Guided,
            Self::CleanPrefix | Self::CleanPrefixSlow | Self::CleanPrefixIdeal => {
                Strategy::CleanPrefix
            }
        };
        let guidance_schedule = match self {
            Self::GuidedHard => Schedule::Hard,
            _ => Schedule::Exponential,
        };
        ExpertConfig {
            strategy: Wanted::Fixed(strategy),
            slow_allowed: self == Self::CleanPrefixSlow,
            guidance_schedule,
            ..base.clone()
        }
    }

    /// Longest prefix that the policy takes, rows.
    pub fn prefix_max(self) -> u16 {
        match self {
            Self::CleanPrefixIdeal => PREFIX_MAX,
            _ => PREFIX_TRAINED,
        }
    }
}
