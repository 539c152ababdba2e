//! Keys of earlier and later versions: what becomes of each. A script that sets none of them never meets this file.

use crate::value::Value;

/// A key that is not in the table.
#[derive(Debug)]
pub struct Legacy {
    /// Dotted name. With `.*` at its end, everything below it.
    pub name: &'static str,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a key that is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has another name now; the value counts for that.
    Renamed(&'static str),
    /// Accepted with a warning, without effect; says why that is well.
    Retired(&'static str),
}

use Fate::{Renamed, Retired};

/// The keys of other versions.
pub const LEGACY: &[Legacy] = &[
    Legacy { name: "server.domain", fate: Renamed("server.name") },
    Legacy { name: "app.vsl.filepath", fate: Renamed("app.vsl.filter_path") },
    Legacy { name: "server.logs.filepath", fate: Renamed("server.logs.filename") },
    Legacy { name: "server.logs.format", fate: Retired("lines have one form, see docs/administration.md") },
    Legacy { name: "server.logs.size_limit", fate: Retired("leave it to logrotate") },
    Legacy { name: "server.logs.archive_count", fate: Retired("leave it to logrotate") },
    Legacy {
        name: "server.smtp.required_extension",
        fate: Retired("each extension is offered where it works"),
    },
    Legacy {
        name: "server.smtp.auth.must_be_authenticated",
        fate: Renamed("server.esmtp.auth.must_be_authenticated"),
    },
    Legacy { name: "server.esmtp.size", fate: Renamed("server.message_size_limit") },
    Legacy { name: "server.smtp.connections_per_client", fate: Renamed("server.limits.connections") },
    Legacy {
        name: "version_requirement",
        fate: Retired("the version is not compared; vsmtp check tells what fits"),
    },
    Legacy {
        name: "server.system.thread_pool.*",
        fate: Retired("use server.receivers, filter.workers, server.delivers"),
    },
    Legacy { name: "server.system.user", fate: Retired("each process has a user of its own") },
    Legacy { name: "server.system.group", fate: Retired("each process has a user of its own") },
    Legacy { name: "server.queues.working.*", fate: Retired("the queue bounds itself") },
    Legacy { name: "server.queues.delivery.*", fate: Retired("use queue.lifetime and queue.backoff") },
    Legacy { name: "server.logs.sys_level", fate: Retired("use server.logs.level") },
    Legacy { name: "app.logs.*", fate: Retired("rules log to server.logs") },
    Legacy { name: "server.dns.config.domain", fate: Retired("names in mail are complete") },
    Legacy { name: "server.dns.config.search", fate: Retired("names in mail are complete") },
    Legacy { name: "server.dns.options.rotate", fate: Retired("the resolver decides this itself") },
    Legacy { name: "server.dns.options.dnssec", fate: Retired("the resolver decides this itself") },
    Legacy { name: "server.dns.options.ip_strategy", fate: Retired("the resolver decides this itself") },
    Legacy { name: "server.dns.options.use_hosts_file", fate: Retired("the resolver decides this itself") },
    Legacy {
        name: "server.dns.options.num_concurrent_reqs",
        fate: Retired("the resolver decides this itself"),
    },
    Legacy { name: "server.dns.options.ndots", fate: Retired("names in mail are complete") },
    Legacy { name: "server.dns.options.edns0", fate: Retired("the resolver decides this itself") },
    Legacy { name: "server.dns.options.validate", fate: Retired("the resolver decides this itself") },
    Legacy {
        name: "server.dns.options.preserve_intermediates",
        fate: Retired("the resolver decides this itself"),
    },
    Legacy { name: "server.dns.options.try_tcp_on_error", fate: Retired("the resolver decides this itself") },
    Legacy { name: "server.system.group_local", fate: Retired("mailboxes belong to vsmtp-mail") },
    Legacy { name: "server.smtp.auth.mechanisms", fate: Renamed("server.esmtp.auth.mechanisms") },
    Legacy { name: "server.smtp.auth.mechanism", fate: Renamed("server.esmtp.auth.mechanisms") },
    Legacy {
        name: "server.smtp.auth.enable_dangerous_mechanism_in_clair",
        fate: Renamed("server.esmtp.auth.enable_dangerous_mechanism_in_clair"),
    },
    Legacy {
        name: "server.smtp.auth.attempt_count_max",
        fate: Renamed("server.esmtp.auth.attempt_count_max"),
    },
    Legacy { name: "server.tls.root.certificate", fate: Renamed("server.tls.certificate") },
    Legacy { name: "server.tls.root.private_key", fate: Renamed("server.tls.private_key") },
    Legacy { name: "server.logs.system.*", fate: Retired("use server.logs.target and server.logs.syslog") },
    // Versions before 1.1 had them, and a dialect of rules that nothing speaks any more.
    Legacy { name: "app.services.*", fate: Retired("declare it in the rules: service NAME cmd = #{ ... }") },
];

/// What a tree says of a key, before it is checked: an old name that is set speaks for the new one.
pub fn said<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    let mut said = old_names(key).filter_map(|name| tree.at(name));
    said.find(|value| **value != Value::Null).or_else(|| tree.at(key))
}

/// What a key was called before.
pub fn old_names(key: &str) -> impl Iterator<Item = &'static str> {
    let of_key = move |legacy: &&Legacy| matches!(legacy.fate, Renamed(name) if name == key);
    LEGACY.iter().filter(of_key).map(|legacy| legacy.name)
}

impl Legacy {
    /// The row that covers a name.
    pub(crate) fn of(name: &str) -> Option<&'static Legacy> {
        LEGACY.iter().find(|legacy| match legacy.section() {
            None => legacy.name == name,
            Some(section) => {
                name.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }
        })
    }

    /// The section, for a row that covers everything below one.
    pub(crate) fn section(&self) -> Option<&'static str> {
        self.name.strip_suffix(".*")
    }
}
