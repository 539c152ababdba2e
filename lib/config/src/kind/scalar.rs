//! Flags, numbers, sizes, times and choices.

use std::fmt;
use std::time::Duration;

use vsmtp_mail::parse_duration;

use super::Kind;
use crate::value::Value;

/// True or false.
#[derive(Debug)]
pub(crate) struct Flag;

impl Kind for Flag {
    type Out = bool;

    fn read(&self, value: &Value) -> Result<bool, String> {
        match value {
            Value::Bool(flag) => Ok(*flag),
            other => Err(other.describe()),
        }
    }

    fn write(&self, out: &bool) -> Value {
        Value::Bool(*out)
    }

    fn expected(&self) -> String {
        "true or false".to_owned()
    }
}

/// A whole number in a range.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl Kind for Count {
    type Out = u32;

    fn read(&self, value: &Value) -> Result<u32, String> {
        match value {
            Value::Int(number) => u32::try_from(*number)
                .ok()
                .filter(|n| (self.min..=self.max).contains(n))
                .ok_or_else(|| value.describe()),
            other => Err(other.describe()),
        }
    }

    fn write(&self, out: &u32) -> Value {
        Value::Int(i64::from(*out))
    }

    fn expected(&self) -> String {
        format!("an integer from {} to {}", self.min, self.max)
    }
}

/// A whole number in a range, or -1 for no limit.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl Kind for Limit {
    type Out = Option<u32>;

    fn read(&self, value: &Value) -> Result<Option<u32>, String> {
        if *value == Value::Int(-1) {
            return Ok(None);
        }
        Count { min: self.min, max: self.max }.read(value).map(Some)
    }

    fn write(&self, out: &Option<u32>) -> Value {
        Value::Int(out.map_or(-1, i64::from))
    }

    fn expected(&self) -> String {
        format!("an integer from {} to {}, or -1 for no limit", self.min, self.max)
    }
}

/// A number of octets: `1048576`, `"1MiB"` or `"1MB"`.
#[derive(Debug)]
pub(crate) struct Bytes {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// Binary units, largest first, for display; decimal ones are read only.
const BINARY: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const DECIMAL: [(&str, u64); 4] =
    [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000)];

impl Kind for Bytes {
    type Out = u64;

    fn read(&self, value: &Value) -> Result<u64, String> {
        let octets = match value {
            Value::Int(number) => u64::try_from(*number).ok(),
            Value::Text(text) => parse_size(text),
            _ => None,
        };
        octets.filter(|n| (self.min..=self.max).contains(n)).ok_or_else(|| value.describe())
    }

    fn write(&self, out: &u64) -> Value {
        Value::Int(i64::try_from(*out).unwrap_or(i64::MAX))
    }

    fn expected(&self) -> String {
        format!(
            "a size from {} to {}, such as 1048576 or \"1MiB\"",
            shown_size(self.min),
            shown_size(self.max)
        )
    }

    fn shown(&self, value: &Value) -> String {
        match value {
            Value::Int(number) => u64::try_from(*number).map_or_else(|_| super::plain(value), shown_size),
            other => super::plain(other),
        }
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim();
    let factor = match unit {
        "" | "B" => 1,
        _ => BINARY.iter().chain(&DECIMAL).find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn shown_size(octets: u64) -> String {
    match BINARY.iter().find(|(_, factor)| octets >= *factor && octets.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("\"{}{unit}\"", octets / factor),
        None => octets.to_string(),
    }
}

/// A span of time: seconds, or a text such as `"5m"`, `"1h30m"`, `"250ms"`.
#[derive(Debug)]
pub(crate) struct Period {
    /// Milliseconds.
    pub(crate) min: u64,
    /// Milliseconds.
    pub(crate) max: u64,
}

pub(crate) const SECOND: u64 = 1000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

impl Kind for Period {
    type Out = Duration;

    fn read(&self, value: &Value) -> Result<Duration, String> {
        let period = match value {
            Value::Int(seconds) => u64::try_from(*seconds).ok().and_then(|s| parse_duration(&s.to_string())),
            Value::Text(text) => parse_duration(text),
            _ => None,
        };
        let range = Duration::from_millis(self.min)..=Duration::from_millis(self.max);
        period.filter(|p| range.contains(p)).ok_or_else(|| value.describe())
    }

    fn write(&self, out: &Duration) -> Value {
        Value::Text(shown_period(*out))
    }

    fn expected(&self) -> String {
        let [min, max] = [self.min, self.max].map(|ms| shown_period(Duration::from_millis(ms)));
        format!("a time from {min} to {max}, such as 30 (seconds), \"90s\", \"5m\" or \"1h30m\"")
    }
}

fn shown_period(period: Duration) -> String {
    let mut left = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length) in [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)] {
        if left >= length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    text
}

/// One of a closed list of words, each with its Rust value.
#[derive(Debug)]
pub(crate) struct OneOf<T: 'static> {
    pub(crate) of: &'static [(&'static str, T)],
}

impl<T: fmt::Debug + Copy + PartialEq + Sync> Kind for OneOf<T> {
    type Out = T;

    fn read(&self, value: &Value) -> Result<T, String> {
        match value {
            Value::Text(text) => self.of.iter().find(|(word, _)| word == text).map(|(_, t)| *t),
            _ => None,
        }
        .ok_or_else(|| value.describe())
    }

    fn write(&self, out: &T) -> Value {
        let word = self.of.iter().find(|(_, value)| value == out).map_or("", |(word, _)| word);
        Value::Text(word.to_owned())
    }

    fn expected(&self) -> String {
        let words: Vec<_> = self.of.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("one of {}", words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn sizes() {
        let kind = Bytes { min: 10, max: 1 << 40 };
        assert_eq!(kind.read(&Value::Int(10_000_000)), Ok(10_000_000));
        assert_eq!(kind.read(&text("10MB")), Ok(10_000_000));
        assert_eq!(kind.read(&text("10 MiB")), Ok(10 << 20));
        assert_eq!(kind.read(&text("10mib")), Ok(10 << 20));
        assert_eq!(kind.read(&text("2048B")), Ok(2048));
        for bad in
            ["", "MB", "-1", "1.5MB", "10 apples", "99999999999999999999", "18446744073709551615TiB", "9"]
        {
            assert!(kind.read(&text(bad)).is_err(), "{bad}");
        }
        assert!(kind.read(&Value::Int(-1)).is_err());
        assert_eq!(kind.shown(&Value::Int(64 << 20)), "\"64MiB\"");
        assert_eq!(kind.shown(&Value::Int(10_000_000)), "10000000");
    }

    #[test]
    fn periods_read_back_what_they_write() {
        let kind = Period { min: 0, max: 30 * DAY };
        for (written, canonical) in
            [("90", "1m30s"), ("1h30m", "1h30m"), ("0", "0s"), ("1500ms", "1s500ms"), ("5d", "5d")]
        {
            let read = kind.read(&text(written)).unwrap();
            assert_eq!(kind.write(&read), text(canonical));
            assert_eq!(kind.read(&text(canonical)), Ok(read));
        }
        assert_eq!(kind.read(&Value::Int(300)), Ok(Duration::from_secs(300)));
        assert!(kind.read(&Value::Int(-1)).is_err());
        assert!(kind.read(&text("31d")).is_err());
    }

    #[test]
    fn limits() {
        let kind = Limit { min: 1, max: 9 };
        assert_eq!(kind.read(&Value::Int(-1)), Ok(None));
        assert_eq!(kind.read(&Value::Int(9)), Ok(Some(9)));
        assert_eq!(kind.read(&Value::Int(10)), Err("10".to_owned()));
        assert_eq!(kind.read(&text("9")), Err("\"9\"".to_owned()));
    }
}
