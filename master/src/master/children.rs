//! The children of the loop: started when they are due, heard, missed when they end. What a child says is a claim, and
//! one that says what it must not is ended.

use std::io::{self, Write};
use std::os::fd::AsRawFd;

use mio::Interest;
use mio::unix::SourceFd;
use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::ctl_master::Answer;
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_sys::signals::sd_notify;
use vsmtp_sys::{clock, spawn};

use super::Master;
use crate::boot;
use crate::child::State;
use crate::demo;
use crate::error::Error;
use crate::event::Event;
use crate::family::Life;
use crate::key_files;
use crate::launch::settings_role;
use crate::reload;
use crate::state_files::Place;

impl Master {
    pub(super) fn start_due(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        let now = clock::monotonic_ms();
        let mut due = self.family.due(now);
        due.sort_by_key(|name| Role::DAEMONS.iter().position(|role| *role == name.role));
        for name in due {
            if let Err(error) = self.start(name) {
                let wait_ms = self.family.stillborn(name, now);
                Record::at(log::Level::Error, "start-failed")
                    .field("process", name)
                    .field("error", error)
                    .field("retry_ms", wait_ms)
                    .emit();
            }
        }
    }

    fn start(&mut self, name: ProcessName) -> Result<(), Error> {
        let Some((place, generation)) = self.family.slot(name).map(|slot| (slot.place, slot.generation))
        else {
            return Ok(());
        };
        let kept = self.family.slot(name).and_then(|slot| slot.kept.clone());
        let slice = kept.map_or_else(|| reload::slice(&self.config, name.role), Ok);
        let slice = slice.map_err(|error| Error::System(error.to_string()))?;
        self.readings.note(name.role, generation, &self.config);
        let files = match name.role {
            Role::Keys => key_files::open(&self.config.keys())?,
            Role::Limits => Place::limits(&self.layout).open()?,
            Role::Resolver => Place::resolver(&self.layout).open()?,
            Role::FilterSession | Role::FilterPost => {
                boot::make_folders_of_rules(&self.launcher.accounts, &self.config);
                Vec::new()
            }
            _ => Vec::new(),
        };
        if matches!(name.role, Role::Limits | Role::Resolver) {
            self.state_files.note(name.role, &files)?;
        }
        let mut child = self.launcher.start(name, generation, slice)?;
        for (path, file) in files {
            child.say(&ToChild::File(path), Some(file));
        }
        self.poll
            .registry()
            .register(
                &mut SourceFd(&child.channel.socket().as_raw_fd()),
                Event::Child(name).token(),
                Interest::READABLE,
            )
            .map_err(Error::io("watch a child"))?;
        if name.role == Role::Auth {
            self.files.hand_to(&mut child, &self.config.master().auth_files());
        }
        let listeners = match name.role {
            Role::Receiver => self.listeners.for_receiver(place),
            Role::QueueManager => self.listeners.for_queue().map(|one| vec![one]),
            _ => Ok(Vec::new()),
        };
        for (listener, socket) in listeners.map_err(Error::io("copy a listening socket"))? {
            child.say(&ToChild::Listener(listener), Some(socket));
        }
        self.family.born(child);
        Ok(())
    }

    pub(super) fn hear_child(&mut self, name: ProcessName) {
        loop {
            let Some(child) = self.family.child(name) else { return };
            match child.channel.receive() {
                Ok(Some(received)) => self.hear(name, received.message),
                // The death itself is seen by the reaper, which knows how it ended.
                Ok(None) | Err(ChannelError::Closed) => return,
                Err(error) => {
                    Record::at(log::Level::Error, "child-misbehaved")
                        .field("process", name)
                        .field("error", error)
                        .emit();
                    self.family.kill(name);
                    return;
                }
            }
        }
    }

    fn hear(&mut self, name: ProcessName, message: ToMaster) {
        let Some(child) = self.family.child(name) else { return };
        child.heard_ms = clock::monotonic_ms();
        match message {
            ToMaster::Ready => {
                if child.state == State::Starting {
                    child.state = State::Ready;
                }
                let (pid, after_ms) =
                    (child.process.pid, clock::monotonic_ms().saturating_sub(child.started_ms));
                Record::new("ready")
                    .field("process", name)
                    .field("pid", pid)
                    .field("after_ms", after_ms)
                    .emit();
                reload::release_old(&mut self.family, self.generation, name.role);
                self.announce();
            }
            ToMaster::Declared(text) => child.declared = text,
            ToMaster::Serving => child.served = true,
            ToMaster::Beat(figures) => child.figures = figures,
            ToMaster::NeedLogSink => {
                // It asks again when it finds this one broken too.
                if let Ok(sink) = self.launcher.log.open_or_stand_in() {
                    child.say(&self.launcher.log.message(settings_role(child.name.role)), Some(sink));
                }
            }
            ToMaster::Misbehaved(accused) => self.family.accuse(name, accused),
            ToMaster::Fatal(text) => {
                Record::at(log::Level::Error, "fatal").field("process", name).field("error", &text).emit();
                if !self.announced {
                    self.fatal.get_or_insert(format!("{name}: {text}"));
                    self.stop();
                }
            }
            ToMaster::Limits { ticket, answer } if name.role == Role::Limits => {
                self.connections.answer_ticket(name, ticket, &Answer::Limits(answer));
            }
            ToMaster::Brakes { ticket, answer } if name.role == Role::Auth => {
                self.connections.answer_ticket(name, ticket, &Answer::Brakes(Some(answer)));
            }
            ToMaster::Limits { .. } | ToMaster::Brakes { .. } | ToMaster::Evaluated(_) => {
                self.family.kill(name);
            }
        }
    }

    /// Says once, when all are ready, that the service is up.
    fn announce(&mut self) {
        let all = self
            .family
            .slots()
            .all(|(_, slot)| matches!(&slot.life, Life::Running(c) if c.state == State::Ready));
        if self.announced || !all {
            return;
        }
        self.announced = true;
        Record::new("up").field("processes", self.family.slots().count()).emit();
        vsmtp_daemon::flush_log();
        let _ = sd_notify("READY=1");
        if let (true, Some(root)) = (self.arguments.demo, self.arguments.root.clone()) {
            let slice = self.config.master();
            let address = slice.listeners.first().map(|(address, _)| address.to_string()).unwrap_or_default();
            let mut out = io::stdout();
            let _ = demo::greet(&mut out, &address, &slice.mail_root, &root).and_then(|()| out.flush());
        }
    }

    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = spawn::wait_any() {
            let stopping = self.shutdown.is_some();
            let Some((name, back)) = self.family.died(pid, stopping, clock::monotonic_ms()) else { continue };
            let level = if back.is_some() { log::Level::Error } else { log::Level::Info };
            Record::at(level, "exited")
                .field("process", name)
                .field("pid", pid)
                .field("status", status)
                .maybe("restart_ms", back)
                .emit();
            self.connections.fail_tickets(name);
            reload::release_filters(&mut self.family, self.generation);
        }
    }
}
