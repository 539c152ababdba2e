//! Next hops and relay hosts: what is read prints as something that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_mail::{LmtpTarget, NextHop};

fuzz_target!(|text: &str| {
    for hop in [NextHop::parse(text), NextHop::parse_relay(text)].into_iter().flatten() {
        let shown = hop.to_string();
        assert!(!shown.chars().any(char::is_control));
        assert_eq!(NextHop::parse(&shown).as_ref(), Ok(&hop), "{shown}");
        match &hop {
            NextHop::Smtp { host, port, mx } => assert!(*port > 0 && !(*mx && host.as_literal().is_some())),
            NextHop::Lmtp(LmtpTarget::Tcp(_, port)) => assert!(*port > 0),
            NextHop::Lmtp(LmtpTarget::Unix(path)) => assert!(path.starts_with('/')),
            NextHop::Mailbox(_) => {}
        }
    }
});
