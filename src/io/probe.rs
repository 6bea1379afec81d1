//! Whether this host lets us use io_uring as we need it, and if not, whose decision that is.

use std::fs;
use std::io;

use io_uring::IoUring;

use super::ring::DataRing;

/// The first kernel with `DEFER_TASKRUN`, which is what makes the data ring worth having.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// What a ring here can do beyond what every ring that Ringroad uses can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// It can wait for completions to gather before it wakes (Linux 6.12).
    pub min_wait: bool,
}

/// Why io_uring cannot be used here, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The kernel is too old.
    #[error("kernel {0} is too old for Ringroad's use of io_uring; 6.1 or newer is needed")]
    KernelTooOld(String),
    /// The kernel was built without io_uring, or something pretends so.
    #[error("this kernel has no io_uring (ENOSYS); it needs CONFIG_IO_URING, and a sandbox such as gVisor has none")]
    Missing,
    /// `kernel.io_uring_disabled` is 1 or 2.
    #[error(
        "io_uring is switched off by sysctl kernel.io_uring_disabled = {0}; set it to 0{group}",
        group = if *.0 == 1 { ", or run as a member of the group in kernel.io_uring_group" } else { "" }
    )]
    Disabled(u8),
    /// A security policy forbids it.
    #[error(
        "io_uring is forbidden here (EPERM): usually by a container's seccomp profile, which must allow \
         io_uring_setup, io_uring_enter and io_uring_register; else by the security module (SELinux, AppArmor)"
    )]
    Forbidden,
    /// The memory of the rings does not fit under the limit for locked memory.
    #[error(
        "the rings do not fit into the locked-memory limit ({0}); raise it: LimitMEMLOCK=infinity in the systemd unit, \
         or ulimit -l unlimited"
    )]
    LockedMemory(String),
    /// Something else.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

/// Creates a small ring of the needed kind and drops it again.
pub fn check() -> Result<Features, Unavailable> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_some_and(|version| version < KERNEL_MIN) {
        return Err(Unavailable::KernelTooOld(release.trim().to_owned()));
    }
    let ring: io::Result<IoUring> = DataRing::builder().build(8);
    ring.map(|ring| Features { min_wait: ring.params().is_feature_min_timeout() }).map_err(explain)
}

/// Finds out who is behind the failure to set up a ring.
pub(crate) fn explain(error: io::Error) -> Unavailable {
    let disabled = || fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Unavailable::Missing,
        Some(libc::EPERM | libc::EACCES) => match disabled() {
            Some(level @ 1..) => Unavailable::Disabled(level),
            _ => Unavailable::Forbidden,
        },
        Some(libc::ENOMEM) => {
            let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK);
            Unavailable::LockedMemory(match limit {
                Ok((nix::libc::RLIM_INFINITY, _)) | Err(_) => "unlimited: the memory itself is short".to_owned(),
                Ok((bytes, _)) => format!("{} KiB", bytes / 1024),
            })
        }
        _ => Unavailable::Other(error),
    }
}

/// The first two numbers of a kernel's release.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_distributions_write_them() {
        assert_eq!(version("6.1.0-13-amd64\n"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("6.18-rc1"), Some((6, 18)));
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn this_host_will_do() {
        check().unwrap();
    }

    #[test]
    fn a_failure_names_who_is_behind_it() {
        let error = |number| explain(io::Error::from_raw_os_error(number)).to_string();
        assert!(error(libc::ENOSYS).contains("CONFIG_IO_URING"));
        assert!(error(libc::EPERM).contains("seccomp") || error(libc::EPERM).contains("io_uring_disabled"));
        assert!(error(libc::ENOMEM).contains("locked-memory"));
        assert!(Unavailable::Disabled(1).to_string().contains("io_uring_group"));
        assert!(!Unavailable::Disabled(2).to_string().contains("io_uring_group"));
    }
}
