//! The field by which a message that was given to a service (a content filter) is known again when it comes back:
//! `X-VSMTP-DELEGATION: sent; stage=postq; id="..."; token=...; directive="..."`. Only id and token count; the rest is
//! for those who read headers.

use std::fmt;

use crate::header::Field;
use crate::queue_id::QueueId;

/// The name of the field.
pub const DELEGATION_FIELD: &str = "X-VSMTP-DELEGATION";
/// Longest name of a directive that delegates, in octets.
pub const MAX_DELEGATE_NAME: usize = 200;

/// A secret that is as good as the right to bring the message back: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; Token::LEN]);

impl Token {
    /// Octets of it.
    pub const LEN: usize = 16;

    /// From random octets.
    pub fn from_bytes(bytes: [u8; Token::LEN]) -> Self {
        Token(bytes)
    }

    /// The octets.
    pub fn to_bytes(self) -> [u8; Token::LEN] {
        self.0
    }

    /// Parses the text form: 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 2 * Token::LEN || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Token(number.to_le_bytes()))
    }

    /// The text form, which is a secret.
    pub fn reveal(self) -> String {
        format!("{:032x}", u128::from_le_bytes(self.0))
    }

    /// Compares without telling by its time how much was right.
    pub fn is(self, other: Token) -> bool {
        self.0.iter().zip(other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

// It must not get into logs by accident.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What the field says, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelegationTicket {
    /// The message that was given away.
    pub id: QueueId,
    /// Its secret.
    pub token: Token,
}

impl DelegationTicket {
    /// The field with its line end, folded.
    pub fn to_field(&self, stage: &str, directive: &str) -> String {
        let plain = |c: char| (c == ' ' || c.is_ascii_graphic()) && !matches!(c, '"' | '\\' | ';');
        let directive: String = directive.chars().map(|c| if plain(c) { c } else { '?' }).collect();
        let DelegationTicket { id, token } = self;
        let token = token.reveal();
        format!(
            "{DELEGATION_FIELD}: sent; stage={stage};\r\n\tid=\"{id}\"; token={token};\r\n\tdirective=\"{directive}\"\r\n"
        )
    }

    /// Reads a field of that name. `None` if it has not exactly one id and one token.
    pub fn parse(field: &Field<'_>) -> Option<Self> {
        let text = String::from_utf8(field.unfolded()).ok()?;
        let (mut id, mut token) = (None, None);
        for (name, value) in text.split(';').filter_map(|part| part.trim().split_once('=')) {
            let value = value.trim().trim_matches('"');
            let again = match name.trim() {
                "id" => id.replace(QueueId::parse(value).ok()?).is_some(),
                "token" => token.replace(Token::parse(value)?).is_some(),
                _ => false,
            };
            if again {
                return None;
            }
        }
        Some(DelegationTicket { id: id?, token: token? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderBlock;

    fn parse(field: &str) -> Option<DelegationTicket> {
        let block = HeaderBlock::parse(field.as_bytes());
        block.named(DELEGATION_FIELD).next().and_then(DelegationTicket::parse)
    }

    #[test]
    fn what_is_written_is_read_back_whatever_the_directive_is_called() {
        let ticket =
            DelegationTicket { id: QueueId::from_bytes([7; 16]), token: Token::from_bytes([0x0a; 16]) };
        for directive in ["scan", "a; id=\"x\"; token=1", "\r\n\r\nbody", "é\"\\"] {
            let field = ticket.to_field("postq", directive);
            assert!(field.is_ascii() && field.matches('\n').count() == 3, "{field}");
            assert_eq!(parse(&field), Some(ticket), "{field}");
            assert_eq!(parse(&field.replace("\r\n\t", " ")), Some(ticket), "unfolded by the service");
        }
    }

    #[test]
    fn what_is_damaged_or_doubled_is_nothing() {
        let ticket = DelegationTicket { id: QueueId::from_bytes([7; 16]), token: Token::from_bytes([9; 16]) };
        let good = ticket.to_field("postq", "scan");
        let token = ticket.token.reveal();
        for bad in [
            good.replace("token=", "taken="),
            good.replace("id=", "ad="),
            good.replace(&token, &token[1..]),
            good.replace(&token, &token.replace('0', "g")),
            good.replace(&token, &format!("+{}", &token[1..])),
            good.replace("sent;", &format!("sent; token={token};")),
            "X-VSMTP-DELEGATION:\r\n".to_owned(),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_shown_by_accident() {
        assert_eq!(format!("{:?}", Token::from_bytes([9; 16])), "Token");
        assert!(Token::from_bytes([9; 16]).is(Token::from_bytes([9; 16])));
        assert!(!Token::from_bytes([9; 16]).is(Token::from_bytes([8; 16])));
    }
}
