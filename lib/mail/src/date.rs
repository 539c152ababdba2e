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
    fn durations() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("300"), Some(Duration::from_secs(300)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["", "x", "5x", "h", "-1s", "1.5h", "99999999999999999999s", "2000d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
