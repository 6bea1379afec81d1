//! The ledger against a gateway that is honest, one that is not, and a slow oracle over whole histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::dice::Dice;

const RADIUS_M: f64 = 500.0;

/// Everyone near is told, and only when the other one moves.
const PLAIN: Promise = Promise { radius_m: RADIUS_M, neighbours_max: 0, encounters: false };

fn place(east_m: f64, north_m: f64) -> Place {
    Place::from_e7((north_m / 111_000.0 * 1e7) as i32, (east_m / 111_300.0 * 1e7) as i32)
}

/// One update of a history.
#[derive(Clone, Copy, Debug)]
struct Moved {
    vehicle: u32,
    at_ms: u64,
    ts: u64,
    place: Place,
}

/// Vehicles that wander about a square of 1.6 km with up to 60 m between two updates; some begin late. Sorted by time.
fn history(dice: &mut Dice, vehicles: u32, gap_ms: u64, until_ms: u64) -> Vec<Moved> {
    let mut moves = Vec::new();
    for vehicle in 0..vehicles {
        let (mut x, mut y) = (dice.between(0.0, 1_600.0), dice.between(0.0, 1_600.0));
        let speed = dice.between(0.0, 60.0);
        let mut at_ms = dice.between(0.0, gap_ms as f64) as u64;
        if one_in(dice, 4) {
            at_ms += dice.between(0.0, until_ms as f64 / 2.0) as u64;
        }
        while at_ms < until_ms {
            moves.push(Moved { vehicle, at_ms, ts: 1_760_000_000_000 + at_ms, place: place(x, y) });
            x += dice.between(-speed, speed);
            y += dice.between(-speed, speed);
            at_ms += gap_ms + dice.between(0.0, gap_ms as f64 / 4.0) as u64;
        }
    }
    moves.sort_by_key(|moved| (moved.at_ms, moved.vehicle));
    moves
}

fn one_in(dice: &mut Dice, n: u64) -> bool {
    dice.bits().is_multiple_of(n)
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Sent(Moved),
    Received { receiver: u32, sender: u32, ts: u64 },
    Left(u32),
}

/// Plays events in the order of time and closes all accounts.
fn play(ledger: &mut Ledger, mut events: Vec<(u64, Event)>) {
    events.sort_by_key(|&(at_ms, _)| at_ms);
    for (at_ms, event) in events {
        ledger.settle(at_ms.saturating_sub(1), drop);
        match event {
            Event::Sent(Moved { vehicle, at_ms, ts, place }) => ledger.sent(vehicle, at_ms, ts, place),
            Event::Received { receiver, sender, ts } => ledger.received(receiver, sender, ts, at_ms),
            Event::Left(vehicle) => ledger.left(vehicle, at_ms),
        }
    }
    ledger.settle(u64::MAX, drop);
    assert!(ledger.is_settled());
}

/// A gateway that handles each vehicle's updates in their order, `up` later at most, and delivers `down` later at most.
/// If it promises to, it tells two vehicles that come near each other where the other one is.
fn honest(dice: &mut Dice, moves: &[Moved], up_ms: f64, down_ms: f64, encounters: bool) -> Vec<(u64, Event)> {
    let mut last_handled: BTreeMap<u32, u64> = BTreeMap::new();
    let mut arrivals: Vec<(u64, Moved)> = moves
        .iter()
        .map(|&moved| {
            let last = last_handled.entry(moved.vehicle).or_default();
            *last = (*last).max(moved.at_ms + dice.between(0.0, up_ms) as u64);
            (*last, moved)
        })
        .collect();
    arrivals.sort_by_key(|&(handled_ms, _)| handled_ms);
    let mut known: BTreeMap<u32, Moved> = BTreeMap::new();
    let (mut neighbours, mut told) = (BTreeSet::new(), BTreeSet::new());
    let mut events: Vec<(u64, Event)> = moves.iter().map(|&moved| (moved.at_ms, Event::Sent(moved))).collect();
    for (handled_ms, moved) in arrivals {
        known.insert(moved.vehicle, moved);
        for (&other, &theirs) in known.iter().filter(|(other, _)| **other != moved.vehicle) {
            let distance_m = metres(theirs.place, moved.place);
            let pair = (other.min(moved.vehicle), other.max(moved.vehicle));
            let mut deliver = |receiver, of: Moved| {
                let delivered_ms = handled_ms + dice.between(0.0, down_ms) as u64;
                // Twice, if they part and meet again between two updates; the ledger would count it as such.
                if told.insert((receiver, of.vehicle, of.ts)) {
                    events.push((delivered_ms, Event::Received { receiver, sender: of.vehicle, ts: of.ts }));
                }
            };
            if distance_m <= RADIUS_M {
                deliver(other, moved);
                if neighbours.insert(pair) && encounters {
                    deliver(moved.vehicle, theirs);
                }
            } else if distance_m > 1.1 * RADIUS_M {
                neighbours.remove(&pair);
            }
        }
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn an_honest_gateway_owes_nothing_in_the_end(
        seed: u64,
        gap_ms in 150..3000u64,
        slow in 0.0..1.0f64,
        encounters: bool,
    ) {
        let mut dice = Dice::new(seed, 0);
        let moves = history(&mut dice, 25, gap_ms, 12_000);
        let events = honest(&mut dice, &moves, 250.0 * slow, 1_000.0 * slow, encounters);
        let mut ledger = Ledger::new(25, Promise { encounters, ..PLAIN }, gap_ms);
        let received = events.len() as u64 - moves.len() as u64;
        play(&mut ledger, events);
        let tally = ledger.tally();
        prop_assert_eq!((tally.missing(), tally.wrong, tally.duplicate), (0, 0, 0));
        prop_assert_eq!(tally.paid + tally.unsure + tally.encounters + tally.late, received);
        // One that is under way when its vehicle sends the next may look late.
        prop_assert!(encounters || (tally.encounters, tally.late) == (0, 0));
        prop_assert_eq!(tally.sent, moves.len() as u64);
    }

    #[test]
    fn every_kind_of_delivery_is_what_whole_histories_say(seed: u64, gap_ms in 150..1500u64) {
        let mut dice = Dice::new(seed, 0);
        let moves = history(&mut dice, 12, gap_ms, 12_000);
        let mut left_ms = [NEVER; 12];
        let mut events: Vec<(u64, Event)> = moves.iter().map(|&moved| (moved.at_ms, Event::Sent(moved))).collect();
        for vehicle in 0..3 {
            left_ms[vehicle as usize] = 6_000 + dice.bits() % 6_000;
            events.push((left_ms[vehicle as usize], Event::Left(vehicle)));
        }
        let mut expected = Tally { sent: moves.len() as u64, ..Tally::default() };
        for moved in &moves {
            for receiver in 0..12 {
                let verdict = oracle(&moves, &left_ms, moved, receiver);
                let (wanted, again, late) = (!one_in(&mut dice, 3), one_in(&mut dice, 9), one_in(&mut dice, 9));
                expected.owed += (verdict == Verdict::Owed) as u64;
                // Lags stay within the least that the ledger assumes, so that oracle and ledger assume the same.
                let mut at_ms = moved.at_ms + dice.bits() % LAG_MS_MIN;
                if !wanted {
                    continue;
                }
                let event = Event::Received { receiver, sender: moved.vehicle, ts: moved.ts };
                events.push((at_ms, event));
                expected.received += 1;
                match verdict {
                    Verdict::Owed => expected.paid += 1,
                    Verdict::Unsure => expected.unsure += 1,
                    Verdict::Wrong => expected.wrong += 1,
                }
                if again {
                    at_ms += dice.bits() % 1_000;
                    events.push((at_ms, event));
                    expected.received += 1;
                    expected.duplicate += 1;
                }
                if late {
                    let never_sent = Event::Received { receiver, sender: moved.vehicle, ts: moved.ts + 1 };
                    events.push((at_ms, never_sent));
                    expected.received += 1;
                    expected.wrong += 1;
                }
            }
        }
        let mut ledger = Ledger::new(12, PLAIN, gap_ms);
        play(&mut ledger, events);
        let tally = ledger.tally().clone();
        prop_assert_eq!(Tally { latency: Latency::default(), ..tally }, expected);
    }
}

/// The definition, over all positions ever sent.
fn oracle(moves: &[Moved], left_ms: &[u64], moved: &Moved, receiver: u32) -> Verdict {
    if receiver == moved.vehicle {
        return Verdict::Wrong;
    }
    let of_receiver = || moves.iter().filter(|other| other.vehicle == receiver);
    let certain = of_receiver().rfind(|other| other.at_ms + LAG_MS_MIN <= moved.at_ms);
    let possible: Vec<f64> = of_receiver()
        .filter(|other| other.at_ms + LAG_MS_MIN > moved.at_ms && other.at_ms <= moved.at_ms + LAG_MS_MIN)
        .chain(certain)
        .map(|other| metres(other.place, moved.place))
        .collect();
    let there = [receiver, moved.vehicle].iter().all(|&v| moved.at_ms + 2 * LAG_MS_MIN < left_ms[v as usize]);
    if possible.iter().all(|&distance_m| distance_m > RADIUS_M + ROUNDING_M) {
        Verdict::Wrong
    } else if certain.is_some() && there && possible.iter().all(|&distance_m| distance_m <= RADIUS_M - ROUNDING_M) {
        Verdict::Owed
    } else {
        Verdict::Unsure
    }
}

/// Two vehicles `apart_m` apart, three updates of each; then deliveries of the first one's last update.
fn pair(apart_m: f64) -> Ledger {
    let mut ledger = Ledger::new(2, PLAIN, 200);
    for step in 0..3 {
        ledger.sent(0, step * 1000, step, place(0.0, 0.0));
        ledger.sent(1, step * 1000, step, place(apart_m, 0.0));
    }
    ledger
}

#[test]
fn what_does_not_come_is_missing() {
    let mut ledger = pair(400.0);
    ledger.received(1, 0, 2, 2_005);
    ledger.settle(2_000 + PATIENCE_MS, drop);
    let tally = ledger.tally();
    // Of the first two updates nobody knew yet whether the other one's position had been handled.
    assert_eq!((tally.owed, tally.paid, tally.missing()), (4, 1, 3));
    assert_eq!(tally.ratio(), 0.25);
    assert_eq!(tally.latency.max_ms(), 5);
}

#[test]
fn a_delivery_after_its_account_was_closed_is_late_and_stays_missing() {
    let mut ledger = pair(400.0);
    ledger.settle(2_000 + PATIENCE_MS, drop);
    ledger.received(1, 0, 2, 4_100);
    ledger.received(1, 0, 2, 4_200);
    let tally = ledger.tally();
    assert_eq!((tally.paid, tally.late, tally.duplicate, tally.received), (0, 1, 1, 2));
}

#[test]
fn far_away_and_never_sent_are_wrong() {
    let mut ledger = pair(600.0);
    ledger.received(1, 0, 2, 2_005);
    ledger.received(1, 0, 99, 2_005);
    ledger.received(0, 0, 2, 2_005);
    ledger.settle(2_000 + PATIENCE_MS, drop);
    assert_eq!((ledger.tally().owed, ledger.tally().wrong), (0, 3));
}

#[test]
fn a_delivery_older_than_the_ring_is_late() {
    let mut ledger = Ledger::new(2, PLAIN, 200);
    for step in 0..100 {
        ledger.settle(step * 200, drop);
        ledger.sent(0, step * 200, step, place(0.0, 0.0));
    }
    ledger.received(1, 0, 3, 20_000);
    assert_eq!((ledger.tally().late, ledger.tally().wrong), (1, 0));
}

#[test]
fn a_leap_widens_the_search_only_for_a_while() {
    let mut ledger = pair(400.0);
    ledger.sent(1, 3_000, 3, place(20_000.0, 0.0));
    ledger.settle(6_000, drop);
    assert!(ledger.steps_m.iter().any(|&step_m| step_m > 19_000.0));
    for step in 4..20 {
        ledger.sent(1, step * 1_000, step, place(20_000.0, 0.0));
        ledger.settle(step * 1_000, drop);
    }
    assert!(ledger.steps_m.iter().all(|&step_m| step_m < 1.0));
    assert_eq!(ledger.tally().wrong, 0);
}

/// Vehicle 0 says once where it is, and 1 comes near it 5 s later.
fn meeting(encounters: bool) -> Ledger {
    let mut ledger = Ledger::new(3, Promise { encounters, ..PLAIN }, 200);
    ledger.sent(0, 0, 0, place(0.0, 0.0));
    for step in 0..6 {
        ledger.sent(1, step * 1_000, step, place(if step == 5 { 400.0 } else { 900.0 }, 0.0));
        ledger.sent(2, step * 1_000, step, place(900.0, 0.0));
        ledger.settle(step * 1_000, drop);
    }
    ledger
}

#[test]
fn who_comes_near_may_be_told_of_an_old_update() {
    let mut ledger = meeting(true);
    ledger.received(1, 0, 0, 5_010);
    // Who has not come near may not, at whatever age.
    ledger.received(2, 0, 0, 5_010);
    ledger.settle(u64::MAX, drop);
    let tally = ledger.tally();
    assert_eq!((tally.encounters, tally.wrong, tally.late, tally.latency.count()), (1, 1, 0, 0));
    let mut ledger = meeting(false);
    ledger.received(1, 0, 0, 5_010);
    assert_eq!((ledger.tally().encounters, ledger.tally().late), (0, 1));
}

#[test]
fn an_encounter_says_nothing_of_latency() {
    let mut ledger = Ledger::new(2, Promise { encounters: true, ..PLAIN }, 200);
    for step in 0..4 {
        ledger.sent(0, step * 1_000, step, place(0.0, 0.0));
        ledger.sent(1, step * 1_000 + 900, step, place(if step == 0 { 900.0 } else { 400.0 }, 0.0));
        // It comes near after the second update, and is told of it, and of the later ones as they come.
        let delay_ms = if step == 1 { 910 } else { 7 };
        if step > 0 {
            ledger.received(1, 0, step, step * 1_000 + delay_ms);
        }
    }
    ledger.settle(u64::MAX, drop);
    let tally = ledger.tally();
    assert_eq!((tally.encounters, tally.wrong, tally.unsure, tally.paid), (1, 0, 1, 1));
    assert_eq!((tally.latency.count(), tally.latency.max_ms()), (2, 7));
}

/// So many vehicles in one place, each of which has said twice where it is, and is told of one other.
fn crowd(vehicles: u32, neighbours_max: u32) -> Tally {
    let mut ledger = Ledger::new(vehicles, Promise { neighbours_max, ..PLAIN }, 1_000);
    for step in 0..4 {
        for vehicle in 0..vehicles {
            let at_ms = step * 1_000 + u64::from(vehicle);
            ledger.settle(at_ms, drop);
            ledger.sent(vehicle, at_ms, step, place(f64::from(vehicle), 0.0));
            ledger.received((vehicle + 1) % vehicles, vehicle, step, at_ms + 5);
        }
    }
    ledger.settle(u64::MAX, drop);
    // Whether they are few decides of which deliveries the latency counts.
    Tally { latency: Latency::default(), ..ledger.tally().clone() }
}

#[test]
fn in_a_crowd_nothing_is_owed_and_nothing_wrong() {
    let full = crowd(30, 28);
    assert_eq!((full.owed, full.wrong, full.received), (0, 0, 120));
    let enough = crowd(30, 29);
    assert!(enough.owed > 2_000 && enough.missing() > 2_000, "{enough:?}");
    assert_eq!(crowd(30, 0), enough);
}

#[test]
fn what_is_not_judged_is_counted() {
    let mut ledger = Ledger::new(4, PLAIN, 1_000).judging_every(2);
    for step in 0..4 {
        for vehicle in 0..4 {
            ledger.sent(vehicle, step * 1_000, step, place(f64::from(vehicle), 0.0));
        }
        // Of vehicle 0, with one that is wrong, one that is lost on the way to a judged vehicle, and one to another.
        for receiver in [1, 3, 0] {
            ledger.received(receiver, 0, step, step * 1_000 + 5);
        }
    }
    ledger.settle(u64::MAX, drop);
    let tally = ledger.tally();
    assert_eq!((tally.received, tally.unjudged, tally.wrong, tally.paid), (12, 8, 4, 0));
    // Six pairs with a judged receiver, of the three steps before which it had been heard.
    assert_eq!((tally.owed, tally.latency.count()), (3 * 6, 4));
}

#[test]
fn who_was_away_is_owed_what_is_sent_once_it_is_back_for_long_enough() {
    let mut ledger = Ledger::new(2, PLAIN, 100);
    let send = |ledger: &mut Ledger, from_ms: u64, until_ms: u64| {
        for at_ms in (from_ms..until_ms).step_by(500) {
            ledger.settle(at_ms, drop);
            (0..2).for_each(|vehicle| ledger.sent(vehicle, at_ms, at_ms + 1, place(0.0, 0.0)));
        }
    };
    // Nothing is ever delivered. Before it leaves both owe each other everything, but for the first position's lag and
    // what may have been under way at the end.
    send(&mut ledger, 0, 5_000);
    ledger.left(1, 5_000);
    for at_ms in (5_000..20_000).step_by(500) {
        ledger.settle(at_ms, drop);
        ledger.sent(0, at_ms, at_ms + 1, place(0.0, 0.0));
    }
    let before = ledger.tally().owed;
    assert!(before > 0);
    ledger.returned(1, 20_000);
    // For as long as it takes to be known again, nothing is owed; then everything, both ways.
    send(&mut ledger, 20_000, 20_000 + PATIENCE_MS);
    ledger.settle(20_000 + 2 * PATIENCE_MS - 1, drop);
    assert_eq!(ledger.tally().owed, before);
    send(&mut ledger, 20_000 + 2 * PATIENCE_MS, 25_000 + 2 * PATIENCE_MS);
    ledger.settle(u64::MAX, drop);
    assert_eq!(ledger.tally().owed, before + 2 * 10);
}
