//! The machine under the figures: what it is, how busy it is, and who uses its processors.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Ticks per second in `/proc/*/stat`: the kernel's USER_HZ, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a process so far, user and system, all of its threads.
pub fn process_seconds(pid: u32) -> f64 {
    seconds(Path::new(&format!("/proc/{pid}/stat")))
}

/// Processor time so far, of whatever `stat` file of a process or thread.
pub fn seconds(stat: &Path) -> f64 {
    let text = fs::read_to_string(stat).unwrap_or_else(|error| panic!("{}: {error}", stat.display()));
    // The name stands in parentheses and may have spaces in it.
    let (_, fields) = text.rsplit_once(") ").expect("a name in parentheses");
    let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(|field| field.parse().expect("ticks")).collect();
    ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND
}

/// Processors that this process may use; whoever asks while it has a seat is told what it was given at first.
fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("its own affinity");
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).collect()
    })
}

/// Who runs where. A gateway that is busy for milliseconds would else delay whoever its messages wake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// Each gateway has the processor of its number.
    Gateway(usize),
    /// All others have what is left, or share with the last gateway.
    Beside,
}

/// Lets this thread, and what it starts meanwhile, run only there.
pub fn seated<T>(seat: Seat, work: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(Pid::from_raw(0)).expect("its own affinity");
    let cpus = cpus();
    let seats: &[usize] = match seat {
        Seat::Gateway(number) => &[cpus[number % cpus.len()]],
        Seat::Beside => cpus.get(2..).filter(|rest| !rest.is_empty()).unwrap_or(&cpus[cpus.len() - 1..]),
    };
    let mut only = CpuSet::new();
    seats.iter().try_for_each(|cpu| only.set(*cpu)).expect("a number of a processor");
    sched_setaffinity(Pid::from_raw(0), &only).expect("a processor of ours");
    let done = work();
    sched_setaffinity(Pid::from_raw(0), &before).expect("as it was");
    done
}

/// Beyond this share of one processor, other work shows in the figures.
const QUIET: f64 = 0.1;

/// How long the machine may take to become quiet.
const QUIET_PATIENCE: Duration = Duration::from_secs(20);

/// What all processes together have used so far, seconds.
fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").expect("procfs");
    let first = text.lines().next().expect("a line for all processors");
    let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // User, nice, system, interrupts and what the hypervisor took; not idle and waiting for disks.
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<u64>() as f64 / TICKS_PER_SECOND
}

/// How much other work this machine does meanwhile.
pub struct Others {
    began: Instant,
    busy: f64,
    own: f64,
}

impl Others {
    pub fn watch() -> Others {
        Others { began: Instant::now(), busy: busy_seconds(), own: process_seconds(std::process::id()) }
    }

    /// As a share of one processor, without this process and what its children have used meanwhile, seconds.
    pub fn share(&self, children: f64) -> f64 {
        let own = process_seconds(std::process::id()) - self.own;
        ((busy_seconds() - self.busy - own - children) / self.began.elapsed().as_secs_f64()).max(0.0)
    }
}

/// Whether figures that were taken beside so much other work are worth little.
pub fn is_disturbed(others: f64) -> bool {
    others > QUIET
}

/// Waits until this machine has hardly anything else to do, but not for long.
pub fn wait_for_quiet() {
    let deadline = Instant::now() + QUIET_PATIENCE;
    loop {
        let others = Others::watch();
        thread::sleep(Duration::from_secs(1));
        if !is_disturbed(others.share(0.0)) || Instant::now() > deadline {
            return;
        }
    }
}

/// What the figures were measured on, and what was measured.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} CPUs, {}; Linux {}; commit {}", cpus().len(), model.unwrap_or("unknown model"), kernel.trim(), commit())
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let said = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(args).output().ok()?;
        said.status.success().then(|| String::from_utf8_lossy(&said.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".to_owned() };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| changes.is_empty());
    if clean { hash } else { format!("{hash} with changes") }
}
