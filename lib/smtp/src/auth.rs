//! The frame of AUTH (RFC 4954): mechanisms and when they may be used, base64, and the words of an exchange. What is in
//! the words, and whether a password is right, is the caller's to know.

use data_encoding::BASE64;
use vsmtp_mail::Reply;

use crate::command::SyntaxFault;
use crate::reply::Own;
use crate::secret::Secret;

/// Longest line of an exchange with its CRLF, in octets (RFC 4954 4).
pub const AUTH_LINE_LIMIT: usize = 12_288;
/// Longest name of a mechanism, in octets (RFC 4422 3.1).
const MAX_MECHANISM: usize = 20;

/// What an operator decides about AUTH on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// What is offered, best first; with none, AUTH does not exist.
    pub mechanisms: Vec<Mechanism>,
    /// MAIL and VRFY only after AUTH.
    pub required: bool,
    /// Failed attempts in one session that end it with 421.
    pub failures: u32,
}

impl Default for AuthSettings {
    fn default() -> Self {
        AuthSettings { mechanisms: Vec::new(), required: false, failures: 5 }
    }
}

/// A SASL mechanism that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mechanism {
    /// Its name, in upper case.
    pub name: Box<str>,
    /// It may be used without TLS.
    pub in_clear: bool,
    /// What else it takes.
    pub needs: Needs,
    /// The server speaks first, so the client must not send an initial response.
    pub server_first: bool,
}

/// What a mechanism takes besides TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Needs {
    /// Nothing.
    #[default]
    Nothing,
    /// A TLS connection to which it can be bound (`-PLUS`).
    ChannelBinding,
    /// A TLS client certificate that was verified (EXTERNAL).
    ClientCertificate,
}

/// What of a TLS connection matters to the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// A mechanism can be bound to it.
    pub channel_binding: bool,
    /// The client has shown a certificate, and it was verified.
    pub client_certificate: bool,
}

/// AUTH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// The mechanism by the name under which it is offered.
    pub mechanism: Box<str>,
    /// The initial response, decoded. An empty one (`=`) is not the same as none.
    pub initial: Option<Secret>,
}

/// What the caller says to the client's latest words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthVerdict {
    /// The exchange goes on with these octets; 334.
    Challenge(Vec<u8>),
    /// The client is not who it says, and is told so by these octets; 334. Counted against it when it has answered, whatever
    /// it answers.
    Refused(Vec<u8>),
    /// The client is who it says; 235.
    Success,
    /// It is not; 535. Counted against it.
    Failure,
    /// Its words make no sense in this mechanism; 501. Counted against it.
    Malformed,
    /// There was nobody to ask; 454. Not counted against it.
    Temporary,
    /// No, with this 4xx or 5xx reply. Counted against it, unless it is about us: 4xx 4.3.x.
    Refuse(Reply),
    /// The same, and the session ends.
    Close(Reply),
}

impl Mechanism {
    /// A mechanism that may be used under TLS only and needs nothing else.
    pub fn new(name: &str) -> Self {
        Mechanism { name: name.into(), in_clear: false, needs: Needs::Nothing, server_first: false }
    }

    /// True if it may be used on a connection of this kind.
    pub(crate) fn fits(&self, tls: Option<TlsFacts>) -> bool {
        match (self.needs, tls) {
            (Needs::Nothing, None) => self.in_clear,
            (Needs::Nothing, Some(_)) => true,
            (Needs::ChannelBinding, tls) => tls.is_some_and(|tls| tls.channel_binding),
            (Needs::ClientCertificate, tls) => tls.is_some_and(|tls| tls.client_certificate),
        }
    }
}

impl AuthSettings {
    /// What is offered on a connection of this kind.
    pub(crate) fn offered(&self, tls: Option<TlsFacts>) -> impl Iterator<Item = &Mechanism> {
        self.mechanisms.iter().filter(move |mechanism| mechanism.fits(tls))
    }

    /// Parses what follows `AUTH `, and finds the mechanism.
    pub(crate) fn request(&self, arguments: &str, tls: Option<TlsFacts>) -> Result<AuthRequest, SyntaxFault> {
        let mut words = arguments.split(' ').filter(|word| !word.is_empty());
        let (name, initial) = (words.next().ok_or(Own::BadArguments)?, words.next());
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if words.next().is_some() || name.len() > MAX_MECHANISM || !name.bytes().all(allowed) {
            return Err(Own::BadArguments);
        }
        let known = self.mechanisms.iter().find(|known| known.name.eq_ignore_ascii_case(name));
        let known = known.ok_or(Own::UnknownMechanism)?;
        if !known.fits(tls) {
            return Err(if tls.is_none() { Own::MechanismNeedsTls } else { Own::UnknownMechanism });
        }
        let initial = match initial {
            Some(_) if known.server_first => return Err(Own::MustNotStart),
            Some("=") => Some(Secret::default()),
            Some(text) => Some(decode(text.as_bytes())?),
            None => None,
        };
        Ok(AuthRequest { mechanism: known.name.clone(), initial })
    }
}

/// Decodes one word: whole quanta with their padding, and nothing behind it (RFC 4954 4).
pub(crate) fn decode(text: &[u8]) -> Result<Secret, SyntaxFault> {
    // The decoder takes words that were padded and put together; here a pad ends the word.
    let data = text.strip_suffix(b"=").map_or(text, |text| text.strip_suffix(b"=").unwrap_or(text));
    if data.contains(&b'=') {
        return Err(Own::BadBase64);
    }
    BASE64.decode(text).map(Secret::new).map_err(|_| Own::BadBase64)
}

/// Writes a challenge.
pub(crate) fn write_challenge(octets: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"334 ");
    out.extend_from_slice(BASE64.encode(octets).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AuthSettings {
        let plus = Mechanism { needs: Needs::ChannelBinding, ..Mechanism::new("SCRAM-SHA-256-PLUS") };
        let external = Mechanism { needs: Needs::ClientCertificate, ..Mechanism::new("EXTERNAL") };
        let scram = Mechanism { in_clear: true, ..Mechanism::new("SCRAM-SHA-256") };
        let login = Mechanism { server_first: true, ..Mechanism::new("LOGIN") };
        let mechanisms = vec![plus, external, scram, login, Mechanism::new("PLAIN")];
        AuthSettings { mechanisms, ..AuthSettings::default() }
    }

    #[test]
    fn what_is_offered_depends_on_the_connection() {
        let names = |tls| settings().offered(tls).map(|m| m.name.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(None), "SCRAM-SHA-256");
        assert_eq!(names(Some(TlsFacts::default())), "SCRAM-SHA-256 LOGIN PLAIN");
        let all = TlsFacts { channel_binding: true, client_certificate: true };
        assert_eq!(names(Some(all)), "SCRAM-SHA-256-PLUS EXTERNAL SCRAM-SHA-256 LOGIN PLAIN");
    }

    #[test]
    fn requests() {
        let tls = Some(TlsFacts::default());
        let request = settings().request("plain AGEAYg==", tls).unwrap();
        assert_eq!((&*request.mechanism, request.initial.unwrap().expose()), ("PLAIN", &b"\0a\0b"[..]));
        assert_eq!(settings().request("PLAIN  =", tls).unwrap().initial, Some(Secret::default()));
        assert_eq!(settings().request("LOGIN", tls).unwrap().initial, None);
        for (arguments, tls, fault) in [
            ("", tls, Own::BadArguments),
            ("PLAIN a= b", tls, Own::BadArguments),
            ("PLAIN; AGEAYg==", tls, Own::BadArguments),
            ("AAAAAAAAAAAAAAAAAAAAA", tls, Own::BadArguments),
            ("CRAM-MD5", tls, Own::UnknownMechanism),
            ("PLAIN AGEAYg==", None, Own::MechanismNeedsTls),
            ("EXTERNAL =", None, Own::MechanismNeedsTls),
            ("EXTERNAL =", tls, Own::UnknownMechanism),
            ("LOGIN dXNlcg==", tls, Own::MustNotStart),
            ("PLAIN AGEAYg=", tls, Own::BadBase64),
            ("PLAIN AGEAYg", tls, Own::BadBase64),
            ("PLAIN AGEAYg==AAAA", tls, Own::BadBase64),
            ("PLAIN AGEAYh==", tls, Own::BadBase64),
            ("PLAIN AGEA*g==", tls, Own::BadBase64),
        ] {
            assert_eq!(settings().request(arguments, tls), Err(fault), "{arguments}");
        }
    }
}
