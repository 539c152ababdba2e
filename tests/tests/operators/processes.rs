//! Start, stop, and who may say so.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use vsmtp_tests::{
    Client, Mta, Settings, Sink, binary, is_alive, needs_programs, needs_root, uninterrupted, wait_until,
};

use crate::{Term, ctl, ended, refused, relaying_to, vsmtp};

/// The contract says 5 s; the rest is for a machine that does other things too.
const STOP: Duration = Duration::from_secs(15);
/// How long a word of the master's may take to come, on a loaded machine.
const HEARD: Duration = Duration::from_secs(60);

#[test]
fn status_shows_every_process_as_a_table_and_as_objects() {
    let mta = Mta::start(&Settings { config: "config.server.receivers = 2;".into(), ..Settings::default() });
    let rows = mta.ctl_rows(&["status"]);
    let names: Vec<&str> = rows.iter().filter_map(|row| row["process"].as_str()).collect();
    for name in [
        "receiver.0",
        "receiver.1",
        "filter-session.0",
        "filter-post.0",
        "queue-manager.0",
        "deliver-smtp.0",
        "deliver-mailbox.0",
        "resolver.0",
        "limits.0",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(rows.iter().all(|row| row["state"] == "ready" && row["restarts"] == 0), "{rows:?}");
    let table = ctl(&mta, &["status"]);
    assert!(table.starts_with("PROCESS"), "{table}");
    assert_eq!(table.lines().count(), rows.len() + 1);
    let mut client = Client::hello(mta.port());
    assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    wait_until("the figures count it", || {
        let rows = mta.ctl_rows(&["status"]);
        let of = |row: &serde_json::Value| row["figures"]["accepted"].as_u64().unwrap_or(0);
        rows.iter().filter(|row| row["role"] == "receiver").map(of).sum::<u64>() == 1
    });
}

#[test]
fn connections_that_ask_nothing_keep_no_operator_off() {
    const TEST: &str = "connections_that_ask_nothing_keep_no_operator_off";
    /// More than the master and the queue-manager take at once.
    const IDLE: &str = "import socket, sys
idle = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(80)]
for at, one in enumerate(idle):
    one.connect(sys.argv[1 + at % 2])
print('connected', flush=True)
sys.stdin.read()";
    if !needs_programs(TEST, &["python3"]) {
        return;
    }
    let mta = Mta::start(&Settings::default());
    let sockets = ["control", "queue"].map(|name| mta.root().join("run/vsmtp").join(name));
    let mut command = Command::new("python3");
    command.args(["-c", IDLE]).args(sockets).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut idle = command.spawn().expect("start python3");
    let mut word = [0; 10];
    idle.stdout.as_mut().expect("its output").read_exact(&mut word).expect("its word");
    assert_eq!(&word, b"connected\n");
    assert!(ctl(&mta, &["status"]).contains("queue-manager.0"));
    assert_eq!(mta.ctl_rows(&["queue", "list"]), Vec::<serde_json::Value>::new());
    assert!(ctl(&mta, &["reload"]).contains("reloaded"), "an answer that takes time");
    drop(idle.stdin.take());
    idle.wait().expect("wait for python3");
}

#[test]
fn a_state_file_that_grows_without_end_is_emptied_and_its_process_replaced() {
    let mta = Mta::start(&Settings::default());
    let path = mta.root().join("var/lib/vsmtp/resolver/mta-sts.1");
    let before = mta.pid_of("resolver.0");
    // As a resolver would that somebody has taken over.
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("the resolver's file");
    file.set_len(1 << 30).expect("a disk with sparse files");
    wait_until("the file is emptied", || file.metadata().is_ok_and(|of| of.len() < 1 << 20));
    wait_until("that is logged", || mta.log().contains("event=state-too-large"));
    wait_until("there is another resolver", || {
        mta.processes().iter().any(|one| one.name == "resolver.0" && one.is_ready && one.pid != before)
    });
}

#[test]
fn folders_may_be_on_another_disk_behind_links_of_the_operator() {
    let mut mta = Mta::prepare(&Settings::default());
    for (link, target) in [("mail", "disk/mail"), ("var/spool/vsmtp/queue", "disk/queue")] {
        let (link, target) = (mta.root().join(link), mta.root().join(target));
        std::fs::create_dir_all(&target).expect("make a folder");
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("make a folder");
        std::os::unix::fs::symlink(target, link).expect("make a link");
    }
    mta.launch();
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
    mta.wait_for_mail("local.test", "b", 1);
    mta.stop();
    mta.launch();
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let mta = Mta::start(&Settings::default());
    let second = vsmtp(&mta, "run");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another vsmtp holds"), "{said}");
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
}

#[test]
fn systemd_hears_of_the_start_of_reloads_and_of_the_stop() {
    let mta = Mta::prepare(&Settings::default());
    let path = mta.root().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bind");
    socket.set_read_timeout(Some(HEARD)).expect("set a time-out");
    let hear = || {
        let mut buffer = [0; 200];
        let length = uninterrupted(|| socket.recv(&mut buffer)).expect("a word in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = mta.master_command();
    command.env("NOTIFY_SOCKET", &path).stderr(std::process::Stdio::null());
    let mut master = command.spawn().expect("start vsmtp");
    let guard = Term(master.id());
    assert_eq!(hear(), "READY=1");
    assert!(mta.processes().iter().all(|process| process.is_ready), "ready is who is up");
    mta.logged("event=up");
    assert_eq!(Client::hello(mta.port()).say("NOOP").code(), 250);
    vsmtp_tests::signal(&[master.id()], "HUP");
    assert_eq!([hear(), hear()], ["RELOADING=1", "READY=1"]);
    // A reload that is refused is over too.
    mta.write_configuration(&Settings { config: "config.server.naem = 1;".into(), ..Settings::default() });
    vsmtp_tests::signal(&[master.id()], "HUP");
    assert_eq!([hear(), hear()], ["RELOADING=1", "READY=1"]);
    drop(guard);
    assert_eq!(hear(), "STOPPING=1");
    assert!(ended(&mut master).success());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let first = Mta::start(&Settings::default());
    let config = format!("config.server.interfaces.addr = [\"127.0.0.1:{}\"];", first.port());
    let second = Mta::prepare(&Settings { config, ..Settings::default() });
    let output = vsmtp(&second, "run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&first.port().to_string()), "{said}");
}

#[test]
fn a_signal_stops_everything_in_time_whatever_is_open() {
    // A next hop that never answers holds a delivery open, and clients stand in every step.
    let hop = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let config = format!(
        "config.delivery.relayhost = \"[127.0.0.1]:{}\";",
        hop.local_addr().expect("its address").port()
    );
    let mut mta = Mta::start(&Settings { config, ..Settings::default() });
    let pids: Vec<u32> = mta.processes().iter().map(|process| process.pid).collect();
    let mut first = Client::hello(mta.port());
    assert_eq!(first.mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx").code(), 250);
    let mut second = Client::hello(mta.port());
    assert_eq!(second.say("MAIL FROM:<a@src.test>").code(), 250);
    assert_eq!(second.say("RCPT TO:<b@local.test>").code(), 250);
    assert_eq!(second.say("DATA").code(), 354);
    second.send(b"Subject: half\r\n");
    let idle = Client::connect(mta.port());
    let took = mta.stop();
    assert!(took < STOP, "{took:?}");
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "{:?}", pids);
    assert_eq!(first.reply().code(), 421);
    drop((second, idle));
    // What was accepted is still there.
    mta.launch();
    wait_until("the queue is there", || mta.ctl(&["queue", "stats"]).status.success());
    assert_eq!(mta.queued(), 1);
}

#[test]
fn vsmtpctl_stops_the_service_and_says_when_nobody_is_there() {
    let mut mta = Mta::start(&Settings::default());
    ctl(&mta, &["stop"]);
    let pid = mta.master_pid();
    wait_until("the master is gone", || !is_alive(pid));
    mta.stop();
    for words in
        [&["status"][..], &["reload"], &["stop"], &["sandbox"], &["queue", "stats"], &["queue", "list"]]
    {
        let (code, said) = refused(&mta, words);
        assert_eq!(code, 69, "{words:?}: {said}");
        assert!(said.contains("not running"), "{words:?}: {said}");
    }
    mta.launch();
    assert_eq!(mta.queued(), 0);
}

#[test]
fn only_who_may_uses_vsmtpctl() {
    if !needs_root("only_who_may_uses_vsmtpctl") {
        return;
    }
    let mta = Mta::start(&Settings::default());
    // Others cannot reach every build folder.
    let program = mta.root().join("vsmtpctl");
    std::fs::copy(binary("vsmtpctl"), &program).expect("copy vsmtpctl");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("let others run it");
    for words in [&["status"][..], &["stop"], &["reload"], &["queue", "list"], &["queue", "delete", "--all"]]
    {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg("--root")
            .arg(mta.root())
            .args(words)
            .output()
            .expect("run setpriv");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(77), "{words:?}: {said}");
    }
    assert_eq!(mta.queued(), 0);
}

#[test]
fn a_child_that_is_killed_comes_back_and_mail_goes_on() {
    let sink = Sink::start();
    let mta = relaying_to(&sink, "");
    for (at, process) in mta.processes().into_iter().enumerate() {
        vsmtp_tests::signal(&[process.pid], "KILL");
        wait_until(&format!("{} is back", process.name), || {
            let rows = mta.processes();
            rows.iter().any(|row| row.name == process.name && row.pid != process.pid && row.is_ready)
        });
        let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
        assert_eq!(reply.code(), 250, "after {}: {reply:?}", process.name);
        wait_until("it is delivered", || sink.count() > at);
    }
}
