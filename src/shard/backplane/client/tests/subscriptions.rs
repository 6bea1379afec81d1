//! What is listened to, and how the client knows.

use super::*;

fn subscribe(world: &mut World, channels: &[&str]) {
    for channel in channels {
        world.client.subscribe(world.now, Spread::Everywhere, channel.as_bytes());
    }
}

#[test]
fn messages_are_told_as_long_as_they_are_wanted() {
    let (mut world, link) = World::ready();
    subscribe(&mut world, &["a", "b"]);
    assert_eq!(world.asked(link), ["SUBSCRIBE a b"]);
    world.answer(link, &(confirmation("subscribe", "a") + &confirmation("subscribe", "b")));
    assert_eq!(world.news(), [subscribed("a"), subscribed("b")]);
    world.client.unsubscribe(world.now, Spread::Everywhere, b"b");
    assert_eq!(world.asked(link), ["UNSUBSCRIBE b"]);
    let messages = [
        push(&["message", "a", "one"]),
        push(&["message", "b", "late"]),
        push(&["pmessage", "*", "a", "x"]),
        push(&["invalidate", "k"]),
        push(&["something", "new"]),
        push(&[]),
        confirmation("unsubscribe", "b"),
        push(&["message", "a", "two"]),
    ];
    world.answer(link, &messages.concat());
    let message = |payload: &str| News::Message { channel: b"a"[..].into(), payload: payload.into() };
    assert_eq!(world.news(), [message("one"), message("two")]);
}

#[test]
fn an_error_answers_a_subscription_that_nothing_has_confirmed() {
    let (mut world, link) = World::ready();
    subscribe(&mut world, &["a", "b"]);
    world.carry_out();
    world.send("k", "GET k", 1).expect("ready");
    world.answer(link, "-NOPERM no channel\r\n:1\r\n");
    assert_eq!(world.news(), [reply(1, 1)]);
    assert_eq!((world.client.counts().unsubscribed, world.client.refusal()), (2, Some("NOPERM no channel")));

    subscribe(&mut world, &["c", "d"]);
    assert_eq!(world.asked(link).last().map(String::as_str), Some("SUBSCRIBE a b c d"));
    world.send("k", "GET k", 2).expect("ready");
    // Some were confirmed, so this is the command's.
    world.answer(link, &(confirmation("subscribe", "a") + "-ERR no\r\n"));
    assert_eq!(world.news(), [subscribed("a"), outcome(2, Outcome::Refused("ERR no".into()))]);
}

#[test]
fn a_reply_behind_a_subscription_belongs_to_its_own_command() {
    let (mut world, link) = World::ready();
    subscribe(&mut world, &["a"]);
    world.carry_out();
    world.client.unsubscribe(world.now, Spread::Everywhere, b"a");
    world.send("k", "GET k", 1).expect("ready");
    world.answer(link, ":1\r\n");
    assert_eq!(world.news(), [reply(1, 1)]);
}

#[test]
fn a_channel_may_be_left_and_wanted_again_at_once() {
    let (mut world, link) = World::ready();
    subscribe(&mut world, &["a"]);
    world.carry_out();
    world.client.unsubscribe(world.now, Spread::Everywhere, b"a");
    subscribe(&mut world, &["a"]);
    assert_eq!(world.asked(link), ["SUBSCRIBE a", "UNSUBSCRIBE a", "SUBSCRIBE a"]);
    let kinds = ["subscribe", "unsubscribe", "subscribe"];
    world.answer(link, &kinds.map(|kind| confirmation(kind, "a")).concat());
    assert_eq!(world.news().last(), Some(&subscribed("a")));
    world.answer(link, &push(&["message", "a", "x"]));
    assert_eq!(world.news().len(), 1);
}

#[test]
fn many_channels_are_restored_in_batches() {
    let (mut world, link) = World::ready();
    let channels: Vec<String> = (0..limits::SUBSCRIBE_CHANNELS_MAX + 1).map(|number| number.to_string()).collect();
    subscribe(&mut world, &channels.iter().map(String::as_str).collect::<Vec<_>>());
    world.carry_out();
    world.down(link);
    world.pass(limits::LINK_RETRY_MS);
    let link = world.link(1);
    world.greet(link);
    let lengths: Vec<_> = world.asked(link).iter().map(|asked| asked.split(' ').count() - 1).collect();
    assert_eq!(lengths, [limits::SUBSCRIBE_CHANNELS_MAX, 1]);
}

/// Lets ten seconds pass with a server that answers nothing but pings, and how much the link is subscribed to.
fn reconcile(world: &mut World, link: LinkId, info: &str) -> Vec<String> {
    let mut other = Vec::new();
    for _ in 0..limits::RECONCILE_MS / limits::LINK_PING_MS {
        world.pass(limits::LINK_PING_MS);
        for command in world.asked(link) {
            match command.as_str() {
                "PING" => world.answer(link, "+PONG\r\n"),
                "CLIENT INFO" => world.answer(link, &format!("={}\r\ntxt:{info}\r\n", info.len() + 4)),
                _ => other.push(command),
            }
        }
    }
    other.extend(world.asked(link));
    other
}

#[test]
fn what_was_never_confirmed_is_asked_for_again() {
    let (mut world, link) = World::ready();
    subscribe(&mut world, &["a", "b"]);
    assert_eq!(world.asked(link), ["SUBSCRIBE a b"]);
    world.answer(link, &confirmation("subscribe", "a"));
    let info = "id=3 sub=1 psub=0 ssub=0 multi=-1\n";
    assert_eq!(reconcile(&mut world, link, info), ["SUBSCRIBE b"]);
    assert_eq!(world.client.counts().resubscribed, 1);
    world.answer(link, &confirmation("subscribe", "b"));
    assert_eq!(world.news(), [subscribed("a"), subscribed("b")]);
    assert_eq!(reconcile(&mut world, link, &info.replace("sub=1", "sub=2")), Vec::<String>::new());
}

#[test]
fn what_a_server_has_ended_is_asked_for_again() {
    let (mut world, link) = World::ready();
    subscribe(&mut world, &["a", "b"]);
    world.carry_out();
    world.answer(link, &(confirmation("subscribe", "a") + &confirmation("subscribe", "b")));
    world.asked(link);
    // It says so,
    world.answer(link, &confirmation("unsubscribe", "b"));
    assert_eq!(world.client.counts().unsubscribed, 1);
    assert_eq!(reconcile(&mut world, link, "sub=1 psub=0"), ["SUBSCRIBE b"]);
    world.answer(link, &confirmation("subscribe", "b"));
    // or it does not, but knows of fewer than it has confirmed.
    assert_eq!(reconcile(&mut world, link, "sub=1 psub=0"), ["SUBSCRIBE a b"]);
    assert_eq!(world.client.counts().resubscribed, 3);
}
