//! The values in a file: many of one type, found at once by their text.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use rhai::ImmutableString;
use vsmtp_mail::{Address, Domain};

use super::build::{canonical, lines};
use super::{Fault, Object};
use crate::files::Folder;

/// The values in a file.
#[derive(Debug)]
pub struct FileSet {
    kind: Box<str>,
    items: Vec<Object>,
    /// Texts of the values, of types where equal values have equal texts.
    texts: HashSet<ImmutableString>,
}

impl Object {
    /// Reads a file of values, one per line; lines are trimmed, empty ones count for nothing.
    pub fn file(folder: &Folder, path: &str, kind: &str) -> Result<Self, Fault> {
        let text = folder.read(path)?;
        let items = lines(kind, &text).map_err(|fault| Fault(format!("{path}, {}", fault.0)))?;
        Ok(Object::from(FileSet::new(kind, items)))
    }
}

impl From<FileSet> for Object {
    fn from(file: FileSet) -> Self {
        Object::File(Arc::new(file))
    }
}

impl FileSet {
    /// Values that are all of one type.
    pub fn new(kind: &str, items: Vec<Object>) -> Self {
        let kind: Box<str> = canonical(kind).into();
        let is_exact = !matches!(&*kind, "rg4" | "rg6" | "regex");
        let texts = if is_exact { items.iter().map(Object::text).collect() } else { HashSet::new() };
        FileSet { kind, items, texts }
    }

    /// The values in order.
    pub fn items(&self) -> &[Object] {
        &self.items
    }

    /// The type of all of them.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether a value is there, by its text; `None` if each must be looked at.
    pub(super) fn holds(&self, needle: &Object) -> Option<bool> {
        let text = needle.text();
        let canonical: ImmutableString = match &*self.kind {
            "address" => Address::parse(&text).ok().map(|address| address.to_string().into()),
            "fqdn" => Domain::parse(&text).ok().map(|domain| domain.as_str().into()),
            "ip4" | "ip6" => text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical().to_string().into()),
            "identifier" | "string" => Some(text),
            _ => return None,
        }
        .unwrap_or_default();
        Some(self.texts.contains(&canonical))
    }
}

#[cfg(test)]
mod tests {
    use super::super::contains;
    use super::*;

    #[test]
    fn values_of_a_file_are_found_like_those_of_a_group() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path());
        let make = |kind: &str, text: &str| {
            std::fs::write(dir.path().join("f"), text).unwrap();
            Object::file(&folder, "f", kind)
        };
        for (kind, text, needle, inside) in [
            ("address", "a@B.c\n\n  d@e.f  \n", "address a@b.c", true),
            ("address", "a@b.c\n", "string a@B.C", true),
            ("address", "a@b.c\n", "string A@b.c", false),
            ("fqdn", "Example.com", "fqdn example.com", true),
            ("fqdn", "example.com", "string EXAMPLE.com", true),
            ("ip4", "192.0.2.1", "string 192.0.2.1", true),
            ("ip6", "0:0::1", "ip6 ::1", true),
            ("rg4", "10.0.0.0/8", "string 10.1.1.1", true),
            ("rg4", "10.0.0.0/8", "string no-ip", false),
            ("rg6", "::/0", "ip6 ::1", true),
            ("regex", "^a+$\n^b", "string bcd", true),
            ("identifier", "x\ny", "identifier y", true),
            ("string", "x\ny", "string z", false),
        ] {
            let (of, value) = needle.split_once(' ').unwrap();
            let found = contains(&make(kind, text).unwrap(), &Object::parse(of, value).unwrap());
            assert_eq!(found, Ok(inside), "{needle} in {kind} {text:?}");
        }
        for (kind, text, words) in [
            ("address", "a@b.c\nnonsense", "f, line 2"),
            ("code", "250 x", "cannot be of type"),
            ("group", "", "cannot be of type"),
        ] {
            assert!(make(kind, text).unwrap_err().0.contains(words), "{kind}");
        }
        assert!(Object::file(&folder, "none", "address").is_err());
        let file = make("address", "a@b.c\n").unwrap();
        assert_eq!((file.kind(), &*file.text()), ("file", "[a@b.c]"));
    }
}
