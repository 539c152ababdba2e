//! Paths (RFC 5321 4.1.2): what stands between `<` and `>`. Source routes are read and ignored.

use vsmtp_mail::{Address, Domain, ReversePath};

/// A forward path.
pub(crate) enum ForwardPath<'a> {
    /// A mailbox.
    Address(Address),
    /// `<postmaster>`, without a domain (RFC 5321 4.5.1), as the client spelled it.
    Postmaster(&'a str),
}

/// Splits `<path> parameters` into the path without brackets and the parameters. `None` if a bracket is missing, or
/// anything but a blank follows the path.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let end = closing_bracket(inner)?;
    let rest = inner.get(end + 1..)?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    Some((inner.get(..end)?, rest))
}

/// Where the `>` outside quotes is.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Parses a reverse path.
pub(crate) fn reverse(path: &str) -> Option<ReversePath> {
    if path.is_empty() {
        return Some(ReversePath::Null);
    }
    Address::parse(strip_source_route(path)?).ok().map(ReversePath::Address)
}

/// Parses a forward path.
pub(crate) fn forward(path: &str) -> Option<ForwardPath<'_>> {
    if path.eq_ignore_ascii_case("postmaster") {
        return Some(ForwardPath::Postmaster(path));
    }
    Address::parse(strip_source_route(path)?).ok().map(ForwardPath::Address)
}

/// Drops `@one,@two:` (RFC 5321 appendix C); `None` if the route is malformed.
fn strip_source_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let (route, mailbox) = path.split_once(':')?;
    let well_formed = |hop: &str| hop.strip_prefix('@').is_some_and(|domain| Domain::parse(domain).is_ok());
    route.split(',').all(well_formed).then_some(mailbox)
}
