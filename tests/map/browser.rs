//! Chromium without a screen, for one test. `CHROMIUM` names another program than `chromium`.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::devtools::Page;
use crate::until;

/// A browser and everything that it has started; ended together when this is dropped.
pub struct Browser {
    child: Child,
    dir: TempDir,
}

impl Browser {
    pub fn start() -> Browser {
        Browser::start_with(&[])
    }

    /// With options of its own.
    pub fn start_with(options: &[&str]) -> Browser {
        let program = env::var("CHROMIUM").unwrap_or_else(|_| "chromium".into());
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(&program);
        command
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-extensions"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
            // The map needs the gateway and nobody else.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg("--hide-scrollbars")
            .arg(format!("--user-data-dir={}", dir.path().display()))
            .args(options)
            .arg("about:blank");
        // What we have just made is ours.
        if dir.path().metadata().expect("it is there").uid() == 0 {
            command.arg("--no-sandbox");
        }
        // Its helpers are its process group, and what it writes lies in its own directory.
        for name in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(name, dir.path());
        }
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("these tests need {program}: {error}"));
        Browser { child, dir }
    }

    /// A window of its own of so many pixels, with nothing in it yet.
    pub fn page(&mut self, width: u32, height: u32) -> Page {
        let file = self.dir.path().join("DevToolsActivePort");
        let mut address = None;
        until("the browser listens", || {
            assert_eq!(self.child.try_wait().expect("our child"), None, "the browser has ended");
            address = address_in(&file);
            address.is_some()
        });
        Page::open(&address.expect("just waited for"), width, height)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

/// The file has the port in its first line and the path of the browser's own WebSocket in its second.
fn address_in(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (port, path) = text.trim_end().split_once('\n')?;
    Some(format!("127.0.0.1:{port}{path}"))
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The group is there as long as our child has not been waited for.
        let killed = killpg(self.group(), Signal::SIGKILL);
        let waited = self.child.wait();
        if !std::thread::panicking() {
            killed.expect("our own process group");
            waited.expect("our child");
            // Helpers that have not quite ended may still write there.
            until("the browser's directory can go", || fs::remove_dir_all(self.dir.path()).is_ok());
        }
    }
}
