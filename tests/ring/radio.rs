//! The serial line, played by a pseudoterminal.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::ttyname;
use ringroad::io::counters::ShellCounters;
use ringroad::io::radio::Radio;
use ringroad::io::{Options, start};
use ringroad::metrics::Counters;
use ringroad::turn::{Core, Input, Now, ShardId, Turn};

use crate::{options, until};

/// Answers each line of the radio with as many bytes as it says.
#[derive(Default)]
struct Modem {
    heard: Vec<u8>,
    say: Vec<u8>,
    said: bool,
    mail: Vec<(ShardId, ())>,
    counters: Counters,
    seen: Arc<Mutex<ShellCounters>>,
    stopped: bool,
}

impl Core for Modem {
    type Mail = ();

    fn handle(&mut self, _now: Now, input: Input<'_, ()>) {
        match input {
            Input::Radio { bytes } => self.heard.extend_from_slice(bytes),
            Input::Stop => self.stopped = true,
            // On a busy machine a worker is busy.
            Input::Load { .. } => {}
            _ => unreachable!(),
        }
    }

    fn poll_turn(&mut self, _now: Now) -> Option<Turn<'_, ()>> {
        self.seen.lock().unwrap().clone_from(&self.counters.shell);
        if std::mem::take(&mut self.said) {
            self.say.clear();
        }
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        let count = std::str::from_utf8(&line).unwrap().trim().parse().unwrap();
        self.say.resize(count, b'r');
        self.said = true;
        Some(Turn {
            arena: &[],
            log: &[],
            sends: &[],
            finished: &[],
            released: &[],
            mail: &mut self.mail,
            radio: &self.say,
            connects: 0,
            links: &[],
            link_bytes: &[],
        })
    }

    /// Looks every 10 ms, so that the test sees the counters.
    fn next_deadline(&self) -> Option<u64> {
        Some(self.counters.shell.pumps * 10)
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }
}

#[test]
fn the_radio_is_heard_and_answered_and_its_loss_is_survived() {
    let pty = openpty(None, None).unwrap();
    let radio = Radio::open(&ttyname(&pty.slave).unwrap(), 57_600).unwrap();
    let seen = Arc::<Mutex<ShellCounters>>::default();
    let view = seen.clone();
    let options = Options { listen: None, radio: Some(radio), ..options() };
    let running = start(options, move |_| Modem { seen: view.clone(), ..Modem::default() }).unwrap();
    let counters = || seen.lock().unwrap().clone();

    let mut line = File::from(pty.master);
    line.write_all(b"5").unwrap();
    line.write_all(b"\n3\n").unwrap();
    let mut back = [0; 8];
    line.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"rrrrrrrr");

    // More than the line and the queue before it take: the rest is shed, and what was kept arrives.
    line.write_all(b"200000\n").unwrap();
    until("bytes are shed", || counters().radio_bytes_shed > 0);
    let kept = 200_000 - counters().radio_bytes_shed;
    let mut back = vec![0; kept as usize];
    line.read_exact(&mut back).unwrap();
    assert!(back.iter().all(|byte| *byte == b'r'));
    until("all is written", || counters().radio_written_bytes == kept + 8);

    drop(pty.slave);
    drop(line);
    until("the loss is noticed", || counters().radio_lost == 1);
    running.stop();
    running.join().unwrap();
}

#[test]
fn a_radio_that_comes_back_is_heard_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("modem");
    let attach = || {
        let pty = openpty(None, None).unwrap();
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(ttyname(&pty.slave).unwrap(), &path).unwrap();
        pty
    };
    let first = attach();
    let radio = Radio::open(&path, 57_600).unwrap();
    let seen = Arc::<Mutex<ShellCounters>>::default();
    let view = seen.clone();
    let options = Options { listen: None, radio: Some(radio), ..options() };
    let running = start(options, move |_| Modem { seen: view.clone(), ..Modem::default() }).unwrap();
    drop(first);
    until("the loss is noticed", || seen.lock().unwrap().radio_lost == 1);

    let second = attach();
    // A line that nobody has opened yet echoes what is written to it.
    let echoes = || tcgetattr(&second.slave).unwrap().local_flags.contains(LocalFlags::ECHO);
    until("the radio is back", || !echoes());
    let mut line = File::from(second.master);
    line.write_all(b"3\n").unwrap();
    let mut back = [0; 3];
    line.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"rrr");
    running.stop();
    running.join().unwrap();
}
