//! The filter's and the auth helper's ends, which answer as a file's rules say.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use vsmtp_ipc::edge::receiver_auth::{Answer, Ask as Exchange, AuthEnd, Denied};
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Verdict as Say};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Blob, Body, Grant};
use vsmtp_smtp::{AuthVerdict, Protocol, Verdict};
use vsmtp_sys::memfd::Sealed;

use super::script::{Dialogue, Rule};
use crate::stage::{Filter, Stage, introduce_helper, next, only, reply};

const HELPER: ProcessName = ProcessName { role: Role::Auth, instance: 0 };
/// What the filter says where the file's rules say nothing.
const ACCEPTED: &str = "250 2.0.0 Ok: message accepted";
const UNAVAILABLE: &str = "451 4.3.0 Temporary failure, try again later";

/// Both, each on a thread that ends with its edge.
pub struct Ends {
    bodies: Arc<Mutex<VecDeque<Vec<u8>>>>,
    is_lmtp: bool,
}

impl Ends {
    /// Introduces them to the receiver. The helper offers these mechanisms, if there are any.
    pub fn start(stage: &mut Stage, dialogue: &Dialogue, mechanisms: Vec<String>) -> Ends {
        let rules: Arc<Vec<Rule>> = Arc::new(dialogue.rules.clone());
        let bodies: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::default();
        if !mechanisms.is_empty() {
            let mut helper: AuthEnd = introduce_helper(stage, HELPER);
            say(&mut helper, &Answer::Offer(mechanisms));
            let rules = Arc::clone(&rules);
            std::thread::spawn(move || while exchange(&mut helper, &rules) {});
        }
        let mut filter = stage.introduce((true, true, true));
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || while judge(&mut filter, &rules, &kept) {});
        Ends { bodies, is_lmtp: dialogue.settings.protocol == Protocol::Lmtp }
    }

    /// The next message that was accepted.
    pub fn body(&self) -> Option<Vec<u8>> {
        self.bodies.lock().unwrap().pop_front()
    }

    /// Forgets what earlier plays have left.
    pub fn forget(&self) {
        self.bodies.lock().unwrap().clear();
    }

    pub fn is_lmtp(&self) -> bool {
        self.is_lmtp
    }
}

/// Answers one question; false when the receiver is gone.
fn judge(filter: &mut Filter, rules: &[Rule], bodies: &Mutex<VecDeque<Vec<u8>>>) -> bool {
    let Ok(received) = next(&mut filter.0) else { return false };
    match received.message {
        Ask::Connect(facts) => filter.decide(facts.session, decision(rules, "connect", "")),
        Ask::Helo(facts) => {
            let name = facts.helo.unwrap_or_default();
            filter.decide(facts.session, decision(rules, "helo", &name));
        }
        Ask::Mail(facts, mail) => {
            let path = format!("<{}>", mail.reverse_path);
            filter.decide(facts.session, decision(rules, "mail", &path));
        }
        Ask::Recipients { facts, recipients, .. } => {
            let decisions = recipients.iter().map(|to| decision(rules, "rcpt", &to.address)).collect();
            filter.say(&Say::Recipients { session: facts.session, decisions });
        }
        Ask::Message { facts, body, trace_len, .. } => {
            let bytes = match body {
                Body::Inline(bytes) => bytes,
                Body::Memfd(size) => {
                    let sealed = Sealed::verify(only(received.descriptors), size).unwrap();
                    sealed.read_all(1 << 20).unwrap()
                }
                Body::File(_) => panic!("a file is played that is larger than this player"),
            };
            let body = bytes[trace_len as usize..].to_vec();
            let decided = match decision(rules, "message", &String::from_utf8_lossy(&body)) {
                Decision::Accept(None) => Decision::Accept(Some(reply(ACCEPTED))),
                other => other,
            };
            if matches!(decided, Decision::Accept(_)) {
                bodies.lock().unwrap().push_back(body);
            }
            filter.decide(facts.session, decided);
        }
        Ask::Chunk { .. } => panic!("a file is played that is larger than this player"),
        Ask::Authenticate(_) => panic!("not wanted"),
        Ask::Reset { .. } | Ask::Forget { .. } => {}
    }
    true
}

fn decision(rules: &[Rule], stage: &str, text: &str) -> Decision {
    match find(rules, stage, text).map(|rule| &rule.verdict) {
        None | Some(Verdict::Accept) => Decision::Accept(None),
        Some(Verdict::AcceptWith(said)) => Decision::Accept(Some(said.into())),
        Some(Verdict::Refuse(said)) => Decision::Refuse(said.into()),
        Some(Verdict::Close(said)) => Decision::Close(said.into()),
        Some(Verdict::Unavailable) => Decision::Refuse(reply(UNAVAILABLE)),
    }
}

/// Answers one step of a login; false when the receiver is gone.
fn exchange(helper: &mut AuthEnd, rules: &[Rule]) -> bool {
    let Ok(received) = next(helper) else { return false };
    let (exchange, text) = match received.message {
        Exchange::Begin(begin) => {
            let initial = begin.initial.map_or("none".to_owned(), |initial| words(&initial));
            (begin.exchange, format!("{} {initial}", begin.mechanism))
        }
        Exchange::Vouch(vouch) => (vouch.exchange, vouch.login),
        Exchange::Continue { exchange, response } => (exchange, words(&response)),
        Exchange::Cancel { .. } | Exchange::End { .. } => return true,
    };
    let denied = |why| Answer::Denied { exchange, why, wait_ms: 0 };
    let granted = || Answer::Granted { exchange, grant: Grant([7; 16]), identity: "tim".to_owned() };
    let answer = match find(rules, "auth", &text).map(|rule| (&rule.auth, &rule.verdict)) {
        Some((Some(AuthVerdict::Challenge(text)), _)) => {
            Answer::Challenge { exchange, challenge: Blob(text.clone()) }
        }
        Some((Some(AuthVerdict::Refused(text)), _)) => {
            Answer::Refused { exchange, challenge: Blob(text.clone()) }
        }
        Some((Some(AuthVerdict::Failure), _)) => denied(Denied::Credentials),
        Some((Some(AuthVerdict::Malformed), _)) => denied(Denied::Malformed),
        Some((None, Verdict::Unavailable)) => denied(Denied::Temporary),
        _ => granted(),
    };
    say(helper, &answer);
    true
}

fn say(helper: &mut AuthEnd, answer: &Answer) {
    helper.send(answer, Vec::new()).unwrap();
    assert_eq!(helper.flush().unwrap(), vsmtp_ipc::Flushed::All);
}

fn find<'a>(rules: &'a [Rule], stage: &str, text: &str) -> Option<&'a Rule> {
    let hits = |rule: &&Rule| rule.pattern == "*" || text.contains(&rule.pattern);
    rules.iter().filter(|rule| rule.stage == stage).find(hits)
}

/// What a client sent, with `|` for NUL.
fn words(blob: &Blob) -> String {
    String::from_utf8_lossy(&blob.0).replace('\0', "|")
}
