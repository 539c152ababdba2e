//! A conversation with the language: an operator says statements, and facts about a message that nobody sent, and hears what they
//! make of it. No rule runs but what is said, each line within bounded time and operations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rhai::Dynamic;
use vsmtp_config::FilterSlice;
use vsmtp_ipc::edge::ctl_repl::{Answer, MAX_LINE, Value};

use super::facts::{Facts, MAX_MESSAGE};
use super::recorder::{Snapshot, said};
use super::scripts::shown;
use super::{Counts, LogLines, Placeholder, Zone};
use crate::api::Surroundings;
use crate::deposit::Deposit;
use crate::engine::{Interactive, ScriptError, Stop, Watch};
use crate::inspect::problem;
use crate::judge::Ground;
use crate::object::Fault;
use crate::policy::Policy;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::Shared;

/// What a line is called in messages.
const NAME: &str = "line";
/// Longest run of one line, whatever the configuration says: the operator waits.
const LONGEST: Duration = Duration::from_secs(30);
/// Most characters of a value that are shown.
const MAX_SHOWN: usize = 8_192;
/// What there is to say beside statements.
const HELP: [&str; 14] = [
    "STATEMENT            is evaluated; an expression shows its value; an empty line ends one that is not finished",
    ":stage [STAGE]       connect, helo, authenticate, mail, rcpt, preq, postq, delivery",
    ":client [ADDRESS]    where the client is; without an address, on the local socket",
    ":helo NAME           what it says in HELO",
    ":user [NAME]         who it has authenticated as; without a name, nobody",
    ":from [MAILBOX]      the sender; without a mailbox, the null sender",
    ":rcpt MAILBOX ...    the recipients; the last is the one that the rcpt stage judges",
    ":message FILE        the message",
    ":dns NAME KIND DATA  what the DNS says, such as :dns example.net SPF fail",
    ":facts               what was said of the message",
    ":reset               undoes what statements did to the message, as each new fact does; variables stay",
    ":clear               forgets variables, functions, imports, names of the DNS and counts, too",
    ":help                this",
    ":quit                the end",
];

/// The conversation.
#[derive(Debug)]
pub struct Repl {
    ground: Ground,
    said: Interactive,
    facts: Facts,
    shared: Shared,
    zone: Arc<Zone>,
    counts: Arc<Counts>,
    policy: Policy,
    max_recipients: usize,
    timeout: Duration,
    log: LogLines,
    /// Lines of a statement that is not finished.
    pending: String,
}

impl Repl {
    /// With the functions of a configuration, and none of its rules.
    ///
    /// # Errors
    /// Its folder cannot be looked at.
    pub fn new(slice: &FilterSlice, host: &Surroundings, log: LogLines) -> Result<Self, ScriptError> {
        let zone = Arc::new(Zone::default());
        let counts = Arc::new(Counts::default());
        let host = Surroundings {
            names: Arc::clone(&zone) as _,
            limiter: Arc::clone(&counts) as _,
            deposit: Deposit::tried(),
            signer: Arc::new(Placeholder(slice.dkim_domains.clone())),
            ..host.clone()
        };
        let ground = Ground::of(slice, &host)?;
        // Nothing is kept: tables that rules keep cannot be opened, as in rules.
        ground.surroundings.databases.close();
        let policy = Policy::new(slice);
        let facts = Facts::new(policy.server_name());
        let max_recipients = slice.rcpt_count_max as usize;
        let transaction = facts.transaction(&zone, policy.server_name(), max_recipients);
        let transaction =
            transaction.map_err(|fault| ScriptError::at(crate::engine::Location::default(), fault.0))?;
        Ok(Repl {
            ground,
            said: Interactive::default(),
            facts,
            shared: Shared::new(transaction),
            zone,
            counts,
            policy,
            max_recipients,
            timeout: slice.timeout.min(LONGEST),
            log,
            pending: String::new(),
        })
    }

    /// One line of the operator.
    pub fn line(&mut self, line: &str) -> Answer {
        if self.pending.is_empty()
            && let Some(command) = line.trim().strip_prefix(':')
        {
            return self.command(command).map_or_else(|fault| self.wrong(fault), Answer::Said);
        }
        let is_end = line.trim().is_empty();
        if is_end && self.pending.is_empty() {
            return Answer::Said(Vec::new());
        }
        if self.pending.len() + line.len() > MAX_LINE {
            self.pending.clear();
            return self.wrong(Fault(format!("a statement has at most {MAX_LINE} octets")));
        }
        self.pending.push_str(line);
        self.pending.push('\n');
        self.statement(is_end)
    }

    /// The message of the transaction.
    pub fn message(&mut self, message: Vec<u8>) -> Answer {
        if message.len() > MAX_MESSAGE {
            return self.wrong(Fault(format!("a message has at most {MAX_MESSAGE} octets")));
        }
        let facts = Facts { message, ..self.facts.clone() };
        self.take(facts).map_or_else(|fault| self.wrong(fault), |()| Answer::Said(Vec::new()))
    }

    fn statement(&mut self, is_end: bool) -> Answer {
        let before = Snapshot::of(&self.shared.lock());
        (self.log)();
        self.ground.engine.set_default_tag(self.shared.tag());
        let evaluated = {
            let _watch = Watch::until(Instant::now() + self.timeout);
            self.said.evaluate(&self.ground.engine, &self.ground.root, NAME, &self.pending)
        };
        let error = match evaluated {
            Err(Stop::Unfinished(_)) if !is_end => return Answer::More,
            Err(Stop::Unfinished(error) | Stop::Error(error)) => error,
            Ok(value) => {
                self.pending.clear();
                return Answer::Value(self.value(&value, &before));
            }
        };
        self.pending.clear();
        let changes = before.changes(&Snapshot::of(&self.shared.lock()));
        Answer::Failed { problem: problem(&error), changes, log: (self.log)() }
    }

    fn value(&self, value: &Dynamic, before: &Snapshot) -> Value {
        let kind = match self.ground.engine.map_type_name(value.type_name()) {
            "i64" => "int",
            "f64" => "float",
            other => other,
        }
        .to_owned();
        let text = match value.read_lock::<Status>() {
            Some(status) => match said(&status) {
                Some(said) => format!("{} {said}", *status),
                None => status.to_string(),
            },
            None if value.is_unit() => String::new(),
            None => shown(&self.ground.engine, value, 0),
        };
        let is_long = text.chars().nth(MAX_SHOWN).is_some();
        let text = match is_long {
            true => format!("{}...", text.chars().take(MAX_SHOWN).collect::<String>()),
            false => text,
        };
        Value { kind, text, changes: before.changes(&Snapshot::of(&self.shared.lock())), log: (self.log)() }
    }

    fn wrong(&self, fault: Fault) -> Answer {
        let place = crate::engine::Location { file: NAME.to_owned(), ..Default::default() };
        Answer::Failed {
            problem: problem(&ScriptError::at(place, fault.0)),
            changes: Vec::new(),
            log: (self.log)(),
        }
    }

    /// What begins with a colon.
    fn command(&mut self, command: &str) -> Result<Vec<String>, Fault> {
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let given = (!rest.is_empty()).then(|| rest.to_owned());
        let mut facts = self.facts.clone();
        match (word, given) {
            ("help", None) => return Ok(HELP.map(str::to_owned).to_vec()),
            ("facts" | "stage", None) => return Ok(self.facts.lines()),
            ("clear", None) => {
                self.said = Interactive::default();
                self.zone.clear();
                self.counts.clear();
            }
            ("reset", None) => {}
            ("dns", Some(_)) => {
                let mut words = rest.splitn(3, char::is_whitespace);
                let mut next = || words.next().unwrap_or_default().trim();
                let (name, kind, data) = (next(), next(), next());
                self.zone.add(name, kind, data)?;
            }
            ("stage", Some(name)) => {
                facts.stage =
                    Stage::parse(&name).ok_or_else(|| Fault(format!("there is no stage '{name}'")))?;
            }
            ("client", None) => facts.client = None,
            ("client", Some(ip)) => {
                facts.client = Some(ip.parse().map_err(|_| Fault(format!("'{ip}' is no address")))?);
            }
            ("helo", Some(name)) => facts.helo = name,
            ("user", name) => facts.user = name,
            ("from", from) => facts.from = without_brackets(&from.unwrap_or_default()).to_owned(),
            ("rcpt", Some(all)) => {
                facts.recipients = all.split_whitespace().map(|to| without_brackets(to).to_owned()).collect();
            }
            ("message", _) => return Err(Fault::new(":message needs a file")),
            _ => return Err(Fault(format!("there is no command :{command}; :help tells all"))),
        }
        self.take(facts)?;
        Ok(Vec::new())
    }

    /// Facts count if a transaction can be made of them.
    fn take(&mut self, facts: Facts) -> Result<(), Fault> {
        // What cannot be said at this stage must be right all the same.
        Facts { stage: Stage::Delivery, ..facts.clone() }.transaction(
            &self.zone,
            self.policy.server_name(),
            self.max_recipients,
        )?;
        let transaction = facts.transaction(&self.zone, self.policy.server_name(), self.max_recipients)?;
        self.shared = Shared::new(transaction);
        self.facts = facts;
        Ok(())
    }
}

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text)
}

/// A text as it would be typed, for tests.
#[cfg(test)]
fn plain(answer: &Answer) -> String {
    match answer {
        Answer::Value(value) => {
            [vec![value.text.clone()], value.changes.clone(), value.log.clone()].concat().join("; ")
        }
        Answer::Failed { problem, .. } => {
            format!("{}:{}:{}: {}", problem.file, problem.line, problem.column, problem.message)
        }
        Answer::More => "...".to_owned(),
        Answer::Said(lines) => lines.join("\n"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::slice;

    fn said(lines: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lib.vsl"), "fn shout(x) { x.to_upper() }").unwrap();
        let slice = FilterSlice {
            config_dir: folder.path().display().to_string(),
            filter_path: folder.path().join("filter.vsl").display().to_string(),
            filter_path_required: false,
            max_operations: 100_000,
            timeout: Duration::from_millis(500),
            ..slice(&[])
        };
        std::fs::write(folder.path().join("filter.vsl"), "#{}").unwrap();
        let mut repl = Repl::new(&slice, &Surroundings::default(), Vec::new).unwrap();
        lines.iter().map(|line| plain(&repl.line(line))).collect()
    }

    #[test]
    fn all_modules_see_the_facts() {
        let all = said(&[
            "ctx::client_ip()",
            ":client 2001:db8::1",
            "ctx::client_ip()",
            ":from <ann@example.net>",
            "ctx::mail_from()",
            ":rcpt a@example.com b@example.com",
            ":stage rcpt",
            "`${ctx::rcpt()} of ${ctx::rcpt_list().len()}`",
            "msg::size()",
            ":stage preq",
            "msg::get_header(\"Subject\")",
            "msg::append_header(\"X-A\", \"b\")",
            ":reset",
            "msg::has_header(\"X-A\")",
            ":dns example.net SPF fail",
            "spf::check_raw().result",
            "state::deny(code(550, \"5.7.1\", \"no\"))",
            "ip4(\"192.0.2.1\")",
        ]);
        let expected = [
            (0, "\"192.0.2.1\""),
            (2, "\"2001:db8::1\""),
            (4, "ann@example.net"),
            (7, "\"b@example.com of 2\""),
            (10, "\"test\""),
            (13, "false"),
            (15, "\"fail\""),
            (16, "deny 550 5.7.1 no"),
            (17, "192.0.2.1"),
        ];
        for (at, text) in expected {
            assert_eq!(all[at], text, "{at}: {all:#?}");
        }
        assert!(all[8].starts_with("line:1:") && all[8].contains("preq"), "{}", all[8]);
        assert!(all[11].contains("header +X-A: b"), "{}", all[11]);
    }

    #[test]
    fn values_are_shown_as_a_writer_of_rules_knows_them() {
        for (line, shown) in [
            ("cmd::build(#{ command: \"/usr/bin/scan\" })", "cmd:/usr/bin/scan"),
            ("[cmd::build(#{ command: \"/usr/bin/scan\" })]", "[cmd:/usr/bin/scan]"),
            ("code(550, \"5.7.1\", \"no\")", "550 5.7.1 no"),
            ("code::c554_7_1()", "554 5.7.1 Relay access denied"),
            (
                "#{ a: code(250, \"fine\"), b: [ip4(\"192.0.2.1\")], c: \"x\" }",
                "#{\"a\": 250 fine, \"b\": [192.0.2.1], \"c\": \"x\"}",
            ),
            ("#{ s: state::next() }", "#{\"s\": next}"),
            ("netset::of([\"10.0.0.0/8\"])", "netset of 1"),
            ("table(\"inline:{ a=1 }\")", "inline:{ a=1 }"),
            (
                "smtp::connect(#{ delegator: #{ address: \"127.0.0.1:10026\" }, receiver: \"127.0.0.1:10024\" })",
                "smtp:127.0.0.1:10026",
            ),
            ("()", ""),
        ] {
            assert_eq!(said(&[line])[0], shown, "{line}");
        }
    }

    #[test]
    fn what_a_rule_wants_said_about_a_message_is_shown() {
        for (line, shown) in [
            ("bounce::text(\"a\\nb\")", "reports say \"a\\nb\""),
            ("bounce::from(\"help@example.com\")", "reports come from <help@example.com>"),
            ("bounce::suppress()", "reports suppressed"),
            ("notify::send(\"x@example.com\", \"large\", \"t\")", "notice to <x@example.com>: large"),
        ] {
            let all = said(&[":stage preq", line]);
            assert!(all[1].ends_with(shown), "{all:?}");
        }
    }

    #[test]
    fn a_statement_may_have_many_lines_and_is_bounded() {
        let all = said(&[
            "fn f(x) {",
            "  x + 1",
            "}",
            "f(41)",
            "import \"lib\" as lib;",
            "lib::shout(\"a\")",
            "[1,",
            "",
            "loop { }",
            ":nothing",
            ":stage nowhere",
            ":from a b c",
            "f(1)",
            ":clear",
            "f(1)",
        ]);
        assert_eq!((all[0].as_str(), all[1].as_str(), all[3].as_str()), ("...", "...", "42"));
        assert_eq!((all[5].as_str(), all[6].as_str(), all[12].as_str()), ("\"A\"", "...", "2"));
        assert!(all[7].starts_with("line:"), "{}", all[7]);
        assert!(all[8].contains("operations") || all[8].contains("time limit"), "{}", all[8]);
        assert!(
            all[9].contains("no command :nothing")
                && all[10].contains("no stage")
                && all[11].contains("no sender")
        );
        assert!(all[14].contains("f"), "{}", all[14]);
        assert!(said(&[":help"])[0].contains(":quit"));
        assert!(said(&[&"x".repeat(MAX_LINE + 1)])[0].contains("at most"));
    }

    #[test]
    fn a_fact_that_cannot_be_changes_nothing() {
        let all = said(&[":rcpt nobody@", ":facts"]);
        assert!(all[0].contains("no recipient") && all[1].contains("rcpt    <user@"), "{all:?}");
    }
}
