//! What an operator decides about a listener's dialogue. One value per listener, shared by all its sessions.

use vsmtp_mail::Domain;

use crate::auth::AuthSettings;
use crate::data::BodyLimits;
use crate::extension::{Extension, Extensions};
use crate::line::BareNewline;
use crate::reply::Replies;

/// Which protocol a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Protocol {
    /// RFC 5321.
    #[default]
    Smtp,
    /// RFC 2033: LHLO, and one reply per recipient after the message.
    Lmtp,
}

/// What to do with a client that speaks before the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyTalk {
    /// Nothing; [`crate::Session::talked_early`] still tells.
    #[default]
    Allow,
    /// 554 instead of the greeting, and the end.
    Refuse,
}

/// Bounds of a session. Every one is on by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Recipients of one message; those beyond get 452. At least 100 (RFC 5321 4.5.3.1.8).
    pub recipients: u32,
    /// Errors without an accepted message from which on [`crate::Session::deserves_delay`] is true.
    pub soft_errors: u32,
    /// Errors without an accepted message that end the session with 421.
    pub hard_errors: u32,
    /// NOOP, RSET, VRFY, HELP and repeated EHLO without an accepted message; each one more counts as an error.
    pub junk: u32,
    /// Bounds of a message.
    pub body: BodyLimits,
}

/// The dialogue of one listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in the greeting and in the EHLO reply; also the domain of `<postmaster>`.
    pub name: Domain,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// What EHLO lists where it is true, and which parameters MAIL and RCPT take. `auth` decides about AUTH.
    pub extensions: Extensions,
    /// MAIL, VRFY and AUTH only under TLS.
    pub tls_required: bool,
    /// EHLO is answered; otherwise clients must be content with HELO. LMTP has its own.
    pub ehlo: bool,
    /// VRFY is answered, with 252; it never tells anything.
    pub vrfy: bool,
    /// MT-PRIORITY may call a message more urgent than others; otherwise what is above 0 counts as 0 (RFC 6710).
    pub raise_priority: bool,
    /// Who must say who it is, and how.
    pub auth: AuthSettings,
    /// Bounds.
    pub limits: Limits,
    /// Lone CR and LF.
    pub bare_newline: BareNewline,
    /// Clients that do not wait for the greeting.
    pub early_talk: EarlyTalk,
    /// Texts of the server's own replies where the operator wants others.
    pub replies: Replies,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { recipients: 1000, soft_errors: 10, hard_errors: 20, junk: 100, body: BodyLimits::default() }
    }
}

impl Settings {
    /// The defaults for a server of this name: SMTP with PIPELINING, SIZE, 8BITMIME and ENHANCEDSTATUSCODES.
    pub fn new(name: Domain) -> Self {
        Settings {
            name,
            protocol: Protocol::Smtp,
            extensions: Extensions::of(&[
                Extension::Pipelining,
                Extension::Size,
                Extension::EightBitMime,
                Extension::EnhancedStatusCodes,
            ]),
            tls_required: false,
            ehlo: true,
            vrfy: true,
            raise_priority: false,
            auth: AuthSettings::default(),
            limits: Limits::default(),
            bare_newline: BareNewline::default(),
            early_talk: EarlyTalk::default(),
            replies: Replies::default(),
        }
    }
}
