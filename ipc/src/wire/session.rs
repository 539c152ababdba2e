//! The session that a message comes from: what the client came for, where it is, and what TLS has shown of it.

use bincode::{Decode, Encode};
use vsmtp_mail as mail;

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Service {
    /// Mail from other servers.
    Smtp,
    /// Mail of our own users.
    Submission,
    /// The same under TLS from the first octet.
    Submissions,
    /// Mail for delivery by LMTP.
    Lmtp,
    /// The local socket.
    Local,
}

impl From<mail::Service> for Service {
    fn from(service: mail::Service) -> Self {
        match service {
            mail::Service::Smtp => Service::Smtp,
            mail::Service::Submission => Service::Submission,
            mail::Service::Submissions => Service::Submissions,
            mail::Service::Lmtp => Service::Lmtp,
            mail::Service::Local => Service::Local,
        }
    }
}

impl From<Service> for mail::Service {
    fn from(service: Service) -> Self {
        match service {
            Service::Smtp => mail::Service::Smtp,
            Service::Submission => mail::Service::Submission,
            Service::Submissions => mail::Service::Submissions,
            Service::Lmtp => mail::Service::Lmtp,
            Service::Local => mail::Service::Local,
        }
    }
}

/// Where a message came from: for logs, policy and reports. All texts are escaped before they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Origin {
    /// Session id, as in the receiver's log lines.
    pub session: u64,
    /// Client address, empty for a local submission.
    pub client: String,
    /// HELO name.
    pub helo: String,
    /// ESMTP, SMTP, LMTP, or `local`.
    pub protocol: String,
    /// Numeric user id of a local submitter.
    pub uid: Option<u32>,
    /// What the client came for; unknown for our own reports and for what older releases stored.
    pub service: Option<Service>,
}

/// What a TLS handshake has agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// Our name as the client asked for it.
    pub sni: Option<String>,
    /// The client's certificate, if it showed one.
    pub client: Option<ClientCertificate>,
}

/// A certificate of a client that has proved to hold its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ClientCertificate {
    /// SHA-256 of its DER form.
    pub fingerprint: [u8; 32],
    /// It leads to an authority that configuration trusts.
    pub is_verified: bool,
}
