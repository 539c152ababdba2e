//! `vsmtpctl config`: the configuration in force, and the check of a file before it is in force.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use vsmtp_config::{Row, nearest_key};
use vsmtp_ipc::edge::ctl_master::{Answer, Request};

use crate::failure::Failure;
use crate::output::Output;
use crate::place::program;
use crate::status::{Master, unexpected};

/// Shows the keys that begin with `prefix`, all or those that are not at their default.
pub fn show(master: &mut Master, changed: bool, prefix: &str, out: &mut Output<'_>) -> Result<(), Failure> {
    let rows = match master.ask(&Request::Config)?.message {
        Answer::Config(bytes) => {
            vsmtp_config::decode::<Vec<Row>>(&bytes).map_err(|error| Failure::Broken(error.to_string()))?
        }
        other => return Err(unexpected(other)),
    };
    let named: Vec<&Row> = rows.iter().filter(|row| row.key.starts_with(prefix)).collect();
    if named.is_empty() {
        let meant = nearest_key(prefix).map(|key| format!("; did you mean {key}?")).unwrap_or_default();
        return Err(Failure::Usage(format!("no key begins with '{prefix}'{meant}")));
    }
    let wanted: Vec<&Row> = named.into_iter().filter(|row| !(changed && row.is_default)).collect();
    if out.is_json() {
        return wanted.iter().try_for_each(|row| {
            out.object(
                &json!({ "key": row.key, "value": row.value, "default": row.is_default, "doc": row.doc }),
            )
        });
    }
    let cells = |row: &&Row| {
        let mark = if row.is_default { "default" } else { "set" };
        vec![row.key.clone(), mark.to_owned(), row.value.clone()]
    };
    out.table(&["KEY", "", "VALUE"], &wanted.iter().map(cells).collect::<Vec<_>>())
}

/// Has the master's program check a file: only it can start the process that evaluates scripts.
pub fn check(config: Option<&Path>, root: Option<&Path>, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut command = Command::new(program("vsmtp"));
    if let Some(config) = config {
        command.arg("-c").arg(config);
    }
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    let output = command.arg("check").output().map_err(|error| {
        Failure::NotRunning(format!("cannot start {}: {error}", program("vsmtp").display()))
    })?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if out.is_json() {
        let lines: Vec<&str> = text.lines().collect();
        out.object(&json!({ "ok": output.status.success(), "messages": lines }))?;
    } else {
        text.lines().try_for_each(|line| out.line(line))?;
    }
    if output.status.success() {
        Ok(())
    } else {
        Err(Failure::Refused("the configuration is not valid".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{master, printed};

    fn row(key: &str, is_default: bool) -> Row {
        Row { key: key.to_owned(), value: "5".to_owned(), is_default, doc: "Says what.".to_owned() }
    }

    #[test]
    fn shows_what_is_asked_for() {
        let rows = vec![row("queue.a", true), row("queue.b", false), row("server.c", false)];
        let answer = || Answer::Config(vsmtp_config::encode(&rows).unwrap());
        let (mut line, asked) = master(vec![answer(), answer()]);
        let (text, failure) = printed(false, |out| show(&mut line, true, "queue.", out));
        assert!(failure.is_none());
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), ["queue.b  set  5"]);
        let (text, _) = printed(true, |out| show(&mut line, false, "", out));
        assert_eq!(text.lines().count(), 3);
        asked.join().unwrap();
    }

    #[test]
    fn a_key_that_does_not_exist_is_an_error_with_the_nearest_one() {
        let answer = || Answer::Config(vsmtp_config::encode(&vec![row("server.name", true)]).unwrap());
        let (mut line, _asked) = master(vec![answer(), answer(), answer()]);
        let (text, failure) = printed(false, |out| show(&mut line, false, "server.nmae", out));
        let failure = failure.unwrap();
        assert_eq!((text.as_str(), failure.status()), ("", 64));
        assert_eq!(failure.to_string(), "no key begins with 'server.nmae'; did you mean server.name?");
        let (_, failure) = printed(true, |out| show(&mut line, false, "colour", out));
        assert_eq!(failure.unwrap().to_string(), "no key begins with 'colour'");
        // Nothing changed is no mistake.
        let (_, failure) = printed(false, |out| show(&mut line, true, "server.", out));
        assert!(failure.is_none());
    }

    #[test]
    fn bytes_that_are_no_rows_are_an_error() {
        let (mut line, _asked) = master(vec![Answer::Config(vec![1, 2, 3])]);
        let (_, failure) = printed(false, |out| show(&mut line, false, "", out));
        assert_eq!(failure.unwrap().status(), 75);
    }
}
