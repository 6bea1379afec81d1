//! A core that has more to do than there is time for, in what it is told and in what it wants done: each has its part of
//! a round, and the world outside is looked at in between.

use std::io::{Read, Write};
use std::thread;

use ringroad::io::Options;
use ringroad::limits;

use crate::echo::Habits;
use crate::{Server, echoed, options};

#[test]
fn a_round_ends_although_there_are_always_more_turns() {
    const TURN_MS: u64 = 4;
    let server = Server::start(options(), Habits { restless: true, turn_ms: TURN_MS, ..Habits::default() });
    // Accepts and bytes find their way in between the rounds.
    for n in 0..10u32 {
        assert_eq!(echoed(&server.connect(), &n.to_le_bytes(), || 4), n.to_le_bytes());
    }
    let seen = server.stop();
    // Of those that fit, the last one begins before the time is over.
    assert!(seen.turns_at_once <= limits::ROUND_MS_MAX.div_ceil(TURN_MS), "{} turns in a round", seen.turns_at_once);
    let shell = &seen.shell;
    assert!(shell.rounds_cut > 0 && shell.rounds_cut <= shell.turns, "{shell:?}");
    assert_eq!(shell.turn_ms.count(), shell.turns);
    assert!(shell.turn_ms.sum_ms() >= (shell.turns * TURN_MS) as f64, "{shell:?}");
    let rounds = shell.round_ms.count();
    assert!(rounds > 0 && shell.round_ms.sum_ms() >= (rounds * TURN_MS) as f64, "{shell:?}");
}

#[test]
fn a_round_hands_over_no_more_than_there_is_time_for() {
    // Each chunk is a completion of its own.
    let small = Options { buffer_bytes: 16, ..options() };
    let server = Server::start(small, Habits { chunk_ms: 1, ..Habits::default() });
    let bytes = [7; 1_500];
    let streams: Vec<_> = (0..4).map(|_| server.connect()).collect();
    thread::scope(|scope| {
        for stream in &streams {
            scope.spawn(|| (&*stream).write_all(&bytes).unwrap());
        }
    });
    // More is there than a round takes, and still somebody else is accepted, heard and answered.
    assert_eq!(echoed(&server.connect(), b"neighbour", || 9), *b"neighbour");
    for mut stream in &streams {
        let mut back = [0; 1_500];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }
    let seen = server.stop();
    // The clock is looked at every sixteen completions.
    assert!(seen.chunks_at_once <= limits::ROUND_RECEIVE_MS_MAX.max(16), "{} in a round", seen.chunks_at_once);
}
