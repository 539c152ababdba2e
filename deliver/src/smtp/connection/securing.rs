//! TLS on one connection, and who we are there: both come before the first message. What the session lacks is put into
//! the words of reports; what that means for the message is decided elsewhere.

use vsmtp_ipc::edge::queue_deliver::{SessionFailure, TlsResult};
use vsmtp_smtp::{Awaiting, HostError, HostFault};
use vsmtp_tls::client::{TlsFailure, TlsFault};

use super::Connection;
use crate::smtp::route::Endpoint;
use crate::smtp::sasl::Exchange;
use crate::smtp::tally;

impl Connection {
    /// Goes on with the TLS handshake; true when there is something new to be done.
    pub(super) fn secure(&mut self) -> bool {
        match self.try_secure() {
            Ok(false) => false,
            Ok(true) => {
                self.answers_in_clear = self.dialogue.answers();
                self.dialogue.tls_started();
                self.progress += 1;
                // The server's first words may have come together with the end of the handshake.
                self.read(false);
                true
            }
            Err(failure) => {
                self.dialogue.tls_failed(&failure.text);
                self.tls_failure = Some(failure);
                true
            }
        }
    }

    fn try_secure(&mut self) -> Result<bool, TlsFailure> {
        if !self.socket.is_starting_tls() {
            let no_tls = || TlsFailure::new(TlsFault::Local, "there is no TLS in this policy");
            let session = self.site.security.session(&self.tls).ok_or_else(no_tls)??;
            self.socket.start_tls(session);
        }
        self.socket.handshake()
    }

    /// Begins to say who we are.
    pub(super) fn authenticate(&mut self) {
        let offered = &self.dialogue.capabilities().auth;
        let exchange = self.account.as_ref().and_then(|account| Exchange::choose(offered, account));
        match exchange {
            Some(mut exchange) => {
                let initial = exchange.initial();
                self.dialogue.auth_begin(exchange.name(), initial.as_deref());
                self.exchange = Some(exchange);
            }
            None => self.dialogue.auth_failed("server offers no SASL mechanism that we can use"),
        }
    }

    pub(super) fn respond(&mut self, challenge: &[u8]) {
        let response = self.exchange.as_mut().map(|exchange| exchange.respond(challenge));
        match response {
            Some(Ok(words)) => self.dialogue.auth_respond(&words),
            Some(Err(fault)) => self.dialogue.auth_failed(&fault.to_string()),
            None => self.dialogue.auth_failed("server asks for nothing that was begun"),
        }
    }

    pub(super) fn authenticated(&mut self) {
        if self.exchange.take().is_some_and(|exchange| exchange.is_proven()) {
            self.dialogue.auth_accepted();
        } else {
            self.dialogue.auth_failed("server did not prove that it knows our password");
        }
    }

    /// True if the server has proved who it is.
    pub fn is_proven(&self) -> bool {
        self.socket.secured().is_some() && self.site.security.is_proof()
    }

    /// What a session that came to be lacks, in the words of reports; `None` if it is as its policy wants it.
    pub fn shortfall(&self) -> Option<SessionFailure> {
        match (self.socket.secured(), self.socket.doubt()) {
            (None, _) => Some(self.failed_by(TlsResult::StartTlsNotSupported, "")),
            (Some(_), Some(doubt)) => {
                tally::result_of(doubt).map(|result| self.failed_by(result, &doubt.text))
            }
            (Some(_), None) => None,
        }
    }

    /// True if a connection that let no message begin ended for its TLS. With TLS 1.3 a server that wants more of us, as a
    /// certificate of ours, can say so only when our side of the handshake is done: it ends before it has said a word.
    /// Who is merely silent has refused nothing.
    pub fn failed_at_tls(&self, error: &HostError) -> bool {
        let is_unheard = self.socket.secured().is_some() && self.dialogue.answers() == self.answers_in_clear;
        match error.fault {
            HostFault::Silent => false,
            HostFault::Lost if is_unheard => true,
            _ => error.phase == Awaiting::Handshake,
        }
    }

    /// Why there is no session, in the words of reports; `None` if it was not for TLS.
    pub fn no_session(&self, error: &HostError) -> Option<SessionFailure> {
        if self.failed_at_tls(error) {
            let failure = self.tls_failure.as_ref();
            let result = failure.map_or(Some(TlsResult::ValidationFailure), tally::result_of)?;
            return Some(self.failed_by(result, &error.to_string()));
        }
        let refused = error.fault == HostFault::Insecure;
        refused.then(|| self.failed_by(TlsResult::StartTlsNotSupported, ""))
    }

    fn failed_by(&self, result: TlsResult, why: &str) -> SessionFailure {
        let remote = match &self.site.endpoint {
            Endpoint::Tcp(address) => Some(address.ip()),
            Endpoint::Unix(_) => None,
        };
        tally::failure(result, &self.site.host, (self.socket.local_ip(), remote), why)
    }

    /// What TLS has reached, for the log.
    pub fn security(&self) -> String {
        self.site.security.describe(self.socket.secured())
    }
}
