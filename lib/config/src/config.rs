//! From a tree of values to a checked configuration.
//!
//! On failure: every error of the tree is reported at once, and there is no configuration.

use std::collections::BTreeMap;

use vsmtp_mail::{Address, Domain};

use crate::cross_check;
use crate::error::{ConfigError, MAX_ERRORS, Problem, Warning};
use crate::keys::{DeliveryKeys, DnsKeys, FilterKeys, LogKeys, QueueKeys, ServerKeys, SmtpKeys, key, keys};
use crate::kind::Kind;
use crate::legacy::{Fate, LEGACY, Legacy};
use crate::nearest::nearest_key;
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
    pub(crate) filter: FilterKeys,
    pub(crate) delivery: DeliveryKeys,
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
            FilterKeys::read(&mut input),
            DeliveryKeys::read(&mut input),
            QueueKeys::read(&mut input),
            DnsKeys::read(&mut input),
            LogKeys::read(&mut input),
        );
        let Input { values, mut errors, warnings, .. } = input;
        errors.truncate(MAX_ERRORS);
        let (Some(server), Some(smtp), Some(filter), Some(delivery), Some(queue), Some(dns), Some(logs)) =
            groups
        else {
            return Err(errors);
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let postmaster = match &queue.postmaster {
            Some(address) => address.clone(),
            None => Address::new("postmaster", server.name.clone()).map_err(|error| {
                vec![ConfigError {
                    path: "server.name".to_owned(),
                    problem: Problem::Conflict(error.to_string()),
                }]
            })?,
        };
        let context = context.clone();
        let mut config = Config {
            context,
            server,
            smtp,
            filter,
            delivery,
            queue,
            dns,
            logs,
            postmaster,
            values,
            warnings,
        };
        config.derive();
        let conflicts = cross_check::conflicts(&config);
        if conflicts.is_empty() { Ok(config) } else { Err(conflicts) }
    }

    /// Keys that were accepted and have no effect.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Defaults that follow other keys rather than the context.
    fn derive(&mut self) {
        if let Some((value, true)) = self.values.get_mut("server.domains") {
            self.server.domains = own_domains(&self.server.name);
            *value = crate::kind::Domains.write(&self.server.domains);
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

/// The name of the server, and the name by which programs on every host mean their own.
fn own_domains(name: &Domain) -> Vec<Domain> {
    std::iter::once(name.clone()).chain(Domain::parse("localhost")).collect()
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
            fixed => fixed.fixed().unwrap_or(Value::Null),
        }
    }
}

/// The tree, sorted by key, and what was found wrong with it so far.
pub(crate) struct Input<'a> {
    context: &'a Context,
    said: BTreeMap<&'static str, &'a Value>,
    values: BTreeMap<&'static str, (Value, bool)>,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

impl<'a> Input<'a> {
    /// Walks the tree down to keys, and no deeper: their names bound the depth.
    fn sort(context: &'a Context, tree: &'a Value) -> Self {
        let mut input = Input {
            context,
            said: BTreeMap::new(),
            values: BTreeMap::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        let mut renamed = Vec::new();
        let mut pending = vec![(String::new(), tree)];
        while let Some((path, value)) = pending.pop() {
            if let Some(key) = key(&path) {
                input.said.insert(key.name, value);
            } else if let Some(legacy) = Legacy::of(&path) {
                input.legacy(path, legacy, value, &mut renamed);
            } else if is_section(&path) {
                let below =
                    |name: &String| if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match value {
                    Value::Map(map) => {
                        pending.extend(map.iter().rev().map(|(name, child)| (below(name), child)))
                    }
                    Value::Null => {}
                    other => input.wrong(&path, "a map".to_owned(), other.describe()),
                }
            } else if input.errors.len() < MAX_ERRORS {
                let nearest = nearest_key(&path);
                input
                    .errors
                    .push(ConfigError { path: shortened(path), problem: Problem::Unknown { nearest } });
            }
        }
        for (path, name, value) in renamed {
            input.rename(path, name, value);
        }
        input
    }

    fn legacy(
        &mut self,
        path: String,
        legacy: &Legacy,
        value: &'a Value,
        renamed: &mut Vec<(String, &'static str, &'a Value)>,
    ) {
        if let Some(problem) = legacy.problem(value) {
            self.errors.push(ConfigError { path, problem });
            return;
        }
        match legacy.fate {
            Fate::Renamed(name) if *value != Value::Null => renamed.push((path, name, value)),
            Fate::Retired(why) if !value.says_nothing() => {
                self.warnings.push(Warning { path, text: format!("has no effect: {why}") });
            }
            _ => {}
        }
    }

    /// Lets an old name speak for the new one, unless that speaks for itself.
    fn rename(&mut self, path: String, name: &'static str, value: &'a Value) {
        if self.said.get(name).is_some_and(|said| !self.is_default(name, said)) {
            let text = format!("says the same as {name}; set only that one");
            self.errors.push(ConfigError { path, problem: Problem::Conflict(text) });
            return;
        }
        self.said.insert(name, value);
        self.warnings.push(Warning { path, text: format!("is called {name} now") });
    }

    fn is_default(&self, name: &str, value: &Value) -> bool {
        let canonical = |value: &Value| key(name).and_then(|key| key.canonical(value).ok());
        let default = key(name).map(|key| key.default.value(self.context));
        canonical(value).is_some() && canonical(value) == default.as_ref().and_then(canonical)
    }

    /// The setting of one key: what the tree says, or the default. A value equal to the default counts as not said,
    /// because scripts start from a tree that holds every default.
    pub(crate) fn take<K: Kind>(&mut self, name: &'static str, kind: &K) -> Option<K::Out> {
        let default = key(name)?.default.value(self.context);
        let said = self.said.get(name).copied().filter(|value| **value != Value::Null);
        match kind.read(said.unwrap_or(&default)) {
            Ok(out) => {
                let value = kind.write(&out);
                let is_default = kind.read(&default).is_ok_and(|default| kind.write(&default) == value);
                self.values.insert(name, (value, is_default));
                Some(out)
            }
            Err(found) => {
                self.wrong(name, kind.expected(), found);
                None
            }
        }
    }

    fn wrong(&mut self, path: &str, expected: String, found: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors
                .push(ConfigError { path: path.to_owned(), problem: Problem::Value { expected, found } });
        }
    }
}

fn is_section(path: &str) -> bool {
    let above =
        |name: &str| path.is_empty() || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    keys().any(|key| above(key.name)) || LEGACY.iter().any(|legacy| above(legacy.name))
}

/// A script may make a name of any length; an error repeats its beginning only.
fn shortened(path: String) -> String {
    const MAX: usize = 100;
    let clean: String = path.chars().take(MAX).flat_map(char::escape_debug).collect();
    if path.chars().nth(MAX).is_some() { clean + "…" } else { clean }
}

#[cfg(test)]
mod tests;
