//! The data path on trial: the gateway's own shard under two other shells, which live only here.
//!
//! - `path-epoll`: epoll, recv(2) into one buffer for all, send(2). No io_uring anywhere.
//! - `path-tasks`: one monoio task per connection with a buffer of its own, as a program on an io_uring runtime has it;
//!   sends as in `path-epoll`.
//!
//! Both keep the whole contract of `turn.rs` that client sockets need, with the bounds of the gateway's shell: rounds of at
//! most 10 ms, half of it for receiving. They have one worker, so no mesh, and neither Redis nor a radio modem: settings
//! that ask for these are refused. What they measure is the way of bytes between the kernel and the shard.
//!
//! In reading order: `settings`, `door` (listener and end), `table` (who is connected), `shell` (what both do alike),
//! `epoll`, `tasks`.

use std::io;
use std::process::ExitCode;

pub mod door;
pub mod epoll;
pub mod settings;
pub mod shell;
mod table;
pub mod tasks;

use door::Door;
use shell::Shell;

/// Their names.
pub const NAMES: [&str; 2] = ["path-epoll", "path-tasks"];

/// Serves until the process is asked to end. `args` are the gateway's settings: `--set KEY=VALUE`, repeated.
pub fn serve(name: &str, args: &[String]) -> ExitCode {
    let config = match settings::read(args) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("{name}: {why}");
            return ExitCode::from(2);
        }
    };
    let served = door::goodbye().and_then(|goodbye| {
        door::raise_descriptor_limit()?;
        let door = Door::open(config.server.listen, config.limits.unsent_bytes_max)?;
        door.announce(name)?;
        match name {
            "path-epoll" => epoll::run(door, Shell::new(config), goodbye),
            "path-tasks" => tasks::run(door, Shell::new(config), goodbye.into()),
            _ => Err(io::Error::other("no such path")),
        }
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
