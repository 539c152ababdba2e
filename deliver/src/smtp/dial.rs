//! The search for a server that lets us in: places one after the other, and what all that they did amounts to. Pure. On failure it
//! is "never" only if every place there is said so.

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::queue_deliver::{Advice, Result3};
use vsmtp_mail::EnhancedCode;

use crate::lease::Verdict;
use crate::smtp::breaker::Open;
use crate::smtp::route::Site;

/// How long hosts are tried one after the other, in milliseconds; each of them has its own time-outs.
const MAX_DIAL_MS: u64 = 10 * 60_000;

/// Places that are tried for one next hop.
pub struct Dial {
    /// Places not tried yet, the next one last.
    pub left: Vec<Site>,
    /// Since when.
    pub started_ms: u64,
    /// What the places asked for, or what is known of those that are left alone.
    pub advice: Advice,
    /// Somebody answered who lacks the TLS that this way needs: another way may do without.
    pub insecure: bool,
    /// What the last place did, and whether every one so far has refused us for good.
    refused: Option<(Site, Verdict)>,
    /// There are more places than are tried.
    more: bool,
}

impl Dial {
    /// Of these places, in order; `more` if there are others that are not tried.
    pub fn new(mut places: Vec<Site>, more: bool, now_ms: u64) -> Self {
        places.reverse();
        let advice = Advice::default();
        Dial { left: places, started_ms: now_ms, advice, insecure: false, refused: None, more }
    }

    /// The next place, if there is one and time is left.
    pub fn next(&mut self, now_ms: u64) -> Option<Site> {
        if now_ms > self.started_ms.saturating_add(MAX_DIAL_MS) {
            return None;
        }
        self.left.pop()
    }

    /// What one place did.
    pub fn note(&mut self, site: Site, verdict: Verdict) {
        Record::new("connect-failed").field("remote", &site).field("reason", &verdict.text).emit();
        let verdict = match &self.refused {
            Some((_, before)) if before.result != Result3::Failed => verdict.softened(),
            _ => verdict,
        };
        self.refused = Some((site, verdict));
    }

    /// A place that is not tried: it may be good again, so what the others say cannot make it "never".
    pub fn leave_alone(&mut self, site: Site, open: &Open) {
        let seconds = u32::try_from(open.left_ms.div_ceil(1000)).unwrap_or(Advice::MAX_S);
        self.advice.retry_after_s = self.advice.retry_after_s.max(seconds.min(Advice::MAX_S));
        let text =
            format!("host is left alone for {seconds} s after failures, the last being: {}", open.reason);
        self.refused = match self.refused.take() {
            Some((before, other)) => Some((before, other.softened())),
            None => Some((site, Verdict::deferred(EnhancedCode(4, 4, 1), text))),
        };
    }

    /// That place is ourselves: mail may go only to those that the domain prefers (RFC 5321 5.1).
    pub fn keep_better_than(&mut self, site: &Site) {
        self.left.retain(|other| other.preference < site.preference);
    }

    /// What it amounts to that no place let us in, and which place said so.
    pub fn verdict(self) -> (String, Verdict) {
        let Some((site, verdict)) = self.refused else {
            return (String::new(), Verdict::deferred(EnhancedCode(4, 4, 1), "no address of this family"));
        };
        let all_tried = self.left.is_empty() && !self.more;
        (site.to_string(), if all_tried { verdict } else { verdict.softened() })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use vsmtp_smtp::Protocol;

    use super::*;
    use crate::smtp::route::Endpoint;
    use crate::smtp::security::Security;

    fn site(preference: u16) -> Site {
        Site {
            endpoint: Endpoint::Tcp(([192, 0, 2, 1], 25).into()),
            host: "mx.test".into(),
            preference,
            protocol: Protocol::Smtp,
            security: Rc::new(Security::Clear),
            source: None,
            counted: None,
        }
    }

    fn never() -> Verdict {
        Verdict::failed(EnhancedCode(5, 3, 2), "no mail here")
    }

    #[test]
    fn it_is_never_only_if_every_place_says_so() {
        let result = |places: usize, more: bool, said: &[Verdict]| {
            let mut dial = Dial::new(vec![site(0); places], more, 0);
            for verdict in said {
                let place = dial.next(0).unwrap();
                dial.note(place, verdict.clone());
            }
            dial.verdict().1.result
        };
        let later = || Verdict::deferred(EnhancedCode(4, 4, 1), "refused");
        assert_eq!(result(2, false, &[never(), never()]), Result3::Failed);
        assert_eq!(result(2, false, &[later(), never()]), Result3::Deferred);
        assert_eq!(result(2, false, &[never(), later()]), Result3::Deferred);
        assert_eq!(result(2, false, &[never()]), Result3::Deferred, "one was not tried");
        assert_eq!(result(1, true, &[never()]), Result3::Deferred, "there are others");
        assert_eq!(result(0, false, &[]), Result3::Deferred);
    }

    #[test]
    fn when_the_time_is_up_what_was_not_tried_keeps_it_from_being_never() {
        let mut dial = Dial::new(vec![site(0); 2], false, 1000);
        let place = dial.next(1000 + MAX_DIAL_MS).unwrap();
        dial.note(place, never());
        assert_eq!(dial.next(1001 + MAX_DIAL_MS), None);
        assert_eq!(dial.verdict().1.result, Result3::Deferred);
    }

    #[test]
    fn behind_ourselves_nothing_is_tried_that_is_no_better() {
        let mut dial = Dial::new([10, 20, 20, 30].map(site).to_vec(), false, 0);
        dial.next(0);
        let us = dial.next(0).unwrap();
        dial.keep_better_than(&us);
        assert_eq!(dial.next(0), None);
    }
}
