//! AUTH: words go from the client to the helper and back, and who is granted something is, where rules want a say,
//! judged by the filter. What is in the words is none of our business.

use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::receiver_auth::{Ask, Begin, Denied, Tls, WRONG_MS};
use vsmtp_ipc::edge::receiver_limits::Kind;
use vsmtp_ipc::wire::{Blob, Grant};
use vsmtp_mail::{EnhancedCode, Reply};
use vsmtp_smtp::{AuthRequest, AuthVerdict, Secret, Verdict};

use super::asking::{Asking, Topic};
use super::client::{Client, Fate, Who};
use crate::auth_edge::{HelperKey, Word};
use crate::filter_edge::misbehaved;
use crate::services::{Context, Services};
use crate::settings::names_of;

/// The reply codes that SASL knows by itself (RFC 4954 6).
const WRONG: u16 = 535;
const NOT_NOW: u16 = 454;

/// Who the client is.
#[derive(Debug)]
pub(super) struct Login {
    /// Who has granted it.
    pub helper: HelperKey,
    /// What the filter is shown.
    pub grant: Grant,
    /// For the log.
    pub identity: String,
}

impl Client {
    /// AUTH.
    pub(super) fn begin_login(&mut self, context: &mut Context<'_>, request: AuthRequest) {
        self.drop_login(context.services);
        let (client, server) = match self.who {
            Who::Network { client, server } => (Some(client.0), server.map(|(address, _)| address)),
            Who::Local(_) => (None, None),
        };
        let begin = Begin {
            exchange: self.number,
            mechanism: request.mechanism.into_string(),
            initial: request.initial.map(|secret| Blob(secret.into_exposed())),
            client,
            server,
            tls: self.tls.as_ref().map(|tls| Tls {
                exporter: self.socket.channel_binding(),
                certificate: tls.peer.as_ref().map(|certificate| certificate.fingerprint),
                names: tls.peer.iter().flat_map(names_of).map(|name| name.to_string()).collect(),
            }),
        };
        self.begin_exchange(context, &Ask::Begin(begin));
    }

    /// Asks what begins an exchange.
    pub(super) fn begin_exchange(&mut self, context: &mut Context<'_>, ask: &Ask) {
        let Some(helper) = context.services.helpers.choose() else {
            return self.answer_login(context, AuthVerdict::Temporary);
        };
        self.exchange = Some(helper);
        self.refused = false;
        self.ask_helper(context, helper, ask);
    }

    /// The client's next words.
    pub(super) fn go_on_with_login(&mut self, context: &mut Context<'_>, response: Secret) {
        let Some(helper) = self.exchange else { return self.answer_login(context, AuthVerdict::Temporary) };
        let response = Blob(response.into_exposed());
        self.ask_helper(context, helper, &Ask::Continue { exchange: self.number, response });
    }

    fn ask_helper(&mut self, context: &mut Context<'_>, helper: HelperKey, ask: &Ask) {
        if context.services.helpers.ask(helper, ask) {
            self.asking = Asking::OfHelper(helper);
            self.restart_wait(context);
        } else {
            self.cancel_login(context.services);
            self.answer_login(context, AuthVerdict::Temporary);
        }
    }

    /// The exchange is given up: by the client, or because the session ends.
    pub(super) fn cancel_login(&mut self, services: &mut Services) {
        let open = matches!(self.asking, Asking::OfHelper(_));
        if let Some(helper) = self.exchange.take() {
            services.helpers.cancel(helper, self.number, open);
        }
    }

    /// The client is nobody any more.
    pub(super) fn drop_login(&mut self, services: &mut Services) {
        if let Some(login) = self.login.take() {
            services.helpers.say(login.helper, &Ask::End { grant: login.grant });
        }
    }

    /// What the filter is shown: only what has counted, or what it is asked about.
    pub(super) fn shown_grant(&self, is_asked_about: bool) -> Option<Grant> {
        let login = self.login.as_ref().filter(|_| is_asked_about || self.dialogue.is_authenticated());
        login.map(|login| login.grant)
    }

    /// Who the client is, for the log.
    pub(super) fn user(&self) -> Option<&str> {
        let login = self.login.as_ref().filter(|_| self.dialogue.is_authenticated());
        login.map(|login| login.identity.as_str())
    }

    /// True if a question of this session is with that helper.
    pub fn awaits_helper(&self, helper: HelperKey) -> bool {
        self.exchange == Some(helper)
    }

    /// The helper has answered.
    ///
    /// # Errors
    /// The answer fits no question: the edge is to be dropped.
    pub fn on_word(
        &mut self,
        context: &mut Context<'_>,
        helper: HelperKey,
        word: Word,
    ) -> Result<Fate, ChannelError> {
        if self.asking != Asking::OfHelper(helper) {
            return Err(misbehaved("answered a session that asked nothing"));
        }
        self.asking = Asking::Nothing;
        match word {
            Word::Challenge(challenge) => {
                self.answer_login(context, AuthVerdict::Challenge(challenge.0.clone()));
            }
            Word::Refused(challenge) => {
                self.note_denied(context, Denied::Credentials);
                self.refused = true;
                self.answer_login(context, AuthVerdict::Refused(challenge.0.clone()));
            }
            Word::Granted(grant, identity) => {
                self.exchange = None;
                self.login = Some(Login { helper, grant, identity });
                self.topic = Some(Topic::Login);
                self.proceed(context);
            }
            Word::Denied(why, wait_ms) => {
                self.exchange = None;
                // Who has been refused before was counted then.
                if !std::mem::take(&mut self.refused) {
                    self.note_denied(context, why);
                }
                if wait_ms > 0 {
                    self.deny_later(context, why, wait_ms);
                    return Ok(Fate::Stay);
                }
                self.answer_login(context, refusal(why));
            }
        }
        Ok(self.go_on(context))
    }

    fn deny_later(&mut self, context: &mut Context<'_>, why: Denied, wait_ms: u32) {
        self.topic = Some(Topic::Login);
        self.asking = Asking::Denied { why, wait_ms };
        self.restart_wait(context);
    }

    /// The client has waited, and hears that it was denied.
    pub(super) fn on_denied_due(&mut self, context: &mut Context<'_>, why: Denied) -> Fate {
        self.answer_login(context, refusal(why));
        self.go_on(context)
    }

    /// The helper that has the exchange is gone.
    pub fn on_helper_lost(&mut self, context: &mut Context<'_>) -> Fate {
        self.exchange = None;
        if !matches!(self.asking, Asking::OfHelper(_)) {
            // The client is thinking; its next words find nobody.
            return Fate::Stay;
        }
        self.asking = Asking::Nothing;
        self.answer_login(context, AuthVerdict::Temporary);
        self.go_on(context)
    }

    /// The filter has judged, or there was nothing to judge.
    pub(super) fn login_decided(&mut self, context: &mut Context<'_>, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Accept | Verdict::AcceptWith(_) => AuthVerdict::Success,
            Verdict::Unavailable => AuthVerdict::Temporary,
            Verdict::Refuse(reply) if reply.code() == WRONG => AuthVerdict::Failure,
            Verdict::Refuse(reply) if reply.code() == NOT_NOW => AuthVerdict::Temporary,
            Verdict::Refuse(reply) => AuthVerdict::Refuse(reply),
            Verdict::Close(reply) => AuthVerdict::Close(reply),
        };
        if verdict == AuthVerdict::Success {
            context.services.figures.authenticated += 1;
            // Tests are about strangers' servers.
            self.limited.settle();
            context.reactor.served();
        } else {
            self.drop_login(context.services);
        }
        if verdict == AuthVerdict::Failure {
            self.note(context, Kind::AuthFailures, 1);
            // Rules that judge passwords are guessed at as the helper is.
            return self.deny_later(context, Denied::Credentials, WRONG_MS);
        }
        self.answer_login(context, verdict);
    }

    fn answer_login(&mut self, context: &mut Context<'_>, verdict: AuthVerdict) {
        self.asking = Asking::Nothing;
        self.topic = None;
        if !self.greets_stated(&verdict) {
            // It was open, or there would be nothing to answer.
            let _ = self.dialogue.answer_auth(verdict);
        }
        self.restart_wait(context);
    }

    fn note_denied(&mut self, context: &mut Context<'_>, why: Denied) {
        context.services.figures.auth_failed += 1;
        if why == Denied::Credentials {
            self.note(context, Kind::AuthFailures, 1);
        }
        Record::at(log::Level::Debug, "auth-denied")
            .field("session", self.number)
            .field("client", self.who)
            .field("why", format_args!("{why:?}"))
            .emit();
    }
}

/// What the client hears.
fn refusal(why: Denied) -> AuthVerdict {
    match why {
        Denied::Credentials => AuthVerdict::Failure,
        Denied::Temporary => AuthVerdict::Temporary,
        Denied::Malformed => AuthVerdict::Malformed,
        Denied::NeedsTls => AuthVerdict::Refuse(Reply::fixed(
            538,
            EnhancedCode(5, 7, 11),
            "Encryption required for requested authentication mechanism",
        )),
        Denied::Unsupported => {
            AuthVerdict::Refuse(Reply::fixed(504, EnhancedCode(5, 5, 4), "Mechanism is not supported"))
        }
        Denied::Throttled => AuthVerdict::Refuse(Reply::fixed(
            NOT_NOW,
            EnhancedCode(4, 7, 0),
            "Too many failures, try again later",
        )),
    }
}
