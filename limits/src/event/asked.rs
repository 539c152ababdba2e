//! What filters ask of the limiter for their rules.

use std::os::fd::OwnedFd;

use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_limits::{Answer, Ask, MAX_TRIPLES};
use vsmtp_ipc::role::ProcessName;

use super::{FIRST_FILTER, Limiter};
use crate::receivers::EdgeKey;

impl Limiter {
    /// A filter is there.
    pub(super) fn meet_filter(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        reactor.served();
        let token = FIRST_FILTER + self.filters_met;
        self.filters_met += 1;
        if let Err(error) = self.filters.introduce(reactor, name, socket, token) {
            Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
        }
    }

    /// Answers all that a filter has asked.
    pub(super) fn hear_filter(&mut self, reactor: &mut Reactor, key: EdgeKey) {
        loop {
            let heard = match self.filters.hear(key) {
                Ok(Some(ask)) => self.answer_filter(reactor, key, &ask.message),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return self.filters.close(reactor, key, &error);
            }
        }
    }

    fn answer_filter(&mut self, reactor: &Reactor, key: EdgeKey, ask: &Ask) -> Result<(), ChannelError> {
        let now_s = reactor.wall_ms() / 1_000;
        let answer = match ask {
            Ask::Take { ticket, taking } => {
                taking.check()?;
                let taken = self.rates.take(reactor.now_ms(), taking);
                self.figures.takings += 1;
                self.figures.takings_refused += u64::from(!taken.granted);
                Answer::Taken { ticket: *ticket, taken }
            }
            Ask::Greylist { ticket, triple, terms } => {
                triple.check()?;
                terms.check()?;
                let wait_s = self.greylist.ask(now_s, triple, terms);
                self.figures.greylisted += u64::from(wait_s > 0);
                Answer::Greylisted { ticket: *ticket, wait_s }
            }
            Ask::Accepted { ticket, triples } => {
                if triples.len() > MAX_TRIPLES {
                    return Err(ChannelError::Misbehaved("more triples than there may be".to_owned()));
                }
                for (triple, terms) in triples {
                    triple.check()?;
                    terms.check()?;
                    self.greylist.accepted(now_s, triple, terms);
                }
                Answer::Noted { ticket: *ticket }
            }
        };
        self.filters.say(key, &answer)
    }
}
