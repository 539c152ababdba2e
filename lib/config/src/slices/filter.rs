//! What a filter is told, in each of its roles.

use std::time::Duration;

use bincode::{Decode, Encode};
use vsmtp_mail::{Address, Domain, NextHop};

use super::{OwnReply, SenderLogin};
use crate::by_text::ByText;
use crate::config::Config;
use crate::database::DatabaseKind;
use crate::network::Network;
use crate::pattern::AddressPattern;
use crate::routes::DomainPattern;
use crate::table::Role;
use crate::value::Value;

/// What a filter is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FilterSlice {
    /// The server's name.
    pub server_name: ByText<Domain>,
    /// The server's own domains.
    pub domains: Vec<ByText<Domain>>,
    /// Domains that are relayed for everyone.
    pub relay_domains: Vec<ByText<Domain>>,
    /// Clients that may relay.
    pub relay_from: Vec<ByText<Network>>,
    /// Recipients at `domains` that have a mailbox; ask [`crate::Recipients`].
    pub mailboxes: Vec<ByText<AddressPattern>>,
    /// Whose mail goes elsewhere; ask [`crate::Recipients`].
    pub aliases: Vec<Alias>,
    /// What divides a user from an extension in a local part; each character does, none if empty.
    pub recipient_delimiter: String,
    /// How mail for `domains` is delivered.
    pub local: ByText<NextHop>,
    /// Where mail for other domains goes; `None` for their own MX.
    pub relayhost: Option<ByText<NextHop>>,
    /// Next hops by the recipient's domain; ask [`crate::Routes`].
    pub transport: Vec<(ByText<DomainPattern>, ByText<NextHop>)>,
    /// Next hops by the sender; ask [`crate::Routes`].
    pub sender_relay: Vec<(ByText<AddressPattern>, ByText<NextHop>)>,
    /// Folder of the configuration, absolute: rules import from it and from nowhere else.
    pub config_dir: String,
    /// Folder of the tables that rules keep, absolute.
    pub database_dir: String,
    /// Folder of the files that rules write, absolute.
    pub app_dir: String,
    /// Octets that must stay free on the disk of that folder.
    pub app_spare: u64,
    /// The root file of the rules, absolute.
    pub filter_path: String,
    /// True if the operator named the file, so that it must be there.
    pub filter_path_required: bool,
    /// Folder of the domains' rules, absolute.
    pub domain_dir: Option<String>,
    /// True if commands are declared, so that there is a runner.
    pub has_commands: bool,
    /// Databases that there are, by name, with what they are and the time within which they answer.
    pub databases: Vec<(String, DatabaseKind, Duration)>,
    /// Rules that may run at once.
    pub workers: u32,
    /// Steps of one stage's rules.
    pub max_operations: u64,
    /// Time of one stage's rules.
    pub timeout: Duration,
    /// Largest text, list or map of a script, in octets or items.
    pub max_value_size: u64,
    /// What happens to a message whose rules fail.
    pub on_error: OnError,
    /// What `deny()` and `reject()` without a code say, where the operator wants something else.
    pub refusals: (Option<OwnReply>, Option<OwnReply>),
    /// Most recipients of one message, with those that rules add.
    pub rcpt_count_max: u32,
    /// Largest message, in octets.
    pub message_size_limit: u64,
    /// Largest header, in octets, with what rules add.
    pub header_size_limit: u64,
    /// Clients can authenticate, here or at a proxy.
    pub auth: bool,
    /// Somebody knows passwords, or none is asked for; otherwise only the rules of `authenticate` can tell.
    pub has_backends: bool,
    /// Senders and who may use them.
    pub sender_login: Vec<SenderLogin>,
    /// Who is authenticated may send only as itself.
    pub own_sender_only: bool,
    /// Who is not authenticated may use no sender that belongs to a login.
    pub senders_need_login: bool,
    /// Domains that have keys to sign mail with, in lower case.
    pub dkim_domains: Vec<String>,
    /// How reports about TLS are signed; `None`: they are not.
    pub report_signature: Option<ReportSignature>,
    /// All keys that filters read, for scripts to look at; ask [`FilterSlice::settings`].
    pub settings: Vec<u8>,
}

impl FilterSlice {
    /// The keys that filters read, as a tree.
    pub fn settings(&self) -> Value {
        Value::from_bytes(&self.settings).unwrap_or_else(|_| Value::map())
    }
}

/// How reports about TLS are signed (RFC 8460 5.3).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportSignature {
    /// Their sender.
    pub sender: ByText<Address>,
    /// The domain that has the key and signs, in lower case.
    pub domain: String,
    /// The selector of its first key.
    pub selector: String,
}

/// One row of the aliases.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Alias {
    /// Whose mail goes elsewhere.
    pub from: ByText<AddressPattern>,
    /// Where it goes. A bare name in the configuration stands for that name at the server's name.
    pub to: Vec<ByText<Address>>,
}

/// What happens to a message whose rules fail or are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum OnError {
    /// 451: the client tries again.
    Defer,
    /// 554.
    Deny,
}

impl OnError {
    pub(crate) const WORDS: &'static [(&'static str, Self)] =
        &[("defer", OnError::Defer), ("deny", OnError::Deny)];
}

/// The key whose values have passwords in them: no script sees it.
const SECRET: &str = "filter.databases";
/// Where tables are that rules keep.
const DATABASES: &str = "/var/lib/vsmtp/databases";
/// The root file of the rules where none is named.
const DEFAULT_FILTER: &str = "filter.vsl";

impl Config {
    pub(super) fn transport(&self) -> Vec<(ByText<DomainPattern>, ByText<NextHop>)> {
        let rows = self.delivery.transport.iter();
        rows.map(|(pattern, next_hop)| (pattern.clone().into(), next_hop.clone().into())).collect()
    }

    /// What each filter is told.
    pub fn filter(&self) -> FilterSlice {
        let (server, rules, delivery) = (&self.server, &self.filter, &self.delivery);
        let by_text = |domains: &[Domain]| domains.iter().cloned().map(ByText::from).collect();
        FilterSlice {
            server_name: server.name.clone().into(),
            domains: by_text(&server.domains),
            relay_domains: by_text(&server.relay_domains),
            relay_from: server.relay_from.iter().copied().map(ByText::from).collect(),
            mailboxes: delivery.mailboxes.iter().cloned().map(ByText::from).collect(),
            aliases: self.aliases(),
            recipient_delimiter: delivery.recipient_delimiter.clone(),
            local: delivery.local.clone().into(),
            relayhost: delivery.relayhost.clone().map(ByText::from),
            transport: self.transport(),
            sender_relay: delivery
                .sender_relay
                .iter()
                .map(|(pattern, next_hop)| (pattern.clone().into(), next_hop.clone().into()))
                .collect(),
            config_dir: self.context.config_dir.clone(),
            database_dir: self.placed(DATABASES),
            app_dir: self.placed(&rules.app_dir),
            // The queue stops at its own reserve, and may be on the same disk.
            app_spare: self.queue.min_free.saturating_mul(2),
            filter_path: self.placed(rules.filter_path.as_deref().unwrap_or(DEFAULT_FILTER)),
            filter_path_required: rules.filter_path.is_some(),
            domain_dir: rules.domain_dir.as_ref().map(|path| self.placed(path)),
            has_commands: !rules.commands.is_empty(),
            databases: rules
                .databases
                .iter()
                .map(|(name, of)| (name.clone(), of.url.kind(), of.timeout))
                .collect(),
            workers: rules.workers,
            max_operations: u64::from(rules.max_operations),
            timeout: rules.timeout,
            max_value_size: rules.max_value_size,
            on_error: rules.on_error,
            refusals: {
                let own = |name| self.replies().into_iter().find(|own| own.name == name);
                (own("Denied"), own("Failure"))
            },
            rcpt_count_max: self.smtp.rcpt_count_max,
            message_size_limit: server.message_size_limit,
            header_size_limit: self.smtp.header_size_limit,
            auth: self.has_auth(),
            has_backends: !self.auth.backends.is_empty()
                || self.auth_mechanisms().iter().all(|name| name == "EXTERNAL"),
            sender_login: self.sender_login(),
            own_sender_only: self.auth.own_sender_only,
            senders_need_login: self.auth.senders_need_login,
            dkim_domains: self.mail_keys().into_iter().map(|key| key.domain).collect(),
            report_signature: self.report_signature(),
            settings: self.settings(Role::Filter),
        }
    }

    /// How reports about TLS are signed: by the sender's domain or the nearest one above it that has a key.
    pub(crate) fn report_signature(&self) -> Option<ReportSignature> {
        let sender = self.delivery_tls.reports_from.as_ref()?;
        let selector = self.delivery_tls.reports_selector.clone()?;
        let keys = self.mail_keys();
        let own = sender.domain().to_string().to_ascii_lowercase();
        let above = own.match_indices('.').filter_map(|(dot, _)| own.get(dot + 1..));
        let mut domains = std::iter::once(own.as_str()).chain(above);
        let domain = domains.find(|domain| keys.iter().any(|key| key.domain == *domain))?.to_owned();
        Some(ReportSignature { sender: sender.clone().into(), domain, selector })
    }

    /// The values of the keys that a role reads. A tree that is too large for the wire is left out.
    fn settings(&self, role: Role) -> Vec<u8> {
        let mut tree = Value::map();
        for key in crate::keys::keys().filter(|key| key.readers.contains(&role) && key.name != SECRET) {
            if let Some((value, _)) = self.values.get(key.name) {
                tree.set(key.name, value.clone());
            }
        }
        tree.to_bytes().unwrap_or_default()
    }

    fn sender_login(&self) -> Vec<SenderLogin> {
        let row = |(sender, logins): &(AddressPattern, Vec<String>)| SenderLogin {
            sender: sender.clone().into(),
            logins: logins.clone(),
        };
        self.auth.sender_login.iter().map(row).collect()
    }

    pub(super) fn aliases(&self) -> Vec<Alias> {
        let resolve = |target: &AddressPattern| match target {
            AddressPattern::Exact(address) => Some(address.clone()),
            AddressPattern::Local(local) => Address::new(local, self.server.name.clone()).ok(),
            AddressPattern::Domain(_) | AddressPattern::Any => None,
        };
        let row = |(from, to): &(AddressPattern, Vec<AddressPattern>)| Alias {
            from: from.clone().into(),
            to: to.iter().filter_map(resolve).map(ByText::from).collect(),
        };
        self.delivery.aliases.iter().map(row).collect()
    }
}
