//! Where a server is, as a part of a URL. Reads and writes, and looks nothing up.

use std::fmt;
use std::net::IpAddr;

use bincode::{Decode, Encode};

/// Longest URL, and longest path of a file, in octets.
pub(super) const MAX_URL: usize = 2048;
/// The longest path of a Unix socket, in octets.
pub(super) const MAX_SOCKET: usize = 107;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Place {
    /// At a port.
    Tcp {
        /// A name, or an address without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// At a Unix socket of this host, at this absolute path.
    Unix(String),
}

impl Place {
    /// Reads `host:port`.
    ///
    /// # Errors
    /// What is wrong with it, as it follows "found" in a message.
    pub(super) fn tcp(text: &str, default: u16) -> Result<Self, String> {
        let found = host_and_port(text, default);
        let (host, port) = found.ok_or_else(|| "a URL without a host or with a bad one".to_owned())?;
        Ok(Place::Tcp { host, port })
    }

    /// Reads a path, in which `%40` and the like may stand.
    ///
    /// # Errors
    /// The same.
    pub(super) fn unix(text: &str) -> Result<Self, String> {
        let path = decoded(text)?;
        let is_path =
            path.starts_with('/') && path.len() <= MAX_SOCKET && !path.chars().any(char::is_control);
        is_path.then_some(Place::Unix(path)).ok_or_else(|| "a socket that is not an absolute path".to_owned())
    }

    /// The host, if it is at a port.
    pub fn host(&self) -> Option<&str> {
        match self {
            Place::Tcp { host, .. } => Some(host),
            Place::Unix(_) => None,
        }
    }
}

/// As it stands in a URL.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp { host, port } => write!(f, "{}:{port}", bracketed(host)),
            Place::Unix(path) => f.write_str(&path.split('/').map(encode).collect::<Vec<_>>().join("/")),
        }
    }
}

/// A host, as it stands before a port.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// A part of a URL without its `%40` and the like.
///
/// # Errors
/// What is wrong with it, as it follows "found" in a message.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "a URL with a '%' that is not followed by two hexadecimal digits".to_owned();
    decode(text).ok_or_else(wrong)
}

/// Reads `host:port`, `host`, `[address]:port` and `[address]`.
pub(super) fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<IpAddr>().ok()?;
            (address, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_host = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:".contains(&octet);
    let port = if port.is_empty() { default } else { port.parse().ok().filter(|port| *port > 0)? };
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(is_host)).then(|| (host.to_owned(), port))
}

/// Undoes `%40` and the like; `None` if that is no text.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        octets.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(octets).ok().filter(|text| !text.contains('\0'))
}

/// What [`decode`] undoes.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(octet)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
