//! `ringroad doctor`

use std::path::PathBuf;

use clap::Args;
use ringroad::doctor::{self, Host, Needs, Uring, capacity, certificate};
use ringroad::gateway;
use ringroad::io::{probe, unix_ms};

use super::{Failure, GatewayArgs, say};

/// `ringroad doctor`
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Also estimate how many connections this host can hold, and what limits it first
    #[arg(long)]
    capacity: bool,
    /// Read the limits of this process instead of one's own: a gateway that runs
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Read a copy of another host's /proc and /sys in this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Reports; that Ringroad cannot run here is a failure.
pub fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let config = args.gateway.effective()?;
    let needs = Needs::of(&config);
    let host = Host::below(&args.root, args.pid);
    if !host.has("proc") {
        return Err(Failure::Usage(format!("--root {}: there is no proc in it", args.root.display())));
    }
    if let Some(pid) = args.pid.filter(|pid| !host.has(&format!("proc/{pid}"))) {
        return Err(Failure::Usage(format!("--pid {pid}: there is no such process")));
    }
    let uring = if host.is_this() {
        match probe::check() {
            Ok(features) => Uring::Usable { min_wait: features.min_wait },
            Err(refused) => Uring::Refused(refused.to_string()),
        }
    } else {
        Uring::Untried("files do not tell; ask on the host itself".to_owned())
    };
    let mut report = doctor::examine(&host, &needs, &uring);
    if host.is_this() && config.tls.is_on() {
        let found = gateway::encryption(&config.tls).map_err(|error| error.to_string());
        let expires_unix_s =
            found.map(|found| found.map_or(0, |(encryption, _)| encryption.certificate.expires_unix_s));
        report.add(certificate::look(expires_unix_s, unix_ms() / 1_000));
    }
    report.capacity = args.capacity.then(|| capacity::estimate(&host, &needs));
    say(&if args.json { report.to_json() + "\n" } else { report.to_string() })?;
    let blocking: Vec<_> = report.blocking().collect();
    if blocking.is_empty() { Ok(()) } else { Err(Failure::Runtime(format!("blocking: {}", blocking.join(", ")))) }
}
