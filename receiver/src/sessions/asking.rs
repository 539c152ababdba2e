//! What the filter must be asked before the dialogue can go on, in which order, and of which filter. A filter that has
//! not met the session hears about its connect and its HELO first; a transaction that another filter began is lost.

use vsmtp_ipc::edge::receiver_auth::Denied;
use vsmtp_smtp::{Question, Verdict};

use super::client::Client;
use super::limited::Stage;
use super::message::Transaction;
use crate::auth_edge::HelperKey;
use crate::body::Failure;
use crate::filter_edge::{Asked, EdgeKey, Waiter, Wanted};
use crate::services::Context;

/// What the dialogue wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// Before a connection that begins with TLS costs a handshake: may it come in at all?
    Door,
    /// TLS, from the first octet or by STARTTLS.
    Handshake,
    Connect,
    Hello,
    Login,
    Mail,
    Recipients,
    Data,
    Message,
}

/// What the filter can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Connect,
    Hello,
    Login,
    Mail,
    Recipients,
    Chunk,
    Message,
}

/// Where the present question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// There is none.
    Nothing,
    /// Not sent yet: no credit, or no filter.
    InLine(Waiter),
    /// With that filter.
    InFlight { want: Want, edge: EdgeKey },
    /// With the limiter, or waiting because it wants that.
    Limiter(Stage),
    /// With that auth helper.
    OfHelper(HelperKey),
    /// The helper or the rules have denied a login, and the client hears it after so many milliseconds.
    Denied { why: Denied, wait_ms: u32 },
    /// Not sent yet: the client's name is to come first, no later than at this monotonic time, in milliseconds.
    OfName { until_ms: u64 },
}

/// What a filter knows of the session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Introduced {
    /// Which filter; `None` before the first question.
    pub edge: Option<EdgeKey>,
    pub connect: bool,
    pub hello: bool,
}

enum Plan {
    Answer(Verdict),
    Ask(Want, EdgeKey),
    Wait,
}

impl Client {
    /// Takes a question of the dialogue.
    pub(super) fn take_question(&mut self, context: &mut Context<'_>, question: Question) {
        self.limited.consulted = false;
        self.topic = Some(match question {
            Question::Connect => Topic::Connect,
            Question::Hello(hello) => {
                let is_there = self.can_start_tls(context);
                self.dialogue.tls_is_there(is_there);
                self.hello = Some(hello);
                self.introduced.hello = false;
                Topic::Hello
            }
            Question::Auth(request) => {
                self.topic = Some(Topic::Login);
                return self.begin_login(context, request);
            }
            Question::AuthContinue(response) => {
                self.topic = Some(Topic::Login);
                return self.go_on_with_login(context, response);
            }
            Question::StartTls => Topic::Handshake,
            Question::Mail(mail) => {
                self.transaction = Some(Box::new(Transaction::new(mail, context.reactor.now_ms())));
                Topic::Mail
            }
            Question::Recipients(batch) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.batch = batch;
                    transaction.beyond = None;
                }
                Topic::Recipients
            }
            Question::Data => Topic::Data,
            Question::Message(facts) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.size = facts.size;
                }
                Topic::Message
            }
        });
        self.proceed(context);
    }

    /// Asks the limiter, then the filter, the next thing that must be known, or answers the dialogue if all is.
    pub(super) fn proceed(&mut self, context: &mut Context<'_>) {
        if self.consult(context) {
            return;
        }
        match self.plan(context) {
            Plan::Answer(verdict) => self.answer(context, verdict),
            Plan::Ask(want, edge) => self.ask(context, want, edge),
            Plan::Wait => self.wait_in_line(context),
        }
    }

    fn plan(&mut self, context: &mut Context<'_>) -> Plan {
        let topic = match self.topic {
            // Only the limiter is asked.
            Some(Topic::Door) => return Plan::Answer(Verdict::Accept),
            Some(Topic::Handshake) => {
                let verdict =
                    if self.may_begin_handshake(context) { Verdict::Accept } else { Verdict::Unavailable };
                return Plan::Answer(verdict);
            }
            Some(Topic::Connect | Topic::Hello | Topic::Login) => self.topic,
            other => match self.plan_transaction(other, context) {
                Some(plan) => return plan,
                None => other,
            },
        };
        let Some((edge, wanted)) = context.services.filters.choose(self.introduced.edge, self.number) else {
            return Plan::Wait;
        };
        if self.introduced.edge != Some(edge) {
            self.introduced = Introduced { edge: None, ..Introduced::default() };
        }
        match topic.and_then(|topic| self.missing(topic, wanted)) {
            Some(want) => Plan::Ask(want, edge),
            None => Plan::Answer(Verdict::Accept),
        }
    }

    /// The plan where it depends on the filter that began the transaction; `None` if any filter will do.
    fn plan_transaction(&mut self, topic: Option<Topic>, context: &mut Context<'_>) -> Option<Plan> {
        let Some(transaction) = &mut self.transaction else {
            return Some(Plan::Answer(Verdict::Unavailable));
        };
        let begun_by = transaction.edge;
        if let Some(edge) = begun_by
            && !context.services.filters.is_alive(edge)
        {
            transaction.fail_body(Failure::FilterGone);
            return Some(Plan::Answer(Verdict::Unavailable));
        }
        match (topic, begun_by) {
            (Some(Topic::Data), _) => Some(Plan::Answer(self.begin_body(context))),
            (Some(Topic::Recipients), Some(edge)) => Some(Plan::Ask(Want::Recipients, edge)),
            (Some(Topic::Message) | None, Some(edge)) => Some(self.plan_body(edge)),
            (Some(Topic::Message) | None, None) => Some(Plan::Answer(Verdict::Unavailable)),
            _ => None,
        }
    }

    fn plan_body(&mut self, edge: EdgeKey) -> Plan {
        let incoming = self.transaction.as_mut().and_then(|transaction| transaction.incoming.as_mut());
        let Some(incoming) = incoming else { return Plan::Answer(Verdict::Unavailable) };
        match incoming.store.failure() {
            Some(why) => Plan::Answer(why.verdict()),
            None if incoming.store.has_chunk(self.topic.is_some()) => Plan::Ask(Want::Chunk, edge),
            // The message is still coming in, and while this waited in line the chunk became needless.
            None if self.topic.is_none() => Plan::Answer(Verdict::Accept),
            None => Plan::Ask(Want::Message, edge),
        }
    }

    /// The first thing that this filter must be asked before the answer is known.
    fn missing(&self, topic: Topic, wanted: Wanted) -> Option<Want> {
        let begun = self.transaction.as_ref().is_some_and(|transaction| transaction.edge.is_some());
        let stages = [
            (Topic::Connect, Want::Connect, wanted.connect && !self.introduced.connect),
            // A login that a proxy states is judged before there is a name.
            (Topic::Hello, Want::Hello, wanted.helo && !self.introduced.hello && self.hello.is_some()),
            // Asked once; a filter that has not met the session asks the helper what came of it.
            (Topic::Login, Want::Login, wanted.authenticate && topic == Topic::Login),
            (Topic::Mail, Want::Mail, wanted.mail && !begun),
            (Topic::Recipients, Want::Recipients, true),
        ];
        let upto = stages.iter().position(|(of, ..)| *of == topic)?;
        stages.iter().take(upto + 1).find(|(.., missing)| *missing).map(|(_, want, _)| *want)
    }

    fn ask(&mut self, context: &mut Context<'_>, want: Want, edge: EdgeKey) {
        if self.awaits_name(context) {
            return;
        }
        match context.services.filters.take_credit(edge) {
            Asked::Sent => {}
            Asked::NoCredit => return self.wait_in_line(context),
            Asked::Gone => return self.answer(context, Verdict::Unavailable),
        }
        let Some((ask, descriptor)) = self.words(want) else {
            // The body failed just now, and the next plan says so.
            context.services.filters.return_credit(edge);
            return self.proceed(context);
        };
        self.introduced.edge = Some(edge);
        self.asking = Asking::InFlight { want, edge };
        if want != Want::Connect
            && want != Want::Hello
            && want != Want::Login
            && let Some(transaction) = &mut self.transaction
        {
            transaction.edge = Some(edge);
        }
        context.services.filters.say(edge, &ask, descriptor);
        self.restart_wait(context);
    }

    fn wait_in_line(&mut self, context: &mut Context<'_>) {
        let waiter = context.services.filters.wait_in_line(context.reactor, self.number);
        self.asking = Asking::InLine(waiter);
        self.restart_wait(context);
    }
}
