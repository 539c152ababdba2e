//! The handshake of one session: when it begins, who does which step, and what follows. While it lasts nothing else is
//! read or written; it has one deadline, which no progress moves.

use std::os::fd::AsFd;

use mio::Interest;
use vsmtp_daemon::Record;
use vsmtp_ipc::wire;
use vsmtp_smtp::{TlsFacts, Verdict};
use vsmtp_tls::server::{Failure, Finished, Terms};

use super::asking::Topic;
use super::client::{Client, Fate, Who, Why};
use crate::connection::Next;
use crate::services::Context;

impl Client {
    /// On which terms this client may have TLS; `None` if it cannot have it now.
    pub(super) fn terms(&self, context: &mut Context<'_>) -> Option<Terms> {
        let server = match self.who {
            Who::Network { server, .. } => server,
            Who::Local(_) => return None,
        };
        context.services.tls.terms(self.service, server, self.manner.tls_row)
    }

    /// True if STARTTLS is of use now: without the key holder nobody signs, and a client that has been told to begin cannot go back
    /// to clear text.
    pub(super) fn can_start_tls(&self, context: &mut Context<'_>) -> bool {
        context.services.tls.has_keys() && self.terms(context).is_some()
    }

    /// Whether the client may begin a handshake now. One that begins with TLS is not asked, and may find that there is no place.
    pub(super) fn may_begin_handshake(&self, context: &mut Context<'_>) -> bool {
        // Where TLS comes first there is nothing else to be had, and a ticket may need no signature.
        let is_there = match self.service.begins_with_tls() {
            true => self.terms(context).is_some(),
            false => self.can_start_tls(context),
        };
        if !is_there {
            return false;
        }
        let busy = !self.service.begins_with_tls() && context.services.tls.is_busy();
        if busy {
            self.too_many_handshakes(context);
        }
        !busy
    }

    fn too_many_handshakes(&self, context: &mut Context<'_>) {
        context.services.figures.handshakes_refused += 1;
        if context.services.tls.says_busy(context.reactor.now_ms()) {
            Record::at(log::Level::Warn, "tls-busy").field("client", self.who).emit();
        }
    }

    /// From now on the client must speak TLS; without terms the session is over.
    pub(super) fn begin_handshake(&mut self, context: &mut Context<'_>) {
        let Some(terms) = self.terms(context) else {
            self.doomed = Some(Why::NoTls);
            return;
        };
        self.socket.begin_handshake(terms);
        self.start_handshake_clock(context);
    }

    /// Whether a client that begins with TLS may come in; if so, whether it may have its handshake comes next. One that may not
    /// is left without a word, as below.
    pub(super) fn let_in(&mut self, context: &mut Context<'_>, verdict: &Verdict) {
        if !matches!(verdict, Verdict::Accept | Verdict::AcceptWith(_)) {
            self.doomed = Some(Why::Limited);
            return;
        }
        self.limited.consulted = false;
        self.topic = Some(Topic::Handshake);
        self.proceed(context);
    }

    /// Whether a client may have the handshake with which it begins. One that may not is left without a word, for it would
    /// not understand any.
    pub(super) fn handshake_decided(&mut self, context: &mut Context<'_>, verdict: &Verdict) {
        match verdict {
            Verdict::Accept | Verdict::AcceptWith(_) => self.begin_handshake(context),
            Verdict::Refuse(_) | Verdict::Close(_) => self.doomed = Some(Why::Limited),
            Verdict::Unavailable => self.doomed = Some(Why::NoTls),
        }
    }

    /// Goes on with the handshake as far as the client has got, if it is its turn. What the client says meanwhile waits in the
    /// socket, and the deadline does not.
    pub(super) fn shake(&mut self, context: &mut Context<'_>) -> Fate {
        if self.line.in_line {
            return Fate::Stay;
        }
        self.line.in_line = !context.services.tls.turns.take(self.number);
        if self.line.in_line {
            context.services.figures.handshakes_waited += 1;
            return Fate::Stay;
        }
        let next = self.socket.shake();
        self.follow(context, next)
    }

    /// It is its turn.
    pub fn on_turn(&mut self, context: &mut Context<'_>) -> Fate {
        self.line.in_line = false;
        // It may have ended its handshake otherwise meanwhile.
        if !self.socket.is_in_handshake() {
            return Fate::Stay;
        }
        let next = self.socket.shake();
        self.follow(context, next)
    }

    /// The step that was done elsewhere has come back.
    pub fn on_handshake(&mut self, context: &mut Context<'_>, finished: Finished) -> Fate {
        let next = self.socket.resume(finished);
        self.follow(context, next)
    }

    fn follow(&mut self, context: &mut Context<'_>, next: Next) -> Fate {
        match next {
            Next::Wait => self.watch_handshake(context),
            Next::Work(work) => {
                // Who has heard 220 was promised a place.
                if context.services.tls.work(self.number, work, !self.service.begins_with_tls()) {
                    return Fate::Stay;
                }
                self.too_many_handshakes(context);
                Fate::Gone(Why::NoTls)
            }
            Next::Done(facts) => self.secured(context, *facts),
            Next::Failed(why) => {
                context.services.figures.handshakes_failed += 1;
                if let Failure::Refused(text) = why {
                    Record::new("tls-failed")
                        .field("session", self.number)
                        .field("client", self.who)
                        .field("error", text)
                        .emit();
                }
                Fate::Gone(Why::Handshake)
            }
        }
    }

    /// Waits for what the handshake needs.
    fn watch_handshake(&mut self, context: &mut Context<'_>) -> Fate {
        let blocked = self.socket.has_unsent();
        if blocked != self.line.blocked {
            let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            if context.reactor.reregister(self.socket.as_fd(), self.token(), interest).is_err() {
                return Fate::Gone(Why::Stalled);
            }
            self.line.blocked = blocked;
        }
        Fate::Stay
    }

    /// The handshake is done: the dialogue begins, or begins again.
    fn secured(&mut self, context: &mut Context<'_>, facts: vsmtp_tls::Facts) -> Fate {
        let figures = &mut context.services.figures;
        figures.handshakes += 1;
        figures.handshakes_resumed += u64::from(facts.resumed);
        Record::at(log::Level::Debug, "secured")
            .field("session", self.number)
            .field("client", self.who)
            .field("tls", facts.protocol)
            .field("cipher", facts.cipher)
            .maybe("sni", facts.sni.as_deref())
            .field("resumed", facts.resumed)
            .maybe("fingerprint", facts.peer.as_ref().map(|peer| peer.hex()))
            .emit();
        self.dialogue.tls_started(TlsFacts {
            channel_binding: self.socket.has_channel_binding(),
            client_certificate: facts
                .peer
                .as_ref()
                .is_some_and(|certificate| context.services.settings.is_login(certificate)),
        });
        // What was said in clear is forgotten here too.
        self.hello = None;
        self.introduced.hello = false;
        self.drop_login(context.services);
        self.tls = Some(Box::new(facts));
        // Data may have come with the last words of the handshake.
        self.line.readable = true;
        if self.line.blocked {
            self.line.blocked = false;
            let _ = context.reactor.reregister(self.socket.as_fd(), self.token(), Interest::READABLE);
        }
        self.restart_wait(context);
        self.go_on(context)
    }

    /// What the filter is told of it.
    pub(super) fn tls_facts(&self) -> Option<wire::Tls> {
        self.tls.as_ref().map(|tls| wire::Tls {
            protocol: tls.protocol.to_owned(),
            cipher: tls.cipher.to_owned(),
            sni: tls.sni.clone(),
            client: tls.peer.as_ref().map(|peer| wire::ClientCertificate {
                fingerprint: peer.fingerprint,
                is_verified: peer.is_verified,
            }),
        })
    }
}
