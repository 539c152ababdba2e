//! A service that sees messages and gives them back by SMTP, such as a virus scanner, as rules declare it. Pure: who sends
//! there is deliver, and who waits for it is the queue-manager.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vsmtp_config::Value;
use vsmtp_mail::parse_duration;

use crate::object::Fault;

/// Entries of a service's map, and of its entry `delegator`.
const ENTRIES: [&str; 5] = ["delegator", "receiver", "timeout", "return_within", "fail"];
const DELEGATOR: [&str; 2] = ["address", "timeout"];
/// Where none is named.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_RETURN: Duration = Duration::from_secs(3600);
/// Longest time for one answer.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest time that a service may keep a message.
const MAX_RETURN: Duration = Duration::from_secs(7 * 86_400);

/// What the rules declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpService {
    /// Where messages are sent.
    pub address: SocketAddr,
    /// How long each of its answers may take.
    pub timeout: Duration,
    /// Our own address at which it brings them back; any of this host's if it is unspecified.
    pub receiver: SocketAddr,
    /// How long it may keep a message.
    pub return_within: Duration,
    /// What fails goes on without it.
    pub open: bool,
}

impl SmtpService {
    /// Reads the map of a service.
    ///
    /// # Errors
    /// It is not one; the text is for whoever writes rules.
    pub fn read(value: &Value) -> Result<Self, Fault> {
        let service = entries(value, &ENTRIES, "a service")?;
        let Some(delegator) = service("delegator") else {
            return Err(Fault::new("a service needs an entry 'delegator': #{ address: \"IP:PORT\" }"));
        };
        let delegator = entries(delegator, &DELEGATOR, "'delegator'")?;
        let timeout = duration(delegator("timeout").or(service("timeout")), "timeout", MAX_TIMEOUT)?;
        let return_within = duration(service("return_within"), "return_within", MAX_RETURN)?;
        let address = address(delegator("address"), "delegator.address")?;
        if address.ip().is_unspecified() {
            return Err(Fault::new("'delegator.address' of a service must be the address of a host"));
        }
        let open = match service("fail") {
            None => false,
            Some(Value::Text(word)) if word == "defer" => false,
            Some(Value::Text(word)) if word == "open" => true,
            Some(other) => {
                let found = other.describe();
                return Err(Fault(format!("'fail' of a service is \"defer\" or \"open\", not {found}")));
            }
        };
        Ok(SmtpService {
            address,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            receiver: self::address(service("receiver"), "receiver")?,
            return_within: return_within.unwrap_or(DEFAULT_RETURN),
            open,
        })
    }

    /// True if who reaches us at this address brings something back from it.
    pub fn receives_at(&self, ours: SocketAddr) -> bool {
        covers(self.receiver, ours)
    }
}

impl fmt::Display for SmtpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smtp:{}", self.address)
    }
}

/// True if a socket that listens at `wide` is reached at `narrow`. An unspecified IPv6 address stands for both families.
pub fn covers(wide: SocketAddr, narrow: SocketAddr) -> bool {
    let family = wide.is_ipv6() || narrow.ip().to_canonical().is_ipv4();
    let any = wide.ip().is_unspecified() && family;
    wide.port() == narrow.port() && (any || wide.ip().to_canonical() == narrow.ip().to_canonical())
}

/// Access to the entries of a map that has these and no others.
fn entries<'a>(
    value: &'a Value,
    known: &[&str],
    what: &str,
) -> Result<impl Fn(&str) -> Option<&'a Value> + use<'a>, Fault> {
    let Value::Map(map) = value else {
        return Err(Fault(format!("{what} is a map, not {}", value.describe())));
    };
    if let Some(name) = map.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Fault(format!("{what} has no entry '{name}', only {}", known.join(", "))));
    }
    Ok(|name: &str| map.get(name).filter(|value| **value != Value::Null))
}

fn address(value: Option<&Value>, name: &str) -> Result<SocketAddr, Fault> {
    let found = match value {
        None => return Err(Fault(format!("a service needs '{name}': \"IP:PORT\""))),
        Some(Value::Text(text)) => text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0),
        Some(_) => None,
    };
    let canonical =
        |address: SocketAddr| SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port());
    found.map(canonical).ok_or_else(|| {
        let found = value.map(Value::describe).unwrap_or_default();
        Fault(format!("'{name}' of a service is \"IP:PORT\", such as \"127.0.0.1:10026\", not {found}"))
    })
}

fn duration(value: Option<&Value>, name: &str, most: Duration) -> Result<Option<Duration>, Fault> {
    let found = match value {
        None => return Ok(None),
        Some(Value::Text(text)) => parse_duration(text),
        Some(Value::Int(seconds)) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Some(_) => None,
    };
    let fits = |time: &Duration| (Duration::from_secs(1)..=most).contains(time);
    match found.filter(fits) {
        Some(time) => Ok(Some(time)),
        None => {
            let found = value.map(Value::describe).unwrap_or_default();
            let most = most.as_secs();
            Err(Fault(format!(
                "'{name}' of a service is a time from 1s to {most}s, such as \"60s\", not {found}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn delegator(entries: &[(&str, Value)]) -> (&'static str, Value) {
        ("delegator", map(entries))
    }

    #[test]
    fn every_form_of_every_version_is_read() {
        let to = ("address", text("127.0.0.1:10026"));
        let back = ("receiver", text("127.0.0.1:10024"));
        let v2 = map(&[delegator(&[to.clone(), ("timeout", text("60s"))]), back.clone()]);
        let service = SmtpService::read(&v2).unwrap();
        assert_eq!(service.to_string(), "smtp:127.0.0.1:10026");
        assert_eq!((service.timeout.as_secs(), service.open), (60, false));
        assert_eq!(service.return_within.as_secs(), 3600);
        let v1 = map(&[delegator(std::slice::from_ref(&to)), back.clone(), ("timeout", text("1m"))]);
        assert_eq!(SmtpService::read(&v1).unwrap(), service);
        let plain = map(&[delegator(std::slice::from_ref(&to)), back.clone()]);
        assert_eq!(SmtpService::read(&plain).unwrap().timeout.as_secs(), 30);
        let ours = map(&[delegator(&[to]), back, ("fail", text("open")), ("return_within", text("5m"))]);
        let service = SmtpService::read(&ours).unwrap();
        assert_eq!((service.open, service.return_within.as_secs()), (true, 300));
    }

    #[test]
    fn what_is_no_service_is_told_so() {
        let to = || delegator(&[("address", text("127.0.0.1:10026"))]);
        let back = || ("receiver", text("127.0.0.1:10024"));
        for (wrong, words) in [
            (text("127.0.0.1:10026"), "is a map"),
            (map(&[back()]), "needs an entry 'delegator'"),
            (map(&[to()]), "needs 'receiver'"),
            (map(&[to(), back(), ("port", Value::Int(1))]), "no entry 'port'"),
            (map(&[delegator(&[("address", text("localhost:10026"))]), back()]), "IP:PORT"),
            (map(&[delegator(&[("address", text("0.0.0.0:10026"))]), back()]), "of a host"),
            (map(&[delegator(&[]), back()]), "needs 'delegator.address'"),
            (map(&[to(), ("receiver", text("127.0.0.1:0"))]), "IP:PORT"),
            (map(&[to(), back(), ("fail", text("closed"))]), "\"defer\" or \"open\""),
            (map(&[to(), back(), ("timeout", text("soon"))]), "a time"),
            (map(&[to(), back(), ("return_within", text("8d"))]), "a time"),
        ] {
            let error = SmtpService::read(&wrong).unwrap_err().0;
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_wide_address_covers_a_narrow_one() {
        let covers = |wide: &str, narrow: &str| covers(wide.parse().unwrap(), narrow.parse().unwrap());
        for (wide, narrow) in [
            ("127.0.0.1:25", "127.0.0.1:25"),
            ("0.0.0.0:25", "127.0.0.1:25"),
            ("[::]:25", "[::1]:25"),
            ("[::]:25", "127.0.0.1:25"),
            ("127.0.0.1:25", "[::ffff:127.0.0.1]:25"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in
            [("127.0.0.1:25", "127.0.0.1:26"), ("127.0.0.1:25", "127.0.0.2:25"), ("0.0.0.0:25", "[::1]:25")]
        {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }
}
