//! Functions that look at nothing but the process: `log()`, `time::`, `utils::`, `env()`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::Level;
use rhai::{Dynamic, ImmutableString};
use vsmtp_config::{DatabaseKind, FilterSlice, Network, OwnReply, Value};
use vsmtp_daemon::Record;
use vsmtp_mail::Rfc5322Date;

use super::address::domain_of;
use super::registry::{Registry, Text, name};
use super::resolve::Directory;
use crate::accounts::Accounts;
use crate::csv::Databases;
use crate::database::{Asker, NoAsker};
use crate::deposit::Deposit;
use crate::files::Folder;
use crate::limiter::{Limiter, NoLimiter};
use crate::names::{Names, Nobody};
use crate::object::Object;
use crate::plugins::Plugins;
use crate::runner::{NoRunner, Runner};
use crate::signer::{NoSigner, Signer};
use crate::status::Status;
use crate::suffixes::Suffixes;

/// What scripts may ask about the host; read by the caller, so that scripts have no hidden inputs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The host's name.
    pub hostname: String,
    /// The process environment.
    pub environment: BTreeMap<String, String>,
    /// Names of the users of this host.
    pub users: BTreeSet<String>,
    /// Its users and groups.
    pub accounts: Arc<Accounts>,
    /// The public suffix list, if the host has it.
    pub suffixes: Arc<Suffixes>,
    /// The folder of the configuration, for lists and tables.
    pub folder: Arc<Folder>,
    /// The folder of the tables that rules keep.
    pub databases: Arc<Databases>,
    /// The folder of what rules write.
    pub deposit: Arc<Deposit>,
    /// The server's own domains, in lower case.
    pub own_domains: Arc<[String]>,
    /// What the configuration says of recipients.
    pub directory: Arc<Directory>,
    /// Clients that may send to any domain.
    pub trusted: Arc<[Network]>,
    /// Domains that have keys to sign mail with, in lower case.
    pub dkim_domains: Arc<[String]>,
    /// Whom they may ask for names.
    pub names: Arc<dyn Names>,
    /// Who signs.
    pub signer: Arc<dyn Signer>,
    /// Who counts.
    pub limiter: Arc<dyn Limiter>,
    /// Who runs commands.
    pub runner: Arc<dyn Runner>,
    /// Who asks databases.
    pub asker: Arc<dyn Asker>,
    /// Native plugins.
    pub plugins: Arc<Plugins>,
    /// The databases of the configuration, by name, with what they are and the time within which they answer.
    pub database_names: Arc<[(String, DatabaseKind, Duration)]>,
    /// The settings that a filter is told.
    pub settings: Arc<Value>,
    /// What `deny()` says without a code.
    pub denied: Status,
    /// What `reject()` says without a code.
    pub rejected: Status,
}

/// A host of which nothing is known.
impl Default for Surroundings {
    fn default() -> Self {
        Surroundings {
            hostname: String::new(),
            environment: BTreeMap::new(),
            users: BTreeSet::new(),
            accounts: Arc::default(),
            suffixes: Arc::default(),
            folder: Arc::default(),
            databases: Arc::default(),
            deposit: Arc::default(),
            own_domains: Arc::default(),
            trusted: Arc::default(),
            directory: Arc::default(),
            dkim_domains: Arc::default(),
            names: Arc::new(Nobody),
            signer: Arc::new(NoSigner),
            limiter: Arc::new(NoLimiter),
            runner: Arc::new(NoRunner),
            asker: Arc::new(NoAsker),
            plugins: Arc::default(),
            database_names: Arc::default(),
            settings: Arc::new(Value::map()),
            denied: Status::deny_default(),
            rejected: Status::reject_default(),
        }
    }
}

impl Surroundings {
    /// The same with what the configuration says.
    #[must_use]
    pub fn with(&self, slice: &FilterSlice) -> Self {
        let own = slice.domains.iter().map(|domain| domain.to_string().to_ascii_lowercase());
        let databases = Databases::at(Path::new(&slice.database_dir));
        databases.leave_room(slice.workers as usize);
        self.plugins.leave_room(slice.workers as usize);
        let deposit = match self.deposit.is_tried() {
            true => Arc::clone(&self.deposit),
            false => Deposit::at(Path::new(&slice.app_dir), slice.app_spare, slice.workers as usize),
        };
        Surroundings {
            deposit,
            folder: Folder::open(Path::new(&slice.config_dir)),
            databases,
            database_names: slice.databases.iter().cloned().collect(),
            own_domains: own.collect(),
            trusted: slice.relay_from.iter().map(|network| Network::clone(network)).collect(),
            dkim_domains: slice.dkim_domains.iter().cloned().collect(),
            directory: Arc::new(Directory::new(slice)),
            settings: Arc::new(slice.settings()),
            denied: in_words(Status::deny_default(), slice.refusals.0.as_ref()),
            rejected: in_words(Status::reject_default(), slice.refusals.1.as_ref()),
            ..self.clone()
        }
    }
}

/// A refusal in the operator's words, if there are any.
fn in_words(status: Status, own: Option<&OwnReply>) -> Status {
    match own {
        Some(own) => status.saying(own.enhanced(), &own.text),
        None => status,
    }
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    logging(registry);
    let hostname: ImmutableString = surroundings.hostname.as_str().into();
    let host = name("utils", "hostname", &["hostname"])
        .doc("() -> string", "The name of this host.")
        .example("utils::hostname() == \"mx.test\"");
    registry.free0(host, move || hostname.clone());
    let environment = Arc::new(surroundings.environment.clone());
    let env = name("utils", "env", &["env"])
        .doc("(name: string) -> string", "A variable of the environment in which the server was started, as far as the filter is given it; `()` if it is not there.")
        .example("utils::env(\"KEY\") == \"value\" && utils::env(\"NONE\") == ()");
    registry.free_text(env, move |key| Ok(lookup(&environment, key)));
    let users = Arc::new(surroundings.users.clone());
    let user = name("utils", "user_exist", &["user_exist"])
        .doc(
            "(name: string) -> bool",
            "There is a user of that name on this host. The file of users is read when the rules are loaded.",
        )
        .example("utils::user_exist(\"jane\") && !utils::user_exist(\"nobody-of-that-name\")");
    registry.free_text(user, move |name| Ok(users.contains(name)));
    unix(registry, surroundings);
    let ours = Arc::clone(&surroundings.own_domains);
    let in_domain = name("utils", "in_domain", &["in_domain"])
        .doc("(of: address) -> bool", "The domain, or that of the address, is one of `server.domains`.")
        .errors("if the argument is neither address nor domain")
        .example("utils::in_domain(\"jane@own.test\") && !utils::in_domain(fqdn(\"elsewhere.test\"))");
    registry.free_text(in_domain, move |of| {
        let domain = domain_of(of)?;
        Ok(ours.iter().any(|own| own == domain.as_str()))
    });
    let suffixes = Arc::clone(&surroundings.suffixes);
    let root = name("utils", "get_root_domain", &["get_root_domain"])
        .doc("(of: address) -> string", "The part of the domain that somebody has registered, by the host's public suffix list (Debian's package `publicsuffix`); without it, the last two labels.")
        .errors("if the argument is neither address nor domain")
        .example("utils::get_root_domain(\"mail.example.com\") == \"example.com\"");
    registry.free_text(root, move |of| Ok(ImmutableString::from(suffixes.root(domain_of(of)?.as_str()))));
    let now = name("time", "now", &["time"])
        .doc("() -> string", "The time of day, `HH:MM:SS`.")
        .example("time::now().len() == 8");
    registry.free0(now, || part_of_day(1));
    let date = name("time", "date", &["date"])
        .doc("() -> string", "The date, `YYYY-MM-DD`.")
        .example("time::date().len() == 10");
    registry.free0(date, || part_of_day(0));
    let stamp = name("time", "timestamp", &[])
        .doc("() -> int", "Seconds since 1970.")
        .example("time::timestamp() > 1_700_000_000");
    registry.free0(stamp, || i64::try_from(seconds()).unwrap_or(i64::MAX));
}

/// The same facts of the host in a module of their own.
fn unix(registry: &mut Registry, surroundings: &Surroundings) {
    let hostname: ImmutableString = surroundings.hostname.as_str().into();
    let host = name("unix", "hostname", &[])
        .doc("() -> string", "As `utils::hostname`.")
        .example("unix::hostname() == hostname()");
    registry.free0(host, move || hostname.clone());
    let environment = Arc::new(surroundings.environment.clone());
    let env = name("unix", "env", &[])
        .doc("(name: string) -> string", "As `utils::env`.")
        .example("unix::env(\"KEY\") == \"value\"");
    registry.free_text(env, move |key| Ok(lookup(&environment, key)));
    let users = Arc::new(surroundings.users.clone());
    let user = name("unix", "user_exist", &[])
        .doc("(name: string) -> bool", "As `utils::user_exist`.")
        .example("unix::user_exist(\"jane\") && !unix::user_exist(\"nobody-of-that-name\")");
    registry.free_text(user, move |name| Ok(users.contains(name)));
}

fn lookup(environment: &BTreeMap<String, String>, key: &str) -> Dynamic {
    environment.get(key).map_or(Dynamic::UNIT, |value| Dynamic::from(ImmutableString::from(value.as_str())))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The date (0) or the time of day (1), in UTC.
fn part_of_day(part: usize) -> ImmutableString {
    let text = Rfc5322Date(seconds()).rfc3339();
    text.trim_end_matches('Z').split('T').nth(part).unwrap_or_default().into()
}

fn logging(registry: &mut Registry) {
    fn write<A: Text, B: Text>(level: A, text: B) {
        say(&level.text(), &text.text());
    }
    let log = name("logging", "log", &["log"])
        .doc("(level: string, text: string)", "One line in the log (`script-log`). The level is `trace`, `debug`, `info`, `warn` or `error`; a level that does not exist is logged as a warning.")
        .example("logging::log(\"info\", `a client at ${hostname()}`)");
    registry.free2(log, |level: ImmutableString, text: ImmutableString| {
        write(level, text);
        Ok(())
    });
    registry.free2(log, |level: ImmutableString, text: Object| {
        write(level, text);
        Ok(())
    });
    registry.free2(log, |level: Object, text: ImmutableString| {
        write(level, text);
        Ok(())
    });
    registry.free2(log, |level: Object, text: Object| {
        write(level, text);
        Ok(())
    });
}

/// One line, whatever the text holds; the record escapes and cuts it.
fn say(level: &str, text: &str) {
    match level.parse::<Level>() {
        Ok(level) => Record::at(level, "script-log").field("text", text).emit(),
        Err(_) => {
            Record::at(Level::Warn, "script-log").field("unknown-level", level).field("text", text).emit()
        }
    }
}
