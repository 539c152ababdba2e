//! What the kernel reports of each running process: its user, its jail, its network, its descriptors. What no kernel
//! interface reports is proved by each daemon's own jail tests, with a probe under the same table.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use vsmtp_tests::{
    Client, Mta, Settings, Sink, binary, make_certificate, needs_programs, needs_root, python, run, said,
    signal, wait_until,
};

/// CAP_NET_BIND_SERVICE.
const BIND: u64 = 1 << 10;
/// The policy under which a wake-up does not interrupt who runs (sched(7)).
const SCHED_BATCH: u64 = 3;
/// The usual one.
const SCHED_OTHER: u64 = 0;
/// Who an MTA without root runs as.
const NOBODY_IN_PARTICULAR: u32 = 61_235;

/// Two of each that there may be more of, on any machine.
const TWO: &str = "config.server.receivers = 2; config.server.delivers = 2;";

/// Role, sockets while nothing happens (its master's edge, its peers', its listeners), and folders and files it has open.
type Holding = (&'static str, usize, &'static [&'static str]);

const ROLES: [Holding; 8] = [
    // The filter, the limiter and the resolver; SMTP and the local socket.
    ("receiver", 6, &[]),
    // Two receivers, the queue-manager, the resolver and the limiter.
    ("filter-session", 6, &[]),
    ("filter-post", 4, &[]),
    // Two filters, three delivers, vsmtpctl's socket.
    ("queue-manager", 7, &["/var/spool/vsmtp/queue"]),
    // The queue-manager and the resolver.
    ("deliver-smtp", 3, &[]),
    ("deliver-mailbox", 2, &["/mail"]),
    // Two receivers, two filters, two delivers and the limiter.
    ("resolver", 8, &["/var/lib/vsmtp/resolver/mta-sts."]),
    // Two receivers, two filters and the resolver.
    ("limits", 6, &["/var/lib/vsmtp/limits/greylist."]),
];

/// The same where there are keys and passwords, of those that differ. What these files hold was read, and they are closed.
const SECRETS: [Holding; 5] = [
    // The key holder and the helper besides.
    ("receiver", 8, &[]),
    // Both, for grants and for DKIM.
    ("filter-session", 8, &[]),
    // The key holder.
    ("filter-post", 5, &[]),
    // Two receivers and two filters.
    ("keys", 5, &[]),
    // Two receivers and the filter of sessions.
    ("auth", 4, &[]),
];

/// What no process may do.
const NEVER: [&str; 12] = [
    "bpf",
    "execve",
    "execveat",
    "fork",
    "io_uring_setup",
    "kill",
    "listen",
    "mount",
    "open",
    "ptrace",
    "setuid",
    "vfork",
];
/// Who may open files, and who may call out.
const MAY: [(&str, &[&str]); 7] = [
    ("openat", &["queue-manager"]),
    ("openat2", &["queue-manager", "deliver-mailbox"]),
    ("renameat2", &["queue-manager", "deliver-mailbox"]),
    ("socket", &["deliver-smtp", "resolver", "auth"]),
    ("connect", &["deliver-smtp", "resolver", "auth"]),
    // Where connections come from addresses that are set, deliver-smtp binds them; here none is.
    ("bind", &[]),
    ("accept4", &["receiver", "queue-manager"]),
];

fn start(config: &str) -> Mta {
    Mta::start(&Settings { config: format!("{TWO} {config}"), ..Settings::default() })
}

/// The same, with a certificate, keys that sign mail and a file of passwords: `vsmtp-keys` and `vsmtp-auth` run too.
fn start_with_secrets() -> Mta {
    let config = format!(
        "{TWO} config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";\n\
         config.server.virtual = #{{ \"local.test\": #{{ dkim: #{{ private_key: [\"dkim.key\"] }} }} }};\n\
         config.server.auth.backends = [\"file:users\"];"
    );
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let folder = mta.root().join("etc/vsmtp");
    for name in ["mx", "dkim"] {
        make_certificate(&folder, name, &["mx.local.test"]);
    }
    let dkim = folder.join("dkim.key").display().to_string();
    said(&run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", &dkim]));
    let users = folder.join("users");
    std::fs::write(&users, format!("tim:{PENCIL}\n")).expect("write users");
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).expect("protect the passwords");
    mta.launch();
    mta
}

/// "pencil", as mkpasswd makes it.
const PENCIL: &str = "$5$rounds=1000$saltstring$IDMRVjjzM7pxdq5saV3T0Syncing1KAt3iS2GewFZH1";

fn role(row: &Value) -> &str {
    let name = row["process"].as_str().expect("a name");
    name.rsplit_once('.').expect("role and number").0
}

fn uid(row: &Value) -> u64 {
    let uids: Vec<u64> = numbers(&row["uids"]);
    assert!(uids.len() == 4 && uids.iter().all(|uid| *uid == uids[0]), "{uids:?}");
    uids[0]
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(|number| number.as_u64().expect("a number")).collect()
}

/// A process's scheduling policy (proc(5), field 41 of stat, counted here from behind the name).
fn policy(pid: u64) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let (_, fields) = stat.rsplit_once(')').expect("its fields");
    fields.split_whitespace().nth(38).and_then(|policy| policy.parse().ok()).expect("its policy")
}

fn net(row: &Value) -> u64 {
    row["namespaces"]["net"].as_u64().expect("a network namespace")
}

#[test]
fn every_process_has_its_user_its_jail_and_no_power() {
    if !needs_root("every_process_has_its_user_its_jail_and_no_power") {
        return;
    }
    let mta = start("");
    have_their_users_and_jails(&mta, 10);
}

#[test]
fn so_have_those_that_hold_keys_and_passwords() {
    const TEST: &str = "so_have_those_that_hold_keys_and_passwords";
    if !(needs_root(TEST) && needs_programs(TEST, &["openssl"])) {
        return;
    }
    let mta = start_with_secrets();
    have_their_users_and_jails(&mta, 12);
    have_networks_of_their_own(&mta);
    declare_their_tables(&mta);
    // Before and behind a login, under TLS, and a message that is signed.
    wait_for_descriptors(&mta, &SECRETS);
    let script = "
import smtplib, ssl, sys
context = ssl._create_unverified_context()
with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as smtp:
    smtp.starttls(context=context)
    smtp.login('tim', 'pencil')
    smtp.sendmail('a@src.test', ['b@local.test'], 'Subject: x\\r\\n\\r\\nx')
";
    said(&python(script, &[&mta.port().to_string()]));
    mta.wait_for_mail("local.test", "b", 1);
    wait_for_descriptors(&mta, &SECRETS);
}

fn have_their_users_and_jails(mta: &Mta, count: usize) {
    let rows = mta.ctl_rows(&["sandbox"]);
    assert_eq!(rows.len(), count, "{rows:?}");
    let mut users: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for row in &rows {
        let name = role(row);
        assert_eq!(row["seccomp"], 2, "{name}");
        assert!(row["seccomp_filters"].as_u64().is_some_and(|count| count >= 1), "{name}");
        assert_eq!(row["no_new_privs"], true, "{name}");
        for set in ["inheritable", "permitted", "effective", "bounding", "ambient"] {
            assert_eq!(row["capabilities"][set], 0, "{name}: {set}");
        }
        assert_eq!(row["groups"], serde_json::json!([]), "{name}");
        assert_eq!(numbers(&row["gids"]), vec![uid(row); 4], "{name}");
        assert_ne!(uid(row), 0, "{name}");
        let limits = row["limits"].as_array().expect("limits");
        let core =
            limits.iter().find(|limit| limit["limit"] == "Max core file size").expect("a limit of cores");
        assert_eq!((core["soft"].as_str(), core["hard"].as_str()), (Some("0"), Some("0")), "{name}");
        let pid = row["pid"].as_u64().expect("a pid");
        let wanted: &[u64] = match name {
            // Who waits for a signature holds up a handshake.
            "keys" => &[SCHED_OTHER],
            "filter-session" | "filter-post" => &[SCHED_BATCH],
            // Where the host is busy these change from one to the other.
            _ => &[SCHED_BATCH, SCHED_OTHER],
        };
        assert!(wanted.contains(&policy(pid)), "{name}");
        // The kernel gives the files of a process that may not be dumped to root.
        assert_eq!(
            std::fs::metadata(format!("/proc/{pid}/environ")).expect("its environ").uid(),
            0,
            "{name}"
        );
        let roles = users.entry(uid(row)).or_default();
        if !roles.contains(&name) {
            roles.push(name);
        }
    }
    let shared: Vec<&Vec<&str>> = users.values().filter(|roles| roles.len() > 1).collect();
    assert_eq!(shared, [&vec!["filter-session", "filter-post"]], "one user per role, but for the filters");
    // Whoever may bind a port: the master, and nobody else.
    let status = std::fs::read_to_string(format!("/proc/{}/status", mta.master_pid())).expect("its status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("its capabilities");
    assert_ne!(u64::from_str_radix(effective, 16).expect("a number") & BIND, 0);
}

#[test]
fn filters_queue_and_mailboxes_are_in_networks_with_nothing_in_them() {
    if !needs_root("filters_queue_and_mailboxes_are_in_networks_with_nothing_in_them") {
        return;
    }
    have_networks_of_their_own(&start(""));
}

fn have_networks_of_their_own(mta: &Mta) {
    let rows = mta.ctl_rows(&["sandbox"]);
    let own = std::fs::metadata("/proc/self/ns/net").expect("our own network").ino();
    let mut seen = Vec::new();
    for row in &rows {
        let (name, pid) = (role(row), row["pid"].as_u64().expect("a pid"));
        let alone = !["receiver", "deliver-smtp", "resolver"].contains(&name);
        assert_eq!(net(row) != own, alone, "{name}");
        if alone {
            assert!(!seen.contains(&net(row)), "{name} shares its network");
            seen.push(net(row));
            let devices = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("its devices");
            let names: Vec<&str> =
                devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
            assert_eq!(names, ["lo"], "{name}");
            let routes = std::fs::read_to_string(format!("/proc/{pid}/net/route")).expect("its routes");
            assert!(routes.lines().count() <= 1, "no more than a heading: {name}: {routes}");
        }
    }
}

/// Descriptors of a process: how many sockets, and what else beside the log and what an event loop needs, the kernel's account
/// of its turns among that.
fn descriptors(row: &Value, root: &Path) -> (usize, Vec<String>) {
    let mut sockets = 0;
    let mut others = Vec::new();
    let log = root.join("var/log/vsmtp.log").display().to_string();
    let pid = &row["pid"];
    let account = format!("/proc/{pid}/task/{pid}/schedstat");
    for descriptor in row["descriptors"].as_array().expect("descriptors") {
        let target = descriptor["target"].as_str().expect("a target");
        match target {
            _ if target.starts_with("socket:") => sockets += 1,
            "/dev/null" | "anon_inode:[eventpoll]" | "anon_inode:[eventfd]" | "anon_inode:[timerfd]" => {}
            _ if target == log || target == account => {}
            other => others.push(other.strip_prefix(&root.display().to_string()).unwrap_or(other).to_owned()),
        }
    }
    (sockets, others)
}

/// What processes hold that they should not, or lack; empty if all is as it must be.
fn what_is_wrong(mta: &Mta, differing: &[Holding]) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in mta.ctl_rows(&["sandbox"]) {
        let name = role(&row);
        let Some((_, wanted, folders)) = differing.iter().chain(&ROLES).find(|(role, ..)| *role == name)
        else {
            wrong.push(format!("unknown role {name}"));
            continue;
        };
        let (sockets, others) = descriptors(&row, mta.root());
        if sockets != *wanted {
            wrong.push(format!("{name} has {sockets} sockets instead of {wanted}"));
        }
        let stray = others.iter().filter(|target| !folders.iter().any(|folder| target.starts_with(folder)));
        wrong.extend(stray.map(|target| format!("{name} has {target}")));
    }
    wrong
}

#[test]
fn descriptors_are_those_that_are_needed_before_and_after_work() {
    if !needs_root("descriptors_are_those_that_are_needed_before_and_after_work") {
        return;
    }
    let sink = Sink::start();
    let mta = start(&format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port()));
    wait_for_descriptors(&mta, &[]);
    let large = "0123456789abcdef\r\n".repeat(120_000);
    let mut client = Client::hello(mta.port());
    for size in [10, 1_000, 50_000, large.len()] {
        let message = format!("Subject: x\r\n\r\n{}", &large[..size]);
        let reply = client.mail("a@src.test", &["b@local.test", "b@dst.test"], &message);
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    // One that gives up in the middle of a large message.
    client.say("MAIL FROM:<a@src.test>");
    client.say("RCPT TO:<b@local.test>");
    client.say("DATA");
    client.send(large.as_bytes());
    drop(client);
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(sink.count(), 4);
    wait_for_descriptors(&mta, &[]);
}

fn wait_for_descriptors(mta: &Mta, differing: &[Holding]) {
    // Connections that were kept for the next message are closed after a while.
    let mut wrong = Vec::new();
    let mut last = || {
        wrong = what_is_wrong(mta, differing);
        wrong.is_empty()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !last() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn nobody_but_its_owner_reads_the_spool_or_the_mail() {
    const TEST: &str = "nobody_but_its_owner_reads_the_spool_or_the_mail";
    if !(needs_root(TEST) && needs_programs(TEST, &["setpriv"])) {
        return;
    }
    let mta = start("");
    assert_eq!(
        Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(),
        250
    );
    mta.wait_for_mail("local.test", "b", 1);
    let rows = mta.ctl_rows(&["sandbox"]);
    for (folder, owner) in [("var/spool/vsmtp/queue", "queue-manager"), ("mail", "deliver-mailbox")] {
        let folder = mta.root().join(folder);
        assert_eq!(folder.metadata().expect("the folder").permissions().mode() & 0o777, 0o700, "{owner}");
        for row in &rows {
            let id = uid(row);
            let listed = Command::new("setpriv")
                .args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".to_owned()])
                .arg("ls")
                .arg(&folder)
                .stderr(Stdio::null())
                .output()
                .expect("run setpriv");
            assert_eq!(listed.status.success(), role(row) == owner, "{} in {}", role(row), folder.display());
        }
    }
}

#[test]
fn each_process_declares_its_table_with_a_reason_for_each_call() {
    declare_their_tables(&start(""));
}

fn declare_their_tables(mta: &Mta) {
    let table = String::from_utf8(mta.ctl(&["sandbox", "--declared"]).stdout).expect("UTF-8");
    for row in mta.ctl_rows(&["sandbox"]) {
        let name = role(&row);
        assert!(table.contains(&format!("{} declares:", row["process"].as_str().expect("a name"))), "{name}");
        let lines: Vec<&str> =
            row["declared"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
        let at = lines.iter().position(|line| line.trim() == "system calls:").expect("a list of calls");
        let calls: BTreeMap<&str, &str> =
            lines[at + 1..].iter().filter_map(|line| line.trim().split_once(' ')).collect();
        assert!(calls.len() > 20, "{name}: {calls:?}");
        assert!(calls.values().all(|reason| reason.trim().len() > 3), "{name}: {calls:?}");
        let has = |call: &str| calls.contains_key(call);
        for never in NEVER {
            assert!(!has(never), "{name} may {never}");
        }
        for (call, roles) in MAY {
            assert_eq!(has(call), roles.contains(&name), "{name}: {call}");
        }
        let declared = lines.join("\n");
        let paths = declared.contains("landlock: no TCP; no path")
            || declared.contains("landlock: TCP not restricted; no path")
            || declared.contains("landlock: TCP from no port of its choice; no path");
        // The kernel would count the log, too.
        assert!(!declared.contains("fsize"), "{name}: the log may be a file of any size");
        assert_eq!(!paths, ["queue-manager", "deliver-mailbox"].contains(&name), "{name}: {declared}");
    }
}

#[test]
fn without_root_the_same_jails_hold() {
    const TEST: &str = "without_root_the_same_jails_hold";
    if !(needs_root(TEST) && needs_programs(TEST, &["setpriv"])) {
        return;
    }
    let mta = Mta::prepare(&Settings { config: TWO.to_owned(), ..Settings::default() });
    // Others cannot reach every build folder.
    let programs = mta.root().join("bin");
    std::fs::create_dir(&programs).expect("make a folder");
    let names = ["vsmtp", "vsmtp-receiver", "vsmtp-filter", "vsmtp-queue", "vsmtp-deliver", "vsmtp-resolver"];
    for name in names.into_iter().chain(["vsmtp-limits"]) {
        std::fs::copy(binary(name), programs.join(name)).expect("copy a program");
    }
    chown(mta.root(), Some(NOBODY_IN_PARTICULAR), Some(NOBODY_IN_PARTICULAR)).expect("give the folder away");
    let id = NOBODY_IN_PARTICULAR.to_string();
    let mut master = Command::new("setpriv")
        .args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".to_owned()])
        .arg(programs.join("vsmtp"))
        .arg("--root")
        .arg(mta.root())
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start vsmtp");
    let guard = Stop(master.id());
    wait_until("it is up", || mta.log().contains("event=up"));
    let log = mta.logged("event=not-root");
    assert_eq!(log.matches("event=not-root").count(), 1, "{log}");
    let rows = mta.ctl_rows(&["sandbox"]);
    assert_eq!(rows.len(), 10, "{rows:?}");
    for row in &rows {
        assert_eq!(uid(row), u64::from(NOBODY_IN_PARTICULAR));
        assert_eq!((row["seccomp"].as_u64(), row["no_new_privs"].as_bool()), (Some(2), Some(true)), "{row}");
        assert_eq!(row["capabilities"]["effective"], 0, "{row}");
    }
    assert_eq!(
        Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(),
        250
    );
    mta.wait_for_mail("local.test", "b", 1);
    drop(guard);
    assert!(master.wait().expect("wait for vsmtp").success());
}

/// Stops a master also when the test fails.
struct Stop(u32);

impl Drop for Stop {
    fn drop(&mut self) {
        signal(&[self.0], "TERM");
    }
}
