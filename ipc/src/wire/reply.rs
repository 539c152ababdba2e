//! What is said to a client.

use bincode::{Decode, Encode};
use vsmtp_mail as mail;

use super::WireError;

/// An SMTP reply in its text form, several lines joined by line feeds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Class, subject, detail.
    pub enhanced: Option<(u8, u16, u16)>,
    /// Text without codes.
    pub text: String,
}

impl From<&mail::Reply> for Reply {
    fn from(reply: &mail::Reply) -> Self {
        let lines: Vec<&str> = reply.lines().collect();
        Reply {
            code: reply.code(),
            enhanced: reply.enhanced().map(|e| (e.0, e.1, e.2)),
            text: lines.join("\n"),
        }
    }
}

impl TryFrom<&Reply> for mail::Reply {
    type Error = WireError;
    fn try_from(wire: &Reply) -> Result<Self, WireError> {
        let enhanced = wire.enhanced.map(|(a, b, c)| mail::EnhancedCode(a, b, c));
        mail::Reply::new(wire.code, enhanced, &wire.text).map_err(|_| WireError("reply"))
    }
}
