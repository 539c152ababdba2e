//! How rules reach the resolver.

use std::time::Duration;

use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::client_resolver::{
    Answer, CREDITS, DnsError, MAX_DEADLINE_MS, Query, Question, Records,
};

use super::inquiry::{Door, Inquiry};
use crate::names::{MAX_QUERIES, Names};

/// The edge to the resolver.
pub enum Resolving {}

impl Inquiry for Resolving {
    type Asked = Query;
    type Heard = Result<Records, DnsError>;
    type Question = Question;
    type Answer = Answer;
    const EDGE: EdgeId = EdgeId::ClientResolver;
    const CREDITS: u32 = CREDITS;

    fn question(query: &Query, ticket: u64, left: Duration) -> Question {
        let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).min(MAX_DEADLINE_MS);
        Question { ticket, query: query.clone(), deadline_ms }
    }

    fn heard(answer: Answer) -> (u64, Self::Heard) {
        (answer.ticket, answer.result)
    }
}

impl Names for Door<Resolving> {
    fn ask(&self, mut queries: Vec<Query>, limit: Duration) -> Vec<Result<Records, DnsError>> {
        let all = queries.len();
        queries.truncate(MAX_QUERIES);
        let mut answers: Vec<_> = Door::ask(self, queries, limit)
            .into_iter()
            .map(|a| a.unwrap_or(Err(DnsError::Temporary)))
            .collect();
        answers.resize(all, Err(DnsError::Temporary));
        answers
    }
}
