//! Ringroad under load, beside what else could be used and beside what the kernel itself takes.
//!
//! `cargo bench --bench load` measures everything; names after `--` choose scenarios. `--rounds=N` (3), `--with=NAME` only
//! contenders with that in their names (several times), `--save=NAME` also writes `benches/results/NAME.md`. `-- --test`
//! runs each scenario for a moment. Servers are processes of their own on the first processor; the client, one thread of
//! this process, has another. What runs where and how to read it: `benches/README.md`.

#[path = "../shared/bench.rs"]
#[expect(dead_code, reason = "scenarios are named in full, and nothing here is a wish")]
mod bench;
#[path = "../shared/gateway.rs"]
#[expect(dead_code, reason = "what a gateway counts is looked at by other benchmarks")]
mod gateway;
#[path = "../shared/machine.rs"]
#[expect(dead_code, reason = "waiting for a quiet machine is other benchmarks' way")]
mod machine;
#[path = "../hosts/redis.rs"]
#[expect(dead_code, reason = "gateways are started in another way here")]
mod redis;
#[path = "../shared/table.rs"]
mod table;

mod client;
mod contender;
mod facts;
mod floors;
mod paths;
mod places;
mod scenarios;
mod stage;

use std::process::ExitCode;

use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Asked, Extent, PATIENCE};
use crate::machine::Seat;
use crate::stage::Stage;

/// As in the gateway's own binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs this process as the contender of that name.
type Serve = fn(&str, &[String]) -> ExitCode;

/// What runs a contender that is within this executable; `None`: there is none of that name.
fn server(name: &str) -> Option<Serve> {
    let own: [(&[&str], Serve); 2] = [(&floors::NAMES, floors::serve), (&paths::NAMES, paths::serve)];
    own.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, serve)| serve)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, name, args @ ..] = &args[..]
        && serve == "serve"
    {
        let Some(serve) = server(name) else {
            eprintln!("load: there is no contender {name:?} in here");
            return ExitCode::from(2);
        };
        return serve(name, args);
    }
    let asked = Asked::read();
    let rounds = option(&args, "--rounds=").next_back().and_then(|rounds| rounds.parse().ok());
    let rounds = rounds.unwrap_or(asked.extent.pick(1, 3));
    let mut stage = Stage::new(asked.extent, rounds, option(&args, "--with=").map(str::to_owned).collect());
    if let Err(error) = allow_descriptors() {
        eprintln!("load: {error}");
    }
    let named: Vec<&str> = args.iter().map(|arg| &arg[..]).filter(|arg| !arg.starts_with("--")).collect();
    let known = |named: &&&str| scenarios::ALL.iter().any(|(name, _)| name == *named);
    if let Some(unknown) = named.iter().find(|named| !known(named)) {
        let names: Vec<&str> = scenarios::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!("load: there is no scenario {unknown:?} among {}", names.join(", "));
        return ExitCode::from(2);
    }
    stage.say(format!("{}\n", machine::describe()));
    machine::seated(Seat::Beside, || {
        for (_, run) in scenarios::ALL.iter().filter(|(name, _)| named.is_empty() || named.contains(name)) {
            run(&mut stage);
        }
    });
    if let Some(name) = option(&args, "--save=").next_back()
        && asked.extent == Extent::Full
    {
        let command = ["cargo bench --bench load --"].into_iter().chain(args.iter().map(|arg| &arg[..]));
        let command: Vec<&str> = command.filter(|arg| *arg != "--bench").collect();
        if let Err(error) = stage.save(name, &command.join(" ")) {
            eprintln!("load: the results are not kept: {error}");
            return ExitCode::FAILURE;
        }
    }
    stage.verdict.tell()
}

/// What is said behind an option, each time.
fn option<'a>(args: &'a [String], name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
    args.iter().filter_map(move |arg| arg.strip_prefix(name))
}

/// As many descriptors as this process, and who it starts, may have.
fn allow_descriptors() -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

/// Waits until something is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
