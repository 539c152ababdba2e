//! What filters ask of the limiter for their rules.

use std::os::fd::OwnedFd;

use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_limits::{Answer, Ask};
use vsmtp_ipc::role::ProcessName;

use super::Limiter;
use crate::receivers::EdgeKey;

impl Limiter {
    /// A filter is there.
    pub(super) fn meet_filter(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        reactor.served();
        if let Err(error) = self.filters.introduce(reactor, name, socket) {
            Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
        }
    }

    /// Answers all that a filter has asked.
    pub(super) fn hear_filter(&mut self, reactor: &mut Reactor, key: EdgeKey) {
        loop {
            let heard = match self.filters.hear(key) {
                Ok(Some(ask)) => self.answer_filter(reactor.now_ms(), key, &ask),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return self.filters.close(reactor, key, &error);
            }
        }
    }

    fn answer_filter(&mut self, now_ms: u64, key: EdgeKey, ask: &Ask) -> Result<(), ChannelError> {
        let Ask::Take { ticket, taking } = ask;
        taking.check()?;
        let taken = self.rates.take(now_ms, taking);
        self.figures.takings += 1;
        self.figures.takings_refused += u64::from(!taken.granted);
        self.filters.answer(key, &Answer::Taken { ticket: *ticket, taken })
    }
}
