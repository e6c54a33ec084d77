//! Rotations as unit quaternions, and as rotation vectors, which are what models read.
//!
//! A rotation vector jumps at a half turn, where axis and opposite axis mean the same; quaternions
//! do not. So everything is computed and compared with quaternions.

use std::ops::{Add, Mul, Sub};

/// Three numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vector(pub [f64; 3]);

/// A rotation as unit quaternion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quaternion {
    /// Real part.
    pub w: f64,
    /// Imaginary part.
    pub v: Vector,
}

/// Below this angle the sine's quotient is computed by its series: the error of two terms is less
/// than what a double can hold.
const SMALL_ANGLE: f64 = 1e-4;

impl Vector {
    /// Reads three slots of a row; a missing one is NaN.
    pub(crate) fn read(row: &[f64], first: usize) -> Self {
        let at = |slot| row.get(slot).copied().unwrap_or(f64::NAN);
        Self([at(first), at(first + 1), at(first + 2)])
    }

    /// Writes three slots of a row.
    pub(crate) fn write(self, row: &mut [f64], first: usize) {
        for (place, value) in row.iter_mut().skip(first).zip(self.0) {
            *place = value;
        }
    }

    /// Its length.
    pub fn norm(self) -> f64 {
        self.dot(self).sqrt()
    }

    fn dot(self, other: Self) -> f64 {
        let [ax, ay, az] = self.0;
        let [bx, by, bz] = other.0;
        ax * bx + ay * by + az * bz
    }

    fn cross(self, other: Self) -> Self {
        let [ax, ay, az] = self.0;
        let [bx, by, bz] = other.0;
        Self([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
    }

    fn scaled(self, by: f64) -> Self {
        Self(self.0.map(|x| x * by))
    }
}

impl Add for Vector {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let [ax, ay, az] = self.0;
        let [bx, by, bz] = other.0;
        Self([ax + bx, ay + by, az + bz])
    }
}

impl Sub for Vector {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + other.scaled(-1.0)
    }
}

impl Quaternion {
    /// Gives the rotation about a vector by its length, radians.
    pub fn of_vector(vector: Vector) -> Self {
        let angle = vector.norm();
        let half = 0.5 * angle;
        let quotient = if angle < SMALL_ANGLE {
            0.5 - angle * angle / 48.0
        } else {
            half.sin() / angle
        };
        Self {
            w: half.cos(),
            v: vector.scaled(quotient),
        }
    }

    /// Gives the rotation vector, 0 to π long.
    pub fn to_vector(self) -> Vector {
        // Both signs mean the same rotation; this one turns by at most half a turn.
        let (w, v) = if self.w < 0.0 {
            (-self.w, self.v.scaled(-1.0))
        } else {
            (self.w, self.v)
        };
        let sine = v.norm();
        // The arctangent of both is exact near 0 and near π, where the arccosine loses half of the
        // digits.
        let angle = 2.0 * sine.atan2(w);
        if sine < 0.5 * SMALL_ANGLE {
            v.scaled(2.0 / w.max(0.5))
        } else {
            v.scaled(angle / sine)
        }
    }

    /// The rotation the other way round.
    #[must_use]
    pub fn conjugate(self) -> Self {
        Self {
            w: self.w,
            v: self.v.scaled(-1.0),
        }
    }

    /// Rotates a vector.
    pub fn rotate(self, vector: Vector) -> Vector {
        let twice = self.v.cross(vector).scaled(2.0);
        vector + twice.scaled(self.w) + self.v.cross(twice)
    }

    /// The angle between two rotations, radians, 0 to π.
    pub fn angle_to(self, other: Self) -> f64 {
        (self.conjugate() * other).to_vector().norm()
    }
}

impl Mul for Quaternion {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self {
            w: self.w * other.w - self.v.dot(other.v),
            v: other.v.scaled(self.w) + self.v.scaled(other.w) + self.v.cross(other.v),
        }
    }
}
