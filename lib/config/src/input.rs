//! Sorts a tree of values by key: finds what is unknown, what has another name now, and what each key says.

use std::collections::BTreeMap;

use crate::config::Context;
use crate::error::{ConfigError, MAX_ERRORS, Problem, Warning};
use crate::keys::{key, keys};
use crate::kind::Kind;
use crate::legacy::{Fate, LEGACY, Legacy};
use crate::nearest::nearest_key;
use crate::value::Value;

/// The tree, sorted by key, and what was found wrong with it so far.
pub(crate) struct Input<'a> {
    context: &'a Context,
    said: BTreeMap<&'static str, &'a Value>,
    /// Canonical value of each key that was read, with whether it is the default.
    pub(crate) values: BTreeMap<&'static str, (Value, bool)>,
    /// At most [`MAX_ERRORS`].
    pub(crate) errors: Vec<ConfigError>,
    /// At most [`MAX_ERRORS`].
    pub(crate) warnings: Vec<Warning>,
}

impl<'a> Input<'a> {
    /// Walks the tree down to keys, and no deeper: their names bound the depth.
    pub(crate) fn sort(context: &'a Context, tree: &'a Value) -> Self {
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
                input.error(path, Problem::Unknown { nearest });
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
        match legacy.fate {
            Fate::Renamed(name) if *value != Value::Null => renamed.push((path, name, value)),
            Fate::Retired(why) if !value.says_nothing() => {
                self.warning(path, format!("has no effect: {why}"));
            }
            _ => {}
        }
    }

    /// Lets an old name speak for the new one, unless that speaks for itself.
    fn rename(&mut self, path: String, name: &'static str, value: &'a Value) {
        if self.said.get(name).is_some_and(|said| !self.is_default(name, said)) {
            let text = format!("says the same as {name}; set only that one");
            return self.error(path, Problem::Conflict(text));
        }
        self.said.insert(name, value);
        self.warning(path, format!("is called {name} now"));
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
                let remarks = said.map(|said| kind.remarks(said)).unwrap_or_default();
                for text in remarks {
                    self.warning(name.to_owned(), text);
                }
                Some(out)
            }
            Err(found) => {
                self.wrong(name, kind.expected(), found);
                None
            }
        }
    }

    fn wrong(&mut self, path: &str, expected: String, found: String) {
        self.error(path.to_owned(), Problem::Value { expected, found });
    }

    fn error(&mut self, path: String, problem: Problem) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(ConfigError { path: shortened(path), problem });
        }
    }

    fn warning(&mut self, path: String, text: String) {
        if self.warnings.len() < MAX_ERRORS {
            self.warnings.push(Warning { path: shortened(path), text });
        }
    }
}

pub(crate) fn is_section(path: &str) -> bool {
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
