//! A host of its own: a real systemd as process 1 of new namespaces (`boot` says how), without a virtual machine or an image.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

/// Far beyond what anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Host {
    boot: Child,
    /// Its process 1, as this machine numbers it.
    init: Pid,
    cgroup: Cgroup,
    _folder: tempfile::TempDir,
}

impl Host {
    /// A host that has booted. `None`: this machine does not let one be made, and why has been printed.
    pub fn boot() -> Option<Host> {
        Host::boot_with(&[])
    }

    /// The same, with the service in place and enabled before.
    pub fn boot_installed() -> Option<Host> {
        Host::boot_with(&["installed"])
    }

    fn boot_with(options: &[&str]) -> Option<Host> {
        Host::try_boot(options).map_err(|why| eprintln!("skipped: no systemd can be run here: {why}")).ok()
    }

    fn try_boot(options: &[&str]) -> Result<Host, String> {
        if !fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            return Err("needs root".to_owned());
        }
        for program in ["/lib/systemd/systemd", "/usr/bin/unshare", "/usr/bin/nsenter", "/usr/bin/setpriv"] {
            if !Path::new(program).exists() {
                return Err(format!("{program} is not installed"));
            }
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let cgroup = Cgroup::make(folder.path().file_name().expect("a name").to_str().expect("ASCII"))?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut boot = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(source.join("tests/systemd/boot"))
            .args([folder.path(), &cgroup.0, Path::new(env!("CARGO_BIN_EXE_ringroad")), source])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut stderr = boot.stderr.take().expect("a pipe");
        let init = match init_of(&mut boot) {
            Some(init) => init,
            None => {
                let mut why = String::new();
                let _ = boot.kill();
                let _ = boot.wait();
                let _ = stderr.read_to_string(&mut why);
                return Err(why.trim().replace('\n', "; "));
            }
        };
        // systemd says the rest to its journal.
        drop(stderr);
        let host = Host { boot, init, cgroup, _folder: folder };
        host.until("the host is up", || {
            let state = host.run("systemctl is-system-running");
            matches!(text(&state.stdout).trim(), "running" | "degraded")
        });
        Ok(host)
    }

    /// Runs lines of a shell there, in the repository that was checked out. It stops at the first that fails.
    pub fn run(&self, lines: &str) -> Output {
        let lines = format!("cd /opt/ringroad\n{lines}");
        Command::new("nsenter")
            .arg(format!("--target={}", self.init))
            .args(["--mount", "--pid", "--net", "--cgroup", "--uts", "--ipc", "--"])
            .args([
                "env",
                "-i",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "sh",
                "-euc",
                &lines,
            ])
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs")
    }

    /// The same of lines that have to succeed. What they have printed.
    pub fn ask(&self, lines: &str) -> String {
        let output = self.run(lines);
        let said = [&output.stdout, &output.stderr].map(|bytes| text(bytes));
        assert!(output.status.success(), "{lines}\n{}\n{}", said.concat(), self.log());
        said[0].trim_end().to_owned()
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < deadline, "waited in vain: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of the host's journal.
    fn log(&self) -> String {
        text(&self.run("journalctl --no-pager --lines 40").stdout).to_owned()
    }

    /// What `systemctl show` says of a unit.
    pub fn shows(&self, unit: &str, property: &str) -> String {
        self.ask(&format!("systemctl show --property {property} --value {unit}"))
    }

    /// The processes of a unit, as this machine numbers them.
    pub fn processes(&self, unit: &str) -> Vec<i32> {
        let path = self.cgroup.0.join("system.slice").join(unit).join("cgroup.procs");
        let listed = fs::read_to_string(path).unwrap_or_default();
        listed.lines().map(|pid| pid.parse().expect("a number")).collect()
    }

    /// Takes the calling thread, and what it starts, into the host's network.
    pub fn enter_network(&self) {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init)).expect("it runs");
        setns(network, CloneFlags::CLONE_NEWNET).expect("root may");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // With `unshare` its process 1 goes, with that all others, and with the last one what was mounted.
        let _ = self.boot.kill();
        let _ = self.boot.wait();
    }
}

/// The one child of `unshare`, once it is systemd. `None`: `boot` has ended.
fn init_of(boot: &mut Child) -> Option<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", boot.id());
    let deadline = Instant::now() + PATIENCE;
    while boot.try_wait().expect("our child").is_none() && Instant::now() < deadline {
        let listed = fs::read_to_string(&children).unwrap_or_default();
        if let Some(child) = listed.split_whitespace().next()
            && fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "systemd")
        {
            return Some(Pid::from_raw(child.parse().expect("a number")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// A cgroup of version 2, taken away with all below it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Result<Cgroup, String> {
        let mounts = fs::read_to_string("/proc/mounts").map_err(|error| error.to_string())?;
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mounted = fields.filter(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| fields[1].to_owned());
        let hierarchy = mounted.into_iter().next().ok_or("no cgroup of version 2 is mounted")?;
        let path = Path::new(&hierarchy).join(format!("ringroad-test{name}"));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Cgroup(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a moment until the last process has left.
        let deadline = Instant::now() + PATIENCE;
        while !remove(&self.0) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        if self.0.exists() {
            eprintln!("{} could not be removed", self.0.display());
        }
    }
}

/// Removes a cgroup and those below it; whether it is gone.
fn remove(cgroup: &Path) -> bool {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for child in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&child.path());
    }
    fs::remove_dir(cgroup).is_ok()
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}
