//! What keeps a gateway from starting is told at once, with what to do about it.

// A seccomp filter can only be set in the child, between fork and exec.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::gateway::{Gateway, ringroad};

fn fails(args: &[&str], code: i32, words: &[&str]) {
    told(ringroad(args).output().expect("the binary runs"), code, words);
}

fn told(output: Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(stderr.contains(word), "no {word:?} in {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_second_gateway_on_the_port_says_that_it_is_taken() {
    let gateway = Gateway::start(&[]);
    let addr = gateway.addr.to_string();
    fails(&["serve", "--listen", &addr, "--workers", "1"], 1, &[&addr, "the port is in use"]);
    Client::connect(gateway.addr).register("car-1").goodbye();
}

#[test]
fn a_setting_that_cannot_be_is_named() {
    fails(&["serve", "--set", "vehicles.nearby_radius=3"], 2, &["nearest known key is `vehicles.nearby_radius_m`"]);
    fails(&["serve", "--set", "vehicles.nearby_radius_m=-3"], 2, &["vehicles.nearby_radius_m"]);
    let nowhere = ["--listen", "127.0.0.1:0", "--workers", "1", "--set", "radio.device=/dev/no-such-modem"];
    fails(&nowhere, 1, &["/dev/no-such-modem"]);
    fails(&["--listen", "192.0.2.1:9", "--workers", "1"], 1, &["192.0.2.1:9", "no interface"]);
}

/// Starts the binary where `io_uring_setup` fails with this error.
fn without_io_uring(error: i32) -> Output {
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        // The number of the system call, which `seccomp_data` begins with.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, ALLOW),
    ];
    let mut command = ringroad(&["--listen", "127.0.0.1:0", "--workers", "2"]);
    let forbid = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: prctl reads its arguments, and `program` and the filter that it points to outlive the call; the
        // kernel keeps a copy. Without the first call only root may set a filter.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(forbid) };
    command.output().expect("the binary runs")
}

#[test]
fn without_io_uring_it_says_who_forbids_it() {
    let begun = Instant::now();
    told(without_io_uring(libc::EPERM), 1, &["io_uring", "EPERM", "seccomp"]);
    told(without_io_uring(libc::ENOSYS), 1, &["io_uring", "ENOSYS", "CONFIG_IO_URING"]);
    told(without_io_uring(libc::ENOMEM), 1, &["locked-memory limit", "LimitMEMLOCK"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
