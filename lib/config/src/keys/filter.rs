//! The rules: where they are, and how much a script may use.

use crate::kind::{Bytes, Commands, Count, Databases, FilePath, MINUTE, MaybePath, OneOf, Period, SECOND};
use crate::slices::OnError;
use crate::table::Preset::{Int, Made, Text, Unset};
use crate::value::Value;

keys! {
    /// Keys of the rules.
    FilterKeys;

    /// The rules that each message passes, in vSL. Without them local mail is accepted and only the clients of
    /// `server.relay_from` may relay. By default `filter.vsl` beside the configuration file, or `rules/main.vsl` or
    /// `main.vsl` there, as vSL 1.x calls them, if one of them is there.
    filter_path: MaybePath = "app.vsl.filter_path", default Unset, example Text("policy/main.vsl"), for Filter;

    /// Private key in PEM that rules sign mail with in the name of the server, where the sender's domain has none of its own in
    /// `server.virtual`: RSA of 2048 bits or more, or Ed25519. Nobody but root may read the file (mode 0600).
    dkim_key: MaybePath = "server.dkim.private_key", default Unset, example Text("/etc/vsmtp/dkim/mail.pem"),
        for Filter Keys;

    /// A folder with one folder per domain: `incoming.vsl`, `outgoing.vsl` and `internal.vsl` have its rules, `config.vsl`
    /// its settings. The domains are added to the default of `server.domains`, but for those of `server.relay_domains`. By
    /// default `domain-enabled` beside the configuration file, if it is there.
    domain_dir: MaybePath = "app.vsl.domain_dir", default Unset, example Text("domain-enabled"), for Filter;

    /// Folder of what rules write with `fs::write()` and `fs::dump()`. It is made if it is not there, and given to the user
    /// `vsmtp-filter`, so it must be a folder of its own, below folders that nobody but root may write; who is in
    /// that user's group may read. Twice `queue.min_free` stays free on its disk: rules that would take of that fail. Nothing
    /// is ever removed from it.
    app_dir: FilePath = "app.dirpath", default Text("/var/spool/vsmtp/app"), example Text("/srv/mail-archive"), for Filter;

    /// Rules that may run at once; a rule that waits for a service holds one.
    workers: Count { min: 1, max: 512 } = "filter.workers", default Int(64), example Int(8), for Filter;

    /// Steps of one stage's rules for one message, after which they are stopped.
    max_operations: Count { min: 1000, max: 1_000_000_000 } = "filter.max_operations", default Int(5_000_000),
        example Int(100_000), for Filter;

    /// Time of one stage's rules for one message, after which they are stopped.
    timeout: Period { min: SECOND, max: 5 * MINUTE } = "filter.timeout", default Text("30s"), example Text("5s"),
        for Filter;

    /// Largest text, list or map that a script may build.
    max_value_size: Bytes { min: 4096, max: 256 << 20 } = "filter.max_value_size", default Text("16MiB"),
        example Text("1MiB"), for Filter;

    /// A message whose rules fail or are stopped: `defer` it (451, the client tries again) or `deny` it (554).
    on_error: OneOf<OnError> { of: OnError::WORDS } = "filter.on_error", default Text("defer"), example Text("deny"),
        for Filter;

    /// Programs that rules may run, by names that are for people, beside those that rules declare themselves while they are
    /// loaded (`service NAME cmd`, `cmd::build()`). Each is a map: `command` is an absolute path, or a name that is looked
    /// for in `/usr/local/bin`, `/usr/bin` and the like; `args` are its arguments (a rule may give others unless `fixed` is
    /// true), after `timeout` (20s by default, at most 5m) it is ended. No shell is involved. They run as the user `vsmtp-runner`.
    commands: Commands = "filter.commands", default Made(Value::map), example Made(clamscan), for Filter Runner;

    /// Programs that rules run at once; more wait. What a program takes of the memory is not bounded otherwise, so this
    /// times the largest of them should be there: `clamscan` takes more than 1 GiB.
    commands_at_once: Count { min: 1, max: 64 } = "filter.commands_at_once", default Int(8), example Int(2), for Runner;

    /// Databases that rules may ask, by names by which `mysql::connect("NAME")` and its like (`redis::`, `memcached::`, `ldap::`)
    /// find them, beside those that rules declare themselves while they are loaded (`service NAME db:mysql`,
    /// `mysql::connect(#{ ... })`). Each is a map: `url` is `mysql://user:password@host:port/database` (`%40` for `@` and the
    /// like; `?socket=/run/mysqld/mysqld.sock` in place of host and port), `redis://user:password@host:port/number`,
    /// `memcache://host:port`, or `ldap://host:port` and `ldaps://host:port` (then also `bind: #{ dn, pw }` and
    /// `tls: #{ starttls, cafile }`); a question that has no answer after `timeout` (10s by default, at most 5m) fails, and at
    /// most `connections` (4 by default, at most 64) are put to it at once. `vsmtp-database` is told the passwords; who can read
    /// this configuration, as the filter's user can, or the rules in which one stands, knows it too.
    databases: Databases = "filter.databases", default Made(Value::map), example Made(accounts), for Filter Database;
}

fn accounts() -> Value {
    let mut database = Value::map();
    let url = "mysql://mail:secret@db.example.com/mail";
    database.set("accounts.url", Value::Text(url.to_owned()));
    database.set("accounts.timeout", Value::Text("5s".to_owned()));
    database
}

fn clamscan() -> Value {
    let mut command = Value::map();
    command.set("clamscan.command", Value::Text("/usr/bin/clamscan".to_owned()));
    command.set(
        "clamscan.args",
        Value::List(vec![Value::Text("--no-summary".to_owned()), Value::Text("-".to_owned())]),
    );
    command
}
