//! Coming and going, and who hears of it.

use crate::script::check;

#[test]
fn everyone_on_every_shard_hears_of_coming_and_going() {
    check(
        "shards 3
         x@2 connects
         x< connected
         a@0 registers
         a< connected, registered a, online a
         x< online a
         b@1 registers
         a x< online b
         b hangs up
         a x< offline b
         a breaks
         x< offline a",
    );
}

#[test]
fn whoever_connects_later_is_not_told_of_earlier() {
    check(
        "a registers
         b connects
         b< connected",
    );
}

#[test]
fn a_goodbye_is_an_offline_too() {
    check(
        "a registers; b registers
         forget
         b leaves 1000 done
         b< closed 1000
         a< offline b",
    );
}

#[test]
fn last_seen_is_when_it_last_said_something() {
    check(
        "shards 2
         a@0 registers; b@1 registers; c@0 registers
         forget
         +7s
         b heartbeats
         +5s
         b breaks
         a c< offline b (-5000ms)",
    );
}

#[test]
fn scope_none_tells_nobody() {
    check(
        "set presence.scope = 'none'
         shards 2
         a@0 registers; b@1 registers; b hangs up
         a< connected, registered a
         count ringroad_presence_updates_total = 3",
    );
}

#[test]
fn scope_nearby_tells_neighbours_who_came_near_and_who_left() {
    check(
        "set presence.scope = 'nearby'
         set vehicles.nearby_list_ms = 0
         shards 2
         a@0 registers; b@1 registers; c@1 registers; far@0 registers
         forget
         a at 48 11; far at 49 11
         b at 48.001 11
         a< online b, enter b 111, peer b 48.001 11
         b< online a, enter a 111
         +200ms
         b at 48.1 11
         a< exit b
         b< exit a
         +200ms
         b at 48.001 11
         forget
         +3s
         b breaks
         a< offline b (-3000ms), exit b
         c far< nothing",
    );
}

#[test]
fn registering_twice_is_answered_twice_and_announced_once() {
    check(
        "a registers; b registers
         forget
         a registers
         a< registered a
         b< nothing
         a registers as c
         a< error invalid_register
         b< nothing",
    );
}

#[test]
fn a_vehicle_that_went_may_come_back() {
    check(
        "shards 2
         x@0 registers
         a@0 registers; a at 48 11; a hangs up
         forget
         a@1 registers
         x< online a
         a< connected, registered a, online a
         x at 48 11
         a x< nothing",
    );
}
