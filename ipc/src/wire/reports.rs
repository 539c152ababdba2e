//! What rules want said about a message: mails of their own, and the words of the reports about it.

use bincode::{Decode, Encode};
use vsmtp_mail as mail;

use super::{Terms, WireError};

/// Most notices about one message.
pub const MAX_NOTICES: usize = 4;
/// Most octets of a notice's subject.
pub const MAX_NOTICE_SUBJECT: usize = 256;
/// Most octets of a notice's text.
pub const MAX_NOTICE_TEXT: usize = 8192;

/// A mail that a rule wants sent about a message.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Notice {
    /// To whom.
    pub to: String,
    /// One line, at most [`MAX_NOTICE_SUBJECT`] octets.
    pub subject: String,
    /// At most [`MAX_NOTICE_TEXT`] octets.
    pub text: String,
}

/// What rules have asked of the reports about a message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Reports {
    /// The words of a report of failure.
    pub text: Option<String>,
    /// The author of reports.
    pub from: Option<String>,
    /// Nobody is told.
    pub suppressed: bool,
}

impl Reports {
    /// Puts them, checked, into the terms of a message.
    ///
    /// # Errors
    /// If the words or the author are not what they should be; the terms are then as they were.
    pub fn put_into(self, terms: &mut mail::Terms) -> Result<(), WireError> {
        let wire = Terms { report_text: self.text, report_from: self.from, ..Terms::default() };
        let mail::Terms { report_text, report_from, .. } = (&wire).try_into()?;
        (terms.report_text, terms.report_from) = (report_text, report_from);
        Ok(())
    }
}
