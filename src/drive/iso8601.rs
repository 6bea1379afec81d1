//! Times as traces write them: `2016-12-16T05:34:02-06:00`.

/// Milliseconds since the Unix epoch of an ISO 8601 date and time with its offset (`Z`, `±hh:mm`, `±hhmm`, `±hh`). A
/// time without an offset could be any of 26 hours and is refused.
pub fn unix_ms(text: &str) -> Option<i64> {
    let mut rest = Reader { bytes: text.trim_ascii().as_bytes() };
    let year = rest.number(4)?;
    rest.expect(b"-")?;
    let month = rest.number(2).filter(|month| (1..=12).contains(month))?;
    rest.expect(b"-")?;
    let day = rest.number(2).filter(|&day| day >= 1 && day <= days_in(year, month))?;
    rest.expect(b"Tt ")?;
    let hour = rest.number(2).filter(|&hour| hour < 24)?;
    rest.expect(b":")?;
    let minute = rest.number(2).filter(|&minute| minute < 60)?;
    rest.expect(b":")?;
    // 60 is a leap second, which Unix time does not have.
    let second = rest.number(2).filter(|&second| second <= 60)?.min(59);
    let ms = if rest.expect(b".,").is_some() { rest.fraction_ms()? } else { 0 };
    let offset_min = rest.offset_min()?;
    let days = days_since_epoch(year, month, day);
    Some((((days * 24 + hour) * 60 + minute - offset_min) * 60 + second) * 1000 + ms)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn expect(&mut self, any_of: &[u8]) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        any_of.contains(&byte).then(|| {
            self.bytes = rest;
            byte
        })
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.bytes.split_at_checked(digits)?;
        self.bytes = rest;
        number.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + (digit - b'0') as i64))
    }

    fn fraction_ms(&mut self) -> Option<i64> {
        let digits = self.bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = self.bytes.split_at(digits);
        self.bytes = rest;
        let ms = fraction.iter().chain(b"000").take(3).fold(0, |ms, digit| ms * 10 + (digit - b'0') as i64);
        (digits > 0).then_some(ms)
    }

    /// To the end of the text.
    fn offset_min(&mut self) -> Option<i64> {
        let sign = match self.expect(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return self.bytes.is_empty().then_some(0),
        };
        let hours = self.number(2)?;
        let minutes = match self.bytes.is_empty() {
            true => 0,
            false => {
                self.expect(b":");
                self.number(2)?
            }
        };
        (self.bytes.is_empty() && hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar (Howard Hinnant, `days_from_civil`): years begin in March, so that
/// the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2016-12-16T05:34:02-06:00", 1_481_888_042_000),
            ("2016-12-16 11:34:02.5Z", 1_481_888_042_500),
            ("2016-12-16T11:34:02,123456+0000", 1_481_888_042_123),
            ("2000-02-29T23:59:59+00", 951_868_799_000),
            ("1969-12-31T23:59:59.999Z", -1),
            (" 2025-10-09T08:53:20.000+05:30 ", 1_759_980_200_000),
        ] {
            assert_eq!(unix_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn times_that_are_none() {
        for text in [
            "",
            "yesterday",
            "2016-12-16",
            "2016-12-16T05:34:02",
            "2016-13-16T05:34:02Z",
            "2015-02-29T05:34:02Z",
            "2016-12-00T05:34:02Z",
            "2016-12-16T24:34:02Z",
            "2016-12-16T05:34:02.Z",
            "2016-12-16T05:34:02Zulu",
            "2016-12-16T05:34:02+6",
            "2016-12-16T05:34:02+06:0é",
            "２016-12-16T05:34:02Z",
        ] {
            assert_eq!(unix_ms(text), None, "{text}");
        }
    }
}
