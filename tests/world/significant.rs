//! `vehicles.significant_changes`: a state that is too much like the last is told when a second is over.

use crate::script::check;

#[test]
fn small_moves_wait_for_the_second() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         set vehicles.significant_changes = true
         a registers; b registers
         a at 48 11 speed=5; b at 48.001 11 speed=5
         +2s
         forget
         b at 48.001 11 speed=5
         a< peer b 48.001 11 speed=5
         +200ms
         b at 48.00101 11 speed=5.2
         a< nothing
         +200ms
         b at 48.00102 11 speed=5.2
         +500ms
         a< nothing
         +100ms
         a< peer b 48.00102 11 speed=5.2 (-600ms)
         +200ms
         b at 48.00102 11 speed=6
         a< peer b 48.00102 11 speed=6
         +2s
         a< nothing
         count ringroad_states_insignificant_total = 2",
    );
}

#[test]
fn who_comes_near_is_seen_whatever_was_told_before() {
    check(
        "set presence.scope = 'none'
         set vehicles.nearby_list_ms = 0
         set vehicles.significant_changes = true
         a registers; a at 48 11
         v connects; v views 47 10 49 12
         +200ms
         a at 48 11
         w connects slim; w views 47 10 49 12
         w< connected, watching 1 of 1, named a, state a 48 11, complete 1",
    );
}
