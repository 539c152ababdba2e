//! What answers do: the filter's to us, ours to the dialogue. An answer is parsed whole before anything of it counts; one
//! that does not fit its question is the filter's fault and changes nothing.

use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::receiver_filter::{Decision, Kept};
use vsmtp_mail::{EnhancedCode, Reply};
use vsmtp_smtp::Verdict;

use super::asking::{Asking, Topic, Want};
use super::client::{Client, Fate};
use crate::body::Failure;
use crate::filter_edge::{self, Answer, EdgeKey, Waiter, misbehaved};
use crate::services::Context;

impl Client {
    /// The filter has answered.
    ///
    /// # Errors
    /// The answer fits no question: the edge is to be dropped.
    pub fn on_answer(
        &mut self,
        context: &mut Context<'_>,
        edge: EdgeKey,
        answer: Answer,
    ) -> Result<Fate, ChannelError> {
        let want = match self.asking {
            Asking::InFlight { want, edge: asked } if asked == edge => want,
            _ => return Err(misbehaved("answered a session that asked nothing")),
        };
        match (want, answer) {
            (Want::Recipients, Answer::Recipients(decisions)) => {
                self.recipients_decided(context, &decisions)?
            }
            (Want::Chunk, Answer::Chunk(kept)) => self.chunk_answered(context, kept),
            (Want::Message, Answer::Decided(decision)) => {
                let verdict = self.verdict(&decision)?;
                self.message_decided(context, verdict);
            }
            (Want::Connect | Want::Hello | Want::Login | Want::Mail, Answer::Decided(decision)) => {
                let verdict = self.verdict(&decision)?;
                self.stage_decided(context, want, verdict);
            }
            _ => return Err(misbehaved("answered another question than it was asked")),
        }
        Ok(self.go_on(context))
    }

    /// A decision of the rules as it is said. The greeting and the answers to HELO and EHLO need no enhanced code (RFC 2034 4).
    fn verdict(&self, decision: &Decision) -> Result<Verdict, ChannelError> {
        let verdict = filter_edge::verdict(decision)?;
        let is_bare = matches!(self.topic, Some(Topic::Connect | Topic::Hello));
        Ok(if is_bare { verdict } else { filter_edge::completed(verdict) })
    }

    /// There is a credit for the session that waited for one.
    pub fn on_credit(&mut self, context: &mut Context<'_>, waiter: Waiter) -> Fate {
        if self.asking != Asking::InLine(waiter) {
            return Fate::Stay;
        }
        self.asking = Asking::Nothing;
        self.proceed(context);
        self.go_on(context)
    }

    /// There was no credit for too long.
    pub fn on_no_credit(&mut self, context: &mut Context<'_>, waiter: Waiter) -> Fate {
        if self.asking != Asking::InLine(waiter) {
            return Fate::Stay;
        }
        let verdict = match self.topic {
            // The greeting can only be 220, 421 or 554.
            Some(Topic::Connect) => Verdict::Unavailable,
            _ => Verdict::Refuse(Reply::fixed(
                451,
                EnhancedCode(4, 3, 2),
                "System is too busy, try again later",
            )),
        };
        self.give_up(context, Failure::Busy, verdict)
    }

    /// The filter that has the question is gone.
    pub fn on_edge_lost(&mut self, context: &mut Context<'_>) -> Fate {
        self.give_up(context, Failure::FilterGone, Verdict::Unavailable)
    }

    /// Memory is short: what this session holds goes on to the filter.
    pub fn on_memory_short(&mut self, context: &mut Context<'_>) -> Fate {
        let incoming = self.transaction.as_mut().and_then(|transaction| transaction.incoming.as_mut());
        let Some(incoming) = incoming.filter(|_| self.asking == Asking::Nothing) else { return Fate::Stay };
        incoming.store.relieve();
        if incoming.store.has_chunk(false) {
            self.proceed(context);
        }
        self.go_on(context)
    }

    fn give_up(&mut self, context: &mut Context<'_>, why: Failure, verdict: Verdict) -> Fate {
        if let Some(transaction) = &mut self.transaction {
            transaction.fail_body(why);
        }
        self.answer(context, verdict);
        self.go_on(context)
    }

    fn stage_decided(&mut self, context: &mut Context<'_>, want: Want, verdict: Verdict) {
        let accepted = matches!(verdict, Verdict::Accept | Verdict::AcceptWith(_));
        match want {
            Want::Connect => self.introduced.connect = accepted,
            Want::Hello => self.introduced.hello = accepted,
            _ => {}
        }
        let asked_for = matches!(
            (want, self.topic),
            (Want::Connect, Some(Topic::Connect))
                | (Want::Hello, Some(Topic::Hello))
                | (Want::Login, Some(Topic::Login))
                | (Want::Mail, Some(Topic::Mail))
        );
        match (want, verdict) {
            (_, verdict) if asked_for => self.answer(context, verdict),
            _ if accepted => self.proceed(context),
            // A restarted filter does not want a client whom we have greeted already.
            (Want::Connect, Verdict::Refuse(reply)) => self.answer(context, Verdict::Close(reply)),
            (_, verdict) => self.answer(context, verdict),
        }
    }

    fn recipients_decided(
        &mut self,
        context: &mut Context<'_>,
        decisions: &[Decision],
    ) -> Result<(), ChannelError> {
        let mut verdicts =
            decisions.iter().map(|decision| self.verdict(decision)).collect::<Result<Vec<_>, _>>()?;
        let Some(transaction) = &mut self.transaction else {
            self.answer(context, Verdict::Unavailable);
            return Ok(());
        };
        if verdicts.len() != transaction.batch.len() {
            return Err(misbehaved("answered another number of recipients than it was asked"));
        }
        let batch = std::mem::take(&mut transaction.batch);
        let beyond = transaction.beyond.take();
        let mut refused = None;
        for (request, verdict) in batch.into_iter().zip(&verdicts) {
            if matches!(verdict, Verdict::Accept | Verdict::AcceptWith(_)) {
                transaction.accepted += 1;
                transaction.first.get_or_insert(request.address);
            } else if let Verdict::Refuse(reply) | Verdict::Close(reply) = verdict {
                refused.get_or_insert((request.address, reply.clone()));
            }
        }
        let count = verdicts
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Refuse(_) | Verdict::Close(_)))
            .count();
        if let Some((address, reply)) = refused {
            self.note_refused(context, "rcpt", &reply, count, Some(address.to_string()));
        }
        if let Some((count, reply)) = beyond {
            self.note_refused(context, "rcpt", &reply, count, None);
            verdicts.extend(std::iter::repeat_n(Verdict::Refuse(reply), count));
        }
        self.asking = Asking::Nothing;
        self.topic = None;
        let _ = self.dialogue.answer_each(verdicts);
        self.after_answer(context);
        Ok(())
    }

    /// Refuses the recipients that are being asked about, without asking the filter.
    pub(super) fn refuse_recipients(&mut self, context: &mut Context<'_>, reply: &Reply) {
        let batch = self.transaction.as_mut().map(|transaction| std::mem::take(&mut transaction.batch));
        let batch = batch.unwrap_or_default();
        let first = batch.first().map(|request| request.address.to_string());
        self.note_refused(context, "rcpt", reply, batch.len(), first);
        self.asking = Asking::Nothing;
        self.topic = None;
        let _ = self.dialogue.answer(Verdict::Refuse(reply.clone()));
        self.after_answer(context);
    }

    fn chunk_answered(&mut self, context: &mut Context<'_>, kept: Kept) {
        self.asking = Asking::Nothing;
        let incoming = self.transaction.as_mut().and_then(|transaction| transaction.incoming.as_mut());
        let Some(incoming) = incoming else { return };
        match kept {
            Kept::Stored => incoming.store.chunk_is_stored(),
            Kept::NoRoom => incoming.store.fail(Failure::NoRoom),
            Kept::Unavailable => incoming.store.fail(Failure::Busy),
        }
        if self.topic.is_some() || incoming.store.has_chunk(false) {
            self.proceed(context);
        }
    }

    /// Answers the dialogue's question; with none open (a chunk failed, the message is still coming in) nothing is said.
    pub(super) fn answer(&mut self, context: &mut Context<'_>, verdict: Verdict) {
        self.asking = Asking::Nothing;
        let Some(topic) = self.topic.take() else { return };
        match &verdict {
            Verdict::Refuse(reply) | Verdict::Close(reply) => {
                self.note_refused(context, topic.name(), reply, 1, None)
            }
            Verdict::Unavailable => self.note_unavailable(context, topic),
            Verdict::Accept | Verdict::AcceptWith(_) => {}
        }
        if topic == Topic::Door {
            return self.let_in(context, &verdict);
        }
        if topic == Topic::Login {
            return self.login_decided(context, verdict);
        }
        if topic == Topic::Connect && self.asks_about_stated(context, &verdict) {
            return;
        }
        if topic == Topic::Handshake && self.service.begins_with_tls() {
            return self.handshake_decided(context, &verdict);
        }
        if topic == Topic::Hello && !matches!(verdict, Verdict::Accept | Verdict::AcceptWith(_)) {
            self.hello = None;
        }
        // It was open, or there would be no topic.
        let _ = self.dialogue.answer(verdict);
        self.after_answer(context);
    }

    fn after_answer(&mut self, context: &mut Context<'_>) {
        if !self.dialogue.in_transaction() {
            self.drop_transaction(context.services);
        }
        self.restart_wait(context);
    }

    fn note_refused(
        &mut self,
        context: &mut Context<'_>,
        stage: &'static str,
        reply: &Reply,
        count: usize,
        recipient: Option<String>,
    ) {
        self.tally.refused = self.tally.refused.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        context.services.figures.refused += count as u64;
        let from =
            self.transaction.as_ref().map(|transaction| format!("<{}>", transaction.mail.reverse_path));
        Record::new("refused")
            .field("stage", stage)
            .field("session", self.number)
            .field("client", self.who)
            .maybe("client_name", self.name())
            .maybe("helo", self.hello.as_ref().map(|hello| hello.name.as_str()))
            .maybe("from", from)
            .maybe("to", recipient.map(|address| format!("<{address}>")))
            .maybe("count", (count > 1).then_some(count))
            .field("reply", reply)
            .emit();
    }

    fn note_unavailable(&mut self, context: &mut Context<'_>, topic: Topic) {
        self.tally.unavailable = self.tally.unavailable.saturating_add(1);
        context.services.figures.unavailable += 1;
        Record::at(log::Level::Debug, "unavailable")
            .field("stage", topic.name())
            .field("session", self.number)
            .field("client", self.who)
            .emit();
    }
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Topic::Door => "door",
            Topic::Handshake => "starttls",
            Topic::Connect => "connect",
            Topic::Hello => "helo",
            Topic::Login => "authenticate",
            Topic::Mail => "mail",
            Topic::Recipients => "rcpt",
            Topic::Data => "data",
            Topic::Message => "message",
        }
    }
}
