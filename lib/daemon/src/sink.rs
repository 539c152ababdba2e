//! Where log lines go: a file or terminal, syslog, or journald, through one inherited descriptor. Lines of a turn are
//! written together; nothing here blocks, and what the sink does not take is dropped and counted. What is read slowly, a pipe
//! or a terminal, is given some time: a bounded number of lines waits for it.
//!
//! A broken datagram sink (syslogd restarted) is reported to the master, which sends a fresh descriptor: a jailed process
//! cannot open one.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata};
use syslog::{LogFormat, Severity};
use vsmtp_ipc::edge::master_child::LogTarget;
use vsmtp_mail::Rfc5322Date;
use vsmtp_sys::{fds, seqpacket};

/// Lines are written at the end of a turn, or as soon as so many octets wait. At level debug, each is written at once. Where
/// so many cannot be written, further lines are dropped.
const MAX_WAITING: usize = 64 * 1024;
/// A pipe takes so many octets in one piece, or none (PIPE_BUF): nobody else's lines get in between.
const PIPE_PIECE: usize = 4096;

/// The syslog facility of mail (RFC 5424 6.2.1).
const MAIL: u8 = 2;

static SINK: LineSink = LineSink {
    state: Mutex::new(State {
        out: None,
        manner: Manner::File,
        target: LogTarget::Stream,
        name: "",
        facility: MAIL,
        pid: 0,
        stamp: (0, String::new()),
        waiting: Vec::new(),
    }),
    broken: AtomicBool::new(false),
    dropped: AtomicU64::new(0),
};

/// The process's one log sink.
pub struct LineSink {
    state: Mutex<State>,
    broken: AtomicBool,
    dropped: AtomicU64,
}

struct State {
    out: Option<File>,
    manner: Manner,
    target: LogTarget,
    name: &'static str,
    facility: u8,
    /// Asked once: it is a system call, and there is a line for each message.
    pid: u32,
    /// A second since 1970 as text: many lines share it.
    stamp: (u64, String),
    waiting: Vec<u8>,
}

/// How a stream of lines is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// At once, whatever its length.
    File,
    /// Whole lines at a time.
    Pipe,
    /// So that it makes nobody wait, though others use it who want to wait.
    Socket,
}

impl Manner {
    fn of(out: &OwnedFd) -> Manner {
        match out.as_fd() {
            out if fds::is_socket(out) => Manner::Socket,
            out if fds::is_pipe(out) => Manner::Pipe,
            _ => Manner::File,
        }
    }
}

/// Points the log at a descriptor, first or again. What waits for the old one is written to it.
pub fn init_log(out: OwnedFd, target: LogTarget, name: &'static str, level: LevelFilter, facility: u8) {
    let mut state = SINK.lock();
    let dropped = state.point(out, target);
    SINK.dropped.fetch_add(dropped, Ordering::Relaxed);
    state.facility = facility;
    state.pid = std::process::id();
    state.name = name;
    drop(state);
    SINK.broken.store(false, Ordering::Relaxed);
    // A second call finds the logger set already; only its descriptor changes then.
    let _ = log::set_logger(&SINK);
    log::set_max_level(level);
}

/// Writes what waits. Call before waiting for anything.
pub fn flush_log() {
    SINK.flush();
}

/// True once after the sink broke: another should be opened.
pub fn take_broken_log() -> bool {
    SINK.broken.swap(false, Ordering::Relaxed)
}

/// Lines that no sink took.
pub(crate) fn dropped() -> u64 {
    SINK.dropped.load(Ordering::Relaxed)
}

impl LineSink {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic between two lines leaves the buffer whole; the log must outlive it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, result: Result<(), Dropped>) {
        if let Err(Dropped { lines, broken }) = result {
            self.dropped.fetch_add(lines, Ordering::Relaxed);
            if broken {
                self.broken.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Log for LineSink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut state = self.lock();
        let result = match state.target {
            LogTarget::Stream => state.take(record),
            LogTarget::Syslog => {
                let datagram = syslog_datagram(state.name, state.facility, record);
                state.send(&datagram)
            }
            LogTarget::SyslogStream => {
                let line = syslog_datagram(state.name, state.facility, record);
                state.send(&[format!("{} ", line.len()).as_bytes(), &line].concat())
            }
            LogTarget::Journald => {
                let datagram = journald_datagram(state.name, state.facility, record);
                state.send(&datagram)
            }
        };
        self.note(result);
    }

    fn flush(&self) {
        let result = self.lock().write_waiting();
        self.note(result);
    }
}

/// What a sink did not take.
struct Dropped {
    lines: u64,
    /// Another one should be opened.
    broken: bool,
}

impl State {
    /// Turns to another sink. Answers the lines that neither the old one nor this one takes.
    fn point(&mut self, out: OwnedFd, target: LogTarget) -> u64 {
        let mut dropped = self.write_waiting().err().map_or(0, |dropped| dropped.lines);
        // What waits is lines of a stream, and no datagram.
        if target != LogTarget::Stream {
            dropped += self.lines_waiting();
            self.waiting.clear();
        }
        self.manner = Manner::of(&out);
        self.out = Some(File::from(out));
        self.target = target;
        dropped
    }

    fn lines_waiting(&self) -> u64 {
        self.waiting.iter().filter(|octet| **octet == b'\n').count() as u64
    }

    /// Takes a line of a stream, and writes what waits if it is time to.
    fn take(&mut self, record: &log::Record<'_>) -> Result<(), Dropped> {
        if self.is_full() {
            return Err(Dropped { lines: 1, broken: false });
        }
        write_stream_line(self, record);
        // Whoever looks for a fault wants to see each line before what comes of it.
        let urgent = record.level() == Level::Error
            || log::max_level() >= LevelFilter::Debug
            || self.waiting.len() > MAX_WAITING;
        if urgent { self.write_waiting() } else { Ok(()) }
    }

    /// True if there is room for no more lines, because whoever reads them does not.
    fn is_full(&mut self) -> bool {
        self.waiting.len() > MAX_WAITING
            && (self.write_waiting().is_err() || self.waiting.len() > MAX_WAITING)
    }

    /// Writes what waits, as far as it is taken now. What is not taken by the end of the process is lost with it, uncounted.
    fn write_waiting(&mut self) -> Result<(), Dropped> {
        let mut written = 0;
        let result = loop {
            let rest = self.waiting.get(written..).unwrap_or_default();
            let (false, Some(out)) = (rest.is_empty(), &mut self.out) else {
                written = self.waiting.len();
                break Ok(());
            };
            match write_to(out, self.manner, rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.waiting.drain(..written);
        match result {
            Ok(()) => Ok(()),
            // It is read slowly: the rest comes with the next ones.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => {
                let lines = self.lines_waiting();
                self.waiting.clear();
                Err(Dropped { lines, broken: true })
            }
        }
    }

    fn send(&mut self, datagram: &[u8]) -> Result<(), Dropped> {
        let sent = match &mut self.out {
            Some(out) => out.write(datagram).map(|_| ()),
            None => Ok(()),
        };
        sent.map_err(|error| Dropped { lines: 1, broken: error.kind() != io::ErrorKind::WouldBlock })
    }
}

fn write_to(out: &mut File, manner: Manner, octets: &[u8]) -> io::Result<usize> {
    match manner {
        Manner::File => out.write(octets),
        Manner::Socket => seqpacket::send(&*out, &[IoSlice::new(octets)], &[]),
        Manner::Pipe => {
            let piece = octets.get(..PIPE_PIECE).unwrap_or(octets);
            let whole = piece.iter().rposition(|octet| *octet == b'\n').map_or(piece.len(), |at| at + 1);
            out.write(piece.get(..whole).unwrap_or(piece))
        }
    }
}

fn write_stream_line(state: &mut State, record: &log::Record<'_>) {
    let now = vsmtp_sys::clock::wall_ms();
    if state.stamp.0 != now / 1000 {
        state.stamp = (now / 1000, Rfc5322Date(now / 1000).rfc3339());
    }
    let _ = writeln!(
        state.waiting,
        "{}.{:03}Z {}[{}] {} {}",
        state.stamp.1.trim_end_matches('Z'),
        now % 1000,
        state.name,
        state.pid,
        level_word(record.level()),
        OneLine(record.args())
    );
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// RFC 3164 through the syslog crate's formatter types, without its time stamp (the daemon that reads stamps), its UTC
/// bug and its stale pid.
fn syslog_datagram(name: &str, facility: u8, record: &log::Record<'_>) -> Vec<u8> {
    let formatter = Tagged { name, pid: std::process::id(), facility };
    let mut out = Vec::with_capacity(256);
    let _ = formatter.format(&mut out, severity(record.level()), OneLine(record.args()).to_string());
    out
}

struct Tagged<'a> {
    name: &'a str,
    pid: u32,
    facility: u8,
}

impl<T: std::fmt::Display> LogFormat<T> for Tagged<'_> {
    fn format<W: Write>(&self, out: &mut W, severity: Severity, message: T) -> syslog::Result<()> {
        let priority = (self.facility << 3) | severity as u8;
        write!(out, "<{priority}>{}[{}]: {message}", self.name, self.pid)?;
        Ok(())
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Error => Severity::LOG_ERR,
        Level::Warn => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_INFO,
        Level::Debug | Level::Trace => Severity::LOG_DEBUG,
    }
}

/// journald's native protocol: one field per line.
fn journald_datagram(name: &str, facility: u8, record: &log::Record<'_>) -> Vec<u8> {
    format!(
        "PRIORITY={}\nSYSLOG_FACILITY={facility}\nSYSLOG_IDENTIFIER={name}\nMESSAGE={}\n",
        severity(record.level()) as u8,
        OneLine(record.args())
    )
    .into_bytes()
}

/// Text from libraries may hold line breaks; a log line may not.
struct OneLine<T>(T);

impl<T: std::fmt::Display> std::fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        struct Clean<'a, 'b>(&'a mut std::fmt::Formatter<'b>);
        impl std::fmt::Write for Clean<'_, '_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                let is_plain = text.bytes().all(|octet| matches!(octet, b' '..=b'~'));
                if is_plain || !text.contains(char::is_control) {
                    return self.0.write_str(text);
                }
                text.chars().try_for_each(|c| {
                    std::fmt::Write::write_char(self.0, if c.is_control() { '?' } else { c })
                })
            }
        }
        use std::fmt::Write as _;
        write!(Clean(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn state(out: OwnedFd) -> State {
        State {
            manner: Manner::of(&out),
            out: Some(File::from(out)),
            target: LogTarget::Stream,
            name: "vsmtp-x",
            facility: MAIL,
            pid: 1,
            stamp: (0, String::new()),
            waiting: Vec::new(),
        }
    }

    /// Logs until lines are dropped; how many were taken.
    fn fill(state: &mut State) -> usize {
        let line = |state: &mut State, number: usize| {
            let args = format_args!("event=x number={number} {}", "x".repeat(number % 300));
            state.take(&log::Record::builder().level(Level::Error).args(args).build())
        };
        (0..100_000).take_while(|number| line(state, *number).is_ok()).count()
    }

    /// What is read while the writer goes on.
    fn drain(state: &mut State, mut reader: impl Read) -> String {
        let (mut text, mut chunk) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            let _ = state.write_waiting();
            match reader.read(&mut chunk) {
                Ok(count @ 1..) => text.extend_from_slice(&chunk[..count]),
                _ => return String::from_utf8(text).unwrap(),
            }
        }
    }

    #[test]
    fn who_does_not_read_keeps_nobody_waiting_and_finds_whole_lines() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut slow = state(fds::open_again_nonblocking(writer.as_fd()).unwrap());
        let taken = fill(&mut slow);
        assert!((200..20_000).contains(&taken), "{taken}");
        assert!(slow.waiting.len() <= MAX_WAITING + 1024);
        fds::set_nonblocking(&reader).unwrap();
        let text = drain(&mut slow, reader);
        assert_eq!(text.lines().filter(|line| line.contains("event=x number=")).count(), taken);
        assert_eq!(text.lines().count(), taken);
    }

    #[test]
    fn a_socket_that_others_write_to_as_well_keeps_nobody_waiting_either() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut slow = state(writer.into());
        let taken = fill(&mut slow);
        reader.set_nonblocking(true).unwrap();
        assert_eq!(drain(&mut slow, reader).lines().count(), taken);
    }

    #[test]
    fn what_waits_for_a_stream_goes_to_the_next_stream_and_into_no_datagram() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let full = || {
            let mut slow = state(fds::open_again_nonblocking(writer.as_fd()).unwrap());
            let _ = fill(&mut slow);
            slow
        };
        let (mut one, mut other) = (full(), full());
        let (mut reader, next) = std::io::pipe().unwrap();
        fds::set_nonblocking(&next).unwrap();
        fds::set_nonblocking(&reader).unwrap();
        assert_eq!(one.point(next.into(), LogTarget::Stream), 0);
        assert!(drain(&mut one, &mut reader).len() > MAX_WAITING);
        let (_daemon, ours) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(other.point(ours.into(), LogTarget::Syslog) > 100);
        assert!(other.waiting.is_empty());
    }

    #[test]
    fn lines_that_a_broken_sink_has_not_taken_are_counted() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut full = state(full.into());
        let line = |level| log::Record::builder().level(level).args(format_args!("event=x")).build();
        assert!(full.take(&line(Level::Info)).is_ok());
        let dropped = full.take(&line(Level::Error)).err();
        assert_eq!(dropped.map(|dropped| (dropped.lines, dropped.broken)), Some((2, true)));
    }

    #[test]
    fn datagrams_are_one_line_whatever_the_text() {
        let text = "a\nPRIORITY=0\r\x1b";
        let made = |make: fn(&str, u8, &log::Record<'_>) -> Vec<u8>| {
            let bytes = make("vsmtp-x", MAIL, &log::Record::builder().args(format_args!("{text}")).build());
            String::from_utf8(bytes).unwrap()
        };
        let syslog = made(syslog_datagram);
        assert!(syslog.starts_with("<22>vsmtp-x["), "{syslog}");
        assert!(syslog.ends_with("]: a?PRIORITY=0??"), "{syslog}");
        let journald = made(journald_datagram);
        assert_eq!(journald.lines().count(), 4, "{journald}");
    }
}
