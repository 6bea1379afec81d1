//! The command line: what may be asked, and how answers and failures are told.
//!
//! Exit codes: 0 done, 1 failed while running, 2 asked for something that cannot be (usage or configuration). A drive is
//! done whatever its ratio, unless no vehicle could register or none was left at its end.

mod announced;
mod backplane;
mod doctor;
mod drive;
mod logs;
mod repeats;
mod watched;

use std::io::{ErrorKind, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ringroad::config::{self, Config, LogLevel};
use ringroad::drive::{DriveOptions, Recording};
use ringroad::gateway;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

pub use announced::{announcement, demo_announcement};
pub use doctor::{DoctorArgs, doctor};
pub use drive::DriveArgs;
use repeats::Repeats;
pub use watched::{LiveTable, ProgressLine};

/// The whole command line. Without a subcommand its flags are those of `serve`.
#[derive(Debug, Parser)]
#[command(name = "ringroad", version, about, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    asked: Option<Asked>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What was asked for.
#[derive(Debug, Subcommand)]
pub enum Asked {
    /// Run the gateway (also without the word `serve`)
    Serve(ServeArgs),
    /// Run a fleet of vehicles that speaks the real protocol against a gateway
    Drive(DriveArgs),
    /// Run a gateway and the bundled city trace against it
    Demo(DemoArgs),
    /// Print the effective configuration as TOML, with a comment for every key
    Config(ConfigArgs),
    /// Say what of this host keeps Ringroad from running well, and what to do about it
    Doctor(DoctorArgs),
}

/// Where a configuration comes from.
#[derive(Args, Clone, Debug, Default)]
pub struct Sources {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one value, as in `--set vehicles.nearby_radius_m=300`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `ringroad serve`
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Listen beside the gateway whose process id is in this file, and have it drain; then keep our own there
    #[arg(long, value_name = "PIDFILE")]
    pub replace: Option<PathBuf>,
}

/// The gateway's part of what may be asked.
#[derive(Args, Clone, Debug, Default)]
pub struct GatewayArgs {
    #[command(flatten)]
    sources: Sources,
    /// Address and port to listen on [default: 0.0.0.0:3002]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Worker threads; 0: one per core [default: 0]
    #[arg(long, value_name = "N")]
    workers: Option<u16>,
}

/// `ringroad demo`
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// The gateway's part.
    #[command(flatten)]
    pub serve: GatewayArgs,
    /// Replay the trace this many times faster than it was recorded
    #[arg(long, value_name = "X", default_value_t = 10.0, value_parser = positive)]
    pub speedup: f64,
    /// Updates per second and vehicle
    #[arg(long, value_name = "F", default_value_t = 2.0, value_parser = positive)]
    pub hz: f64,
    /// Stop after this time [default: the whole trace]
    #[arg(long, value_name = "S", value_parser = positive)]
    pub seconds: Option<f64>,
}

/// Keys of tokens, or a certificate, that cannot be used now are an error of the configuration.
fn look_at_files(config: &Config) -> Result<(), Failure> {
    gateway::keys(&config.auth).map_err(|error| Failure::Usage(error.to_string()))?;
    gateway::encryption(&config.tls).map(drop).map_err(|error| Failure::Usage(error.to_string()))
}

/// `ringroad config`
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(flatten)]
    serve: GatewayArgs,
    /// Only say whether the configuration is valid
    #[arg(long)]
    check: bool,
    /// Print secrets instead of ********
    #[arg(long, conflicts_with = "check")]
    show_secrets: bool,
}

/// Why nothing came of it.
#[derive(Debug)]
pub enum Failure {
    /// Asked for something that cannot be: exit code 2.
    Usage(String),
    /// Went wrong while running: exit code 1.
    Runtime(String),
}

impl Failure {
    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Failure::Usage(reason) | Failure::Runtime(reason) => reason,
        }
    }

    /// Tells the reason on stderr and answers the exit code.
    pub fn tell(self) -> ExitCode {
        let (reason, code) = match self {
            Failure::Usage(reason) => (reason, 2),
            Failure::Runtime(reason) => (reason, 1),
        };
        for line in reason.lines() {
            // Nothing is left to tell it to when stderr is gone.
            let _ = writeln!(std::io::stderr(), "ringroad: {line}");
        }
        ExitCode::from(code)
    }
}

/// Reads the command line; ends the process if it cannot be read, or asks for help only.
pub fn asked() -> Asked {
    let line = CommandLine::parse();
    line.asked.unwrap_or(Asked::Serve(line.serve))
}

/// Logs to stderr or the journal, as `RINGROAD_LOG` or else `RUST_LOG` asks for; without either, from a level on.
pub fn start_logs() -> Result<Logs, Failure> {
    let wanted = ["RINGROAD_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty());
        text.map(|text| (name, text))
    });
    let is_asked_for = wanted.is_some();
    let filter = match wanted {
        Some((name, text)) => {
            EnvFilter::try_new(&text).map_err(|error| Failure::Usage(format!("{name}={text}: {error}")))?
        }
        None => EnvFilter::new("info"),
    };
    let (lines, journal) = match logs::Format::asked()? {
        logs::Format::Lines(lines) => (Some(lines), None),
        logs::Format::Journal(journal) => (None, Some(journal)),
    };
    let lines = lines.map(|lines| {
        tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            // It would report a broken stderr on stderr, and panic.
            .log_internal_errors(false)
            .event_format(lines)
    });
    let (filter, handle) = reload::Layer::new(filter);
    let repeats = Repeats::default();
    tracing_subscriber::registry().with(filter).with(repeats.clone()).with(lines).with(journal).init();
    let change = move |level: LogLevel| {
        // It fails only once nothing is logged any more.
        let _ = handle.reload(EnvFilter::new(level.as_str()));
    };
    Ok(Logs { change: (!is_asked_for).then(|| Box::new(change) as Box<_>), repeats })
}

/// What is logged, to be changed.
pub struct Logs {
    /// `None`: the environment has decided.
    change: Option<Box<dyn Fn(LogLevel)>>,
    /// What is held back of what repeats.
    pub repeats: Repeats,
}

impl Logs {
    /// Logs as the configuration says; from which level on, unless the environment says what is logged.
    pub fn configure(&self, config: &config::Log) {
        if let Some(change) = &self.change {
            change(config.level);
        }
        self.repeats.configure(config);
    }
}

impl DemoArgs {
    /// A drive of the bundled recording against our own gateway.
    pub fn options(self, config: &Config, addr: SocketAddr, recording: &'static [u8]) -> DriveOptions {
        let mut addr = addr;
        match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        DriveOptions {
            url: format!("ws://{addr}{}", config.server.path),
            hz: self.hz,
            seconds: self.seconds,
            recording: Some(Recording::Bundled(recording)),
            speedup: self.speedup,
            radius_m: config.vehicles.nearby_radius_m,
            ..DriveOptions::default()
        }
    }
}

impl ServeArgs {
    /// The configuration to run with.
    pub fn config(&self) -> Result<Config, Failure> {
        self.gateway.config()
    }

    /// The configuration as it is now; warnings are logged.
    pub fn effective(&self) -> Result<Config, Failure> {
        self.gateway.effective()
    }
}

impl GatewayArgs {
    /// The configuration to run with: the node has a name, and no server refuses it.
    pub fn config(&self) -> Result<Config, Failure> {
        let mut config = self.effective()?;
        config.redis.name_node();
        look_at_files(&config)?;
        backplane::look_at_servers(&config)?;
        Ok(config)
    }

    /// The effective configuration; warnings are logged.
    fn effective(&self) -> Result<Config, Failure> {
        // A variable that is not UTF-8 is kept, changed: if it is one of ours, its value is refused by name.
        let env = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        let loaded = config::load(self.sources.config.as_deref(), env, &self.sets())
            .map_err(|error| Failure::Usage(error.to_string()))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(loaded.config)
    }

    /// `--listen` and `--workers` are short for a `--set` that comes last.
    fn sets(&self) -> Vec<String> {
        let listen = self.listen.map(|listen| format!("server.listen={listen}"));
        let workers = self.workers.map(|workers| format!("server.workers={workers}"));
        self.sources.set.iter().cloned().chain(listen).chain(workers).collect()
    }
}

/// `ringroad config`
pub fn show_config(args: &ConfigArgs) -> Result<(), Failure> {
    let config = args.serve.effective()?;
    if args.check {
        look_at_files(&config)?;
        backplane::look_at_servers(&config)?;
    }
    let text = match (args.check, args.show_secrets) {
        (true, _) => "configuration is valid\n".to_owned(),
        (false, true) => config::to_toml_commented(&config),
        (false, false) => config::to_toml_commented(&config::masked(&config)),
    };
    say(&text)
}

/// Writes to stdout. A reader that has seen enough, as in `| head`, is no failure.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Runtime(format!("stdout: {error}"))),
        _ => Ok(()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("expected a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn lines_are_taken_or_refused() {
        let taken = [
            "ringroad",
            "ringroad --listen 127.0.0.1:0 --workers 2 --set a.b=c --set d.e=f --config x.toml",
            "ringroad serve --listen [::]:1 --workers 0",
            "ringroad serve --replace /run/ringroad/pid",
            "ringroad drive ws://localhost:3002/v2v",
            "ringroad drive wss://localhost:3002/v2v --tls-ca ca.pem",
            "ringroad drive ws://h/ --vehicles 4000 --hz 2 --seconds 30 --side 10000",
            "ringroad drive ws://h/ --trace t.csv.gz --speedup 10 --hz 0.5",
            "ringroad drive ws://h/ --protocol binary --viewers 3 --view 800 --neighbours 0 --judge-every 8",
            "ringroad drive ws://h/ --protocol json --viewers 3 --view -30.5,-98,-30,179.5",
            "ringroad demo --speedup 20 --listen 127.0.0.1:0",
            "ringroad config --check --config x.toml",
            "ringroad config --show-secrets --set auth.secret=x",
            "ringroad doctor --json --capacity --config x.toml --listen 127.0.0.1:1 --workers 2 --root /tree --pid 1",
        ];
        for line in taken {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        let refused = [
            "ringroad bogus",
            "ringroad --listen localhost",
            "ringroad --workers -1",
            "ringroad --workers 2 drive ws://h/",
            "ringroad drive",
            "ringroad drive ws://h/ --hz 0",
            "ringroad drive ws://h/ --hz nan",
            "ringroad drive ws://h/ --vehicles 0",
            "ringroad drive ws://h/ --speedup 2",
            "ringroad drive ws://h/ --trace t --side 5",
            "ringroad drive ws://h/ --protocol xml",
            "ringroad drive ws://h/ --judge-every 0",
            "ringroad drive ws://h/ --view 500",
            "ringroad drive ws://h/ --viewers 1 --view 0",
            "ringroad drive ws://h/ --viewers 1 --view 30,-98,31",
            "ringroad drive ws://h/ --viewers 1 --view 31,-98,30,-97",
            "ringroad drive ws://h/ --viewers 1 --view 30,-181,31,-97",
            "ringroad drive ws://h/ --viewers 1 --view 30,-98,91,-97",
            "ringroad drive ws://h/ --viewers 1 --view nan,-98,31,-97",
            "ringroad config --check --show-secrets",
            "ringroad doctor --pid self",
        ];
        for line in refused {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_flags_of_serve_work_without_its_name() {
        let line = parse("ringroad --workers 3 --listen 127.0.0.1:9 --set server.workers=5").expect("serve");
        assert!(line.asked.is_none());
        assert_eq!(line.serve.gateway.sets(), ["server.workers=5", "server.listen=127.0.0.1:9", "server.workers=3"]);
    }

    #[test]
    fn the_demo_drives_to_where_its_gateway_listens() {
        for (listening_on, url) in [
            ("0.0.0.0:3002", "ws://127.0.0.1:3002/v2v"),
            ("[::]:3002", "ws://[::1]:3002/v2v"),
            ("10.0.0.7:9", "ws://10.0.0.7:9/v2v"),
            ("[fe80::1%2]:9", "ws://[fe80::1%2]:9/v2v"),
        ] {
            let Some(Asked::Demo(args)) = parse("ringroad demo").expect("demo").asked else { panic!("not demo") };
            let options = args.options(&Config::default(), listening_on.parse().expect("an address"), &[]);
            assert_eq!(options.url, url);
        }
    }
}
