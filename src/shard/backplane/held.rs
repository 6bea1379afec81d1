//! What waits for an answer through Redis, for a short time: commands whose token comes from a shared bucket, and
//! messages to vehicles of other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits;
use crate::shard::world::WorldId;
use crate::turn::ConnId;
use crate::wire::event::Identity;
use crate::wire::json::EventKind;

/// Values that wait under numbers, each for the same time.
pub struct Pending<T> {
    /// By number, and so by deadline (`mono_ms`) too: both only grow.
    waiting: BTreeMap<u64, (u64, T)>,
    newest: u64,
    most: usize,
    wait_ms: u64,
}

impl<T> Pending<T> {
    /// Room for `most` values that wait `wait_ms`.
    pub fn new(most: usize, wait_ms: u64) -> Self {
        Pending { waiting: BTreeMap::new(), newest: 0, most, wait_ms }
    }

    /// Lets a value wait under the number returned, which counts from 1. It comes back at once if there is no room.
    pub fn hold(&mut self, now_ms: u64, value: T) -> Result<u64, T> {
        if self.waiting.len() >= self.most {
            return Err(value);
        }
        self.newest += 1;
        self.waiting.insert(self.newest, (now_ms.saturating_add(self.wait_ms), value));
        Ok(self.newest)
    }

    /// The answer with that number has come; `None`: nothing waits for it any more.
    pub fn answer(&mut self, number: u64) -> Option<T> {
        self.waiting.remove(&number).map(|(_, value)| value)
    }

    /// Gives up what has waited long enough, oldest first.
    pub fn late(&mut self, now_ms: u64) -> Vec<T> {
        let mut late = Vec::new();
        while let Some(oldest) = self.waiting.first_entry()
            && oldest.get().0 <= now_ms
        {
            late.push(oldest.remove().1);
        }
        late
    }

    /// Gives up everything, oldest first: no answer will come.
    pub fn give_up(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting).into_values().map(|(_, value)| value).collect()
    }

    /// When (`mono_ms`) something will be late.
    pub fn next_deadline(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(_, (late_ms, _))| *late_ms)
    }

    /// How many wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// A command that is carried out once the shared bucket has a token for it.
#[derive(Debug)]
pub struct Held {
    /// The sender's world.
    pub world: WorldId,
    /// Its connection.
    pub conn: ConnId,
    /// Its vehicle.
    pub key: u64,
    /// Who that was when the command came.
    pub identity: Arc<Identity>,
    /// Which command.
    pub kind: EventKind,
    /// The message, as it was before it was parsed.
    pub text: Vec<u8>,
}

/// The commands of one worker that wait for their buckets. Bounded by number, by time and by bytes.
pub struct HeldCommands {
    pending: Pending<Held>,
    bytes: usize,
}

impl Default for HeldCommands {
    fn default() -> Self {
        HeldCommands { pending: Pending::new(limits::HELD_MAX, limits::SHARED_LIMIT_MS_MAX), bytes: 0 }
    }
}

impl HeldCommands {
    /// Lets a command wait under the number returned. It comes back at once if there is no room.
    pub fn hold(&mut self, now_ms: u64, held: Held) -> Result<u64, Held> {
        let bytes = self.bytes + held.text.len();
        if bytes > limits::HELD_BYTES_MAX {
            return Err(held);
        }
        let number = self.pending.hold(now_ms, held)?;
        self.bytes = bytes;
        Ok(number)
    }

    /// The bucket with that number has answered; `None`: the command does not wait any more.
    pub fn answer(&mut self, number: u64) -> Option<Held> {
        let held = self.pending.answer(number)?;
        self.bytes -= held.text.len();
        Some(held)
    }

    /// Gives up on the buckets that took too long, oldest command first.
    pub fn late(&mut self, now_ms: u64) -> Vec<Held> {
        let late = self.pending.late(now_ms);
        self.bytes -= late.iter().map(|held| held.text.len()).sum::<usize>();
        late
    }

    /// Gives up on all buckets: the link is down.
    pub fn give_up(&mut self) -> Vec<Held> {
        self.bytes = 0;
        self.pending.give_up()
    }

    /// When (`mono_ms`) a bucket will be late.
    pub fn next_deadline(&self) -> Option<u64> {
        self.pending.next_deadline()
    }

    /// How many wait.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_comes_back_once_answered_or_late() {
        let mut pending = Pending::new(10, 50);
        assert_eq!(pending.next_deadline(), None);
        let numbers: Vec<u64> = (0..4).map(|at| pending.hold(100 + at * 10, at).unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(pending.next_deadline(), Some(150));
        assert_eq!((pending.answer(2), pending.answer(2), pending.answer(9)), (Some(1), None, None));
        assert_eq!(pending.late(149), [0; 0]);
        assert_eq!(pending.late(170), [0, 2]);
        assert_eq!(pending.answer(1), None, "too late");
        assert_eq!(pending.next_deadline(), Some(180));
        assert_eq!(pending.give_up(), [3]);
        assert!(pending.is_empty());
        assert_eq!(
            pending.hold(200, 7),
            Ok(5),
            "no number is used twice: a late answer must not meet another question"
        );
    }

    #[test]
    fn beyond_the_bound_a_value_comes_back_at_once() {
        let mut pending = Pending::new(2, 50);
        assert_eq!((pending.hold(0, 'a'), pending.hold(0, 'b'), pending.hold(0, 'c')), (Ok(1), Ok(2), Err('c')));
        assert_eq!(pending.answer(1), Some('a'));
        assert_eq!(pending.hold(0, 'd'), Ok(3));
        assert_eq!(pending.len(), 2);
    }

    fn held(len: usize) -> Held {
        let identity = Identity {
            vehicle_id: "a".into(),
            driver_name: "".into(),
            license_plate: None,
            model: None,
            color: None,
            connected_ms: 0,
        };
        Held {
            world: WorldId::default(),
            conn: ConnId { index: 0, generation: 0 },
            key: 1,
            identity: Arc::new(identity),
            kind: EventKind::EmergencyAlert,
            text: vec![b' '; len],
        }
    }

    #[test]
    fn commands_are_bounded_by_number_and_by_bytes() {
        let mut commands = HeldCommands::default();
        let half = limits::HELD_BYTES_MAX / 2;
        let ways: [fn(&mut HeldCommands) -> usize; 3] = [
            |commands| commands.late(limits::SHARED_LIMIT_MS_MAX).len(),
            |commands| commands.give_up().len(),
            |commands| (0..100_000).filter_map(|number| commands.answer(number)).count(),
        ];
        for leave in ways {
            assert!(commands.hold(0, held(half)).is_ok() && commands.hold(0, held(half)).is_ok());
            assert_eq!(commands.hold(0, held(1)).map_err(|held| held.text.len()), Err(1));
            assert_eq!((commands.len(), leave(&mut commands), commands.bytes), (2, 2, 0));
            for _ in 0..limits::HELD_MAX {
                assert!(commands.hold(0, held(1)).is_ok());
            }
            assert!(commands.hold(0, held(1)).is_err());
            assert_eq!((leave(&mut commands), commands.bytes), (limits::HELD_MAX, 0));
            assert!(commands.is_empty() && commands.next_deadline().is_none());
        }
    }

    proptest! {
        #[test]
        fn everything_comes_back_exactly_once(
            most in 1..8usize,
            steps in prop::collection::vec((0..30u64, prop::option::of(1..60u64)), 1..100),
        ) {
            let (mut pending, mut now_ms, mut back, mut given) = (Pending::new(most, 50), 0, Vec::new(), 0u64);
            for (pause_ms, answered) in steps {
                now_ms += pause_ms;
                match answered {
                    Some(number) => back.extend(pending.answer(number)),
                    None => {
                        back.extend(pending.hold(now_ms, given).err());
                        given += 1;
                    }
                }
                back.extend(pending.late(now_ms));
                prop_assert!(pending.len() <= most);
                prop_assert!(pending.next_deadline().is_none_or(|late_ms| late_ms > now_ms && late_ms <= now_ms + 50));
            }
            back.extend(pending.late(now_ms + 50));
            back.sort_unstable();
            prop_assert_eq!(back, (0..given).collect::<Vec<_>>());
        }
    }
}
