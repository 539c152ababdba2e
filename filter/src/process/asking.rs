//! How rules reach databases: through the process that asks them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vsmtp_config::Database;
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::filter_database::{Answer, Ask, CREDITS, Parameter, Refused, Rows, Which};

use super::inquiry::{Door, Inquiry, NoRoom};
use crate::database::{Asker, Collector, NoAnswer, Target};
use crate::engine::hand_on;
use crate::object::Fault;

/// How much longer than a database may take a rule waits for the news of it.
const GRACE: Duration = Duration::from_secs(2);

/// What is said of a database that the configuration does not name.
const NOT_DECLARED: &str = "it is not declared so; a database is declared by being described while scripts are loaded, \
                            outside rules and functions, or in filter.databases";

/// What is said of one that rules do describe while they are loaded: they were edited, and this process was started anew.
const NOT_LOADED: &str =
    "the rules were changed since the configuration was loaded; it can be asked after a reload";

/// What is said of a question that is too large.
const TOO_LARGE: &str = "a statement has at most 64 KiB, its parameters 256 KiB";

/// What rules ask databases through. Where none is declared nobody could be asked. Of the workers at most half wait for one
/// database: one that is slow leaves room for those who ask others.
pub fn way(door: Arc<Door<Asking>>, are_there_any: bool, workers: usize) -> Arc<dyn Asker> {
    let most = (workers / 2).clamp(1, CREDITS as usize / 2);
    Arc::new(Way { door, are_there_any, most, waiting: Mutex::default(), described: Collector::default() })
}

fn unanswered(target: &Target, why: &str) -> Fault {
    Fault(format!("the database {target} did not answer: {why}"))
}

#[derive(Debug)]
struct Way {
    door: Arc<Door<Asking>>,
    are_there_any: bool,
    most: usize,
    /// What was described while scripts were loaded.
    described: Collector,
    /// Rules that wait, by the database.
    waiting: Mutex<HashMap<String, usize>>,
}

/// The place of a rule that waits for a database, as long as it does.
struct Place<'a>(&'a Way, String);

impl Way {
    fn place(&self, name: String) -> Option<Place<'_>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(name.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place(self, name))
    }
}

impl Way {
    /// That the configuration has no such database is a mistake of the script, unless it is one of those that the script
    /// declares: then the configuration is that of an older script.
    fn not_declared(&self, target: &Target) -> NoAnswer {
        match target {
            Target::Described(database) if self.described.databases().contains(database) => {
                NoAnswer::Later(unanswered(target, NOT_LOADED))
            }
            _ => NoAnswer::Never(unanswered(target, NOT_DECLARED)),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

/// The edge to the process that asks.
pub enum Asking {}

/// What a rule asks.
#[derive(Debug, Clone)]
pub struct Wanted {
    database: Which,
    statement: String,
    parameters: Vec<Parameter>,
    /// How long the database may take. The rule waits a little longer for the news of it.
    within: Duration,
}

impl Inquiry for Asking {
    type Asked = Wanted;
    type Heard = Result<Rows, Refused>;
    type Question = Ask;
    type Answer = Answer;
    const EDGE: EdgeId = EdgeId::FilterDatabase;
    const CREDITS: u32 = CREDITS;
    // Nobody knows what a statement has done already.
    const ASKS_AGAIN: bool = false;

    fn question(wanted: &Wanted, ticket: u64, left: Duration) -> Ask {
        let Wanted { database, statement, parameters, within } = wanted.clone();
        Ask { ticket, database, statement, parameters, left_ms: milliseconds(left.min(within)) }
    }

    fn heard(answer: Answer) -> (u64, Result<Rows, Refused>) {
        (answer.ticket, answer.result)
    }
}

impl Asker for Way {
    fn declare(&self, database: &Database) {
        if !self.door.is_served() {
            self.described.declare(database);
        }
    }

    fn ask_within(
        &self,
        target: &Target,
        statement: &str,
        parameters: Vec<Parameter>,
        within: Duration,
    ) -> Result<Rows, NoAnswer> {
        if !self.are_there_any {
            return Err(self.not_declared(target));
        }
        let later = |why: &str| NoAnswer::Later(unanswered(target, why));
        let busy = |why: &str| NoAnswer::Busy(unanswered(target, why));
        let too_many = || busy("too many rules wait for databases at the moment");
        let _place = self.place(target.to_string()).ok_or_else(too_many)?;
        let database = match target {
            Target::Named(name, _) => Which::Named(name.clone()),
            Target::Described(database) => {
                let (url, timeout, connections) = database.shown();
                Which::Like { url, timeout_ms: milliseconds(timeout), connections }
            }
        };
        let wanted = Wanted { database, statement: statement.to_owned(), parameters, within };
        if !Asking::question(&wanted, 0, Duration::ZERO).is_within_bounds() {
            return Err(NoAnswer::Never(unanswered(target, TOO_LARGE)));
        }
        hand_on();
        let answers = self.door.ask_if_room(vec![wanted], within.saturating_add(GRACE));
        match answers.map_err(|NoRoom| too_many())?.pop().flatten() {
            Some(Ok(rows)) if rows.is_within_bounds() => Ok(rows),
            Some(Ok(_)) => Err(later("its answer is too large")),
            Some(Err(Refused::NotDeclared)) => Err(self.not_declared(target)),
            Some(Err(Refused::Busy)) => Err(busy("too many questions wait for it")),
            Some(Err(Refused::Failed(why))) => Err(later(&why)),
            Some(Err(Refused::Late)) => Err(later("it was not in time")),
            None => Err(later("it was not in time, or the process that asks is gone")),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::inquiry::Inquiries;
    use super::*;

    fn named(name: &str) -> Target {
        Target::Named(name.to_owned(), Duration::from_secs(20))
    }

    #[test]
    fn where_nothing_is_declared_nobody_is_waited_for() {
        let questions = Inquiries::<Asking>::new();
        questions.wake_by(Arc::new(|| {}));
        let began = std::time::Instant::now();
        let refused = way(questions.door(), false, 8).ask(&named("a"), "select 1", Vec::new()).unwrap_err();
        assert!(
            matches!(&refused, NoAnswer::Never(fault) if fault.0.contains("not declared")),
            "{refused:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(15), "nobody was waited for");
    }

    #[test]
    fn what_a_script_has_described_since_the_configuration_was_loaded_is_asked_later() {
        let described = |host: &str| {
            let url = vsmtp_config::Value::Text(format!("mysql://mail:secret@{host}/mail"));
            Database::read(&vsmtp_config::Value::Map([("url".to_owned(), url)].into())).unwrap()
        };
        let questions = Inquiries::<Asking>::new();
        let way = way(questions.door(), false, 8);
        way.declare(&described("loaded.test"));
        questions.wake_by(Arc::new(|| {}));
        way.declare(&described("rule.test"));
        let ask = |host: &str| way.ask(&Target::Described(described(host)), "select 1", Vec::new());
        let (loaded, rule) = (ask("loaded.test"), ask("rule.test"));
        assert!(matches!(&loaded, Err(NoAnswer::Later(fault)) if fault.0.contains("reload")), "{loaded:?}");
        assert!(matches!(&rule, Err(NoAnswer::Never(_))), "{rule:?}");
        assert!(!format!("{loaded:?}{rule:?}").contains("secret"));
    }

    #[test]
    fn a_database_has_the_time_that_it_may_take_and_no_grace() {
        let wanted = |within| Wanted {
            database: Which::Named("a".to_owned()),
            statement: "select 1".to_owned(),
            parameters: Vec::new(),
            within: Duration::from_secs(within),
        };
        let left_ms = |within, left| Asking::question(&wanted(within), 0, Duration::from_secs(left)).left_ms;
        // A share of five seconds, and the rule waits for seven.
        assert_eq!(left_ms(5, 7), 5_000);
        // It waited before it was sent, or the script has less.
        assert_eq!(left_ms(5, 3), 3_000);
    }

    #[test]
    fn a_question_that_is_too_large_is_a_mistake_of_the_script() {
        let questions = Inquiries::<Asking>::new();
        questions.wake_by(Arc::new(|| {}));
        let way = way(questions.door(), true, 8);
        let refused = way.ask(&named("a"), &"x".repeat((64 << 10) + 1), Vec::new());
        assert!(matches!(&refused, Err(NoAnswer::Never(fault)) if fault.0.contains("64 KiB")), "{refused:?}");
    }

    #[test]
    fn those_who_wait_for_one_database_leave_room_for_those_who_ask_another() {
        let questions = Inquiries::<Asking>::new();
        let (woken, asked) = std::sync::mpsc::channel();
        questions.wake_by(Arc::new(move || {
            let _ = woken.send(());
        }));
        let way = way(questions.door(), true, 2);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| way.ask(&named("slow"), "select 1", Vec::new()));
            asked.recv_timeout(Duration::from_secs(15)).unwrap();
            let second = way.ask(&named("slow"), "select 1", Vec::new());
            assert!(
                matches!(&second, Err(NoAnswer::Busy(fault)) if fault.0.contains("too many rules")),
                "{second:?}"
            );
            let other = scope.spawn(|| way.ask(&named("other"), "select 1", Vec::new()));
            asked.recv_timeout(Duration::from_secs(15)).unwrap();
            // Nobody is left who could answer them.
            drop(questions);
            for waiting in [first, other] {
                assert!(
                    matches!(waiting.join().unwrap(), Err(NoAnswer::Later(_))),
                    "never a refusal for ever"
                );
            }
        });
    }
}
