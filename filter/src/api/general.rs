//! Functions that look at nothing but the process: `log()`, `time::`, `utils::`, `env()`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use log::Level;
use rhai::{Dynamic, ImmutableString};
use vsmtp_daemon::Record;
use vsmtp_mail::Rfc5322Date;

use super::registry::{Registry, Text, name};
use crate::names::{Names, Nobody};
use crate::object::Object;

/// What scripts may ask about the host; read by the caller, so that scripts have no hidden inputs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The host's name.
    pub hostname: String,
    /// The process environment.
    pub environment: BTreeMap<String, String>,
    /// The server's own domains, in lower case.
    pub own_domains: Arc<[String]>,
    /// Whom they may ask for names.
    pub names: Arc<dyn Names>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Surroundings {
            hostname: String::new(),
            environment: BTreeMap::new(),
            own_domains: Arc::default(),
            names: Arc::new(Nobody),
        }
    }
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    logging(registry);
    let hostname: ImmutableString = surroundings.hostname.as_str().into();
    registry.free0(name("utils", "hostname", &["hostname"]), move || hostname.clone());
    let environment = Arc::new(surroundings.environment.clone());
    let by_object = Arc::clone(&environment);
    registry
        .free1(name("utils", "env", &["env"]), move |key: ImmutableString| Ok(lookup(&environment, &key)));
    registry.free1(name("utils", "env", &["env"]), move |key: Object| Ok(lookup(&by_object, &key.text())));
    registry.free0(name("time", "now", &["time"]), || part_of_day(1));
    registry.free0(name("time", "date", &["date"]), || part_of_day(0));
    registry.free0(name("time", "timestamp", &[]), || i64::try_from(seconds()).unwrap_or(i64::MAX));
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
    let log = name("logging", "log", &["log"]);
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
