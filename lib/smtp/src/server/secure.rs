//! STARTTLS (RFC 3207) and AUTH (RFC 4954): the order in which they may come, and what a client that breaks it hears.
//! Whatever was said in clear text is forgotten when TLS begins, and what was sent ahead of it is never read.

use super::answer::Said;
use super::dialogue::Handled;
use super::state::{Input, Open, Phase};
use super::{NoQuestion, Question, Session, Step, Verdict};
use crate::auth::{self, AUTH_LINE_LIMIT, AuthVerdict, TlsFacts};
use crate::extension::{Extension, Extensions};
use crate::line::{self, Line};
use crate::reply::Own;

impl Session {
    /// The handshake is done: after `Step::StartTls`, or before the first step where TLS begins the connection. What the
    /// client said before is forgotten.
    pub fn tls_started(&mut self, facts: TlsFacts) {
        match self.phase {
            Phase::Handshake => {
                self.phase = Phase::Greeted;
                self.input = Input::default();
                self.authenticated = false;
            }
            Phase::Start => {}
            _ => return,
        }
        self.tls = Some(facts);
    }

    /// True if the session is under TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// True if the client has said who it is, and was believed.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Answers the open question of an AUTH exchange.
    ///
    /// # Errors
    /// None is open.
    pub fn answer_auth(&mut self, verdict: AuthVerdict) -> Result<(), NoQuestion> {
        match self.open {
            Some(Open::Auth) => {
                self.open = None;
                self.auth_answered(verdict);
                Ok(())
            }
            _ => Err(NoQuestion),
        }
    }

    /// What is true of this listener now, for EHLO.
    pub(super) fn offered(&self) -> Extensions {
        let mut offered = self.settings.extensions.without(Extension::Auth);
        if self.is_secured() || !self.tls_there {
            offered = offered.without(Extension::StartTls);
        }
        if !self.is_secured() {
            offered = offered.without(Extension::RequireTls);
        }
        // Where TLS must come first, so must it before a login, whatever a mechanism shows.
        let may_log_in = !self.authenticated
            && (self.is_secured() || !self.tls_required)
            && self.settings.auth.offered(self.tls).next().is_some();
        // Not everybody may say what goes first (RFC 6710), keep messages here (RFC 4865), or have us watch a time (RFC 2852). Where
        // a client must authenticate these are listed to those who can do so now: they may be used as soon as MAIL may, and few
        // clients say EHLO once more after AUTH.
        if self.settings.auth.required && !self.authenticated && !may_log_in {
            for extension in [Extension::MtPriority, Extension::FutureRelease, Extension::DeliverBy] {
                offered = offered.without(extension);
            }
        }
        if may_log_in {
            offered = offered.with(Extension::Auth);
        }
        for (extension, granted) in
            [(Extension::XClient, self.privileges.xclient), (Extension::XForward, self.privileges.xforward)]
        {
            offered = if granted { offered.with(extension) } else { offered.without(extension) };
        }
        offered
    }

    /// Whose parameters MAIL and RCPT may have. A client that has authenticated still knows of AUTH.
    pub(super) fn parameters(&self) -> Extensions {
        if self.authenticated { self.offered().with(Extension::Auth) } else { self.offered() }
    }

    /// What a client hears that must begin TLS and has not. Where it cannot now, that is no reason to give up its mail.
    fn tls_first(&self) -> Option<Own> {
        let is_missing = self.tls_required && !self.is_secured();
        is_missing.then_some(match self.tls_there && !self.tls_put_off {
            true => Own::TlsRequired,
            false => Own::TlsUnavailable,
        })
    }

    /// Says what must come first. That TLS is not there is not the client's error.
    pub(super) fn turned_back(&mut self, first: Own) -> Handled {
        if first == Own::TlsUnavailable { self.junk(first) } else { self.failed(first) }
    }

    /// What must come before MAIL and VRFY, if it has not.
    pub(super) fn gate(&self) -> Option<Own> {
        if let Some(first) = self.tls_first() {
            Some(first)
        } else if self.settings.auth.required && !self.authenticated {
            Some(Own::AuthRequired)
        } else {
            None
        }
    }

    /// STARTTLS. Nothing may have been sent behind it: it would be read as if it had come under TLS.
    pub(super) fn starttls(&mut self, arguments: &str, behind: &[u8]) -> Handled {
        if !self.settings.extensions.has(Extension::StartTls) {
            return self.failed(Own::NotImplemented);
        }
        match self.phase {
            _ if self.is_secured() => self.failed(Own::TlsActive),
            Phase::Mail(_) | Phase::Body(_) => self.failed(Own::InTransaction),
            _ if !arguments.is_empty() => self.failed(Own::BadArguments),
            _ if !behind.is_empty() => {
                self.close(Own::InputBehindTls);
                Handled::Done
            }
            _ => self.asked(Open::StartTls, Question::StartTls),
        }
    }

    pub(super) fn tls_allowed(&mut self, verdict: Verdict) {
        self.tls_put_off = match &verdict {
            Verdict::Unavailable => true,
            Verdict::Refuse(reply) => reply.is_transient(),
            Verdict::Accept | Verdict::AcceptWith(_) | Verdict::Close(_) => false,
        };
        match verdict {
            _ if !self.input.pending.is_empty() => self.close(Own::InputBehindTls),
            Verdict::Unavailable => self.say(Own::TlsUnavailable),
            other => {
                if self.verdict(other, Own::StartTls) {
                    self.phase = Phase::Handshake;
                }
            }
        }
    }

    /// What the caller is to do while the handshake has not come. Clear text now can only be an intruder's.
    pub(super) fn handshake(&mut self, input: &[u8]) -> Step {
        if input.is_empty() {
            return Step::StartTls;
        }
        self.close(Own::InputBehindTls);
        Step::Close
    }

    /// AUTH.
    pub(super) fn auth(&mut self, arguments: &str) -> Handled {
        if self.settings.auth.mechanisms.is_empty() {
            return self.failed(Own::NotImplemented);
        }
        match self.phase {
            Phase::Mail(_) | Phase::Body(_) => return self.failed(Own::InTransaction),
            Phase::Ready if self.authenticated => return self.failed(Own::AuthDone),
            Phase::Ready => {}
            _ => return self.failed(self.hello_first()),
        }
        if let Some(first) = self.tls_first() {
            return self.turned_back(first);
        }
        match self.settings.auth.request(arguments, self.tls) {
            Ok(request) => self.asked(Open::Auth, Question::Auth(request)),
            Err(fault) => self.failed(fault),
        }
    }

    /// The most octets of the line that begins here.
    pub(super) fn line_limit(&self, rest: &[u8]) -> usize {
        let auth = rest.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH "));
        if auth && !self.settings.auth.mechanisms.is_empty() {
            AUTH_LINE_LIMIT
        } else {
            line::PATH_LINE_LIMIT
        }
    }

    /// A line of an exchange.
    pub(super) fn sasl_line(&mut self, rest: &[u8]) -> (usize, Option<Step>) {
        match line::split(rest, AUTH_LINE_LIMIT, self.settings.bare_newline) {
            Line::Partial => (0, Some(Step::NeedInput)),
            Line::Bare { used } => (used, Some(self.exchange_broken(Own::BareNewline))),
            Line::TooLong { used } => (used, Some(self.exchange_broken(Own::AuthLineTooLong))),
            Line::Complete { text: b"*", used } => (used, Some(self.exchange_ended(Own::AuthCancelled))),
            Line::Complete { text, used } => match auth::decode(text) {
                Ok(response) => {
                    self.open = Some(Open::Auth);
                    (used, Some(Step::Ask(Question::AuthContinue(response))))
                }
                Err(fault) => (used, Some(self.exchange_ended(fault))),
            },
        }
    }

    fn exchange_broken(&mut self, fault: Own) -> Step {
        self.input.skipping = Some(0);
        self.exchange_ended(fault)
    }

    fn exchange_ended(&mut self, fault: Own) -> Step {
        self.phase = Phase::Ready;
        self.fail(fault);
        if std::mem::take(&mut self.auth_refused) {
            self.count_auth_failure();
        }
        Step::AuthCancelled
    }

    pub(super) fn auth_answered(&mut self, verdict: AuthVerdict) {
        self.phase = Phase::Ready;
        self.auth_refused = matches!(verdict, AuthVerdict::Refused(_));
        match verdict {
            AuthVerdict::Challenge(octets) | AuthVerdict::Refused(octets) => {
                auth::write_challenge(&octets, &mut self.output);
                self.phase = Phase::Auth;
            }
            AuthVerdict::Success => {
                self.authenticated = true;
                self.say(Own::AuthOk);
            }
            AuthVerdict::Temporary => self.say(Own::AuthUnavailable),
            AuthVerdict::Failure => {
                self.fail(Own::AuthFailed);
                self.count_auth_failure();
            }
            AuthVerdict::Malformed => {
                self.fail(Own::AuthMalformed);
                self.count_auth_failure();
            }
            AuthVerdict::Refuse(reply) => {
                if self.say_verdict(Verdict::Refuse(reply), Own::AuthOk) == Said::No {
                    self.count_auth_failure();
                }
            }
            AuthVerdict::Close(reply) => {
                self.verdict(Verdict::Close(reply), Own::AuthOk);
            }
        }
    }

    fn count_auth_failure(&mut self) {
        self.auth_failures = self.auth_failures.saturating_add(1);
        if self.auth_failures >= self.settings.auth.failures {
            self.close(Own::TooManyErrors);
        }
    }
}

impl From<Verdict> for AuthVerdict {
    /// For a caller that answers AUTH as it answers everything else: a plain yes proves no identity.
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Refuse(reply) => AuthVerdict::Refuse(reply),
            Verdict::Close(reply) => AuthVerdict::Close(reply),
            Verdict::Accept | Verdict::AcceptWith(_) | Verdict::Unavailable => AuthVerdict::Temporary,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vsmtp_mail::Reply;

    use super::super::tests::{feed, session};
    use super::*;
    use crate::auth::{Mechanism, Needs};

    /// A client that cannot begin TLS now comes again; one that has not tried is told to.
    #[test]
    fn that_tls_is_away_is_no_reason_to_give_mail_up() {
        let listener = |hard_errors| {
            let mut session = session();
            let mut settings = (*session.settings).clone();
            settings.extensions = settings.extensions.with(Extension::StartTls);
            settings.auth.mechanisms = vec![Mechanism {
                name: "PLAIN".into(),
                in_clear: true,
                needs: Needs::Nothing,
                server_first: false,
            }];
            settings.limits.hard_errors = hard_errors;
            session.settings = Arc::new(settings);
            session.require_tls(true);
            session
        };
        let commands = ["MAIL FROM:<a@a>\r\n", "VRFY b\r\n", "AUTH PLAIN AGEAYg==\r\n"];
        let says = |session: &mut Session, command: &str| {
            let mut output = Vec::new();
            feed(session, command.as_bytes(), &mut output);
            String::from_utf8(output).unwrap()
        };
        let away = "454 4.7.0 TLS is not available now\r\n";
        let mut session = listener(2);
        session.tls_is_there(false);
        assert!(!says(&mut session, "EHLO a\r\n").contains("STARTTLS"));
        for command in commands {
            assert_eq!(says(&mut session, command), away, "{command}");
        }
        assert_eq!(session.errors(), 0, "it is not the client's");
        session.tls_is_there(true);
        says(&mut session, "EHLO a\r\n");
        assert!(says(&mut session, commands[0]).starts_with("530 5.7.0"));

        // It was offered, and then it could not be had.
        for (verdict, said) in [
            (Verdict::Unavailable, "454 4.7.0 TLS"),
            (Verdict::Refuse(Reply::parse("454 4.7.0 slowly").unwrap()), "454 4.7.0 TLS"),
            (Verdict::Refuse(Reply::parse("554 5.7.0 never").unwrap()), "530 5.7.0 Must"),
        ] {
            let mut session = listener(20);
            says(&mut session, "EHLO a\r\n");
            let step = session.advance(b"STARTTLS\r\n", &mut Vec::new());
            assert_eq!(step, Step::Ask(Question::StartTls));
            session.answer(verdict).unwrap();
            session.sent(usize::MAX);
            for command in commands {
                let heard = says(&mut session, command);
                assert!(heard.starts_with(said), "{command}: {heard}");
            }
        }
    }
}
