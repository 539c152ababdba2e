//! `dsn::` and `tls::`: what the client said beside the addresses, and what its handshake has agreed on.

use rhai::ImmutableString;
use vsmtp_mail::{Notify, Ret};

use super::address::mailbox;
use super::registry::{Name, Outcome, Registry, name};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::{Tls, Transaction};

pub(super) fn register(registry: &mut Registry) {
    reports(registry);
    handshake(registry);
}

fn reports(registry: &mut Registry) {
    let ret = name("dsn", "ret", &[])
        .doc(
            "() -> string",
            "What a report is to return: `FULL`, `HDRS`, or empty if the client did not say.",
        )
        .example("dsn::ret() == \"\"");
    registry.on0(ret, Stage::Mail, |t| {
        Ok(match t.mail.as_ref().and_then(|mail| mail.ret) {
            Some(Ret::Full) => "FULL",
            Some(Ret::Headers) => "HDRS",
            None => "",
        })
    });
    let envid = name("dsn", "envid", &[])
        .doc("() -> string", "The sender's name for this message, decoded; empty if there is none.")
        .example("dsn::envid() == \"\"");
    registry.on0(envid, Stage::Mail, |t| {
        let envid = t.mail.as_ref().and_then(|mail| mail.envid.as_deref());
        Ok(ImmutableString::from(envid.unwrap_or_default()))
    });
    let unknown = "if it is not a recipient of the message";
    let notify = name("dsn", "notify", &[])
        .doc("(rcpt: address) -> string", "Which reports are wanted for this recipient: `NEVER`, or of `SUCCESS,FAILURE,DELAY`; empty if the client did not say.")
        .errors(unknown)
        .example("dsn::notify(ctx::rcpt()) == \"\"");
    registry.text1(notify, Stage::Rcpt, |t, rcpt| {
        let at = recipient(t, rcpt)?;
        Ok(t.recipients.get(at).map(|entry| written(entry.spec.notify)).unwrap_or_default())
    });
    let original = name("dsn", "orcpt", &[])
        .doc("(rcpt: address) -> string", "The recipient that the sender wrote originally, as `type;address`; empty if the client did not say.")
        .errors(unknown)
        .example("dsn::orcpt(ctx::rcpt()) == \"\"");
    registry.text1(original, Stage::Rcpt, |t, rcpt| {
        let at = recipient(t, rcpt)?;
        let original = t.recipients.get(at).and_then(|entry| entry.spec.original.as_ref());
        Ok(original.map(|original| format!("{};{}", original.kind, original.address)).unwrap_or_default())
    });
    let set = name("dsn", "set_notify", &[])
        .doc("(rcpt: address, reports: string)", "Sets which reports the sender gets about this recipient: `NEVER`, or some of `SUCCESS,FAILURE,DELAY`.")
        .errors("if it is not a recipient of the message, or the words are others")
        .example("dsn::set_notify(ctx::rcpt(), \"FAILURE,DELAY\"); dsn::notify(ctx::rcpt()) == \"FAILURE,DELAY\"");
    registry.text2(set, Stage::Rcpt, |t, rcpt, reports| {
        let at = recipient(t, rcpt)?;
        let notify = read(reports)?;
        if let Some(entry) = t.recipients.get_mut(at) {
            entry.spec.notify = notify;
        }
        Ok(())
    });
}

fn recipient(t: &Transaction, text: &str) -> Outcome<usize> {
    let unknown = || Fault(format!("'{text}' is not a recipient of this message"));
    t.position(&mailbox(text)?).ok_or_else(unknown)
}

fn written(notify: Notify) -> String {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    match notify.stated {
        false => String::new(),
        true if notify == Notify::NEVER => "NEVER".to_owned(),
        true => {
            words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
        }
    }
}

fn read(reports: &str) -> Outcome<Notify> {
    if reports.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in reports.split(',').map(str::trim) {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return Err(Fault(format!("'{word}' is no report: NEVER, or of SUCCESS, FAILURE, DELAY"))),
        }
    }
    Ok(notify)
}

const AFTER: &str = "from `postq` on, where it is not known any more";

const fn fact(fact: &'static str) -> Name {
    name("tls", fact, &[]).until(Stage::Preq).errors(AFTER)
}

fn handshake(registry: &mut Registry) {
    let secured =
        fact("is_secured").doc("() -> bool", "The session is under TLS.").example("!tls::is_secured()");
    registry.on0(secured, Stage::Connect, |t| Ok(known(t)?.is_some()));
    let protocol = fact("protocol")
        .doc("() -> string", "`TLSv1.2` or `TLSv1.3`; empty in clear.")
        .example("tls::protocol() == \"\"");
    registry.on0(protocol, Stage::Connect, |t| word(t, |tls| Some(&*tls.protocol)));
    let cipher = fact("cipher")
        .doc("() -> string", "IANA name of the cipher suite; empty in clear.")
        .example("tls::cipher() == \"\"");
    registry.on0(cipher, Stage::Connect, |t| word(t, |tls| Some(&*tls.cipher)));
    let sni = fact("sni")
        .doc("() -> string", "The name that the client asked for; empty if it asked for none.")
        .example("tls::sni() == \"\"");
    registry.on0(sni, Stage::Connect, |t| word(t, |tls| tls.sni.as_ref().map(|name| name.as_str())));
    let fingerprint = fact("client_fingerprint")
        .doc("() -> string", "SHA-256 of the client's certificate in hexadecimal; empty if it showed none.")
        .example("tls::client_fingerprint() == \"\"");
    registry.on0(fingerprint, Stage::Connect, |t| word(t, |tls| tls.fingerprint.as_deref()));
    let verified = fact("is_client_verified")
        .doc("() -> bool", "The client's certificate leads to an authority that the configuration trusts.")
        .example("!tls::is_client_verified()");
    registry.on0(verified, Stage::Connect, |t| Ok(known(t)?.is_some_and(|tls| tls.is_verified)));
}

/// TLS of the session, while it is known.
fn known(t: &Transaction) -> Outcome<Option<&Tls>> {
    if t.stage >= Stage::Postq {
        return Err(Fault::new("what TLS has agreed on is known before 'postq' only"));
    }
    Ok(t.tls.as_ref())
}

fn word(t: &Transaction, of: impl Fn(&Tls) -> Option<&str>) -> Outcome<ImmutableString> {
    Ok(known(t)?.and_then(of).unwrap_or_default().into())
}
