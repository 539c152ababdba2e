//! Domains with a folder of their own: what their `config.vsl` says becomes `server.virtual`. They are the
//! server's own domains unless the operator has said which those are; so are those that a configuration of 1.x puts there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vsmtp_config::{Context, Value, said};
use vsmtp_mail::Domain;

use super::handed::Handed;
use super::misspelt::{DOMAIN_SECTIONS, domain_key};
use super::places::KeyPlaces;
use super::{Entry, Evaluated, is_of_1x, run};
use crate::api::Surroundings;
use crate::engine::{Root, ScriptError};
use crate::presence;
use crate::triage::{DOMAIN_DIR, domain_folders};

/// The file of a domain's settings.
const FILE: &str = "config.vsl";
/// Settings of domains, in the tree.
const VIRTUAL: &str = "server.virtual";
const OWN: &str = "server.domains";
/// The server's name; `server.domain` in 1.x.
const NAME: &str = "server.name";

/// Adds what the folders of domains say.
pub(super) fn add(
    evaluated: &mut Evaluated,
    context: &Context,
    defaults: &Value,
    host: &Surroundings,
) -> Result<(), ScriptError> {
    let mut handled = Vec::new();
    if let Some(folder) = folder(&evaluated.tree, context)? {
        let root = Root::open(Path::new(&context.config_dir))?;
        for (domain, path) in domain_folders(&root, &folder)? {
            let file = path.join(FILE);
            if presence::is_there(&file)? {
                add_settings(evaluated, &root, &domain, &file, host)?;
            }
            handled.push(domain);
        }
    }
    if evaluated.tree.at(OWN) == defaults.at(OWN) {
        if is_of_1x(Path::new(&evaluated.file)) {
            handled.extend(named(&evaluated.tree));
        }
        own(&mut evaluated.tree, handled.into_iter());
    }
    Ok(())
}

/// The domains of `server.virtual`; what is none is told of elsewhere.
fn named(tree: &Value) -> Vec<Domain> {
    match tree.at(VIRTUAL) {
        Some(Value::Map(all)) => all.keys().filter_map(|name| Domain::parse(name).ok()).collect(),
        _ => Vec::new(),
    }
}

/// The folder, if one is named or the usual one is there.
fn folder(tree: &Value, context: &Context) -> Result<Option<PathBuf>, ScriptError> {
    let beside = Path::new(&context.config_dir);
    Ok(match tree.at("app.vsl.domain_dir") {
        Some(Value::Text(path)) if path.starts_with('/') => Some(format!("{}{path}", context.root).into()),
        Some(Value::Text(path)) => Some(beside.join(path)),
        _ => {
            let usual = beside.join(DOMAIN_DIR);
            presence::is_folder(&usual)?.then_some(usual)
        }
    })
}

/// What one file says; it overrides what the main configuration says of the domain.
fn add_settings(
    evaluated: &mut Evaluated,
    root: &Arc<Root>,
    domain: &Domain,
    file: &Path,
    host: &Surroundings,
) -> Result<(), ScriptError> {
    let (name, text) = (root.display_name(file), root.read(file)?);
    let mut empty = Value::map();
    for section in DOMAIN_SECTIONS {
        empty.set(section, Value::map());
    }
    let prefix = format!("{VIRTUAL}.{domain}.");
    let handed = Handed::of(std::slice::from_ref(&text), Entry::Domain);
    let said = run(root, &name, &text, &empty, host, Entry::Domain).map_err(|error| {
        if error.location.file == name { domain_key(error, &text, &handed, &prefix) } else { error }
    })?;
    let mut places = KeyPlaces::default();
    places.scan(&name, &text, &handed);
    evaluated.places.take(&prefix, places);
    // A domain's name has dots, which paths of the tree use otherwise.
    let mut all = match evaluated.tree.at(VIRTUAL) {
        Some(Value::Map(all)) => all.clone(),
        _ => Default::default(),
    };
    let entry = all.entry(domain.to_string()).or_insert_with(Value::map);
    match (entry, said) {
        (Value::Map(entry), Value::Map(said)) => {
            entry.extend(said.into_iter().filter(|(_, value)| !value.says_nothing()));
        }
        (entry, said) => *entry = said,
    }
    evaluated.tree.set(VIRTUAL, Value::Map(all));
    Ok(())
}

/// Domains that are handled are ours, unless they are relayed.
fn own(tree: &mut Value, handled: impl Iterator<Item = Domain>) {
    let texts = |value: Option<&Value>| match value {
        Some(Value::List(items)) => items.clone(),
        _ => Vec::new(),
    };
    let relayed = texts(tree.at("server.relay_domains"));
    let is_relayed = |domain: &Domain| {
        relayed
            .iter()
            .any(|item| matches!(item, Value::Text(text) if Domain::parse(text).as_ref() == Ok(domain)))
    };
    let handled: Vec<Value> =
        handled.filter(|domain| !is_relayed(domain)).map(|domain| Value::Text(domain.to_string())).collect();
    if handled.is_empty() {
        return;
    }
    // As the default would be with the name that the script chose.
    let name = said(tree, NAME).cloned().into_iter();
    let mut domains: Vec<Value> = name.chain([Value::Text("localhost".to_owned())]).collect();
    domains.extend(handled);
    let mut seen = Vec::new();
    domains.retain(|domain| {
        let is_new = !seen.contains(domain);
        seen.push(domain.clone());
        is_new
    });
    tree.set(OWN, Value::List(domains));
}
