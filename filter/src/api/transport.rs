//! `transport::`: how each recipient is delivered. Without a call the routing tables decide.

use vsmtp_mail::{LmtpTarget, MailboxFormat, NextHop};

use super::address::mailbox;
use super::registry::{Name, Registry, name};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::Transport;

const RELAY_ERRORS: &str =
    "if the target is not a relay: TLS and accounts of relays are set in the configuration";
const TARGETS: &str = "A target is an IP address or a host, with `:port` if it is not 25, or `smtp://host:port`; its MX records are not asked. Of what vSMTP writes behind a `?`, `tls=none` and `tls=opportunistic` change nothing: whether TLS is spoken, the configuration says.";

pub(super) fn register(registry: &mut Registry) {
    let forward = name("transport", "forward", &["forward"])
        .doc("(rcpt: address, target: string)", "This recipient's copy goes to this relay. A target is an IP address or a host, with `:port` if it is not 25, or `smtp://host:port`; its MX records are not asked. The recipient is added if it is not there.")
        .errors(RELAY_ERRORS)
        .example("transport::forward(ctx::rcpt(), \"192.0.2.9:2525\")");
    registry.text2(forward, Stage::Rcpt, |t, rcpt, target| t.set_transport(mailbox(rcpt)?, &relay(target)?));
    let all = name("transport", "forward_all", &["forward_all"])
        .doc("(target: string)", TARGETS)
        .errors(RELAY_ERRORS)
        .example("transport::forward_all(\"smtp://relay.example.com:26\")");
    registry.text1(all, Stage::Rcpt, |t, target| {
        t.set_all_transports(&relay(target)?);
        Ok(())
    });
    let one = name("transport", "lmtp", &[])
        .doc("(rcpt: address, target: string)", "This recipient's copy goes to this LMTP server: `host`, `host:port`, `[v6]:port` or `unix:/path`.")
        .errors("if the target is not an LMTP server")
        .example("transport::lmtp(ctx::rcpt(), \"unix:/run/dovecot/lmtp\")");
    registry.text2(one, Stage::Rcpt, |t, rcpt, target| t.set_transport(mailbox(rcpt)?, &lmtp(target)?));
    let all = name("transport", "lmtp_all", &[])
        .doc("(target: string)", "All copies go to this LMTP server.")
        .errors("if the target is not an LMTP server")
        .example("transport::lmtp_all(\"[::1]:24\")");
    registry.text1(all, Stage::Rcpt, |t, target| {
        t.set_all_transports(&lmtp(target)?);
        Ok(())
    });
    ways(registry);
    removed(registry);
}

/// Ways that need no target.
fn ways(registry: &mut Registry) {
    let (one, all) = ("(rcpt: address)", "()");
    fixed(
        registry,
        name("transport", "deliver", &["deliver"])
            .doc(one, "This recipient's copy goes to the servers that its domain's MX records name.")
            .example("transport::deliver(ctx::rcpt())"),
        name("transport", "deliver_all", &["deliver_all"])
            .doc(all, "All copies go to the servers that their domains' MX records name.")
            .example("transport::deliver_all()"),
        || Transport::Mx,
    );
    fixed(
        registry,
        name("transport", "mbox", &["mbox"])
            .doc(one, "This recipient's copy goes to an mbox file below `delivery.mail_root`.")
            .example("transport::mbox(ctx::rcpt())"),
        name("transport", "mbox_all", &["mbox_all"])
            .doc(all, "All copies go to mbox files below `delivery.mail_root`.")
            .example("transport::mbox_all()"),
        || Transport::Hop(NextHop::Mailbox(MailboxFormat::Mbox)),
    );
    let maildir = || Transport::Hop(NextHop::Mailbox(MailboxFormat::Maildir));
    fixed(
        registry,
        name("transport", "maildir", &["maildir"])
            .doc(one, "This recipient's copy goes to a Maildir below `delivery.mail_root`.")
            .example("transport::maildir(ctx::rcpt())"),
        name("transport", "maildir_all", &["maildir_all"])
            .doc(all, "All copies go to Maildirs below `delivery.mail_root`.")
            .example("transport::maildir_all()"),
        maildir,
    );
    // Published examples call these.
    fixed(
        registry,
        name("transport", "mailbox", &["mailbox"])
            .doc(one, "The same as `transport::maildir`.")
            .example("transport::mailbox(ctx::rcpt())"),
        name("transport", "mailbox_all", &["mailbox_all"])
            .doc(all, "The same as `transport::maildir_all`.")
            .example("transport::mailbox_all()"),
        maildir,
    );
}

/// Functions of vSL 1.x that 2.x dropped. A message is never thrown away: it is kept.
fn removed(registry: &mut Registry) {
    let one = name("transport", "disable_delivery", &["disable_delivery"])
        .doc("(rcpt: address)", "Removes the recipient, as `envelop::rm_rcpt` does.")
        .errors("if the argument is not an address")
        .example("transport::disable_delivery(ctx::rcpt()); ctx::rcpt_list().len() == 1");
    registry.text1(one, Stage::Rcpt, |t, rcpt| {
        t.remove_recipient(&mailbox(rcpt)?);
        Ok(())
    });
    let all = name("transport", "disable_delivery_all", &["disable_delivery_all"])
        .doc("()", "Keeps the message in the queue, as `queue::hold` does.")
        .example("transport::disable_delivery_all()");
    registry.on0(all, Stage::Rcpt, |t| {
        t.hold = Some(Box::default());
        Ok(())
    });
}

fn fixed(registry: &mut Registry, one: Name, all: Name, transport: fn() -> Transport) {
    let one = one.errors("if the argument is not an address, or the message has too many recipients");
    registry.text1(one, Stage::Rcpt, move |t, rcpt| t.set_transport(mailbox(rcpt)?, &transport()));
    registry.on0(all, Stage::Rcpt, move |t| {
        t.set_all_transports(&transport());
        Ok(())
    });
}

/// `IP`, `IP:port`, `[v6]:port`, `host`, `host:port`, `smtp://host[:port]`: a host to speak SMTP to, without MX lookup.
fn relay(target: &str) -> Result<Transport, Fault> {
    let wrong = |why: &dyn std::fmt::Display| Fault(format!("'{target}' is not a relay: {why}"));
    let (place, query) = target.split_once('?').unwrap_or((target, ""));
    // To try TLS is what the configuration does unless it says more; what a rule asks for beyond, it cannot promise.
    let asks_for_more = !matches!(query, "" | "tls=none" | "tls=opportunistic");
    if place.starts_with("smtps://") || place.contains('@') || asks_for_more {
        return Err(wrong(&"TLS and authentication to a relay are set in the configuration"));
    }
    let plain = place.strip_prefix("smtp://").unwrap_or(place).trim_end_matches('/');
    // A host that was named is the host that is meant: brackets turn the MX lookup off.
    let text = if plain.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{plain}]")
    } else if plain.starts_with('[') || plain.parse::<std::net::IpAddr>().is_ok() {
        plain.to_owned()
    } else {
        match plain.split_once(':') {
            Some((host, port)) => format!("[{host}]:{port}"),
            None => format!("[{plain}]"),
        }
    };
    NextHop::parse_relay(&text).map(Transport::Hop).map_err(|error| wrong(&error))
}

/// `unix:/path`, `host`, `host:port`, `[host]:port`.
fn lmtp(target: &str) -> Result<Transport, Fault> {
    let plain = target.strip_prefix("lmtp:").unwrap_or(target);
    let plain = plain.strip_prefix("//").unwrap_or(plain);
    let text = if plain.starts_with('/') { format!("lmtp:unix:{plain}") } else { format!("lmtp:{plain}") };
    match NextHop::parse(&text) {
        Ok(hop @ NextHop::Lmtp(LmtpTarget::Tcp(..) | LmtpTarget::Unix(_))) => Ok(Transport::Hop(hop)),
        Ok(_) => Err(Fault(format!("'{target}' is not an LMTP server"))),
        Err(error) => Err(Fault(format!("'{target}' is not an LMTP server: {error}"))),
    }
}
