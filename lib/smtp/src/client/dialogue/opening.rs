//! From the greeting to an idle connection: EHLO, STARTTLS, AUTH. The handshake and the words of AUTH are the caller's.
//! Without the TLS that is asked for it goes no further, and nothing is said of who we are.

use std::io::Write;

use data_encoding::BASE64;

use super::{Auth, CLOSING, Dialogue, Expect, Phase};
use crate::client::replies::ParsedReply;
use crate::client::{Awaiting, Capabilities, HostFault, UseTls};
use crate::extension::Extension;
use crate::settings::Protocol;

impl Dialogue {
    /// The handshake is done: all that follows comes and goes through TLS. What was learnt before it is forgotten
    /// (RFC 3207 4.2). Ignored unless the step was `StartTls`.
    pub fn tls_started(&mut self) {
        if !matches!(self.phase, Phase::Securing) {
            return;
        }
        self.secure = true;
        self.capabilities = Capabilities::default();
        self.phase = Phase::Opening;
        if self.settings.tls == UseTls::FromStart {
            self.expected.push_back(Expect::Greeting);
        } else {
            self.hello();
        }
    }

    /// The handshake failed; ignored unless the step was `StartTls`.
    pub fn tls_failed(&mut self, why: &str) {
        if matches!(self.phase, Phase::Securing) {
            self.break_off(HostFault::Insecure, Awaiting::Handshake, why);
        }
    }

    /// Begins AUTH with a mechanism and its first words, if it has any. Ignored unless the step was `Authenticate`.
    pub fn auth_begin(&mut self, mechanism: &str, initial: Option<&[u8]>) {
        if !matches!(self.phase, Phase::Authenticating(Auth::Choosing)) {
            return;
        }
        let initial = match initial {
            None => String::new(),
            // RFC 4954 4: nothing is not the same as no words.
            Some([]) => " =".to_owned(),
            Some(words) => format!(" {}", BASE64.encode(words)),
        };
        // Writing to a Vec does not fail.
        let _ = write!(self.output, "AUTH {mechanism}{initial}\r\n");
        self.expected.push_back(Expect::Auth);
        self.phase = Phase::Authenticating(Auth::Said);
    }

    /// Answers a challenge. Ignored unless the step was `Challenge`.
    pub fn auth_respond(&mut self, words: &[u8]) {
        if matches!(self.phase, Phase::Authenticating(Auth::Challenged(_))) {
            let _ = write!(self.output, "{}\r\n", BASE64.encode(words));
            self.expected.push_back(Expect::Auth);
            self.phase = Phase::Authenticating(Auth::Said);
        }
    }

    /// The server has proved what the mechanism lets it prove. Ignored unless the step was `Authenticated`.
    pub fn auth_accepted(&mut self) {
        if matches!(self.phase, Phase::Authenticating(Auth::Accepted)) {
            self.phase = Phase::Idle;
        }
    }

    /// Ends the connection because there is no way to agree on who we are.
    pub fn auth_failed(&mut self, why: &str) {
        if matches!(self.phase, Phase::Authenticating(_)) {
            self.output = Vec::new();
            self.break_off(HostFault::Unauthenticated, Awaiting::Auth, why);
        }
    }

    pub(super) fn hello(&mut self) {
        let verb = if self.settings.protocol == Protocol::Lmtp { "LHLO" } else { "EHLO" };
        self.write_hello(verb, Expect::Ehlo);
    }

    pub(super) fn on_ehlo(&mut self, reply: ParsedReply) {
        match reply.code / 100 {
            2 => {
                self.capabilities = Capabilities::parse(&reply.text);
                self.greeted();
            }
            5 if self.settings.protocol == Protocol::Smtp => self.write_hello("HELO", Expect::Helo),
            _ => self.refused(reply.to_reply(), Awaiting::Hello),
        }
    }

    /// The server has said what it offers: begins TLS, or lets transactions begin.
    pub(super) fn greeted(&mut self) {
        match self.settings.tls {
            UseTls::IfOffered | UseTls::Always
                if !self.secure && self.capabilities.has(Extension::StartTls) =>
            {
                self.output.extend_from_slice(b"STARTTLS\r\n");
                self.expected.push_back(Expect::StartTls);
            }
            UseTls::Always if !self.secure => {
                let text = "TLS is required, and the server does not offer it";
                self.break_off(HostFault::Insecure, Awaiting::StartTls, text);
            }
            _ => self.open(),
        }
    }

    /// TLS is as it is to be: says who we are, or lets transactions begin.
    fn open(&mut self) {
        self.phase = match (self.settings.authenticate, self.secure) {
            (false, _) => Phase::Idle,
            (true, true) => Phase::Authenticating(Auth::Choosing),
            (true, false) => {
                let text = "nothing is said of who we are without TLS";
                return self.break_off(HostFault::Unauthenticated, Awaiting::Auth, text);
            }
        };
    }

    /// The words of a refusal are not repeated: they may hold our own.
    pub(super) fn on_auth(&mut self, reply: &ParsedReply) {
        let challenge = || BASE64.decode(reply.text.trim().as_bytes()).ok();
        match reply.code {
            235 => self.phase = Phase::Authenticating(Auth::Accepted),
            334 => match challenge() {
                Some(words) => self.phase = Phase::Authenticating(Auth::Challenged(words)),
                None => self.break_off(
                    HostFault::Protocol,
                    Awaiting::Auth,
                    "server sent a challenge that is not base64",
                ),
            },
            _ => {
                let text = format!("server does not take our credentials ({})", codes(reply));
                self.break_off(HostFault::Unauthenticated, Awaiting::Auth, &text);
            }
        }
    }

    /// The server leaves, or speaks when it is not its turn, while we say who we are. These words are not repeated either.
    pub(super) fn broke_off_auth(&mut self, reply: &ParsedReply) {
        let (fault, what) = match reply.code {
            CLOSING => (HostFault::Refused, "server ends the connection"),
            _ => (HostFault::Protocol, "server speaks out of turn"),
        };
        self.break_off(
            fault,
            Awaiting::Auth,
            &format!("{what} instead of taking our credentials ({})", codes(reply)),
        );
    }

    /// A refusal changes nothing: nothing of the handshake was sent.
    pub(super) fn on_starttls(&mut self, reply: &ParsedReply) {
        if reply.code / 100 == 2 {
            self.phase = Phase::Securing;
        } else if self.settings.tls == UseTls::Always {
            let text = format!("TLS is required, and the server refused it: {}", reply.to_reply());
            self.break_off(HostFault::Insecure, Awaiting::StartTls, &text);
        } else {
            self.open();
        }
    }

    fn write_hello(&mut self, verb: &str, expect: Expect) {
        // Writing to a Vec does not fail.
        let _ = write!(self.output, "{verb} {}\r\n", self.settings.helo);
        self.expected.push_back(expect);
    }
}

/// All of a reply that can hold nothing of what we said.
fn codes(reply: &ParsedReply) -> String {
    let enhanced = reply.to_reply().enhanced().map(|found| format!(" {found}")).unwrap_or_default();
    format!("{}{enhanced}", reply.code)
}
