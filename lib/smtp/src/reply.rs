//! All that the server says of its own accord, in one table. Texts that policy chose come as `vsmtp_mail::Reply`.

use std::io::Write;

use vsmtp_mail::{EnhancedCode, MAX_WAIT_S, Reply, Rfc5322Date};

use crate::auth::TlsFacts;
use crate::extension::{Extension, Extensions};
use crate::settings::{Protocol, Settings};
use crate::xclient;

macro_rules! own_replies {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// One of the server's own replies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Own { $($(#[$doc])* $name,)* }

        impl Own {
            /// All of them.
            pub const ALL: &'static [Own] = &[$(Own::$name,)*];

            /// The name by which configuration may replace the text.
            pub fn name(self) -> &'static str {
                match self { $(Own::$name => stringify!($name),)* }
            }

            /// The default text as it goes over the wire.
            pub fn wire(self) -> &'static str {
                match self { $(Own::$name => concat!($text, "\r\n"),)* }
            }
        }
    };
}

own_replies! {
    /// HELP; the commands follow, unless configuration has another text.
    Help = "214 2.0.0 Commands:";
    /// STARTTLS: the handshake may begin.
    StartTls = "220 2.0.0 Ready to start TLS";
    /// QUIT.
    Closing = "221 2.0.0 Bye";
    /// AUTH succeeded.
    AuthOk = "235 2.7.0 Authentication succeeded";
    /// RSET, NOOP.
    Ok = "250 2.0.0 Ok";
    /// MAIL accepted.
    SenderOk = "250 2.1.0 Ok";
    /// MAIL accepted, with another priority than it asked for (RFC 6710).
    PriorityLowered = "250 2.3.6 0 is the highest priority that clients may ask for";
    /// RCPT accepted.
    RecipientOk = "250 2.1.5 Ok";
    /// Message accepted, and policy gave no text.
    MessageOk = "250 2.0.0 Ok: message accepted";
    /// A chunk of BDAT that is not the last.
    ChunkOk = "250 2.0.0 Ok: chunk received";
    /// VRFY: an answer that tells nothing.
    CannotVerify = "252 2.0.0 Cannot verify the user, but will try to deliver";
    /// DATA.
    DataStart = "354 End data with <CR><LF>.<CR><LF>";
    /// The server stops or reloads.
    Shutdown = "421 4.3.2 Service is shutting down, try again later";
    /// Too many connections.
    TooBusy = "421 4.3.2 Too many connections, try again later";
    /// The client was silent too long.
    Timeout = "421 4.4.2 Timeout, closing connection";
    /// Too many errors.
    TooManyErrors = "421 4.7.0 Too many errors, closing connection";
    /// More input than a well-behaved client can have sent.
    Flooded = "421 4.7.0 Too much input, closing connection";
    /// The client speaks HTTP or TLS.
    NotSmtp = "421 4.7.0 This is a mail server, closing connection";
    /// Nobody to ask at the greeting.
    NoService = "421 4.3.0 Service is not available, try again later";
    /// Nobody to ask: filter, queue or resolver is away.
    Unavailable = "451 4.3.0 Temporary failure, try again later";
    /// One recipient too many.
    TooManyRecipients = "452 4.5.3 Too many recipients";
    /// STARTTLS, and it does not work now.
    TlsUnavailable = "454 4.7.0 TLS is not available now";
    /// AUTH, and nobody could check.
    AuthUnavailable = "454 4.7.0 Temporary authentication failure";
    /// Not a command.
    UnknownCommand = "500 5.5.1 Command not recognized";
    /// A command line with a lone CR or LF.
    BareNewline = "500 5.5.2 Lines must end with <CR><LF>";
    /// A command line over the limit.
    LineTooLong = "500 5.5.2 Line too long";
    /// A line of an AUTH exchange over the limit.
    AuthLineTooLong = "500 5.5.6 Authentication exchange line is too long";
    /// Control characters, or not UTF-8.
    BadCharacters = "501 5.5.2 Command holds invalid characters";
    /// Arguments where there are none, or none where there must be.
    BadArguments = "501 5.5.4 Syntax error in arguments";
    /// HELO, EHLO, LHLO without a usable name.
    BadHelo = "501 5.5.4 Syntax error: a host name is required";
    /// No `FROM:<...>`.
    BadMailSyntax = "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]";
    /// No `TO:<...>`.
    BadRcptSyntax = "501 5.5.4 Syntax: RCPT TO:<address> [parameters]";
    /// BDAT with a size that is none: what follows cannot be told from commands.
    BadChunk = "501 5.5.4 Syntax: BDAT size [LAST]";
    /// XCLIENT or XFORWARD with an attribute that is none.
    BadXAttribute = "501 5.5.4 Bad attribute";
    /// A parameter with a wrong value, or twice.
    BadParameter = "501 5.5.4 Invalid parameter value";
    /// AUTH with what is not base64.
    BadBase64 = "501 5.5.2 Cannot decode the response";
    /// AUTH with what the mechanism cannot read.
    AuthMalformed = "501 5.5.2 Cannot understand the response";
    /// AUTH, and the client gave up.
    AuthCancelled = "501 5.7.0 Authentication cancelled";
    /// AUTH with an initial response where the server speaks first.
    MustNotStart = "501 5.7.0 Client must not start with this mechanism";
    /// Known and not offered.
    NotImplemented = "502 5.5.1 Command not implemented";
    /// MAIL before EHLO.
    HeloFirst = "503 5.5.1 Send EHLO or HELO first";
    /// MAIL before LHLO.
    LhloFirst = "503 5.5.1 Send LHLO first";
    /// Second MAIL.
    NestedMail = "503 5.5.1 Sender already given";
    /// RCPT before MAIL.
    MailFirst = "503 5.5.1 Send MAIL first";
    /// RCPT, MAIL or DATA between chunks.
    MessageBegun = "503 5.5.1 The message is on its way by BDAT";
    /// DATA for a message with BODY=BINARYMIME.
    BinaryNeedsBdat = "503 5.5.1 BODY=BINARYMIME needs BDAT";
    /// DATA before RCPT.
    RcptFirst = "503 5.5.1 Send RCPT first";
    /// STARTTLS or AUTH within a transaction.
    InTransaction = "503 5.5.1 Not while a message is on its way";
    /// STARTTLS under TLS.
    TlsActive = "503 5.5.1 TLS is active already";
    /// AUTH after AUTH.
    AuthDone = "503 5.5.1 Already authenticated";
    /// AUTH with a mechanism that is not offered.
    UnknownMechanism = "504 5.5.4 Authentication mechanism is not offered";
    /// MAIL before STARTTLS where that must come first.
    TlsRequired = "530 5.7.0 Must issue a STARTTLS command first";
    /// MAIL before AUTH where that must come first.
    AuthRequired = "530 5.7.0 Authentication required";
    /// AUTH failed.
    AuthFailed = "535 5.7.8 Authentication credentials invalid";
    /// AUTH with a mechanism that is offered under TLS only.
    MechanismNeedsTls = "538 5.7.11 Encryption required for requested authentication mechanism";
    /// The client sent something behind STARTTLS.
    InputBehindTls = "554 5.5.1 Protocol error: input behind STARTTLS";
    /// The greeting of a client that did not wait for it.
    EarlyTalker = "554 5.5.1 Protocol error: client spoke before the greeting";
    /// A client that was watched broke the rules.
    ProtocolFault = "554 5.5.1 Protocol error, closing connection";
    /// Lone CR or LF in a message.
    BareNewlineInMessage = "550 5.5.2 Message holds a bare <CR> or <LF>";
    /// XCLIENT or XFORWARD of a client that is not trusted with it.
    NotTrusted = "550 5.7.0 Not authorized";
    /// SIZE=, or the message itself.
    MessageTooBig = "552 5.3.4 Message is too big";
    /// Header over the limit.
    HeaderTooBig = "552 5.3.4 Message header is too big";
    /// Bad address in MAIL.
    BadSender = "553 5.1.7 Sender address is not valid";
    /// Bad address in RCPT.
    BadRecipient = "553 5.1.3 Recipient address is not valid";
    /// A non-ASCII address without SMTPUTF8.
    NeedsSmtpUtf8 = "553 5.6.7 Address needs SMTPUTF8";
    /// DATA when every RCPT was refused.
    NoValidRecipients = "554 5.5.1 No valid recipients";
    /// Received fields over the limit.
    TooManyHops = "554 5.4.6 Too many hops, this looks like a mail loop";
    /// A text line over the limit.
    TextLineTooLong = "554 5.6.0 Message holds a line that is too long";
    /// A parameter that EHLO did not offer.
    UnknownParameter = "555 5.5.4 Unsupported parameter";
    /// BY= with less time than EHLO has named, for a message that is to fail then (RFC 2852).
    TooSoon = "555 5.5.4 BY= asks for less time than it may";
}

/// The server's own replies, with what the operator changed.
#[derive(Debug, Clone, Default)]
pub struct Replies {
    changed: Vec<(Own, Reply)>,
    greeting: Option<Reply>,
    helo: Option<Reply>,
}

impl Replies {
    /// Replaces one reply.
    pub fn set(&mut self, own: Own, reply: Reply) {
        self.changed.retain(|(known, _)| *known != own);
        self.changed.push((own, reply));
    }

    /// Gives a reply another text, and another enhanced code if it has one; its code stays. What cannot be a reply changes nothing.
    pub fn say(&mut self, own: Own, enhanced: Option<EnhancedCode>, text: &str) {
        let Ok(before) = Reply::parse(own.wire()) else { return };
        let enhanced = before.enhanced().map(|before| enhanced.unwrap_or(before));
        if let Ok(reply) = Reply::new(before.code(), enhanced, text) {
            self.set(own, reply);
        }
    }

    /// The text of the greeting. It has to begin with the server's name (RFC 5321 4.2).
    pub fn greet(&mut self, text: &str) {
        self.greeting = Reply::new(220, None, text).ok();
    }

    /// The text of the answer to HELO; the same holds for it.
    pub fn answer_helo(&mut self, text: &str) {
        self.helo = Reply::new(250, None, text).ok();
    }

    fn is_changed(&self, own: Own) -> bool {
        self.changed.iter().any(|(known, _)| *known == own)
    }

    /// Appends the wire form of a reply.
    pub fn write(&self, own: Own, out: &mut Vec<u8>) {
        match self.changed.iter().find(|(known, _)| *known == own) {
            Some((_, reply)) => reply.write_to(out),
            None => out.extend_from_slice(own.wire().as_bytes()),
        }
    }
}

/// The greeting. RFC 2034 wants no enhanced code here.
pub(crate) fn write_greeting(settings: &Settings, out: &mut Vec<u8>) {
    if let Some(reply) = &settings.replies.greeting {
        return reply.write_to(out);
    }
    out.reserve(settings.name.as_str().len() + 16);
    out.extend_from_slice(b"220 ");
    out.extend_from_slice(settings.name.as_str().as_bytes());
    out.extend_from_slice(match settings.protocol {
        Protocol::Smtp => b" ESMTP\r\n",
        Protocol::Lmtp => b" LMTP\r\n",
    });
}

/// The reply to HELO.
pub(crate) fn write_helo(settings: &Settings, out: &mut Vec<u8>) {
    if let Some(reply) = &settings.replies.helo {
        return reply.write_to(out);
    }
    out.extend_from_slice(b"250 ");
    out.extend_from_slice(settings.name.as_str().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The answer to HELP: the commands of this listener, as far as this client has them: `offered` is what EHLO lists to it.
pub(crate) fn write_help(settings: &Settings, offered: Extensions, out: &mut Vec<u8>) {
    if settings.replies.is_changed(Own::Help) {
        return settings.replies.write(Own::Help, out);
    }
    let is_lmtp = settings.protocol == Protocol::Lmtp;
    let has = |extension| offered.has(extension);
    out.extend_from_slice(Own::Help.wire().trim_end().as_bytes());
    for (command, is_there) in [
        (" LHLO", is_lmtp),
        (" EHLO", settings.ehlo && !is_lmtp),
        (" HELO", !is_lmtp),
        (" MAIL RCPT DATA", true),
        (" BDAT", has(Extension::Chunking)),
        (" RSET NOOP", true),
        (" VRFY", settings.vrfy),
        (" STARTTLS", has(Extension::StartTls)),
        (" AUTH", has(Extension::Auth)),
        (" XCLIENT", has(Extension::XClient)),
        (" XFORWARD", has(Extension::XForward)),
        (" HELP QUIT", true),
    ] {
        if is_there {
            out.extend_from_slice(command.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The least time that BY= may give a message that is to fail then, in seconds (RFC 2852): with less it could fail before
/// its first attempt has ended.
pub(crate) const MIN_BY_S: i32 = 60;

/// The reply to EHLO and LHLO: `offered` is what the listener does now, `opened_s` the time of the connection.
pub(crate) fn write_ehlo(
    settings: &Settings,
    offered: Extensions,
    tls: Option<TlsFacts>,
    by_proxy: bool,
    opened_s: u64,
    out: &mut Vec<u8>,
) {
    // As much as most answers need, at once.
    out.reserve(256);
    let mut last = out.len();
    out.extend_from_slice(b"250-");
    out.extend_from_slice(settings.name.as_str().as_bytes());
    for extension in offered.iter() {
        out.extend_from_slice(b"\r\n");
        last = out.len();
        out.extend_from_slice(b"250-");
        out.extend_from_slice(extension.keyword().as_bytes());
        match extension {
            Extension::Size if settings.limits.body.size > 0 => {
                // Writing to a Vec cannot fail.
                let _ = write!(out, " {}", settings.limits.body.size);
            }
            Extension::FutureRelease => {
                let latest = Rfc5322Date(opened_s.saturating_add(MAX_WAIT_S.into())).rfc3339();
                let _ = write!(out, " {MAX_WAIT_S} {latest}");
            }
            Extension::DeliverBy => {
                let _ = write!(out, " {MIN_BY_S}");
            }
            Extension::Limits => {
                let _ = write!(out, " RCPTMAX={}", settings.limits.recipients);
            }
            Extension::XClient => {
                out.push(b' ');
                out.extend_from_slice(xclient::listed(by_proxy).as_bytes());
            }
            Extension::XForward => {
                out.push(b' ');
                out.extend_from_slice(xclient::XFORWARD.as_bytes());
            }
            Extension::Auth => settings.auth.offered(tls).for_each(|mechanism| {
                out.push(b' ');
                out.extend_from_slice(mechanism.name.as_bytes());
            }),
            _ => {}
        }
    }
    out.extend_from_slice(b"\r\n");
    if let Some(mark) = out.get_mut(last + 3) {
        *mark = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_is_well_formed_and_carries_its_class() {
        for own in Own::ALL {
            let reply = Reply::parse(own.wire()).unwrap_or_else(|e| panic!("{}: {e}", own.name()));
            assert_eq!(reply.enhanced().is_none(), reply.code() == 354, "{}", own.name());
            let mut out = Vec::new();
            if reply.enhanced().is_some() {
                reply.write_to(&mut out);
                assert_eq!(out, own.wire().as_bytes());
            }
            assert!(own.wire().len() <= 512);
        }
    }

    #[test]
    fn the_operator_may_replace_a_text() {
        let mut replies = Replies::default();
        replies.set(Own::Closing, Reply::parse("221 2.0.0 a\n221 b").unwrap());
        let mut out = Vec::new();
        replies.write(Own::Closing, &mut out);
        assert_eq!(out, b"221-2.0.0 a\r\n221 2.0.0 b\r\n");
        replies.say(Own::Closing, None, "gone\r\n");
        replies.say(Own::DataStart, None, "go on");
        replies.say(Own::NestedMail, Some(EnhancedCode(5, 5, 0)), "no");
        // Of another class than the code.
        replies.say(Own::MailFirst, Some(EnhancedCode(4, 5, 0)), "no");
        let mut out = Vec::new();
        for own in [Own::Closing, Own::DataStart, Own::NestedMail] {
            replies.write(own, &mut out);
        }
        assert_eq!(out, b"221 2.0.0 gone\r\n354 go on\r\n503 5.5.0 no\r\n");
        let mut out = Vec::new();
        replies.write(Own::MailFirst, &mut out);
        assert_eq!(out, Own::MailFirst.wire().as_bytes());
    }

    #[test]
    fn the_greeting_and_the_answer_to_helo_have_texts_too() {
        let mut settings = Settings::new(vsmtp_mail::Domain::parse("mx.test").unwrap());
        let mut out = Vec::new();
        write_greeting(&settings, &mut out);
        write_helo(&settings, &mut out);
        assert_eq!(out, b"220 mx.test ESMTP\r\n250 mx.test\r\n");
        settings.replies.greet("mx.test at your service\nplease be brief");
        settings.replies.answer_helo("mx.test welcome");
        let mut out = Vec::new();
        write_greeting(&settings, &mut out);
        write_helo(&settings, &mut out);
        assert_eq!(out, b"220-mx.test at your service\r\n220 please be brief\r\n250 mx.test welcome\r\n");
    }
}
