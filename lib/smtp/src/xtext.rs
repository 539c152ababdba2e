//! xtext (RFC 3461 4): printable ASCII with `+HH` for everything else. Decoding never yields a control character, so a
//! value can stand in a header or a report.

/// The address type of RFC 6533.
pub(crate) const UTF8: &str = "utf-8";

/// Encodes bytes as xtext.
pub fn encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b'!'..=b'~') && !matches!(byte, b'+' | b'=') {
            out.push(char::from(byte));
        } else {
            out.push('+');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Encodes an address of this type for ORCPT: as xtext, or if it is UTF-8 in the ASCII form of RFC 6533 3, which every
/// server takes.
pub(crate) fn encode_address(kind: &str, address: &str) -> String {
    if kind.eq_ignore_ascii_case(UTF8) { encode_utf8_address(address) } else { encode(address) }
}

/// Writes everything but plain ASCII, and what would be read as an escape, as `\x{HEX}` (RFC 6533 3).
pub fn encode_utf8_address(address: &str) -> String {
    let mut out = String::with_capacity(address.len() * 2);
    for c in address.chars() {
        if c.is_ascii_graphic() && !matches!(c, '\\' | '+' | '=') {
            out.push(c);
        } else {
            out.push_str(&format!("\\x{{{:02X}}}", u32::from(c)));
        }
    }
    out
}

/// Decodes xtext; `None` if it is malformed, not UTF-8, or holds a control character.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(hex(bytes.next()?)? << 4 | hex(bytes.next()?)?),
            b'=' | 0..=b' ' | 0x7f => return None,
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Undoes the `\x{HEX}` form of a `utf-8` address (RFC 6533 3); `None` if an escape is malformed or a control character.
pub(crate) fn decode_utf8_address(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x{") {
        let (digits, tail) = after.split_once('}')?;
        let wanted = (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| wanted)?;
        out.push_str(before);
        out.push(char::from_u32(code).filter(|c| !c.is_control())?);
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

/// RFC 3461 wants upper case; lower case is common enough to be read.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_come_out() {
        for bad in ["+00", "a+0D+0Ab", "+7F", "+", "+4", "+GG", "a=b", "a b", "+C2+85", "+FF"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("a+2Bb+3D+20c").as_deref(), Some("a+b= c"));
    }

    #[test]
    fn utf8_addresses() {
        assert_eq!(decode_utf8_address("\\x{5F20}@a").as_deref(), Some("\u{5f20}@a"));
        for bad in ["\\x{0}", "\\x{A}", "\\x{", "\\x{}", "\\x{D800}", "\\x{1000000}", "\\x{+1}"] {
            assert_eq!(decode_utf8_address(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_encoded_decodes(text in "[^\\p{Cc}]{0,40}|[\\\\+=x{}a]{0,10}") {
            let escaped = encode_utf8_address(&text);
            proptest::prop_assert!(escaped.is_ascii());
            let plain = decode(&escaped).and_then(|plain| decode_utf8_address(&plain));
            proptest::prop_assert_eq!(plain.as_deref(), Some(&*text));
            proptest::prop_assert_eq!(decode(&encode(&text)), Some(text));
        }

        #[test]
        fn decoding_never_panics(text in "\\PC{0,40}|[+A-Fx{}\\\\0-9]{0,20}") {
            let _ = decode(&text);
            let _ = decode_utf8_address(&text);
        }
    }
}
