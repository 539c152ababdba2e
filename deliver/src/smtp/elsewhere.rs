//! Messages that a server lacks something for, so that it heard nothing of them: another server of the same next hop may have it.
//! They go on by a way of their own, which leaves that server out, and fail only where none is left.

use std::rc::Rc;

use vsmtp_daemon::Record;
use vsmtp_mail::EnhancedCode;
use vsmtp_smtp::{Outcome, Why};

use crate::lease::Verdict;
use crate::smtp::Smtp;
use crate::smtp::connection::Work;
use crate::smtp::destination::{RouteState, Waiting};
use crate::smtp::transaction;
use crate::smtp::way::Way;

/// Most places that one message leaves out. Where so many lack what it needs, no other has it.
const MAX_LEFT_OUT: usize = 16;

impl Smtp {
    /// The outcomes of a transaction as they stand, or nothing if the message now waits for another server. What a server
    /// lacks for some recipients only is not their last word while there are other servers.
    pub(super) fn or_elsewhere(
        &mut self,
        token: usize,
        work: Work,
        outcomes: Vec<Outcome>,
    ) -> Option<(Work, Vec<Outcome>)> {
        let Some(connection) = self.connections.get(&token) else { return Some((work, outcomes)) };
        if !outcomes.iter().any(is_lack) {
            return Some((work, outcomes));
        }
        let mut left_out = connection.serves.left_out.clone();
        left_out.push(connection.site.endpoint.clone());
        let state = self.destinations.get(&connection.serves).map(|destination| &destination.route);
        let known = match state {
            Some(RouteState::Known { route, until_ms }) => Some((route, *until_ms)),
            _ => None,
        };
        let others = known.map(|(route, until_ms)| (route.without(&left_out, self.slice.family), until_ms));
        let any_left = others.as_ref().is_none_or(|(others, _)| others.is_some());
        if !any_left || left_out.len() > MAX_LEFT_OUT {
            // A policy that could not be fetched may be what would have proved the server.
            let may_be_proven = work.lease.demands.requiretls && !connection.is_proven();
            let unclear =
                known.is_some_and(|(route, _)| route.incomplete || may_be_proven && route.sts_missed);
            return Some((work, if unclear { softened(outcomes) } else { outcomes }));
        }
        if !outcomes.iter().all(is_lack) {
            return Some((work, softened(outcomes)));
        }
        let lack = outcomes.first().and_then(lack);
        let reason = lack.as_ref().map(|lack| lack.text.clone()).unwrap_or_default();
        Record::new("tried-elsewhere")
            .field("id", work.lease.id)
            .field("remote", &connection.site)
            .field("reason", reason)
            .emit();
        let lack = lack.map(|lack| (connection.site.to_string(), lack));
        let way = Rc::new(Way { left_out, ..(*connection.serves).clone() });
        let destination = self.destinations.entry(Rc::clone(&way)).or_default();
        if let (RouteState::Unknown, Some((Some(route), until_ms))) = (&destination.route, others) {
            destination.route = RouteState::Known { route: Rc::new(route), until_ms };
        }
        destination.waiting.push_back(Waiting { lease: work.lease, retries: work.retries, lack });
        self.mark(way);
        None
    }
}

/// True if it is we who say so: nothing was said to the server.
fn is_lack(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Fail(Why::Local(_)))
}

fn lack(outcome: &Outcome) -> Option<Verdict> {
    let Outcome::Fail(why) = outcome else { return None };
    let enhanced = why.reply().enhanced().unwrap_or(EnhancedCode(5, 5, 0));
    Some(Verdict::failed(enhanced, transaction::text(why)))
}

fn softened(outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let soften = |outcome| match outcome {
        Outcome::Fail(why @ Why::Local(_)) => Outcome::Defer(why),
        other => other,
    };
    outcomes.into_iter().map(soften).collect()
}
