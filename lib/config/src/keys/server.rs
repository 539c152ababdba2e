//! The server as a whole: its name, its domains, whom it serves, where it listens and what it keeps where.

use crate::kind::{Bytes, Count, DomainName, Domains, FilePath, Flag, Limit, Listeners, Networks};
use crate::table::Preset::{Bool, HostName, Int, List, OwnDomains, Text};

keys! {
    /// Keys of the server as a whole.
    ServerKeys;

    /// Name of this server: in its greeting and EHLO, in Received headers and in bounces. By default the host name.
    name: DomainName = "server.name", default HostName, example Text("mx.example.net"),
        for Receiver Filter Queue Deliver;

    /// Domains whose mail ends here. Recipients at these domains are accepted only if they have a mailbox or an alias.
    /// By default the server's name and localhost; empty on a host that only relays.
    domains: Domains = "server.domains", default OwnDomains, example List(&["example.com", "example.org"]),
        for Filter Queue;

    /// Clients that may send to any destination, as networks; also free of limits, see `server.limits.exempt`, and of
    /// `server.auth.failures_per_address`.
    relay_from: Networks = "server.relay_from", default List(&["127.0.0.0/8", "::1/128"]),
        example List(&["192.0.2.0/24"]), for Receiver Filter Auth;

    /// Domains whose mail is accepted from anyone and passed on, as by a backup MX.
    relay_domains: Domains = "server.relay_domains", default List(&[]), example List(&["example.net"]), for Filter;

    /// Addresses and ports on which SMTP clients are served.
    addr: Listeners = "server.interfaces.addr", default List(&["127.0.0.1:25"]),
        example List(&["0.0.0.0:25", "[::]:25"]), for Master Deliver;

    /// Addresses and ports on which users submit their mail, usually port 587 (RFC 6409): they must authenticate.
    addr_submission: Listeners = "server.interfaces.addr_submission", default List(&[]),
        example List(&["0.0.0.0:587", "[::]:587"]), for Master Deliver;

    /// The same under TLS from the first octet, usually port 465 (RFC 8314).
    addr_submissions: Listeners = "server.interfaces.addr_submissions", default List(&[]),
        example List(&["0.0.0.0:465", "[::]:465"]), for Master Deliver;

    /// Addresses and ports on which mail is taken by LMTP (RFC 2033). The rules for recipients are those of SMTP.
    addr_lmtp: Listeners = "server.interfaces.addr_lmtp", default List(&[]), example List(&["127.0.0.1:24"]),
        for Master Deliver;

    /// Those of the addresses above that only load balancers reach. Each connection there begins with a header that tells
    /// the client's address (PROXY protocol, version 1 or 2); one without is closed.
    proxied: Listeners = "server.interfaces.proxied", default List(&[]), example List(&["0.0.0.0:25"]), for Receiver;

    /// The load balancers, as networks.
    proxies: Networks = "server.interfaces.proxies", default List(&[]), example List(&["192.0.2.7/32"]), for Receiver;

    /// Addresses at which others reach this server though none of its interfaces has them, as in front of a NAT, one by one or
    /// as networks. Mail for a domain one of whose MX records leads there goes only to servers that this domain prefers. The
    /// addresses of the interfaces are known.
    public_addresses: Networks = "server.public_addresses", default List(&[]), example List(&["192.0.2.1", "2001:db8::1"]),
        for Deliver;

    /// Look up the names of clients, for rules, Received headers and the log. A name counts if it leads back to the
    /// client's address. Needs the DNS for every client that is not remembered.
    client_names: Flag = "server.client_names", default Bool(true), example Bool(false), for Receiver;

    /// Most clients served at once, in all receivers together; -1 for no limit. One more gets 421.
    client_count_max: Limit { min: 1, max: 1_000_000 } = "server.client_count_max", default Int(20_000),
        example Int(500), for Receiver;

    /// Largest message accepted, announced as SIZE (RFC 1870).
    message_size_limit: Bytes { min: 65_536, max: 1 << 30 } = "server.message_size_limit", default Text("50MiB"),
        example Text("10MB"), for Receiver Filter Queue;

    /// Receiver processes; 0 for one per two cores, which leaves the others to filter and queue.
    receivers: Count { min: 0, max: 256 } = "server.receivers", default Int(0), example Int(3), for Master Receiver;

    /// Processes that deliver by SMTP and LMTP; 0 for one per core.
    delivers: Count { min: 0, max: 256 } = "server.delivers", default Int(0), example Int(3), for Master Deliver;

    /// Folder of the queue; the queue itself is `queue` below it. That one is given to the user `vsmtp-queue`, and may be a
    /// link only where nobody but root can have made that and what it leads to.
    spool: FilePath = "server.queues.dirpath", default Text("/var/spool/vsmtp"), example Text("/srv/spool"),
        for Master Queue;

    /// Where the users of the package do not exist (development): first of a range of unused uids to run the processes
    /// as. 0: refuse to start as root without the package's users.
    uid_range: Count { min: 0, max: 4_000_000_000 } = "server.system.uid_range", default Int(0), example Int(64_000),
        for Master;
}
