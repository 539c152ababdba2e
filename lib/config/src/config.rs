//! From a tree of values to a checked configuration.
//!
//! On failure: every error of the tree is reported at once, and there is no configuration.

use std::collections::BTreeMap;

use vsmtp_mail::{Address, Domain};

use crate::cross_check;
use crate::error::{ConfigError, Problem, Warning};
use crate::input::Input;
use crate::keys::{
    AuthKeys, DeliveryKeys, DeliveryTlsKeys, DnsKeys, DnsType, FilterKeys, LimitsKeys, LogKeys, QueueKeys,
    ServerKeys, SmtpKeys, TlsKeys, keys,
};
use crate::kind::Kind;
use crate::legacy::{LEGACY, Legacy};
use crate::table::Preset;
use crate::value::Value;

/// What defaults depend on. The caller finds it out; nothing here asks the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The host's name.
    pub hostname: Domain,
    /// Processor cores that may be used.
    pub cores: u32,
    /// Absolute folder of the configuration file; relative paths begin there.
    pub config_dir: String,
    /// Absolute folder below which all absolute paths lie (`vsmtp --root`); empty for `/`.
    pub root: String,
}

/// A checked configuration. Its slices are the only way out.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) context: Context,
    pub(crate) server: ServerKeys,
    pub(crate) smtp: SmtpKeys,
    pub(crate) limits: LimitsKeys,
    pub(crate) auth: AuthKeys,
    pub(crate) tls: TlsKeys,
    pub(crate) filter: FilterKeys,
    pub(crate) delivery: DeliveryKeys,
    pub(crate) delivery_tls: DeliveryTlsKeys,
    pub(crate) queue: QueueKeys,
    pub(crate) dns: DnsKeys,
    pub(crate) logs: LogKeys,
    /// Who gets double bounces, whether set or not.
    pub(crate) postmaster: Address,
    /// Canonical value of each key, with whether it is the default.
    pub(crate) values: BTreeMap<&'static str, (Value, bool)>,
    /// Keys that were accepted without effect.
    warnings: Vec<Warning>,
}

impl Config {
    /// Checks a tree against the table. What the tree does not say has its default.
    pub fn build(context: &Context, tree: &Value) -> Result<Config, Vec<ConfigError>> {
        let mut input = Input::sort(context, tree);
        let groups = (
            ServerKeys::read(&mut input),
            SmtpKeys::read(&mut input),
            LimitsKeys::read(&mut input),
            AuthKeys::read(&mut input),
            TlsKeys::read(&mut input),
            FilterKeys::read(&mut input),
            DeliveryKeys::read(&mut input),
            DeliveryTlsKeys::read(&mut input),
            QueueKeys::read(&mut input),
            DnsKeys::read(&mut input),
            LogKeys::read(&mut input),
        );
        let Input { values, errors, warnings, .. } = input;
        let (
            Some(server),
            Some(smtp),
            Some(limits),
            Some(auth),
            Some(tls),
            Some(filter),
            Some(delivery),
            Some(delivery_tls),
            Some(queue),
            Some(dns),
            Some(logs),
        ) = groups
        else {
            return Err(errors);
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let postmaster = postmaster(&queue, &server).map_err(|error| vec![error])?;
        let context = context.clone();
        let mut config = Config {
            context,
            server,
            smtp,
            limits,
            auth,
            tls,
            filter,
            delivery,
            delivery_tls,
            queue,
            dns,
            logs,
            postmaster,
            values,
            warnings,
        };
        config.derive();
        let remarks = cross_check::remarks(&config);
        config.warnings.extend(remarks);
        let conflicts = cross_check::conflicts(&config);
        if conflicts.is_empty() { Ok(config) } else { Err(conflicts) }
    }

    /// Keys that were accepted and have not all the effect that they could have.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Defaults that follow other keys rather than the context.
    fn derive(&mut self) {
        if self.dns.dns_type == DnsType::Custom && self.dns.name_servers.is_empty() {
            self.dns.dns_type = DnsType::System;
            let path = "server.dns.config.name_servers".to_owned();
            self.warnings.push(Warning { path, text: "is empty: those of the system are asked".to_owned() });
        }
        if let Some((value, true)) = self.values.get_mut("server.domains") {
            self.server.domains = own_domains(&self.server.name);
            *value = crate::kind::Domains.write(&self.server.domains);
        }
        if let Some((value, true)) = self.values.get_mut("server.limits.exempt") {
            self.limits.exempt = self.server.relay_from.clone();
            *value = crate::kind::Networks.write(&self.limits.exempt);
        }
    }

    /// An absolute path: relative ones begin beside the configuration file, absolute ones below the root.
    pub(crate) fn placed(&self, path: &str) -> String {
        if path.starts_with('/') {
            format!("{}{path}", self.context.root.trim_end_matches('/'))
        } else {
            format!("{}/{path}", self.context.config_dir.trim_end_matches('/'))
        }
    }
}

/// Who gets mail of our own, unless somebody is named.
fn postmaster(queue: &QueueKeys, server: &ServerKeys) -> Result<Address, ConfigError> {
    match &queue.postmaster {
        Some(address) => Ok(address.clone()),
        None => Address::new("postmaster", server.name.clone()).map_err(|error| ConfigError {
            path: "server.name".to_owned(),
            problem: Problem::Conflict(error.to_string()),
        }),
    }
}

/// The name of the server, and the name by which programs on every host mean their own.
fn own_domains(name: &Domain) -> Vec<Domain> {
    let local = Domain::parse("localhost").ok().filter(|local| local != name);
    std::iter::once(name.clone()).chain(local).collect()
}

/// The tree that a script receives: every key with its default, and every section there ever was, so that a line such as
/// `config.server.smtp.rcpt_count_max = 25` finds its place.
pub fn default_tree(context: &Context) -> Value {
    let mut tree = Value::map();
    for Legacy { name, .. } in LEGACY {
        let section = name.rsplit_once('.').map(|(section, _)| section);
        if let Some(section) = section.filter(|section| tree.at(section).is_none()) {
            tree.set(section, Value::map());
        }
    }
    for key in keys() {
        let default = key.default.value(context);
        tree.set(key.name, key.canonical(&default).unwrap_or(default));
    }
    tree
}

impl Preset {
    /// The value it stands for.
    pub(crate) fn value(&self, context: &Context) -> Value {
        match self {
            Preset::HostName => Value::Text(context.hostname.to_string()),
            Preset::OwnDomains => crate::kind::Domains.write(&own_domains(&context.hostname)),
            Preset::RelayFrom => {
                crate::keys::key("server.relay_from").map_or(Value::Null, |key| key.default.value(context))
            }
            fixed => fixed.fixed().unwrap_or(Value::Null),
        }
    }
}

#[cfg(test)]
mod tests;
