//! TLS towards clients: certificates, versions, suites, and what clients must show.

use crate::kind::{
    Flag, MINUTE, MaybePath, OneOf, Period, SECOND, Suites, TlsByListener, Versions, VirtualDomains,
};
use crate::slices::{ClientCertificate, SecurityLevel};
use crate::table::Preset::{Bool, List, Made, Text, Unset};
use crate::value::Value;

keys! {
    /// Keys of TLS towards clients.
    TlsKeys;

    /// Certificate chain in PEM, the server's own certificate first. With it STARTTLS is offered. Clients that ask for no
    /// name, or for one that no certificate is for, are shown this one. A reload reads it again.
    certificate: MaybePath = "server.tls.certificate", default Unset, example Text("/etc/vsmtp/tls/chain.pem"),
        for Receiver Keys;

    /// Private key of `server.tls.certificate` in PEM, without a passphrase: RSA of 2048 bits or more, ECDSA or Ed25519.
    /// Nobody but root may read the file (mode 0600). By default it stands in the file of the certificate.
    private_key: MaybePath = "server.tls.private_key", default Unset, example Text("/etc/vsmtp/tls/key.pem"), for Keys;

    /// What domains have of their own: `#{"example.com": #{tls: #{certificate: "chain.pem", private_key: "key.pem"},
    /// dkim: #{private_key: "dkim.pem"}}}`. Clients that ask for the domain, or for a name in the certificate, are shown that
    /// certificate. With the keys of `dkim`, one path or a list of them, rules sign mail of the domain: RSA of 2048 bits or
    /// more, or Ed25519. Nobody but root may read files of keys (mode 0600).
    virtual_domains: VirtualDomains = "server.virtual", default Made(Value::map), example Made(example_domain),
        for Receiver Filter Keys;

    /// Versions of TLS that are spoken. Older ones do not exist here.
    versions: Versions = "server.tls.protocol_version", default List(&["TLSv1.2", "TLSv1.3"]),
        example List(&["TLSv1.3"]), for Receiver;

    /// Cipher suites that may be used, by their IANA names, the preferred one first.
    suites: Suites = "server.tls.cipher_suite", default List(&[
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ]),
        example List(&["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]), for Receiver;

    /// Our order of cipher suites counts, not the client's. By default it begins with AES-128, which costs a processor
    /// less than AES-256, above all in handshakes.
    own_order: Flag = "server.tls.preempt_cipherlist", default Bool(true), example Bool(false), for Receiver;

    /// Longest handshake, from its first byte to its last.
    handshake_timeout: Period { min: SECOND / 10, max: 5 * MINUTE } = "server.tls.handshake_timeout", default Text("10s"),
        example Text("5s"), for Receiver;

    /// What clients of `server.interfaces.addr` must do: `may` use TLS, or `encrypt` before they may send (530 otherwise).
    security_level: OneOf<SecurityLevel> { of: SecurityLevel::WORDS } = "server.tls.security_level",
        default Text("may"), example Text("encrypt"), for Receiver;

    /// Certificates of clients: `none` is asked for; `ask`, and take any or none; `require` one that leads to
    /// `server.tls.client_ca`.
    client_certificate: OneOf<ClientCertificate> { of: ClientCertificate::WORDS } = "server.tls.client_certificate",
        default Text("none"), example Text("ask"), for Receiver;

    /// Addresses of `server.interfaces` where TLS is otherwise than these keys say: `protocol_version`, `cipher_suite`,
    /// `preempt_cipherlist`, `client_certificate`, and for those in `server.interfaces.addr` also `security_level`. What a row
    /// does not say is there as everywhere.
    listeners: TlsByListener = "server.tls.listeners", default Made(Value::map), example Made(example_listener), for Receiver;

    /// Authorities, in PEM, that certificates of clients may lead to.
    client_ca: MaybePath = "server.tls.client_ca", default Unset, example Text("/etc/vsmtp/tls/clients.pem"), for Keys;
}

fn example_listener() -> Value {
    let mut own = Value::map();
    own.set("protocol_version", Value::List(vec![Value::Text("TLSv1.3".to_owned())]));
    own.set("security_level", Value::Text("encrypt".to_owned()));
    Value::Map([("0.0.0.0:25".to_owned(), own)].into())
}

fn example_domain() -> Value {
    let mut tree = Value::map();
    tree.set("certificate", Value::Text("tls/example.com.pem".to_owned()));
    tree.set("private_key", Value::Text("tls/example.com.key".to_owned()));
    let mut own = Value::Map([("tls".to_owned(), tree)].into());
    own.set("dkim.private_key", Value::List(vec![Value::Text("dkim/example.com.pem".to_owned())]));
    Value::Map([("example.com".to_owned(), own)].into())
}
