//! From the dialogue's words to the edge's, and from the filter's back. What the filter says is parsed again here; what
//! does not parse is the filter's fault.

use vsmtp_ipc::edge::receiver_filter::Decision;
use vsmtp_ipc::wire::{self, WireError};
use vsmtp_mail::{Reply, Ret, ReversePath};
use vsmtp_smtp::{MailRequest, RcptRequest, Verdict};

/// MAIL as it goes to the filter.
pub fn mail_from(request: &MailRequest) -> wire::MailFrom {
    wire::MailFrom {
        reverse_path: match &request.reverse_path {
            ReversePath::Null => String::new(),
            ReversePath::Address(address) => address.to_string(),
        },
        body: request.body.into(),
        smtputf8: request.smtputf8,
        ret_full: request.ret.map(|ret| ret == Ret::Full),
        envid: request.envid.as_deref().map(str::to_owned),
        size: request.size,
        demands: wire::Demands { requiretls: request.requiretls },
        wishes: request.wishes.into(),
    }
}

/// RCPT as it goes to the filter.
pub fn rcpt_to(request: &RcptRequest) -> wire::RcptTo {
    wire::RcptTo {
        address: request.address.to_string(),
        original: request
            .original
            .as_ref()
            .map(|original| (original.kind.to_string(), original.address.to_string())),
        notify: request.notify.map(wire::Notify::from),
    }
}

/// A decision as the dialogue takes it.
pub fn verdict(decision: &Decision) -> Result<Verdict, WireError> {
    Ok(match decision {
        Decision::Accept(None) => Verdict::Accept,
        Decision::Accept(Some(reply)) => match Reply::try_from(reply)? {
            reply if reply.is_positive() => Verdict::AcceptWith(reply),
            _ => return Err(WireError("reply of an acceptance")),
        },
        Decision::Refuse(reply) => Verdict::Refuse(refusal(reply)?),
        Decision::Close(reply) => Verdict::Close(refusal(reply)?),
    })
}

/// The same with enhanced codes, for replies that must have one (RFC 2034 4): what rules refuse without one they refuse by their
/// policy (RFC 3463 3.8).
pub fn completed(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::AcceptWith(reply) => Verdict::AcceptWith(reply.completed(0, 0)),
        Verdict::Refuse(reply) => Verdict::Refuse(reply.completed(7, 1)),
        Verdict::Close(reply) => Verdict::Close(reply.completed(7, 1)),
        Verdict::Accept | Verdict::Unavailable => verdict,
    }
}

fn refusal(wire: &wire::Reply) -> Result<Reply, WireError> {
    let reply = Reply::try_from(wire)?;
    if reply.is_transient() || reply.is_permanent() {
        Ok(reply)
    } else {
        Err(WireError("reply of a refusal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16) -> wire::Reply {
        wire::Reply { code, enhanced: None, text: "text".to_owned() }
    }

    #[test]
    fn a_reply_must_fit_its_decision() {
        assert_eq!(verdict(&Decision::Accept(None)), Ok(Verdict::Accept));
        assert!(matches!(verdict(&Decision::Accept(Some(reply(250)))), Ok(Verdict::AcceptWith(_))));
        assert!(matches!(verdict(&Decision::Refuse(reply(550))), Ok(Verdict::Refuse(_))));
        assert!(matches!(verdict(&Decision::Close(reply(421))), Ok(Verdict::Close(_))));
        assert!(verdict(&Decision::Accept(Some(reply(550)))).is_err());
        assert!(verdict(&Decision::Refuse(reply(250))).is_err());
        assert!(verdict(&Decision::Refuse(reply(354))).is_err());
        assert!(verdict(&Decision::Close(reply(999))).is_err());
    }
}
