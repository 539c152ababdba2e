//! A proxy that speaks for its client. Whom the proxy may speak for was granted to the connection's own peer, and XCLIENT
//! changes nothing of that.
//!
//! As whom the client has authenticated to the proxy is judged like a login here, once the client may come in and before it is
//! greeted: by the helper, which knows who may state that, and then by the rules. If it does not count, the session ends.

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::receiver_auth::{Ask, Vouch};
use vsmtp_mail::{EnhancedCode, Reply};
use vsmtp_smtp::{AuthVerdict, Verdict, XClient};

use super::asking::{Introduced, Topic};
use super::client::{Client, Who};
use crate::services::Context;

/// What a session behind a proxy has besides others.
#[derive(Debug)]
pub(super) struct Behind {
    /// The connection's own peer.
    proxy: Who,
    /// A login that nobody was asked about yet.
    stated: Option<String>,
    /// How the client is greeted if its login counts, which is being asked.
    greeting: Option<Verdict>,
}

impl Client {
    /// XCLIENT: the session goes on as that of another client, which the filter has not met.
    pub(super) fn become_client(&mut self, context: &mut Context<'_>, xclient: XClient) {
        let Who::Network { client: (address, port), server } = self.who else { return };
        let proxy = self.behind.take().map_or(self.who, |behind| behind.proxy);
        self.forget(context.services);
        self.drop_login(context.services);
        self.introduced = Introduced::default();
        self.hello = None;
        if let Some(tls) = &mut self.tls {
            // A certificate is the proxy's own, and says nothing of its client.
            tls.peer = None;
        }
        self.forwarded = vsmtp_smtp::XForward::default();
        let ours = server.map(|(address, port)| {
            (xclient.server_address.unwrap_or(address), xclient.server_port.unwrap_or(port))
        });
        let client = (xclient.address.unwrap_or(address), xclient.port.unwrap_or(port));
        self.who = Who::Network { client, server: ours };
        self.count_as(context, client.0);
        self.take_name(context, &xclient.name);
        Record::new("xclient")
            .field("session", self.number)
            .field("client", self.who)
            .field("proxy", proxy)
            .maybe("client_name", self.name())
            .maybe("user", xclient.login.as_deref())
            .emit();
        self.behind = Some(Box::new(Behind { proxy, stated: xclient.login, greeting: None }));
    }

    /// The client may come in. True if its greeting waits until it is known whether the login counts that the proxy states.
    pub(super) fn asks_about_stated(&mut self, context: &mut Context<'_>, greeting: &Verdict) -> bool {
        let is_yes = matches!(greeting, Verdict::Accept | Verdict::AcceptWith(_));
        let Some(behind) = self.behind.as_mut().filter(|_| is_yes) else { return false };
        let (Some(login), Some(proxy)) = (behind.stated.take(), behind.proxy.address()) else { return false };
        behind.greeting = Some(greeting.clone());
        self.topic = Some(Topic::Login);
        let ask = Ask::Vouch(Vouch { exchange: self.number, proxy, login, client: self.who.address() });
        self.begin_exchange(context, &ask);
        true
    }

    /// It is known whether the login counts. False if the question was about a login of the client's own.
    pub(super) fn greets_stated(&mut self, verdict: &AuthVerdict) -> bool {
        let greeting = self.behind.as_mut().and_then(|behind| behind.greeting.take());
        let Some(greeting) = greeting else { return false };
        let is_for_good = match verdict {
            AuthVerdict::Refuse(reply) | AuthVerdict::Close(reply) => reply.is_permanent(),
            verdict => matches!(verdict, AuthVerdict::Failure | AuthVerdict::Malformed),
        };
        // The greeting can only be 220, 421 or 554.
        let greeting = match verdict {
            AuthVerdict::Success => {
                self.dialogue.vouch();
                greeting
            }
            _ if is_for_good => {
                Verdict::Close(Reply::fixed(554, EnhancedCode(5, 7, 8), "This login is refused"))
            }
            _ => Verdict::Unavailable,
        };
        // It was open, or there would be no greeting.
        let _ = self.dialogue.answer(greeting);
        true
    }
}
