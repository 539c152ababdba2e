//! Commands, without a process that runs any.

use vsmtp_config::Command;
use vsmtp_ipc::edge::filter_runner::Ended;

use super::*;
use crate::object::Fault;
use crate::runner::{Collector, Given, NotRun, Runner};

/// Runs what is called "scan" as a scanner would, by what it is given.
#[derive(Debug)]
pub struct Scripted;

impl Runner for Scripted {
    fn run(&self, command: &Command, given: Given) -> Result<Ended, NotRun> {
        let ended = |code, stdout: &str| Ended {
            code: Some(code),
            signal: None,
            timed_out: false,
            truncated: false,
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
        };
        if command.program == "/usr/bin/hang" {
            return Ok(Ended { code: None, signal: Some(9), timed_out: true, ..ended(0, "") });
        }
        if command.program != "/usr/bin/scan" {
            let why = format!("the command {} did not run: it is not declared", command.program);
            return Err(Fault(why).into());
        }
        let mut bytes = Vec::new();
        let mut take = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        if let Some(input) = given.input {
            input.hand_over(&mut take).unwrap();
            assert_eq!(input.size(), bytes.len() as u64);
        }
        let input = bytes.as_slice();
        Ok(match given.arguments.as_deref() {
            Some([option, ..]) if option == "--fail" => ended(2, ""),
            None if input.len() > 65_536 => ended(0, &input.len().to_string()),
            Some(arguments) => ended(0, &arguments.join("|")),
            None if input.windows(5).any(|window| window == b"virus") => ended(1, "found\n"),
            None if input.is_empty() => ended(0, "clean\n"),
            None => ended(0, &String::from_utf8_lossy(input)),
        })
    }
}

const SCAN: &str = "let scan = cmd(#{ command: \"/usr/bin/scan\", args: [\"-\"] });";

fn holds(stage: Stage, condition: &str) {
    let script = format!("{SCAN} {condition}");
    run_example(&engine(), at(stage), &script).unwrap_or_else(|error| panic!("{condition}: {error}"));
}

fn fails(stage: Stage, statement: &str, words: &str) {
    let error = run_example(&engine(), at(stage), &format!("{SCAN} {statement}")).unwrap_err();
    assert!(error.contains(words), "{statement}: {error}");
}

#[test]
fn a_command_is_given_arguments_and_input_and_tells_its_end() {
    for condition in [
        "scan.run().stdout == \"clean\\n\"",
        "scan.run([\"a b\", \"\", address(\"j@example.com\")]).stdout == \"a b||j@example.com\"",
        "scan.cmd_run([\"--fail\"]).code == 2",
        "let end = scan.run_with(\"virus\"); end.has_code && end.code == 1 && !end.has_signal && end.signal == ()",
        "scan.run_with(blob(3, 0x61)).stdout == \"aaa\"",
        "let end = cmd::build(#{ command: \"/usr/bin/hang\" }).run(); end.timed_out && end.signal == 9 && end.code == () && !end.has_code",
        "`${scan}` == \"cmd:/usr/bin/scan\"",
        "service old cmd = #{ command: \"/usr/bin/scan\", timeout: \"2s\", user: \"vsmtp-runner\" }; old.run().has_code",
    ] {
        holds(Stage::Connect, condition);
    }
    holds(Stage::Preq, "scan.run_with(msg()).stdout.contains(\"Subject: hello\")");
}

#[test]
fn what_is_no_command_or_is_not_declared_is_refused() {
    for (statement, words) in [
        ("cmd::build(#{})", "no command"),
        (
            "cmd::build(#{ command: \"a\", user: \"root\" })",
            "commands run as the user and group vsmtp-runner",
        ),
        ("cmd::build(#{ command: \"a\", args: [1] })", "1 as args"),
        ("cmd::build(#{ command: \"a\", shell: true })", "the part \"shell\""),
        ("service s cmd = #{ command: \"a\", timeout: \"1 year\" };", "\"1 year\" as timeout"),
        ("scan.run([1])", "must be strings or objects"),
        ("scan.run([\"a\\x00\"])", "NUL"),
        ("cmd::build(#{ command: \"/usr/bin/scan\", fixed: true }).run([\"a\"])", "are fixed"),
        ("cmd::build(#{ command: \"/usr/bin/other\" }).run()", "is not declared"),
        ("scan.run_with(msg())", "from the stage 'preq' on"),
    ] {
        fails(Stage::Rcpt, statement, words);
    }
}

#[test]
fn commands_that_are_made_while_scripts_are_loaded_are_noted_once_and_none_is_run() {
    let collector = Arc::new(Collector::default());
    let runner: Arc<dyn Runner> = Arc::<Collector>::clone(&collector);
    let mut engine = engine::bare(&Root::none(), &Limits::default());
    install(&mut engine, &Surroundings { runner, ..surroundings() });
    let script = "service a cmd = #{ command: \"a\" }; const b = cmd::build(#{ command: \"b\", args: [\"x\"] });\n\
                  const again = cmd::build(#{ command: \"a\" });\n\
                  fn late() { cmd::build(#{ command: \"c\" }) }\n\
                  #{ connect: [ action \"run\" || late().run() ] }";
    engine::load_text(&engine, &Root::none(), "filter.vsl", script).unwrap();
    let programs: Vec<String> = collector.commands().into_iter().map(|command| command.program).collect();
    assert_eq!(programs, ["a", "b"]);
    let error =
        run_example(&engine, at(Stage::Connect), "cmd::build(#{ command: \"a\" }).run()").unwrap_err();
    assert!(error.contains("nothing can be run here"), "{error}");
}

/// A message of which only so much is there, as if the disk had lost the rest.
#[derive(Debug)]
struct Large {
    len: u64,
    is_there: u64,
}

impl crate::transaction::Content for Large {
    fn len(&self) -> u64 {
        self.len
    }
    fn read(&self, offset: u64, max: usize) -> std::io::Result<Vec<u8>> {
        let left = usize::try_from(self.is_there.saturating_sub(offset)).unwrap();
        Ok(vec![b'x'; left.min(max)])
    }
}

#[test]
fn a_message_that_no_script_can_hold_is_still_given_to_commands() {
    let len = 50 << 20;
    let with = |is_there| {
        let mut transaction = at(Stage::Preq);
        transaction.content = Some(Arc::new(Large { len, is_there }));
        transaction.header = vsmtp_mail::HeaderBlock::parse(b"A: b\r\n\r\n");
        transaction.body_offset = 8;
        transaction
    };
    run_example(&engine(), with(len), &format!("{SCAN} scan.run_with(msg()).stdout == \"{len}\"")).unwrap();
    let error = run_example(&engine(), with(len), "msg::mail().len() > 0").unwrap_err();
    assert!(error.contains("larger than 16777216"), "{error}");
    let short = super::super::message::input(&with(1 << 20));
    assert!(short.hand_over(|_| Ok(())).is_err(), "half a message is none");
}
