//! The desk: what is asked, what is being looked up for whom, and what is remembered. Pure: time comes in, acts come out.
//!
//! Each question gets exactly one answer, not later than its deadline. Equal look-ups are made once. A client that asks for
//! more than its share of look-ups is told to come back, and nobody else notices.

mod cache;
mod join;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records};

use crate::finding::{Finding, Key, Kind};
use crate::judge::Task;
use crate::local::Local;
use crate::name;
use crate::zone::{Found, Judged, Missing, Zone};
use cache::Cache;
use join::{Addresses, join};

/// Most look-ups that one client may have caused and that are still running; some outlive their questions.
const MAX_LOOK_UPS_PER_CLIENT: usize = 1024;
/// Most look-ups that one judgement may need, whatever its own limits are.
const MAX_PARTS: usize = 256;
/// How long addresses of one family wait for those of the other.
const GRACE: Duration = Duration::from_secs(1);
/// How long a verdict that is reached waits for the words that go with it.
const WORDS_GRACE: Duration = Duration::from_secs(2);

/// Names an edge; never used twice.
pub type ClientId = usize;

/// Where an answer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The edge.
    pub client: ClientId,
    /// As the client called its question.
    pub ticket: u64,
}

/// What the desk wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Answer a question.
    Answer(Asker, Result<Records, DnsError>, bool),
    /// Look this up, and report it by [`Desk::found`].
    LookUp(Key),
    /// Call [`Desk::due`] with this number at that time.
    Timer(u64, u64),
}

/// The desk.
pub struct Desk {
    local: Local,
    cache: Cache,
    /// Open questions by number.
    questions: HashMap<u64, Open>,
    look_ups: HashMap<Key, LookUp>,
    /// Look-ups that run because of a client.
    shares: HashMap<ClientId, usize>,
    last_number: u64,
    hits: u64,
    /// Seconds since 1970, as of the last turn.
    now_s: u64,
}

struct Open {
    asker: Asker,
    deadline_ms: u64,
    parts: Vec<Part>,
    /// What is to be made of the parts, if they are not the answer themselves. More may come to be needed.
    task: Option<Task>,
}

/// One of the look-ups that a question needs.
struct Part {
    key: Key,
    finding: Option<Arc<Finding>>,
}

struct LookUp {
    caused_by: ClientId,
    waiting: Vec<u64>,
}

impl Desk {
    /// An empty desk that remembers at most so many findings.
    pub fn new(local: Local, cache_entries: usize) -> Self {
        Desk {
            local,
            cache: Cache::new(cache_entries),
            questions: HashMap::new(),
            look_ups: HashMap::new(),
            shares: HashMap::new(),
            last_number: 0,
            hits: 0,
            now_s: 0,
        }
    }

    /// The time of day, in seconds since 1970.
    pub fn set_time(&mut self, now_s: u64) {
        self.now_s = now_s;
    }

    /// A client asks. `deadline_ms` is a time of the same clock as `now_ms`.
    pub fn ask(&mut self, now_ms: u64, asker: Asker, query: &Query, deadline_ms: u64) -> Vec<Act> {
        if let Some(result) = self.local.answer(query) {
            return vec![Act::Answer(asker, result, false)];
        }
        if let Some(task) = Task::of(query, self.now_s) {
            return self.begin(now_ms, asker, task, deadline_ms);
        }
        let Some(keys) = keys(query) else {
            return vec![Act::Answer(asker, Err(DnsError::BadName), false)];
        };
        self.last_number += 1;
        let number = self.last_number;
        let mut acts = Vec::new();
        let parts =
            keys.into_iter().map(|key| self.part(now_ms, asker.client, number, key, &mut acts)).collect();
        self.questions.insert(number, Open { asker, deadline_ms, parts, task: None });
        if let Some(answer) = self.settle_if_complete(number) {
            acts.push(answer);
        } else {
            acts.push(Act::Timer(deadline_ms, number));
        }
        acts
    }

    /// Something is to be judged: nothing is known of it yet.
    fn begin(&mut self, now_ms: u64, asker: Asker, task: Task, deadline_ms: u64) -> Vec<Act> {
        self.last_number += 1;
        let number = self.last_number;
        let open = Open { asker, deadline_ms, parts: Vec::new(), task: Some(task) };
        self.questions.insert(number, open);
        let mut acts = self.advance(now_ms, number);
        if self.questions.contains_key(&number) {
            acts.push(Act::Timer(deadline_ms, number));
        }
        acts
    }

    /// Judges with what is known, until something must be looked up. What is missing and remembered is known at once.
    fn advance(&mut self, now_ms: u64, number: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        loop {
            let Some(open) = self.questions.get(&number) else { return acts };
            let (asker, Some(task)) = (open.asker, &open.task) else { return acts };
            let mut known = Known { parts: &open.parts, missing: Vec::new() };
            // What strangers publish must not end us, whatever it makes of our own mistakes.
            let judged = catch_unwind(AssertUnwindSafe(|| task.judge(&mut known)));
            let missing = known.missing;
            let Ok(judged) = judged else {
                log::error!("event=judge-panicked ticket={}", asker.ticket);
                let answer = Ok(task.too_late());
                self.drop_question(number);
                acts.push(Act::Answer(asker, answer, false));
                return acts;
            };
            match judged {
                Ok(records) => {
                    let secure =
                        open.parts.iter().all(|part| part.finding.as_ref().is_some_and(|f| f.secure));
                    self.questions.remove(&number);
                    acts.push(Act::Answer(asker, Ok(records), secure));
                    return acts;
                }
                Err(Missing) if missing.is_empty() || open.parts.len() + missing.len() > MAX_PARTS => {
                    acts.extend(self.settle(number));
                    return acts;
                }
                Err(Missing) => {}
            }
            let parts: Vec<Part> = missing
                .into_iter()
                .map(|key| self.part(now_ms, asker.client, number, key, &mut acts))
                .collect();
            let waits = parts.iter().any(|part| part.finding.is_none());
            if let Some(open) = self.questions.get_mut(&number) {
                open.parts.extend(parts);
            }
            if waits {
                acts.extend(self.wait_for_words(now_ms, number));
                return acts;
            }
        }
    }

    /// Nothing but words is missing: they may take a little longer, and the verdict is not lost if they do not come.
    fn wait_for_words(&mut self, now_ms: u64, number: u64) -> Option<Act> {
        let open = self.questions.get_mut(&number)?;
        reached(open.task.as_ref()?, &open.parts)?;
        let soon = now_ms.saturating_add(WORDS_GRACE.as_millis() as u64);
        let shorten = soon < open.deadline_ms;
        shorten.then(|| {
            open.deadline_ms = soon;
            Act::Timer(soon, number)
        })
    }

    /// From memory, or else to be looked up, or else refused for now.
    fn part(&mut self, now_ms: u64, client: ClientId, number: u64, key: Key, acts: &mut Vec<Act>) -> Part {
        if let Some(finding) = self.cache.find(&key, now_ms) {
            self.hits += 1;
            return Part { key, finding: Some(finding) };
        }
        if let Some(look_up) = self.look_ups.get_mut(&key) {
            look_up.waiting.push(number);
            return Part { key, finding: None };
        }
        let share = self.shares.entry(client).or_default();
        if *share >= MAX_LOOK_UPS_PER_CLIENT {
            return Part { key, finding: Some(Arc::new(Finding::failed(DnsError::Temporary))) };
        }
        *share += 1;
        self.look_ups.insert(key.clone(), LookUp { caused_by: client, waiting: vec![number] });
        acts.push(Act::LookUp(key.clone()));
        Part { key, finding: None }
    }

    /// A look-up has ended.
    pub fn found(&mut self, now_ms: u64, key: &Key, finding: Finding) -> Vec<Act> {
        let Some(look_up) = self.look_ups.remove(key) else { return Vec::new() };
        self.release_share(look_up.caused_by);
        let finding = Arc::new(finding);
        self.cache.insert(key.clone(), Arc::clone(&finding), now_ms);
        let mut acts = Vec::new();
        for number in look_up.waiting {
            acts.extend(self.take_part(now_ms, number, key, &finding));
        }
        acts
    }

    /// Something was found for which nobody has asked: it takes the place of what is remembered.
    pub fn learn(&mut self, now_ms: u64, key: Key, finding: Finding) {
        self.cache.insert(key, Arc::new(finding), now_ms);
    }

    fn take_part(&mut self, now_ms: u64, number: u64, key: &Key, finding: &Arc<Finding>) -> Vec<Act> {
        let Some(open) = self.questions.get_mut(&number) else { return Vec::new() };
        for part in open.parts.iter_mut().filter(|part| part.key == *key) {
            part.finding = Some(Arc::clone(finding));
        }
        if open.task.is_some() {
            let waits = open.parts.iter().any(|part| part.finding.is_none());
            return if waits { Vec::new() } else { self.advance(now_ms, number) };
        }
        self.take_family(now_ms, number, finding).into_iter().collect()
    }

    /// Addresses of one family have come: those of the other may take a little longer.
    fn take_family(&mut self, now_ms: u64, number: u64, finding: &Finding) -> Option<Act> {
        if let Some(answer) = self.settle_if_complete(number) {
            return Some(answer);
        }
        let open = self.questions.get_mut(&number)?;
        let soon = now_ms.saturating_add(GRACE.as_millis() as u64);
        let shorten = finding.result.is_ok() && soon < open.deadline_ms;
        shorten.then(|| {
            open.deadline_ms = soon;
            Act::Timer(soon, number)
        })
    }

    /// A timer fired: a question whose deadline has come is answered with what is there.
    pub fn due(&mut self, now_ms: u64, number: u64) -> Option<Act> {
        let open = self.questions.get(&number)?;
        if open.deadline_ms > now_ms {
            // Its other timer is still to come.
            return None;
        }
        self.settle(number)
    }

    /// A client is gone: its questions are dropped, its look-ups run to their end.
    pub fn forget(&mut self, client: ClientId) {
        let numbers: Vec<u64> = self
            .questions
            .iter()
            .filter(|(_, open)| open.asker.client == client)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.settle(number);
        }
    }

    /// Questions without answer.
    pub fn open(&self) -> usize {
        self.questions.len()
    }

    /// Look-ups that are running.
    pub fn running(&self) -> usize {
        self.look_ups.len()
    }

    /// Findings remembered, and how often one was of use.
    pub fn remembered(&self) -> (usize, u64) {
        (self.cache.len(), self.hits)
    }

    fn settle_if_complete(&mut self, number: u64) -> Option<Act> {
        let open = self.questions.get(&number)?;
        if open.parts.iter().all(|part| part.finding.is_some()) { self.settle(number) } else { None }
    }

    /// Takes a question off the desk; what is being looked up for it goes on without it.
    fn drop_question(&mut self, number: u64) -> Option<Open> {
        let open = self.questions.remove(&number)?;
        for part in open.parts.iter().filter(|part| part.finding.is_none()) {
            if let Some(look_up) = self.look_ups.get_mut(&part.key) {
                look_up.waiting.retain(|waiting| *waiting != number);
            }
        }
        Some(open)
    }

    fn settle(&mut self, number: u64) -> Option<Act> {
        let Open { asker, parts, task, .. } = self.drop_question(number)?;
        if let Some(task) = task {
            let records = reached(&task, &parts).unwrap_or_else(|| task.too_late());
            return Some(Act::Answer(asker, Ok(records), false));
        }
        let mut findings = parts.iter().map(|part| part.finding.as_deref());
        let (result, secure) = match (findings.next().flatten(), parts.len()) {
            (first, 2) => join(Addresses { v4: first, v6: findings.next().flatten() }),
            (Some(only), _) => (only.result.clone(), only.secure),
            (None, _) => (Err(DnsError::Temporary), false),
        };
        Some(Act::Answer(asker, result, secure))
    }

    fn release_share(&mut self, client: ClientId) {
        if let Some(share) = self.shares.get_mut(&client) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&client);
            }
        }
    }
}

/// What is known for a judgement, and what it was found to need.
struct Known<'a> {
    parts: &'a [Part],
    missing: Vec<Key>,
}

impl Zone for Known<'_> {
    fn find(&mut self, key: Key) -> Judged<Found> {
        if let Some(part) = self.parts.iter().find(|part| part.key == key) {
            return part.finding.as_ref().map(|finding| finding.result.clone()).ok_or(Missing);
        }
        if !self.missing.contains(&key) {
            self.missing.push(key);
        }
        Err(Missing)
    }
}

/// The verdict of a judgement that is reached with these parts. It is only asked where the judgement itself came through.
fn reached(task: &Task, parts: &[Part]) -> Option<Records> {
    task.reached(&mut Known { parts, missing: Vec::new() })
}

/// What a query needs; `None` if its name cannot be asked.
fn keys(query: &Query) -> Option<Vec<Key>> {
    let one = |text: &str, kind| Some(vec![Key { name: name::parse(text)?, kind }]);
    match query {
        Query::Mx(text) => one(text, Kind::Mx),
        Query::Ipv4(text) => one(text, Kind::A),
        Query::Text(text) => one(text, Kind::Txt),
        Query::Tlsa(text) => one(text, Kind::Tlsa),
        Query::Canonical(text) => one(text, Kind::Canonical),
        Query::StsPolicy(text) => one(text, Kind::StsPolicy),
        // It never comes here.
        Query::Post { .. } => None,
        Query::Names(address) => Some(vec![Key { name: name::of_address(*address), kind: Kind::Ptr }]),
        Query::Addresses(text) => {
            let name = name::parse(text)?;
            Some([Kind::A, Kind::Aaaa].map(|kind| Key { name: name.clone(), kind }).to_vec())
        }
        // A judgement; its keys come as it goes.
        Query::Spf(_) | Query::ClientName(_) | Query::Signature(_) | Query::Dmarc(_) => None,
    }
}

#[cfg(test)]
mod tests;
