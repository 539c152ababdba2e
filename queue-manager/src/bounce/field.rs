//! Fields and lines that hold text from outside. No value can end its field or its line: controls become `?`, long lines
//! are folded, and what is too long is cut.

/// Where lines are folded, in octets, if there is a space.
const FOLD_AT: usize = 76;
/// Where lines are folded in any case (RFC 5322 2.1.1 allows 998).
const FOLD_HARD: usize = 900;
/// Most octets of one value.
const MAX_VALUE: usize = 4096;

/// Writes `name: value`, folded.
pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &str, allow_utf8: bool) {
    let text = clean(value, allow_utf8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    write_folded(out, &text, name.len() + 2, b"\r\n    ");
    out.extend_from_slice(b"\r\n");
}

/// Writes a paragraph of plain text with an indent, wrapped.
pub(super) fn write_paragraph(out: &mut Vec<u8>, text: &str, indent: &str, allow_utf8: bool) {
    let text = clean(text, allow_utf8);
    out.extend_from_slice(indent.as_bytes());
    let line_break = format!("\r\n{indent}");
    write_folded(out, &text, indent.len(), line_break.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Without controls, at most [`MAX_VALUE`] octets, and ASCII unless UTF-8 is allowed.
pub(super) fn clean(value: &str, allow_utf8: bool) -> String {
    let mut end = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let bad = |c: char| (c.is_control() || (!c.is_ascii() && !allow_utf8)) && c != '\t';
    let clean = |c: char| match c {
        '\t' => ' ',
        c if bad(c) => '?',
        c => c,
    };
    value[..end].trim().chars().map(clean).collect()
}

fn write_folded(out: &mut Vec<u8>, text: &str, mut column: usize, line_break: &[u8]) {
    for (at, word) in text.split(' ').enumerate() {
        let mut word = word;
        if at > 0 {
            if column + 1 + word.len() > FOLD_AT && !word.is_empty() {
                out.extend_from_slice(line_break);
                column = line_break.len() - 2;
            } else {
                out.push(b' ');
                column += 1;
            }
        }
        while column + word.len() > FOLD_HARD {
            let mut cut = FOLD_HARD.saturating_sub(column).max(4).min(word.len());
            while !word.is_char_boundary(cut) {
                cut -= 1;
            }
            out.extend_from_slice(&word.as_bytes()[..cut]);
            out.extend_from_slice(line_break);
            column = line_break.len() - 2;
            word = &word[cut..];
        }
        out.extend_from_slice(word.as_bytes());
        column += word.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(value: &str, allow_utf8: bool) -> String {
        let mut out = Vec::new();
        write_field(&mut out, "X", value, allow_utf8);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_folded_and_stay_one_field() {
        assert_eq!(field("a b", false), "X: a b\r\n");
        assert_eq!(field("a\r\nY: b", false), "X: a??Y: b\r\n");
        assert_eq!(field("é", false), "X: ?\r\n");
        assert_eq!(field("é", true), "X: é\r\n");
        let long = field(&"word ".repeat(100), false);
        assert!(long.lines().count() > 6 && long.lines().skip(1).all(|line| line.starts_with("    ")));
    }

    proptest::proptest! {
        #[test]
        fn no_value_breaks_a_line(value in "[\\PC\r\n\t\0é ]{0,3000}|x{0,5000}", utf8: bool) {
            let text = field(&value, utf8);
            let lines: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            for (at, line) in lines.iter().enumerate() {
                proptest::prop_assert!(line.len() <= 998 && !line.contains(['\r', '\n', '\0']));
                proptest::prop_assert!(at == 0 || line.starts_with("    "));
            }
        }
    }
}
