//! `vsmtpctl vsl repl`: lines go to a filter of their own, answers come back. From a terminal it asks for each line; from a pipe it
//! reads until the end, and the exit status says whether all went well.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

use serde_json::{Value as Json, json};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::ctl_filter::{MAX_TRIED, Problem};
use vsmtp_ipc::edge::ctl_repl::{Answer, MAX_LINE, Request, Value};

use crate::failure::Failure;
use crate::output::Output;
use crate::tool::{self, Started, Tool};
use crate::vsl::{of_problem, problems_of_rules, shown};

/// The program, and its role.
const FILTER: Tool = Tool { program: "vsmtp-filter", role: "repl", edge: EdgeId::CtlRepl };
/// What asks for a line, and for more of it.
const PROMPTS: [&str; 2] = ["vsl> ", "...> "];
/// What ends it.
const QUIT: [&str; 2] = [":quit", ":q"];
/// What reads a message.
const MESSAGE: &str = ":message";

type Filter = Started<Request, Answer>;

/// The whole command.
pub fn run(config: Option<&Path>, root: Option<&Path>, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut filter: Filter = FILTER.start()?;
    match filter.ask(&Request::Begin(tool::configuration(config, root)?))? {
        Answer::Said(_) => {}
        Answer::Problems(problems) => return problems_of_rules(&problems, out),
        _ => return Err(unexpected()),
    }
    let stdin = io::stdin();
    let is_terminal = stdin.is_terminal();
    let mut lines = stdin.lock();
    let (mut is_open, mut failures) = (false, 0_usize);
    loop {
        if is_terminal {
            out.raw().write_all(PROMPTS[usize::from(is_open)].as_bytes())?;
            out.raw().flush()?;
        }
        let line = match line(&mut lines)? {
            Some(line) => line,
            // What is not finished is wrong at the end.
            None if is_open => String::new(),
            None => break,
        };
        if !is_open && QUIT.contains(&line.trim()) {
            break;
        }
        let request = match request(&line, is_open) {
            Ok(request) => request,
            // The conversation goes on.
            Err(failure) => {
                failures += 1;
                out.line(&failure.to_string())?;
                continue;
            }
        };
        let answer = filter.ask(&request)?;
        is_open = matches!(answer, Answer::More);
        failures += usize::from(matches!(answer, Answer::Failed { .. }));
        print(&answer, out)?;
        out.raw().flush()?;
    }
    match failures {
        0 => Ok(()),
        // Whoever sat there has seen it.
        _ if is_terminal => Ok(()),
        1 => Err(Failure::Refused("1 statement failed".to_owned())),
        number => Err(Failure::Refused(format!("{number} statements failed"))),
    }
}

/// One line without its end; `None` at the end of the input.
fn line(from: &mut dyn BufRead) -> Result<Option<String>, Failure> {
    let mut octets = Vec::new();
    from.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut octets)?;
    if octets.is_empty() {
        return Ok(None);
    }
    if octets.len() > MAX_LINE {
        return Err(Failure::Usage(format!("a line has at most {MAX_LINE} octets")));
    }
    let line = String::from_utf8(octets).map_err(|_| Failure::Usage("a line is not UTF-8".to_owned()))?;
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// What is asked: the filter cannot read files of the operator, so a message is read here.
fn request(line: &str, is_open: bool) -> Result<Request, Failure> {
    let file = line.trim().strip_prefix(MESSAGE).filter(|rest| rest.starts_with(char::is_whitespace));
    match file.map(str::trim).filter(|file| !is_open && !file.is_empty()) {
        None => Ok(Request::Line(line.to_owned())),
        Some(path) => {
            let wrong = |text: &dyn std::fmt::Display| Failure::NotChecked(format!("{path}: {text}"));
            let mut octets = Vec::new();
            let file = File::open(path).map_err(|error| wrong(&error))?;
            let read = file.take(MAX_TRIED as u64 + 1).read_to_end(&mut octets);
            read.map_err(|error| wrong(&error))?;
            if octets.len() > MAX_TRIED {
                return Err(wrong(&"is too large"));
            }
            Ok(Request::Message(octets))
        }
    }
}

fn print(answer: &Answer, out: &mut Output<'_>) -> Result<(), Failure> {
    if out.is_json() {
        return of_answer(answer).iter().try_for_each(|object| out.object(object));
    }
    match answer {
        Answer::More => Ok(()),
        Answer::Said(lines) => lines.iter().try_for_each(|line| out.line(line)),
        Answer::Value(Value { text, changes, log, .. }) => {
            beside(changes, log, out)?;
            if text.is_empty() { Ok(()) } else { text.split('\n').try_for_each(|line| out.line(line)) }
        }
        Answer::Failed { problem, changes, log } => {
            beside(changes, log, out)?;
            out.line(&shown(problem))
        }
        Answer::Problems(_) => Err(unexpected()),
    }
}

fn beside(changes: &[String], log: &[String], out: &mut Output<'_>) -> Result<(), Failure> {
    log.iter().try_for_each(|line| out.line(&format!("  log {line}")))?;
    changes.iter().try_for_each(|change| out.line(&format!("  {change}")))
}

fn of_answer(answer: &Answer) -> Option<Json> {
    let failed = |problem: &Problem, changes: &[String], log: &[String]| json!({ "ok": false, "error": of_problem(problem), "changes": changes, "log": log });
    match answer {
        Answer::Said(lines) if lines.is_empty() => None,
        Answer::Said(lines) => Some(json!({ "ok": true, "lines": lines })),
        Answer::Value(Value { kind, text, changes, log }) => {
            Some(json!({ "ok": true, "type": kind, "value": text, "changes": changes, "log": log }))
        }
        Answer::Failed { problem, changes, log } => Some(failed(problem, changes, log)),
        Answer::More | Answer::Problems(_) => None,
    }
}

fn unexpected() -> Failure {
    Failure::NotChecked("the filter gave an answer to another question".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::printed;

    #[test]
    fn lines_end_with_the_input() {
        let mut input = "a\r\n\nb".as_bytes();
        let all: Vec<String> = std::iter::from_fn(|| line(&mut input).unwrap()).collect();
        assert_eq!(all, ["a", "", "b"]);
        let long = "x".repeat(MAX_LINE + 1);
        assert_eq!(line(&mut long.as_bytes()).unwrap_err().status(), 64);
        assert_eq!(line(&mut [0xff, b'\n'].as_slice()).unwrap_err().status(), 64);
    }

    #[test]
    fn a_message_is_read_here_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.eml");
        std::fs::write(&file, "Subject: x\n\n").unwrap();
        let said = format!(":message {}", file.display());
        assert_eq!(request(&said, false).unwrap(), Request::Message(b"Subject: x\n\n".to_vec()));
        assert_eq!(request(&said, true).unwrap(), Request::Line(said));
        assert_eq!(request(":messages", false).unwrap(), Request::Line(":messages".to_owned()));
        assert_eq!(request(":message /nonexistent", false).unwrap_err().status(), 2);
    }

    #[test]
    fn answers_are_shown_without_control_characters() {
        let value = Value {
            kind: "string".to_owned(),
            text: "\"a\x1b\"".to_owned(),
            changes: vec!["held".to_owned()],
            log: vec!["info hello".to_owned()],
        };
        let (text, _) = printed(false, |out| print(&Answer::Value(value.clone()), out));
        assert_eq!(text, "  log info hello\n  held\n\"a?\"\n");
        let (text, _) = printed(true, |out| print(&Answer::Value(value), out));
        assert!(text.contains("\"type\":\"string\""), "{text}");
        let (text, _) = printed(false, |out| print(&Answer::More, out));
        assert_eq!(text, "");
    }
}
