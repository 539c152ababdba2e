//! What the configuration says, in the words of this daemon.

use std::time::Duration;

use vsmtp_config::{
    ByNextHop, DestinationLimits, QueueSlice, Rate, Recipients, Routes as Tables, TlsReports,
};
use vsmtp_ipc::wire::MAX_PIECE_TEXT;
use vsmtp_mail::{Address, Domain, NextHop, ReversePath};

use crate::bounce::Reporter;
use crate::schedule::{self, LimitTable, Limits};
use crate::store::Options;
use crate::tls_reports;

/// Most steps from alias to alias.
const MAX_ALIAS_STEPS: usize = 10;
/// Most addresses that one alias may become.
const MAX_TARGETS: usize = 100;
/// Bodies are kept warm by this daemon, composed; the store need not keep them too.
const STORE_WARM_BYTES: usize = 0;

/// All of it.
#[derive(Debug)]
pub struct Settings {
    /// Writes reports.
    pub reporter: Reporter,
    /// Gets double bounces.
    pub postmaster: Address,
    /// Where reports go.
    pub routes: Routes,
    /// When what is tried.
    pub schedule: schedule::Settings,
    /// Octets of warm messages.
    pub cache_size: usize,
    /// Largest message that is taken.
    pub message_size_limit: u64,
    /// What mail domains are told about TLS.
    pub tls_reports: tls_reports::Settings,
}

impl From<&QueueSlice> for Settings {
    fn from(slice: &QueueSlice) -> Self {
        Settings {
            reporter: Reporter {
                name: Domain::clone(&slice.server_name),
                max_return: usize::try_from(slice.bounce_size_limit).unwrap_or(usize::MAX),
            },
            postmaster: Address::clone(&slice.postmaster),
            routes: Routes {
                recipients: Recipients::for_reports(slice),
                local: NextHop::clone(&slice.local),
                tables: Tables::new(&slice.transport, &[], slice.relayhost.as_ref()),
            },
            schedule: schedule_settings(slice),
            cache_size: usize::try_from(slice.cache_size).unwrap_or(usize::MAX),
            message_size_limit: slice.message_size_limit,
            tls_reports: tls_report_settings(slice),
        }
    }
}

impl Settings {
    /// Most octets of a message with all that rules added to it.
    pub fn largest(&self) -> u64 {
        self.message_size_limit.saturating_add(MAX_PIECE_TEXT as u64)
    }
}

fn tls_report_settings(slice: &QueueSlice) -> tls_reports::Settings {
    let TlsReports { from, organization, contact, hour, signed } = &slice.tls_reports;
    let reporter = from.as_ref().map(|from| tls_reports::Reporter {
        name: Domain::clone(&slice.server_name),
        from: Address::clone(from),
        organization: organization.clone().unwrap_or_else(|| slice.server_name.to_string()),
        contact: Address::clone(contact.as_ref().unwrap_or(from)),
    });
    tls_reports::Settings { reporter, hour: *hour, signed: *signed }
}

fn schedule_settings(slice: &QueueSlice) -> schedule::Settings {
    schedule::Settings {
        initial_concurrency: slice.concurrency_initial,
        max_concurrency: slice.concurrency_max,
        min_backoff_ms: milliseconds(slice.backoff_min),
        max_backoff_ms: milliseconds(slice.backoff_max),
        lifetime_ms: milliseconds(slice.lifetime),
        bounce_lifetime_ms: milliseconds(slice.bounce_lifetime),
        delay_warning_ms: slice.delay_warning.map_or(0, milliseconds),
        limits: limits(slice),
        ..schedule::Settings::default()
    }
}

fn limits(slice: &QueueSlice) -> LimitTable {
    let rate = |rate: &Rate| schedule::Rate { count: rate.count, period_ms: milliseconds(rate.period) };
    let row = |limits: &DestinationLimits| Limits {
        concurrency: limits.concurrency,
        rates: (limits.unlimited || !limits.rates.is_empty())
            .then(|| limits.rates.iter().map(rate).collect()),
    };
    LimitTable {
        rates: slice.rates.iter().map(|one| rate(one)).collect(),
        by_next_hop: ByNextHop::new(&slice.destinations, row),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The store's part of the configuration. Read once, at the start.
pub fn store_options(slice: &QueueSlice) -> Options {
    Options {
        segment_bytes: slice.segment_size,
        low_water_bytes: slice.min_free,
        warm_bytes: STORE_WARM_BYTES,
        ..Options::default()
    }
}

/// Where the mail of an address goes, for reports only: all other mail was routed by the session filter.
#[derive(Debug)]
pub struct Routes {
    recipients: Recipients,
    local: NextHop,
    tables: Tables,
}

impl Routes {
    /// The addresses and next hops of a report's recipient: aliases followed, a bounded number of steps.
    pub fn resolve(&self, address: &Address) -> Vec<(Address, NextHop)> {
        let (mut found, mut open) = (vec![address.clone()], vec![address.clone()]);
        for _ in 0..MAX_ALIAS_STEPS {
            let mut next = Vec::new();
            for one in &open {
                let Some(targets) = self.recipients.alias_of(one) else { continue };
                found.retain(|known| known != one);
                next.extend(
                    targets.iter().filter(|target| !found.contains(target)).cloned().collect::<Vec<_>>(),
                );
                found.extend(next.iter().cloned());
                found.truncate(MAX_TARGETS);
            }
            if next.is_empty() {
                break;
            }
            open = next;
        }
        // A ring of aliases ends where it began.
        if found.is_empty() {
            found.push(address.clone());
        }
        found.sort();
        found.dedup();
        found.into_iter().map(|one| (one.clone(), self.hop(&one))).collect()
    }

    /// Where mail for this host's own domains goes.
    pub fn local(&self) -> &NextHop {
        &self.local
    }

    fn hop(&self, address: &Address) -> NextHop {
        if self.recipients.is_own(address.domain()) {
            return self.local.clone();
        }
        // Reports have the null sender, who has no relay of its own.
        self.tables.next_hop(&ReversePath::Null, address)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use vsmtp_config::{Config, Context, Value};

    /// A slice as the configuration makes it, for all tests of this crate.
    pub fn slice(extra: &[(&str, Value)]) -> QueueSlice {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut tree = Value::map();
        tree.set("server.domains", Value::List(vec![text("src.test")]));
        for (key, value) in extra {
            tree.set(key, value.clone());
        }
        let hostname = Domain::parse("mail.src.test").unwrap();
        let context = Context { hostname, cores: 1, config_dir: "/etc".to_owned(), root: String::new() };
        Config::build(&context, &tree).unwrap().queue()
    }

    fn resolved(settings: &Settings, address: &str) -> Vec<String> {
        let address = Address::parse(address).unwrap();
        settings.routes.resolve(&address).iter().map(|(to, hop)| format!("{to} {hop}")).collect()
    }

    #[test]
    fn reports_find_their_way() {
        let rows = [
            ("postmaster", Value::Text("jane@src.test".to_owned())),
            (
                "jane@src.test",
                Value::List(vec![Value::Text("j@other.test".into()), Value::Text("k@src.test".into())]),
            ),
            ("ring@src.test", Value::Text("gnir@src.test".to_owned())),
            ("gnir@src.test", Value::Text("ring@src.test".to_owned())),
        ];
        let aliases = Value::Map(rows.map(|(from, to)| (from.to_owned(), to)).into());
        let settings = Settings::from(&slice(&[("delivery.aliases", aliases)]));
        assert_eq!(resolved(&settings, "a@src.test"), ["a@src.test maildir"]);
        assert_eq!(resolved(&settings, "b@far.test"), ["b@far.test smtp:far.test"]);
        assert_eq!(
            resolved(&settings, "postmaster@src.test"),
            ["j@other.test smtp:other.test", "k@src.test maildir"]
        );
        assert_eq!(resolved(&settings, "ring@src.test").len(), 1);
    }

    #[test]
    fn limits_of_destinations_arrive() {
        let map = Value::Map([("slow.test".to_owned(), Value::Text("rate=2/m concurrency=3".into()))].into());
        let all = Value::List(vec![Value::Text("9/s".into())]);
        let settings =
            Settings::from(&slice(&[("delivery.destinations", map), ("delivery.rate", all)])).schedule.limits;
        let rate = |count, period_ms| schedule::Rate { count, period_ms };
        let row = settings.by_next_hop.of(&NextHop::parse("smtp:slow.test").unwrap()).unwrap();
        assert_eq!((row.concurrency, row.rates.as_deref()), (Some(3), Some(&[rate(2, 60_000)][..])));
        assert_eq!(*settings.rates, [rate(9, 1000)]);
    }
}
