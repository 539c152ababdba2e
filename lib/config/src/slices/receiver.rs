//! What a receiver is told.

use std::net::SocketAddr;
use std::time::Duration;

use bincode::{Decode, Encode};
use vsmtp_mail::{Domain, EnhancedCode, Reply};

use crate::by_text::ByText;
use crate::certificate::CertificatePattern;
use crate::config::Config;
use crate::kind::{OwnEsmtp, reply_code};
use crate::network::Network;

/// What the operator has changed of one of the server's own replies. Its code stays.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OwnReply {
    /// Its name in `server.smtp.codes`.
    pub name: String,
    /// Another enhanced code, as class, subject and detail.
    pub enhanced: Option<(u8, u16, u16)>,
    /// The text, with line breaks between lines and nothing left to fill in.
    pub text: String,
}

impl OwnReply {
    /// The enhanced code, if there is another.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced.map(|(class, subject, detail)| EnhancedCode(class, subject, detail))
    }
}

/// What a receiver is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReceiverSlice {
    /// Name in the greeting and in Received headers.
    pub server_name: ByText<Domain>,
    /// Largest message, in octets; announced as SIZE.
    pub message_size_limit: u64,
    /// Look up the names of clients.
    pub client_names: bool,
    /// Most clients at once in this process (its share of the whole); `None` for no limit.
    pub client_count_max: Option<u32>,
    /// Clients without limits and tests.
    pub exempt: Vec<ByText<Network>>,
    /// Most recipients of one message.
    pub rcpt_count_max: u32,
    /// Errors after which replies are delayed; `None` for never.
    pub error_soft_count: Option<u32>,
    /// Errors after which the session ends; `None` for never.
    pub error_hard_count: Option<u32>,
    /// Delay of each reply after `error_soft_count` errors.
    pub error_delay: Duration,
    /// Longest waits for the client.
    pub timeouts: ClientTimeouts,
    /// Longest session.
    pub session_timeout: Duration,
    /// What happens to a CR or LF that stands alone.
    pub bare_newline: BareNewline,
    /// Longest line of message data, in octets without its CRLF.
    pub line_length_max: u64,
    /// Largest header, in octets.
    pub header_size_limit: u64,
    /// Most Received headers.
    pub hop_count_max: u32,
    /// Announce PIPELINING.
    pub pipelining: bool,
    /// Announce 8BITMIME.
    pub eightbitmime: bool,
    /// Announce CHUNKING, and BINARYMIME if 8BITMIME is announced.
    pub chunking: bool,
    /// Announce DSN.
    pub dsn: bool,
    /// Announce SMTPUTF8.
    pub smtputf8: bool,
    /// Names of the mechanisms that clients may use, best first; none where there is no AUTH.
    pub auth_mechanisms: Vec<String>,
    /// Certificates of clients, and their logins; ask [`crate::CertificateLogins`].
    pub certificates: Vec<(ByText<CertificatePattern>, String)>,
    /// Mechanisms that show the password are allowed in clear.
    pub auth_in_clear: bool,
    /// Clients of the SMTP service must authenticate too.
    pub auth_required: bool,
    /// Failures that end a session; `None` for any number.
    pub auth_attempts: Option<u32>,
    /// TLS; `None` if there is no certificate.
    pub tls: Option<ServerTls>,
    /// Keywords that are not announced whatever else is said.
    pub discard: Vec<String>,
    /// Addresses where some of this is otherwise.
    pub listeners: Vec<ListenerEsmtp>,
    /// Clients may call their messages more urgent than others.
    pub priority_raise: bool,
    /// Answer EHLO from the network.
    pub ehlo: bool,
    /// Answer VRFY.
    pub vrfy: bool,
    /// Addresses among the listeners where each connection begins with a PROXY header.
    pub proxied: Vec<SocketAddr>,
    /// Who may write that header.
    pub proxies: Vec<ByText<Network>>,
    /// Who may use XCLIENT.
    pub xclient_from: Vec<ByText<Network>>,
    /// Who of these may also state a login by it.
    pub login_from: Vec<ByText<Network>>,
    /// Who may use XFORWARD.
    pub xforward_from: Vec<ByText<Network>>,
    /// The server's own replies where the operator wants others.
    pub replies: Vec<OwnReply>,
}

/// ESMTP at one address that is listened on: what is as everywhere stands here too.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ListenerEsmtp {
    /// The address, as it was bound.
    pub address: SocketAddr,
    /// AUTH is offered, if it is anywhere.
    pub auth: bool,
    /// Keywords that EHLO does not list.
    pub discard: Vec<String>,
}

/// Longest waits for a client, by what it sent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ClientTimeouts {
    /// For the first command.
    pub connect: Duration,
    /// For the next command after HELO or EHLO, and whenever no transaction is open.
    pub helo: Duration,
    /// For the next command after MAIL.
    pub mail_from: Duration,
    /// For the next command after RCPT.
    pub rcpt_to: Duration,
    /// For the next piece of message data.
    pub data: Duration,
}

/// What happens to a CR or LF that stands alone in message data. Neither ever ends the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum BareNewline {
    /// The message is refused.
    Refuse,
    /// It becomes CRLF.
    Normalise,
}

impl BareNewline {
    pub(crate) const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", BareNewline::Refuse), ("normalise", BareNewline::Normalise)];
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ServerTls {
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// Cipher suites by their numbers in the TLS registry, the preferred one first.
    pub suites: Vec<u16>,
    /// Our order of suites counts, not the client's.
    pub own_order: bool,
    /// Longest handshake.
    pub handshake_timeout: Duration,
    /// What clients of the SMTP service must do.
    pub security_level: SecurityLevel,
    /// What clients must show.
    pub client_certificate: ClientCertificate,
    /// Addresses where some of this is otherwise.
    pub listeners: Vec<ListenerTls>,
}

/// TLS at one address that is listened on, whole: what is as everywhere stands here too.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ListenerTls {
    /// The address, as it was bound.
    pub address: SocketAddr,
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// Cipher suites as in [`ServerTls`].
    pub suites: Vec<u16>,
    /// Our order of suites counts, not the client's.
    pub own_order: bool,
    /// What clients of the SMTP service must do.
    pub security_level: SecurityLevel,
    /// What clients must show.
    pub client_certificate: ClientCertificate,
}

/// Whether clients must use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SecurityLevel {
    /// They may.
    May,
    /// They must before they send mail.
    Encrypt,
}

impl SecurityLevel {
    pub(crate) const WORDS: &'static [(&'static str, Self)] =
        &[("may", SecurityLevel::May), ("encrypt", SecurityLevel::Encrypt)];
}

/// What clients must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ClientCertificate {
    /// Nothing.
    None,
    /// They are asked, and may show any or none.
    Ask,
    /// One that leads to a trusted authority.
    Require,
}

impl ClientCertificate {
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[
        ("none", ClientCertificate::None),
        ("ask", ClientCertificate::Ask),
        ("require", ClientCertificate::Require),
    ];
}

impl Config {
    /// What each receiver is told.
    pub fn receiver(&self) -> ReceiverSlice {
        let (server, smtp) = (&self.server, &self.smtp);
        let by_text = |networks: &[Network]| networks.iter().copied().map(ByText::from).collect();
        ReceiverSlice {
            server_name: server.name.clone().into(),
            message_size_limit: server.message_size_limit,
            client_count_max: server.client_count_max.map(|all| all.div_ceil(self.receivers())),
            client_names: server.client_names,
            exempt: self.limits.exempt.iter().copied().map(ByText::from).collect(),
            rcpt_count_max: smtp.rcpt_count_max,
            error_soft_count: smtp.error_soft,
            error_hard_count: smtp.error_hard,
            error_delay: smtp.error_delay,
            timeouts: ClientTimeouts {
                connect: smtp.timeout_connect,
                helo: smtp.timeout_helo,
                mail_from: smtp.timeout_mail,
                rcpt_to: smtp.timeout_rcpt,
                data: smtp.timeout_data,
            },
            session_timeout: smtp.session_timeout,
            bare_newline: smtp.bare_newline,
            line_length_max: smtp.line_length_max,
            header_size_limit: smtp.header_size_limit,
            hop_count_max: smtp.hop_count_max,
            pipelining: smtp.pipelining,
            eightbitmime: smtp.eightbitmime,
            chunking: smtp.chunking,
            dsn: smtp.dsn,
            smtputf8: smtp.smtputf8,
            auth_mechanisms: self.auth_mechanisms(),
            certificates: self.certificates(),
            auth_in_clear: self.auth.in_clear,
            auth_required: self.auth.required,
            auth_attempts: self.auth.attempts,
            tls: (!self.keys().pairs.is_empty()).then(|| self.server_tls()),
            discard: words(&smtp.discard),
            listeners: smtp
                .listeners
                .iter()
                .map(|(address, own)| self.listener_esmtp(*address, own))
                .collect(),
            priority_raise: smtp.priority_raise,
            ehlo: !smtp.disable_ehlo,
            vrfy: smtp.vrfy,
            proxied: server.proxied.clone(),
            proxies: by_text(&server.proxies),
            xclient_from: by_text(&smtp.xclient_from),
            login_from: by_text(&self.auth.proxies),
            xforward_from: by_text(&smtp.xforward_from),
            replies: self.replies(),
        }
    }

    fn listener_esmtp(&self, address: SocketAddr, own: &OwnEsmtp) -> ListenerEsmtp {
        let discard = own.discard.as_ref().unwrap_or(&self.smtp.discard);
        ListenerEsmtp { address, auth: own.auth.unwrap_or(true), discard: words(discard) }
    }

    /// Own replies, with the server's name where `{name}` and `{domain}` stand for it.
    pub(super) fn replies(&self) -> Vec<OwnReply> {
        let server = self.server.name.to_string();
        let own = |(name, reply): &(&'static str, Reply)| {
            let text = reply.lines().collect::<Vec<_>>().join("\n");
            // That of another code means something else.
            let enhanced = reply.enhanced().filter(|_| reply_code(name) == Some(reply.code()));
            OwnReply {
                name: (*name).to_owned(),
                enhanced: enhanced.map(|EnhancedCode(class, subject, detail)| (class, subject, detail)),
                text: text.replace("{name}", &server).replace("{domain}", &server),
            }
        };
        self.smtp.replies.iter().map(own).collect()
    }

    fn server_tls(&self) -> ServerTls {
        let tls = &self.tls;
        ServerTls {
            tls12: tls.versions.tls12,
            tls13: tls.versions.tls13,
            suites: tls.suites.clone(),
            own_order: tls.own_order,
            handshake_timeout: tls.handshake_timeout,
            security_level: tls.security_level,
            client_certificate: tls.client_certificate,
            listeners: self.listener_tls().collect(),
        }
    }

    /// TLS at each address that has some of its own.
    pub(crate) fn listener_tls(&self) -> impl Iterator<Item = ListenerTls> + '_ {
        let tls = &self.tls;
        tls.listeners.iter().map(|(address, own)| {
            let versions = own.versions.unwrap_or(tls.versions);
            ListenerTls {
                address: *address,
                tls12: versions.tls12,
                tls13: versions.tls13,
                suites: own.suites.clone().unwrap_or_else(|| tls.suites.clone()),
                own_order: own.own_order.unwrap_or(tls.own_order),
                security_level: own.security_level.unwrap_or(tls.security_level),
                client_certificate: own.client_certificate.unwrap_or(tls.client_certificate),
            }
        })
    }
}

fn words(keywords: &[&str]) -> Vec<String> {
    keywords.iter().map(|word| (*word).to_owned()).collect()
}
