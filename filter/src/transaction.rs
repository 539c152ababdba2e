//! What a script can see and change while it runs: the session, the envelope, the header. One transaction is used by one
//! script at a time; the lock only makes it reachable from the engine's native functions.

mod authentication;
mod body;
mod envelope;
mod header;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{Dynamic, ImmutableString};
use vsmtp_ipc::edge::filter_limits::{self, Triple};
use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::wire::Notice;
use vsmtp_mail::{
    BodyType, Demands, Domain, HeaderBlock, Notify, QueueId, Ret, ReversePath, Service, Terms, Wishes,
};

use crate::identity::Identity;
use crate::judge::ResumeAt;
use crate::mime::{MAX_MIME_BYTES, Tree};
use crate::object::{Fault, Object};
use crate::stage::Stage;
use crate::status::Status;
use crate::triage::{HandledSender, Part};

pub use authentication::{ArcCheck, Authentication, DmarcCheck, SpfCheck};
pub use body::Body;
pub use envelope::{Entry, RcptSpec, Transport};
pub use header::EARLY_HEADER_BYTES;

/// What is known of a session and does not change while it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What the client came for; not known of what older releases have stored.
    pub service: Option<Service>,
    /// Client address; `None` on a local socket.
    pub client: Option<(IpAddr, u16)>,
    /// The confirmed name of that address, if it has one; not known any more after the message was accepted.
    pub client_name: Option<Domain>,
    /// Our address as the client sees it.
    pub server: Option<(IpAddr, u16)>,
    /// User of a local submitter.
    pub uid: Option<u32>,
    /// When the session began, in milliseconds since 1970.
    pub connected_ms: u64,
    /// Our name.
    pub server_name: Domain,
    /// Who the client is, if it has authenticated.
    pub identity: Option<Identity>,
    /// It had authenticated when its message was received; for rules that run later.
    pub was_authenticated: bool,
    /// Its message was received through TLS; for rules that run later.
    pub was_secured: bool,
}

impl Peer {
    /// True if the client has authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.was_authenticated || self.identity.is_some()
    }
}

/// What a TLS handshake has agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// Our name as the client asked for it.
    pub sni: Option<Domain>,
    /// SHA-256 of the client's certificate in hexadecimal, if it showed one.
    pub fingerprint: Option<String>,
    /// The client's certificate leads to an authority that configuration trusts.
    pub is_verified: bool,
}

/// MAIL FROM with its parameters.
#[derive(Debug, Clone)]
pub struct MailSpec {
    /// The sender.
    pub reverse_path: ReversePath,
    /// BODY=.
    pub body: BodyType,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// RET=.
    pub ret: Option<Ret>,
    /// ENVID=, decoded.
    pub envid: Option<Box<str>>,
    /// What is demanded of the way.
    pub demands: Demands,
    /// What is asked of the queue; rules may ask for something else.
    pub wishes: Wishes,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Everything that rules of one message share, and of its session before it.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// The stage that is running.
    pub stage: Stage,
    /// The session.
    pub peer: Arc<Peer>,
    /// The client's address as scripts see it; made once per session.
    pub client_ip: ImmutableString,
    /// HELO name, once said.
    pub helo: Option<ImmutableString>,
    /// EHLO rather than HELO.
    pub esmtp: bool,
    /// TLS; `None` in clear, and not known any more after the message was accepted.
    pub tls: Option<Tls>,
    /// MAIL FROM, once said.
    pub mail: Option<MailSpec>,
    /// The sender as MAIL said it; for the questions of who may say so. After the queue that of the envelope.
    pub said_sender: Option<ReversePath>,
    /// The sender as scripts see it.
    pub mail_from: Option<Object>,
    /// Recipients, those that rules added too.
    pub recipients: Vec<Entry>,
    /// The recipient that the rcpt stage judges.
    pub current: Option<Object>,
    /// Most recipients, with those that rules add.
    pub max_recipients: usize,
    /// The message's id, from preq on; the session knows none before.
    pub id: Option<QueueId>,
    /// A command has found no place, or a database no answer: what fails because of that is a matter for later, whatever `filter.on_error` says.
    pub was_busy: bool,
    /// The header: before preq only what rules added, then the message's own behind it.
    pub header: HeaderBlock<'static>,
    /// Bytes that rules added to the header.
    pub added_bytes: usize,
    /// Rules changed the header.
    pub header_changed: bool,
    /// Rules want the message held, for this reason if it is not empty.
    pub hold: Option<Box<str>>,
    /// What is asked of the queue.
    pub terms: Terms,
    /// Nobody is told what becomes of the message.
    pub is_quiet: bool,
    /// Mails that rules want sent about the message.
    pub notices: Vec<Notice>,
    /// Where the rules of a stage begin, if not at the first: a service has had the message.
    pub resume: Option<ResumeAt>,
    /// The verdict that holds for all later stages of the transaction.
    pub verdict: Option<Status>,
    /// Whose rules run.
    pub part: Part,
    /// Verdicts that hold for all later stages of the recipients of one part.
    pub part_verdicts: Vec<(Part, Status)>,
    /// The sender as MAIL said it, if its domain has rules of its own.
    pub sender: Option<HandledSender>,
    /// What rules of connect and helo decided for every message of the session.
    session: Base,
    /// What was found about who sends.
    pub authentication: Authentication,
    /// Who has waited, as greylisting has it: to be remembered if the message is accepted.
    waited: Vec<(Triple, filter_limits::Terms)>,
    /// The bytes of the message, from preq on.
    pub content: Option<Arc<dyn Content>>,
    /// Where the body begins in them.
    pub body_offset: u64,
    /// The body, if rules changed it.
    pub body: Option<Body>,
    /// What the message is made of, once a rule has asked.
    mime: Option<Arc<Tree>>,
}

/// What every message of a session begins with.
#[derive(Debug, Clone, Default)]
struct Base {
    header: HeaderBlock<'static>,
    added_bytes: usize,
    hold: Option<Box<str>>,
    verdict: Option<Status>,
}

/// The bytes of a message, as long as rules may look at it.
pub trait Content: std::fmt::Debug + Send + Sync {
    /// Octets of the whole message as it came.
    fn len(&self) -> u64;
    /// True if there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// At most `max` octets from `offset`.
    fn read(&self, offset: u64, max: usize) -> std::io::Result<Vec<u8>>;
}

impl Transaction {
    /// A session before its first command.
    pub fn new(peer: Arc<Peer>, max_recipients: usize) -> Self {
        let client_ip = peer.client.map(|(ip, _)| ip.to_canonical().to_string()).unwrap_or_default().into();
        Transaction {
            stage: Stage::Connect,
            peer,
            client_ip,
            helo: None,
            esmtp: false,
            tls: None,
            mail: None,
            said_sender: None,
            mail_from: None,
            recipients: Vec::new(),
            current: None,
            max_recipients,
            id: None,
            was_busy: false,
            header: HeaderBlock::default(),
            added_bytes: 0,
            header_changed: false,
            hold: None,
            terms: Terms::default(),
            is_quiet: false,
            notices: Vec::new(),
            resume: None,
            verdict: None,
            part: Part::Root,
            part_verdicts: Vec::new(),
            sender: None,
            session: Base::default(),
            authentication: Authentication::default(),
            waited: Vec::new(),
            content: None,
            body_offset: 0,
            body: None,
            mime: None,
        }
    }

    /// What the message is made of, with header and body as they are now. Read once; from preq on.
    pub fn mime(&mut self) -> Result<Arc<Tree>, Fault> {
        if let Some(tree) = &self.mime {
            return Ok(Arc::clone(tree));
        }
        let mut bytes = self.header.to_bytes();
        if let Some((content, offset)) = self.body_now() {
            let body = content.read(offset, MAX_MIME_BYTES + 1);
            bytes.extend(body.map_err(|error| Fault(format!("the message cannot be read: {error}")))?);
        }
        let tree = Arc::new(crate::mime::read(&bytes)?);
        self.mime = Some(Arc::clone(&tree));
        Ok(tree)
    }

    /// The header is another one now.
    fn note_header_change(&mut self) {
        self.header_changed = true;
        self.mime = None;
    }

    /// True if the message comes from one of our own users, so that its header may be completed.
    pub fn is_submission(&self) -> bool {
        self.peer.service.is_some_and(|service| service.needs_login() || service == Service::Local)
    }

    /// What the rules of connect and helo did so far holds for every message of the session.
    pub fn keep_for_session(&mut self) {
        let Base { header, added_bytes, hold, verdict } = &mut self.session;
        header.clone_from(&self.header);
        *added_bytes = self.added_bytes;
        hold.clone_from(&self.hold);
        verdict.clone_from(&self.verdict);
    }

    /// The verdict that holds already for the part whose rules are to run.
    pub fn standing_verdict(&self) -> Option<&Status> {
        self.verdict_of(&self.part)
    }

    /// The verdict that holds already for a part.
    pub fn verdict_of(&self, part: &Part) -> Option<&Status> {
        let of_part = self.part_verdicts.iter().find(|(of, _)| of == part).map(|(_, status)| status);
        self.verdict.as_ref().or(of_part)
    }

    /// False if a program has sent the message, as far as that is known by now: what is said about it may come back.
    pub fn may_be_answered(&self) -> bool {
        let is_null = |path: &ReversePath| *path == ReversePath::Null;
        let by_nobody = self.said_sender.as_ref().is_some_and(is_null)
            || self.mail.as_ref().is_some_and(|mail| is_null(&mail.reverse_path));
        let mut said = self.header.named("Auto-Submitted").map(|field| field.unfolded());
        !by_nobody && said.all(|value| value.trim_ascii().eq_ignore_ascii_case(b"no"))
    }

    /// The recipients with the reports that are wanted for them.
    pub fn told_recipients(&self) -> Cow<'_, [Entry]> {
        if !self.is_quiet {
            return Cow::Borrowed(&self.recipients);
        }
        let mut recipients = self.recipients.clone();
        recipients.iter_mut().for_each(|entry| entry.spec.notify = Notify::NEVER);
        Cow::Owned(recipients)
    }

    /// What becomes of the message if no verdict says otherwise.
    pub fn disposition(&self) -> Disposition {
        match &self.hold {
            Some(reason) => Disposition::Hold(reason.to_string()),
            None => Disposition::Active,
        }
    }

    /// Has a verdict hold for all later stages: of the recipient's part at rcpt and later, of everything before.
    pub fn keep_verdict(&mut self, status: Status) {
        if self.stage < Stage::Rcpt {
            self.verdict = Some(status);
        } else {
            self.keep_verdict_of_part(status);
        }
    }

    /// Has a verdict hold for all later stages of the recipients of the part whose rules run.
    pub fn keep_verdict_of_part(&mut self, status: Status) {
        if self.standing_verdict().is_none() {
            self.part_verdicts.push((self.part.clone(), status));
        }
    }

    /// The parts that the recipients belong to, in the order in which they came.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for entry in &self.recipients {
            if !parts.contains(&entry.part) {
                parts.push(entry.part.clone());
            }
        }
        parts
    }

    /// The transaction as the rules of one part see it: with its recipients only.
    #[must_use]
    pub fn only(&self, part: &Part) -> Self {
        let mut own = self.clone();
        own.recipients.retain(|entry| entry.part == *part);
        own.part = part.clone();
        own
    }

    /// Forgets the message; the session stays.
    pub fn reset(&mut self) {
        let Base { header, added_bytes, hold, verdict } = self.session.clone();
        self.header = header;
        self.added_bytes = added_bytes;
        self.hold = hold;
        self.terms = Terms::default();
        self.is_quiet = false;
        self.notices = Vec::new();
        self.verdict = verdict;
        self.part = Part::Root;
        self.part_verdicts = Vec::new();
        self.sender = None;
        self.header_changed = false;
        self.mail = None;
        self.said_sender = None;
        self.mail_from = None;
        self.recipients = Vec::new();
        self.current = None;
        self.id = None;
        self.authentication = Authentication::default();
        self.waited = Vec::new();
        self.content = None;
        self.body_offset = 0;
        self.body = None;
        self.mime = None;
    }

    /// Somebody has waited; once for each recipient.
    pub fn note_waited(&mut self, waited: (Triple, filter_limits::Terms)) {
        if self.waited.len() < self.max_recipients && self.waited.last() != Some(&waited) {
            self.waited.push(waited);
        }
    }

    /// How many have waited so far.
    pub fn waited(&self) -> usize {
        self.waited.len()
    }

    /// A recipient is refused: of whom waited only the first `kept` count.
    pub fn forget_waited(&mut self, kept: usize) {
        self.waited.truncate(kept);
    }

    /// The message is accepted: who has waited for it.
    pub fn take_waited(&mut self) -> Vec<(Triple, filter_limits::Terms)> {
        std::mem::take(&mut self.waited)
    }

    /// True if rules added header fields before the message came.
    pub fn has_early_header(&self) -> bool {
        self.header.fields().next().is_some()
    }

    /// Begins a message: MAIL FROM.
    pub fn begin(&mut self, mail: MailSpec) {
        self.reset();
        self.said_sender = Some(mail.reverse_path.clone());
        self.set_sender(mail.reverse_path.clone());
        self.terms.priority = mail.wishes.priority;
        self.terms.by = mail.wishes.by;
        self.terms.release = mail.wishes.release;
        self.terms.not_before_s = mail.wishes.release.map(|release| release.time_s(mail.at_ms / 1000));
        self.mail = Some(mail);
    }

    /// The client is this one from now on, or nobody in particular again.
    pub fn identify(&mut self, identity: Option<Identity>) {
        if self.peer.identity != identity {
            self.peer = Arc::new(Peer { identity, ..Peer::clone(&self.peer) });
        }
    }

    /// Changes the sender.
    pub fn set_sender(&mut self, reverse_path: ReversePath) {
        self.mail_from = Some(match &reverse_path {
            ReversePath::Null => Object::Identifier("null".into()),
            ReversePath::Address(address) => Object::Address(Arc::new(address.clone())),
        });
        if let Some(mail) = &mut self.mail {
            mail.reverse_path = reverse_path;
        }
    }
}

/// How a transaction travels in Rhai's tag.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Transaction>>);

impl Shared {
    /// Makes it reachable.
    pub fn new(transaction: Transaction) -> Self {
        Shared(Arc::new(Mutex::new(transaction)))
    }

    /// Looks at it. A script that panicked inside a native function left it consistent: every change is one assignment.
    pub fn lock(&self) -> MutexGuard<'_, Transaction> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As Rhai carries it.
    pub fn tag(&self) -> Dynamic {
        Dynamic::from(self.clone())
    }
}
