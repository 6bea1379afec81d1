//! The certificate of the port, as the shell has found it: files that only it can read.

use super::{Check, Finding};

/// Less than this, and its renewal is late: ACME clients renew 30 days ahead.
const DAYS_MIN: u64 = 14;

const DAY_S: u64 = 86_400;

/// What is to be said of a certificate that ends at this time (seconds since 1970), or cannot be used for this reason.
pub fn look(expires_unix_s: Result<u64, String>, now_unix_s: u64) -> Finding {
    let wanted = format!("usable, {DAYS_MIN} days or more");
    let check = Check { name: "certificate", wanted: &wanted };
    match expires_unix_s {
        Ok(expires_unix_s) => {
            let days = expires_unix_s.saturating_sub(now_unix_s) / DAY_S;
            let value = format!("ends in {days} days");
            match days < DAYS_MIN {
                true => {
                    check.warn(value, "renew it, have it copied to where `tls.certificate` is, and reload the gateway")
                }
                false => check.ok(value),
            }
        }
        Err(why) => check.blocking("of no use", format!("{why}; see TLS in docs/OPERATIONS.md")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_certificate_is_good_late_or_of_no_use() {
        let now = 1_800_000_000;
        let cases = [
            (Ok(now + 90 * DAY_S), Verdict::Ok, "ends in 90 days"),
            (Ok(now + DAYS_MIN * DAY_S), Verdict::Ok, "ends in 14 days"),
            (Ok(now + DAYS_MIN * DAY_S - 1), Verdict::Warn, "ends in 13 days"),
            (Err("`tls.key` /k.pem: there is no private key in it".to_owned()), Verdict::Blocking, "of no use"),
        ];
        for (found, verdict, value) in cases {
            let finding = look(found.clone(), now);
            assert_eq!((finding.verdict, finding.value.as_deref()), (verdict, Some(value)), "{found:?}");
            let fix = finding.fix.unwrap_or_default();
            assert_eq!(fix.is_empty(), verdict == Verdict::Ok);
            assert!(fix.contains(found.as_ref().err().map_or("", String::as_str)), "{fix}");
        }
    }
}
