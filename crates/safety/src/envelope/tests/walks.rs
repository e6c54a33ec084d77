//! Random walks with wanted motions that nobody should want.

use super::*;

/// How a wanted motion is made out of the commanded one.
#[derive(Debug, Clone, Copy)]
enum Wish {
    /// Constant jerk of this share of the limit: mostly reachable.
    Jerk(f64),
    /// At the edge of one bound: what jerk gives, times one and a few units in the last place.
    Edge(f64, f64),
    /// Any bits at all.
    Bits([u64; 3]),
    /// Small independent changes of position, velocity and acceleration, as shares of what jerk can
    /// do.
    Apart([f64; 3]),
    /// The next step of the stop.
    Brake,
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        6 => (-1.0..=1.0_f64).prop_map(Wish::Jerk),
        4 => prop::sample::select(vec![-1.0, 1.0]).prop_map(Wish::Jerk),
        2 => (prop::sample::select(vec![-1.0, 1.0]), -1e-8..1e-8_f64)
            .prop_map(|(sign, more)| Wish::Edge(sign, more)),
        1 => prop::array::uniform3(any::<u64>()).prop_map(Wish::Bits),
        3 => prop::array::uniform3(-1.1..1.1_f64).prop_map(Wish::Apart),
        1 => Just(Wish::Brake),
    ]
}

fn wanted(wish: Wish, limits: &Limits, now: &Motion) -> Motion {
    match wish {
        Wish::Jerk(share) => driven(now, share * limits.jerk_max),
        Wish::Edge(sign, more) => {
            let full = driven(now, sign * limits.jerk_max);
            Motion {
                acceleration: full.acceleration * (1.0 + more),
                ..full
            }
        }
        Wish::Bits(bits) => {
            let [position, velocity, acceleration] = bits.map(f64::from_bits);
            Motion {
                position,
                velocity,
                acceleration,
            }
        }
        Wish::Apart([e, f, g]) => {
            let free = driven(now, 0.0);
            let jerk = limits.jerk_max;
            Motion {
                position: free.position + e * jerk * DT_S.powi(3) / 6.0,
                velocity: free.velocity + f * jerk * DT_S * DT_S / 2.0,
                acceleration: free.acceleration + g * jerk * DT_S,
            }
        }
        Wish::Brake => Stop::new(limits, now).at(DT_S),
    }
}

/// Differences of commanded positions against the limits, as multiples of them.
fn excess(limits: &Limits, path: &[f64]) -> f64 {
    let noise = 64.0 * f64::EPSILON * 20.0;
    let ratio = |difference: f64, limit: f64| (difference.abs() - noise) / limit;
    let first = path
        .windows(2)
        .map(|w| ratio(w[1] - w[0], limits.speed_max * DT_S));
    let second = path.windows(3).map(|w| {
        ratio(
            w[2] - 2.0 * w[1] + w[0],
            limits.acceleration_max * DT_S * DT_S,
        )
    });
    let third = path.windows(4).map(|w| {
        ratio(
            w[3] - 3.0 * w[2] + 3.0 * w[1] - w[0],
            limits.jerk_max * DT_S.powi(3),
        )
    });
    first.chain(second).chain(third).fold(0.0, f64::max)
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (-3.0..0.0, 0.0..3.0, 0.1..5.0, 0.5..20.0, 10.0..1e3).prop_map(
        |(min, max, speed_max, acceleration_max, jerk_max)| Limits {
            min,
            max,
            speed_max,
            acceleration_max,
            jerk_max,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is wanted, tick after tick: what is commanded is inside position, velocity,
    /// acceleration and jerk, and the stop ends at rest inside.
    #[test]
    fn nothing_gets_a_motor_out_of_its_limits(
        limits in any_limits(),
        part in 0.0..=1.0_f64,
        // A few wishes that last several ticks each: so that speed is gained.
        wishes in prop::collection::vec((wish(), 1..60_u8), 1..40),
    ) {
        let shape = Shape { limits: vec![limits], ..joints(1, open()) };
        let found = (limits.min + part * (limits.max - limits.min)).clamp(limits.min, limits.max);
        let mut envelope = Envelope::new(shape, &[found]);
        let mut path = vec![found];
        for (wish, ticks) in wishes {
            for _ in 0..ticks {
                let now = envelope.motion()[0];
                let wanted = wanted(wish, &limits, &now);
                let flags = envelope.step(&[wanted]);
                if flags == 0 {
                    prop_assert_eq!(envelope.motion()[0], wanted);
                }
                path.push(envelope.motion()[0].position);
                prop_assert!((limits.min..=limits.max).contains(&envelope.stop_end(0)));
            }
        }
        let predicted_s = envelope.stop_time_s();
        let (mut ticks, end) = (0_u32, envelope.stop_end(0));
        while !envelope.still() {
            envelope.brake();
            path.push(envelope.motion()[0].position);
            ticks += 1;
            prop_assert!(f64::from(ticks) * DT_S <= predicted_s + DT_S * (1.0 + 1e-9));
        }
        prop_assert_eq!(envelope.motion()[0], Motion::at_rest(end));
        for position in &path {
            prop_assert!((limits.min..=limits.max).contains(position));
        }
        let excess = excess(&limits, &path);
        prop_assert!(excess <= 1.0 + 1e-6, "{}", excess);
    }

    /// A planner that stays a millionth inside the limits is never refused, up to the limits.
    #[test]
    fn a_stop_planned_a_millionth_inside_is_never_refused(
        limits in any_limits(),
        velocity in -1.0..=1.0_f64,
        acceleration in -1.0..=1.0_f64,
    ) {
        let share = 1.0 - 1e-6;
        let inner = Limits {
            speed_max: limits.speed_max * share,
            acceleration_max: limits.acceleration_max * share,
            jerk_max: limits.jerk_max * share,
            ..limits
        };
        let start = Motion {
            position: 0.0,
            velocity: velocity * inner.speed_max,
            acceleration: acceleration * inner.acceleration_max,
        };
        let stop = Stop::new(&inner, &start);
        prop_assume!(crate::stop::coasting_velocity(&inner, &start).abs() <= inner.speed_max);
        let mut last = start;
        let mut t_s = 0.0;
        while t_s < stop.duration_s() {
            t_s += DT_S;
            let next = stop.at(t_s);
            prop_assert!(within(&limits, &last, &next, DT_S), "{} {:?} {:?}", t_s, last, next);
            last = next;
        }
    }

    /// Arms that are told anything never come into a forbidden place, but for what lies between two
    /// poses of a stop.
    #[test]
    fn nothing_gets_an_arm_into_a_forbidden_place(
        wishes in prop::collection::vec(((wish(), wish()), 1..40_u8), 1..20),
    ) {
        let workspace = Workspace {
            arms: vec![turnstile(0, 0.0), turnstile(1, 1.2)],
            keep_out: vec![Box3 { min_m: [-0.4, -1.2, -0.1], max_m: [0.4, -0.6, 0.1] }],
            inside: Some(Box3 { min_m: [-1.0; 3], max_m: [2.5, 0.99, 1.0] }),
            ..open()
        };
        let mut envelope = Envelope::new(joints(2, workspace.clone()), &[1.3, 0.2]);
        for ((first, second), ticks) in wishes {
            for _ in 0..ticks {
                let [left, right] = [0, 1].map(|dof| envelope.motion()[dof]);
                let before = envelope.motion().to_vec();
                let both = [wanted(first, &JOINT, &left), wanted(second, &JOINT, &right)];
                let flags = envelope.step(&both);
                prop_assert_eq!(flags & flag::STOP == 0, flags == 0);
                if flags == flag::STOP | flag::OUTSIDE {
                    let allowed = |dof: usize| {
                        let span = Stop::new(&JOINT, &both[dof]).span();
                        within(&JOINT, &before[dof], &both[dof], DT_S) && JOINT.min <= span.0 && span.1 <= JOINT.max
                    };
                    prop_assert!(!(allowed(0) && allowed(1)));
                }
                let pose = [0, 1].map(|dof| envelope.motion()[dof].position);
                prop_assert!(-0.005 <= workspace.clearance(&pose).room_m());
            }
        }
    }
}
