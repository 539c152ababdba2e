//! The lines that Dovecot says. Pure: what does not parse is an error, and what is not known is left alone.

use data_encoding::BASE64;

use crate::mechanism::Mechanism;
use crate::secret::user;

/// What Dovecot says first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The mechanisms that it can and we know.
    pub mechanisms: Vec<Mechanism>,
    knows_version: bool,
}

impl Greeting {
    /// Takes a line; true if it was the last one.
    ///
    /// # Errors
    /// It is another protocol, or another version of it.
    pub fn take(&mut self, line: &str) -> Result<bool, &'static str> {
        let mut words = line.split('\t');
        match words.next() {
            Some("VERSION") if words.next() == Some("1") => self.knows_version = true,
            Some("VERSION") => return Err("protocol is not of version 1"),
            Some("MECH") => {
                let mechanism = words.next().and_then(Mechanism::parse);
                self.mechanisms.extend(mechanism.filter(|found| !self.mechanisms.contains(found)));
            }
            Some("DONE") if self.knows_version => return Ok(true),
            Some("DONE") => return Err("greeting has no version"),
            _ => {}
        }
        Ok(false)
    }
}

/// What Dovecot answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The client is this user.
    Ok(String),
    /// It is not, or Dovecot cannot tell.
    Fail {
        /// Whom the client named.
        user: Option<String>,
        /// Dovecot cannot tell now.
        temporary: bool,
    },
    /// Another message for the client.
    Challenge(Vec<u8>),
    /// Something that concerns nobody here.
    Other,
}

impl Reply {
    /// Reads a line that follows the greeting.
    ///
    /// # Errors
    /// It answers our request in a way that nobody understands.
    pub fn parse(line: &str, request: u32) -> Result<Self, &'static str> {
        let mut words = line.split('\t');
        let Some(verb @ ("OK" | "FAIL" | "CONT")) = words.next() else { return Ok(Reply::Other) };
        if words.next().and_then(|number| number.parse().ok()) != Some(request) {
            return Err("answer to what nobody asked");
        }
        if verb == "CONT" {
            let message = words.next().unwrap_or_default();
            return BASE64
                .decode(message.as_bytes())
                .map(Reply::Challenge)
                .map_err(|_| "challenge is no base64");
        }
        let (mut name, mut temporary) = (None, false);
        for word in words {
            match word.split_once('=') {
                Some(("user", text)) => name = user(unescape(text).as_bytes()),
                None if word == "temp" => temporary = true,
                Some(("code", "temp_fail")) => temporary = true,
                _ => {}
            }
        }
        match (verb, name) {
            ("OK", Some(name)) => Ok(Reply::Ok(name)),
            ("OK", None) => Err("success without a user"),
            (_, user) => Ok(Reply::Fail { user, temporary }),
        }
    }
}

/// Tabs, line ends and the escape itself are written as 0x01 and a letter.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\x01' => match chars.next() {
                Some('0') => '\0',
                Some('1') => '\x01',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('n') => '\n',
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_tell_what_dovecot_can() {
        let mut greeting = Greeting::default();
        for line in
            ["VERSION\t1\t2", "MECH\tPLAIN\tplaintext", "MECH\tX-NEW", "MECH\tSCRAM-SHA-256", "SPID\t1"]
        {
            assert_eq!(greeting.take(line), Ok(false), "{line}");
        }
        assert_eq!(greeting.take("DONE"), Ok(true));
        assert_eq!(greeting.mechanisms, [Mechanism::Plain, Mechanism::ScramSha256]);
        assert!(Greeting::default().take("VERSION\t2\t0").is_err());
        assert!(Greeting::default().take("DONE").is_err());
    }

    #[test]
    fn answers() {
        let parse = |line| Reply::parse(line, 1);
        assert_eq!(parse("OK\t1\tuser=tim"), Ok(Reply::Ok("tim".to_owned())));
        assert_eq!(parse("OK\t1\tuser=tim@a\tnologin"), Ok(Reply::Ok("tim@a".to_owned())));
        let fail =
            |user: Option<&str>, temporary| Ok(Reply::Fail { user: user.map(str::to_owned), temporary });
        assert_eq!(parse("FAIL\t1\tuser=tim"), fail(Some("tim"), false));
        assert_eq!(parse("FAIL\t1\tuser=tim\ttemp"), fail(Some("tim"), true));
        assert_eq!(parse("FAIL\t1\tcode=temp_fail"), fail(None, true));
        assert_eq!(parse("CONT\t1\tcj14"), Ok(Reply::Challenge(b"r=x".to_vec())));
        assert_eq!(parse("CONT\t1\t"), Ok(Reply::Challenge(Vec::new())));
        assert_eq!(parse("MECH\tPLAIN"), Ok(Reply::Other));
        for bad in
            ["OK\t1", "OK\t2\tuser=tim", "OK", "CONT\t1\t?", "FAIL", "OK\t1\tuser=", "OK\t1\tuser=a\x01nb"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
