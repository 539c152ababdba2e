//! `envelop::`: who the message is from and to.

use vsmtp_mail::ReversePath;

use super::address::mailbox;
use super::registry::{Outcome, Registry, name};
use crate::stage::Stage;
use crate::transaction::Transaction;

pub(super) fn register(registry: &mut Registry) {
    let rewrite_sender =
        name("envelop", "rw_mail_from", &["rewrite_mail_from_envelop", "rewrite_mail_from_context"])
            .doc(
                "(new: address)",
                "Changes the sender of the envelope. An empty string is the null sender. The header stays.",
            )
            .errors("if the argument is not an address")
            .example(
                "envelop::rw_mail_from(\"bounces@example.com\"); ctx::mail_from() == \"bounces@example.com\"",
            );
    registry.text1(rewrite_sender, Stage::Mail, rewrite_sender_of);
    let both = name("envelop", "rw_mail_from_everywhere", &["rewrite_mail_from"])
        .doc("(new: address)", "Changes the sender of the envelope, and from `preq` on the From field too, as vSL 1.2 and later do.")
        .errors("if the argument is not an address")
        .example("rewrite_mail_from(\"jane@example.com\"); ctx::mail_from() == \"jane@example.com\"");
    registry.text1(both, Stage::Mail, |t, new| {
        rewrite_sender_of(t, new)?;
        if t.stage >= Stage::Preq && !matches!(new, "" | "<>") {
            t.rewrite_from(&mailbox(new)?)?;
        }
        Ok(())
    });
    let rewrite = name("envelop", "rw_rcpt", &["rewrite_rcpt_envelop", "rewrite_rcpt", "rewrite_rcpt_context"])
        .doc("(old: address, new: address)", "Puts one recipient in the place of another; adds it if the other is not there. NOTIFY and ORCPT of the client stay.")
        .errors("if an argument is not an address, or the message has too many recipients")
        .example("envelop::rw_rcpt(\"joe@example.net\", \"team@example.net\"); \"team@example.net\" in ctx::rcpt_list()");
    registry.text2(rewrite, Stage::Rcpt, |t, old, new| {
        let old = mailbox(old)?;
        t.rewrite_recipient(&old, mailbox(new)?)
    });
    let add = name("envelop", "add_rcpt", &["add_rcpt_envelop", "add_rcpt", "add_rcpt_context"])
        .doc("(new: address)", "Adds a recipient; nothing happens if it is there. Whether it may be relayed to is the operator's word.")
        .errors("if the argument is not an address, or the message has too many recipients")
        .example("envelop::add_rcpt(\"archive@example.com\"); ctx::rcpt_list().len() == 3 // from rcpt");
    registry.text1(add, Stage::Mail, |t, new| t.add_recipient(mailbox(new)?));
    let bcc = name("envelop", "bcc", &["bcc"])
        .doc(
            "(new: address)",
            "Adds a recipient of whom the sender must not learn: no report about it goes to the sender.",
        )
        .errors("if the argument is not an address, or the message has too many recipients")
        .example(
            "envelop::bcc(\"archive@example.com\"); \"archive@example.com\" in ctx::rcpt_list() // from rcpt",
        );
    registry.text1(bcc, Stage::Mail, |t, new| t.add_hidden_recipient(mailbox(new)?));
    let remove = name("envelop", "rm_rcpt", &["remove_rcpt_envelop", "remove_rcpt", "remove_rcpt_context"])
        .doc("(old: address)", "Removes a recipient; nothing happens if it is not there. A message without recipients is refused with 554.")
        .errors("if the argument is not an address")
        .example("envelop::rm_rcpt(ctx::rcpt()); ctx::rcpt_list().len() == 1");
    registry.text1(remove, Stage::Rcpt, |t, old| {
        t.remove_recipient(&mailbox(old)?);
        Ok(())
    });
}

fn rewrite_sender_of(t: &mut Transaction, new: &str) -> Outcome<()> {
    let path = if matches!(new, "" | "<>") { ReversePath::Null } else { ReversePath::Address(mailbox(new)?) };
    t.set_sender(path);
    Ok(())
}
