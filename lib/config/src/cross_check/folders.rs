//! Folders that one process may write and another must be able to trust.

use std::path::{Component, Path};

use crate::config::Config;
use crate::slices::DATABASES;

/// The folder of what rules write is given to the filter, and so must neither lie in a folder of others nor have one in it.
pub(super) fn conflict(config: &Config) -> Option<(&'static str, String)> {
    let own = config.placed(&config.filter.app_dir);
    let own = Path::new(&own);
    let leads_up = own.components().any(|part| part == Component::ParentDir);
    let spool = config.placed(&config.server.spool);
    let others = [
        ("the queue", format!("{}/queue", spool.trim_end_matches('/'))),
        ("delivery.mail_root", config.placed(&config.delivery.mail_root)),
        ("the configuration", config.context.config_dir.clone()),
        ("the tables that rules keep", config.placed(DATABASES)),
    ];
    let meets = |other: &str| own.starts_with(other) || Path::new(other).starts_with(own);
    let met = others.iter().find(|(_, other)| meets(other)).map(|(name, _)| *name);
    let text = match met {
        Some(name) => format!("must be apart from the folder of {name}"),
        None if leads_up => "must not have '..'".to_owned(),
        None => return None,
    };
    Some(("app.dirpath", text))
}
