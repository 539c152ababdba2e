//! A mail that a rule wants sent about a message: from the null sender, so that nothing answers it and nothing reports on
//! it but to the postmaster.

use data_encoding::BASE64;
use vsmtp_ipc::wire::{self, WireError};
use vsmtp_mail::{Address, NextHop, Priority, QueueId, Rfc5322Date};

use super::field::write_field;
use super::{Report, Reporter, Stamp, envelope_for};

/// Most octets in one line of the text (RFC 5322 2.1.1 allows 998).
const MAX_LINE: usize = 900;
/// Most octets in one encoded word of a subject (RFC 2047 2 allows 75 characters with what is around it).
const MAX_WORD: usize = 45;

/// A notice, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// To whom.
    pub to: Address,
    /// One line.
    pub subject: Box<str>,
    /// Lines that end in LF or CRLF.
    pub text: Box<str>,
}

impl TryFrom<&wire::Notice> for Notice {
    type Error = WireError;

    fn try_from(notice: &wire::Notice) -> Result<Self, WireError> {
        let wire::Notice { to, subject, text } = notice;
        if !wire::clean(subject, wire::MAX_NOTICE_SUBJECT) || text.len() > wire::MAX_NOTICE_TEXT {
            return Err(WireError("notice"));
        }
        let to = Address::parse(to).map_err(|_| WireError("recipient of a notice"))?;
        Ok(Notice { to, subject: subject.as_str().into(), text: text.as_str().into() })
    }
}

impl Reporter {
    /// Writes a notice about a message; `None` if its recipient has no next hop.
    pub fn notice(
        &self,
        notice: &Notice,
        about: QueueId,
        targets: &[(Address, NextHop)],
        stamp: Stamp,
    ) -> Option<Report> {
        if targets.is_empty() {
            return None;
        }
        let (name, id, date) = (&self.name, stamp.id, Rfc5322Date(stamp.now_ms / 1000));
        let is_ascii = notice.text.is_ascii();
        let (charset, encoding) = if is_ascii { ("us-ascii", "7bit") } else { ("utf-8", "8bit") };
        let mut bytes = format!(
            "Received: by {name} (vSMTP) id {id};\r\n\t{date}\r\n\
             Date: {date}\r\n\
             From: Mail Delivery System <MAILER-DAEMON@{name}>\r\n\
             To: <{}>\r\n",
            notice.to
        )
        .into_bytes();
        write_field(&mut bytes, "Subject", &subject(&notice.subject), false);
        let rest = format!(
            "Message-ID: <{id}@{name}>\r\n\
             Auto-Submitted: auto-generated\r\n\
             X-vSMTP-Queue-ID: {about}\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset={charset}\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n"
        );
        bytes.extend_from_slice(rest.as_bytes());
        notice.text.lines().for_each(|line| write_line(&mut bytes, line));
        let is_global = notice.to.needs_smtputf8();
        let envelope = envelope_for(targets, &bytes, is_global, false, Priority::default());
        Some(Report { envelope, bytes })
    }
}

/// In encoded words if it is not ASCII (RFC 2047).
fn subject(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let cut = cut_at(rest, MAX_WORD);
        let (word, after) = rest.split_at(cut);
        words.push(format!("=?utf-8?B?{}?=", BASE64.encode(word.as_bytes())));
        rest = after;
    }
    words.join(" ")
}

fn write_line(out: &mut Vec<u8>, line: &str) {
    let line: String = line.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
    let mut rest = line.as_str();
    loop {
        let (now, after) = rest.split_at(cut_at(rest, MAX_LINE));
        out.extend_from_slice(now.as_bytes());
        out.extend_from_slice(b"\r\n");
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

/// Where a text is cut to have at most so many octets, between characters.
fn cut_at(text: &str, max: usize) -> usize {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use vsmtp_mail::Domain;

    fn written(subject: &str, text: &str) -> (vsmtp_mail::Envelope, String) {
        let reporter = Reporter { name: Domain::parse("mx.test").unwrap(), max_return: 0 };
        let to = Address::parse("admin@dst.test").unwrap();
        let notice = Notice { to: to.clone(), subject: subject.into(), text: text.into() };
        let targets = [(to, NextHop::parse("smtp:dst.test").unwrap())];
        let id = QueueId::from_bytes([1; 16]);
        let stamp = Stamp { id, now_ms: 1_795_324_249_000, random: 0 };
        let report = reporter.notice(&notice, id, &targets, stamp).unwrap();
        (report.envelope, String::from_utf8(report.bytes).unwrap())
    }

    #[test]
    fn a_notice_can_be_answered_by_nobody_and_says_what_it_is() {
        let (envelope, text) = written("A virus", "from a@src.test\nand\x07 more\r\n");
        assert_eq!(envelope.reverse_path, vsmtp_mail::ReversePath::Null);
        assert_eq!(envelope.recipients[0].notify, vsmtp_mail::Notify::NEVER);
        assert_eq!(envelope.recipients[0].address.to_string(), "admin@dst.test");
        for line in ["Subject: A virus", "Auto-Submitted: auto-generated", "To: <admin@dst.test>"] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{text}");
        }
        assert!(text.ends_with("7bit\r\n\r\nfrom a@src.test\r\nand? more\r\n"), "{text}");
    }

    #[test]
    fn what_is_not_ascii_is_encoded_and_no_line_is_too_long() {
        let (envelope, text) = written(&"é".repeat(60), &"ü".repeat(2000));
        assert_eq!(envelope.body, vsmtp_mail::BodyType::EightBitMime);
        let (header, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(header.is_ascii() && header.contains("Content-Transfer-Encoding: 8bit"));
        assert!(text.lines().all(|line| line.len() <= 998));
        assert_eq!(body.replace("\r\n", ""), "ü".repeat(2000));
        let words: Vec<&str> = header.split_whitespace().filter(|word| word.starts_with("=?")).collect();
        let decoded: Vec<u8> = words
            .iter()
            .flat_map(|word| {
                assert!(word.len() <= 75, "{word}");
                let inner = word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap();
                BASE64.decode(inner.as_bytes()).unwrap()
            })
            .collect();
        assert_eq!(String::from_utf8(decoded).unwrap(), "é".repeat(60));
    }

    #[test]
    fn only_whole_notices_pass_the_edge() {
        let good = wire::Notice { to: "a@b.test".into(), subject: "s".into(), text: "t".into() };
        assert!(Notice::try_from(&good).is_ok());
        for bad in [
            wire::Notice { to: "a".into(), ..good.clone() },
            wire::Notice { subject: "a\r\nBcc: x@y.test".into(), ..good.clone() },
            wire::Notice { subject: "s".repeat(wire::MAX_NOTICE_SUBJECT + 1), ..good.clone() },
            wire::Notice { text: "t".repeat(wire::MAX_NOTICE_TEXT + 1), ..good.clone() },
        ] {
            assert!(Notice::try_from(&bad).is_err(), "{bad:?}");
        }
    }
}
