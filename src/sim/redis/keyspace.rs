//! The commands on keys.

use super::resp::Output;
use super::store::Store;
use super::wrong_number;

/// Carries out a command on keys. `fields_max`: the most that one step through a hash shows.
pub(super) fn execute(
    store: &mut Store,
    out: &mut Output,
    name: &str,
    args: &[&[u8]],
    fields_max: usize,
) -> Result<(), String> {
    match (name, args) {
        ("SET", [key, text, options @ ..]) => set(store, out, key, text, options)?,
        ("DEL", [_, ..]) => out.integer(args.iter().filter(|key| store.delete(key)).count() as i64),
        ("EXISTS", [_, ..]) => out.integer(args.iter().filter(|key| store.has(key)).count() as i64),
        ("HSCAN", [key, cursor, options @ ..]) => {
            let count = match options {
                [] => 10,
                [b"COUNT", count] => number(count)?,
                _ => return Err("ERR syntax error".into()),
            };
            let (next, shown) = store.scan(key, number(cursor)?, (count as usize).min(fields_max))?;
            out.head('*', 2);
            out.bulk(next.to_string().as_bytes());
            out.head('*', shown.len() * 2);
            shown.iter().flatten().for_each(|text| out.bulk(text));
        }
        ("RPUSH", [key, elements @ ..]) if !elements.is_empty() => {
            let list = store.list(key)?;
            list.extend(elements.iter().map(|element| element.to_vec()));
            out.integer(list.len() as i64);
        }
        ("LTRIM", [key, start, stop]) => {
            let list = store.list(key)?;
            let len = list.len() as i64;
            let place = |index: i64| if index < 0 { (len + index).max(0) } else { index.min(len) };
            let (start, stop) = (place(number(start)?), place(number(stop)?) + 1);
            list.truncate(stop.clamp(0, len) as usize);
            list.drain(..start.clamp(0, list.len() as i64) as usize);
            store.tidy(key);
            out.simple("OK");
        }
        ("SET" | "DEL" | "EXISTS" | "HSCAN" | "RPUSH" | "LTRIM", _) => return Err(wrong_number(name)),
        _ => return Err(format!("ERR unknown command '{name}'")),
    }
    Ok(())
}

fn set(store: &mut Store, out: &mut Output, key: &[u8], text: &[u8], mut options: &[&[u8]]) -> Result<(), String> {
    let (mut lives_ms, mut only_new) = (None, false);
    loop {
        options = match options {
            [] => break,
            [b"NX", rest @ ..] => {
                only_new = true;
                rest
            }
            [b"PX", ms, rest @ ..] => {
                lives_ms = Some(number(ms)?);
                rest
            }
            _ => return Err("ERR syntax error".into()),
        };
    }
    if only_new && store.has(key) {
        out.null();
    } else {
        store.set(key, text, lives_ms);
        out.simple("OK");
    }
    Ok(())
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Result<N, String> {
    let number = std::str::from_utf8(text).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| "ERR value is not an integer or out of range".into())
}
