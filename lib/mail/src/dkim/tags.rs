//! Lists of tags (RFC 6376 3.2), as signatures and keys are written.

/// Most tags of one list.
const MAX_TAGS: usize = 64;

/// A list, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// Reads a list; `None` if it breaks the grammar or says something twice.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let mut parts = text.split(';').peekable();
        while let Some(part) = parts.next() {
            let part = part.trim_ascii();
            if part.is_empty() && parts.peek().is_none() {
                break;
            }
            let (name, value) = part.split_once('=')?;
            let (name, value) = (name.trim_ascii(), value.trim_ascii());
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let is_known = tags.iter().any(|(known, _)| *known == name);
            let is_value =
                value.chars().all(|c| matches!(c, '!'..='~' | ' ' | '\t' | '\r' | '\n') || !c.is_ascii());
            if !is_name || is_known || !is_value || tags.len() >= MAX_TAGS {
                return None;
            }
            tags.push((name, value));
        }
        (!tags.is_empty()).then_some(Tags(tags))
    }

    /// The value of a tag.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The value of a tag without any white space.
    pub fn squeezed(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.chars().filter(|c| !c.is_ascii_whitespace()).collect())
    }

    /// The first tag's name.
    pub fn first(&self) -> Option<&'a str> {
        self.0.first().map(|(name, _)| *name)
    }
}

/// The octets of a field without the value of one tag, as a signature covers its own field (RFC 6376 3.7).
pub fn without_value(field: &[u8], tag: &str) -> Vec<u8> {
    let colon = field.iter().position(|octet| *octet == b':').map_or(field.len(), |at| at + 1);
    let mut kept = field.get(..colon).unwrap_or_default().to_vec();
    let value = field.get(colon..).unwrap_or_default();
    let end = value.strip_suffix(b"\r\n").map_or(value.len(), <[u8]>::len);
    let (list, line_end) = value.split_at(end);
    for (at, part) in list.split(|octet| *octet == b';').enumerate() {
        if at > 0 {
            kept.push(b';');
        }
        let equals = part.iter().position(|octet| *octet == b'=');
        match equals.map(|equals| part.split_at(equals + 1)) {
            Some((name, _))
                if name.trim_ascii().strip_suffix(b"=").is_some_and(|n| n.trim_ascii() == tag.as_bytes()) =>
            {
                kept.extend(name);
            }
            _ => kept.extend(part),
        }
    }
    kept.extend(line_end);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_or_refused() {
        let tags = Tags::parse(" v=1; a = rsa-sha256;\r\n\tb=ab c\r\n d ;").unwrap();
        assert_eq!((tags.get("v"), tags.get("a"), tags.first()), (Some("1"), Some("rsa-sha256"), Some("v")));
        assert_eq!(tags.squeezed("b").as_deref(), Some("abcd"));
        assert_eq!(tags.get("x"), None);
        for bad in ["", ";", "v", "v=1;;a=2", "v=1; v=2", "=1", "1v=1", "v=\0"] {
            assert_eq!(Tags::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_value_of_the_tag_is_left_out() {
        let field = b"DKIM-Signature: v=1; bh=xb=; b = ab\r\n cd; d=b\r\n";
        assert_eq!(without_value(field, "b"), b"DKIM-Signature: v=1; bh=xb=; b =; d=b\r\n");
        assert_eq!(without_value(b"X: a=1; b=zz\r\n", "b"), b"X: a=1; b=\r\n");
        assert_eq!(without_value(b"X: a=1\r\n", "b"), b"X: a=1\r\n");
    }
}
