//! `transport::`: how each recipient is delivered. Without a call the routing tables decide.

use vsmtp_mail::{LmtpTarget, MailboxFormat, NextHop};

use super::address::mailbox;
use super::registry::{Name, Registry, name};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::Transport;

pub(super) fn register(registry: &mut Registry) {
    registry.text2(name("transport", "forward", &["forward"]), Stage::Rcpt, |t, rcpt, target| {
        t.set_transport(mailbox(rcpt)?, &relay(target)?)
    });
    registry.text1(name("transport", "forward_all", &["forward_all"]), Stage::Rcpt, |t, target| {
        t.set_all_transports(&relay(target)?);
        Ok(())
    });
    registry.text2(name("transport", "lmtp", &[]), Stage::Rcpt, |t, rcpt, target| {
        t.set_transport(mailbox(rcpt)?, &lmtp(target)?)
    });
    registry.text1(name("transport", "lmtp_all", &[]), Stage::Rcpt, |t, target| {
        t.set_all_transports(&lmtp(target)?);
        Ok(())
    });
    fixed(
        registry,
        name("transport", "deliver", &["deliver"]),
        name("transport", "deliver_all", &["deliver_all"]),
        || Transport::Mx,
    );
    fixed(
        registry,
        name("transport", "mbox", &["mbox"]),
        name("transport", "mbox_all", &["mbox_all"]),
        || Transport::Hop(NextHop::Mailbox(MailboxFormat::Mbox)),
    );
    let maildir = || Transport::Hop(NextHop::Mailbox(MailboxFormat::Maildir));
    fixed(
        registry,
        name("transport", "maildir", &["maildir"]),
        name("transport", "maildir_all", &["maildir_all"]),
        maildir,
    );
    // Published examples call these.
    fixed(registry, name("transport", "mailbox", &[]), name("transport", "mailbox_all", &[]), maildir);
}

fn fixed(registry: &mut Registry, one: Name, all: Name, transport: fn() -> Transport) {
    registry.text1(one, Stage::Rcpt, move |t, rcpt| t.set_transport(mailbox(rcpt)?, &transport()));
    registry.on0(all, Stage::Rcpt, move |t| {
        t.set_all_transports(&transport());
        Ok(())
    });
}

/// `IP`, `IP:port`, `[v6]:port`, `host`, `host:port`, `smtp://host[:port]`: a host to speak SMTP to, without MX lookup.
fn relay(target: &str) -> Result<Transport, Fault> {
    let wrong = |why: &dyn std::fmt::Display| Fault(format!("'{target}' is not a relay: {why}"));
    if target.starts_with("smtps://") || target.contains('@') || target.contains('?') {
        return Err(wrong(&"TLS and authentication to a relay are set in the configuration"));
    }
    let plain = target.strip_prefix("smtp://").unwrap_or(target).trim_end_matches('/');
    // A host that was named is the host that is meant: brackets turn the MX lookup off.
    let text = if plain.starts_with('[') || plain.parse::<std::net::IpAddr>().is_ok() {
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
