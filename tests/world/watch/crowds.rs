//! More than is shown, or than is shown at the full pace.

use super::quiet;

#[test]
fn of_too_many_the_nearest_to_the_middle_are_sent_from_the_first_moment() {
    quiet(
        "set viewers.vehicles_max = 2
         a registers; a at 48.9 11; b registers; b at 48.8 11; c registers; c at 48.02 11; d registers; d at 48.01 11
         v connects slim; v views 47 10 49 12; +5s
         v< connected, watching 2 of 1 cut, named d, named c, state d 48.01 11 (-5000ms), state c 48.02 11 (-5000ms), \
            complete 1, cut 1
         a at 48 11
         v< nothing
         +1100ms
         v< named a, gone c, state a 48 11 (-1100ms), cut 1
         d at 50 11
         v< gone d, cut 1
         +1s
         v< state c 48.02 11 (-7100ms), cut 1
         b at 50 11; +1s
         v< nothing
         b hangs; a at 48.001 11
         v< state a 48.001 11"
            .replace(" \\\n            ", " ")
            .as_str(),
    );
}

#[test]
fn a_smaller_view_is_not_cut_because_the_former_was() {
    quiet(
        "set viewers.vehicles_max = 2
         a registers; a at 48 11; b registers; b at 48.1 11; c registers; c at 48.2 11
         v connects slim; v views 47 10 49 12; +100ms
         v< connected, watching 2 of 1 cut, named a, named b, state a 48 11 (-100ms), state b 48.1 11 (-100ms), \
            complete 1, cut 1
         v views 48.05 10 48.15 12
         v< watching 1 of 2, gone a, complete 2"
            .replace(" \\\n            ", " ")
            .as_str(),
    );
}

#[test]
fn its_own_vehicle_takes_nobodys_place() {
    quiet(
        "set viewers.vehicles_max = 2
         v connects slim; v registers; v reports 48 11
         a registers; a at 48.1 11; b registers; b at 48.2 11; c registers; c at 48.3 11
         v views 47 10 49 12; +3s
         v< connected, registered v, watching 2 of 1 cut, named a, named b, state a 48.1 11 (-3000ms), \
            state b 48.2 11 (-3000ms), complete 1, cut 1
         c at 50 11; +3s
         a at 48.1 11
         v< state a 48.1 11"
            .replace(" \\\n            ", " ")
            .as_str(),
    );
}

#[test]
fn what_is_followed_is_nearest_of_all() {
    quiet(
        "set viewers.vehicles_max = 2
         a registers; a at 48 11; b registers; b at 48.1 11; c registers; c at 0 0
         v connects slim; v views 47 10 49 12; +3s
         v< connected, watching 2 of 1, named a, named b, state a 48 11 (-3000ms), state b 48.1 11 (-3000ms), complete 1
         v follows c; +3s
         v< watching 2 of 2 cut, named c, gone b, state c 0 0 (-6000ms), complete 2, cut 2",
    );
}

#[test]
fn the_far_ones_are_sent_once_per_rest() {
    quiet(
        "set viewers.nearest = 1
         set vehicles.coalesce_ms = 0
         set rate_limits.location_update = { burst = 0, per_ms = 1 }
         n registers; n at 48 11; f registers; f at 48.9 11
         v connects slim; v views 47 10 49 12
         v< connected, watching 2 of 1, named n, named f, state n 48 11, state f 48.9 11, complete 1, tiered 1
         +100ms; n at 48.01 11; f at 48.91 11; +100ms; n at 48.02 11; f at 48.92 11; +800ms
         v< state n 48.01 11 (-900ms), tiered 1, state n 48.02 11 (-800ms), tiered 1, state f 48.92 11 (-800ms), tiered 1
         +100ms; f at 48.8 11; +100ms; f at 50 11
         v< gone f, tiered 1
         +1s; n at 48.1 11
         v< state n 48.1 11
         +1s; f at 48.1 11; +1s; n at 48.9 11; +1s; n at 48.8 11; f at 48.2 11; +20ms
         v< state f 48.1 11 (-2020ms), state n 48.9 11 (-1020ms), tiered 1, state f 48.2 11 (-20ms), tiered 1",
    );
}

#[test]
fn a_smaller_view_is_not_tiered_because_the_former_was() {
    quiet(
        "set viewers.nearest = 1
         a registers; a at 48 11; b registers; b at 48.1 11
         v connects slim; v views 47 10 49 12; +3s
         forget
         v views 47 10 48.05 12
         v< watching 1 of 2, gone b, complete 2
         +1s; a at 48 11
         v< state a 48 11",
    );
}
