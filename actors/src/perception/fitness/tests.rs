//! Tables and properties of what makes a camera unfit.

use bytes::Bytes;
use proptest::prelude::*;
use vlad_wire::msg::sense::FrameHead;

use super::*;

const PERIOD_NS: u64 = 33 * MS;
const EDGE: u16 = 8;

fn rules() -> Rules {
    Rules {
        stale_ns: 200 * MS,
        frozen_frames: 5,
        frozen_motion_rad: 0.0,
        blind_frames: 3,
        exposure: Exposure {
            luma_min: 5,
            luma_max: 250,
            contrast_min: 3,
        },
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn info() -> CameraInfo {
    CameraInfo {
        view: name("ego"),
        width: EDGE,
        height: EDGE,
        rate_hz: 30.0,
        serial: Some(name("a1")),
    }
}

/// A slope of grey, of which each shade is another picture.
fn frame_at(seq: u64, at_ns: u64, shade: u8) -> Frame {
    let n = usize::from(EDGE) * usize::from(EDGE);
    let value = |i: usize| shade.wrapping_add(u8::try_from(2 * (i % n)).unwrap());
    let pixels: Vec<u8> = (0..n).flat_map(|i| [value(i); 3]).collect();
    Frame {
        head: FrameHead {
            view: name("ego"),
            seq,
            captured_at_ns: at_ns,
            width: EDGE,
            height: EDGE,
        },
        pixels: Bytes::from(pixels),
    }
}

fn frame(seq: u64, shade: u8) -> Frame {
    frame_at(seq, seq * PERIOD_NS, shade)
}

/// A camera and the frame that was taken last, as perception keeps them.
struct Bench {
    sight: Sight,
    info: CameraInfo,
    before: Option<Frame>,
    joint: f64,
    now_ns: u64,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self {
            sight: Sight::new(rules, None),
            info: info(),
            before: None,
            joint: 0.0,
            now_ns: 0,
        }
    }

    fn give(&mut self, frame: Frame) -> bool {
        self.now_ns = self.now_ns.max(frame.head.captured_at_ns);
        let taken = self
            .sight
            .see(&frame, self.before.as_ref(), &self.info, &[self.joint]);
        if taken {
            self.before = Some(frame);
        }
        taken
    }

    fn fault(&self) -> Option<Fault> {
        self.sight.fault(self.now_ns)
    }
}

#[test]
fn a_camera_without_a_frame_is_unfit_and_its_first_frame_makes_it_fit() {
    let mut bench = Bench::new(rules());
    assert_eq!(bench.fault(), Some(Fault::NoFrame));
    assert!(bench.give(frame(1, 20)));
    assert_eq!(bench.fault(), None);
}

#[test]
fn a_frame_is_stale_above_the_limit_and_not_at_it() {
    let mut bench = Bench::new(rules());
    bench.give(frame_at(1, 1000 * MS, 20));
    assert_eq!(bench.sight.fault(1200 * MS), None);
    let stale = bench.sight.fault(1200 * MS + 1);
    assert_eq!(stale, Some(Fault::Stale { limit_ms: 200 }));
}

/// Four repetitions may be, the fifth is frozen; a new picture ends it.
#[test]
fn the_same_pixels_under_new_stamps_are_frozen() {
    let mut bench = Bench::new(rules());
    for seq in 1..=5 {
        assert!(bench.give(frame(seq, 20)));
        assert_eq!(bench.fault(), None, "{seq}");
    }
    bench.give(frame(6, 20));
    assert_eq!(bench.fault(), Some(Fault::Frozen));
    bench.give(frame(7, 21));
    assert_eq!(bench.fault(), None);
    assert_eq!(bench.sight.counts().alike, 5);
}

/// Of cameras without noise: a scene that stands still looks the same for as long as it stands.
#[test]
fn a_still_scene_is_not_frozen_until_the_arm_has_moved() {
    let moving = Rules {
        frozen_motion_rad: 0.1,
        ..rules()
    };
    let mut bench = Bench::new(moving);
    for seq in 1..=100 {
        bench.give(frame(seq, 20));
        assert_eq!(bench.fault(), None, "{seq}");
    }
    bench.joint = 0.09;
    bench.give(frame(101, 20));
    assert_eq!(bench.fault(), None);
    bench.joint = -0.1;
    bench.give(frame(102, 20));
    assert_eq!(bench.fault(), Some(Fault::Frozen));
    // Back where it was: that it had moved under a still picture is not forgotten.
    bench.joint = 0.0;
    bench.give(frame(103, 20));
    assert_eq!(bench.fault(), Some(Fault::Frozen));
    bench.give(frame(104, 21));
    assert_eq!(bench.fault(), None);
}

#[test]
fn blind_frames_in_a_row_make_it_unfit_and_one_good_one_fit() {
    let mut bench = Bench::new(rules());
    let black = |seq| Frame {
        pixels: Bytes::from(vec![0; usize::from(EDGE) * usize::from(EDGE) * 3]),
        ..frame(seq, 0)
    };
    for seq in [1, 2, 4, 5] {
        assert_eq!(bench.fault().filter(|fault| *fault != Fault::NoFrame), None);
        bench.give(black(seq));
        if seq == 2 {
            bench.give(frame(3, 20));
        }
    }
    assert_eq!(bench.fault(), None, "two in a row, twice");
    bench.give(black(6));
    assert_eq!(bench.fault(), Some(Fault::Blind(Blind::Dark)));
    bench.give(frame(7, 20));
    assert_eq!(bench.fault(), None);
    assert_eq!(bench.sight.counts().blind, 5);
}

#[test]
fn another_format_is_dropped_and_said_until_a_good_frame_comes() {
    let mut bench = Bench::new(rules());
    bench.give(frame(1, 20));
    let spoilt: [fn(&mut Frame); 4] = [
        |frame| frame.head.width = 2 * EDGE,
        |frame| frame.head.height = 1,
        |frame| frame.head.view = Name::new("left_wrist").unwrap(),
        |frame| frame.pixels = frame.pixels.slice(3..),
    ];
    for (n, spoil) in (1..).zip(spoilt) {
        let mut bad = frame(1 + n, 20);
        spoil(&mut bad);
        assert!(!bench.give(bad));
        assert!(matches!(bench.fault(), Some(Fault::Format { .. })));
        assert_eq!(bench.sight.counts().format, n);
    }
    assert_eq!(bench.before, Some(frame(1, 20)), "no bad frame is kept");
    assert!(bench.give(frame(9, 21)));
    assert_eq!(bench.fault(), None);
}

#[test]
fn another_device_is_never_believed() {
    let mut bench = Bench::new(rules());
    bench.give(frame(1, 20));
    for serial in [Some(name("b2")), None] {
        bench.info.serial = serial;
        assert!(!bench.give(frame(2, 21)));
        let words = bench.fault().unwrap().to_string();
        assert!(words.contains("another device"), "{words}");
    }
    bench.info.serial = Some(name("a1"));
    assert!(bench.give(frame(2, 21)));
    assert_eq!((bench.fault(), bench.sight.counts().strange), (None, 2));
}

/// The description's number decides at once; a device without a number is then none either.
#[test]
fn a_pinned_device_must_be_there_from_the_first_frame_on() {
    let mut bench = Bench::new(rules());
    bench.sight = Sight::new(rules(), Some(name("b2")));
    assert!(!bench.give(frame(1, 20)));
    assert!(matches!(bench.fault(), Some(Fault::OtherDevice { .. })));
    bench.info.serial = Some(name("b2"));
    assert!(bench.give(frame(2, 20)));
    assert_eq!(bench.fault(), None);
}

#[test]
fn a_drivers_error_is_said_until_a_frame_comes() {
    let mut bench = Bench::new(rules());
    bench.give(frame(1, 20));
    bench.sight.failed("the camera is disconnected".to_owned());
    let words = bench.fault().unwrap().to_string();
    assert_eq!(words, "failed: the camera is disconnected");
    bench.give(frame(2, 21));
    assert_eq!(bench.fault(), None);
}

proptest! {
    /// Any order, doubling and loss: what is taken grows, and everything else is counted.
    #[test]
    fn what_is_taken_never_goes_back(
        given in prop::collection::vec((0_u64..40, 0_u64..40, any::<u8>()), 1..120),
    ) {
        let mut bench = Bench::new(rules());
        let mut taken = Vec::new();
        for (seq, at, shade) in &given {
            if bench.give(frame_at(*seq, *at * PERIOD_NS, *shade)) {
                taken.push((*seq, *at));
            }
        }
        prop_assert!(taken.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        let counts = bench.sight.counts();
        prop_assert_eq!(counts.taken, u64::try_from(taken.len()).unwrap());
        prop_assert_eq!(counts.taken + counts.old, u64::try_from(given.len()).unwrap());
    }

    /// However the pictures repeat: frozen exactly while the last of them was repeated too often.
    #[test]
    fn frozen_is_exactly_too_many_repetitions(shades in prop::collection::vec(1_u8..4, 1..60)) {
        let mut bench = Bench::new(rules());
        let mut repeated = 0;
        for (i, shade) in shades.iter().enumerate() {
            bench.give(frame(u64::try_from(i).unwrap() + 1, *shade));
            let same = 0 < i && shades[i - 1] == *shade;
            repeated = if same { repeated + 1 } else { 0 };
            let frozen = bench.fault() == Some(Fault::Frozen);
            prop_assert_eq!(frozen, 5 <= repeated);
        }
    }
}
