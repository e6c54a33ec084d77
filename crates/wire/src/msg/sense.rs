//! What the cell senses: frames, joints, observations.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{DOFS_MAX, FRAME_BYTES_MAX, VIEWS_MAX};
use crate::codec::{Body, CodecError, Packet, Small, decode, encode};
use crate::id::{Tick, View};
use crate::robot_type::WIDTH_MAX;
use crate::text::Name;

/// What a frame is, without its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameHead {
    /// The camera's view.
    pub view: View,
    /// The camera's own count; a gap is a lost frame.
    pub seq: u64,
    /// Middle of the exposure.
    pub captured_at_ns: u64,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl FrameHead {
    /// Bytes of an RGB image of this size.
    pub fn n_bytes(&self) -> usize {
        usize::from(self.width) * usize::from(self.height) * 3
    }
}

/// One image: 8-bit RGB, row-major, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub head: FrameHead,
    /// `height × width × 3` bytes.
    pub pixels: Bytes,
}

impl Body for Frame {
    const HEAD_MAX: usize = 256;
    const RAW_MAX: usize = FRAME_BYTES_MAX;

    fn pack(&self) -> Result<Packet, CodecError> {
        Ok(Packet {
            head: encode(&self.head)?,
            raw: self.pixels.clone(),
        })
    }

    fn unpack_parts(packet: Packet) -> Result<Self, CodecError> {
        let head: FrameHead = decode(&packet.head, Self::HEAD_MAX)?;
        if head.n_bytes() != packet.raw.len() {
            return Err(CodecError::Inconsistent(
                "the image has another size than its header says",
            ));
        }
        Ok(Self {
            head,
            pixels: packet.raw,
        })
    }
}

/// Where a tool or an object is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PoseQuat {
    /// Position in the cell, metres.
    pub position_m: [f64; 3],
    /// Orientation as unit quaternion x, y, z, w.
    pub quaternion_xyzw: [f64; 4],
}

/// What the joints measured, at servo rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JointState {
    /// Policy tick that the guard is in.
    pub tick: Tick,
    /// The guard's count of servo periods.
    pub servo_tick: u64,
    /// The robot's own stamp, on the guard's clock.
    pub sampled_at_ns: u64,
    /// Measured positions, by dof.
    pub position: Vec<f64>,
    /// Measured speeds, by dof.
    pub velocity: Vec<f64>,
    /// Last commanded positions, by dof.
    pub commanded: Vec<f64>,
    /// Tool poses, by arm.
    pub eef: Vec<PoseQuat>,
    /// Nothing moves and nothing is commanded to.
    pub standstill: bool,
    /// Since when, if so; an observation captured later is one after standstill.
    pub still_since_ns: u64,
    /// Speed fraction r of the policy clock: a tick lasts Δt/r.
    pub rate: f64,
    /// The newest challenge of perception that the guard has heard.
    #[serde(default)]
    pub echo: Echo,
}

/// A challenge that was heard, and when: with the time of its sending it bounds how far two hosts'
/// clocks are apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The challenge; 0 before the first.
    pub challenge: u64,
    /// When it was heard, on the clock of the one who heard it.
    pub heard_at_ns: u64,
}

impl JointState {
    /// A robot without joints that stands still since a moment: for those who only wait for standstill.
    pub fn still(tick: Tick, since_ns: u64) -> Self {
        Self {
            tick,
            servo_tick: 0,
            sampled_at_ns: 0,
            position: Vec::new(),
            velocity: Vec::new(),
            commanded: Vec::new(),
            eef: Vec::new(),
            standstill: true,
            still_since_ns: since_ns,
            rate: 1.0,
            echo: Echo::default(),
        }
    }
}

impl Small for JointState {
    const MAX: usize = 4096;

    fn check(&self) -> Result<(), CodecError> {
        let n_dofs = self.position.len();
        if DOFS_MAX < n_dofs || self.velocity.len() != n_dofs || self.commanded.len() != n_dofs {
            return Err(CodecError::Inconsistent(
                "joint lists differ in length or are too long",
            ));
        }
        Ok(())
    }
}

/// An object of a simulated cell, as it really is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrueObject {
    /// Name in the scene, such as `red_block`.
    pub name: Name,
    /// What it is: `block` or `tray`.
    pub kind: Name,
    /// Its colour or side, as instructions call it.
    pub label: Name,
    /// Where it is.
    pub pose: PoseQuat,
    /// Edge lengths, metres.
    pub size_m: [f64; 3],
}

/// What an observation is, without its pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservationHead {
    /// Number of the observation; grows by one.
    pub seq: u64,
    /// Policy tick of the joints in it.
    pub tick: Tick,
    /// Earliest capture of its images: its age is counted from here.
    pub captured_at_ns: u64,
    /// Images, in the cell's order of views.
    pub views: Vec<FrameHead>,
    /// Proprioceptive state in slots: radians, metres; never normalised.
    pub state: Vec<f32>,
    /// When the joints of `state` were sampled.
    pub state_at_ns: u64,
    /// Object poses of a simulated cell, which only `scripted` and `twogate` may read.
    pub truth: Option<Vec<TrueObject>>,
}

/// Images of all views and the proprioceptive state.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// What it is.
    pub head: ObservationHead,
    /// Pixels of each view, in the order of `head.views`.
    pub images: Vec<Bytes>,
}

impl Observation {
    /// Longest list of true objects.
    const TRUTH_MAX: usize = 64;
}

impl Body for Observation {
    const HEAD_MAX: usize = 16 * 1024;
    const RAW_MAX: usize = VIEWS_MAX * FRAME_BYTES_MAX;

    fn pack(&self) -> Result<Packet, CodecError> {
        let mut raw = BytesMut::with_capacity(self.images.iter().map(Bytes::len).sum());
        for image in &self.images {
            raw.extend_from_slice(image);
        }
        Ok(Packet {
            head: encode(&self.head)?,
            raw: raw.freeze(),
        })
    }

    fn unpack_parts(packet: Packet) -> Result<Self, CodecError> {
        let head: ObservationHead = decode(&packet.head, Self::HEAD_MAX)?;
        if VIEWS_MAX < head.views.len() || WIDTH_MAX < head.state.len() {
            return Err(CodecError::Inconsistent("too many views or slots"));
        }
        if head
            .truth
            .as_ref()
            .is_some_and(|truth| Self::TRUTH_MAX < truth.len())
        {
            return Err(CodecError::Inconsistent("too many objects"));
        }
        let mut rest = packet.raw;
        let mut images = Vec::with_capacity(head.views.len());
        for view in &head.views {
            if rest.len() < view.n_bytes() {
                return Err(CodecError::Inconsistent(
                    "the images are shorter than their headers",
                ));
            }
            images.push(rest.split_to(view.n_bytes()));
        }
        if rest.is_empty() {
            Ok(Self { head, images })
        } else {
            Err(CodecError::Inconsistent(
                "the images are longer than their headers",
            ))
        }
    }
}
