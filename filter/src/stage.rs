//! The stages of a transaction, in order, with the names that scripts use.

use std::fmt;

/// When a script runs. The order is the order of a transaction, so `a < b` means "a comes first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// A client connected; nothing was said yet.
    Connect,
    /// HELO or EHLO.
    Helo,
    /// The client sent credentials.
    Authenticate,
    /// MAIL FROM.
    Mail,
    /// One RCPT TO.
    Rcpt,
    /// The whole message is here, the reply to it is not.
    Preq,
    /// The message is in the queue, no delivery was tried.
    Postq,
    /// Delivery is about to be tried for the first time.
    Delivery,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 8] = [
        Stage::Connect,
        Stage::Helo,
        Stage::Authenticate,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Preq,
        Stage::Postq,
        Stage::Delivery,
    ];

    /// The key of the stage map.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Helo => "helo",
            Stage::Authenticate => "authenticate",
            Stage::Mail => "mail",
            Stage::Rcpt => "rcpt",
            Stage::Preq => "preq",
            Stage::Postq => "postq",
            Stage::Delivery => "delivery",
        }
    }

    /// The stage that a key of the stage map names.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Position in [`Stage::ALL`], for tables.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_agree() {
        for (at, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage.index(), at);
            assert_eq!(Stage::parse(stage.name()), Some(stage));
        }
        assert_eq!(Stage::parse("rcpts"), None);
    }
}
