//! Where a view ends.

use super::quiet;

#[test]
fn a_view_has_two_edges_twenty_metres_apart() {
    // At each edge: just outside, inside, 11 m outside, 22 m outside.
    for (inside, little, further) in [
        ("48.0099 11.005", "48.0101 11.005", "48.0102 11.005"),
        ("48.0001 11.005", "47.9999 11.005", "47.9998 11.005"),
        ("48.005 11.0099", "48.005 11.0101", "48.005 11.0103"),
        ("48.005 11.0001", "48.005 10.9999", "48.005 10.9997"),
    ] {
        quiet(&format!(
            "a registers; a at {little}
             v connects slim; v views 48 11 48.01 11.01
             v< connected, watching 0 of 1, complete 1
             +1s; a at {inside}
             v< named a, state a {inside}
             +1s; a at {little}
             v< state a {little}
             +1s; a at {further}
             v< gone a
             +1s; a at {little}
             v< nothing
             +1s; a at {inside}
             v< state a {inside}"
        ));
    }
}

#[test]
fn the_outer_edge_is_no_further_in_a_tall_view_or_at_a_pole() {
    // 0.0004° of longitude are 44 m on the equator, and 8 m at the other end of the view.
    quiet(
        "a registers; v connects; v views 0 11 80 11.1
         a at 1 11.0999; +200ms; a at 1 11.1004; +1s
         v< connected, watching 0 of 1, peer a 1 11.0999 (-1200ms), peer_gone a",
    );
    quiet(
        "a registers; v connects; v views 89 0 90 10; a at 89.9 5; +200ms; a at 89.9 20; +1s
         v< connected, watching 0 of 1, peer a 89.9 5 (-1200ms), peer_gone a
         a at 89.9999 5
         v< peer a 89.9999 5
         +1s; a at 89.9999 -170
         v< peer a 89.9999 -170
         +1s; a at 89.9998 -170
         v< peer_gone a",
    );
}

#[test]
fn a_circle_has_two_edges() {
    // 100 m and 120 m: the factor alone would make it 110 m.
    quiet(
        "set vehicles.nearby_radius_m = 20
         a connects slim; a registers; a reports 48 11
         a nears 100; +1s
         a< connected, registered a, watching 0 of 1, complete 1
         v registers; v at 48.001 11
         a< nothing
         +1s; v at 48.0008 11
         a< named v, state v 48.0008 11
         +1s; v at 48.001 11
         a< state v 48.001 11
         +1s; v at 48.0012 11
         a< gone v
         +1s; v at 48.001 11
         a< nothing",
    );
    // 1,000 m and 1,100 m.
    quiet(
        "a registers; a at 48 11; v registers; v at 48.0095 11
         a nears 1000
         a< connected, registered a, watching 0 of 1
         +1s; v at 48.0085 11
         a< peer v 48.0085 11
         +1s; v at 48.0095 11
         a< peer v 48.0095 11
         +1s; v at 48.01 11
         a< peer_gone v
         +1s; v at 48.0095 11
         a< nothing",
    );
}

#[test]
fn who_leaves_and_comes_back_before_a_flush_has_not_gone() {
    quiet(
        "set vehicles.coalesce_ms = 0
         a registers; a at 48 11; b registers; b at 48 11.1
         v connects slim; v views 47 10 49 12 maxHz=1
         v< connected, watching 2 of 1, named a, named b, state a 48 11, state b 48 11.1, complete 1
         a at 50 11; b at 50 11; a at 48.1 11
         v< nothing
         +1s
         v< gone b, state a 48.1 11 (-1000ms)
         a hangs; a registers; a at 48.2 11; b at 48 11; b hangs
         +1s
         v< state a 48.2 11 (-1000ms)",
    );
}

#[test]
fn an_area_may_be_anywhere_and_of_any_size() {
    quiet(
        "set viewers.area_km2_max = 600000000
         a registers; a at 0 0; b registers; b at -17 180; c registers; c at 90 77; d registers; d at -17 -179.9
         v connects
         v views 0 0 0 0
         v< connected, watching 1 of 1, peer a 0 0
         +1s; v views -18 179.5 -16 -179.5
         v< watching 2 of 2, peer_gone a, peer b -17 180 (-1000ms), peer d -17 -179.9 (-1000ms)
         +1s; v views -18 180 -16 180
         v< watching 1 of 3, peer_gone d
         +1s; v views 90 -180 90 180
         v< watching 1 of 4, peer_gone b, peer c 90 77 (-3000ms)
         +1s; v views -17 -180 -17 180
         v< watching 2 of 5, peer_gone c, peer b -17 180 (-4000ms), peer d -17 -179.9 (-4000ms)
         +1s; v views -90 -180 90 180
         v< watching 4 of 6, peer a 0 0 (-5000ms), peer c 90 77 (-5000ms)
         +1s; v views -18 -179.95 -16 179.95
         v< watching 1 of 7, peer_gone a, peer_gone b, peer_gone c",
    );
}

#[test]
fn across_the_antimeridian_and_a_pole_nothing_is_special() {
    quiet(
        "a registers; a at -17 179.9999; v connects slim; v views -17.1 179.9 -16.9 -179.9
         v< connected, watching 1 of 1, named a, state a -17 179.9999, complete 1
         +1s; a at -17 180
         v< state a -17 180
         +1s; a at -17 -179.9001
         v< state a -17 -179.9001
         +1s; a at -17 -179.8
         v< gone a",
    );
    // 0.001° from the pole on either side: 223 m.
    quiet(
        "set vehicles.nearby_radius_m = 100
         a registers; o registers; o at 89.999 0; o nears 230
         a at 89.999 180
         o< connected, registered o, watching 0 of 1, peer a 89.999 180
         +1s; a at 89.9988 180
         o< peer a 89.9988 180
         +1s; a at 89.9987 180
         o< peer_gone a",
    );
}
