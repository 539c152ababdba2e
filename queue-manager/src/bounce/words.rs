//! The part of a report for people.

use vsmtp_mail::Rfc5322Date;

use super::field::write_paragraph;
use super::{Draft, Kind};

impl Draft<'_> {
    pub(super) fn subject(&self) -> &'static str {
        match self.kind {
            Kind::Failure => "Not delivered: your message",
            Kind::Delay { .. } => "Delayed: your message is still on its way",
            Kind::Success => "Delivered: your message",
            Kind::Relay | Kind::Expansion => "Passed on: your message",
            Kind::DoubleBounce => "Not delivered: a delivery report",
        }
    }

    pub(super) fn write_words(&self, out: &mut Vec<u8>) {
        let utf8 = self.is_global;
        write_paragraph(out, &format!("The mail server {} writes this.", self.reporter.name), "", utf8);
        write_paragraph(out, "", "", utf8);
        match self.words() {
            Some(text) => {
                text.lines().for_each(|line| write_paragraph(out, line, "", true));
                write_paragraph(out, "", "", utf8);
            }
            None => {
                for text in self.explanation() {
                    write_paragraph(out, &text, "", utf8);
                    write_paragraph(out, "", "", utf8);
                }
            }
        }
        let mut paragraph = |text: &str, indent: &str| write_paragraph(out, text, indent, utf8);
        for one in self.listed {
            paragraph(&format!("<{}>", self.address(&one.recipient.address.to_string())), "  ");
            let said = if one.remote.is_empty() { String::new() } else { format!("{} said: ", one.remote) };
            paragraph(&format!("{said}{}", one.text), "      ");
        }
    }

    /// What a rule wants said of a failure in the place of our own words.
    pub(super) fn words(&self) -> Option<&str> {
        self.original.envelope.terms.report_text.as_deref().filter(|_| self.kind == Kind::Failure)
    }

    fn explanation(&self) -> Vec<String> {
        match self.kind {
            Kind::Failure => vec![
                "Your message could not be delivered to the recipients below, and no more attempts will be made."
                    .to_owned(),
                "What follows in this report is for programs; after it comes your message or its header.".to_owned(),
            ],
            Kind::Delay { until_ms } => vec![
                "Your message could not be delivered yet to the recipients below. There is no need to send it again: \
                 attempts go on."
                    .to_owned(),
                format!("They end at {}; you will be told if they end without success.", Rfc5322Date(until_ms / 1000)),
            ],
            Kind::Success => vec![
                "Your message was delivered to the recipients below, or handed to a server that may not send such \
                 reports."
                    .to_owned(),
            ],
            Kind::Relay => vec![
                "Your message was handed to the next server on the way to the recipients below. Whether it keeps to the time \
                 that you have named is for that server to say."
                    .to_owned(),
            ],
            Kind::Expansion => vec![
                "The addresses below stand for several others, to whom your message goes on. You will not be told of \
                 success with each of them."
                    .to_owned(),
            ],
            Kind::DoubleBounce => vec![
                "A message without a sender, such as a delivery report, could not be delivered to the recipients \
                 below. Nobody else is told."
                    .to_owned(),
            ],
        }
    }
}
