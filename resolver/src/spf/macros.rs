//! The macro language of SPF (RFC 7208 7), as text is read; what a macro stands for is found elsewhere.

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Literal(String),
    /// To be replaced.
    Macro(Macro),
}

/// `%{...}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macro {
    /// In lower case.
    pub letter: char,
    /// Written in upper case: to be escaped for URLs.
    pub escape: bool,
    /// How many parts are kept, from the right; all if `None`.
    pub keep: Option<usize>,
    /// Turned around first.
    pub reverse: bool,
    /// What divides parts; `.` if empty.
    pub delimiters: String,
}

/// A text with macros.
pub type Template = Vec<Part>;

/// Where a text stands: an explanation may use more macros, and spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a record.
    Record,
    /// In an explanation.
    Explanation,
}

/// Reads a text; `None` if it breaks the rules.
pub fn parse(text: &str, place: Place) -> Option<Template> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first != '%' {
            let fits = matches!(first, '\x21'..='\x7e') || (first == ' ' && place == Place::Explanation);
            literal.push(Some(first).filter(|_| fits)?);
            rest = rest.get(1..)?;
            continue;
        }
        let kind = rest.get(1..2)?;
        rest = rest.get(2..)?;
        match kind {
            "%" => literal.push('%'),
            "_" => literal.push(' '),
            "-" => literal.push_str("%20"),
            "{" => {
                let (inside, behind) = rest.split_once('}')?;
                let parsed = parse_macro(inside, place)?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::Macro(parsed));
                rest = behind;
            }
            _ => return None,
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Some(parts)
}

fn parse_macro(inside: &str, place: Place) -> Option<Macro> {
    let mut chars = inside.chars();
    let letter = chars.next()?;
    let known = match place {
        Place::Record => "slodiphv",
        Place::Explanation => "slodiphvcrt",
    };
    if !known.contains(letter.to_ascii_lowercase()) {
        return None;
    }
    let rest = chars.as_str();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    let keep = match number {
        "" => None,
        // More parts than any name has are all parts.
        _ => Some(number.parse::<usize>().unwrap_or(usize::MAX)).filter(|keep| *keep > 0).map(Some)?,
    };
    let (reverse, delimiters) = match rest.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let fits = delimiters.chars().all(|c| ".-+,/_=".contains(c));
    fits.then(|| Macro {
        letter: letter.to_ascii_lowercase(),
        escape: letter.is_ascii_uppercase(),
        keep,
        reverse,
        delimiters: delimiters.to_owned(),
    })
}

/// Reads the name of a domain with macros: it ends in a macro or in a label that a top-level domain may have.
pub fn parse_domain(text: &str) -> Option<Template> {
    let template = parse(text, Place::Record)?;
    let ends_well = match template.last()? {
        Part::Macro(_) => text.ends_with('}'),
        Part::Literal(literal) => {
            let name = literal.strip_suffix('.').unwrap_or(literal);
            let top = name.rsplit_once('.').map(|(_, top)| top);
            // Where a `%%` and the like end the text, the rest of it is no label either.
            top.is_some_and(is_top_label)
        }
    };
    ends_well.then_some(template)
}

fn is_top_label(label: &str) -> bool {
    let fits = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    fits && !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && !label.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_read_as_they_are_written() {
        let read = |text: &str| parse(text, Place::Record);
        let of = |text: &str| match read(text).unwrap().remove(0) {
            Part::Macro(found) => (found.letter, found.escape, found.keep, found.reverse, found.delimiters),
            Part::Literal(text) => panic!("{text}"),
        };
        assert_eq!(of("%{i}"), ('i', false, None, false, String::new()));
        assert_eq!(of("%{D2r-+}"), ('d', true, Some(2), true, "-+".to_owned()));
        assert_eq!(read("a%%b%_%-"), Some(vec![Part::Literal("a%b %20".to_owned())]));
        for bad in ["%", "%a", "%{", "%{}", "%{x}", "%{c}", "%{d0}", "%{d2x}", "%{dr2}", "a b", "ä", "%{d"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(parse("see http://%{c}/ %{t} %{r}", Place::Explanation).is_some());
    }

    #[test]
    fn a_domain_ends_in_a_label_or_a_macro() {
        for good in ["example.com", "a.b-c.", "%{d}", "_spf.%{d2}", "%{i}.example", "a/b.example"] {
            assert!(parse_domain(good).is_some(), "{good}");
        }
        for bad in ["", "com", "1.2.3.4", "a.b-", "a.-b", "a..", "%{d}x", "a.%%", "a.b/c"] {
            assert!(parse_domain(bad).is_none(), "{bad}");
        }
    }
}
