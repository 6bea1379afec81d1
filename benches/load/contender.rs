//! Who is measured: Ringroad, what else could be used, and what the kernel itself takes.
//!
//! Any command is a contender that says ` listening on 127.0.0.1:PORT` in its first line, serves, and ends at SIGTERM.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::Talk;
use crate::gateway::Gateway;

/// How a contender is started.
enum Kind {
    /// The real binary, one worker.
    Ringroad,
    /// A server within this benchmark, by its name; `load serve NAME` runs it.
    Own,
    /// A script under `benches/peers`, what runs it, and its arguments.
    Peer { runtime: &'static str, script: &'static str, args: &'static [&'static str] },
}

pub struct Contender {
    pub name: &'static str,
    pub talk: Talk,
    kind: Kind,
}

/// A JSON contender that the benchmark has in itself.
const fn own(name: &'static str, talk: Talk) -> Contender {
    Contender { name, talk, kind: Kind::Own }
}

const fn peer(
    name: &'static str,
    runtime: &'static str,
    script: &'static str,
    args: &'static [&'static str],
) -> Contender {
    Contender { name, talk: Talk::Json, kind: Kind::Peer { runtime, script, args } }
}

pub const RINGROAD: Contender = Contender { name: "ringroad", talk: Talk::Json, kind: Kind::Ringroad };
pub const RINGROAD_V1: Contender = Contender { name: "ringroad.v1", talk: Talk::Slim, kind: Kind::Ringroad };
pub const NODE_WS: Contender = peer("node ws", "node", "ws.mjs", &[]);
pub const BUN: Contender = peer("bun", "bun", "bun.mjs", &[]);
pub const BUN_CORK: Contender = peer("bun cork", "bun", "bun.mjs", &["--cork"]);
pub const SOCKET_IO: Contender = Contender {
    name: "socket.io",
    talk: Talk::SocketIo,
    kind: Kind::Peer { runtime: "node", script: "socketio.mjs", args: &[] },
};
pub const FLOOR_SEND: Contender = own("floor-send", Talk::Bare);
pub const FLOOR_RECV: Contender = own("floor-recv", Talk::Bare);
pub const PATH_EPOLL: Contender = own("path-epoll", Talk::Json);
pub const PATH_TASKS: Contender = own("path-tasks", Talk::Json);

impl Contender {
    /// Starts it on a processor of its own. `settings` are those of Ringroad's shard; others have none.
    pub fn start(&self, number: usize, settings: &[&str]) -> Result<Gateway, String> {
        self.start_with(number, settings, &[])
    }

    /// The same, with something in its environment.
    pub fn start_with(&self, number: usize, settings: &[&str], env: &[(&str, &str)]) -> Result<Gateway, String> {
        let mut command = self.command(settings)?;
        command.envs(env.iter().copied());
        Gateway::launch(self.name, number, command)
    }

    /// Why it cannot be started here, if so.
    pub fn absence(&self) -> Option<String> {
        self.command(&[]).err()
    }

    fn command(&self, settings: &[&str]) -> Result<Command, String> {
        match self.kind {
            Kind::Ringroad => Ok(Gateway::command(settings)),
            Kind::Own if crate::server(self.name).is_some() => {
                let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
                command.args(["serve", self.name]);
                if self.talk != Talk::Bare {
                    command.args(settings.iter().copied().flat_map(|set| ["--set", set]));
                }
                Ok(command)
            }
            Kind::Own => Err("not there".to_owned()),
            Kind::Peer { runtime, script, args } => {
                let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
                let script = peers.join(script);
                if !script.exists() || !peers.join("node_modules").exists() {
                    return Err("not installed (scripts/peers)".to_owned());
                }
                let runtime = found(runtime, &peers).ok_or_else(|| format!("{runtime} is not installed"))?;
                let mut command = Command::new(runtime);
                command.arg(script).args(["--port", "0"]).args(args);
                Ok(command)
            }
        }
    }
}

/// A program that the peers bring with them, or of the PATH.
fn found(program: &str, peers: &Path) -> Option<PathBuf> {
    let brought = peers.join("node_modules/.bin").join(program);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&paths).map(|path| path.join(program));
    std::iter::once(brought).chain(installed).find(|path| path.is_file())
}
