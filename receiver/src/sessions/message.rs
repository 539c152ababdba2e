//! One transaction and its message: from MAIL to the filter's last word. The queue id is minted here, because our
//! Received field, which is the first of the message, names it.

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::receiver_filter::Ask;
use vsmtp_ipc::wire::{Id, MAX_MEMFD_BODY};
use vsmtp_mail::{Address, EnhancedCode, QueueId, Reply, Rfc5322Date, Service};
use vsmtp_smtp::{MailRequest, Origin, RcptRequest, Trace, Verdict, WithProtocol, XForward};

use super::asking::Want;
use super::client::{Client, Who};
use crate::body::{Failure, Store};
use crate::filter_edge::{self, EdgeKey};
use crate::services::{Context, Services};

/// What an open transaction needs.
#[derive(Debug)]
pub(super) struct Transaction {
    pub mail: MailRequest,
    /// Monotonic milliseconds.
    pub began_ms: u64,
    /// The filter that knows of it.
    pub edge: Option<EdgeKey>,
    /// The recipients that are being asked about.
    pub batch: Vec<RcptRequest>,
    /// How many more came together with those, and what the limiter says to them.
    pub beyond: Option<(usize, Reply)>,
    /// How many recipients were accepted.
    pub accepted: u32,
    /// The first of them.
    pub first: Option<Address>,
    pub incoming: Option<Incoming>,
    /// Octets as the client sent them, once all are here.
    pub size: u64,
}

/// A message that comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub id: QueueId,
    pub store: Store,
    /// Octets of our Received field.
    pub trace_len: u32,
}

impl Transaction {
    pub fn new(mail: MailRequest, began_ms: u64) -> Self {
        Transaction {
            mail,
            began_ms,
            edge: None,
            batch: Vec::new(),
            beyond: None,
            accepted: 0,
            first: None,
            incoming: None,
            size: 0,
        }
    }

    /// The message cannot be accepted any more; what follows of it is thrown away.
    pub fn fail_body(&mut self, why: Failure) {
        if let Some(incoming) = &mut self.incoming {
            incoming.store.fail(why);
        }
    }
}

impl Failure {
    /// What the client hears at the end of the message.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Failure::FilterGone => Verdict::Unavailable,
            Failure::NoRoom => Verdict::Refuse(Reply::fixed(
                452,
                EnhancedCode(4, 3, 1),
                "Insufficient system storage, try again later",
            )),
            Failure::Busy => Verdict::Refuse(Reply::fixed(
                451,
                EnhancedCode(4, 3, 2),
                "System is too busy, try again later",
            )),
        }
    }
}

impl Client {
    /// DATA: the message begins with our trace field.
    pub(super) fn begin_body(&mut self, context: &mut Context<'_>) -> Verdict {
        let services = &mut *context.services;
        let (Some(transaction), Some(hello)) = (&mut self.transaction, &self.hello) else {
            return Verdict::Unavailable;
        };
        let now = context.reactor.wall_ms();
        let id = services.mint.next(now);
        let only = transaction.first.as_ref().filter(|_| transaction.accepted == 1);
        let trace = Trace {
            helo: &hello.name,
            origin: match self.who {
                Who::Network { client: (address, _), .. } => {
                    Origin::Network { address, name: self.naming.name() }
                }
                Who::Local(uid) => Origin::Local { uid },
            },
            by: &services.settings.dialogue(self.service, self.manner).name,
            with: WithProtocol {
                lmtp: self.service == Service::Lmtp,
                extended: hello.extended,
                tls: self.dialogue.is_secured(),
                authenticated: self.dialogue.is_authenticated(),
                utf8: transaction.mail.smtputf8,
            },
            id,
            recipients: only.map(std::slice::from_ref).unwrap_or_default(),
            date: Rfc5322Date(now / 1000),
        }
        .received()
        .into_bytes();
        let large = transaction.mail.size.is_some_and(|size| size > MAX_MEMFD_BODY);
        let trace_len = u32::try_from(trace.len()).unwrap_or(0);
        transaction.incoming =
            Some(Incoming { id, trace_len, store: Store::new(trace, services.budget.share(), large) });
        Verdict::Accept
    }

    /// Takes decoded octets of the message. True if a chunk of it must go before more is read.
    pub(super) fn keep_body(&mut self, bytes: &[u8]) -> bool {
        let incoming = self.transaction.as_mut().and_then(|transaction| transaction.incoming.as_mut());
        let Some(incoming) = incoming else { return false };
        // A blank at the very beginning is no header, and must not go on with the field that stands before it, which is ours.
        let is_begin = incoming.store.len() == u64::from(incoming.trace_len);
        if is_begin && matches!(bytes.first(), Some(b' ' | b'\t')) {
            incoming.store.append(b"\r\n");
        }
        incoming.store.append(bytes);
        incoming.store.has_chunk(false)
    }

    /// The question as the filter hears it. `None` if a chunk could not be made.
    pub(super) fn words(&mut self, want: Want) -> Option<(Ask, Option<std::os::fd::OwnedFd>)> {
        let session = self.number;
        let ask = match want {
            Want::Connect => Ask::Connect(self.facts(want)),
            Want::Hello => Ask::Helo(self.facts(want)),
            Want::Login => Ask::Authenticate(self.facts(want)),
            Want::Mail => {
                Ask::Mail(self.facts(want), filter_edge::mail_from(&self.transaction.as_ref()?.mail))
            }
            Want::Recipients => {
                let transaction = self.transaction.as_ref()?;
                Ask::Recipients {
                    facts: self.facts(want),
                    mail: filter_edge::mail_from(&transaction.mail),
                    recipients: transaction.batch.iter().map(filter_edge::rcpt_to).collect(),
                }
            }
            Want::Chunk => {
                let incoming = self.transaction.as_mut()?.incoming.as_mut()?;
                let chunk = incoming.store.take_chunk()?;
                let (id, len) = (incoming.id.into(), chunk.bytes.len());
                return Some((
                    Ask::Chunk { session, id, offset: chunk.offset, len },
                    Some(chunk.bytes.into_fd()),
                ));
            }
            Want::Message => {
                let facts = self.facts(want);
                let incoming = self.transaction.as_mut()?.incoming.as_mut()?;
                let (id, trace_len) = (incoming.id.into(), incoming.trace_len);
                let (body, descriptor) = match incoming.store.finish() {
                    Ok(finished) => finished,
                    Err(why) => {
                        incoming.store.fail(why);
                        return None;
                    }
                };
                return Some((Ask::Message { facts, id, body, trace_len }, descriptor));
            }
        };
        Some((ask, None))
    }

    /// The open transaction is over, and nobody has accepted its message: the filter forgets it.
    pub(super) fn drop_transaction(&mut self, services: &mut Services) {
        self.forwarded = XForward::default();
        let Some(transaction) = self.transaction.take() else { return };
        if let Some(edge) = transaction.edge {
            let begun = transaction.incoming.filter(|incoming| incoming.store.has_sent_chunks());
            let id = begun.map(|incoming| Id::from(incoming.id));
            services.filters.say(edge, &Ask::Reset { session: self.number, id }, None);
        }
    }

    /// The session is over: the filter that knows it forgets it.
    pub(super) fn forget(&self, services: &mut Services) {
        if let Some(edge) = self.introduced.edge {
            services.filters.say(edge, &Ask::Forget { session: self.number }, None);
        }
    }

    /// The filter's last word on the message. Accepted, it is on stable storage.
    pub(super) fn message_decided(&mut self, context: &mut Context<'_>, verdict: Verdict) {
        let Some(transaction) = self.transaction.take() else {
            return self.answer(context, Verdict::Unavailable);
        };
        let id = transaction.incoming.as_ref().map(|incoming| incoming.id);
        let verdict = match (verdict, id) {
            (Verdict::Accept, Some(id)) => Verdict::AcceptWith(queued_as(id)),
            (other, _) => other,
        };
        if matches!(verdict, Verdict::Accept | Verdict::AcceptWith(_)) {
            self.tally.accepted += 1;
            let figures = &mut context.services.figures;
            figures.accepted += 1;
            figures.octets += transaction.size;
            context.reactor.served();
            self.log_accepted(&transaction, id, context.reactor.now_ms());
        }
        self.forwarded = XForward::default();
        self.answer(context, verdict);
    }

    fn log_accepted(&self, transaction: &Transaction, id: Option<QueueId>, now_ms: u64) {
        Record::new("accepted")
            .maybe("id", id)
            .field("session", self.number)
            .field("client", self.who)
            .maybe("client_name", self.name())
            .maybe("helo", self.hello.as_ref().map(|hello| hello.name.as_str()))
            .maybe("user", self.user())
            .field("from", format_args!("<{}>", transaction.mail.reverse_path))
            .maybe("forwarded", (!self.forwarded.is_empty()).then_some(&self.forwarded))
            .field("recipients", transaction.accepted)
            .field("size", transaction.size)
            .maybe("tls", self.tls.as_ref().map(|tls| tls.protocol))
            .maybe("cipher", self.tls.as_ref().map(|tls| tls.cipher))
            .field("ms", now_ms.saturating_sub(transaction.began_ms))
            .emit();
    }
}

fn queued_as(id: QueueId) -> Reply {
    Reply::fixed(250, EnhancedCode(2, 0, 0), &format!("queued as {id}"))
}
