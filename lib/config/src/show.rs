//! What `vsmtpctl config show` prints; the master sends it as bytes.

use bincode::{Decode, Encode};

use crate::config::Config;
use crate::keys::keys;

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Row {
    /// Dotted name.
    pub key: String,
    /// The value as a script would write it.
    pub value: String,
    /// True if it is the default.
    pub is_default: bool,
    /// The doc sentence.
    pub doc: String,
}

impl Config {
    /// Every key, in the order of the documentation.
    pub fn show(&self) -> Vec<Row> {
        keys()
            .filter_map(|key| {
                let (value, is_default) = self.values.get(key.name)?;
                Some(Row {
                    key: key.name.to_owned(),
                    value: key.shown(value),
                    is_default: *is_default,
                    doc: key.doc(),
                })
            })
            .collect()
    }
}
