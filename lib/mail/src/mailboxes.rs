//! The mailboxes in a field such as To, where they stand: so that one can be replaced or removed while every other octet,
//! names and comments and folding included, stays as its sender wrote it (RFC 5322 3.4). Scanning cannot fail: what is no
//! mailbox is passed over.

use std::ops::Range;

use crate::address::Address;

/// Most mailboxes of one field that are looked at.
pub const MAX_MAILBOXES: usize = 10_000;
/// Deepest comment inside a comment.
const MAX_COMMENT_DEPTH: usize = 64;

/// One mailbox of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The address.
    pub address: Address,
    /// All of it, with its name: `Jane <jane@example.com>`.
    pub whole: Range<usize>,
    /// The address alone, without angle brackets.
    pub spec: Range<usize>,
}

/// A field's value with its mailboxes.
#[derive(Debug, Clone)]
pub struct MailboxList<'a> {
    value: &'a [u8],
    entries: Vec<Entry>,
}

/// What stands between two delimiters: a mailbox, or something that is none.
#[derive(Debug, Clone)]
struct Entry {
    whole: Range<usize>,
    spec: Range<usize>,
    address: Option<Address>,
    /// A comma follows, and no end of a group.
    joined: bool,
}

impl<'a> MailboxList<'a> {
    /// Scans the value of a field, folding included.
    pub fn scan(value: &'a [u8]) -> Self {
        let mut scanner = Scanner { value, at: 0, entries: Vec::new() };
        scanner.run();
        MailboxList { value, entries: scanner.entries }
    }

    /// The mailboxes in order.
    pub fn mailboxes(&self) -> impl Iterator<Item = Listed> + '_ {
        self.entries.iter().filter_map(|entry| {
            let address = entry.address.clone()?;
            Some(Listed { address, whole: entry.whole.clone(), spec: entry.spec.clone() })
        })
    }

    /// The value with `new` in the place of each `old`; `None` if it is not there.
    pub fn replaced(&self, old: &Address, new: &Address) -> Option<Vec<u8>> {
        let mut out = self.value.to_vec();
        let found: Vec<_> = self.mailboxes().filter(|mailbox| mailbox.address == *old).collect();
        for mailbox in found.iter().rev() {
            out.splice(mailbox.spec.clone(), new.to_string().into_bytes());
        }
        (!found.is_empty()).then_some(out)
    }

    /// The value without `old`; `None` if it is not there. Empty if nothing but white space is left.
    pub fn removed(&self, old: &Address) -> Option<Vec<u8>> {
        let mut keep: Vec<&Entry> = self.entries.iter().collect();
        let mut cuts: Vec<Range<usize>> = Vec::new();
        let mut at = 0;
        while at < keep.len() {
            if keep[at].address.as_ref() != Some(old) {
                at += 1;
                continue;
            }
            let before = at.checked_sub(1).and_then(|before| keep.get(before)).filter(|entry| entry.joined);
            let cut = match (keep.get(at + 1).filter(|_| keep[at].joined), before) {
                (Some(next), _) => keep[at].whole.start..next.whole.start,
                (None, Some(before)) => before.whole.end..keep[at].whole.end,
                (None, None) => keep[at].whole.clone(),
            };
            cuts.push(cut);
            keep.remove(at);
        }
        if cuts.is_empty() {
            return None;
        }
        // The comma before the last one may belong to a cut that begins further on.
        cuts.sort_by_key(|cut| cut.start);
        let mut out = Vec::with_capacity(self.value.len());
        let mut from = 0;
        for cut in cuts {
            out.extend_from_slice(self.value.get(from..cut.start.max(from)).unwrap_or_default());
            from = from.max(cut.end);
        }
        out.extend_from_slice(self.value.get(from..).unwrap_or_default());
        if out.trim_ascii().is_empty() {
            out.clear();
        }
        Some(out)
    }

    /// The value with `new` behind all others, on a line of its own if the last one is long.
    pub fn added(&self, new: &Address) -> Vec<u8> {
        const LONG: usize = 76;
        let text = new.to_string();
        let mut out = self.value.trim_ascii_end().to_vec();
        if out.trim_ascii().is_empty() {
            return format!(" {text}").into_bytes();
        }
        let last_line = memchr::memrchr(b'\n', &out).map_or(out.len() + 12, |at| out.len() - at);
        out.extend_from_slice(if last_line + text.len() + 2 > LONG { b",\r\n " } else { b", " });
        out.extend_from_slice(text.as_bytes());
        out
    }
}

struct Scanner<'a> {
    value: &'a [u8],
    at: usize,
    entries: Vec<Entry>,
}

impl Scanner<'_> {
    fn run(&mut self) {
        let mut start = 0;
        let mut angle: Option<Range<usize>> = None;
        while let Some(byte) = self.value.get(self.at).copied() {
            if self.entries.len() >= MAX_MAILBOXES {
                return;
            }
            match byte {
                b'(' => self.comment(),
                b'"' => self.until(b'"'),
                b'[' => self.until(b']'),
                b'<' => {
                    let from = self.at + 1;
                    self.angle();
                    angle = Some(from..self.at.saturating_sub(1).max(from));
                }
                // The name of a group is no mailbox.
                b':' => {
                    self.at += 1;
                    start = self.at;
                    angle = None;
                }
                b',' | b';' => {
                    self.entry(start..self.at, angle.take(), byte == b',');
                    self.at += 1;
                    start = self.at;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.value.len();
        self.entry(start..self.at, angle, false);
    }

    fn entry(&mut self, part: Range<usize>, angle: Option<Range<usize>>, joined: bool) {
        let whole = trimmed(self.value, part);
        if whole.is_empty() {
            // Nothing between two commas: what stands before is followed by the end or by the next one.
            if !joined && let Some(last) = self.entries.last_mut() {
                last.joined = false;
            }
            return;
        }
        let spec =
            angle.map_or_else(|| bare(self.value, whole.clone()), |spec| without_route(self.value, spec));
        let address = parse(self.value.get(spec.clone()).unwrap_or_default());
        self.entries.push(Entry { whole, spec, address, joined });
    }

    /// Behind the closing delimiter; the end if there is none.
    fn until(&mut self, close: u8) {
        self.at += 1;
        while let Some(byte) = self.value.get(self.at) {
            match byte {
                b'\\' => self.at += 1,
                byte if *byte == close => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
        self.at = self.value.len();
    }

    fn comment(&mut self) {
        let mut depth = 0;
        while let Some(byte) = self.value.get(self.at) {
            match byte {
                b'\\' => self.at += 1,
                b'(' if depth < MAX_COMMENT_DEPTH => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
        self.at = self.value.len();
    }

    fn angle(&mut self) {
        self.at += 1;
        while let Some(byte) = self.value.get(self.at) {
            match byte {
                b'"' => self.until(b'"'),
                b'>' => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.value.len() + 1;
    }
}

fn trimmed(value: &[u8], part: Range<usize>) -> Range<usize> {
    let Some(bytes) = value.get(part.clone()) else { return part.start..part.start };
    let lead = bytes.len() - bytes.trim_ascii_start().len();
    let start = part.start + lead;
    start..start + bytes.trim_ascii().len()
}

/// An address without brackets, comments around it left out.
fn bare(value: &[u8], whole: Range<usize>) -> Range<usize> {
    let mut scanner =
        Scanner { value: value.get(..whole.end).unwrap_or(value), at: whole.start, entries: Vec::new() };
    let (mut from, mut to) = (None, whole.start);
    while scanner.at < whole.end {
        match value.get(scanner.at) {
            Some(b'(') => scanner.comment(),
            Some(byte) => {
                let begin = scanner.at;
                match byte {
                    b'"' => scanner.until(b'"'),
                    b'[' => scanner.until(b']'),
                    _ => scanner.at += 1,
                }
                if !byte.is_ascii_whitespace() {
                    from.get_or_insert(begin);
                    to = scanner.at.min(whole.end);
                }
            }
            None => break,
        }
    }
    let from = from.unwrap_or(whole.start);
    from..to.max(from)
}

/// An obsolete source route (`@a,@b:jane@example.com`) is no part of the address.
fn without_route(value: &[u8], spec: Range<usize>) -> Range<usize> {
    let spec = trimmed(value, spec.start..spec.end.min(value.len()));
    let bytes = value.get(spec.clone()).unwrap_or_default();
    match memchr::memchr(b':', bytes) {
        Some(at) if bytes.first() == Some(&b'@') => spec.start + at + 1..spec.end,
        _ => spec,
    }
}

fn parse(bytes: &[u8]) -> Option<Address> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text.contains(|c: char| c.is_ascii_whitespace()) || text.starts_with('"') {
        return Address::parse(text).ok();
    }
    // Obsolete white space around dots and the at sign.
    let joined: String = text.split_ascii_whitespace().collect();
    Address::parse(&joined).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn mailboxes_are_found_where_they_stand() {
        for (value, found) in [
            (" a@b.c", "a@b.c"),
            (" Jane <jane@b.c>, joe@b.c", "jane@b.c joe@b.c"),
            (" \"x, y\" <a@b.c> (one, two@d.e), <d@e.f>", "a@b.c d@e.f"),
            (" team: a@b.c, \"Q\" <q@r.s>;, z@y.x", "a@b.c q@r.s z@y.x"),
            (" undisclosed-recipients:;", ""),
            (" a@b.c,\r\n\td@e.f", "a@b.c d@e.f"),
            (" (comment) a@b.c (more)", "a@b.c"),
            (" \"a b\"@c.d", "\"a b\"@c.d"),
            (" <@x.y,@z.w:a@b.c>", "a@b.c"),
            (" a @ b . c", "a@b.c"),
            (" nobody, , a@[192.0.2.1]", "a@[192.0.2.1]"),
            (" <a@b.c", "a@b.c"),
            (" (((((", ""),
            (" \"open", ""),
            ("", ""),
        ] {
            let list = MailboxList::scan(value.as_bytes());
            let texts: Vec<String> = list.mailboxes().map(|mailbox| mailbox.address.to_string()).collect();
            assert_eq!(texts.join(" "), found, "{value:?}");
        }
    }

    #[test]
    fn one_is_replaced_and_nothing_else_changes() {
        let old = address("a@b.c");
        for (value, expected) in [
            (" a@b.c", Some(" n@e.w")),
            (" Jane <a@b.c>,\r\n\t(c) x@y.z", Some(" Jane <n@e.w>,\r\n\t(c) x@y.z")),
            (" a@b.c, g: A@b.c, a@B.C;", Some(" n@e.w, g: A@b.c, n@e.w;")),
            (" a@b.cc", None),
            (" \"a@b.c\" <x@y.z>", None),
        ] {
            let changed = MailboxList::scan(value.as_bytes()).replaced(&old, &address("n@e.w"));
            assert_eq!(
                changed.map(|value| String::from_utf8(value).unwrap()).as_deref(),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn one_is_removed_with_its_comma() {
        let old = address("a@b.c");
        for (value, expected) in [
            (" a@b.c", Some("")),
            (" A B <a@b.c>, x@y.z", Some(" x@y.z")),
            (" x@y.z, A <a@b.c>", Some(" x@y.z")),
            (" x@y.z,\r\n\ta@b.c,\r\n\tq@r.s", Some(" x@y.z,\r\n\tq@r.s")),
            (" a@b.c, a@b.c", Some("")),
            (" x@y.z, a@b.c, a@b.c", Some(" x@y.z")),
            (" a@b.c, a@b.c, x@y.z, a@b.c", Some(" x@y.z")),
            (" g: a@b.c;", Some(" g: ;")),
            (" g: a@b.c, x@y.z;, a@b.c", Some(" g: x@y.z;, ")),
            (" x@y.z", None),
        ] {
            let changed = MailboxList::scan(value.as_bytes()).removed(&old);
            assert_eq!(
                changed.map(|value| String::from_utf8(value).unwrap()).as_deref(),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn one_is_added_and_long_lines_fold() {
        let new = address("new@example.com");
        assert_eq!(MailboxList::scan(b" a@b.c").added(&new), b" a@b.c, new@example.com");
        assert_eq!(MailboxList::scan(b" ").added(&new), b" new@example.com");
        let long = format!(" {}@example.com", "a".repeat(60));
        let added = MailboxList::scan(long.as_bytes()).added(&new);
        assert_eq!(added, format!("{long},\r\n new@example.com").into_bytes());
    }

    proptest::proptest! {
        #[test]
        fn any_value_can_be_scanned(value in proptest::collection::vec(proptest::sample::select(
            b"a@b.c,;:<>()\"\\[] \r\n\t\xff".to_vec()), 0..60)) {
            let list = MailboxList::scan(&value);
            let (old, new) = (address("a@b.c"), address("n@e.w"));
            for mailbox in list.mailboxes() {
                proptest::prop_assert!(value.get(mailbox.whole.clone()).is_some());
                proptest::prop_assert!(value.get(mailbox.spec.clone()).is_some());
            }
            if let Some(changed) = list.replaced(&old, &new) {
                proptest::prop_assert!(MailboxList::scan(&changed).mailboxes().any(|m| m.address == new));
            }
            if let Some(changed) = list.removed(&old) {
                proptest::prop_assert!(changed.len() < value.len());
            }
        }
    }
}
