//! Who may authenticate, how, and what that allows.

use crate::kind::{
    Audiences, Backends, CertificateLogins, DAY, Flag, Limit, MaybeClaim, Mechanisms, Networks, Period,
    SECOND, SenderLogins,
};
use crate::table::Preset::{Bool, Int, List, Map, Text, Unset};

keys! {
    /// Keys of authentication.
    AuthKeys;

    /// Who knows passwords, asked one after the other: `file:PATH`, `shadow`, `dovecot:SOCKET`, `saslauthd:SOCKET`; and, at most
    /// once, `oauth:PATH`, the keys (JWKS) by which tokens are verified. With
    /// none, AUTH is offered only if `server.esmtp.auth.mechanisms` names some, and the rules of `authenticate` judge alone.
    backends: Backends = "server.auth.backends", default List(&[]), example List(&["file:/etc/vsmtp/users"]),
        for Master Receiver Filter Auth;

    /// SASL mechanisms that are offered, as far as the back-ends can do them: PLAIN, LOGIN, SCRAM-SHA-256,
    /// SCRAM-SHA-256-PLUS, XOAUTH2, OAUTHBEARER, EXTERNAL. By default the first four if there is a back-end that
    /// knows passwords, XOAUTH2 and OAUTHBEARER if there is one of keys for tokens, and EXTERNAL if `server.auth.certificates` has any.
    mechanisms: Mechanisms = "server.esmtp.auth.mechanisms", default List(&[]),
        example List(&["PLAIN", "SCRAM-SHA-256"]), for Master Receiver Filter Auth;

    /// Who must have issued a token (`iss`), letter by letter. Needed for `oauth:PATH`.
    oauth_issuer: MaybeClaim = "server.auth.oauth.issuer", default Unset,
        example Text("https://id.example.com/realms/staff"), for Auth;

    /// For whom a token must be (`aud`): one of these must be among those that it names. Needed for `oauth:PATH`; a name that tokens
    /// for other services have lets these services act as their users here.
    oauth_audience: Audiences = "server.auth.oauth.audience", default List(&[]), example List(&["mail"]), for Auth;

    /// The claim of a token that is the login. An `email` counts only if the provider does not say that it has not verified it.
    oauth_user_claim: MaybeClaim = "server.auth.oauth.user_claim", default Text("email"),
        example Text("preferred_username"), for Auth;

    /// What a token must allow (`scope`, or `scp`), if anything.
    oauth_scope: MaybeClaim = "server.auth.oauth.scope", default Unset, example Text("smtp"), for Auth;

    /// Offer mechanisms that show the password also where nobody encrypts it.
    in_clear: Flag = "server.esmtp.auth.enable_dangerous_mechanism_in_clair", default Bool(false), example Bool(true),
        for Receiver Auth;

    /// Clients of `server.interfaces.addr` must authenticate before they send, as those of submission must in any case (530
    /// otherwise). Other servers cannot, so a server that takes mail from them must not say so.
    required: Flag = "server.esmtp.auth.must_be_authenticated", default Bool(false), example Bool(true), for Receiver;

    /// Certificates of clients and their logins, for EXTERNAL: whoever shows one of these, and holds its key, may log in as
    /// that user without a password. By fingerprint (`sha256:`), as `openssl x509 -fingerprint -sha256` prints it, or, if it
    /// leads to an authority of `server.tls.client_ca`, by a name in it: `email:jane@example.com`, `email:*@example.com` for
    /// all of a domain, `dns:host.example.com`. With the login `*` the name itself is the login. Needs
    /// `server.tls.client_certificate` to be `ask` or `require`.
    certificates: CertificateLogins = "server.auth.certificates", default Map(&[]),
        example Map(&[("sha256:75af03fc4e94fa0ca6cba33ba9f82ad2e0ffb1b2a0b7ab3f2f1e8a4ab8d7c2f1", &["jane"])]),
        for Master Receiver Filter Auth;

    /// Proxies that may say by XCLIENT as whom their client has authenticated to them (LOGIN), as networks. Each of these lies in one of
    /// `server.smtp.xclient_from`, and can log its clients in as anybody.
    proxies: Networks = "server.auth.proxies", default List(&[]), example List(&["192.0.2.8/32"]),
        for Master Receiver Filter Auth;

    /// Failures after which a session ends; -1 for any number.
    attempts: Limit { min: 1, max: 1000 } = "server.esmtp.auth.attempt_count_max", default Int(5), example Int(3),
        for Receiver;

    /// Failures of one client (of IPv6, of one /64) in `server.auth.failure_window` after which nothing more of it is even
    /// tried; -1 for any number. `server.relay_from` is free of it.
    failures_per_address: Limit { min: 1, max: 1_000_000 } = "server.auth.failures_per_address", default Int(20),
        example Int(5), for Auth;

    /// The same for one account, whoever tries.
    failures_per_account: Limit { min: 1, max: 1_000_000 } = "server.auth.failures_per_account", default Int(100),
        example Int(10), for Auth;

    /// How long failures count.
    failure_window: Period { min: SECOND, max: DAY } = "server.auth.failure_window", default Text("10m"),
        example Text("1h"), for Auth;

    /// Senders and the logins that may use them. An authenticated client that is none of them gets 553. The most exact
    /// pattern counts. Names at own domains are compared as those of mailboxes are: in any case, and with their extension or without.
    sender_login: SenderLogins = "server.auth.sender_login", default Map(&[]),
        example Map(&[("sales@example.com", &["jane", "joe"])]), for Filter;

    /// An authenticated client may send only as itself: the sender must be its login, or that login at one of
    /// `server.domains`, unless a row of `server.auth.sender_login` says otherwise. Bounces are free of it.
    own_sender_only: Flag = "server.auth.own_sender_only", default Bool(false), example Bool(true), for Filter;

    /// Senders that belong to logins need one: clients that have not authenticated get 553 for a sender with a row in
    /// `server.auth.sender_login` and, with `server.auth.own_sender_only`, for each at `server.domains`. Clients of
    /// `server.relay_from`, LMTP and programs of this host are free of it.
    senders_need_login: Flag = "server.auth.senders_need_login", default Bool(false), example Bool(true), for Filter;
}
