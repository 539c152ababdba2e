//! The typed values of vSL: addresses, domains, networks, regular expressions, replies and groups of them. All are cheap
//! to clone. A value that exists is valid; a text that is not one is an error where it is made.

mod build;
mod file;
mod network;
mod operators;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use regex::Regex;
use rhai::ImmutableString;
use vsmtp_mail::{Address, Domain, EnhancedCode, Reply, ReplyError};

pub use build::{FILE, KINDS, ReadFile, build, is_kind_of_lines, lines};
pub use file::FileSet;
pub use network::Net;
pub use operators::{contains, equals, equals_text};

/// Largest compiled form of one regular expression, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A typed value.
#[derive(Debug, Clone)]
pub enum Object {
    /// An IPv4 address.
    Ip4(Ipv4Addr),
    /// An IPv6 address.
    Ip6(Ipv6Addr),
    /// A network of either family.
    Range(Net),
    /// A mailbox.
    Address(Arc<Address>),
    /// A domain.
    Fqdn(Arc<Domain>),
    /// A regular expression (linear time).
    Regex(Arc<Regex>),
    /// A plain name; the null sender is the identifier `null`.
    Identifier(ImmutableString),
    /// A reply.
    Code(Arc<Reply>),
    /// Several values.
    Group(Arc<[Object]>),
    /// The values in a file.
    File(Arc<FileSet>),
}

/// Why a value could not be made or used; the text is for the script's author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

impl Fault {
    /// A fault with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Fault(text.into())
    }
}

impl Object {
    /// The name of the type, as constructors are called.
    pub const fn kind(&self) -> &'static str {
        match self {
            Object::Ip4(_) => "ip4",
            Object::Ip6(_) => "ip6",
            Object::Range(net) => net.kind(),
            Object::Address(_) => "address",
            Object::Fqdn(_) => "fqdn",
            Object::Regex(_) => "regex",
            Object::Identifier(_) => "identifier",
            Object::Code(_) => "code",
            Object::Group(_) => "group",
            Object::File(_) => "file",
        }
    }

    /// Makes a value of the type that `kind` names.
    pub fn parse(kind: &str, text: &str) -> Result<Self, Fault> {
        let wrong =
            |why: &dyn std::fmt::Display| Fault::new(format!("'{text}' is not of type {kind}: {why}"));
        match kind {
            "ip4" => text.parse().map(Object::Ip4).map_err(|error| wrong(&error)),
            "ip6" => text.parse().map(Object::Ip6).map_err(|error| wrong(&error)),
            "rg4" | "rg6" => Net::parse(kind, text).map(Object::Range).map_err(|why| wrong(&why)),
            "address" => Self::address(text),
            "fqdn" => Domain::parse(text)
                .map(|domain| Object::Fqdn(Arc::new(domain)))
                .map_err(|error| wrong(&error)),
            "regex" => compile(text).map(|regex| Object::Regex(Arc::new(regex))),
            "identifier" | "string" => Ok(Object::Identifier(text.into())),
            "code" => {
                Reply::parse(text).map(|reply| Object::Code(Arc::new(reply))).map_err(|error| wrong(&error))
            }
            _ => Err(Fault::new(format!("the type '{kind}' does not exist"))),
        }
    }

    /// Makes a mailbox.
    pub fn address(text: &str) -> Result<Self, Fault> {
        let parsed = Address::parse(text)
            .map_err(|error| Fault::new(format!("'{text}' is not an address: {error}")))?;
        Ok(Object::Address(Arc::new(parsed)))
    }

    /// The address as an object.
    pub fn ip(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Object::Ip4(v4),
            IpAddr::V6(v6) => Object::Ip6(v6),
        }
    }

    /// The members of a value that has some.
    pub fn members(&self) -> Option<&[Object]> {
        match self {
            Object::Group(items) => Some(items),
            Object::File(file) => Some(file.items()),
            _ => None,
        }
    }

    /// As it prints: in interpolations, logs and headers.
    pub fn text(&self) -> ImmutableString {
        match self {
            Object::Ip4(address) => address.to_string().into(),
            Object::Ip6(address) => address.to_string().into(),
            Object::Range(net) => net.to_string().into(),
            Object::Address(address) => {
                let length = address.local_part().len() + 1 + address.domain().as_str().len();
                let mut text = String::with_capacity(length);
                // A String takes all that is written.
                let _ = write!(text, "{address}");
                text.into()
            }
            Object::Fqdn(domain) => domain.as_str().into(),
            Object::Regex(regex) => regex.as_str().into(),
            Object::Identifier(text) => text.clone(),
            Object::Code(reply) => {
                let mut wire = Vec::new();
                reply.write_to(&mut wire);
                String::from_utf8_lossy(&wire).into_owned().into()
            }
            Object::Group(_) | Object::File(_) => {
                let items: Vec<_> = self.members().unwrap_or_default().iter().map(Object::text).collect();
                format!("[{}]", items.join(", ")).into()
            }
        }
    }
}

/// Compiles a regular expression within its size limit.
pub fn compile(pattern: &str) -> Result<Regex, Fault> {
    regex::RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| Fault::new(format!("'{pattern}' is not a regular expression: {error}")))
}

/// Makes a reply of parts. A class of the enhanced code that contradicts the code is corrected: published scripts have
/// such pairs, and RFC 2034 does not allow to send them.
pub fn reply(code: i64, enhanced: &str, text: &str) -> Result<Reply, Fault> {
    let wrong = |error: ReplyError| Fault::new(format!("code {code} {enhanced}: {error}"));
    let number = u16::try_from(code).map_err(|_| wrong(ReplyError::Code))?;
    let enhanced = match enhanced {
        "" => None,
        text => Some(
            EnhancedCode::parse(text)
                .ok_or_else(|| Fault::new(format!("'{text}' is not an enhanced code")))?,
        ),
    };
    let matching = enhanced.map(|EnhancedCode(class, subject, detail)| {
        let wanted = u8::try_from(number / 100).ok().filter(|class| matches!(class, 2 | 4 | 5));
        EnhancedCode(wanted.unwrap_or(class), subject, detail)
    });
    Reply::new(number, matching, text).map_err(wrong)
}

/// The members of a group; nothing for other values.
impl IntoIterator for Object {
    type Item = Object;
    type IntoIter = std::vec::IntoIter<Object>;

    fn into_iter(self) -> Self::IntoIter {
        self.members().unwrap_or_default().to_vec().into_iter()
    }
}
