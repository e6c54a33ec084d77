//! A policy whose brain or hands are told what to do: it fails, or sends rows of its own.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vlad_cell::description::RobotDescription;
use vlad_motion::policy::{
    Act, ActRequest, ActRows, Capability, ContextSink, Policy, PolicyError, Think, ThinkJob,
};
use vlad_wire::msg::health::PolicyLabel;
use vlad_wire::robot_type::SlotMap;

/// What the puppet's hands do.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Hands {
    /// What the policy says.
    #[default]
    Own,
    /// Every row is where the robot is.
    Still,
    /// The first joint swings by so much around home, once in so many rows, forever.
    Swing {
        /// Radians.
        by: f64,
        /// Rows.
        rows: u16,
    },
    /// The first joint goes to and fro around the middle of its range, on and on in the direction of the
    /// prefix.
    Pace {
        /// From row to row, radians or metres.
        by: f64,
        /// Farthest from the middle.
        within: f64,
    },
    /// Every row is as far as a joint's largest speed allows in a tick, to and fro.
    Fastest,
    /// Each chunk wants to go the other way than the one before.
    Undecided {
        /// Radians aside.
        by: f64,
    },
    /// Every number is not finite.
    NotFinite,
}

#[derive(Default)]
struct Strings {
    thinks_that_fail: AtomicU32,
    hands: Mutex<Hands>,
    n_acts: AtomicU64,
}

/// A policy on strings; clones are the same one.
#[derive(Clone)]
pub struct Puppet {
    inner: Arc<dyn Policy>,
    robot: Arc<RobotDescription>,
    strings: Arc<Strings>,
}

impl Puppet {
    /// Ties strings to a policy.
    pub fn new(inner: Arc<dyn Policy>, robot: RobotDescription) -> Self {
        Self {
            inner,
            robot: Arc::new(robot),
            strings: Arc::default(),
        }
    }

    /// Lets the next so many contexts fail, as for want of memory.
    pub fn fail(&self, thinks: u32) {
        self.strings
            .thinks_that_fail
            .store(thinks, Ordering::Release);
    }

    /// Tells the hands.
    pub fn hands(&self, hands: Hands) {
        let place = &self.strings.hands;
        *place.lock().unwrap_or_else(PoisonError::into_inner) = hands;
    }
}

impl Policy for Puppet {
    fn label(&self) -> PolicyLabel {
        self.inner.label()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    fn open_think(&self) -> Result<Box<dyn Think>, PolicyError> {
        Ok(Box::new(Head {
            inner: self.inner.open_think()?,
            strings: self.strings.clone(),
        }))
    }

    fn open_act(&self) -> Result<Box<dyn Act>, PolicyError> {
        Ok(Box::new(Fists {
            inner: self.inner.open_act()?,
            puppet: self.clone(),
        }))
    }
}

struct Head {
    inner: Box<dyn Think>,
    strings: Arc<Strings>,
}

impl Think for Head {
    fn think(
        &mut self,
        jobs: &[ThinkJob],
        sink: &mut dyn ContextSink,
    ) -> Vec<Result<(), PolicyError>> {
        let left = &self.strings.thinks_that_fail;
        let fails = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if fails.is_err() {
            return self.inner.think(jobs, sink);
        }
        let fails = |_| Err(PolicyError::Decide("out of memory (injected)".to_owned()));
        jobs.iter().map(fails).collect()
    }
}

struct Fists {
    inner: Box<dyn Act>,
    puppet: Puppet,
}

impl Act for Fists {
    fn act(&mut self, requests: &[ActRequest]) -> Vec<Result<ActRows, PolicyError>> {
        let place = &self.puppet.strings.hands;
        let hands = *place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut results = self.inner.act(requests);
        for (request, result) in requests.iter().zip(&mut results) {
            let nth = self.puppet.strings.n_acts.fetch_add(1, Ordering::AcqRel);
            if let Ok(rows) = result {
                self.puppet.bend(hands, (request, nth), rows);
            }
        }
        results
    }
}

impl Puppet {
    /// Writes the hands' own rows.
    fn bend(&self, hands: Hands, (request, nth): (&ActRequest, u64), rows: &mut ActRows) {
        if hands == Hands::Own {
            return;
        }
        let slots = self.robot.slots();
        let now: Vec<f64> = slots.to_dofs(&request.state).collect();
        let tick_s = 1.0 / self.robot.toml().policy_hz;
        let width = usize::from(rows.width).max(1);
        // Behind a prefix everything goes on from its last row.
        let now = match request.prefix.last() {
            Some(row) => slots.to_dofs(row).collect(),
            None => now,
        };
        let mut at = now.clone();
        let mut way = way_of(slots, &request.prefix);
        for (idx, row) in rows.rows.chunks_exact_mut(width).enumerate() {
            let Some(idx) = idx.checked_sub(request.prefix.len()) else {
                continue;
            };
            let idx = u32::try_from(idx).unwrap_or(0);
            match hands {
                Hands::Own | Hands::Still => {}
                Hands::Swing { by, rows } => {
                    // The last row is where the first one began.
                    let phase = f64::from(idx + 1) / f64::from(rows.max(1)) * std::f64::consts::TAU;
                    if let (Some(place), Some(now)) = (at.first_mut(), now.first()) {
                        *place = now + by * phase.sin();
                    }
                }
                Hands::Fastest => self.dash(&mut at, idx, tick_s),
                Hands::Pace { by, within } => {
                    let middle = self.robot.limits().first();
                    let middle = middle.map_or(0.0, |limits| f64::midpoint(limits.min, limits.max));
                    if let Some(place) = at.first_mut() {
                        if within < (*place - middle).abs() {
                            way = (middle - *place).signum();
                        }
                        *place += way * by;
                    }
                }
                Hands::Undecided { by } => {
                    let side = if nth % 2 == 0 { by } else { -by };
                    if let (Some(place), Some(now)) = (at.first_mut(), now.first()) {
                        *place = now + side + 1e-4 * f64::from(idx);
                    }
                }
                Hands::NotFinite => at.fill(f64::NAN),
            }
            for (place, value) in row.iter_mut().zip(slots.to_slots(&at)) {
                *place = value;
            }
        }
    }

    /// Every joint as far as it may in a tick, and back in the next half second.
    fn dash(&self, at: &mut [f64], idx: u32, tick_s: f64) {
        let side = if (idx / 8).is_multiple_of(2) {
            1.0
        } else {
            -1.0
        };
        for (place, limits) in at.iter_mut().zip(self.robot.limits()) {
            let farther = *place + side * limits.speed_max * tick_s;
            *place = farther.clamp(limits.min, limits.max);
        }
    }
}

/// The direction of the first joint at the end of a prefix; forward without one.
fn way_of(slots: &SlotMap, prefix: &[Vec<f32>]) -> f64 {
    let place = |row: &Vec<f32>| slots.to_dofs(row).next().unwrap_or(0.0);
    match prefix {
        [.., before, last] if place(last) < place(before) => -1.0,
        _ => 1.0,
    }
}
