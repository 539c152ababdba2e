//! `envelop::`: who the message is from and to.

use vsmtp_mail::ReversePath;

use super::address::mailbox;
use super::registry::{Registry, name};
use crate::object::Fault;
use crate::stage::Stage;

pub(super) fn register(registry: &mut Registry) {
    let rewrite_sender = name("envelop", "rw_mail_from", &["rewrite_mail_from_envelop"]);
    registry.text1(rewrite_sender, Stage::Mail, |t, new| {
        let path =
            if matches!(new, "" | "<>") { ReversePath::Null } else { ReversePath::Address(mailbox(new)?) };
        t.set_sender(path);
        Ok(())
    });
    let rewrite = name("envelop", "rw_rcpt", &["rewrite_rcpt_envelop", "rewrite_rcpt"]);
    registry.text2(rewrite, Stage::Rcpt, |t, old, new| {
        let old = mailbox(old)?;
        t.rewrite_recipient(&old, mailbox(new)?)
    });
    let add = name("envelop", "add_rcpt", &["add_rcpt_envelop", "add_rcpt"]);
    registry.text1(add, Stage::Mail, |t, new| t.add_recipient(mailbox(new)?));
    registry
        .text1(name("envelop", "bcc", &["bcc"]), Stage::Mail, |t, new| t.add_hidden_recipient(mailbox(new)?));
    let remove = name("envelop", "rm_rcpt", &["remove_rcpt_envelop", "remove_rcpt"]);
    registry.text1(remove, Stage::Rcpt, |t, old| {
        t.remove_recipient(&mailbox(old)?);
        Ok(())
    });
    registry.on0(name("queue", "hold", &[]), Stage::Connect, |t| {
        t.hold = true;
        Ok::<(), Fault>(())
    });
}
