//! XCLIENT and XFORWARD: what a trusted proxy says of the client behind it. The values are xtext and never hold control
//! characters; `[UNAVAILABLE]` and `[TEMPUNAVAIL]` say nothing.

use std::fmt;
use std::net::IpAddr;

use crate::command::SyntaxFault;
use crate::reply::Own;
use crate::xtext;

/// The attributes of XCLIENT.
const XCLIENT: &str = "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT";
/// The same where a login counts.
const XCLIENT_WITH_LOGIN: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";
/// The attributes of XFORWARD that EHLO lists.
pub(crate) const XFORWARD: &str = "NAME ADDR PORT PROTO HELO IDENT SOURCE";
/// Longest value, decoded, in octets (as in Postfix's protocol).
const MAX_VALUE: usize = 255;

/// Which of the two a client may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Privileges {
    /// It may say who its own client is, and is treated as that client from then on.
    pub xclient: bool,
    /// By that it may also say as whom the client has authenticated to it.
    pub login: bool,
    /// It may say where its messages come from, for the log.
    pub xforward: bool,
}

/// XCLIENT. What is not there stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XClient {
    /// ADDR.
    pub address: Option<IpAddr>,
    /// PORT.
    pub port: Option<u16>,
    /// DESTADDR.
    pub server_address: Option<IpAddr>,
    /// DESTPORT.
    pub server_port: Option<u16>,
    /// NAME.
    pub name: ProxyName,
    /// LOGIN: as whom the client has authenticated to the proxy. Unlike the others it does not stay as it is.
    pub login: Option<String>,
}

/// What a proxy says of its client's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProxyName {
    /// Nothing.
    #[default]
    Unsaid,
    /// That it has none, or none that is known now.
    Unknown,
    /// This.
    Is(String),
}

/// XFORWARD: attributes for the log, in the order in which they came; those without a value are not available. They hold for
/// one transaction, before which several commands may tell them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XForward(Vec<(&'static str, Option<String>)>);

/// The attributes of XCLIENT that EHLO lists, and that are read.
pub(crate) fn listed(with_login: bool) -> &'static str {
    if with_login { XCLIENT_WITH_LOGIN } else { XCLIENT }
}

impl XClient {
    /// Parses what follows `XCLIENT `. HELO and PROTO are read and forgotten, for the client says EHLO anew.
    pub(crate) fn parse(arguments: &str, with_login: bool) -> Result<Self, SyntaxFault> {
        let mut found = XClient::default();
        for attribute in attributes(arguments, listed(with_login)) {
            // That there is no login may be said wherever none counts.
            let (name, value) = match attribute {
                Ok(attribute) => attribute,
                Err("LOGIN") => continue,
                Err(_) => return Err(Own::BadXAttribute),
            };
            let Some(value) = value else {
                // A client without an address would be left with that of the proxy, and with its rights.
                match name {
                    "ADDR" => return Err(Own::BadXAttribute),
                    "NAME" => found.name = ProxyName::Unknown,
                    _ => {}
                }
                continue;
            };
            match name {
                "ADDR" => found.address = Some(address(&value)?),
                "PORT" => found.port = Some(value.parse().map_err(|_| Own::BadXAttribute)?),
                "DESTADDR" => found.server_address = Some(address(&value)?),
                "DESTPORT" => found.server_port = Some(value.parse().map_err(|_| Own::BadXAttribute)?),
                "NAME" => found.name = ProxyName::Is(value),
                // Two would be a riddle.
                "LOGIN" if found.login.is_some() => return Err(Own::BadXAttribute),
                "LOGIN" => found.login = Some(value),
                _ => {}
            }
        }
        if arguments.is_empty() { Err(Own::BadXAttribute) } else { Ok(found) }
    }
}

impl XForward {
    /// Parses what follows `XFORWARD `.
    pub(crate) fn parse(arguments: &str) -> Result<Self, SyntaxFault> {
        let mut found = XForward::default();
        for attribute in attributes(arguments, XFORWARD) {
            let (name, value) = attribute.map_err(|_| Own::BadXAttribute)?;
            found.0.retain(|(known, _)| *known != name);
            found.0.push((name, value));
        }
        if arguments.is_empty() { Err(Own::BadXAttribute) } else { Ok(found) }
    }

    /// Takes what a further command said; a value that is not available forgets the one that was told before.
    pub fn update(&mut self, more: XForward) {
        for (name, value) in more.0 {
            self.0.retain(|(known, _)| *known != name);
            self.0.push((name, value));
        }
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, value)| value.is_none())
    }
}

impl fmt::Display for XForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (at, (name, value)) in known.enumerate() {
            let gap = if at == 0 { "" } else { " " };
            write!(f, "{gap}{}={value}", name.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// Each attribute by its listed name, with its value if it has one. `Err("LOGIN")` for a login that is not there.
fn attributes<'a>(
    arguments: &'a str,
    listed: &'static str,
) -> impl Iterator<Item = Result<(&'static str, Option<String>), &'static str>> + 'a {
    arguments.split(' ').filter(|word| !word.is_empty()).map(move |word| {
        let (name, value) = word.split_once('=').ok_or("")?;
        let nothing = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"].iter().any(|text| text.eq_ignore_ascii_case(value));
        if name.eq_ignore_ascii_case("LOGIN") && nothing {
            return Err("LOGIN");
        }
        let known = listed.split(' ').find(|known| known.eq_ignore_ascii_case(name)).ok_or("")?;
        if nothing {
            return Ok((known, None));
        }
        let value = xtext::decode(value).filter(|value| (1..=MAX_VALUE).contains(&value.len())).ok_or("")?;
        Ok((known, Some(value)))
    })
}

fn address(value: &str) -> Result<IpAddr, SyntaxFault> {
    let bare = value.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPV6:")).and_then(|_| value.get(5..));
    let address: IpAddr = bare.unwrap_or(value).parse().map_err(|_| Own::BadXAttribute)?;
    Ok(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xclient() {
        let parse = |arguments| XClient::parse(arguments, false);
        let found = parse("NAME=a+2Bb addr=192.0.2.1 PORT=4000 LOGIN=[UNAVAILABLE] HELO=x").unwrap();
        assert_eq!((found.address, found.port), (Some([192, 0, 2, 1].into()), Some(4000)));
        assert_eq!(found.name, ProxyName::Is("a+b".to_owned()));
        assert_eq!(parse("ADDR=192.0.2.1").unwrap().name, ProxyName::Unsaid);
        let six =
            parse("ADDR=IPV6:2001:db8::1 NAME=[TEMPUNAVAIL] DESTADDR=IPv6:::ffff:192.0.2.2 DESTPORT=25");
        let six = six.unwrap();
        assert_eq!(six.address.unwrap().to_string(), "2001:db8::1");
        assert_eq!(six.server_address.unwrap().to_string(), "192.0.2.2");
        assert_eq!((six.name, six.server_port), (ProxyName::Unknown, Some(25)));
        for bad in [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=x",
            "PORT=65536",
            "PORT=-1",
            "LOGIN=jane",
            "FOO=1",
            "NAME=+0A",
            "IDENT=1",
        ] {
            assert_eq!(parse(bad), Err(Own::BadXAttribute), "{bad}");
        }
    }

    #[test]
    fn a_login_is_stated_only_where_it_counts() {
        let login = |arguments| XClient::parse(arguments, true).map(|found| found.login);
        assert_eq!(login("login=jane+40example.com ADDR=192.0.2.1"), Ok(Some("jane@example.com".to_owned())));
        for none in ["ADDR=192.0.2.1", "LOGIN=[UNAVAILABLE]", "LOGIN=[tempunavail]"] {
            assert_eq!(login(none), Ok(None), "{none}");
        }
        let long = format!("LOGIN={}", "x".repeat(MAX_VALUE + 1));
        for bad in ["LOGIN", "LOGIN=", "LOGIN=a+00", "LOGIN=jane LOGIN=joe", &long] {
            assert_eq!(login(bad), Err(Own::BadXAttribute), "{bad}");
        }
    }

    #[test]
    fn a_client_without_an_address_is_not_taken_for_the_proxy() {
        for nowhere in ["ADDR=[UNAVAILABLE]", "NAME=a ADDR=[tempunavail]"] {
            assert_eq!(XClient::parse(nowhere, false), Err(Own::BadXAttribute), "{nowhere}");
        }
    }

    #[test]
    fn xforward() {
        let mut known = XForward::parse("NAME=mx.test ADDR=192.0.2.1").unwrap();
        known.update(XForward::parse("IDENT=AB12 name=other+20name SOURCE=REMOTE").unwrap());
        assert_eq!(known.to_string(), "addr=192.0.2.1 ident=AB12 name=other name source=REMOTE");
        known.update(XForward::parse("NAME=[UNAVAILABLE] HELO=x IDENT=[TEMPUNAVAIL]").unwrap());
        assert_eq!(known.to_string(), "addr=192.0.2.1 source=REMOTE helo=x");
        assert!(XForward::parse("ADDR=[UNAVAILABLE]").unwrap().is_empty());
        for bad in ["", "DESTADDR=192.0.2.1", "NAME=a\u{85}b", "IDENT=+0D"] {
            assert_eq!(XForward::parse(bad), Err(Own::BadXAttribute), "{bad}");
        }
    }
}
