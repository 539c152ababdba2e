//! A proxy that speaks for its client. Whom the proxy may speak for was granted to the connection's own peer, and XCLIENT
//! changes nothing of that.

use vsmtp_daemon::Record;
use vsmtp_smtp::XClient;

use super::asking::Introduced;
use super::client::{Client, Who};
use crate::services::Context;

impl Client {
    /// XCLIENT: the session goes on as that of another client, which the filter has not met.
    pub(super) fn become_client(&mut self, context: &mut Context<'_>, xclient: &XClient) {
        let Who::Network { client: (address, port), server } = self.who else { return };
        let proxy = self.who;
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
            .emit();
    }
}
