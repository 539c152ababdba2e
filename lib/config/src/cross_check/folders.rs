//! Folders that one process may write and another must be able to trust.

use std::path::{Component, Path};

use crate::config::Config;
use crate::slices::LogTarget;

/// What outlives a restart, below which rules have their tables.
const STATE: &str = "/var/lib/vsmtp";
/// Sockets and the lock.
const RUN: &str = "/run/vsmtp";

/// The folder of what rules write is given to the filter, and so must neither lie in a folder of others nor have one in it.
pub(super) fn conflict(config: &Config) -> Option<(&'static str, String)> {
    let own = config.placed(&config.filter.app_dir);
    let own = Path::new(&own);
    let leads_up = own.components().any(|part| part == Component::ParentDir);
    let spool = config.placed(&config.server.spool);
    let mut others = vec![
        ("the queue", format!("{}/queue", spool.trim_end_matches('/'))),
        ("delivery.mail_root", config.placed(&config.delivery.mail_root)),
        ("the configuration", config.context.config_dir.clone()),
        ("what processes keep", config.placed(STATE)),
        ("the sockets", config.placed(RUN)),
    ];
    if let LogTarget::File(log) = config.log().target {
        others.push(("the log", log));
    }
    let keys = config.keys().files().into_iter();
    others.extend(keys.map(|file| ("keys and certificates", file.path)));
    let meets = |other: &str| own.starts_with(other) || Path::new(other).starts_with(own);
    let met = others.iter().find(|(_, other)| meets(other)).map(|(name, _)| *name);
    let text = match met {
        Some(name) => format!("must be apart from the folder of {name}"),
        None if leads_up => "must not have '..'".to_owned(),
        None => return None,
    };
    Some(("app.dirpath", text))
}
