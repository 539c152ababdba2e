//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vsmtp_ipc::edge::ctl_queue::State;
use vsmtp_mail::{Domain, QueueId};

/// Operate a running vSMTP.
#[derive(Debug, Parser)]
#[command(name = "vsmtpctl", version, max_term_width = 100)]
pub struct Arguments {
    /// The instance that was started with `vsmtp --root DIR`.
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show all processes with their figures.
    Status,
    /// Read the configuration again; sessions go on.
    Reload,
    /// Finish what is open and stop.
    Stop,
    /// Look at and change the queue.
    Queue {
        /// Read this spool directly, while nothing runs: for list, cat, export and verify.
        #[arg(long, global = true, value_name = "DIR")]
        spool: Option<PathBuf>,
        /// What to do with it.
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// Show which clients have used up what, and reset one.
    Limits {
        /// At most so many, the heaviest first.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// What to do instead.
        #[command(subcommand)]
        command: Option<LimitsCommand>,
    },
    /// Passwords of clients.
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Show what confines each process, as the kernel reports it.
    Sandbox {
        /// Also print each process's declared jail: paths, limits, system calls with their reasons.
        #[arg(long)]
        declared: bool,
    },
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make and check keys that mail is signed with; nothing need run.
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// Check and try rules; nothing need run.
    #[command(subcommand)]
    Vsl(VslCommand),
}

/// Commands on passwords.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Make a line for a file of passwords; the password is the first line of standard input.
    Hash {
        /// How the password is stored.
        #[arg(long, value_enum, default_value = "scram")]
        scheme: SchemeWord,
        /// The name to put before it.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

/// How a password is stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SchemeWord {
    /// For PLAIN and LOGIN.
    Argon2id,
    /// For all mechanisms.
    Scram,
}

/// Whose counts are forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Those of a client.
    Client(std::net::IpAddr),
    /// Those of an account.
    Account(String),
}

impl Whom {
    fn parse(text: &str) -> Result<Whom, String> {
        if let Ok(address) = text.strip_suffix("/64").filter(|it| it.contains(':')).unwrap_or(text).parse() {
            return Ok(Whom::Client(address));
        }
        match text.strip_suffix("/32").map(str::parse) {
            Some(Ok(address @ std::net::IpAddr::V4(_))) => Ok(Whom::Client(address)),
            _ if text.is_empty() => Err("an address or an account is needed".to_owned()),
            _ if Self::is_like_an_address(text) => {
                Err("this is no address; of a network, name one address".to_owned())
            }
            _ => Ok(Whom::Account(text.to_owned())),
        }
    }

    /// True for what is meant as an address: an account of that name is less likely than a slip.
    fn is_like_an_address(text: &str) -> bool {
        let numbers = || text.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'.' | b'/'));
        text.contains(':') || text.contains(['.', '/']) && numbers()
    }
}

/// Commands on limits.
#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Forget what a client has used up, that it passed tests, and its failures to log in; or those for an account.
    Reset {
        /// The client's address, or its network as it is listed (`2001:db8::/64`), or the account's name.
        #[arg(value_parser = Whom::parse)]
        whom: Whom,
    },
}

/// Commands on the queue.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List messages, oldest first.
    List {
        /// Only those in this state.
        #[arg(long)]
        state: Option<StateWord>,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Show all about one message.
    Show {
        /// The message.
        #[arg(value_parser = id)]
        id: QueueId,
    },
    /// Print one message as it was received.
    Cat {
        /// The message.
        #[arg(value_parser = id)]
        id: QueueId,
    },
    /// Keep messages from being delivered.
    Hold(Which),
    /// Undo a hold or a quarantine.
    Release(Which),
    /// Try to deliver now.
    Flush(Which),
    /// Remove messages; their senders are not told.
    Delete(Which),
    /// Judge messages by the rules again and forget past attempts.
    Requeue(Which),
    /// Show how the next hops stand.
    Destinations,
    /// Show counts.
    Stats,
    /// Write every message of a spool as files, while nothing runs.
    Export {
        /// Where to write.
        to: PathBuf,
    },
    /// Check a spool, while nothing runs.
    Verify,
}

/// Which messages a command changes. One of them is needed; `--all --state S` is the same as `--state S`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Which {
    /// Queue ids; `-` reads them from standard input.
    #[arg(value_name = "ID", conflicts_with_all = ["all", "state"])]
    pub ids: Vec<String>,
    /// All messages.
    #[arg(long)]
    pub all: bool,
    /// All messages in this state.
    #[arg(long)]
    pub state: Option<StateWord>,
}

/// Where a message is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateWord {
    /// Waiting for its first attempt, or being attempted.
    Active,
    /// Waiting for its next attempt.
    Deferred,
    /// Held by policy or an operator.
    Held,
    /// Kept by policy under a name.
    Quarantined,
    /// Given up.
    Dead,
    /// Given to a service, or waiting for it.
    Delegated,
}

impl From<StateWord> for State {
    fn from(word: StateWord) -> Self {
        match word {
            StateWord::Active => State::Active,
            StateWord::Deferred => State::Deferred,
            StateWord::Held => State::Held,
            StateWord::Quarantined => State::Quarantined,
            StateWord::Dead => State::Dead,
            StateWord::Delegated => State::Delegated,
        }
    }
}

/// Commands on the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the configuration in force.
    Show {
        /// Only what differs from the defaults.
        #[arg(long)]
        changed: bool,
        /// Only keys that begin with this.
        prefix: Option<String>,
    },
    /// Check the configuration file without using it.
    Check {
        /// The file.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Commands on keys that mail is signed with.
#[derive(Debug, Subcommand)]
pub enum DkimCommand {
    /// Make a private key, and print the record that publishes it.
    Keygen {
        /// Under which name of the domain the key is published.
        #[arg(long, value_name = "NAME", value_parser = domain)]
        selector: Domain,
        /// Whose mail is signed.
        #[arg(long, value_name = "DOMAIN", value_parser = domain)]
        domain: Domain,
        /// Which kind of key.
        #[arg(long = "type", value_enum, default_value = "rsa")]
        key_type: KeyType,
        /// The length of an RSA key: 2048, 3072 or 4096 [default: 2048].
        #[arg(long, value_name = "N")]
        bits: Option<u16>,
        /// Put the new key in the place of one that is there.
        #[arg(long)]
        force: bool,
        /// Where the private key is written, in PEM.
        file: PathBuf,
    },
    /// Print the record that publishes a key.
    Record {
        /// Under which name of the domain the key is published.
        #[arg(long, value_name = "NAME", value_parser = domain)]
        selector: Domain,
        /// Whose mail is signed.
        #[arg(long, value_name = "DOMAIN", value_parser = domain)]
        domain: Domain,
        /// The private key, in PEM.
        file: PathBuf,
    },
    /// Compare what the DNS publishes with the keys of the configuration.
    Check {
        /// A selector that rules sign with; may be repeated.
        #[arg(long = "selector", value_name = "NAME", required = true, value_parser = domain)]
        selectors: Vec<Domain>,
        /// The folder of the configuration, or its main file [default: /etc/vsmtp].
        #[arg(long, value_name = "DIR")]
        config: Option<PathBuf>,
        /// Which domains [default: all that have keys].
        #[arg(value_parser = domain)]
        domains: Vec<Domain>,
    },
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyType {
    /// What everybody can check.
    Rsa,
    /// Short; not everybody can check it yet (RFC 8463), so an RSA key belongs beside it.
    Ed25519,
}

/// Commands on rules.
#[derive(Debug, Subcommand)]
pub enum VslCommand {
    /// Find what is wrong with the configuration and its rules.
    Check {
        /// The folder of the configuration, or its main file [default: /etc/vsmtp].
        dir: Option<PathBuf>,
    },
    /// Have the rules judge a message, or run the tests beside the rules.
    Test(Box<VslTest>),
    /// Evaluate statements, line by line, in a filter of their own.
    Repl {
        /// The folder of the configuration, or its main file [default: /etc/vsmtp].
        #[arg(long, value_name = "DIR")]
        config: Option<PathBuf>,
    },
    /// Write what editors want to know: definitions for the Rhai language server.
    Definitions {
        /// Where to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// What is tried.
#[derive(Debug, Args)]
pub struct VslTest {
    /// A message; or files with tests (*.test.vsl); or the folder of a configuration, all of whose tests are run; nothing:
    /// all tests of --config.
    pub files: Vec<PathBuf>,
    /// The folder of the configuration, or its main file [default: /etc/vsmtp].
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// The client's address; without it, the message comes by the local socket.
    #[arg(long, value_name = "ADDRESS")]
    pub client_ip: Option<std::net::IpAddr>,
    /// The sender; empty for the null sender.
    #[arg(long, value_name = "MAILBOX")]
    pub from: Option<String>,
    /// A recipient; may be repeated.
    #[arg(long, value_name = "MAILBOX")]
    pub rcpt: Vec<String>,
    /// What the client says in HELO [default: client.example].
    #[arg(long, value_name = "NAME")]
    pub helo: Option<String>,
    /// The client authenticates as this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The last stage to run.
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// What the DNS says, one NAME KIND DATA in a line; without it, nothing exists.
    #[arg(long, value_name = "FILE")]
    pub dns: Option<PathBuf>,
}

impl VslTest {
    /// True if it says how one message comes: script tests say that themselves.
    pub fn says_how_a_message_comes(&self) -> bool {
        self.client_ip.is_some()
            || self.from.is_some()
            || !self.rcpt.is_empty()
            || self.helo.is_some()
            || self.user.is_some()
            || self.stage.is_some()
            || self.dns.is_some()
    }
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| error.to_string())
}

fn id(text: &str) -> Result<QueueId, String> {
    QueueId::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_usual_lines() {
        let id = "0".repeat(26);
        for line in [
            "vsmtpctl status --json",
            "vsmtpctl --root /tmp/x queue list --state held --limit 5",
            &format!("vsmtpctl queue show {id}"),
            &format!("vsmtpctl queue delete {id} {id}"),
            "vsmtpctl queue flush --all --state deferred",
            "vsmtpctl queue flush --state deferred",
            "vsmtpctl queue hold -",
            "vsmtpctl queue destinations",
            "vsmtpctl queue --spool /s list --state held",
            "vsmtpctl queue list --spool /s",
            "vsmtpctl queue --spool /s export /to",
            "vsmtpctl queue verify --spool /s --json",
            "vsmtpctl config show --changed server.",
            "vsmtpctl limits --limit 20 --json",
            "vsmtpctl limits reset 2001:db8::1",
            "vsmtpctl limits reset jane@example.com",
            "vsmtpctl config check -c /etc/vsmtp/vsmtp.vsl",
            "vsmtpctl dkim keygen --selector s1 --domain example.com --type ed25519 k.pem",
            "vsmtpctl dkim record --selector s1 --domain example.com k.pem --json",
            "vsmtpctl dkim check --selector s1 --selector s2 example.com example.org",
            "vsmtpctl vsl check /etc/vsmtp --json",
            "vsmtpctl vsl test",
            "vsmtpctl vsl repl --config /etc/vsmtp",
            "vsmtpctl vsl test m.eml --client-ip 2001:db8::1 --from a@b.test --rcpt c@d.test --rcpt e@f.test --stage preq",
            "vsmtpctl vsl definitions --out /tmp/x",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn who_is_reset_may_be_named_as_listed_and_slips_are_no_accounts() {
        let client = |text: &str| Ok(Whom::Client(text.parse().unwrap()));
        for (text, whom) in [
            ("2001:db8::/64", client("2001:db8::")),
            ("2001:db8::1", client("2001:db8::1")),
            ("192.0.2.1/32", client("192.0.2.1")),
            ("192.0.2.1", client("192.0.2.1")),
        ] {
            assert_eq!(Whom::parse(text), whom, "{text}");
        }
        for text in ["jane", "jane@example.com", "7", "host/mx.example.com", "a.b", "beef"] {
            assert_eq!(Whom::parse(text), Ok(Whom::Account(text.to_owned())));
        }
        for text in [
            "",
            "2001:db8::/48",
            "2001:db8::/32",
            "2001:db8::g/64",
            "2001:db8:::1",
            "192.0.2.1/64",
            "192.0.2.0/24",
            "192.0.2.300",
            "192.0.2",
            "/64",
        ] {
            assert!(Whom::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_is_deleted_by_accident() {
        for line in [
            "vsmtpctl queue delete",
            "vsmtpctl queue delete --state",
            "vsmtpctl queue delete x --state held",
            "vsmtpctl queue delete x --all",
            "vsmtpctl queue show x",
            "vsmtpctl limits reset",
            "vsmtpctl limits reset ",
            "vsmtpctl dkim keygen --domain example.com k.pem",
            "vsmtpctl dkim check",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
