//! The domains of a message's authors, as its From fields say them (RFC 5322 3.6.2). Strict where it matters: what could be
//! read in two ways names nobody.

use vsmtp_mail::{Domain, HeaderBlock};

/// Longest From that is read, in octets.
const MAX_FROM: usize = 8 * 1024;

/// Why there is no domain to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAuthor {
    /// There is no From field, or it cannot be read.
    None,
    /// There are several, or their addresses are of several domains.
    Several,
}

/// The one domain of all authors, in lower case.
///
/// # Errors
/// There is none, or more than one.
pub fn domain(header: &HeaderBlock<'_>) -> Result<String, NoAuthor> {
    if !header.is_complete() {
        return Err(NoAuthor::Several);
    }
    let mut fields = header.named("From");
    let field = fields.next().ok_or(NoAuthor::None)?;
    if fields.next().is_some() {
        return Err(NoAuthor::Several);
    }
    let value = field.unfolded();
    let text =
        std::str::from_utf8(&value).ok().filter(|text| text.len() <= MAX_FROM).ok_or(NoAuthor::None)?;
    let mut domains: Vec<String> = Vec::new();
    for mailbox in mailboxes(text).ok_or(NoAuthor::None)? {
        let domain = domain_of(&mailbox).ok_or(NoAuthor::None)?;
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    match domains.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(NoAuthor::None),
        _ => Err(NoAuthor::Several),
    }
}

/// The addresses of a list, without names, comments and quoted texts; `None` if it can be read in two ways.
fn mailboxes(text: &str) -> Option<Vec<String>> {
    let mut list = List::default();
    let (mut comment, mut quoted, mut escaped) = (0u32, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted || comment > 0 => escaped = true,
            '"' if comment == 0 => {
                quoted = !quoted;
                // Something stands here, but no `@` of it counts.
                list.put('"')?;
            }
            _ if quoted => {}
            '(' => comment += 1,
            ')' => comment = comment.checked_sub(1)?,
            _ if comment > 0 => {}
            _ => list.put(c)?,
        }
    }
    if quoted || comment > 0 { None } else { list.close() }
}

/// A list of mailboxes as far as it is read.
#[derive(Default)]
struct List {
    found: Vec<String>,
    /// What stands outside of angle brackets since the last mailbox.
    plain: String,
    /// What stands inside of them.
    angle: Option<String>,
    in_angle: bool,
    in_group: bool,
}

impl List {
    /// The next character that is neither quoted nor in a comment; `None` if the list is none, or could be two.
    fn put(&mut self, c: char) -> Option<()> {
        match c {
            '<' if self.angle.is_some() => return None,
            '<' => {
                self.in_angle = true;
                self.angle = Some(String::new());
            }
            '>' if !self.in_angle => return None,
            '>' => self.in_angle = false,
            _ if self.in_angle => self.angle.as_mut()?.push(c),
            ',' | ';' => {
                self.end()?;
                self.in_group &= c == ',';
            }
            ':' => self.begin_group()?,
            // Behind the brackets nothing may stand: another reader could take it for the address.
            _ if self.angle.is_some() && !c.is_whitespace() => return None,
            _ => self.plain.push(c),
        }
        Some(())
    }

    /// What came before was a group's name; it must not look like an address.
    fn begin_group(&mut self) -> Option<()> {
        let is_name = !self.plain.trim().is_empty() && !self.plain.contains('@');
        if self.in_group || self.angle.is_some() || !is_name {
            return None;
        }
        self.in_group = true;
        self.plain.clear();
        Some(())
    }

    /// A mailbox ends. There may be none, but not one without an address.
    fn end(&mut self) -> Option<()> {
        let angle = self.angle.take();
        if angle.as_ref().is_some_and(|address| address.trim().is_empty()) {
            return None;
        }
        let mailbox = angle.unwrap_or_else(|| self.plain.trim().to_owned());
        self.plain.clear();
        if !mailbox.is_empty() {
            self.found.push(mailbox);
        }
        Some(())
    }

    fn close(mut self) -> Option<Vec<String>> {
        if self.in_angle {
            return None;
        }
        self.end()?;
        Some(self.found)
    }
}

fn domain_of(mailbox: &str) -> Option<String> {
    let (local, domain) = mailbox.rsplit_once('@')?;
    if local.trim().is_empty() || local.contains('@') {
        return None;
    }
    let domain: String = domain.split_whitespace().collect();
    Domain::parse(&domain)
        .ok()
        .filter(|domain| domain.as_literal().is_none())
        .map(|domain| domain.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: &str) -> Result<String, NoAuthor> {
        domain(&HeaderBlock::parse(format!("To: x@y.z\r\n{from}\r\n\r\n").as_bytes()))
    }

    #[test]
    fn one_domain_however_it_is_written() {
        for from in [
            "From: a@Example.com",
            "From: <a@example.com>",
            "from: Jane <a@example.com>",
            "From: \"a@evil.test\" <a@example.com>",
            "From: \"x <a@evil.test>\" <a@example.com>",
            "From: (a@evil.test) a@example.com (b@evil.test)",
            "From: a@example.com, Joe <b@example.com>",
            "From: Team: a@example.com, b@example.com;",
            "From: Team: a@example.com;, Others: <b@example.com>;",
            "From: <a@example.com> (Jane)",
            "From:\r\n\tJane\r\n <a@example.com>",
            "From: \"a b\"@example.com",
        ] {
            assert_eq!(of(from).as_deref(), Ok("example.com"), "{from}");
        }
    }

    #[test]
    fn a_header_that_was_not_read_to_its_end_may_have_other_authors() {
        let header = format!("From: a@example.com\r\n{}\r\n", "x:\r\n".repeat(vsmtp_mail::MAX_HEADER_FIELDS));
        assert_eq!(domain(&HeaderBlock::parse(header.as_bytes())), Err(NoAuthor::Several));
    }

    #[test]
    fn what_could_be_read_in_two_ways_names_nobody() {
        for from in [
            "Subject: x",
            "From: ",
            "From: Jane",
            "From: a@[192.0.2.1]",
            "From: <a@example.com",
            "From: a@example.com>",
            "From: <a@example.com> <b@example.org>",
            "From: a@b@example.com",
            "From: @example.com",
            "From: \"a@example.com",
            "From: Undisclosed:;",
            "From: ceo@example.org <>, x@example.com",
            "From: ceo@example.org < >, x@example.com",
            "From: ceo@example.org:;x@example.com",
            "From: ceo@example.org: x@example.com;",
            "From: <ceo@example.org>:;x@example.com",
            "From: Team: Part: x@example.com;;",
            "From: : x@example.com;",
            "From: <x@example.com> ceo@example.org",
            "From: <x@example.com> \"ceo\"",
        ] {
            assert_eq!(of(from), Err(NoAuthor::None), "{from}");
        }
        for from in ["From: a@example.com, b@example.org", "From: a@example.com\r\nFrom: a@example.com"] {
            assert_eq!(of(from), Err(NoAuthor::Several), "{from}");
        }
    }
}
