//! What waits leaves once, where it belongs and when it is time.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::geo::Place;
use crate::wire::state::{self, State};

const ASK_MS: u64 = limits::ASK_MS;

fn square(number: usize) -> Square {
    Square::of(Place::from_e7(0, number as i32 * 10_000_000))
}

/// A state that is told from others of its vehicle by its time.
fn state_of(key: u64, ts: u64) -> Sample {
    Sample { record: state::encode(&State::unavailable(key)), ts, accuracy: None }
}

/// Vehicle and time of what goes to each square, in order.
fn taken(positions: &mut Positions, now_ms: u64, tick_ms: u64) -> Vec<(Square, u64, u64)> {
    let pieces = positions.take(now_ms, tick_ms).into_iter().flatten();
    let mut all: Vec<_> =
        pieces.flat_map(|(square, states)| states.into_iter().map(move |s| (square, s.key(), s.ts))).collect();
    all.sort();
    all
}

#[test]
fn the_newest_leaves_with_the_tick() {
    let mut positions = Positions::default();
    assert_eq!(positions.next_deadline(20), None);
    positions.moved(state_of(1, 10), square(1));
    assert_eq!(positions.next_deadline(20), Some(0));
    assert_eq!(taken(&mut positions, 100, 20), [(square(1), 1, 10)]);
    assert_eq!((positions.next_deadline(20), positions.len()), (None, 0));

    for ts in [11, 12, 13] {
        positions.moved(state_of(1, ts), square(1));
    }
    positions.moved(state_of(2, 11), square(1));
    assert_eq!(positions.counts().conflated, 2);
    assert_eq!(positions.next_deadline(20), Some(120));
    assert!(positions.take(119, 20).is_none());
    assert_eq!(taken(&mut positions, 120, 20), [(square(1), 1, 13), (square(1), 2, 11)]);
    assert!(positions.take(1_000, 20).is_none(), "nothing waits");

    positions.moved(state_of(1, 14), square(1));
    assert_eq!(taken(&mut positions, 120, 0), [(square(1), 1, 14)], "without a tick, at once");
}

#[test]
fn the_square_that_a_vehicle_left_hears_of_it_once() {
    let mut positions = Positions::default();
    positions.moved(state_of(1, 10), square(1));
    taken(&mut positions, 0, 20);
    // What it crosses between two ticks has never heard of it.
    positions.moved(state_of(1, 11), square(2));
    positions.moved(state_of(1, 12), square(3));
    assert_eq!(taken(&mut positions, 20, 20), [(square(1), 1, 12), (square(3), 1, 12)]);
    positions.moved(state_of(1, 13), square(3));
    assert_eq!(taken(&mut positions, 40, 20), [(square(3), 1, 13)]);
    // There and back within a tick.
    positions.moved(state_of(1, 14), square(4));
    positions.moved(state_of(1, 15), square(3));
    assert_eq!(taken(&mut positions, 60, 20), [(square(3), 1, 15)]);
}

#[test]
fn who_has_left_waits_no_more_and_comes_back_new() {
    let mut positions = Positions::default();
    positions.moved(state_of(1, 10), square(1));
    taken(&mut positions, 0, 20);
    positions.moved(state_of(1, 11), square(1));
    positions.forget(1);
    assert!(positions.take(20, 20).is_none());
    positions.moved(state_of(1, 12), square(2));
    assert_eq!(taken(&mut positions, 20, 20), [(square(2), 1, 12)]);
}

#[test]
fn without_a_link_nothing_waits_but_the_old_squares_are_known() {
    let mut positions = Positions::default();
    positions.moved(state_of(1, 10), square(1));
    positions.moved(state_of(2, 10), square(1));
    taken(&mut positions, 0, 20);
    positions.moved(state_of(1, 11), square(2));
    positions.moved(state_of(2, 11), square(1));
    assert_eq!((positions.drop_all(), positions.counts().dropped), (2, 2));
    assert_eq!((positions.drop_all(), positions.next_deadline(20)), (0, None));
    positions.moved(state_of(1, 12), square(2));
    assert_eq!(taken(&mut positions, 20, 20), [(square(1), 1, 12), (square(2), 1, 12)]);
}

#[test]
fn a_crowd_leaves_in_pieces_and_squares_in_order() {
    let mut positions = Positions::default();
    let crowd = 2 * limits::BUS_RECORDS_MAX + 1;
    for key in 0..crowd as u64 {
        positions.moved(state_of(key, 1), square(2));
    }
    positions.moved(state_of(crowd as u64, 1), square(1));
    let lens: Vec<_> = positions.take(0, 20).unwrap().map(|(square, states)| (square, states.len())).collect();
    let full = limits::BUS_RECORDS_MAX;
    assert_eq!(lens, [(square(1), 1), (square(2), full), (square(2), full), (square(2), 1)]);
}

#[test]
fn frames_are_numbered_by_square() {
    let mut positions = Positions::default();
    assert_eq!([1, 2, 1].map(|n| positions.next_sequence(square(n))), [1, 1, 2]);
    positions.sequences.insert(square(3), u32::MAX - 1);
    assert_eq!([3, 3, 3].map(|n| positions.next_sequence(square(n))), [u32::MAX, 0, 1]);
}

#[test]
fn who_asks_too_early_is_answered_when_the_time_has_come() {
    let mut positions = Positions::default();
    assert!(positions.ask(square(1), 100));
    assert!(positions.ask(square(2), 300));
    assert_eq!(positions.next_deadline(20), None);
    assert!(!positions.ask(square(1), 400));
    assert!(!positions.ask(square(1), 500));
    assert_eq!(positions.next_deadline(20), Some(100 + ASK_MS));
    assert_eq!(positions.due_asks(99 + ASK_MS), []);
    assert_eq!(positions.due_asks(100 + ASK_MS), [square(1)]);
    // That was an answer too.
    assert!(!positions.ask(square(1), 101 + ASK_MS));
    assert_eq!(positions.due_asks(99 + 2 * ASK_MS), []);
    assert!(positions.ask(square(2), 99 + 2 * ASK_MS));
    assert_eq!(positions.due_asks(100 + 2 * ASK_MS), [square(1)]);
    assert_eq!(positions.due_asks(10 * ASK_MS), []);
    assert!(positions.asked.is_empty() && positions.quiet.is_empty());
}

#[test]
fn asks_have_a_bound() {
    let mut positions = Positions::default();
    let of = |i: i32| Square::of(Place::from_e7(i / 900 * 2_000_000, (i % 900 - 450) * 3_900_000));
    let all: Vec<Square> = (0..=limits::ASKED_SQUARES_MAX as i32).map(of).collect();
    let (last, fitting) = all.split_last().unwrap();
    assert!(fitting.iter().all(|square| positions.ask(*square, 0)));
    assert!(!positions.ask(*last, ASK_MS - 1));
    assert_eq!(positions.counts().asks_refused, 1);
    assert!(positions.ask(*last, ASK_MS));
    assert_eq!((positions.asked.len(), positions.quiet.len()), (1, 1));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Moved { key: u64, to: usize },
    Left { key: u64 },
    Away,
    Tick,
}

/// What must leave with a tick after these steps, found by going through all of them again for each vehicle. The step's
/// number is the time of the state that it brought.
fn recount(history: &[Step], keys: u64) -> Vec<(Square, u64, u64)> {
    let mut expected = Vec::new();
    for key in 0..keys {
        let (mut newest, mut told): (Option<(u64, usize)>, Option<usize>) = (None, None);
        for (ts, step) in history.iter().enumerate() {
            match *step {
                Step::Moved { key: who, to } if who == key => newest = Some((ts as u64, to)),
                Step::Left { key: who } if who == key => (newest, told) = (None, None),
                Step::Away => newest = None,
                Step::Tick => told = newest.take().map(|(_, at)| at).or(told),
                _ => {}
            }
        }
        let Some((ts, to)) = newest else { continue };
        expected.push((square(to), key, ts));
        expected.extend(told.filter(|old| *old != to).map(|old| (square(old), key, ts)));
    }
    expected.sort();
    expected
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4u64, 0..3usize).prop_map(|(key, to)| Step::Moved { key, to }),
        1 => (0..4u64).prop_map(|key| Step::Left { key }),
        1 => Just(Step::Away),
        4 => Just(Step::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_newest_state_leaves_once_and_to_the_old_square_too(steps in vec(any_step(), 1..100)) {
        let mut positions = Positions::default();
        for (i, step) in steps.iter().enumerate() {
            let now_ms = i as u64;
            match *step {
                Step::Moved { key, to } => positions.moved(state_of(key, now_ms), square(to)),
                Step::Left { key } => positions.forget(key),
                Step::Away => { positions.drop_all(); }
                Step::Tick => prop_assert_eq!(taken(&mut positions, now_ms, 1), recount(&steps[..i], 4)),
            }
        }
    }

    #[test]
    fn every_ask_is_answered_within_its_time_and_no_square_more_often(
        steps in vec((0..3usize, any::<bool>(), 0..ASK_MS), 1..100),
    ) {
        let mut positions = Positions::default();
        let (mut answered, mut open) = ([None::<u64>; 3], [false; 3]);
        let mut now_ms = 0;
        for (number, asks, pause_ms) in steps {
            // As a shard does: it wakes at the deadline, and looks what is due whenever it wakes.
            let until_ms = now_ms + pause_ms;
            loop {
                now_ms = positions.next_deadline(20).map_or(until_ms, |deadline| deadline.max(now_ms).min(until_ms));
                for due in positions.due_asks(now_ms) {
                    let number = (0..3).find(|number| square(*number) == due).unwrap();
                    prop_assert!(open[number], "nobody asked");
                    prop_assert_eq!(now_ms, answered[number].unwrap() + ASK_MS);
                    (answered[number], open[number]) = (Some(now_ms), false);
                }
                if now_ms == until_ms {
                    break;
                }
            }
            if asks {
                let is_quiet = answered[number].is_some_and(|answered_ms| now_ms < answered_ms + ASK_MS);
                prop_assert_eq!(positions.ask(square(number), now_ms), !is_quiet);
                (answered[number], open[number]) = if is_quiet { (answered[number], true) } else { (Some(now_ms), false) };
            }
        }
    }
}
