//! Filters of searches (RFC 4515), as they are written, and as they are sent (RFC 4511 4.5.1). A value that takes the place of a
//! `?` is sent as it is and never read as a part of a filter. Pure.

use crate::ber::{OCTETS, element, truth};

/// How deep filters lie in filters.
const MAX_DEPTH: usize = 16;
/// Most filters within one, and most parts between its asterisks.
const MAX_PARTS: usize = 256;

/// What reads a filter.
struct Reader<'a> {
    rest: &'a str,
    /// What each `?` stands for; `None` if it stands for itself.
    values: Option<&'a [String]>,
    parts: usize,
}

/// A filter as it is sent.
///
/// # Errors
/// What is wrong with it.
pub fn encode(filter: &str, values: Option<&[String]>) -> Result<Vec<u8>, String> {
    let mut reader = Reader { rest: filter.trim(), values, parts: MAX_PARTS };
    let sent = reader.filter(MAX_DEPTH)?;
    if !reader.rest.is_empty() {
        return Err("a filter has something behind its last parenthesis".to_owned());
    }
    match reader.values {
        Some([_, ..]) => Err("there are more values than a filter has '?'".to_owned()),
        _ => Ok(sent),
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn part(&mut self) -> Result<(), String> {
        self.parts =
            self.parts.checked_sub(1).ok_or_else(|| format!("a filter has at most {MAX_PARTS} parts"))?;
        Ok(())
    }

    fn filter(&mut self, depth: usize) -> Result<Vec<u8>, String> {
        self.part()?;
        let depth = depth.checked_sub(1).ok_or_else(|| format!("filters lie at most {MAX_DEPTH} deep"))?;
        if !self.take("(") {
            return Err("a filter begins with '('".to_owned());
        }
        let sent = if self.take("&") {
            element(0xa0, &self.list(depth)?)
        } else if self.take("|") {
            element(0xa1, &self.list(depth)?)
        } else if self.take("!") {
            element(0xa2, &self.filter(depth)?)
        } else {
            self.item()?
        };
        if self.take(")") { Ok(sent) } else { Err("a filter ends with ')'".to_owned()) }
    }

    /// Filters until the parenthesis; none is true for `&` and false for `|` (RFC 4526).
    fn list(&mut self, depth: usize) -> Result<Vec<u8>, String> {
        let mut sent = Vec::new();
        while self.rest.starts_with('(') {
            sent.extend(self.filter(depth)?);
        }
        Ok(sent)
    }

    fn item(&mut self) -> Result<Vec<u8>, String> {
        let end = self.rest.find(['=', '(', ')']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        if !self.take("=") {
            return Err("a filter has a name without '='".to_owned());
        }
        let (name, tag) = match name.as_bytes().last() {
            Some(b'>') => (name.get(..name.len() - 1), 0xa5),
            Some(b'<') => (name.get(..name.len() - 1), 0xa6),
            Some(b'~') => (name.get(..name.len() - 1), 0xa8),
            Some(b':') => return self.extensible(name.get(..name.len() - 1).unwrap_or_default()),
            _ => (Some(name), 0xa3),
        };
        let name = attribute(name.unwrap_or_default())?;
        let mut parts = self.value(tag == 0xa3)?;
        let only = parts.pop().unwrap_or_default();
        if parts.is_empty() {
            return Ok(element(tag, &[name, element(OCTETS, &only)].concat()));
        }
        parts.push(only);
        if parts.iter().all(Vec::is_empty) && parts.len() == 2 {
            // Any value will do.
            let mut present = name;
            if let Some(first) = present.first_mut() {
                *first = 0x87;
            }
            return Ok(present);
        }
        self.substrings(&name, &parts)
    }

    fn substrings(&mut self, name: &[u8], parts: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let mut sent = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let is_end = at == 0 || at + 1 == parts.len();
            if part.is_empty() && is_end {
                continue;
            }
            if part.is_empty() {
                return Err("a filter has nothing between two '*'".to_owned());
            }
            self.part()?;
            let tag = if at == 0 {
                0x80
            } else if is_end {
                0x82
            } else {
                0x81
            };
            sent.extend(element(tag, part));
        }
        Ok(element(0xa4, &[name.to_vec(), element(0x30, &sent)].concat()))
    }

    /// `name:dn:rule:=value`, of which name, `dn` and rule need not be there, but name or rule.
    fn extensible(&mut self, words: &str) -> Result<Vec<u8>, String> {
        let mut words: Vec<&str> = words.split(':').collect();
        let name = if words.is_empty() { "" } else { words.remove(0) };
        let is_dn = words.first().is_some_and(|word| word.eq_ignore_ascii_case("dn"));
        if is_dn {
            words.remove(0);
        }
        let rule = match words[..] {
            [] => "",
            [rule] if !rule.is_empty() => rule,
            _ => return Err("a filter has a ':' too many".to_owned()),
        };
        let mut sent = Vec::new();
        for (tag, word) in [(0x81, rule), (0x82, name)] {
            if !word.is_empty() {
                attribute(word)?;
                sent.extend(element(tag, word.as_bytes()));
            }
        }
        if sent.is_empty() {
            return Err("a filter has no name".to_owned());
        }
        let value = self.value(false)?.pop().unwrap_or_default();
        sent.extend(element(0x83, &value));
        if is_dn {
            sent.extend(truth(0x84, true));
        }
        Ok(element(0xa9, &sent))
    }

    /// A value, in the parts that asterisks make of it where they may.
    fn value(&mut self, has_parts: bool) -> Result<Vec<Vec<u8>>, String> {
        let mut parts = vec![Vec::new()];
        while let Some(c) = self.rest.chars().next() {
            let part = parts.last_mut();
            match c {
                ')' => break,
                '(' => return Err("a value has a '(', which is written \\28".to_owned()),
                '\0' => return Err("a value has a NUL, which is written \\00".to_owned()),
                '*' if has_parts => parts.push(Vec::new()),
                '*' => return Err("a value has a '*', which is written \\2a".to_owned()),
                '\\' => {
                    let digits = self
                        .rest
                        .get(1..3)
                        .filter(|digits| digits.bytes().all(|octet| octet.is_ascii_hexdigit()));
                    let octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    let octet = octet.ok_or("a value has a '\\' without two hexadecimal digits behind it")?;
                    part.into_iter().for_each(|part| part.push(octet));
                    self.rest = self.rest.get(3..).unwrap_or_default();
                    continue;
                }
                '?' if self.values.is_some() => {
                    let (first, rest) = self
                        .values
                        .and_then(<[String]>::split_first)
                        .ok_or("a filter has more '?' than there are values")?;
                    part.into_iter().for_each(|part| part.extend_from_slice(first.as_bytes()));
                    self.values = Some(rest);
                }
                other => part
                    .into_iter()
                    .for_each(|part| part.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes())),
            }
            self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        }
        if parts.len() > MAX_PARTS {
            return Err(format!("a filter has at most {MAX_PARTS} parts"));
        }
        Ok(parts)
    }
}

/// True if that can be the name of an attribute, with its options, or of a rule.
pub fn is_attribute(name: &str) -> bool {
    let is_part = |octet: u8| octet.is_ascii_alphanumeric() || b"-.;_".contains(&octet);
    !name.is_empty() && name.bytes().all(is_part)
}

fn attribute(name: &str) -> Result<Vec<u8>, String> {
    match is_attribute(name) {
        true => Ok(element(OCTETS, name.as_bytes())),
        false => Err("a filter has something that is no name of an attribute before its '='".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RFC 4511 has it: `t`ag, then what is in it.
    fn sent(filter: &str, values: Option<&[&str]>) -> Result<Vec<u8>, String> {
        let values: Option<Vec<String>> =
            values.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
        encode(filter, values.as_deref())
    }

    fn pair(tag: u8, name: &str, value: &[u8]) -> Vec<u8> {
        element(tag, &[element(OCTETS, name.as_bytes()), element(OCTETS, value)].concat())
    }

    #[test]
    fn filters_are_sent_as_they_are_meant() {
        let substrings = |parts: &[(u8, &str)]| {
            let parts: Vec<u8> =
                parts.iter().flat_map(|(tag, text)| element(*tag, text.as_bytes())).collect();
            element(0xa4, &[element(OCTETS, b"cn"), element(0x30, &parts)].concat())
        };
        let a = || pair(0xa3, "cn", b"a");
        for (filter, expected) in [
            ("(cn=a)", a()),
            (" (cn=a) ", a()),
            ("(mail;lang-en=)", pair(0xa3, "mail;lang-en", b"")),
            ("(cn=\\2a\\28\\29\\5c\\00)", pair(0xa3, "cn", b"*()\\\0")),
            ("(cn=\\c3\\a9\u{e9})", pair(0xa3, "cn", "\u{e9}\u{e9}".as_bytes())),
            ("(age>=5)", pair(0xa5, "age", b"5")),
            ("(age<=5)", pair(0xa6, "age", b"5")),
            ("(cn~=a)", pair(0xa8, "cn", b"a")),
            ("(cn=*)", element(0x87, b"cn")),
            ("(cn=a*)", substrings(&[(0x80, "a")])),
            ("(cn=*a)", substrings(&[(0x82, "a")])),
            ("(cn=a*b*c)", substrings(&[(0x80, "a"), (0x81, "b"), (0x82, "c")])),
            ("(!(cn=a))", element(0xa2, &a())),
            ("(&(cn=a)(|(cn=a)(cn=a)))", element(0xa0, &[a(), element(0xa1, &[a(), a()].concat())].concat())),
            ("(&)", element(0xa0, b"")),
            ("(cn:dn:2.4.6:=a)", element(0xa9, b"\x81\x052.4.6\x82\x02cn\x83\x01a\x84\x01\xff")),
            ("(:caseExactMatch:=a)", element(0xa9, b"\x81\x0ecaseExactMatch\x83\x01a")),
            ("(cn=what?)", pair(0xa3, "cn", b"what?")),
        ] {
            assert_eq!(sent(filter, None), Ok(expected), "{filter}");
        }
    }

    #[test]
    fn a_value_is_never_read_as_a_part_of_a_filter() {
        for hostile in ["*", "a)(uid=*", "\\2a", "?", "a*b", "(", "\0", "\u{e9}"] {
            assert_eq!(sent("(mail=?)", Some(&[hostile])), Ok(pair(0xa3, "mail", hostile.as_bytes())));
        }
        let both =
            [element(OCTETS, b"cn"), element(0x30, &[element(0x80, b"*"), element(0x82, b"x)")].concat())]
                .concat();
        assert_eq!(sent("(cn=?*?)", Some(&["*", "x)"])), Ok(element(0xa4, &both)));
        assert!(sent("(cn=?)", Some(&[])).is_err() && sent("(cn=a)", Some(&["b"])).is_err());
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in [
            "",
            "cn=a",
            "(cn=a",
            "(cn=a))",
            "(cn=a)(cn=b)",
            "(cn)",
            "(=a)",
            "(c n=a)",
            "(cn=a(b)",
            "(cn=\\2)",
            "(cn=\\zz)",
            "(cn=\\+a)",
            "(cn=a**b)",
            "(age>=5*)",
            "(!cn=a)",
            "(:=a)",
            "(cn:a:b:=c)",
            "(cn::=a)",
            "(cn:dn:x:=a*)",
        ] {
            assert!(sent(filter, None).is_err(), "{filter}");
        }
        let deep = |depth: usize| format!("{}(cn=a){}", "(!".repeat(depth), ")".repeat(depth));
        assert!(sent(&deep(MAX_DEPTH - 1), None).is_ok() && sent(&deep(MAX_DEPTH), None).is_err());
        assert!(sent(&deep(100_000), None).is_err());
        assert!(sent(&format!("(&{})", "(cn=a)".repeat(MAX_PARTS - 1)), None).is_ok());
        assert!(sent(&format!("(&{})", "(cn=a)".repeat(MAX_PARTS)), None).is_err());
        assert!(sent(&format!("(cn=*{})", "a*".repeat(MAX_PARTS)), None).is_err());
    }
}
