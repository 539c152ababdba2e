//! Where mail goes: relays, mailboxes and aliases, and how remote servers are spoken to.

use crate::kind::{
    Aliases, Count, FilePath, Flag, HOUR, HopsByDomain, HopsBySender, Limit, LimitsByNextHop, MINUTE,
    MaybeRelay, OneOf, Patterns, Period, Rates, RecipientDelimiter, SECOND, Sources, Target,
};
use crate::slices::Family;
use crate::table::Preset::{Bool, Int, List, Map, Text, Unset};

keys! {
    /// Keys of delivery.
    DeliveryKeys;

    /// The server that takes all mail for other domains: `[host]:port` as it stands, `domain` by its MX records. By
    /// default each domain's own MX.
    relayhost: MaybeRelay = "delivery.relayhost", default Unset, example Text("[smtp.example.net]:587"), for Filter Queue;

    /// Next hops by the recipient's domain, before all else: `domain` or `.domain` (all below it), each with `[host]:port`,
    /// a domain whose MX records count, or an LMTP server.
    transport: HopsByDomain = "delivery.transport", default Map(&[]),
        example Map(&[("example.org", &["[mail.example.org]:26"])]), for Filter Queue;

    /// Next hops by the sender, `user@domain` or `*@domain`, for domains that `delivery.transport` does not name.
    sender_relay: HopsBySender = "delivery.sender_relay", default Map(&[]),
        example Map(&[("*@example.org", &["[smtp.example.org]:587"])]), for Filter;

    /// How mail for `server.domains` is delivered, unless a rule says otherwise: `maildir`, `mbox`, or an LMTP server.
    local: Target = "delivery.local", default Text("maildir"), example Text("lmtp:unix:/run/dovecot/lmtp"), for Filter Queue;

    /// Folder of the mailboxes of virtual users: `DOMAIN/USER/` below it. It is given to the user `vsmtp-mail`, and may be a
    /// link only where nobody but root can have made that and what it leads to.
    mail_root: FilePath = "delivery.mail_root", default Text("/var/lib/vsmtp/mail"), example Text("/srv/mail"),
        for Master Mailbox;

    /// Recipients that have a mailbox: `user` (at each of `server.domains`), `user@domain`, `*@domain`, or `*` for all.
    /// Others at these domains are refused at RCPT; postmaster and abuse never are.
    mailboxes: Patterns = "delivery.mailboxes", default List(&[]), example List(&["jane", "joe@example.com"]), for Filter;

    /// Addresses whose mail goes elsewhere: `user`, `user@domain` or `*@domain`, each with one address or a list of them.
    aliases: Aliases = "delivery.aliases", default Map(&[]),
        example Map(&[("postmaster", &["jane"]), ("sales@example.com", &["jane@example.com", "joe@example.org"])]),
        for Filter Queue;

    /// What divides a user's name from an extension in a local part, as in `user+lists`; each character does. Empty: nothing.
    recipient_delimiter: RecipientDelimiter = "delivery.recipient_delimiter", default Text("+"), example Text("-"),
        for Filter Mailbox Queue;

    /// Connections to one destination at once, to begin with.
    concurrency_initial: Count { min: 1, max: 1000 } = "delivery.concurrency.initial", default Int(5), example Int(2),
        for Queue;

    /// Connections to one destination at once, after it proved that it can.
    concurrency_max: Count { min: 1, max: 1000 } = "delivery.concurrency.max", default Int(20), example Int(50), for Queue;

    /// Messages to one destination in a time, such as `20/s`, `500/m` or `10000/h`, or `1/5s` for one every five seconds. Of
    /// several rates, all hold. More mail waits in the queue; this is no attempt.
    rate: Rates = "delivery.rate", default List(&[]), example List(&["20/m", "1/s"]), for Queue;

    /// What single destinations bear, `domain`, `.domain` (all below it) or `[host]:port`, instead of
    /// `delivery.concurrency.max`, `delivery.rate` and `delivery.source_address`: `concurrency=N`, `rate=N/TIME` (up to
    /// four), `rate=none`, `source=ADDRESS`.
    destinations: LimitsByNextHop = "delivery.destinations", default Map(&[]),
        example Map(&[("example.com", &["concurrency=2", "rate=20/m", "source=192.0.2.1"])]), for Queue Deliver;

    /// Outbound connections at once, in all deliver processes together.
    connections: Count { min: 1, max: 100_000 } = "delivery.connections", default Int(1000), example Int(64), for Deliver;

    /// This host's own address that connections come from, or one IPv4 and one IPv6 address. If it cannot be used, mail
    /// waits. By default what the system chooses.
    source_address: Sources = "delivery.source_address", default List(&[]), example List(&["192.0.2.1", "2001:db8::1"]),
        for Deliver;

    /// Which addresses of remote servers are used: `any`, `ipv4` or `ipv6`.
    family: OneOf<Family> { of: Family::WORDS } = "delivery.address_family", default Text("any"), example Text("ipv4"),
        for Deliver;

    /// Longest wait for a TCP connection; never more than 10 s while other addresses of the next hop are left to try.
    connect: Period { min: SECOND, max: 10 * MINUTE } = "delivery.timeouts.connect", default Text("30s"),
        example Text("10s"), for Deliver;

    /// Longest wait for a greeting and for the answer to EHLO, HELO and LHLO (RFC 5321 4.5.3.2.1). The answers to STARTTLS and AUTH
    /// and the TLS handshake have as long, but never more than 2 minutes each.
    greeting: Period { min: SECOND, max: HOUR } = "delivery.timeouts.greeting", default Text("5m"),
        example Text("1m"), for Deliver;

    /// Longest wait for the answer to MAIL.
    mail: Period { min: SECOND, max: HOUR } = "delivery.timeouts.mail", default Text("5m"), example Text("1m"),
        for Deliver;

    /// Longest wait for the answer to RCPT.
    rcpt: Period { min: SECOND, max: HOUR } = "delivery.timeouts.rcpt", default Text("5m"), example Text("1m"),
        for Deliver;

    /// Longest wait for the answer to DATA.
    data: Period { min: SECOND, max: HOUR } = "delivery.timeouts.data", default Text("2m"), example Text("1m"),
        for Deliver;

    /// Longest wait until the server takes the next piece of message data.
    block: Period { min: SECOND, max: HOUR } = "delivery.timeouts.block", default Text("3m"), example Text("1m"),
        for Deliver;

    /// Longest wait for the answer to the end of the data. Shorter than 10 minutes causes duplicates.
    dot: Period { min: SECOND, max: HOUR } = "delivery.timeouts.dot", default Text("10m"), example Text("20m"),
        for Deliver;

    /// Send messages of up to 1 MiB in one piece by BDAT (RFC 3030) to servers that offer it, which saves one round trip each.
    /// Binary messages go so in any case. Where something on the way passes the offer on and does not know BDAT, mail fails, and
    /// this must be off.
    chunking: Flag = "delivery.chunking", default Bool(true), example Bool(false), for Deliver;

    /// Make 8-bit and binary messages quoted-printable or base64 for servers that do not take them as they are, which DKIM
    /// signatures do not survive. Otherwise they fail there.
    mime_conversion: Flag = "delivery.mime_conversion", default Bool(true), example Bool(false), for Deliver;

    /// How long an idle connection is kept for the next message; 0s for not at all.
    reuse_idle: Period { min: 0, max: 5 * MINUTE } = "delivery.connection_reuse.idle", default Text("2s"),
        example Text("10s"), for Deliver;

    /// Messages over one connection; -1 for no limit.
    reuse_max_messages: Limit { min: 1, max: 1_000_000 } = "delivery.connection_reuse.max_messages", default Int(100),
        example Int(10), for Deliver;
}
