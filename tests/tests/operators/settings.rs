//! The configuration: checked before it is used, shown as it is in force, taken up by a reload or refused as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vsmtp_tests::{
    Client, Mta, Settings, Sink, children_of, free_port, is_alive, needs_programs, needs_root, signal,
    wait_until,
};

use crate::{ctl, refused, vsmtp};

/// Each is wrong in its own way; the words are what the message must hold.
const WRONG: [(&str, &[&str]); 8] = [
    ("config.server.naem = \"x.test\";", &["vsmtp.vsl:9:", "server.naem", "server.name"]),
    ("config.queue.lifetime = 3;", &["vsmtp.vsl:9:", "queue.lifetime", "1m"]),
    ("config.server.smtp.rcpt_count_max = \"many\";", &["vsmtp.vsl:9:", "rcpt_count_max", "integer"]),
    ("config.server.interfaces.addr = [\"localhost\"];", &["vsmtp.vsl:9:", "interfaces.addr", "port"]),
    ("config.delivery.local = \"floppy\";", &["vsmtp.vsl:9:", "delivery.local", "maildir"]),
    // The section is misspelt, and the script stops there.
    (
        "config.server.interfces.addr = [];",
        &["vsmtp.vsl:9:", "server.interfces.addr: unknown key", "server.interfaces.addr"],
    ),
    ("config.server.tls.protocol = 1;", &["vsmtp.vsl:9:", "tls"]),
    ("this is no script;", &["vsmtp.vsl:9:"]),
];

fn wrong(line: &str) -> Settings {
    Settings { config: line.to_owned(), ..Settings::default() }
}

#[test]
fn a_check_names_file_line_key_and_the_nearest_key() {
    let mta = Mta::prepare(&Settings::default());
    let check = || {
        let output = vsmtp(&mta, "check");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = check();
    assert_eq!((code, text.trim()), (Some(0), "configuration is valid"));
    for (line, words) in WRONG {
        mta.write_configuration(&wrong(line));
        let (code, text) = check();
        assert_eq!(code, Some(1), "{line}: {text}");
        for word in words {
            assert!(text.contains(word), "{word} is missing for {line}: {text}");
        }
        let (code, said) = refused(&mta, &["config", "check"]);
        assert_eq!(code, 1, "{line}: {said}");
        let row = mta.ctl(&["config", "check", "--json"]);
        let row: serde_json::Value = serde_json::from_slice(&row.stdout).expect("an object");
        assert_eq!(row["ok"], false);
        assert!(words.iter().all(|word| row["messages"].to_string().contains(word)), "{row}");
    }
    // All mistakes at once, not one after the other.
    mta.write_configuration(&wrong("config.server.naem = 1; config.queue.lifetiem = 2;"));
    let (_, text) = check();
    assert!(text.contains("server.naem") && text.contains("queue.lifetiem"), "{text}");
}

/// The configuration may have been written anew since the reload under way has read it.
#[test]
fn a_signal_in_the_middle_of_a_reload_is_not_lost() {
    /// Long enough to be met on a slow machine, and it is stopped there: a fast one does not end it meanwhile.
    const SLOW: &str = "let n = 0; while n < 50000 { n += 1; }";
    let mta = Mta::start(&Settings { config: SLOW.to_owned(), ..Settings::default() });
    let (evaluating, before) = stop_evaluation(&mta);
    mta.write_configuration(&wrong("config.server.name = \"two.local.test\";"));
    mta.hang_up();
    wait_until("the master has taken the signal", || !hang_up_is_pending(mta.master_pid()));
    assert!(is_alive(evaluating), "the reload is under way");
    signal(&[evaluating], "CONT");
    wait_until("the signal has led to a reload of its own", || reloads(&mta) >= before + 2);
    wait_until("what was written last is in force", || {
        Client::connect(mta.port()).reply().0 == "220 two.local.test ESMTP"
    });
    assert!(!mta.log().contains("event=reload-failed"));
}

/// Reloads that the log knows of.
fn reloads(mta: &Mta) -> usize {
    mta.log().matches("event=reloaded").count()
}

/// Begins a reload and stops the process that evaluates the configuration. Answers its pid, and how many reloads there were
/// before.
fn stop_evaluation(mta: &Mta) -> (u32, usize) {
    const ATTEMPTS: u32 = 20;
    const LOOKS: u32 = 500;
    let arguments = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let evaluates = |pid: &u32| arguments(pid).split(|octet| *octet == 0).any(|word| word == b"oneshot");
    let is_stopped = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:\tT"))
    };
    for _ in 0..ATTEMPTS {
        let before = reloads(mta);
        mta.hang_up();
        for _ in 0..LOOKS {
            if let Some(pid) = children_of(mta.master_pid()).into_iter().find(evaluates) {
                signal(&[pid], "STOP");
                wait_until("it is stopped, or over", || is_stopped(pid) || !is_alive(pid));
                if is_alive(pid) {
                    return (pid, before);
                }
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    panic!("no reload was met under way")
}

/// True if the process has not yet heard of a SIGHUP that was sent to it.
fn hang_up_is_pending(pid: u32) -> bool {
    /// Signal 1 is the lowest bit of proc(5)'s masks.
    const HANG_UP: u64 = 1;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the master's status");
    let masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    masks.map(|mask| u64::from_str_radix(mask.trim(), 16).expect("a mask")).any(|mask| mask & HANG_UP != 0)
}

#[test]
fn a_reload_takes_up_the_name_servers_of_the_machine() {
    let test = "a_reload_takes_up_the_name_servers_of_the_machine";
    if !needs_root(test) || !needs_programs(test, &["unshare", "mount"]) {
        return;
    }
    let mut mta = Mta::prepare(&Settings::default());
    let file = mta.root().join("resolv.conf");
    std::fs::write(&file, "nameserver 192.0.2.1\n").expect("write resolv.conf");
    mta.overlay(&file, "/etc/resolv.conf");
    mta.launch();
    let asked = |servers: &str| mta.log().matches(&format!("event=name-servers servers={servers} ")).count();
    mta.logged("event=name-servers servers=192.0.2.1:53 ");
    assert_eq!(asked("192.0.2.1:53"), 1);
    ctl(&mta, &["reload"]);
    std::fs::write(&file, "nameserver 192.0.2.2\nnameserver 192.0.2.3\n").expect("write resolv.conf");
    assert_eq!(asked("192.0.2.1:53"), 1, "where nothing has changed the resolver stays");
    ctl(&mta, &["reload"]);
    wait_until("the new name servers are asked", || asked("\"192.0.2.2:53 192.0.2.3:53\"") == 1);
}

#[test]
fn a_refused_reload_leaves_the_old_configuration_in_force() {
    let mta = Mta::start(&Settings::default());
    let before = mta.ctl_rows(&["status"]);
    for (line, words) in &WRONG[..3] {
        mta.write_configuration(&wrong(line));
        let (code, said) = refused(&mta, &["reload"]);
        assert_eq!(code, 1, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let log = mta.logged_often("event=reload-refused", 3);
    assert_eq!(log.matches("event=reload-refused").count(), 3);
    let pids = |rows: &[serde_json::Value]| rows.iter().map(|row| row["pid"].clone()).collect::<Vec<_>>();
    assert_eq!(pids(&mta.ctl_rows(&["status"])), pids(&before), "nothing was restarted");
    assert_eq!(Client::connect(mta.port()).reply().0, "220 mx.local.test ESMTP");
}

#[test]
fn a_reload_takes_changed_settings_up_by_command_and_by_signal() {
    let mta = Mta::start(&Settings::default());
    let greeting = || Client::connect(mta.port()).reply().0;
    mta.write_configuration(&wrong("config.server.name = \"two.local.test\";"));
    assert!(ctl(&mta, &["reload"]).contains("generation 1"));
    wait_until("the new name is in the greeting", || greeting() == "220 two.local.test ESMTP");
    mta.write_configuration(&wrong(
        "config.server.name = \"three.local.test\"; config.server.esmtp.pipelining = false;",
    ));
    mta.hang_up();
    wait_until("the new name is in the greeting", || greeting() == "220 three.local.test ESMTP");
    let mut client = Client::connect(mta.port());
    client.reply();
    assert!(!client.say("EHLO client.test").0.contains("PIPELINING"));
    // Nobody has to wait for a reload to end before the next one: mail flows through all of them.
    for round in 0..3 {
        assert!(mta.ctl(&["reload", "--json"]).status.success());
        let reply = Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx");
        assert_eq!(reply.code(), 250, "round {round}: {reply:?}");
    }
    mta.wait_for_mail("local.test", "b", 3);
}

#[test]
fn mail_does_not_wait_for_an_attempt_that_outlasts_a_reload() {
    /// The next hop answers after this whatever happens: less than the two minutes for which an old process may go on.
    const HELD: Duration = Duration::from_secs(100);
    let (asked, released) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_asked, is_released) = (Arc::clone(&asked), Arc::clone(&released));
    let slow = Sink::scripted(move |line| {
        if line.starts_with("MAIL") {
            is_asked.store(true, Ordering::SeqCst);
            let until = Instant::now() + HELD;
            while !is_released.load(Ordering::SeqCst) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        None
    });
    // Which process serves a next hop is a matter of its name.
    let quick: Vec<Sink> = (0..8).map(|_| Sink::start()).collect();
    let to = |name: &str, sink: &Sink| {
        let port = sink.port();
        format!(
            "if ctx::rcpt().domain is \"{name}.test\" {{ transport::forward(ctx::rcpt(), \"[127.0.0.1]:{port}\"); }}\n"
        )
    };
    let routes: String = quick.iter().enumerate().map(|(at, sink)| to(&format!("quick{at}"), sink)).collect();
    let routes = to("slow", &slow) + &routes;
    let filter = format!("#{{ rcpt: [ action \"where to\" || {{ {routes} }} ] }}");
    let config = "config.server.delivers = 1;".to_owned();
    let mta = Mta::start(&Settings { config, filter: filter.clone() });
    let send = |domain: &str| {
        let to = format!("b@{domain}.test");
        let reply = Client::hello(mta.port()).mail("a@src.test", &[&to], "Subject: x\r\n\r\nx");
        assert_eq!(reply.code(), 250, "{reply:?}");
    };
    send("slow");
    wait_until("the slow one is under way", || asked.load(Ordering::SeqCst));
    let config = "config.server.delivers = 1; config.delivery.timeouts.greeting = \"4m\";".to_owned();
    mta.write_configuration(&Settings { config, filter });
    ctl(&mta, &["reload"]);
    let drains = || mta.processes().iter().any(|one| one.name.starts_with("deliver-smtp") && one.is_draining);
    wait_until("the old process is to end", drains);
    (0..quick.len()).for_each(|at| send(&format!("quick{at}")));
    wait_until("all else is delivered", || quick.iter().all(|sink| sink.count() == 1));
    assert!(drains() && slow.count() == 0);
    released.store(true, Ordering::SeqCst);
    wait_until("the slow one is delivered", || slow.count() == 1);
}

#[test]
fn the_spool_does_not_move_while_the_service_runs() {
    let mta = Mta::start(&Settings::default());
    mta.write_configuration(&wrong("config.server.queues.dirpath = \"/var/spool/other\";"));
    let (code, said) = refused(&mta, &["reload"]);
    assert_eq!(code, 1);
    assert!(said.contains("restart"), "{said}");
}

#[test]
fn the_configuration_in_force_is_shown() {
    let mta = Mta::start(&wrong("config.queue.lifetime = \"2d\";"));
    let all = mta.ctl_rows(&["config", "show"]);
    assert!(all.len() > 50, "{}", all.len());
    assert!(all.iter().all(|row| row["doc"].as_str().is_some_and(|doc| doc.len() > 10)), "{all:?}");
    let lifetime = all.iter().find(|row| row["key"] == "queue.lifetime").expect("the key is shown");
    assert_eq!((lifetime["value"].as_str(), lifetime["default"].as_bool()), (Some("\"2d\""), Some(false)));
    let changed = ctl(&mta, &["config", "show", "--changed", "queue."]);
    let lines: Vec<&str> = changed.lines().collect();
    assert_eq!(lines.len(), 2, "{changed}");
    assert!(lines[0].starts_with("KEY") && lines[1].starts_with("queue.lifetime"), "{changed}");
    // What was changed on disk is not in force before a reload.
    mta.write_configuration(&wrong("config.queue.lifetime = \"3d\";"));
    assert!(ctl(&mta, &["config", "show", "queue.lifetime"]).contains("2d"));
    ctl(&mta, &["reload"]);
    assert!(ctl(&mta, &["config", "show", "queue.lifetime"]).contains("3d"));
}

#[test]
fn addresses_and_receivers_come_and_go_with_a_reload() {
    let mta = Mta::start(&wrong("config.server.receivers = 2;"));
    let second = free_port();
    let both = format!("config.server.interfaces.addr.push(\"127.0.0.1:{second}\");");
    let greets = |port| Client::try_hello(port).is_ok();
    let mut open = Client::hello(mta.port());
    for (settings, on_second) in [
        (format!("{both} config.server.receivers = 3;"), true),
        (format!("{both} config.server.receivers = 1;"), true),
        ("config.server.receivers = 1;".to_owned(), false),
        ("config.server.receivers = 2;".to_owned(), false),
    ] {
        mta.write_configuration(&wrong(&settings));
        ctl(&mta, &["reload"]);
        wait_until("the addresses are those of the configuration", || greets(second) == on_second);
        // Every socket of the port has a receiver behind it, whichever the kernel chooses.
        for port in [Some(mta.port()), on_second.then_some(second)].into_iter().flatten() {
            assert!((0..40).all(|_| greets(port)), "{settings}");
        }
        assert_eq!(open.say("NOOP").code(), 250, "an open session goes on");
    }
}

#[test]
fn a_reload_that_cannot_be_carried_out_changes_nothing() {
    let mta = Mta::start(&Settings::default());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = taken.local_addr().expect("its address");
    let free = free_port();
    let more = format!("config.server.interfaces.addr.push(\"127.0.0.1:{free}\");");
    for (line, word) in [
        (format!("{more} config.server.interfaces.addr.push(\"{taken}\");"), taken.to_string()),
        (format!("{more} config.server.logs.filename = \"/etc/vsmtp/vsmtp.vsl/log\";"), "log".to_owned()),
    ] {
        mta.write_configuration(&wrong(&line));
        let (code, said) = refused(&mta, &["reload"]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&word), "{said}");
        let connected = std::net::TcpStream::connect(("127.0.0.1", free));
        assert!(connected.is_err(), "the other address is not served either");
        let reply = Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx");
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    wait_until("both refusals are logged", || mta.log().matches("event=reload-refused").count() == 2);
}
