//! The process: its clients, its end, its jail.

use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{CREDITS, DnsError, MAX_DEADLINE_MS};
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_sys::report::Report;

use crate::dns::{Dns, Say, mx as exchanger, say};
use crate::harness::{Resolver, mx, slice};

#[test]
fn a_client_beyond_its_credits_loses_its_edge_and_nobody_else_does() {
    let dns = Dns::start(|asked| {
        if asked.name() == "well.example" { say(asked.answer([exchanger(1, "a.b")])) } else { vec![] }
    });
    let mut resolver = Resolver::with(&[dns.address]);
    let (mut greedy, mut honest) =
        (resolver.client(Role::FilterPost, 0), resolver.client(Role::DeliverSmtp, 0));
    for n in 0..=CREDITS {
        greedy.say(mx(&format!("dead{n}.example")));
    }
    assert!(greedy.closed());
    assert!(honest.result(mx("well.example")).is_ok());
    let mut told = vec![resolver.told(), resolver.told()];
    told.retain(|message| !matches!(message, ToMaster::Serving));
    assert!(
        matches!(told[..], [ToMaster::Misbehaved(ProcessName { role: Role::FilterPost, instance: 0 })]),
        "{told:?}"
    );
}

#[test]
fn a_deadline_beyond_the_contract_closes_the_edge() {
    let mut resolver = Resolver::with(&[]);
    let mut client = resolver.deliver();
    client.say_by(mx("a.example"), MAX_DEADLINE_MS + 1);
    assert!(client.closed());
}

#[test]
fn a_new_edge_of_the_same_process_replaces_the_old_one() {
    let dns = Dns::start(|asked| vec![Say::Later(asked.answer([exchanger(1, "a.b")]))]);
    let mut resolver = Resolver::with(&[dns.address]);
    let mut old = resolver.deliver();
    old.say(mx("a.example"));
    dns.wait_for(1);
    let mut new = resolver.deliver();
    assert!(old.closed());
    new.say(mx("a.example"));
    // Answered from here; so the question before it has been read.
    new.say(mx("localhost"));
    assert_eq!(new.hear().ticket, 2);
    dns.say_now();
    assert!(new.hear().result.is_ok());
    assert_eq!(dns.asked().len(), 1);
}

#[test]
fn a_process_that_has_nothing_to_ask_gets_no_edge() {
    let mut resolver = Resolver::with(&[]);
    assert!(resolver.client(Role::QueueManager, 0).closed());
    assert!(resolver.client(Role::DeliverMailbox, 0).closed());
}

#[test]
fn without_name_servers_everything_is_temporary() {
    let mut resolver = Resolver::with(&[]);
    let mut client = resolver.deliver();
    assert_eq!(client.result(mx("a.example")), Err(DnsError::Temporary));
    resolver.logged("event=no-name-servers");
}

#[test]
fn the_servers_of_this_machine_are_read_before_the_jail() {
    let mut resolver = Resolver::start(&vsmtp_config::ResolverSlice {
        servers: None,
        timeout: Duration::from_millis(100),
        ..slice(&[])
    });
    let mut client = resolver.deliver();
    assert!(client.result(mx("localhost")).is_err());
    resolver.logged("event=name-servers");
    let log = resolver.log();
    let file = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let first = file.lines().find_map(|line| line.strip_prefix("nameserver ")?.trim().parse().ok());
    if let Some(std::net::IpAddr::V4(ip)) = first {
        assert!(log.contains(&format!("{ip}:53")), "{log}");
    }
}

#[test]
fn draining_waits_for_open_questions() {
    let dns = Dns::start(|asked| vec![Say::Later(asked.answer([exchanger(1, "a.b")]))]);
    let mut resolver = Resolver::with(&[dns.address]);
    let mut client = resolver.deliver();
    client.say(mx("a.example"));
    dns.wait_for(1);
    resolver.tell(&ToChild::Drain { deadline_ms: 20_000 });
    dns.say_now();
    assert!(client.hear().result.is_ok());
    assert!(resolver.ended().success());
}

#[test]
fn the_jail_is_closed() {
    let dns = Dns::start(|asked| say(asked.answer([exchanger(1, "a.b")])));
    let mut resolver = Resolver::with(&[dns.address]);
    assert!(resolver.deliver().result(mx("a.example")).is_ok());
    let report = Report::of(resolver.process.child.pid).unwrap();
    // The loop, the thread that looks up, and the one that keeps.
    assert_eq!((report.no_new_privs, report.seccomp, report.threads), (Some(true), Some(2), Some(3)));
    assert_eq!(report.capabilities.effective, Some(0));
}
