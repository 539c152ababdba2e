//! XCLIENT and XFORWARD: only for clients that the caller trusts with them, and never within a transaction.

use super::dialogue::Handled;
use super::state::{Open, Phase};
use super::{Dropped, Session, Step};
use crate::auth::TlsFacts;
use crate::reply::Own;
use crate::xclient::{Privileges, XClient, XForward};

impl Session {
    /// What this client may do. It stays what the connection's own peer may do, whoever XCLIENT says is behind it.
    pub fn grant(&mut self, privileges: Privileges) {
        self.privileges = privileges;
    }

    /// XCLIENT: the session begins anew, with another client.
    pub(super) fn xclient(&mut self, arguments: &str) -> Handled {
        if let Some(fault) = self.not_now(self.privileges.xclient) {
            return self.failed(fault);
        }
        match XClient::parse(arguments, self.privileges.login) {
            Ok(xclient) => {
                self.phase = Phase::Start;
                self.greeted = true;
                self.authenticated = false;
                // A certificate is the proxy's own.
                self.tls = self.tls.map(|tls| TlsFacts { client_certificate: false, ..tls });
                Handled::Tell(Step::XClient(Box::new(xclient)))
            }
            Err(fault) => self.failed(fault),
        }
    }

    /// The login that a proxy has stated is believed: the client has authenticated. To be said before the question about its
    /// connection is answered; at any other time it says nothing.
    pub fn vouch(&mut self) {
        self.authenticated |= self.greeted && matches!(self.open, Some(Open::Connect));
    }

    /// XFORWARD.
    pub(super) fn xforward(&mut self, arguments: &str) -> Handled {
        if let Some(fault) = self.not_now(self.privileges.xforward) {
            return self.failed(fault);
        }
        match XForward::parse(arguments) {
            Ok(xforward) => {
                self.say(Own::Ok);
                Handled::Tell(Step::XForward(xforward))
            }
            Err(fault) => self.failed(fault),
        }
    }

    /// After MAIL or RSET: where these leave no transaction, and none was open, what XFORWARD said of the next one holds no more.
    pub(super) fn forgets_forwarded(&self, handled: Handled) -> Handled {
        match (handled, &self.phase) {
            (Handled::Done, Phase::Ready) if self.privileges.xforward => {
                Handled::Tell(Step::Dropped(Dropped::Reset))
            }
            (handled, _) => handled,
        }
    }

    fn not_now(&self, granted: bool) -> Option<Own> {
        match self.phase {
            _ if !granted => Some(Own::NotTrusted),
            Phase::Mail(_) | Phase::Body(_) => Some(Own::InTransaction),
            _ => None,
        }
    }
}
