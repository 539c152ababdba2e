//! What clients hear that have used up too much, or that failed a test. Pure.

use std::net::IpAddr;

use vsmtp_ipc::wire;
use vsmtp_mail::{EnhancedCode, Reply};

use vsmtp_ipc::edge::receiver_limits::Kind;

use crate::counters::Excess;
use crate::screen::{Fate, Finding};

/// At the door.
pub fn at_the_door(excess: Excess) -> wire::Reply {
    let text = match excess {
        Excess::Open => "Too many connections from your address, try again later",
        Excess::Rate(Kind::Errors) => "Too many errors from your address, try again later",
        Excess::Rate(Kind::AuthFailures) => "Too many failed logins from your address, try again later",
        Excess::Rate(_) => "Too many connections from your address in a short time, try again later",
    };
    reply(421, EnhancedCode(4, 7, 0), text)
}

/// Within a session.
pub fn in_session(kind: Kind, excess: Excess) -> wire::Reply {
    match (kind, excess) {
        (_, Excess::Rate(Kind::Errors)) => at_the_door(excess),
        (Kind::Recipients, _) => {
            reply(452, EnhancedCode(4, 7, 1), "Too many recipients from your address, try again later")
        }
        (Kind::Handshakes, _) => {
            reply(421, EnhancedCode(4, 7, 0), "Too many TLS handshakes from your address, try again later")
        }
        (Kind::AuthFailures, _) => {
            reply(421, EnhancedCode(4, 7, 0), "Too many failed logins from your address, try again later")
        }
        _ => reply(450, EnhancedCode(4, 7, 1), "Too many messages from your address, try again later"),
    }
}

/// After the tests before the greeting: at the door, or at each RCPT.
pub fn unwanted(finding: &Finding) -> wire::Reply {
    let code = if finding.fate == Fate::Drop { 554 } else { 550 };
    match finding.score.lists.first().filter(|_| !finding.early) {
        Some(list) => reply(
            code,
            EnhancedCode(5, 7, 1),
            &format!("Client {} is listed in {list}", shown(finding.client)),
        ),
        None => reply(code, EnhancedCode(5, 5, 1), "Protocol error: client spoke before the greeting"),
    }
}

fn shown(client: IpAddr) -> String {
    format!("[{}]", client.to_canonical())
}

fn reply(code: u16, enhanced: EnhancedCode, text: &str) -> wire::Reply {
    (&Reply::fixed(code, enhanced, text)).into()
}
