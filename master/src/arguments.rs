//! The command line of `vsmtp`. Small enough to be read by hand: the master takes no dependency for it.

use std::path::PathBuf;

use crate::error::Error;

/// What `--help` prints.
pub const HELP: &str = "\
vsmtp, a mail transfer agent

usage: vsmtp [-c FILE] [--root DIR] [--demo] [run | check]

  run            start the whole MTA in the foreground (the default)
  check          evaluate and validate the configuration, then exit

  -c FILE        the configuration (default: /etc/vsmtp/vsmtp.vsl, or
                 vsmtp.toml there)
  --root DIR     put /etc/vsmtp, /var and /run below DIR
  --demo         use the built-in development configuration: SMTP on
                 127.0.0.1:2525, every recipient gets a Maildir; needs --root
  -V, --version  print the version
  -h, --help     print this

signals: SIGHUP reloads, SIGTERM and SIGINT drain and stop within 5 s
";

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start the MTA.
    Run,
    /// Validate the configuration.
    Check,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// What to do.
    pub action: Action,
    /// `-c`.
    pub config: Option<PathBuf>,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--demo`.
    pub demo: bool,
}

impl Arguments {
    /// Reads everything behind the program's name.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut parsed = Arguments { action: Action::Run, config: None, root: None, demo: false };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value =
                || words.next().map(PathBuf::from).ok_or_else(|| usage(&format!("{word} needs a value")));
            match word.as_str() {
                "-c" | "--config" => parsed.config = Some(value()?),
                "--root" => parsed.root = Some(value()?),
                "--demo" => parsed.demo = true,
                "run" => parsed.action = Action::Run,
                "check" => parsed.action = Action::Check,
                "-h" | "--help" | "help" => parsed.action = Action::Help,
                "-V" | "--version" => parsed.action = Action::Version,
                _ => return Err(usage(&format!("unknown argument '{word}'"))),
            }
        }
        if parsed.demo && parsed.root.is_none() {
            return Err(usage("--demo needs --root, so that it cannot touch the system's own spool"));
        }
        Ok(parsed)
    }
}

fn usage(text: &str) -> Error {
    Error::Usage(format!("{text}; see vsmtp --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Error> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_usual_lines() {
        assert_eq!(parse("").unwrap().action, Action::Run);
        let line = parse("-c /x.vsl --root /r check").unwrap();
        assert_eq!(
            (line.action, line.config, line.root),
            (Action::Check, Some("/x.vsl".into()), Some("/r".into()))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [("-c", "-c needs"), ("--wat", "--wat"), ("--demo", "--root")] {
            assert!(parse(line).unwrap_err().to_string().contains(word), "{line}");
        }
    }
}
