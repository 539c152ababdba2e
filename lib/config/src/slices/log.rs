//! How all processes log. Only the master is told: it opens the sink, and says to each child how much goes there.

use std::net::SocketAddr;

use bincode::{Decode, Encode};

use crate::config::Config;
use crate::keys::{SyslogType, TargetChoice};
use crate::table::Role;

/// How all processes log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogSlice {
    /// The least important level that is still written, of a role, or with `None` of all that have none of their own. The
    /// last word counts.
    pub levels: Vec<(Option<Role>, LogLevel)>,
    /// Where lines go.
    pub target: LogTarget,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LogTarget {
    /// Standard error, as the master inherited it.
    Stderr,
    /// This file, appended to. The master opens it; no other process may.
    File(String),
    /// A syslog daemon.
    Syslog(SyslogTransport, Facility),
    /// The systemd journal's own socket.
    Journald,
}

/// How the syslog daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SyslogTransport {
    /// Datagrams to this Unix socket.
    Unix(String),
    /// UDP (RFC 5426).
    Udp(SocketAddr),
    /// TCP (RFC 6587).
    Tcp(SocketAddr),
}

/// How important a line is, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum LogLevel {
    /// Something is broken and someone must act.
    Error,
    /// Something went wrong that the server handled.
    Warn,
    /// One line per event of a message's life.
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, level)| *level)
    }

    /// The word that configuration uses.
    pub fn name(self) -> &'static str {
        Self::WORDS.iter().find(|(_, level)| *level == self).map_or("info", |(word, _)| word)
    }
}

/// A syslog facility (RFC 5424 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Facility {
    Mail,
    Daemon,
    User,
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

impl Facility {
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[
        ("mail", Facility::Mail),
        ("daemon", Facility::Daemon),
        ("user", Facility::User),
        ("local0", Facility::Local0),
        ("local1", Facility::Local1),
        ("local2", Facility::Local2),
        ("local3", Facility::Local3),
        ("local4", Facility::Local4),
        ("local5", Facility::Local5),
        ("local6", Facility::Local6),
        ("local7", Facility::Local7),
    ];

    /// The facility's number.
    pub fn code(self) -> u8 {
        match self {
            Facility::User => 1,
            Facility::Mail => 2,
            Facility::Daemon => 3,
            Facility::Local0 => 16,
            Facility::Local1 => 17,
            Facility::Local2 => 18,
            Facility::Local3 => 19,
            Facility::Local4 => 20,
            Facility::Local5 => 21,
            Facility::Local6 => 22,
            Facility::Local7 => 23,
        }
    }
}

impl LogSlice {
    /// The least important level that a process of this role writes; info if nothing is said.
    pub fn level(&self, role: Role) -> LogLevel {
        let last = |whose| self.levels.iter().rev().find(|(of, _)| *of == whose).map(|(_, level)| *level);
        last(Some(role)).or_else(|| last(None)).unwrap_or(LogLevel::Info)
    }
}

impl Config {
    /// How all processes log.
    pub fn log(&self) -> LogSlice {
        LogSlice { levels: self.logs.level.clone(), target: self.log_target() }
    }

    fn log_target(&self) -> LogTarget {
        let keys = &self.logs;
        match (keys.target, &keys.filename) {
            (TargetChoice::Auto | TargetChoice::File, Some(path)) => LogTarget::File(self.placed(path)),
            (TargetChoice::Auto | TargetChoice::File | TargetChoice::Stderr, _) => LogTarget::Stderr,
            (TargetChoice::Journald, _) => LogTarget::Journald,
            (TargetChoice::Syslog, _) => {
                let transport = match keys.syslog_type {
                    SyslogType::Unix => SyslogTransport::Unix(keys.syslog_path.clone()),
                    SyslogType::Udp => SyslogTransport::Udp(keys.syslog_server),
                    SyslogType::Tcp => SyslogTransport::Tcp(keys.syslog_server),
                };
                LogTarget::Syslog(transport, keys.facility)
            }
        }
    }
}
