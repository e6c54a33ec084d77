//! Bytes that are no message: refused, counted, and nobody else notices.

use proptest::prelude::*;
use vlad_wire::msg::sense::Frame;

use super::*;

fn sample() -> Sample {
    Sample {
        step: 7,
        sampled_at_ns: 11,
        position: vec![0.5; 14],
        velocity: vec![-0.5; 14],
    }
}

fn bytes_of(sample: &Sample) -> Vec<u8> {
    let mut bytes = Vec::new();
    parcel::write(&mut bytes, sample).unwrap();
    bytes
}

#[test]
fn a_message_comes_back_whole() {
    let bytes = bytes_of(&sample());
    assert_eq!(
        parcel::read::<Sample>(&mut bytes.as_slice()).unwrap(),
        sample()
    );
}

#[test]
fn a_command_is_the_same_with_and_without_a_copy() {
    let position = vec![0.25; 14];
    let mut with = Vec::new();
    parcel::write(
        &mut with,
        &Command {
            position: position.clone(),
        },
    )
    .unwrap();
    let mut without = Vec::new();
    let position = position.as_slice();
    parcel::fill(&mut without, &super::super::words::CommandRef { position }).unwrap();
    assert_eq!(with, without);
}

/// The lengths are judged before anything is allocated: a reader that has no more bytes than the
/// lengths never comes to the point of missing them.
#[test]
fn lengths_above_the_bound_are_refused_before_the_rest_is_read() {
    for (head, raw) in [(u32::MAX, 0), (0, u32::MAX), (1025, 0), (0, 1)] {
        let mut bytes = head.to_le_bytes().to_vec();
        bytes.extend_from_slice(&raw.to_le_bytes());
        let refused = parcel::read::<Sample>(&mut bytes.as_slice());
        assert!(
            matches!(refused, Err(parcel::ParcelError::Malformed(_))),
            "{head} {raw}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parcel::read::<Hello>(&mut bytes.as_slice());
        let _ = parcel::read::<Command>(&mut bytes.as_slice());
        let _ = parcel::read::<Question>(&mut bytes.as_slice());
        let _ = parcel::read::<Frame>(&mut bytes.as_slice());
    }

    /// One byte of a good message is another: it is refused, or another message of legal shape.
    #[test]
    fn a_spoilt_byte_gives_no_sample_of_illegal_shape(at in 0_usize..200, byte in any::<u8>()) {
        let mut bytes = bytes_of(&sample());
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(sample) = parcel::read::<Sample>(&mut bytes.as_slice()) {
            prop_assert_eq!(sample.position.len(), sample.velocity.len());
        }
    }
}

/// Each of them loses its connection and is counted; the robot's client goes on undisturbed.
#[test]
fn malformed_clients_are_sent_away_and_counted() {
    let served = Served::new();
    let mut robot = served.remote.robot().unwrap();
    let good = {
        let wish = Wish::Camera(Name::new("ego").unwrap());
        let mut bytes = Vec::new();
        parcel::write(
            &mut bytes,
            &Hello {
                wish,
                fingerprint: 1,
            },
        )
        .unwrap();
        bytes
    };
    let mut version = good.clone();
    version[8] ^= 0x40;
    let mut trailing = good.clone();
    trailing.push(0);
    trailing[0] += 1;
    let huge = [0xff; 64].to_vec();
    let noise = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    for (n_bad, bytes) in (1..).zip([version, trailing, huge, noise]) {
        let mut stream = UnixStream::connect(served.dir.socket()).unwrap();
        stream.write_all(&bytes).unwrap();
        until("it is sent away", || {
            (served.server().counts().malformed == n_bad).then_some(())
        });
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0, "nothing was said");
    }
    let counts = served.server().counts();
    assert_eq!((counts.malformed, counts.refused), (4, 0));
    let mut measured = Measured::default();
    robot.read(&mut measured).unwrap();
    robot.command(small_robot().home()).unwrap();
    until("its command arrives", || {
        (served.server().counts().commands == 1).then_some(())
    });
}

/// A commander that turns bad after good words: its command does not reach the robot, and the robot
/// is free for the next.
#[test]
fn a_malformed_command_ends_the_commander() {
    let served = Served::new();
    let bad = [vec![0.0; 3], vec![f64::NAN; 14], vec![0.0; 40]];
    for (n_bad, position) in (1..).zip(bad) {
        let mut stream = until("the robot is free", || {
            let mut stream = served.raw(Wish::Command);
            (parcel::read::<Reply>(&mut stream).ok()? == Reply::Welcome).then_some(stream)
        });
        parcel::write(&mut stream, &Command { position }).unwrap();
        until("it is sent away", || {
            (served.server().counts().malformed == n_bad).then_some(())
        });
    }
    assert_eq!(served.server().counts().commands, 0);
    until("the robot is free", || served.remote.robot().ok());
}
