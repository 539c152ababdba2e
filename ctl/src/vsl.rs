//! `vsmtpctl vsl`: rules are checked and tried before they are in force. The exit status is 0 if all is well, 1 if something is
//! wrong with the rules or a test fails, 2 if that could not be found out.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use vsmtp_ipc::edge::ctl_filter::{Answer, Kept, MAX_TRIED, Problem, Step, Task, Tested, Trial, Tried};

use crate::arguments::{VslCommand, VslTest};
use crate::failure::Failure;
use crate::output::Output;
use crate::{repl, tool};

/// What names of files with tests end in.
const TESTS: &str = ".test.vsl";
/// What a client says in HELO if nothing else is asked for.
const HELO: &str = "client.example";
/// Longest file of records, in octets.
const MAX_DNS: u64 = 1 << 20;

/// Runs one command.
pub fn run(command: &VslCommand, root: Option<&Path>, out: &mut Output<'_>) -> Result<(), Failure> {
    match command {
        VslCommand::Check { dir } => {
            let of = tool::configuration(dir.as_deref(), root)?;
            match tool::ask(of, Task::Check)? {
                Answer::Problems(problems) => problems_of_rules(&problems, out),
                _ => Err(unexpected()),
            }
        }
        VslCommand::Test(test) => self::test(test, root, out),
        VslCommand::Repl { config } => repl::run(config.as_deref(), root, out),
        VslCommand::Definitions { out: folder } => definitions(folder, out),
    }
}

fn unexpected() -> Failure {
    Failure::Broken("the filter gave an answer to another question".to_owned())
}

/// Prints what is wrong with rules.
pub fn problems_of_rules(problems: &[Problem], out: &mut Output<'_>) -> Result<(), Failure> {
    for problem in problems {
        match out.is_json() {
            true => out.object(&of_problem(problem))?,
            false => out.line(&shown(problem))?,
        }
    }
    match problems.len() {
        0 if out.is_json() => Ok(()),
        0 => out.line("no problems"),
        1 => Err(Failure::Refused("1 problem".to_owned())),
        number => Err(Failure::Refused(format!("{number} problems"))),
    }
}

/// As programs want it.
pub fn of_problem(problem: &Problem) -> Value {
    json!({
        "file": problem.file, "line": problem.line, "column": problem.column,
        "message": problem.message, "hint": problem.hint,
    })
}

/// `file:line:column: message (hint)`, as compilers say it.
pub fn shown(problem: &Problem) -> String {
    let mut place = problem.file.clone();
    for number in [problem.line, problem.column].into_iter().take_while(|number| *number > 0) {
        place.push_str(&format!(":{number}"));
    }
    let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    format!("{place}: {}{hint}", problem.message)
}

fn test(test: &VslTest, root: Option<&Path>, out: &mut Output<'_>) -> Result<(), Failure> {
    let is_script = |file: &Path| file.to_string_lossy().ends_with(TESTS);
    let one_message = matches!(test.files.as_slice(), [message] if !is_script(message) && !message.is_dir());
    if !one_message && test.says_how_a_message_comes() {
        let why = "--client-ip, --from, --rcpt, --helo, --user, --stage and --dns are about one message; tests say it themselves";
        return Err(Failure::Usage(why.to_owned()));
    }
    match test.files.as_slice() {
        [folder] if folder.is_dir() && test.config.is_none() => tests(Some(folder), &[], root, out),
        [message] if one_message => trial(message, test, root, out),
        files if files.iter().all(|file| is_script(file)) => {
            let absolute = |file: &std::path::PathBuf| {
                let path = fs::canonicalize(file)
                    .map_err(|error| Failure::NotChecked(format!("{}: {error}", file.display())))?;
                Ok(path.display().to_string())
            };
            let files: Vec<String> = files.iter().map(absolute).collect::<Result<_, Failure>>()?;
            tests(test.config.as_deref(), &files, root, out)
        }
        _ => Err(Failure::Usage("name one message, or files *.test.vsl, or one folder".to_owned())),
    }
}

fn tests(
    config: Option<&Path>,
    files: &[String],
    root: Option<&Path>,
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let of = tool::configuration(config, root)?;
    let results = match tool::ask(of, Task::Test(files.to_vec()))? {
        Answer::Tested(results) => results,
        Answer::Problems(problems) => return problems_of_rules(&problems, out),
        _ => return Err(unexpected()),
    };
    for result in &results {
        print_test(result, out)?;
    }
    let failed = results.iter().filter(|result| result.failure.is_some()).count();
    if !out.is_json() {
        out.line(&format!("{} passed, {failed} failed", results.len() - failed))?;
    }
    if results.is_empty() {
        return Err(Failure::Refused("there are no tests".to_owned()));
    }
    if failed > 0 { Err(Failure::Refused("tests failed".to_owned())) } else { Ok(()) }
}

fn print_test(test: &Tested, out: &mut Output<'_>) -> Result<(), Failure> {
    let name = if test.name.is_empty() { "does not load" } else { &test.name };
    if out.is_json() {
        let failure = test.failure.as_ref().map(of_problem);
        return out.object(&json!({
            "file": test.file, "name": test.name, "ok": test.failure.is_none(), "failure": failure,
        }));
    }
    match &test.failure {
        None => out.line(&format!("ok    {}: {name}", test.file)),
        Some(failure) => {
            out.line(&format!("FAIL  {}: {name}", test.file))?;
            out.line(&format!("      {}", shown(failure)))
        }
    }
}

fn trial(message: &Path, test: &VslTest, root: Option<&Path>, out: &mut Output<'_>) -> Result<(), Failure> {
    let Some(from) = test.from.clone().filter(|_| !test.rcpt.is_empty()) else {
        return Err(Failure::Usage("a message needs --from and --rcpt".to_owned()));
    };
    let dns = test.dns.as_deref().map(|file| read(file, MAX_DNS)).transpose()?.unwrap_or_default();
    let dns =
        String::from_utf8(dns).map_err(|_| Failure::NotChecked("the DNS file is not UTF-8".to_owned()))?;
    let trial = Trial {
        client: test.client_ip,
        user: test.user.clone(),
        helo: test.helo.clone().unwrap_or_else(|| HELO.to_owned()),
        from,
        recipients: test.rcpt.clone(),
        message: read(message, MAX_TRIED as u64)?,
        until: test.stage.clone(),
        dns,
    };
    let of = tool::configuration(test.config.as_deref(), root)?;
    match tool::ask(of, Task::Try(trial))? {
        Answer::Tried(tried) if out.is_json() => out.object(&of_trial(&tried)),
        Answer::Tried(tried) => print_trial(&tried, out),
        Answer::Problems(problems) => problems_of_rules(&problems, out),
        _ => Err(unexpected()),
    }
}

fn read(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let fail = |error: String| Failure::NotChecked(format!("{}: {error}", file.display()));
    let mut octets = Vec::new();
    let opened = fs::File::open(file).map_err(|error| fail(error.to_string()))?;
    opened.take(most + 1).read_to_end(&mut octets).map_err(|error| fail(error.to_string()))?;
    if octets.len() as u64 > most { Err(fail(format!("is larger than {most} octets"))) } else { Ok(octets) }
}

fn of_trial(tried: &Tried) -> Value {
    let steps: Vec<Value> = tried
        .steps
        .iter()
        .map(|step| {
            json!({
                "stage": step.stage, "script": step.script, "line": step.line, "kind": step.kind,
                "directive": step.directive, "verdict": step.verdict, "reply": step.reply,
                "changes": step.changes, "log": step.log,
            })
        })
        .collect();
    let heard: Vec<Value> = tried
        .heard
        .iter()
        .map(|heard| json!({ "command": heard.command, "reply": heard.reply, "accepted": heard.is_accepted }))
        .collect();
    let messages: Vec<Value> = tried
        .kept
        .iter()
        .map(|kept| {
            let recipients: Vec<Value> =
                kept.recipients.iter().map(|(to, hop)| json!({ "address": to, "next_hop": hop })).collect();
            json!({ "from": kept.from, "recipients": recipients, "fate": kept.fate, "diff": kept.diff })
        })
        .collect();
    json!({ "steps": steps, "replies": heard, "messages": messages })
}

fn print_trial(tried: &Tried, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut stage = "";
    for step in &tried.steps {
        if step.stage != stage {
            out.line(&step.stage)?;
            stage = &step.stage;
        }
        print_step(step, out)?;
    }
    out.line("client")?;
    for heard in &tried.heard {
        out.line(&format!("  {}: {}", heard.command, heard.reply))?;
    }
    tried.kept.iter().try_for_each(|kept| print_message(kept, out))
}

fn print_step(step: &Step, out: &mut Output<'_>) -> Result<(), Failure> {
    let reply = step.reply.as_ref().map_or_else(String::new, |reply| format!(" ({reply})"));
    let place = format!("{}:{}", step.script, step.line);
    out.line(&format!("  {} \"{}\" {place}: {}{reply}", step.kind, step.directive, step.verdict))?;
    step.changes.iter().try_for_each(|change| out.line(&format!("    {change}")))?;
    step.log.iter().try_for_each(|line| out.line(&format!("    log {line}")))
}

fn print_message(kept: &Kept, out: &mut Output<'_>) -> Result<(), Failure> {
    out.line(&format!("message from <{}>: {}", kept.from, kept.fate))?;
    for (to, hop) in &kept.recipients {
        out.line(&format!("  to <{to}> by {hop}"))?;
    }
    kept.diff.iter().try_for_each(|line| out.line(&format!("  {line}")))
}

fn definitions(folder: &Path, out: &mut Output<'_>) -> Result<(), Failure> {
    let fail = |error: std::io::Error| Failure::NotChecked(format!("{}: {error}", folder.display()));
    // No configuration is needed: the functions are those of the program.
    let Answer::Definitions(files) = tool::ask(tool::no_configuration(), Task::Definitions)? else {
        return Err(unexpected());
    };
    fs::create_dir_all(folder).map_err(fail)?;
    for (name, text) in files {
        // The names come from another process: nothing but plain file names is written.
        if name.contains('/') || !name.ends_with(".d.rhai") {
            return Err(unexpected());
        }
        fs::write(folder.join(&name), text).map_err(fail)?;
        match out.is_json() {
            true => out.object(&json!({ "file": name }))?,
            false => out.line(&folder.join(&name).display().to_string())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::printed;

    fn problem(line: u32, column: u32, hint: Option<&str>) -> Problem {
        let hint = hint.map(str::to_owned);
        Problem { file: "filter.vsl".to_owned(), line, column, message: "is wrong".to_owned(), hint }
    }

    #[test]
    fn problems_are_shown_as_compilers_do_and_make_the_exit_status() {
        let problems = [problem(3, 7, Some("mend it")), problem(0, 0, None)];
        let (text, failure) = printed(false, |out| problems_of_rules(&problems, out));
        assert_eq!(text, "filter.vsl:3:7: is wrong (mend it)\nfilter.vsl: is wrong\n");
        assert_eq!(failure.unwrap().status(), 1);
        let (text, failure) = printed(false, |out| problems_of_rules(&[], out));
        assert_eq!((text.as_str(), failure.is_none()), ("no problems\n", true));
        let (text, _) = printed(true, |out| problems_of_rules(&problems, out));
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn what_is_not_there_cannot_be_checked() {
        let check = VslCommand::Check { dir: Some("/nonexistent".into()) };
        let (_, failure) = printed(false, |out| run(&check, None, out));
        assert_eq!(failure.unwrap().status(), 2);
    }
}
