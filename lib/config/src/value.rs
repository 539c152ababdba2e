//! The tree of values that a configuration script produces, and its flat wire form.
//!
//! The wire form has no recursive type: a hostile sender must not choose the depth of our stack. A list holds scalars
//! only; whatever else sits in one travels as the name of its type, so that the error can say what was found.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use crate::wire::{self, WireError};

/// Deepest map inside a map. The longest key has five parts.
pub const MAX_DEPTH: usize = 16;
/// Most leaves of one tree.
pub const MAX_ENTRIES: usize = 65_536;
/// Most characters of a value that an error message repeats.
const MAX_QUOTED: usize = 60;

/// One value of a configuration tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing was said: the default holds.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(String),
    /// A list; the table accepts only lists of scalars.
    List(Vec<Value>),
    /// A section, or a map with free keys.
    Map(BTreeMap<String, Value>),
    /// Something that no key accepts; holds the script language's name of its type.
    Other(String),
}

impl Value {
    /// An empty section.
    pub fn map() -> Self {
        Value::Map(BTreeMap::new())
    }

    /// The value at a dotted path, such as `server.smtp.rcpt_count_max`.
    pub fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self, |node, part| match node {
            Value::Map(map) => map.get(part),
            _ => None,
        })
    }

    /// Puts a value at a dotted path and makes the sections above it; whatever stood in the way of one is replaced.
    pub fn set(&mut self, path: &str, value: Value) {
        self.set_parts(path.split('.'), value);
    }

    fn set_parts<'a>(&mut self, parts: impl Iterator<Item = &'a str>, value: Value) {
        let mut node = self;
        for part in parts {
            if !matches!(node, Value::Map(_)) {
                *node = Value::map();
            }
            let Value::Map(map) = node else { return };
            node = map.entry(part.to_owned()).or_insert(Value::Null);
        }
        *node = value;
    }

    /// What an error message says was found.
    pub fn describe(&self) -> String {
        match self {
            Value::Null => "nothing".to_owned(),
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Text(text) => quote(text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Other(kind) => format!("a value of type {}", quote(kind)),
        }
    }

    /// True for `()`, `false`, and empty texts, lists and maps: what a script writes to say "none of this".
    pub fn says_nothing(&self) -> bool {
        match self {
            Value::Null | Value::Bool(false) => true,
            Value::Text(text) => text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(map) => map.values().all(Value::says_nothing),
            Value::Bool(true) | Value::Int(_) | Value::Other(_) => false,
        }
    }

    /// The wire form of the tree. Fails on a tree deeper than [`MAX_DEPTH`] or with more than [`MAX_ENTRIES`] leaves.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WireError> {
        let mut entries = Vec::new();
        let mut pending = vec![(Vec::new(), self)];
        while let Some((path, node)) = pending.pop() {
            match node {
                Value::Map(map) if !map.is_empty() => {
                    if path.len() >= MAX_DEPTH || pending.len() + map.len() > MAX_ENTRIES {
                        return Err(WireError::TooLarge);
                    }
                    pending.extend(map.iter().map(|(name, child)| (joined(&path, name), child)));
                }
                leaf => entries.push(Entry { path, leaf: Leaf::of(leaf) }),
            }
            if entries.len() > MAX_ENTRIES {
                return Err(WireError::TooLarge);
            }
        }
        wire::encode(&entries)
    }

    /// Reads the wire form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let entries: Vec<Entry> = wire::decode(bytes)?;
        if entries.len() > MAX_ENTRIES {
            return Err(WireError::TooLarge);
        }
        let mut tree = Value::map();
        for Entry { path, leaf } in entries {
            if path.len() > MAX_DEPTH {
                return Err(WireError::TooLarge);
            }
            if path.is_empty() && !matches!(leaf, Leaf::EmptyMap) {
                return Err(WireError::Malformed);
            }
            tree.set_parts(path.iter().map(String::as_str), leaf.into_value());
        }
        Ok(tree)
    }
}

fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        short.push('…');
    }
    format!("\"{short}\"")
}

fn joined(path: &[String], name: &str) -> Vec<String> {
    path.iter().cloned().chain([name.to_owned()]).collect()
}

/// One leaf of the tree with the names that lead to it. Names may hold dots (addresses), so the path is a list.
#[derive(Encode, Decode)]
struct Entry {
    path: Vec<String>,
    leaf: Leaf,
}

#[derive(Encode, Decode)]
enum Leaf {
    One(Scalar),
    Many(Vec<Scalar>),
    EmptyMap,
}

#[derive(Encode, Decode)]
enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    Other(String),
}

impl Leaf {
    fn of(value: &Value) -> Self {
        match value {
            Value::List(items) => Leaf::Many(items.iter().map(Scalar::of).collect()),
            Value::Map(_) => Leaf::EmptyMap,
            scalar => Leaf::One(Scalar::of(scalar)),
        }
    }

    fn into_value(self) -> Value {
        match self {
            Leaf::One(scalar) => scalar.into_value(),
            Leaf::Many(items) => Value::List(items.into_iter().map(Scalar::into_value).collect()),
            Leaf::EmptyMap => Value::map(),
        }
    }
}

impl Scalar {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Scalar::Null,
            Value::Bool(flag) => Scalar::Bool(*flag),
            Value::Int(number) => Scalar::Int(*number),
            Value::Text(text) => Scalar::Text(text.clone()),
            Value::List(_) => Scalar::Other("list".to_owned()),
            Value::Map(_) => Scalar::Other("map".to_owned()),
            Value::Other(kind) => Scalar::Other(kind.clone()),
        }
    }

    fn into_value(self) -> Value {
        match self {
            Scalar::Null => Value::Null,
            Scalar::Bool(flag) => Value::Bool(flag),
            Scalar::Int(number) => Value::Int(number),
            Scalar::Text(text) => Value::Text(text),
            Scalar::Other(kind) => Value::Other(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            ".{0,12}".prop_map(Value::Text),
            "[a-z]{1,6}".prop_map(Value::Other),
        ];
        let leaf = prop_oneof![scalar.clone(), prop::collection::vec(scalar, 0..4).prop_map(Value::List),];
        let map = leaf.prop_recursive(4, 32, 6, |inner| {
            prop::collection::btree_map("[a-z.@]{1,8}", inner, 0..6).prop_map(Value::Map)
        });
        prop::collection::btree_map("[a-z]{1,8}", map, 0..6).prop_map(Value::Map)
    }

    proptest! {
        #[test]
        fn a_tree_survives_the_wire(tree in tree()) {
            prop_assert_eq!(Value::from_bytes(&tree.to_bytes().unwrap()).unwrap(), tree);
        }

        #[test]
        fn hostile_bytes_are_an_error_or_a_tree(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Value::from_bytes(&bytes);
        }

        #[test]
        fn truncated_bytes_are_an_error(tree in tree(), cut in any::<prop::sample::Index>()) {
            let bytes = tree.to_bytes().unwrap();
            prop_assert!(Value::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn depth_is_bounded_both_ways() {
        let deep = (0..=MAX_DEPTH)
            .fold(Value::Int(1), |inner, _| Value::Map(BTreeMap::from([("x".to_owned(), inner)])));
        assert_eq!(deep.to_bytes(), Err(WireError::TooLarge));
        let path = vec!["x".to_owned(); MAX_DEPTH + 1];
        let bytes = wire::encode(&vec![Entry { path, leaf: Leaf::EmptyMap }]).unwrap();
        assert_eq!(Value::from_bytes(&bytes), Err(WireError::TooLarge));
    }

    #[test]
    fn a_leaf_cannot_replace_the_whole_tree() {
        let bytes = wire::encode(&vec![Entry { path: vec![], leaf: Leaf::One(Scalar::Null) }]).unwrap();
        assert_eq!(Value::from_bytes(&bytes), Err(WireError::Malformed));
    }

    #[test]
    fn paths_lead_to_values() {
        let mut tree = Value::map();
        tree.set("a.b.c", Value::Int(1));
        assert_eq!(tree.at("a.b.c"), Some(&Value::Int(1)));
        assert_eq!(tree.at("a.b.c.d"), None);
        tree.set("a.b", Value::Bool(true));
        assert_eq!(tree.at("a.b.c"), None);
    }
}
