//! A running daemon: one turn of its loop at a time.

use std::io;
use std::time::Duration;

use mio::Events;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::master_child::{BEAT_MS, ORPHAN_GRACE_MS, ToChild};

use crate::daemon::{Daemon, Event, Flow};
use crate::reactor::{FIRST_TOKEN, MASTER_TOKEN, Reactor};
use crate::sink;

/// Most events handled in one turn.
const MAX_EVENTS: usize = 256;

/// A daemon with its loop.
pub struct Live<D> {
    /// The daemon.
    pub daemon: D,
    /// Its loop.
    pub reactor: Reactor,
    events: Events,
    /// Monotonic time at which the process ends whatever is left; set when draining.
    end_ms: Option<u64>,
    orphaned: bool,
    /// What came from the master in one packet with the configuration was looked at; no event will announce it.
    caught_up: bool,
}

impl<D: Daemon> Live<D> {
    pub(crate) fn new(daemon: D, reactor: Reactor) -> Self {
        Live {
            daemon,
            reactor,
            events: Events::with_capacity(MAX_EVENTS),
            end_ms: None,
            orphaned: false,
            caught_up: false,
        }
    }

    /// Waits for events, handles them, flushes. `Exit` when the daemon or its deadline says so.
    ///
    /// # Errors
    /// The poll itself failed: nothing can go on.
    pub fn turn(&mut self) -> io::Result<Flow> {
        sink::flush_log();
        let timeout = self.timeout();
        if let Err(error) = self.reactor.poll.poll(&mut self.events, Some(timeout))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.reactor.read_clock();
        if self.handle() == Flow::Exit || self.end_ms.is_some_and(|end| self.reactor.now_ms() >= end) {
            self.flush_master();
            return Ok(Flow::Exit);
        }
        Ok(Flow::Continue)
    }

    fn handle(&mut self) -> Flow {
        if self.dispatch() == Flow::Exit {
            return Flow::Exit;
        }
        while let Some(key) = self.reactor.timers.pop_due(self.reactor.now_ms()) {
            if self.daemon.on_event(&mut self.reactor, Event::Timer(key)) == Flow::Exit {
                return Flow::Exit;
            }
        }
        if self.daemon.on_event(&mut self.reactor, Event::TurnEnd) == Flow::Exit {
            return Flow::Exit;
        }
        self.beat();
        self.flush_master();
        Flow::Continue
    }

    fn dispatch(&mut self) -> Flow {
        if !std::mem::replace(&mut self.caught_up, true) && self.hear_master() == Flow::Exit {
            return Flow::Exit;
        }
        let ready: Vec<(usize, bool, bool, bool)> = self
            .events
            .iter()
            .map(|event| {
                let failed = event.is_error();
                (
                    event.token().0,
                    event.is_readable() || event.is_read_closed() || failed,
                    event.is_writable() || failed,
                    event.is_read_closed() || failed,
                )
            })
            .collect();
        for (token, readable, writable, closed) in ready {
            let flow = if token == MASTER_TOKEN.0 {
                self.hear_master()
            } else if token < FIRST_TOKEN {
                Flow::Continue
            } else {
                self.daemon.on_event(&mut self.reactor, Event::Ready { token, readable, writable, closed })
            };
            if flow == Flow::Exit {
                return Flow::Exit;
            }
        }
        Flow::Continue
    }

    fn hear_master(&mut self) -> Flow {
        loop {
            match self.reactor.master.receive() {
                Ok(Some(received)) => {
                    let mut descriptors = received.descriptors.into_iter();
                    let event = match (received.message, descriptors.next()) {
                        (ToChild::Peer(name), Some(fd)) => Event::Peer(name, fd),
                        (ToChild::Listener(listener), Some(fd)) => Event::Listener(listener, fd),
                        (ToChild::File(path), Some(fd)) => Event::File(path, fd),
                        (ToChild::LogSink(sink), Some(fd)) => {
                            let level = crate::boot::level(sink.level);
                            sink::init_log(fd, sink.target, D::NAME, level, sink.facility);
                            continue;
                        }
                        (ToChild::Reconfigure(slice), _) => Event::Reconfigure(slice),
                        (ToChild::Limits { ticket, request }, _) => Event::Limits { ticket, request },
                        (ToChild::Brakes { ticket, request }, _) => Event::Brakes { ticket, request },
                        (ToChild::StopAccepting, _) => Event::StopAccepting,
                        (ToChild::Drain { deadline_ms }, _) => self.drain(deadline_ms),
                        _ => return self.orphan("master said what it may not say"),
                    };
                    if self.daemon.on_event(&mut self.reactor, event) == Flow::Exit {
                        return Flow::Exit;
                    }
                }
                Ok(None) => return Flow::Continue,
                Err(ChannelError::Closed) => return self.orphan("master is gone"),
                Err(error) => return self.orphan(&error.to_string()),
            }
        }
    }

    fn drain(&mut self, milliseconds: u64) -> Event {
        let deadline_ms = self.reactor.now_ms().saturating_add(milliseconds);
        self.end_ms = Some(self.end_ms.map_or(deadline_ms, |end| end.min(deadline_ms)));
        Event::Drain { deadline_ms }
    }

    /// The master is gone or mad: stop accepting at once, finish or refuse what is open, end within two seconds.
    fn orphan(&mut self, why: &str) -> Flow {
        if self.orphaned {
            return Flow::Continue;
        }
        self.orphaned = true;
        log::warn!("event=orphaned why=\"{why}\"");
        if self.daemon.on_event(&mut self.reactor, Event::StopAccepting) == Flow::Exit {
            return Flow::Exit;
        }
        let event = self.drain(ORPHAN_GRACE_MS);
        self.daemon.on_event(&mut self.reactor, event)
    }

    fn timeout(&mut self) -> Duration {
        if self.reactor.take_again() {
            return Duration::ZERO;
        }
        let now = vsmtp_sys::clock::monotonic_ms();
        let due = [Some(self.reactor.next_report_ms), self.reactor.timers.next_ms(), self.end_ms];
        let next = due.into_iter().flatten().min().unwrap_or(now);
        Duration::from_millis(next.saturating_sub(now))
    }

    fn beat(&mut self) {
        if self.orphaned || !self.reactor.reports_now() {
            return;
        }
        self.reactor.next_report_ms = self.reactor.now_ms() + BEAT_MS;
        self.reactor.figure("log_lines_dropped", sink::dropped());
        self.reactor.report();
        if sink::take_broken_log() {
            self.reactor.tell_master(&vsmtp_ipc::edge::master_child::ToMaster::NeedLogSink);
        }
    }

    fn flush_master(&mut self) {
        if !self.orphaned && self.reactor.master.flush().is_err() {
            self.reactor.turn_again();
        }
    }
}
