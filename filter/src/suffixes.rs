//! Which part of a domain somebody has registered. With the public suffix list of the host (Debian's package `publicsuffix`)
//! as it was when the rules were loaded; without it, the last two labels.

use std::collections::HashSet;

/// Largest list that is read, in octets.
pub const MAX_LIST_BYTES: u64 = 4 << 20;

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Suffixes {
    /// `co.uk`, `*.ck`, `!www.ck`.
    rules: HashSet<Box<str>>,
}

impl Suffixes {
    /// Reads the list's text. Names in it may be U-labels.
    pub fn parse(text: &str) -> Self {
        let rules = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let rules = rules.filter_map(|line| line.split_whitespace().next());
        let canonical = |rule: &str| -> Option<Box<str>> {
            let (mark, name) = match rule {
                rule if rule.starts_with('!') => rule.split_at(1),
                rule if rule.starts_with("*.") => rule.split_at(2),
                rule => ("", rule),
            };
            let name = vsmtp_mail::Domain::parse(name).ok()?;
            Some(format!("{mark}{name}").into())
        };
        Suffixes { rules: rules.filter_map(canonical).collect() }
    }

    /// The part of a canonical domain that is registered: one label more than its public suffix; all of a public suffix.
    pub fn root<'a>(&self, domain: &'a str) -> &'a str {
        let borders: Vec<usize> =
            std::iter::once(0).chain(domain.match_indices('.').map(|(at, _)| at + 1)).collect();
        let tail = |labels: usize| -> &'a str {
            let at = borders.len().checked_sub(labels).and_then(|at| borders.get(at)).copied().unwrap_or(0);
            domain.get(at..).unwrap_or(domain)
        };
        tail(self.suffix_labels(borders.len(), tail) + 1)
    }

    /// Labels of the public suffix.
    fn suffix_labels<'a>(&self, labels: usize, tail: impl Fn(usize) -> &'a str) -> usize {
        for count in (1..=labels).rev() {
            let name = tail(count);
            if self.rules.contains(&*format!("!{name}")) {
                return count - 1;
            }
            if self.rules.contains(name) {
                return count;
            }
            let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            if parent.is_some_and(|rule| self.rules.contains(&*rule)) {
                return count;
            }
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_more_than_the_public_suffix() {
        let list = "// comment\ncom\nuk\nco.uk\n*.ck\n!www.ck\nb\u{fc}cher.example\n";
        for (domain, with, without) in [
            ("mail.example.com", "example.com", "example.com"),
            ("a.b.example.co.uk", "example.co.uk", "co.uk"),
            ("co.uk", "co.uk", "co.uk"),
            ("a.b.c.ck", "b.c.ck", "c.ck"),
            ("a.www.ck", "www.ck", "www.ck"),
            ("x.shop.xn--bcher-kva.example", "shop.xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("unknown.test", "unknown.test", "unknown.test"),
            ("localhost", "localhost", "localhost"),
        ] {
            assert_eq!(Suffixes::parse(list).root(domain), with, "{domain}");
            assert_eq!(Suffixes::default().root(domain), without, "{domain}");
        }
    }
}
