//! What was accepted against what arrived: lost, torn, and twice, and whether each of those may be.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::{Attempt, Fate, Letter, Mta, Sink};

/// An outcome is on its way to the log for at most this long on a loaded machine; a kill within it may repeat a delivery.
const OUTCOME_ON_ITS_WAY: Duration = Duration::from_secs(5);

/// One copy of one letter that arrived for one recipient.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Which letter.
    pub letter: Letter,
    /// For whom.
    pub recipient: String,
    /// When.
    pub at: SystemTime,
}

/// One process was killed.
#[derive(Debug, Clone)]
pub struct Kill {
    /// The process, as `vsmtpctl status` calls it, or `master` or `system`.
    pub victim: String,
    /// Not before this.
    pub from: SystemTime,
    /// Not after this.
    pub until: SystemTime,
}

/// The account of one run.
#[derive(Debug, Default)]
pub struct Audit {
    /// Attempts that were answered with 250.
    pub accepted: usize,
    /// Delivery reports that arrived.
    pub reports: usize,
    /// Of the accepted, each recipient that got nothing and of whom the sender was told nothing.
    pub lost: Vec<String>,
    /// What arrived and is not as it was sent.
    pub torn: Vec<String>,
    /// What arrived though its final dot was never sent.
    pub never_sent: Vec<String>,
    /// Delivered more than once: the process that delivered, or the one that notes it, was killed in between.
    pub repeated: usize,
    /// The same by the first victim that explains it.
    pub repeated_by: BTreeMap<String, usize>,
    /// The same with no kill to explain it.
    pub repeated_for_no_reason: Vec<String>,
    /// Attempts without an answer that arrived all the same.
    pub unanswered_and_delivered: usize,
    /// Attempts that were refused while a process was killed between store and client, and arrived all the same.
    pub refused_and_delivered: usize,
    /// The same with no kill to explain it.
    pub refused_and_delivered_for_no_reason: Vec<String>,
    /// Attempts by fate: refused, declined, unanswered, broken.
    pub others: [usize; 4],
}

impl Audit {
    /// Compares. `once` are header fields that each letter must have exactly once.
    pub fn of(attempts: &[Attempt], kills: &[Kill], mta: &Mta, sink: &Sink, once: &[&str]) -> Audit {
        let mut audit = Audit::default();
        let arrivals = audit.collect(mta, sink, once);
        let mut copies: HashMap<(Letter, &str), Vec<SystemTime>> = HashMap::new();
        for arrival in &arrivals {
            copies.entry((arrival.letter, &arrival.recipient)).or_default().push(arrival.at);
        }
        let arrived: HashSet<Letter> = arrivals.iter().map(|arrival| arrival.letter).collect();
        for attempt in attempts {
            let wanted = attempt.letter.recipients();
            let missing = wanted.iter().filter(|to| !copies.contains_key(&(attempt.letter, to.as_str())));
            audit.judge(attempt, arrived.contains(&attempt.letter), missing.collect(), kills);
        }
        for ((letter, recipient), mut times) in copies {
            times.sort();
            for pair in times.windows(2) {
                audit.judge_copy(&format!("{letter:?} for {recipient}"), recipient, pair, kills);
            }
        }
        audit
    }

    /// True if nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.torn.is_empty()
            && self.never_sent.is_empty()
            && self.repeated_for_no_reason.is_empty()
            && self.refused_and_delivered_for_no_reason.is_empty()
    }

    fn collect(&mut self, mta: &Mta, sink: &Sink, once: &[&str]) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for message in sink.messages() {
            if message.from.is_empty() {
                self.reports += 1;
                match Letter::read_report(&message.data) {
                    Some(letter) => arrivals.push(Arrival {
                        letter,
                        recipient: Letter::UNKNOWN.to_owned(),
                        at: message.arrived,
                    }),
                    None => self.torn.push(format!("a report: {:.4000}", message.data)),
                }
                continue;
            }
            for recipient in &message.to {
                self.take(&mut arrivals, recipient, message.arrived, &message.data, once);
            }
        }
        for user in Letter::mailboxes() {
            for (at, mail) in mta.mail_files("local.test", &user) {
                self.take(&mut arrivals, &format!("{user}@local.test"), at, &mail, once);
            }
        }
        arrivals
    }

    fn take(&mut self, arrivals: &mut Vec<Arrival>, to: &str, at: SystemTime, mail: &str, once: &[&str]) {
        match Letter::read(mail, once) {
            Some((letter, true)) => arrivals.push(Arrival { letter, recipient: to.to_owned(), at }),
            torn => self.torn.push(format!("{torn:?} for {to}: {:.2000}", mail)),
        }
    }

    fn judge(&mut self, attempt: &Attempt, arrived: bool, missing: Vec<&String>, kills: &[Kill]) {
        let what = format!("{attempt:?}");
        match attempt.fate {
            Fate::Accepted => {
                self.accepted += 1;
                self.lost.extend(missing.into_iter().map(|to| format!("{what} for {to}")));
            }
            Fate::Refused(_) => {
                self.others[0] += 1;
                let between = |kill: &&Kill| {
                    kill.until >= attempt.began
                        && kill.from <= attempt.ended
                        && is_one_of(&kill.victim, &["filter-session", "queue-manager", "master", "system"])
                };
                match (arrived, kills.iter().find(between)) {
                    (false, _) => {}
                    (true, Some(_)) => self.refused_and_delivered += 1,
                    (true, None) => self.refused_and_delivered_for_no_reason.push(what),
                }
            }
            Fate::Unanswered => {
                self.others[2] += 1;
                self.unanswered_and_delivered += usize::from(arrived);
            }
            Fate::Declined(_) | Fate::Broken => {
                self.others[if attempt.fate == Fate::Broken { 3 } else { 1 }] += 1;
                if arrived {
                    self.never_sent.push(what);
                }
            }
        }
    }

    fn judge_copy(&mut self, what: &str, recipient: &str, pair: &[SystemTime], kills: &[Kill]) {
        let deliverer = if recipient.ends_with("@local.test") { "deliver-mailbox" } else { "deliver-smtp" };
        let [first, second] = pair else { return };
        let explains = |kill: &Kill| {
            kill.until + OUTCOME_ON_ITS_WAY >= *first
                && kill.from <= *second
                && is_one_of(&kill.victim, &[deliverer, "queue-manager", "master", "system"])
        };
        if let Some(kill) = kills.iter().find(|kill| explains(kill)) {
            self.repeated += 1;
            *self.repeated_by.entry(kill.victim.clone()).or_default() += 1;
        } else {
            self.repeated_for_no_reason.push(format!("{what} at {first:?} and {second:?}"));
        }
    }
}

fn is_one_of(victim: &str, roles: &[&str]) -> bool {
    roles.iter().any(|role| victim.starts_with(role))
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [refused, declined, unanswered, broken] = self.others;
        write!(
            f,
            "accepted {}, reports {}, lost {}, torn {}; delivered twice {} {:?}; delivered though unanswered {}, refused {}; \
             unexplained {}; attempts refused {refused}, declined {declined}, unanswered {unanswered}, broken {broken}",
            self.accepted,
            self.reports,
            self.lost.len(),
            self.torn.len() + self.never_sent.len(),
            self.repeated,
            self.repeated_by,
            self.unanswered_and_delivered,
            self.refused_and_delivered,
            self.repeated_for_no_reason.len() + self.refused_and_delivered_for_no_reason.len(),
        )
    }
}
