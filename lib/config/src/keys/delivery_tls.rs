//! TLS towards next hops.

use crate::kind::{Count, Flag, MaybeAddress, MaybeLine, MaybePath, MaybeSelector, Tls, TlsByNextHop};
use crate::table::Preset::{Bool, Int, Map, Text, Unset};

keys! {
    /// Keys of TLS towards next hops.
    DeliveryTlsKeys;

    /// How much TLS next hops need that `delivery.tls.policy` does not name: `none`; `may`, where it is offered;
    /// `encrypt`, always; `dane`, what the TLSA records of the server ask for; `sts`, what the domain's MTA-STS policy asks for; `verify`, always and with a certificate for the
    /// next hop. `docs/tls-policy.md` explains each.
    level: Tls = "delivery.tls.level", default Text("may"), example Text("encrypt"), for Deliver;

    /// How much TLS single next hops need: `domain`, `.domain` (all below it) or `[host]:port`, each with a policy:
    /// `none`, `may`, `encrypt`, `dane`, `dane-only`, `sts`, `verify match=NAME:...`, `fingerprint sha256:HEX`; with `wrapper` for TLS from
    /// the start, and `no-sts` behind `may` and `dane` where the domain's MTA-STS policy is not to count.
    policy: TlsByNextHop = "delivery.tls.policy", default Map(&[]),
        example Map(&[("example.com", &["encrypt"]), ("[smtp.example.net]:465", &["verify", "match=hostname"])]), for Deliver;

    /// PEM file of the authorities whose certificates count for `verify` and MTA-STS. By default those that the system knows.
    ca_file: MaybePath = "delivery.tls.ca_file", default Unset, example Text("/etc/vsmtp/ca.pem"), for Deliver Resolver;

    /// File with our accounts at next hops, one line each: `[smtp.example.net]:587 user:password`. It must not be readable
    /// for others than its owner and group. Credentials go only to a server that proves itself by TLS.
    credentials_file: MaybePath = "delivery.credentials_file", default Unset, example Text("/etc/vsmtp/credentials"),
        for Deliver;

    /// Hold mail domains to their MTA-STS policies (RFC 8461), where the level is `may` or `dane` and mail goes by MX records. `sts` always does.
    mta_sts: Flag = "delivery.tls.mta_sts", default Bool(true), example Bool(false), for Deliver;

    /// Sender of daily reports about TLS (RFC 8460) to the mail domains that want them. Without it nothing is counted and
    /// nothing reported. `docs/tls-policy.md` explains what is told.
    reports_from: MaybeAddress = "delivery.tls.reports.from", default Unset, example Text("tls-reports@example.com"),
        for Queue Deliver Filter;

    /// Selector with which reports are signed (DKIM). The key is the first one that `server.virtual` or
    /// `server.dkim.private_key` has for the domain of `delivery.tls.reports.from`, or for the nearest domain above it; reports
    /// are signed in the name of the domain that has the key.
    reports_selector: MaybeSelector = "delivery.tls.reports.selector", default Unset, example Text("2026"), for Queue Filter;

    /// Who reports, in words. By default the server's name.
    reports_organization: MaybeLine = "delivery.tls.reports.organization", default Unset, example Text("Example Ltd"),
        for Queue;

    /// Whom the receivers of reports can ask. By default `delivery.tls.reports.from`.
    reports_contact: MaybeAddress = "delivery.tls.reports.contact", default Unset, example Text("postmaster@example.com"),
        for Queue;

    /// From this hour of the day (UTC) on the reports of the day before are sent, spread over two hours.
    reports_hour: Count { min: 0, max: 21 } = "delivery.tls.reports.hour", default Int(1), example Int(4), for Queue;
}
