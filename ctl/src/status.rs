//! `vsmtpctl status`, `reload` and `stop`.

use serde_json::{Map, Value, json};
use vsmtp_ipc::edge::ctl_master::{Answer, ProcessStatus, Request};
use vsmtp_ipc::edge::master_child::Figure;

use crate::failure::Failure;
use crate::line::Line;
use crate::output::{Output, span};

/// A line to the master.
pub type Master = Line<Request, Answer>;

/// Shows all processes with their figures.
pub fn status(master: &mut Master, out: &mut Output<'_>) -> Result<(), Failure> {
    let processes = processes(master, &Request::Status)?;
    if out.is_json() {
        return processes.iter().try_for_each(|process| out.object(&object(process)));
    }
    let head = ["PROCESS", "PID", "STATE", "GENERATION", "RESTARTS", "AGE", "FIGURES"];
    let rows: Vec<Vec<String>> = processes.iter().map(row).collect();
    out.table(&head, &rows)
}

/// Has the configuration read again.
pub fn reload(master: &mut Master, out: &mut Output<'_>) -> Result<(), Failure> {
    done(master.ask(&Request::Reload)?.message, out)
}

/// Has everything stopped.
pub fn stop(master: &mut Master, out: &mut Output<'_>) -> Result<(), Failure> {
    done(master.ask(&Request::Stop)?.message, out)
}

/// Asks for the list of processes, with or without figures.
pub fn processes(master: &mut Master, request: &Request) -> Result<Vec<ProcessStatus>, Failure> {
    match master.ask(request)?.message {
        Answer::Processes(processes) => Ok(processes),
        other => Err(unexpected(other)),
    }
}

fn done(answer: Answer, out: &mut Output<'_>) -> Result<(), Failure> {
    match answer {
        Answer::Done(text) if out.is_json() => out.object(&json!({ "done": text })),
        Answer::Done(text) => out.line(&text),
        other => Err(unexpected(other)),
    }
}

/// What to say when the answer is not the one hoped for.
pub fn unexpected(answer: Answer) -> Failure {
    match answer {
        Answer::Failed(text) => Failure::Refused(text),
        Answer::Done(_)
        | Answer::Processes(_)
        | Answer::Config(_)
        | Answer::Limits(_)
        | Answer::Brakes(_) => Failure::Broken("the master answered another question".to_owned()),
    }
}

fn row(process: &ProcessStatus) -> Vec<String> {
    // Objects hold all of them; a table of twenty zeros hides the one figure that is none.
    let told = process.figures.iter().filter(|figure| figure.value != 0);
    let figures: Vec<String> = told.map(|figure| format!("{}={}", figure.name, figure.value)).collect();
    vec![
        process.name.to_string(),
        if process.pid == 0 { "-".to_owned() } else { process.pid.to_string() },
        process.state.clone(),
        process.generation.to_string(),
        process.restarts.to_string(),
        span(process.age_s),
        figures.join(" "),
    ]
}

fn object(process: &ProcessStatus) -> Value {
    json!({
        "process": process.name.to_string(),
        "role": process.name.role.name(),
        "instance": process.name.instance,
        "pid": process.pid,
        "state": process.state,
        "generation": process.generation,
        "restarts": process.restarts,
        "age_s": process.age_s,
        "figures": figures(&process.figures),
    })
}

/// Figures as one object.
pub fn figures(figures: &[Figure]) -> Value {
    Value::Object(figures.iter().map(|f| (f.name.clone(), f.value.into())).collect::<Map<_, _>>())
}

#[cfg(test)]
pub mod tests {
    use std::thread;

    use vsmtp_ipc::EdgeId;
    use vsmtp_ipc::role::{ProcessName, Role};
    use vsmtp_sys::seqpacket;

    use super::*;

    /// A master that gives these answers, whatever it is asked, and reports what that was.
    pub fn master(answers: Vec<Answer>) -> (Master, thread::JoinHandle<Vec<Request>>) {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let play = move || {
            let mut line: Line<Answer, Request> = Line::over(theirs, EdgeId::CtlMaster).unwrap();
            let answer = |answer: Answer| {
                let asked = line.receive().unwrap().message;
                line.send(&answer, Vec::new()).unwrap();
                asked
            };
            answers.into_iter().map(answer).collect()
        };
        (Line::over(ours, EdgeId::CtlMaster).unwrap(), thread::spawn(play))
    }

    pub fn process(role: Role, pid: u32) -> ProcessStatus {
        ProcessStatus {
            name: ProcessName { role, instance: 0 },
            pid,
            generation: 2,
            state: "ready".to_owned(),
            restarts: 1,
            age_s: 3661,
            figures: [("refused", 0), ("sessions", 7), ("timed_out", 0)]
                .map(|(name, value)| Figure { name: name.to_owned(), value })
                .into(),
            declared: "receiver: a call not listed: EPERM\n  system calls:".to_owned(),
        }
    }

    pub fn printed(
        json: bool,
        print: impl FnOnce(&mut Output<'_>) -> Result<(), Failure>,
    ) -> (String, Option<Failure>) {
        let mut sink = Vec::new();
        let failure = print(&mut Output::new(&mut sink, json)).err();
        (String::from_utf8(sink).unwrap(), failure)
    }

    #[test]
    fn status_is_a_table_or_objects() {
        let answer = || Answer::Processes(vec![process(Role::Receiver, 12), process(Role::QueueManager, 0)]);
        let (mut line, asked) = master(vec![answer(), answer()]);
        let (text, failure) = printed(false, |out| status(&mut line, out));
        assert!(failure.is_none());
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[0].starts_with("PROCESS"), "{text}");
        assert!(rows[1].starts_with("receiver.0") && rows[1].ends_with("  sessions=7"), "{text}");
        assert!(rows[2].contains(" - "), "{text}");
        let (text, _) = printed(true, |out| status(&mut line, out));
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["figures"], json!({ "refused": 0, "sessions": 7, "timed_out": 0 }));
        assert!(matches!(asked.join().unwrap().as_slice(), [Request::Status, Request::Status]));
    }

    #[test]
    fn a_refusal_is_a_failure_with_its_text() {
        let (mut line, asked) =
            master(vec![Answer::Failed("vsmtp.vsl:3: server.naem: unknown key".to_owned())]);
        let (text, failure) = printed(false, |out| reload(&mut line, out));
        assert_eq!(text, "");
        let failure = failure.unwrap();
        assert_eq!(
            (failure.status(), failure.to_string().as_str()),
            (1, "vsmtp.vsl:3: server.naem: unknown key")
        );
        assert!(matches!(asked.join().unwrap().as_slice(), [Request::Reload]));
    }

    #[test]
    fn a_master_that_hangs_up_is_named() {
        let (ours, theirs) = seqpacket::pair().unwrap();
        drop(theirs);
        let mut line: Master = Line::over(ours, EdgeId::CtlMaster).unwrap();
        let (_, failure) = printed(false, |out| stop(&mut line, out));
        assert_eq!(failure.unwrap().status(), 77);
    }

    #[test]
    fn nobody_there_is_not_running() {
        let dir = tempfile::tempdir().unwrap();
        let failure = Master::connect(&dir.path().join("control"), EdgeId::CtlMaster).err().unwrap();
        assert_eq!(failure.status(), 69);
    }
}
