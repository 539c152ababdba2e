//! The filter's edge: what policy has accepted comes in here, is checked again in every field, and is answered only when
//! it is on stable storage. A captured filter can submit bad mail, but not a bad record.
//!
//! On failure: a full or failing disk refuses that message; a message that nobody may send closes that edge.

mod check;
mod staging;

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::filter_queue::{CREDITS, Receipt, Refusal, Submit};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, Credits, EdgeId, Received};
use vsmtp_mail::QueueId;

use crate::delegation::{self, Welcome};
use crate::ledger::{After, Clock, Ended, Ledger, Reload, Tell};
use crate::store::{CommitError, SubmitError, Urgency};
use crate::trace;

use check::Checked;
pub use check::{MAX_REASON, bound, disposition, notices, piece};
use staging::Stages;

/// Most filters at once, those of old generations included. The oldest makes room for a new one, without which nothing would be
/// accepted any more.
const MAX_EDGES: usize = 32;

/// All filters.
#[derive(Default)]
pub struct Intake {
    edges: HashMap<usize, Edge>,
    /// Nothing new is taken: the process is to end.
    closing: bool,
}

/// One filter.
struct Edge {
    name: ProcessName,
    link: Link<Receipt, Submit>,
    talk: Talk,
}

/// What is known of the conversation with one filter.
pub struct Talk {
    credits: Credits,
    stages: Stages,
}

impl Default for Talk {
    fn default() -> Self {
        Talk { credits: Credits::new(CREDITS), stages: Stages::default() }
    }
}

/// An answer that can be given at once.
pub type Answer = (Receipt, Vec<OwnedFd>);

impl Intake {
    /// A new filter.
    pub fn connect(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd, token: usize) {
        let oldest = self.edges.keys().min().copied().filter(|_| self.edges.len() >= MAX_EDGES);
        if let Some(oldest) = oldest {
            trace::trouble("too-many-edges", &name);
            self.disconnect(oldest, &ChannelError::Closed, reactor);
        }
        match Link::new(reactor, socket, EdgeId::FilterQueue, token) {
            Ok(link) => {
                self.edges.insert(token, Edge { name, link, talk: Talk::default() });
                trace::edge_opened(name);
            }
            Err(error) => trace::trouble("edge-failed", &error),
        }
    }

    /// True if the token is a filter's.
    pub fn has(&self, token: usize) -> bool {
        self.edges.contains_key(&token)
    }

    /// Nothing new is taken from now on.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Takes all that one filter has said.
    pub fn hear(&mut self, token: usize, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        let closing = self.closing;
        let Some(edge) = self.edges.get_mut(&token) else { return };
        if let Err(error) = edge.hear(token, ledger, reactor, closing, clock) {
            self.disconnect(token, &error, reactor);
        }
    }

    /// A commit has ended that a filter waits for.
    pub fn answer(&mut self, ended: &Ended, reactor: &mut Reactor) {
        let Tell::Filter { edge: token, ticket } = ended.tell else { return };
        let Some(edge) = self.edges.get_mut(&token) else { return };
        let receipt = edge.talk.receipt(ticket, &ended.result);
        reactor.served();
        if let Err(error) = edge.link.send(&receipt, Vec::new()) {
            self.disconnect(token, &error, reactor);
        }
    }

    /// Sends what was answered in this turn.
    pub fn flush(&mut self, reactor: &mut Reactor) {
        let failed: Vec<(usize, ChannelError)> = self
            .edges
            .iter_mut()
            .filter_map(|(token, edge)| edge.link.flush(reactor).err().map(|error| (*token, error)))
            .collect();
        for (token, error) in failed {
            self.disconnect(token, &error, reactor);
        }
    }

    fn disconnect(&mut self, token: usize, error: &ChannelError, reactor: &mut Reactor) {
        let Some(edge) = self.edges.remove(&token) else { return };
        trace::edge_closed(edge.name, error, edge.talk.stages.len());
        reactor.accuse(edge.name, error);
    }
}

impl Edge {
    fn hear(
        &mut self,
        token: usize,
        ledger: &mut Ledger,
        reactor: &mut Reactor,
        closing: bool,
        clock: Clock,
    ) -> Result<(), ChannelError> {
        // Bounded by the credits: a request too many is an error.
        while let Some(received) = self.link.receive()? {
            if let Some((receipt, descriptors)) = self.talk.take(received, token, ledger, closing, clock)? {
                reactor.count("submissions_refused", u64::from(matches!(receipt, Receipt::Refused { .. })));
                self.link.send(&receipt, descriptors)?;
            }
        }
        Ok(())
    }
}

impl Talk {
    /// Takes one request. What can be answered at once is.
    pub fn take(
        &mut self,
        received: Received<Submit>,
        token: usize,
        ledger: &mut Ledger,
        closing: bool,
        clock: Clock,
    ) -> Result<Option<Answer>, ChannelError> {
        let mut descriptors = received.descriptors.into_iter();
        let answer = match received.message {
            Submit::Discard(id) => {
                self.stages.discard(id.into());
                return Ok(None);
            }
            Submit::Message(new) => {
                self.spend()?;
                let (ticket, id) = (new.ticket, QueueId::from(new.id));
                let taken = if closing {
                    Err(Refusal::Busy)
                } else {
                    let checked = Checked::new(new, descriptors.next(), &mut self.stages, ledger)?;
                    submit(checked, token, ticket, ledger, clock)
                };
                match taken {
                    Ok(Taken::Waits) => return Ok(None),
                    Ok(Taken::Before) => (Receipt::Stored { ticket }, Vec::new()),
                    Err(why) => {
                        trace::refused(id, &reason(why));
                        (Receipt::Refused { ticket, why }, Vec::new())
                    }
                }
            }
            Submit::Chunk { ticket, id, offset, len } => {
                self.spend()?;
                let Some(fd) = descriptors.next() else {
                    return Err(ChannelError::Misbehaved("no chunk".to_owned()));
                };
                let stored = if closing {
                    self.stages.discard(id.into());
                    Err(Refusal::Busy)
                } else {
                    self.stages.append(id.into(), (offset, len), fd, ledger)?
                };
                (
                    stored.map_or_else(
                        |why| Receipt::Refused { ticket, why },
                        |()| Receipt::ChunkStored { ticket },
                    ),
                    Vec::new(),
                )
            }
            Submit::OpenStaged { ticket, id } => {
                self.spend()?;
                match self.stages.open(id.into())? {
                    Ok(fd) => (Receipt::Staged { ticket }, vec![fd]),
                    Err(why) => (Receipt::Refused { ticket, why }, Vec::new()),
                }
            }
        };
        let _ = self.credits.give_back();
        Ok(Some(answer))
    }

    fn spend(&mut self) -> Result<(), ChannelError> {
        if self.credits.take() {
            return Ok(());
        }
        Err(ChannelError::Misbehaved("more submissions than credits".to_owned()))
    }

    /// The answer to a submission whose commit has ended.
    pub fn receipt(&mut self, ticket: u64, result: &Result<(), CommitError>) -> Receipt {
        let _ = self.credits.give_back();
        match result {
            Ok(()) => Receipt::Stored { ticket },
            Err(CommitError::Full) => Receipt::Refused { ticket, why: Refusal::Full },
            Err(CommitError::Failed(_)) => Receipt::Refused { ticket, why: Refusal::Disk },
        }
    }
}

/// What became of a submission that was not refused.
enum Taken {
    /// Its commit is on its way.
    Waits,
    /// It is stored already.
    Before,
}

fn submit(
    checked: Checked,
    token: usize,
    ticket: u64,
    ledger: &mut Ledger,
    clock: Clock,
) -> Result<Taken, Refusal> {
    if ledger.store.contains(checked.id()) {
        return Err(Refusal::Repeated);
    }
    let tell = Tell::Filter { edge: token, ticket };
    let committed = if let Some(returned) = checked.returned {
        match delegation::welcome(ledger, returned, checked.envelope(), clock) {
            Err(Refusal::NotDelegated) if returned.or_new => {
                let fresh = checked.into_fresh(ledger, clock)?;
                ledger.commit(Vec::new(), fresh, Urgency::Durable, After { tell, reload: Reload::Never })
            }
            Err(why) => return Err(why),
            Ok(Welcome::Repeated) => {
                trace::brought_again(checked.id(), returned.id.into());
                return Ok(Taken::Before);
            }
            Ok(Welcome::Take(state)) => {
                let mut fresh = checked.into_fresh(ledger, clock)?;
                // What rules wanted sent about a new message is not about this one.
                fresh.truncate(1);
                delegation::take_back(ledger, (returned.id.into(), *state), fresh, tell, clock)
            }
        }
    } else {
        let fresh = checked.into_fresh(ledger, clock)?;
        ledger.commit(Vec::new(), fresh, Urgency::Durable, After { tell, reload: Reload::Never })
    };
    committed.map(|()| Taken::Waits).map_err(|error| match error {
        SubmitError::Duplicate(_) => Refusal::Repeated,
        SubmitError::Full => Refusal::Full,
        SubmitError::Busy => Refusal::Busy,
        SubmitError::TooLarge | SubmitError::Empty | SubmitError::Unknown(_) => Refusal::Disk,
    })
}

fn reason(why: Refusal) -> &'static str {
    match why {
        Refusal::Full => "disk full",
        Refusal::Disk => "disk failed",
        Refusal::Repeated => "repeated id",
        Refusal::Busy => "busy",
        Refusal::NotDelegated => "no message is away under this id and token",
    }
}
