use super::*;

fn options(contenders: &[Contender], replannings: &[Replanning], episodes: u32) -> ReactionOptions {
    ReactionOptions {
        contenders: contenders.to_vec(),
        replannings: replannings.to_vec(),
        delays: vec![3],
        episodes,
        seed: 1,
        threads: 2,
    }
}

fn rows(options: &ReactionOptions) -> Vec<Row> {
    run(options, &|_| {}).unwrap().rows
}

/// A prefix of d + 1 rows is a tick longer than the delay: that is its share.
#[test]
fn a_jump_is_answered_within_the_bound_and_the_prefix_costs_its_tick() {
    let contenders = [Contender::Naive, Contender::CleanPrefix];
    let found = rows(&options(&contenders, &[Replanning::Cadence], 16));
    for (row, prefix) in found.iter().zip([0.0, 4.0]) {
        assert!(row.within && row.answered == 16, "{row:?}");
        assert_eq!((row.prefix, row.stopped), (prefix, 0.0), "{row:?}");
        assert!(0.01 < row.uniform_p.unwrap(), "{row:?}");
        // What rests on the new look is what first differs, and a turn is seen before a distance.
        let [command, direction, changed] =
            [row.command_ms, row.direction_ms, row.changed_ms].map(|[p50, _]| p50.unwrap());
        assert!(command <= direction && command <= changed, "{row:?}");
    }
    assert!(found[0].prefix_ms.abs() < 1e-9, "{found:?}");
    assert!((found[1].prefix_ms - 100.0 / 3.0).abs() < 0.01, "{found:?}");
}

/// The jump is seen in the picture, so that on-change is as quick as continuous replanning.
#[test]
fn continuous_and_on_change_answer_within_their_shorter_bound() {
    let modes = [
        Replanning::Cadence,
        Replanning::Continuous,
        Replanning::OnChange,
    ];
    let found = rows(&options(&[Contender::CleanPrefix], &modes, 8));
    assert!(found.iter().all(|row| row.within), "{found:?}");
    assert!(found[1].bound_ms < found[0].bound_ms, "{found:?}");
    assert_eq!(found[1].bound_ms.to_bits(), found[2].bound_ms.to_bits());
    assert!(found[1..].iter().all(|row| row.uniform_p.is_none()));
}

#[test]
fn sync_answers_after_it_has_stood_still() {
    let modes = [Replanning::Cadence, Replanning::Continuous];
    let found = rows(&options(&[Contender::Sync], &modes, 6));
    assert_eq!(found.len(), 1);
    assert!(found[0].within && found[0].stopped == 0.0, "{found:?}");
    assert!(500.0 < found[0].command_ms[0].unwrap(), "{found:?}");
}

#[test]
fn figures_do_not_depend_on_the_number_of_threads() {
    let many = options(&[Contender::Naive], &[Replanning::Continuous], 3);
    let one = ReactionOptions {
        threads: 1,
        ..many.clone()
    };
    assert_eq!(rows(&many), rows(&one));
    assert_eq!(n_pairs(&many), 3);
}

#[test]
fn options_out_of_range_are_refused() {
    let good = options(&[Contender::Naive], &[Replanning::Cadence], 1);
    let wrong: [fn(&mut ReactionOptions); 5] = [
        |o| o.episodes = 0,
        |o| o.delays = vec![16],
        |o| o.delays.clear(),
        |o| o.contenders.clear(),
        |o| o.replannings.clear(),
    ];
    for (row, spoil) in wrong.iter().enumerate() {
        let mut options = good.clone();
        spoil(&mut options);
        assert!(run(&options, &|_| {}).is_err(), "row {row}");
    }
}
