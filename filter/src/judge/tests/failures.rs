//! Rules that fail, that cost too much, or that are not there: nothing is let through because of that.

use vsmtp_ipc::edge::filter_runner::Ended;

use super::*;
use crate::object::Fault;
use crate::runner::{Given, NotRun, Runner};

#[test]
fn too_many_recipients_and_errors_by_choice() {
    let few = bench_with("#{}", &[("server.smtp.rcpt_count_max", Value::Int(2))]);
    few.begin();
    assert_eq!(few.rcpt("jane@example.com"), "accept");
    assert_eq!(few.rcpt("joe@example.org"), "accept");
    assert_eq!(few.rcpt("sales@example.com"), "refuse 452");
    let strict = bench_with(
        "#{ mail: [ rule \"r\" || throw 1 ] }",
        &[("filter.on_error", Value::Text("deny".into()))],
    );
    assert_eq!(show(&strict.begin()), "close 554");
}

/// A runner that has no place, for a scanner; what else is run fails.
#[derive(Debug)]
struct Full;

impl Runner for Full {
    fn run(&self, command: &vsmtp_config::Command, _: Given) -> Result<Ended, NotRun> {
        let fault = Fault::new("it did not run");
        Err(if command.program == "scan" { NotRun::Busy(fault) } else { NotRun::Failed(fault) })
    }
}

#[test]
fn a_command_that_finds_no_place_is_a_matter_for_later_whatever_becomes_of_errors() {
    let host = Surroundings { runner: Arc::new(Full), ..Surroundings::default() };
    let deny = [("filter.on_error", Value::Text("deny".into()))];
    for (program, said) in [("scan", "refuse 451"), ("other", "close 554")] {
        let script = format!(
            "const a = cmd::build(#{{ command: \"{program}\" }}); #{{ mail: [ rule \"r\" || a.run() ] }}"
        );
        assert_eq!(show(&bench_on(&script, &deny, &host).begin()), said, "{program}");
    }
}

#[test]
fn no_rule_makes_a_table_of_a_name_that_a_stranger_chose() {
    let script = "const kept = csv::build(#{ connector: \"kept.csv\" });
        #{ mail: [ rule \"r\" || { csv::build(#{ connector: `${ctx::mail_from().domain}` }); state::next() } ] }";
    assert_eq!(show(&bench(script).begin()), "refuse 451");
}

#[test]
fn a_script_that_loops_or_recurses_or_grows_costs_its_message_and_nothing_else() {
    for body in [
        "loop { }",
        "f(1)",
        "let s = \"x\"; loop { s += s; }",
        "let a = []; loop { a.push(a); }",
        "let m = #{}; let i = 0; loop { m[`${i}`] = i; i += 1; }",
        "regex(\"(a*)*b\") == \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac\"; throw 1",
        "let x = 9223372036854775807; x + 1",
    ] {
        let set =
            [("filter.max_operations", Value::Int(50_000)), ("filter.max_value_size", Value::Int(16_384))];
        let bench = bench_with(
            &format!("fn f(x) {{ f(x + 1) + f(x + 2) }} #{{ mail: [ rule \"r\" || {{ {body} }} ] }}"),
            &set,
        );
        assert_eq!(show(&bench.begin()), "refuse 451", "{body}");
    }
}

#[test]
fn a_missing_script_is_safe_unless_the_operator_named_it() {
    let dir = tempfile::tempdir().unwrap();
    let missing = |required| FilterSlice {
        config_dir: dir.path().display().to_string(),
        filter_path: dir.path().join("filter.vsl").display().to_string(),
        filter_path_required: required,
        ..slice(&[])
    };
    let judge = Judge::load(&missing(false), &Surroundings::default()).unwrap();
    assert!(Stage::ALL.into_iter().all(|stage| !judge.wants(stage)));
    let error = Judge::load(&missing(true), &Surroundings::default()).unwrap_err();
    assert!(error.to_string().starts_with("filter.vsl: cannot be read"), "{error}");
    let error = load("#{ rcpt: [ rule \"a\" || ", &[]).unwrap_err();
    assert!(error.location.file == "filter.vsl", "{error}");
}

#[test]
fn the_shipped_rules_load_and_do_nothing() {
    let bench = bench(include_str!("../../../../etc/vsmtp/filter.vsl"));
    assert!(Stage::ALL.into_iter().all(|stage| !bench.judge.wants(stage)));
}
