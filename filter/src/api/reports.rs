//! `bounce::` and `notify::`: what is said about the message, to whom.

use rhai::ImmutableString;
use vsmtp_ipc::wire::{MAX_NOTICE_SUBJECT, MAX_NOTICE_TEXT, MAX_NOTICES, Notice};
use vsmtp_mail::{MAX_REPORT_TEXT, escape_text};

use super::address::mailbox;
use super::registry::{Outcome, Registry, name};
use crate::object::{Fault, Object};
use crate::stage::Stage;
use crate::transaction::Transaction;

pub(super) fn register(registry: &mut Registry) {
    let text = name("bounce", "text", &[])
        .doc("(text: string)", "What a report of failure about this message says in the place of our own words; its lines become paragraphs. Recipients, reasons and the parts for programs stay. An empty text stands for our own words.")
        .errors("if it has more than 2048 octets")
        .example("bounce::text(\"Nobody here reads this mail.\\nCall us instead.\")");
    registry.text1(text, Stage::Mail, |t, text| {
        t.terms.report_text = Some(words(text)?).filter(|text| !text.is_empty());
        Ok(())
    });
    let from = name("bounce", "from", &[])
        .doc("(address: address)", "The address in the From field of reports about this message. They have the null sender all the same.")
        .errors("if the argument is not an address")
        .example("bounce::from(\"helpdesk@example.com\")");
    registry.text1(from, Stage::Mail, |t, address| {
        t.terms.report_from = Some(mailbox(address)?);
        Ok(())
    });
    let suppress = name("bounce", "suppress", &[])
        .doc("()", "Nobody is told what becomes of this message: as if NOTIFY=NEVER had been said of all its recipients, towards next hops too. What has the null sender and fails is told to the postmaster in any case.")
        .example("bounce::suppress()");
    registry.on0(suppress, Stage::Mail, |t| {
        t.is_quiet = true;
        Ok(())
    });
    notices(registry);
}

fn notices(registry: &mut Registry) {
    let send = name("notify", "send", &[])
        .doc("(to: address, subject: string, text: string) -> bool", "Sends a mail to somebody about this message: from our own address, with the null sender, together with the message itself, so that there is none if the message is refused. At most 4 for each message. False, and none is sent, if the message has the null sender or, from `preq` on, says that a program has sent it (Auto-Submitted): programs must not answer each other.")
        .errors("if the first argument is not an address, the subject has more than 256 octets, the text has more than 8 KiB, or it is one too many")
        .example("notify::send(\"postmaster@example.com\", \"A large message\", `from ${ctx::mail_from()}`)");
    registry.on3(send, Stage::Mail, |t, to: Object, subject: ImmutableString, text: ImmutableString| {
        send_notice(t, &to.text(), &subject, &text)
    });
    registry.on3(
        send,
        Stage::Mail,
        |t, to: ImmutableString, subject: ImmutableString, text: ImmutableString| {
            send_notice(t, &to, &subject, &text)
        },
    );
}

fn words(text: &str) -> Outcome<Box<str>> {
    let lines: Vec<String> = text.trim().lines().map(escape_text).collect();
    let text = lines.join("\n");
    if text.len() > MAX_REPORT_TEXT {
        return Err(Fault(format!("the words of a report have {MAX_REPORT_TEXT} octets at most")));
    }
    Ok(text.into())
}

fn send_notice(t: &mut Transaction, to: &str, subject: &str, text: &str) -> Outcome<bool> {
    let to = mailbox(to)?.to_string();
    let subject = escape_text(subject);
    if subject.len() > MAX_NOTICE_SUBJECT || text.len() > MAX_NOTICE_TEXT {
        return Err(Fault(format!(
            "a notice has {MAX_NOTICE_SUBJECT} octets of subject and {MAX_NOTICE_TEXT} of text at most"
        )));
    }
    if !t.may_be_answered() {
        return Ok(false);
    }
    if t.notices.len() >= MAX_NOTICES {
        return Err(Fault(format!("a message has {MAX_NOTICES} notices at most")));
    }
    t.notices.push(Notice { to, subject, text: text.to_owned() });
    Ok(true)
}
