//! Dates as mail writes them (RFC 5322 3.3), and durations as operators write them. No clock is read here.

use std::fmt::{self, Write};
use std::time::Duration;

/// A point in time, printed as `Sun, 22 Nov 2026 05:10:49 +0000`. Always UTC: a zone would need a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc5322Date(
    /// Seconds since 1970.
    pub u64,
);

impl fmt::Display for Rfc5322Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = civil(days);
        let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[(month - 1) as usize]);
        write!(f, "{weekday}, {day} {month} {year} ")?;
        write_two_digits(f, second / 3600)?;
        f.write_char(':')?;
        write_two_digits(f, second / 60 % 60)?;
        f.write_char(':')?;
        write_two_digits(f, second % 60)?;
        f.write_str(" +0000")
    }
}

/// As `{:02}`, without what padding costs: there is a date in each message.
fn write_two_digits(f: &mut fmt::Formatter<'_>, number: u64) -> fmt::Result {
    for digit in [number / 10 % 10, number % 10] {
        f.write_char(char::from(b'0' + digit as u8))?;
    }
    Ok(())
}

impl Rfc5322Date {
    /// The same point in time as `2026-11-22T05:10:49Z` (RFC 3339), for logs and tables.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = civil(self.0 / 86_400);
        let second = self.0 % 86_400;
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Seconds since 1970 of a point in time as RFC 3339 writes it, in any zone; a part of a second is left out. `None` for
/// anything else, for dates that do not exist, and for those before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let text = text.is_ascii().then_some(text)?;
    let number = |from: usize, len: usize| {
        let digits = text.get(from..from + len)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let is = |at: usize, marks: &[u8]| text.as_bytes().get(at).is_some_and(|b| marks.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let days = days_since_1970(year, month, day)?;
    if hour > 23 || minute > 59 || second > 60 || civil(days) != (year, month, day) {
        return None;
    }
    let mut zone = text.get(19..)?;
    if let Some(fraction) = zone.strip_prefix('.') {
        let end = fraction.bytes().position(|b| !b.is_ascii_digit()).filter(|end| *end > 0)?;
        zone = fraction.get(end..)?;
    }
    let local = days * 86_400 + hour * 3600 + minute * 60 + second;
    if zone.eq_ignore_ascii_case("Z") {
        return Some(local);
    }
    let at = text.len().checked_sub(6)?;
    let (hours, minutes) = (number(at + 1, 2)?, number(at + 4, 2)?);
    if zone.len() != 6 || !is(at + 3, b":") || hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = hours * 3600 + minutes * 60;
    match zone.as_bytes().first() {
        Some(b'+') => local.checked_sub(ahead),
        Some(b'-') => Some(local + ahead),
        _ => None,
    }
}

/// The day count of a date, right or not, from 1970 on; [`civil`] says whether there is such a date.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // Years that begin with March, so that the odd day is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

/// Year, month and day of a day count since 1970, in the proleptic Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Eras of 400 years begin on 1 March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Parses `300`, `300s`, `5m`, `4h`, `5d`, `250ms` or sums such as `1h30m`; a bare number counts seconds.
/// `None` for anything else and for more than 1000 days.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const MAX: Duration = Duration::from_secs(1000 * 86_400);
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds)).filter(|d| *d <= MAX);
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let number: u64 = rest[..digits].parse().ok().filter(|n| *n <= MAX.as_secs() * 1000)?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let milliseconds = match rest[digits..unit_end].trim() {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = rest[unit_end..].trim_start();
    }
    Some(total).filter(|d| !text.is_empty() && *d <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_print_as_rfc_5322_writes_them() {
        assert_eq!(Rfc5322Date(0).to_string(), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(Rfc5322Date(1_795_324_249).to_string(), "Sun, 22 Nov 2026 05:10:49 +0000");
        assert_eq!(Rfc5322Date(951_782_400).to_string(), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(Rfc5322Date(1_795_324_249).rfc3339(), "2026-11-22T05:10:49Z");
    }

    #[test]
    fn points_in_time_are_read_as_they_are_written() {
        for seconds in [0, 951_782_400, 951_868_799, 1_795_324_249, 4_107_542_399] {
            assert_eq!(parse_rfc3339(&Rfc5322Date(seconds).rfc3339()), Some(seconds));
        }
        assert_eq!(parse_rfc3339("2026-11-22t06:10:49.25+01:00"), Some(1_795_324_249));
        assert_eq!(parse_rfc3339("2026-11-21T23:40:49-05:30"), Some(1_795_324_249));
        for bad in [
            "",
            "2026-11-22",
            "2026-11-22T05:10:49",
            "2026-11-22 05:10:49Z",
            "2026-02-29T05:10:49Z",
            "2026-13-01T05:10:49Z",
            "2026-00-01T05:10:49Z",
            "2026-11-31T05:10:49Z",
            "2026-11-22T24:10:49Z",
            "2026-11-22T05:10:49.Z",
            "2026-11-22T05:10:49+1:00",
            "2026-11-22T05:10:49+24:00",
            "2026-11-22T05:10:49Zz",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "+026-11-22T05:10:49Z",
            "2026-11-22T05:10:é9Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("300"), Some(Duration::from_secs(300)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "x", "5x", "h", "-1s", "1.5h", "99999999999999999999s", "2000d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
