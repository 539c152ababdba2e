//! The server's side of the SASL mechanisms (RFC 4422) that this helper leads itself. Pure: messages come in, messages and
//! questions go out. A client can make an exchange fail and nothing else.

pub mod bearer;
mod external;
mod login;
mod plain;
mod scram;

use crate::secret::{Bearer, Credentials};

pub use scram::{MIN_ITERATIONS, ScramSecret, decoy};

use bearer::Form;
use login::Login;
use scram::Scram;

/// A mechanism that we know, whoever leads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Two prompts; never a standard, and used everywhere.
    Login,
    /// RFC 7677.
    ScramSha256,
    /// The same, bound to the TLS session (RFC 5802 6, RFC 9266).
    ScramSha256Plus,
    /// A bearer token, as some large providers want it.
    XOauth2,
    /// The same by the standard (RFC 7628).
    OauthBearer,
    /// The client's TLS certificate (RFC 4422 appendix A).
    External,
    /// No mechanism of ours: the client has authenticated to a proxy, which says so by XCLIENT. Never offered.
    XClient,
}

impl Mechanism {
    /// All that clients can use, best first: the order in which they are offered.
    pub const ALL: [Mechanism; 7] = [
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha256,
        Mechanism::Plain,
        Mechanism::Login,
        Mechanism::XOauth2,
        Mechanism::OauthBearer,
        Mechanism::External,
    ];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::XOauth2 => "XOAUTH2",
            Mechanism::OauthBearer => "OAUTHBEARER",
            Mechanism::External => "EXTERNAL",
            Mechanism::XClient => "XCLIENT",
        }
    }

    /// The mechanism of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// How its message has a token in it, if it has one.
    pub fn form(self) -> Option<Form> {
        match self {
            Mechanism::XOauth2 => Some(Form::XOauth2),
            Mechanism::OauthBearer => Some(Form::OauthBearer),
            _ => None,
        }
    }

    /// True if whoever listens learns the secret.
    pub fn shows_secret(self) -> bool {
        matches!(self, Mechanism::Plain | Mechanism::Login | Mechanism::XOauth2 | Mechanism::OauthBearer)
    }
}

/// What a mechanism may ask while it is led.
pub struct Surroundings<'a> {
    /// The SCRAM secret of a user, or one that nobody has and that looks the same.
    pub secret: &'a dyn Fn(&str) -> ScramSecret,
    /// Our half of a nonce: printable ASCII without commas.
    pub nonce: &'a str,
    /// The `tls-exporter` channel binding, if the TLS session has one.
    pub exporter: Option<&'a [u8]>,
    /// SCRAM-SHA-256-PLUS was offered, so a client that could use it and believes that it was not has been lied to.
    pub plus_offered: bool,
    /// Whose the client's certificate is.
    pub certificate: Option<&'a str>,
}

/// An exchange that waits for the client's next message.
#[derive(Debug)]
pub enum Talk {
    /// For the one message of PLAIN.
    Plain,
    /// For a name or a password.
    Login(Login),
    /// For a message of SCRAM.
    Scram(Box<Scram>),
    /// For the one message of EXTERNAL.
    External,
    /// For the one message with a token.
    Bearer(Form),
}

/// What comes of a message.
#[derive(Debug)]
pub enum Step {
    /// Send this and wait for the answer.
    Challenge(Talk, Vec<u8>),
    /// Have this password checked.
    Check(Credentials),
    /// Have this token judged.
    Bearer(Bearer),
    /// It is this user.
    Granted(String),
    /// It is not; for a user that the client named.
    Wrong(Option<String>),
    /// The message is not what the mechanism says.
    Malformed,
}

/// Begins an exchange; `None` for a mechanism in which there is none.
pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>, surroundings: &Surroundings<'_>) -> Option<Step> {
    let talk = match mechanism {
        Mechanism::Plain => Talk::Plain,
        Mechanism::Login => {
            return Some(match initial {
                None => login::start(),
                Some(name) => Login::Name.step(name),
            });
        }
        Mechanism::ScramSha256 => Talk::Scram(Box::new(Scram::First { plus: false })),
        Mechanism::ScramSha256Plus => Talk::Scram(Box::new(Scram::First { plus: true })),
        Mechanism::External => Talk::External,
        Mechanism::XOauth2 | Mechanism::OauthBearer => Talk::Bearer(mechanism.form()?),
        Mechanism::XClient => return None,
    };
    Some(match initial {
        // The client speaks first in all of them; it is asked to by an empty challenge (RFC 4954 4).
        None => Step::Challenge(talk, Vec::new()),
        Some(message) => talk.step(message, surroundings),
    })
}

impl Talk {
    /// Takes the client's message.
    pub fn step(self, message: &[u8], surroundings: &Surroundings<'_>) -> Step {
        match self {
            Talk::Plain => plain::read(message),
            Talk::Login(login) => login.step(message),
            Talk::Scram(scram) => scram.step(message, surroundings),
            Talk::Bearer(form) => bearer::read(form, message),
            Talk::External => external::read(message, surroundings.certificate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::parse(&mechanism.name().to_lowercase()), Some(mechanism));
        }
        assert_eq!(Mechanism::parse("CRAM-MD5"), None);
        // A client cannot be its own proxy.
        assert_eq!(Mechanism::parse("XCLIENT"), None);
    }
}
