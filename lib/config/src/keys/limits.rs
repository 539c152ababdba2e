//! What one client may use up, and how clients are tested before they are greeted.

use crate::kind::{Count, DAY, DnsblSites, Flag, HOUR, Limit, MINUTE, Networks, OneOf, Period, SECOND};
use crate::slices::ScreenAction;
use crate::table::Preset::{Bool, Int, List, RelayFrom, Text};

keys! {
    /// Keys of limits and tests.
    LimitsKeys;

    /// Most sessions of one client at once, in all receivers together; -1 for no limit. One more gets 421.
    connections: Limit { min: 1, max: 1_000_000 } = "server.limits.connections", default Int(50), example Int(10),
        for Limits;

    /// Most connections of one client in a window; -1 for no limit. One more gets 421.
    connection_rate: Limit { min: 1, max: 1_000_000 } = "server.limits.connection_rate", default Int(-1),
        example Int(30), for Limits;

    /// Most messages of one client in a window, counted at MAIL; -1 for no limit. One more gets 450.
    message_rate: Limit { min: 1, max: 1_000_000 } = "server.limits.message_rate", default Int(-1), example Int(60),
        for Limits;

    /// Most recipients of one client in a window, counted at RCPT; -1 for no limit. One more gets 452.
    recipient_rate: Limit { min: 1, max: 1_000_000 } = "server.limits.recipient_rate", default Int(-1),
        example Int(300), for Limits;

    /// Most errors of one client in a window; -1 for no limit. Then its connections and messages get 421.
    error_rate: Limit { min: 1, max: 1_000_000 } = "server.limits.error_rate", default Int(-1), example Int(50),
        for Limits;

    /// Most refused logins of one client in a window; -1 for no limit. Then its connections get 421. The brakes of AUTH
    /// itself are `server.auth.failures_per_address` and `server.auth.failures_per_account`.
    auth_failure_rate: Limit { min: 1, max: 1_000_000 } = "server.limits.auth_failure_rate", default Int(-1),
        example Int(20), for Limits;

    /// Most TLS handshakes of one client in a window, counted before they begin; -1 for no limit. Then STARTTLS gets 421,
    /// and connections that begin with TLS are closed. A handshake costs us more than it costs a client.
    tls_rate: Limit { min: 1, max: 1_000_000 } = "server.limits.tls_rate", default Int(-1), example Int(30),
        for Limits;

    /// Length of the window of the rates.
    window: Period { min: SECOND, max: HOUR } = "server.limits.window", default Text("1m"), example Text("10m"),
        for Limits;

    /// The share of a rate, in percent, from which on each reply is delayed by `server.limits.delay`; 100 for never.
    soft_percent: Count { min: 1, max: 100 } = "server.limits.soft_percent", default Int(100), example Int(80),
        for Limits;

    /// The delay of `server.limits.soft_percent`.
    delay: Period { min: 0, max: MINUTE } = "server.limits.delay", default Text("1s"), example Text("5s"),
        for Limits;

    /// Leading bits of an IPv4 address that make one client: 32 for each address, 24 for a network of 256.
    prefix_v4: Count { min: 8, max: 32 } = "server.limits.network_prefix_v4", default Int(32), example Int(24),
        for Limits;

    /// Leading bits of an IPv6 address that make one client.
    prefix_v6: Count { min: 16, max: 128 } = "server.limits.network_prefix_v6", default Int(64), example Int(48),
        for Limits;

    /// Clients without limits and tests, as networks. By default those of `server.relay_from`.
    exempt: Networks = "server.limits.exempt", default RelayFrom, example List(&["198.51.100.0/24"]), for Receiver;

    /// How long a client that was not tested lately waits for its greeting, and whether it keeps quiet is watched; 0 for
    /// no wait.
    greet_wait: Period { min: 0, max: MINUTE } = "server.screen.greet_wait", default Text("0s"), example Text("6s"),
        for Limits;

    /// What becomes of a client that speaks before its greeting: `ignore` notes it in the log, `enforce` greets it and
    /// refuses each recipient with 550, `drop` refuses it with 554 in place of the greeting.
    greet_action: OneOf<ScreenAction> { of: ScreenAction::WORDS } = "server.screen.greet_action",
        default Text("enforce"), example Text("drop"), for Limits;

    /// Lists in the DNS (RFC 5782) that are asked about clients that were not tested lately, each with the answers that
    /// count and a weight if these are not 127.0.0.0/8 and 1; a weight below 0 is for good hosts.
    dnsbl_sites: DnsblSites = "server.screen.dnsbl_sites", default List(&[]),
        example List(&["bl.example.net*2", "good.example.net=127.0.[0..255].[1..3]*-2"]), for Limits;

    /// The sum of weights from which on a client is unwanted.
    dnsbl_threshold: Count { min: 1, max: 100_000 } = "server.screen.dnsbl_threshold", default Int(1),
        example Int(3), for Limits;

    /// What becomes of a client that is unwanted: as for `server.screen.greet_action`.
    dnsbl_action: OneOf<ScreenAction> { of: ScreenAction::WORDS } = "server.screen.dnsbl_action",
        default Text("enforce"), example Text("ignore"), for Limits;

    /// Watch each new client until its first RCPT: one that sends a command before the reply to the one before, a lone
    /// CR or LF, or what is no SMTP, is refused with 554; any other gets 450 once, and is welcome when it comes again.
    deep: Flag = "server.screen.deep", default Bool(false), example Bool(true), for Limits;

    /// How long a client that kept quiet and is in no list is not tested again.
    cache: Period { min: SECOND, max: 7 * DAY } = "server.screen.cache", default Text("1h"), example Text("1d"),
        for Limits;

    /// How long a client that `server.screen.deep` found well is not watched again.
    deep_cache: Period { min: SECOND, max: 90 * DAY } = "server.screen.deep_cache", default Text("30d"),
        example Text("7d"), for Limits;
}
