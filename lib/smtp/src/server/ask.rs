//! The commands: which is allowed when, and what each asks for.

use vsmtp_mail::{BodyType, MAX_WAIT_S, Priority, Release};

use super::dialogue::Handled;
use super::state::{Open, Phase, Transaction};
use super::{Dropped, Hello, MAX_BATCH, Question, Session};
use crate::command::{HeloName, MailRequest, RcptRequest, Verb};
use crate::line::{self, Line, PATH_LINE_LIMIT};
use crate::reply::{self, MIN_BY_S, Own};
use crate::settings::Protocol;

impl Session {
    /// Handles one command line; `behind` is the input that follows it.
    pub(super) fn command(&mut self, text: &[u8], behind: &[u8]) -> Handled {
        let (verb, arguments) = match Verb::split(text) {
            Ok(split) => split,
            Err(fault) => return self.failed(fault),
        };
        if verb != Verb::Bdat {
            self.forget_strays();
        }
        match verb {
            Verb::Rcpt => self.rcpt(arguments, behind),
            Verb::Mail => {
                let handled = self.mail(arguments);
                self.forgets_forwarded(handled)
            }
            Verb::Data => self.data(arguments),
            Verb::Bdat => self.bdat(arguments),
            Verb::Ehlo if !self.speaks_ehlo() => self.failed(Own::NotImplemented),
            Verb::Helo | Verb::Ehlo | Verb::Lhlo => self.hello(verb, arguments),
            Verb::Rset => {
                let handled = self.rset(arguments);
                self.forgets_forwarded(handled)
            }
            Verb::Noop => self.junk(Own::Ok),
            Verb::Help => self.help(),
            Verb::StartTls => self.starttls(arguments, behind),
            Verb::Auth => self.auth(arguments),
            Verb::XClient => self.xclient(arguments),
            Verb::XForward => self.xforward(arguments),
            Verb::Vrfy if !self.settings.vrfy => self.failed(Own::NotImplemented),
            Verb::Vrfy => self.vrfy(arguments),
            Verb::Quit if !arguments.is_empty() => self.failed(Own::BadArguments),
            Verb::Quit => {
                self.close(Own::Closing);
                Handled::Done
            }
            Verb::Http => {
                self.close(Own::NotSmtp);
                Handled::Done
            }
            Verb::Unoffered => self.failed(Own::NotImplemented),
            Verb::Unknown => self.failed(Own::UnknownCommand),
        }
    }

    /// Over LMTP there is no EHLO at all.
    fn speaks_ehlo(&self) -> bool {
        self.settings.ehlo || self.settings.protocol == Protocol::Lmtp
    }

    fn hello(&mut self, verb: Verb, arguments: &str) -> Handled {
        let lmtp = self.settings.protocol == Protocol::Lmtp;
        if lmtp != (verb == Verb::Lhlo) {
            return self.failed(Own::UnknownCommand);
        }
        let name = match HeloName::parse(arguments) {
            Ok(name) => name,
            Err(fault) => return self.failed(fault),
        };
        match self.phase {
            Phase::Mail(_) | Phase::Body(_) => {
                self.drop_chunks(Dropped::Hello);
                return Handled::Again;
            }
            Phase::Ready => self.count_junk(),
            _ => {}
        }
        let extended = verb != Verb::Helo;
        self.asked(Open::Hello { extended }, Question::Hello(Hello { name, extended }))
    }

    fn mail(&mut self, arguments: &str) -> Handled {
        match self.phase {
            Phase::Ready => {}
            Phase::Mail(_) | Phase::Body(_) => return self.failed(Own::NestedMail),
            _ => return self.failed(self.hello_first()),
        }
        if let Some(first) = self.gate() {
            return self.turned_back(first);
        }
        let mut request = match MailRequest::parse(arguments, self.parameters()) {
            Ok(request) => request,
            Err(fault) => return self.failed(fault),
        };
        let limit = self.settings.limits.body.size;
        if limit != 0 && request.size.is_some_and(|size| size > limit) {
            return self.failed(Own::MessageTooBig);
        }
        if !self.is_near(request.wishes.release) {
            return self.failed(Own::BadParameter);
        }
        if request.wishes.by.is_some_and(|by| by.returns && by.seconds < MIN_BY_S) {
            return self.failed(Own::TooSoon);
        }
        let binary = request.body == BodyType::BinaryMime;
        let mut yes = Own::SenderOk;
        if request.wishes.priority > Priority::default() && !self.settings.raise_priority {
            request.wishes.priority = Priority::default();
            yes = Own::PriorityLowered;
        }
        self.asked(Open::Mail { smtputf8: request.smtputf8, binary, yes }, Question::Mail(request))
    }

    /// True if the time of release is one that EHLO has promised.
    fn is_near(&self, release: Option<Release>) -> bool {
        match release {
            None => true,
            Some(Release::After(seconds)) => seconds <= MAX_WAIT_S,
            Some(Release::At(at_s)) => at_s <= self.opened_s.saturating_add(MAX_WAIT_S.into()),
        }
    }

    /// Asks about this recipient and those that were sent right behind it: one question instead of many.
    fn rcpt(&mut self, arguments: &str, behind: &[u8]) -> Handled {
        let Phase::Mail(transaction) = self.phase else { return self.failed(self.no_transaction()) };
        let limit = self.settings.limits.recipients;
        let Some(room) = limit.checked_sub(transaction.accepted).filter(|room| *room > 0) else {
            return self.excess();
        };
        let first = match self.rcpt_request(arguments, transaction) {
            Ok(request) => request,
            Err(fault) => return self.recipient_failed(fault),
        };
        let room = usize::try_from(room).unwrap_or(MAX_BATCH).min(MAX_BATCH);
        let mut batch = vec![first];
        let mut used = 0;
        while batch.len() < room {
            let Some((request, length)) = self.next_rcpt(behind.get(used..).unwrap_or_default(), transaction)
            else {
                break;
            };
            batch.push(request);
            used += length;
        }
        self.open = Some(Open::Recipients { count: batch.len() });
        Handled::Ask { question: Question::Recipients(batch), used }
    }

    /// The next line, if it is a RCPT without fault.
    fn next_rcpt(&self, input: &[u8], transaction: Transaction) -> Option<(RcptRequest, usize)> {
        let Line::Complete { text, used } = line::split(input, PATH_LINE_LIMIT, self.settings.bare_newline)
        else {
            return None;
        };
        match Verb::split(text) {
            Ok((Verb::Rcpt, arguments)) => Some((self.rcpt_request(arguments, transaction).ok()?, used)),
            _ => None,
        }
    }

    fn rcpt_request(&self, arguments: &str, transaction: Transaction) -> Result<RcptRequest, Own> {
        RcptRequest::parse(arguments, self.parameters(), transaction.smtputf8, &self.settings.name)
    }

    fn recipient_failed(&mut self, fault: Own) -> Handled {
        if let Phase::Mail(transaction) = &mut self.phase {
            transaction.refused += 1;
        }
        self.failed(fault)
    }

    /// One recipient too many. An honest client may send its whole list before it reads the first 452, so only a second
    /// such list counts against it.
    fn excess(&mut self) -> Handled {
        let Phase::Mail(transaction) = &mut self.phase else { return Handled::Done };
        transaction.excess += 1;
        if transaction.excess > self.settings.limits.recipients {
            return self.failed(Own::TooManyRecipients);
        }
        self.say(Own::TooManyRecipients);
        Handled::Done
    }

    fn data(&mut self, arguments: &str) -> Handled {
        let Phase::Mail(transaction) = self.phase else {
            let greeted = !matches!(self.phase, Phase::Greeted);
            return self.failed(if greeted { self.no_transaction() } else { self.hello_first() });
        };
        if transaction.binary {
            return self.failed(Own::BinaryNeedsBdat);
        }
        if !arguments.is_empty() {
            return self.failed(Own::BadArguments);
        }
        match self.nobody(transaction) {
            Some(fault) => self.failed(fault),
            None => self.asked(Open::Data { chunk: None }, Question::Data),
        }
    }

    /// The fault of a message that nobody would get.
    pub(super) fn nobody(&self, transaction: Transaction) -> Option<Own> {
        match (transaction.accepted, transaction.refused) {
            (0, 0) => Some(Own::RcptFirst),
            // RFC 2033 4.2 wants 503 of LMTP here.
            (0, _) if self.settings.protocol == Protocol::Lmtp => Some(Own::RcptFirst),
            (0, _) => Some(Own::NoValidRecipients),
            _ => None,
        }
    }

    /// The fault of a command that the client's name must come before.
    pub(super) fn hello_first(&self) -> Own {
        match self.settings.protocol {
            Protocol::Smtp => Own::HeloFirst,
            Protocol::Lmtp => Own::LhloFirst,
        }
    }

    /// The fault of a command that needs an open transaction without a message.
    fn no_transaction(&self) -> Own {
        if matches!(self.phase, Phase::Body(_)) { Own::MessageBegun } else { Own::MailFirst }
    }

    fn rset(&mut self, arguments: &str) -> Handled {
        if !arguments.is_empty() {
            return self.failed(Own::BadArguments);
        }
        if matches!(self.phase, Phase::Mail(_) | Phase::Body(_)) {
            self.drop_chunks(Dropped::Reset);
        }
        self.junk(Own::Ok)
    }

    fn vrfy(&mut self, arguments: &str) -> Handled {
        match self.gate() {
            Some(first) => self.turned_back(first),
            None if arguments.is_empty() => self.failed(Own::BadArguments),
            None if !arguments.is_ascii() => self.failed(Own::NeedsSmtpUtf8),
            None => self.junk(Own::CannotVerify),
        }
    }

    fn help(&mut self) -> Handled {
        reply::write_help(&self.settings, self.offered(), &mut self.output);
        self.count_junk();
        Handled::Done
    }

    pub(super) fn junk(&mut self, own: Own) -> Handled {
        self.say(own);
        self.count_junk();
        Handled::Done
    }

    pub(super) fn failed(&mut self, fault: Own) -> Handled {
        self.fail(fault);
        Handled::Done
    }

    pub(super) fn asked(&mut self, open: Open, question: Question) -> Handled {
        // The command itself may have been one too many.
        if matches!(self.phase, Phase::Closing(_)) {
            return Handled::Done;
        }
        self.open = Some(open);
        Handled::Ask { question, used: 0 }
    }
}
