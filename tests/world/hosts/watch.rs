//! What connections watch is on whichever host it is.

use ringroad::geo::{Place, Square};

use crate::proximity::PLAIN;
use crate::script::Play;

const BACKPLANE: &str = include_str!("../../../docs/BACKPLANE.md");

/// Nobody falls silent, and positions leave at once.
const LIVELY: &str = "set vehicles.heartbeat_timeout_ms = 3600000
    set vehicles.ping_ms = 3600000
    set redis.position_tick_ms = 0
    ";

fn play(script: &str) -> Play {
    let mut play = Play::default();
    play.run(PLAIN).run(LIVELY).run(script);
    play
}

/// The same script with connections on the hosts' first shards and on their second.
#[track_caller]
fn on_any_shards(script: &str) {
    play(&format!("hosts 3\n{}", script.replace('?', "")));
    for (a, b) in [("A0", "B1"), ("A1", "B0"), ("A1", "B1")] {
        let script = script.replace("A?", a).replace("B?", b).replace("C?", "C1");
        play(&format!("shards 2\nhosts 3\n{script}"));
    }
}

/// The channel of the square that a place lies in, by latitude and longitude.
fn channel((lat, lon): (f64, f64)) -> String {
    let place = Place::from_e7((lat * 1e7).round() as i32, (lon * 1e7).round() as i32);
    format!("v2v:cell:{}", String::from_utf8_lossy(&Square::of(place).name()))
}

/// How many hosts listen to the squares of some places.
fn listeners<const N: usize>(play: &mut Play, places: [(f64, f64); N]) -> [usize; N] {
    places.map(|place| play.world().redis().listeners(&channel(place)))
}

#[test]
fn a_view_holds_the_vehicles_of_all_hosts() {
    on_any_shards(
        "a@A? registers; b@B? registers; c@C? registers; d@B? registers
         a at 48 11; b at 48.5 11; c at 52 11.9; d at 52 11
         +30s
         v@A? connects
         v views 47 10 49 12
         v< connected, watching 1 of 1, peer a 48 11 (-30000ms), peer b 48.5 11 (-30000ms)
         +1s
         b at 48.002 11; a at 48.003 11; d at 52.001 11
         v< peer b 48.002 11, peer a 48.003 11
         d at 48.5 11.5
         c at 48.9999 11
         v< peer d 48.5 11.5, peer c 48.9999 11
         c at 49.0001 11
         v< peer c 49.0001 11
         c at 49.0003 11
         v< peer_gone c
         +1s
         c at 49.0001 11
         d at 48.6 11.5
         v< peer d 48.6 11.5
         b hangs up
         v< peer_gone b
         v views
         v< watching 0 of 2, peer_gone a, peer_gone d
         d at 48.7 11.5
         v< nothing",
    );
}

#[test]
fn in_ringroad_v1_it_is_the_same() {
    on_any_shards(
        "b@B? registers; c@C? registers
         b at 48 11 speed=3; c at 52 11
         +30s
         v@A? connects slim
         v views 47 10 49 12
         v< connected, watching 0 of 1, complete 1, named b, state b 48 11 speed=3 (-30000ms)
         +1s
         b at 48.1 11
         v< state b 48.1 11
         b hangs up
         v< gone b
         v follows c
         v< watching 0 of 2, complete 2
         +1ms
         v< named c, state c 52 11 (-31001ms)",
    );
}

#[test]
fn a_view_that_others_have_already_costs_nothing_and_is_complete_at_once() {
    let mut play = play(
        "shards 2
         hosts 2
         b@B1 registers; b at 48 11
         v@A0 connects; v views 47.9 10.9 48.1 11.1
         +1s
         forget",
    );
    assert_eq!(listeners(&mut play, [(48.0, 11.0)]), [2]);
    drop(play.world().redis().published(&channel((48.0, 11.0))));
    play.run(
        "w@A1 connects; w views 47.95 10.95 48.05 11.05
         w< connected, watching 1 of 1, peer b 48 11 (-1000ms)
         x@A0 connects; x follows b
         x< connected, watching 1 of 1, peer b 48 11 (-1000ms)
         +60s
         v hangs up
         x follows
         +60s
         w views 47.9 10.9 48.1 11.1
         w< watching 1 of 2
         v@A0 connects; v views 47.9 10.9 48.1 11.1
         v< connected, watching 1 of 1, peer b 48 11 (-121000ms)
         count ringroad_backplane_whereabouts_asked_total = 0",
    );
    assert_eq!(play.world().redis().published(&channel((48.0, 11.0))).len(), 0, "nobody was asked");
}

#[test]
fn what_is_heard_before_anybody_has_said_why_is_kept() {
    // Which shard listens is decided by the square's name; here it is sometimes the first one, which is quickest.
    for lon in [11.1, 12.1, 13.1, 14.1, 15.1, 16.1] {
        let (west, east) = (lon - 0.01, lon + 0.01);
        let mut play = play(&format!(
            "shards 3
             hosts 2
             b@B registers; b at 48.05 {lon:.2}; a@A0 registers; a at 10 10; v@A1 connects; w@A2 connects
             +1s
             forget
             inbox 1
             at once: a at 10.001 10; v views 48 {west:.2} 48.1 {east:.2}
             +1s
             inbox 0
             v< watching 0 of 1, peer b 48.05 {lon:.1} (-2000ms)"
        ));
        drop(play.world().redis().published(&channel((48.05, lon))));
        play.run(&format!("w views 48 {west:.2} 48.1 {east:.2}\n w< watching 1 of 1, peer b 48.05 {lon:.1} (-2000ms)"));
        assert_eq!(play.world().redis().published(&channel((48.05, lon))).len(), 0, "nobody was asked");
    }
}

#[test]
fn areas_reach_across_borders_of_squares_the_antimeridian_and_the_poles() {
    // A view, and who is inside, in squares of their own: across a row's border, a column's, a corner; ±180°; a pole.
    for (view, inside, outside) in [
        ("48.163 11.1 48.165 11.2", ["48.164 11.15", "48.1645 11.15"], "48.166 11.15"),
        ("48.05 11.24 48.1 11.26", ["48.07 11.245", "48.07 11.255"], "48.07 11.265"),
        ("48.16 11.24 48.17 11.26", ["48.161 11.241", "48.169 11.259"], "48.169 11.235"),
        ("-17.1 179.9 -17 -179.9", ["-17.05 179.95", "-17.05 -179.95"], "-17.05 179.85"),
        ("89.9 -180 90 180", ["89.92 10", "89.99 -170"], "89.89 10"),
        ("-90 -180 -89.9 180", ["-89.95 120", "-90 0"], "-89.89 120"),
        ("-1 -1 1 1", ["-0.5 -0.5", "0.9 0.9"], "1.1 0"),
    ] {
        let [one, other] = inside;
        on_any_shards(&format!(
            "a@B? registers; b@C? registers; c@B? registers; v@A? connects
             a at {one}; b at {other}; c at {outside}
             +2s
             v views {view}
             +2s
             forget
             v views {view}
             v< watching 2 of 2
             a at {outside}
             v< peer_gone a
             b at {outside}
             v< peer_gone b
             c at {other}
             v< peer c {other}
             +20s
             a at {one}
             v< peer a {one}"
        ));
    }
}

#[test]
fn a_view_that_moves_is_listened_for_where_it_is_and_a_while_where_it_was() {
    const HERE_AND_THERE: [(f64, f64); 2] = [(48.05, 11.1), (48.05, 12.1)];
    for at in ["A0", "A1"] {
        let mut play = play(
            "shards 2
             hosts 2
             b@B registers; c@B1 registers; b at 48.05 11.1; c at 48.05 12.1
             +2s",
        );
        play.run(&format!(
            "v@{at} connects; v views 48.04 11 48.06 11.2
             v< connected, watching 0 of 1, peer b 48.05 11.1 (-2000ms)
             +1s"
        ));
        assert_eq!(listeners(&mut play, HERE_AND_THERE), [2, 1]);
        play.run(
            "v views 48.04 12 48.06 12.2
             v< watching 0 of 2, peer_gone b, peer c 48.05 12.1 (-3000ms)
             +9999ms",
        );
        assert_eq!(listeners(&mut play, HERE_AND_THERE), [2, 2]);
        // Back before it is forgotten, and after.
        play.run("v views 48.04 11 48.06 11.2\n v< watching 1 of 3, peer_gone c, peer b 48.05 11.1 (-12999ms)\n +1s");
        assert_eq!(listeners(&mut play, HERE_AND_THERE), [2, 2]);
        play.run("+60s\n v< nothing");
        assert_eq!(listeners(&mut play, HERE_AND_THERE), [2, 1]);
        play.run(
            "c at 48.051 12.1
             v< nothing
             v views 48.04 12 48.06 12.2
             v< watching 0 of 4, peer_gone b, peer c 48.051 12.1
             v hangs up
             +9999ms",
        );
        assert_eq!(listeners(&mut play, HERE_AND_THERE), [2, 2]);
        play.run("+1ms\n count ringroad_backplane_squares on A = 0");
        assert_eq!(listeners(&mut play, HERE_AND_THERE), [1, 1]);
    }
}

#[test]
fn what_is_forgotten_has_gone_for_those_who_come_later() {
    on_any_shards(
        "b@B? registers; b at 48.05 11.1
         v@A? connects; w@A connects; v views 48.04 11 48.06 11.2
         +1s
         forget
         v hangs up
         +20s
         b at 48.5 11.9
         w views 48.04 11 48.06 11.2
         w< watching 0 of 1
         +1s
         w< nothing
         w views 48.4 11.8 48.6 12
         w< watching 0 of 2, peer b 48.5 11.9 (-1000ms)",
    );
}

#[test]
fn near_may_be_larger_than_the_neighbourhood_and_goes_with_the_vehicle() {
    on_any_shards(
        "a@A? registers; b@B? registers; c@C? registers
         a at 48.05 11.1; b at 48.09 11.1; c at 48.05 11.3
         +1s
         forget
         a nears 5000
         a< watching 1 of 1, peer b 48.09 11.1 (-1000ms)
         b at 48.094 11.1
         a< peer b 48.094 11.1
         b at 48.1 11.1
         a< peer_gone b
         +1s
         a at 48.05 11.2
         a< nothing
         a at 48.05 11.23
         a< nothing
         a at 48.05 11.24
         +1s
         a< peer c 48.05 11.3 (-3000ms)
         a at 48.2 11.24
         a< peer_gone c
         a nears
         a at 48.05 11.3
         +1s
         a< watching 0 of 2, enter c 0
         c at 48.0501 11.3
         a< peer c 48.0501 11.3",
    );
}

#[test]
fn whoever_is_followed_is_found_wherever_it_goes() {
    let mut play = play(
        "shards 2
         hosts 3
         b@B1 registers; b at 48.05 11.1
         +1s
         v@A1 connects; v follows b
         v< connected, watching 0 of 1
         +1ms
         v< peer b 48.05 11.1 (-1001ms)
         count ringroad_backplane_whereabouts_asked_total = 1",
    );
    // It drives east over the column border at 11.25°, and further than the squares linger.
    for step in 1..200 {
        let lon = (11.1 + f64::from(step) * 0.005) * 1e7;
        let lon = lon.round() / 1e7;
        play.run(&format!("b at 48.05 {lon}\n v< peer b 48.05 {lon}\n +200ms"));
    }
    play.run("+60s\n v< nothing\n count ringroad_backplane_squares on A = 2");
    // It leaps, is parked, is taken over by a third host and by the viewer's own, and goes to the second once more.
    play.run(
        "b at -33 151
         v< peer b -33 151
         +60s
         b at 89.99 10
         v< peer b 89.99 10
         b at -17.05 179.9999
         b at -17.05 -179.9999
         v< peer b -17.05 179.9999, peer b -17.05 -179.9999
         +60s
         c@C registers as b
         c at 10 10
         +1s
         v< peer b 10 10 (-1000ms)
         +60s
         v< nothing
         d@A registers as b
         +60s
         v< nothing
         d at 20 20
         v< peer b 20 20
         f@C registers as b
         f at 21 20
         +5s
         v< peer b 21 20 (-5000ms)
         g@A1 registers as b
         +60s
         g at 22 20
         v< peer b 22 20
         +60s
         e@B registers as b
         v< nothing
         +60s
         v< peer_gone b
         e at 30 30
         +5s
         v< peer b 30 30 (-5000ms)
         e hangs up
         v< peer_gone b
         +60s
         count ringroad_backplane_squares = 0
         count ringroad_backplane_whereabouts_unknown = 0",
    );
}

#[test]
fn whoever_crosses_borders_is_not_set_back_by_what_comes_late() {
    for shard in 0..2 {
        let mut play = play(
            "shards 2
             hosts 2
             b@B registers; b at 48.05 11.1
             v@A connects; v views 48 11 48.1 16
             w@A1 connects; w follows b
             +2s
             forget",
        );
        play.run(&format!("A hears 150ms late on {shard}"));
        for step in 1..=1_000 {
            let lon = (11.1 + f64::from(step) * 0.004) * 1e7;
            play.run(&format!("b at 48.05 {}\n +50ms", lon.round() / 1e7));
        }
        play.run("+1s");
        for viewer in ["v", "w"] {
            let heard = play.heard(viewer);
            let lons: Vec<f64> = heard.iter().filter_map(|event| event.split(' ').nth(3)?.parse().ok()).collect();
            assert!(lons.is_sorted() && lons.len() > 900 && lons.last() == Some(&15.1), "{viewer} heard {heard:#?}");
        }
    }
}

#[test]
fn whoever_is_followed_is_found_when_it_comes() {
    on_any_shards(
        "v@A? connects; v follows b c
         v< connected, watching 0 of 1
         +60s
         b@B? registers
         +10s
         c@C? registers; c at 48.05 11.1
         +1s
         v< peer c 48.05 11.1 (-1000ms)
         b at 48.05 11.1
         v< peer b 48.05 11.1
         c hangs up
         b at 50 11.1
         v< peer_gone c, peer b 50 11.1
         +60s
         c@B? registers as c; c at 60 11.1
         +1s
         v< peer c 60 11.1 (-1000ms)",
    );
}

#[test]
fn whoever_has_no_place_yet_is_asked_for_now_and_then_until_nobody_follows_it() {
    let mut play = play(
        "hosts 2
         b@B registers; c@B registers
         v@A connects; v follows b c
         +1s
         count ringroad_backplane_whereabouts_asked_total = 4
         count ringroad_backplane_whereabouts_unknown = 2
         +20s
         count ringroad_backplane_whereabouts_asked_total = 16
         redis down
         +60s
         count ringroad_backplane_whereabouts_asked_total = 16
         redis up
         +5s",
    );
    let asked = play.counted("ringroad_backplane_whereabouts_asked_total");
    assert!((18..=20).contains(&asked), "{asked}");
    play.run("c at 48 11\n +4s\n forget\n count ringroad_backplane_whereabouts_unknown = 1");
    let asked = play.counted("ringroad_backplane_whereabouts_asked_total");
    play.run("v hangs up\n +60s\n count ringroad_backplane_whereabouts_unknown = 0");
    play.run(&format!("count ringroad_backplane_whereabouts_asked_total = {asked}"));
}

#[test]
fn a_thousand_who_are_followed_are_found_with_few_questions() {
    let mut play = play("set viewers.follow_max = 1000\n hosts 2\n v@A connects");
    let names: Vec<String> = (0..300).map(|n| format!("b{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let lon = n as f64 * 0.01;
        play.run(&format!("{name}@B registers; {name} at 48.05 {lon:.2}"));
    }
    drop(play.world().redis().published("v2v:to:B"));
    drop(play.world().redis().published("v2v:to:A"));
    play.run(&format!("+2s\n forget\n v follows {}\n +1s", names.join(" ")));
    assert_eq!(play.world().redis().published("v2v:to:B").len(), 3);
    assert_eq!(play.world().redis().published("v2v:to:A").len(), 3);
    let heard = play.heard("v");
    assert_eq!(heard.iter().filter(|event| event.starts_with("peer ")).count(), 300, "{heard:?}");
}

#[test]
fn questions_are_read_however_short_a_client_s_messages_have_to_be() {
    let mut play = play("set limits.message_bytes_max = 1024\n hosts 2");
    let names: Vec<String> = (0..100).map(|n| format!("b{n:035}")).collect();
    for name in &names {
        play.run(&format!("{name}@B registers; {name} at 48.05 11.1"));
    }
    for viewer in 0..5 {
        play.run(&format!("v{viewer}@A connects"));
    }
    let follow = |(viewer, names): (usize, &[String])| format!("v{viewer} follows {}", names.join(" "));
    let follows: Vec<String> = names.chunks(20).enumerate().map(follow).collect();
    drop(play.world().redis().published("v2v:to:B"));
    play.run(&format!("+2s\n forget\n at once: {}\n +1s", follows.join("; ")));
    assert_eq!(play.world().redis().published("v2v:to:B").len(), 1);
    for viewer in 0..5 {
        assert_eq!(play.heard(&format!("v{viewer}")).len(), 21);
    }
}

#[test]
fn questions_and_answers_that_are_lost_are_repeated() {
    for host in ["A", "B"] {
        play(&format!(
            "hosts 2
             b@B registers; b at 48.05 11.1; v@A connects
             +1s
             forget
             redis loses every 1 to {host}
             v follows b
             +2s
             v< watching 0 of 1
             redis loses every 0 to {host}
             +4s
             v< peer b 48.05 11.1 (-7000ms)"
        ));
    }
}

#[test]
fn a_position_that_was_lost_is_asked_for_where_its_host_says_it_is() {
    play(
        "hosts 2
         a@A registers; a at 48.051 11.1; b@B registers; v@A connects
         +1s
         forget
         redis loses every 1 to A
         b at 48.05 11.1
         redis loses every 0 to A
         +60s
         a v< nothing
         v follows b
         +1ms
         v< watching 0 of 1, peer b 48.05 11.1 (-60001ms)",
    );
}

#[test]
fn the_question_and_the_answer_are_what_the_document_says() {
    let mut play = play(
        "shards 2
         hosts 2
         b@B registers; c@B1 registers; b at 52.3 4.75; d@B registers; d at 0 0; v@A1 connects",
    );
    drop(play.world().redis().published("v2v:to:B"));
    drop(play.world().redis().published("v2v:to:A"));
    play.run("v follows b c d nobody\n +1ms");
    let asked = play.world().redis().published("v2v:to:B");
    let answered = play.world().redis().published("v2v:to:A");
    let said: Vec<String> =
        asked.iter().chain(&answered).map(|json| format!("    {}\n", String::from_utf8_lossy(json))).collect();
    assert!(said.len() == 2 && BACKPLANE.contains(&said.concat()), "what is said is\n{}", said.concat());
}

#[test]
fn nobody_needs_to_ask_for_a_vehicle_of_its_own_host() {
    play(
        "shards 2
         hosts 2
         b@A1 registers; v@A connects; v follows b
         +10s
         b at 48 11
         v< connected, watching 0 of 1, peer b 48 11
         count ringroad_backplane_whereabouts_asked_total = 0",
    );
}

#[test]
fn after_an_outage_a_view_is_right() {
    for (away, back) in [
        ("redis down", "redis up"),
        ("redis freezes", "redis thaws"),
        ("A is cut off", "A is back"),
        ("B is cut off", "B is back"),
    ] {
        for pause in ["+10ms", "+2s", "+30s"] {
            let mut play = play(
                "shards 2
                 hosts 2
                 b@B registers; c@B1 registers; d@B registers; e@B1 registers; v@A connects; w@A1 connects
                 b at 48 11; c at 48.1 11; d at 49.5 11; e at 52 11
                 v views 47 10 49 12; w follows b e
                 +1s
                 forget",
            );
            // b moves, c leaves, d comes, e goes far away; f is new.
            play.run(&format!(
                "{away}
                 {pause}
                 b at 48.2 11; c at 49.3 11; d at 48.3 11; e at 10 10; f@B registers; f at 48.4 11
                 {pause}
                 {back}
                 +20s"
            ));
            for (viewer, told) in [
                ("v", vec!["peer b 48.2 11", "peer d 48.3 11", "peer f 48.4 11", "peer_gone c"]),
                ("w", vec!["peer b 48.2 11", "peer e 10 10"]),
            ] {
                let heard = play.heard(viewer);
                let gone_again = |name: &str| {
                    let last = heard.iter().rfind(|event| event.split(' ').nth(1) == Some(name));
                    last.cloned().unwrap_or_default()
                };
                for event in &told {
                    let last = gone_again(event.split(' ').nth(1).expect("a name"));
                    assert!(last.starts_with(event), "{away:?} {pause}: {viewer} last heard {last:?}: {heard:?}");
                }
            }
        }
    }
}

#[test]
fn whoever_is_taken_over_before_an_outage_is_where_it_was_until_it_is_over() {
    play(
        "shards 2
         hosts 2
         b@A registers; b at 48.05 11.1; v@A1 connects; v follows b
         +1s
         forget
         b2@B registers as b; b2 at 50 10
         redis down
         +30s
         v< nothing
         redis up
         +2s
         v< peer b 50 10 (-32000ms)",
    );
}

#[test]
fn the_vehicles_of_a_dead_host_go_from_the_view() {
    on_any_shards(
        "b@B? registers; c@C? registers; b at 48 11; c at 48.1 11; v@A? connects; w@A? connects
         v views 47 10 49 12; w follows b
         +1s
         forget
         B dies
         +8s
         v w< nothing
         +4s
         v w< peer_gone b
         B starts
         b@B? registers; b at 48.2 11
         +1s
         v w< peer b 48.2 11 (-1000ms)",
    );
}

#[test]
fn a_host_that_restarts_at_once_is_seen_as_it_is_now() {
    on_any_shards(
        "b@B? registers; c@B? registers; b at 48 11; c at 48.1 11; v@A? connects
         v views 47 10 49 12
         +1s
         forget
         B dies
         B starts
         b@B? registers; b at 48.2 11
         +1s
         v< peer_gone c, peer_gone b, peer b 48.2 11 (-1000ms)",
    );
}

#[test]
fn a_view_of_too_many_squares_is_refused_where_hosts_are_joined() {
    let script = "set viewers.area_km2_max = 600000000
         HOSTS
         v connects
         v views 88 -180 90 180
         v views 89 -180 90 180
         v views -90 -180 90 180
         +1s";
    let mut joined = play(&script.replace("HOSTS", "hosts 2"));
    let heard = joined.heard("v");
    assert_eq!(heard, ["connected", "error view_too_large", "watching 0 of 1", "error view_too_large"]);
    joined.run("count ringroad_backplane_squares on A = 6144");
    let heard = play(&script.replace("HOSTS", "")).heard("v");
    assert_eq!(heard, ["connected", "watching 0 of 1", "watching 0 of 2", "watching 0 of 3"]);
}
