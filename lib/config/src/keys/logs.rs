//! Logs: how much, and where to.

use crate::kind::{FilePath, Levels, MaybePath, OneOf, ServerAddress};
use crate::slices::Facility;
use crate::table::Preset::{List, Text, Unset};

/// Where lines go; `Auto` is a file if one is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetChoice {
    Auto,
    Stderr,
    File,
    Syslog,
    Journald,
}

impl TargetChoice {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", TargetChoice::Auto),
        ("stderr", TargetChoice::Stderr),
        ("file", TargetChoice::File),
        ("syslog", TargetChoice::Syslog),
        ("journald", TargetChoice::Journald),
    ];
}

/// How a syslog daemon is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyslogType {
    Unix,
    Udp,
    Tcp,
}

impl SyslogType {
    const WORDS: &'static [(&'static str, Self)] =
        &[("unix", SyslogType::Unix), ("udp", SyslogType::Udp), ("tcp", SyslogType::Tcp)];
}

keys! {
    /// Keys of logs.
    LogKeys;

    /// Where log lines go: `stderr`, `file`, `syslog` or `journald`; `auto` is the file of `server.logs.filename` if it
    /// is set, and otherwise stderr, which systemd passes to its journal.
    target: OneOf<TargetChoice> { of: TargetChoice::WORDS } = "server.logs.target", default Text("auto"),
        example Text("journald"), for Master;

    /// The log file.
    filename: MaybePath = "server.logs.filename", default Unset, example Text("/var/log/vsmtp/vsmtp.log"),
        for Master;

    /// How much is logged: a level for all processes, and levels for some, as in `["info", "receiver=debug"]`.
    level: Levels = "server.logs.level", default List(&["info"]), example List(&["warn"]),
        for Master;

    /// How the syslog daemon is reached: its Unix socket, UDP or TCP.
    syslog_type: OneOf<SyslogType> { of: SyslogType::WORDS } = "server.logs.syslog.type", default Text("unix"),
        example Text("udp"), for Master;

    /// The syslog daemon's Unix socket.
    syslog_path: FilePath = "server.logs.syslog.path", default Text("/dev/log"), example Text("/run/systemd/journal/dev-log"),
        for Master;

    /// The syslog daemon's address, for the types `udp` and `tcp`.
    syslog_server: ServerAddress { default_port: 514 } = "server.logs.syslog.server", default Text("127.0.0.1:514"),
        example Text("192.0.2.1:601"), for Master;

    /// The syslog facility.
    facility: OneOf<Facility> { of: Facility::WORDS } = "server.logs.syslog.facility", default Text("mail"),
        example Text("local0"), for Master;
}
