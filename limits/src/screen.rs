//! Tests before the greeting: does the client keep quiet, and what do DNS lists say of it? Pure: what is to be looked up and
//! what becomes of a client comes out as acts.
//!
//! What cannot be found out counts for the client: a list without an answer has listed nobody. But such a client is not
//! remembered as one that passed.

use std::collections::HashMap;
use std::net::IpAddr;

use vsmtp_config::{DnsblSite, ScreenAction};

use crate::lists::{Lists, Score, Tested, ZoneId};
use crate::passed::Passed;

/// What is tested. From the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How long a client waits for its greeting, in milliseconds; 0 for not at all.
    pub wait_ms: u32,
    /// What becomes of one that does not.
    pub early: ScreenAction,
    /// Lists that are asked.
    pub sites: Vec<DnsblSite>,
    /// The score from which on a client is unwanted.
    pub threshold: i32,
    /// What becomes of it then.
    pub listed: ScreenAction,
    /// Clients are watched until their first RCPT.
    pub deep: bool,
    /// How long a client that passed is remembered, in milliseconds.
    pub keep_ms: u64,
    /// The same for one that was watched.
    pub keep_tested_ms: u64,
}

/// A client at a door: the edge of its receiver, and its session.
pub type Door = (usize, u64);

/// What a look-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Whether the list lists everybody.
    Test(ZoneId),
    /// Whether it lists this client.
    Client(ZoneId, Door),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Ask for the IPv4 addresses of a name, and report them by [`Screen::found`].
    LookUp(Purpose, String),
    /// Tell the client's receiver.
    Decide(Door, Finding),
    /// A list was tested: its name, and what that showed.
    Tested(String, Tested),
}

/// What was found out about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The client.
    pub client: IpAddr,
    /// What becomes of it.
    pub fate: Fate,
    /// It spoke before its greeting.
    pub early: bool,
    /// What lists say.
    pub score: Score,
}

/// What becomes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is greeted.
    Pass,
    /// It is greeted and watched.
    Watch,
    /// It is greeted though something is wrong with it.
    Note,
    /// It is greeted, and cannot send.
    Condemn,
    /// It is not greeted.
    Drop,
}

/// All tests that are under way, and who passed.
#[derive(Debug)]
pub struct Screen {
    policy: Policy,
    lists: Lists,
    runs: HashMap<Door, Run>,
    passed: Passed,
}

#[derive(Debug)]
struct Run {
    client: IpAddr,
    /// Answers that are still to come.
    missing: usize,
    answers: Vec<(ZoneId, Vec<IpAddr>)>,
    /// Some list gave no answer.
    failed: bool,
    /// Whether it spoke, once its wait is over.
    early: Option<bool>,
}

impl Policy {
    /// True if anything is tested.
    pub fn is_on(&self) -> bool {
        self.wait_ms > 0 || !self.sites.is_empty() || self.deep
    }
}

impl Screen {
    /// Nobody has passed yet.
    pub fn new(policy: Policy) -> Self {
        let lists = Lists::new(&policy.sites, &Lists::default());
        Screen { policy, lists, runs: HashMap::new(), passed: Passed::default() }
    }

    /// Takes another policy. Who passed the old one has passed; tests under way end without a result: the doors.
    pub fn change(&mut self, policy: Policy) -> Vec<Act> {
        self.lists = Lists::new(&policy.sites, &self.lists);
        self.policy = policy;
        let runs = std::mem::take(&mut self.runs).into_iter();
        // One that still waits is answered when it has waited.
        let (over, waiting): (Vec<_>, Vec<_>) = runs.partition(|(_, run)| run.early.is_some());
        let empty = |run: Run| Run { missing: 0, answers: Vec::new(), failed: true, ..run };
        self.runs = waiting.into_iter().map(|(door, run)| (door, empty(run))).collect();
        over.into_iter().map(|(door, run)| Act::Decide(door, pass(&run))).collect()
    }

    /// How long a new client must wait, and what is to be looked up meanwhile; `None` if it need not be tested.
    pub fn begin(&mut self, now_ms: u64, door: Door, client: IpAddr) -> Option<(u32, Vec<Act>)> {
        let is_new = !self.passed.is_quiet(client, now_ms);
        let must_be_quiet = is_new && (self.policy.wait_ms > 0 || !self.lists.is_empty());
        let must_be_watched = self.policy.deep && !self.passed.is_tested(client, now_ms);
        if !must_be_quiet && !must_be_watched {
            return None;
        }
        let questions = if must_be_quiet { self.lists.questions(client) } else { Vec::new() };
        let missing = questions.len();
        let run = Run { client, missing, answers: Vec::new(), failed: false, early: None };
        self.runs.insert(door, run);
        let mut acts = self.tests_due(now_ms);
        acts.extend(questions.into_iter().map(|(zone, name)| Act::LookUp(Purpose::Client(zone, door), name)));
        Some((if must_be_quiet { self.policy.wait_ms } else { 0 }, acts))
    }

    /// A client's wait is over.
    pub fn waited(&mut self, now_ms: u64, door: Door, early: bool) -> Vec<Act> {
        if let Some(run) = self.runs.get_mut(&door) {
            run.early = Some(early);
        }
        self.settle(now_ms, door).into_iter().collect()
    }

    /// The end of a look-up: addresses, none if the name does not exist, or `None` for no answer.
    pub fn found(&mut self, now_ms: u64, purpose: Purpose, answer: Option<Vec<IpAddr>>) -> Vec<Act> {
        match purpose {
            Purpose::Test(zone) => {
                let tested = self.lists.tested(now_ms, zone, answer.as_deref());
                let mut acts = vec![Act::Tested(self.lists.name(zone).to_owned(), tested)];
                let doors: Vec<Door> = self.runs.keys().copied().collect();
                acts.extend(doors.into_iter().filter_map(|door| self.settle(now_ms, door)));
                acts
            }
            Purpose::Client(zone, door) => {
                let Some(run) = self.runs.get_mut(&door) else { return Vec::new() };
                run.missing = run.missing.saturating_sub(1);
                match answer {
                    Some(addresses) => run.answers.push((zone, addresses)),
                    None => run.failed = true,
                }
                self.settle(now_ms, door).into_iter().collect()
            }
        }
    }

    /// The tests of lists that are due.
    pub fn tests_due(&mut self, now_ms: u64) -> Vec<Act> {
        let due = self.lists.tests_due(now_ms).into_iter();
        due.map(|(zone, name)| Act::LookUp(Purpose::Test(zone), name)).collect()
    }

    /// A client that was watched has kept to the protocol.
    pub fn passed(&mut self, now_ms: u64, client: IpAddr) {
        self.passed.tested(client, now_ms.saturating_add(self.policy.keep_tested_ms));
    }

    /// True if a client is being tested there.
    pub fn knows(&self, door: Door) -> bool {
        self.runs.contains_key(&door)
    }

    /// A client has gone. True if its receiver still waits for an answer.
    pub fn forget(&mut self, door: Door) -> bool {
        self.runs.remove(&door).is_some_and(|run| run.early.is_some())
    }

    /// An edge has gone with all its clients.
    pub fn forget_edge(&mut self, edge: usize) {
        self.runs.retain(|door, _| door.0 != edge);
    }

    /// A client is to be tested again. False if it was not remembered.
    pub fn reset(&mut self, client: IpAddr) -> bool {
        self.passed.forget(client)
    }

    /// Forgets clients whose time is over.
    pub fn sweep(&mut self, now_ms: u64) {
        self.passed.sweep(now_ms);
    }

    /// Clients under test, clients that passed, lists that are left out.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.runs.len(), self.passed.len(), self.lists.left_out())
    }

    /// The end of a client's tests, once all is known.
    fn settle(&mut self, now_ms: u64, door: Door) -> Option<Act> {
        let run = self.runs.get(&door)?;
        let early = run.early?;
        let at_once = early && self.policy.early == ScreenAction::Drop;
        if !at_once && (run.missing > 0 || !self.lists.are_tested()) {
            return None;
        }
        let run = self.runs.remove(&door)?;
        Some(Act::Decide(door, self.judge(now_ms, &run, early)))
    }

    fn judge(&mut self, now_ms: u64, run: &Run, early: bool) -> Finding {
        let score = self.lists.score(&run.answers);
        let is_listed = !score.lists.is_empty() && score.total >= self.policy.threshold;
        let faults = [early.then_some(self.policy.early), is_listed.then_some(self.policy.listed)];
        let worst = faults.into_iter().flatten().max_by_key(|action| match action {
            ScreenAction::Ignore => 0,
            ScreenAction::Enforce => 1,
            ScreenAction::Drop => 2,
        });
        let fate = match worst {
            Some(ScreenAction::Ignore) => Fate::Note,
            Some(ScreenAction::Enforce) => Fate::Condemn,
            Some(ScreenAction::Drop) => Fate::Drop,
            None => {
                if !run.failed {
                    self.passed.quiet(run.client, now_ms.saturating_add(self.policy.keep_ms));
                }
                let watch = self.policy.deep && !self.passed.is_tested(run.client, now_ms);
                if watch { Fate::Watch } else { Fate::Pass }
            }
        };
        Finding { client: run.client, fate, early, score }
    }
}

fn pass(run: &Run) -> Finding {
    Finding { client: run.client, fate: Fate::Pass, early: false, score: Score::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOOR: Door = (3, 7);

    fn policy() -> Policy {
        Policy {
            wait_ms: 100,
            early: ScreenAction::Enforce,
            sites: Vec::new(),
            threshold: 2,
            listed: ScreenAction::Enforce,
            deep: false,
            keep_ms: 1_000,
            keep_tested_ms: 10_000,
        }
    }

    fn listing() -> Policy {
        let sites = ["a.test*2", "b.test", "good.test*-5"];
        Policy { sites: sites.iter().map(|text| DnsblSite::parse(text).unwrap()).collect(), ..policy() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fates(acts: Vec<Act>) -> Vec<Fate> {
        let fate = |act| if let Act::Decide(_, finding) = act { Some(finding.fate) } else { None };
        acts.into_iter().filter_map(fate).collect()
    }

    /// A screen whose lists have been tested.
    fn tested(policy: Policy) -> Screen {
        let mut screen = Screen::new(policy);
        for act in screen.tests_due(0) {
            let Act::LookUp(purpose, _) = act else { panic!() };
            screen.found(0, purpose, Some(vec![]));
        }
        screen
    }

    /// What becomes of a quiet client about which these lists say this.
    fn judged(screen: &mut Screen, answers: &[Option<&str>]) -> Fate {
        let (_, acts) = screen.begin(0, DOOR, ip("192.0.2.9")).unwrap();
        assert_eq!(acts.len(), answers.len());
        assert_eq!(screen.waited(0, DOOR, false), []);
        let mut decided = Vec::new();
        for (act, answer) in acts.into_iter().zip(answers) {
            let Act::LookUp(purpose, _) = act else { panic!() };
            assert_eq!(decided, []);
            let answer = answer.map(|text| if text.is_empty() { vec![] } else { vec![ip(text)] });
            decided = fates(screen.found(0, purpose, answer));
        }
        assert_eq!(decided.len(), 1);
        decided[0]
    }

    #[test]
    fn who_keeps_quiet_is_remembered_and_who_does_not_is_not() {
        let mut screen = Screen::new(policy());
        assert_eq!(screen.begin(0, DOOR, ip("192.0.2.1")), Some((100, vec![])));
        assert_eq!(fates(screen.waited(100, DOOR, true)), [Fate::Condemn]);
        assert_eq!(screen.begin(200, DOOR, ip("192.0.2.1")), Some((100, vec![])));
        assert_eq!(fates(screen.waited(300, DOOR, false)), [Fate::Pass]);
        assert_eq!(screen.begin(1_299, DOOR, ip("192.0.2.1")), None);
        assert!(screen.begin(1_300, DOOR, ip("192.0.2.1")).is_some(), "not for ever");
        assert!(screen.begin(300, DOOR, ip("192.0.2.2")).is_some());
        let mut screen = Screen::new(Policy { early: ScreenAction::Ignore, ..policy() });
        screen.begin(0, DOOR, ip("192.0.2.1"));
        assert_eq!(fates(screen.waited(100, DOOR, true)), [Fate::Note]);
        assert!(screen.begin(200, DOOR, ip("192.0.2.1")).is_some(), "noted, and not passed");
    }

    #[test]
    fn weights_add_up_and_a_list_without_answer_lists_nobody() {
        assert_eq!(judged(&mut tested(listing()), &[Some(""), Some(""), Some("")]), Fate::Pass);
        assert_eq!(judged(&mut tested(listing()), &[Some("127.0.0.2"), Some(""), Some("")]), Fate::Condemn);
        assert_eq!(judged(&mut tested(listing()), &[Some(""), Some("127.0.0.2"), Some("")]), Fate::Pass);
        assert_eq!(
            judged(&mut tested(listing()), &[Some("127.0.0.2"), Some("127.0.0.2"), Some("127.0.0.2")]),
            Fate::Pass,
            "a good host"
        );
        assert_eq!(judged(&mut tested(listing()), &[None, Some("127.0.0.2"), None]), Fate::Pass);
        let mut screen = tested(listing());
        assert_eq!(judged(&mut screen, &[None, Some(""), Some("")]), Fate::Pass);
        assert!(screen.begin(1, DOOR, ip("192.0.2.9")).is_some(), "passed, and not remembered");
        let drop = Policy { listed: ScreenAction::Drop, ..listing() };
        assert_eq!(judged(&mut tested(drop), &[Some("127.0.0.2"), Some(""), Some("")]), Fate::Drop);
    }

    #[test]
    fn nobody_is_judged_by_a_list_that_was_not_tested() {
        let mut screen =
            Screen::new(Policy { sites: vec![DnsblSite::parse("a.test*2").unwrap()], ..policy() });
        let (_, acts) = screen.begin(0, DOOR, ip("192.0.2.9")).unwrap();
        let [Act::LookUp(test, name), Act::LookUp(client, _)] = acts.as_slice() else { panic!("{acts:?}") };
        assert_eq!((*test, name.as_str()), (Purpose::Test(0), "1.0.0.127.a.test"));
        assert_eq!(screen.waited(0, DOOR, false), []);
        assert_eq!(screen.found(0, *client, Some(vec![ip("127.0.0.2")])), []);
        let acts = screen.found(0, *test, Some(vec![ip("127.0.0.2")]));
        assert_eq!(acts[0], Act::Tested("a.test".to_owned(), Tested::ListsEverybody));
        assert_eq!(fates(acts), [Fate::Pass]);
    }

    #[test]
    fn a_client_that_is_dropped_for_speaking_waits_for_no_list() {
        let mut screen = tested(Policy { early: ScreenAction::Drop, ..listing() });
        screen.begin(0, DOOR, ip("192.0.2.9")).unwrap();
        assert_eq!(fates(screen.waited(0, DOOR, true)), [Fate::Drop]);
        assert_eq!(screen.found(0, Purpose::Client(0, DOOR), Some(vec![])), []);
        assert_eq!(screen.sizes().0, 0);
    }

    #[test]
    fn who_was_watched_once_is_watched_no_more() {
        let mut screen = Screen::new(Policy { deep: true, wait_ms: 0, ..policy() });
        assert_eq!(screen.begin(0, DOOR, ip("192.0.2.9")), Some((0, vec![])));
        assert_eq!(fates(screen.waited(0, DOOR, false)), [Fate::Watch]);
        screen.passed(0, ip("192.0.2.9"));
        assert_eq!(screen.begin(1, DOOR, ip("192.0.2.9")), None);
        assert!(screen.reset(ip("192.0.2.9")));
        assert!(screen.begin(1, DOOR, ip("192.0.2.9")).is_some());
    }

    #[test]
    fn tests_under_way_end_well_with_another_policy_and_with_their_edge() {
        let mut screen = tested(listing());
        screen.begin(0, DOOR, ip("192.0.2.9")).unwrap();
        screen.begin(0, (3, 8), ip("192.0.2.8")).unwrap();
        screen.waited(0, DOOR, false);
        assert_eq!(fates(screen.change(policy())), [Fate::Pass]);
        assert_eq!(fates(screen.waited(0, (3, 8), false)), [Fate::Pass]);
        screen.begin(0, DOOR, ip("192.0.2.7")).unwrap();
        screen.forget_edge(3);
        assert_eq!(screen.waited(0, DOOR, false), []);
    }
}
