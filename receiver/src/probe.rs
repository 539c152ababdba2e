//! Whether a client keeps to the protocol while it is watched: one command at a time, lines that end in CRLF, and words that
//! are commands. Pure; it sees the bytes of commands as they come, and answers nothing.
//!
//! A client that is watched was offered no PIPELINING, so whatever follows a line before that line was answered is too early.

/// What a client did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Something came behind a command before its reply.
    Pipelining,
    /// A line ended in a lone CR or LF.
    BareNewline,
    /// A command of another protocol.
    NotSmtp,
}

impl Fault {
    /// The word in logs.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Pipelining => "pipelining",
            Fault::BareNewline => "bare-newline",
            Fault::NotSmtp => "not-smtp",
        }
    }
}

/// The octets of a line that are looked at for its command.
const WORD: usize = 8;

/// The watch over one session.
#[derive(Debug, Default)]
pub struct Probe {
    /// How the present line begins.
    word: [u8; WORD],
    /// Octets of the present line so far.
    length: usize,
    /// The last of them was a CR.
    after_cr: bool,
}

impl Probe {
    /// Looks at what was read in one go; replies to everything before it were sent.
    pub fn look(&mut self, input: &[u8]) -> Option<Fault> {
        let mut octets = input.iter();
        while let Some(octet) = octets.next() {
            match octet {
                b'\n' if !self.after_cr => return Some(Fault::BareNewline),
                b'\n' => {
                    let fault = self.judge().or((octets.len() > 0).then_some(Fault::Pipelining));
                    *self = Probe::default();
                    return fault;
                }
                _ if self.after_cr => return Some(Fault::BareNewline),
                b'\r' => self.after_cr = true,
                other => {
                    if let Some(slot) = self.word.get_mut(self.length) {
                        *slot = *other;
                    }
                    self.length = self.length.saturating_add(1);
                }
            }
        }
        None
    }

    /// The words that other protocols begin with, and the lines of a message header, which begin no command.
    fn judge(&self) -> Option<Fault> {
        let word = self.word.get(..self.length.min(WORD)).unwrap_or_default();
        let word = word.split(|octet| *octet == b' ').next().unwrap_or_default();
        let is_foreign = [b"GET".as_slice(), b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"]
            .iter()
            .any(|foreign| word.eq_ignore_ascii_case(foreign));
        let is_a_word = word.first().is_some_and(u8::is_ascii_alphabetic) && !word.contains(&b':');
        (is_foreign || (self.length > 0 && !is_a_word)).then_some(Fault::NotSmtp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in pieces that each come after the reply to the one before.
    fn found(pieces: &[&str]) -> Option<Fault> {
        let mut probe = Probe::default();
        pieces.iter().find_map(|piece| probe.look(piece.as_bytes()))
    }

    #[test]
    fn one_command_at_a_time_is_well_however_it_is_cut() {
        assert_eq!(
            found(&["EHLO client.test\r\n", "MAIL FROM:<a@b>\r\n", "RCPT TO:<c@d>\r\n", "QUIT\r\n"]),
            None
        );
        assert_eq!(found(&["E", "HLO x\r", "\n", "mail from:<>\r\n", "\r\n"]), None);
    }

    #[test]
    fn what_comes_before_its_time_or_ends_wrongly_is_found() {
        assert_eq!(found(&["EHLO x\r\nMAIL FROM:<>\r\n"]), Some(Fault::Pipelining));
        assert_eq!(found(&["EHLO x\r\n", "MAIL FROM:<>\r\nR"]), Some(Fault::Pipelining));
        assert_eq!(found(&["EHLO x\n"]), Some(Fault::BareNewline));
        assert_eq!(found(&["EHLO\rx\r\n"]), Some(Fault::BareNewline));
        assert_eq!(found(&["EHLO x\r\r\n"]), Some(Fault::BareNewline));
    }

    #[test]
    fn other_protocols_are_found() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "connect a:25\r\n",
            "OPTIONS * RTSP\r\n",
            "Subject: x\r\n",
            "\u{16}\u{3}x\r\n",
            ".\r\n",
        ] {
            assert_eq!(found(&[line]), Some(Fault::NotSmtp), "{line:?}");
        }
        for line in ["GETTER x\r\n", "BOGUS\r\n", "MAIL FROM:<a:b@c>\r\n", "STARTTLS\r\n"] {
            assert_eq!(found(&[line]), None, "{line:?}");
        }
    }
}
