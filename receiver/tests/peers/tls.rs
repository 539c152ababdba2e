//! TLS towards clients: STARTTLS and TLS from the first byte, with a scripted key holder.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use vsmtp_config::{ClientCertificate, ClientTimeouts, ListenerTls, ReceiverSlice, SecurityLevel, ServerTls};
use vsmtp_ipc::edge::master_child::{Listener, ToChild};
use vsmtp_ipc::edge::receiver_filter::{Ask, Facts};
use vsmtp_ipc::edge::receiver_keys::Answer;
use vsmtp_ipc::wire::Service;

use crate::keys::{Keys, Secure, client_config, client_config_with, tls};
use crate::stage::{Filter, Stage, slice};

pub fn secured(tls: ServerTls) -> ReceiverSlice {
    ReceiverSlice { tls: Some(tls), ..slice() }
}

/// A receiver with a filter and a key holder that serves by itself.
pub fn stage() -> (Stage, Filter) {
    let mut stage = Stage::start(&secured(tls()));
    let filter = stage.introduce((false, false, false));
    Keys::introduce(&mut stage).serve();
    (stage, filter)
}

/// A client up to the 220 behind STARTTLS.
pub fn ready(stage: &Stage) -> TcpStream {
    let mut client = stage.greeted();
    assert_eq!(client.ask("STARTTLS"), "220 2.0.0 Ready to start TLS");
    client.stream
}

pub fn starttls(stage: &Stage) -> Secure {
    let mut client = Secure::shake(&client_config(&TLS13), ready(stage)).unwrap();
    assert!(client.ask("EHLO client.test").starts_with("250-mx.test"));
    client
}

/// Opens a listener for submission under TLS.
pub fn submissions(stage: &mut Stage) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let what = Listener::Smtp { address: address.to_string(), service: Service::Submissions };
    stage.tell(&ToChild::Listener(what), vec![listener.into()]);
    address
}

pub fn begin(client: &mut Secure, filter: &mut Filter) -> Facts {
    assert!(client.ask("MAIL FROM:<a@client.test>").starts_with("250"));
    client.send("RCPT TO:<b@mx.test>\r\n");
    let facts = filter.accept_recipients().0;
    assert!(client.reply().starts_with("250"));
    facts
}

#[test]
fn mail_comes_in_under_both_versions_and_the_filter_and_the_trace_know() {
    let (mut stage, mut filter) = stage();
    for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let mut plain = stage.greeted();
        assert!(plain.ask("EHLO client.test").contains("STARTTLS"));
        plain.ask("STARTTLS");
        let mut client = Secure::shake(&client_config(version), plain.stream).unwrap();
        let offered = client.ask("EHLO client.test");
        assert!(offered.starts_with("250-mx.test") && !offered.contains("STARTTLS"), "{offered}");
        let facts = begin(&mut client, &mut filter);
        let facts = facts.tls.expect("the filter is told");
        assert_eq!((facts.protocol.as_str(), facts.sni.as_deref()), (name, Some("mx.test")));
        assert!(facts.cipher.starts_with("TLS_") && facts.client.is_none(), "{facts:?}");
        assert!(client.ask("DATA").starts_with("354"));
        client.send("Subject: x\r\n\r\nx\r\n.\r\n");
        let bytes = String::from_utf8(filter.accept_message()).unwrap();
        assert!(bytes.contains("with ESMTPS"), "{bytes}");
        assert!(client.reply().starts_with("250 2.0.0 queued as"));
        assert_eq!(client.ask("QUIT"), "221 2.0.0 Bye");
        assert!(client.is_closed(), "it says so before it goes");
        filter.expect_forget();
    }
    stage.logged("tls=TLSv1.3 cipher=TLS_");
    stage.figure("handshakes", 2);
}

#[test]
fn a_large_message_and_many_small_records_arrive_whole() {
    let (stage, mut filter) = stage();
    let mut client = starttls(&stage);
    begin(&mut client, &mut filter);
    client.ask("DATA");
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n";
    let body = line.repeat(10_000);
    client.send(&body);
    for byte in b"x\r\n.\r\n" {
        client.send([*byte]);
    }
    let bytes = String::from_utf8(filter.accept_message()).unwrap();
    assert!(bytes.ends_with(&format!("{body}x\r\n")), "{} octets", bytes.len());
    assert!(client.reply().starts_with("250"));
}

#[test]
fn tls_from_the_first_byte() {
    let (mut stage, _filter) = stage();
    let address = submissions(&mut stage);
    let mut client = Secure::shake(&client_config(&TLS13), TcpStream::connect(address).unwrap()).unwrap();
    assert_eq!(client.reply(), "220 mx.test ESMTP");
    let offered = client.ask("EHLO client.test");
    assert!(offered.starts_with("250-mx.test") && !offered.contains("STARTTLS"), "{offered}");
    assert!(client.ask("STARTTLS").starts_with("5"));
    client.ask("QUIT");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_answers_at_once_is_heard_however_quick_it_is() {
    let (mut stage, _filter) = stage();
    let config = client_config(&TLS13);
    for round in 0..200 {
        let mut client = Secure::shake(&config, ready(&stage)).unwrap();
        assert!(client.ask("EHLO client.test").starts_with("250-mx.test"), "round {round}");
        assert_eq!(client.is_resumed(), round > 0);
        assert_eq!(client.ask("QUIT"), "221 2.0.0 Bye");
        assert!(client.is_closed());
    }
    stage.figure("handshakes_resumed", 199);
}

#[test]
fn s6_what_is_sent_behind_starttls_ends_the_session() {
    let (stage, mut filter) = stage();
    let mut client = stage.greeted();
    client.send("STARTTLS\r\nMAIL FROM:<evil@client.test>\r\n");
    assert!(client.reply().starts_with("5"), "not 220");
    assert!(client.is_closed());
    // Nor does it count when it comes after the 220, as what TLS began with.
    let mut stream = ready(&stage);
    stream.write_all(b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<b@mx.test>\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"250"), "{rest:?}");
    assert!(
        filter.hear_soon(Duration::from_millis(100)).is_none_or(|(ask, _)| matches!(ask, Ask::Forget { .. }))
    );
}

#[test]
fn a_client_that_hangs_up_in_the_middle_of_a_record_is_gone_at_once() {
    let (stage, _filter) = stage();
    for _ in 0..20 {
        let mut client = starttls(&stage);
        // The head of a record of 256 octets, its first octet, and the end: often all in one event.
        client.send_clear(&[0x17, 3, 3, 1, 0, 1]);
        client.reader.get_ref().sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.is_gone(), "long before any time-out");
    }
}

#[test]
fn clear_text_under_tls_ends_the_session() {
    let (mut stage, _filter) = stage();
    let mut client = starttls(&stage);
    client.send_clear(b"NOOP\r\n");
    assert!(client.is_gone());
    stage.logged("why=broken-tls");
}

#[test]
fn without_certificates_there_is_no_tls_and_mail_still_comes() {
    let mut stage = Stage::start(&secured(tls()));
    let mut filter = stage.introduce((false, false, false));
    // The door stays shut for a moment, because the certificates may be on their way.
    let mut client = stage.greeted();
    assert_eq!(client.ask("STARTTLS"), "454 4.7.0 TLS is not available now");
    client.begin(&mut filter);
    let address = submissions(&mut stage);
    let mut hasty = TcpStream::connect(address).unwrap();
    assert_eq!(hasty.read_to_end(&mut Vec::new()).unwrap_or(0), 0, "closed, without a word in clear");
    // They come late.
    Keys::introduce(&mut stage).serve();
    let mut client = starttls(&stage);
    assert!(client.ask("NOOP").starts_with("250"));
}

#[test]
fn where_tls_is_required_nothing_is_taken_in_clear() {
    let mut stage = Stage::start(&secured(ServerTls { security_level: SecurityLevel::Encrypt, ..tls() }));
    let mut filter = stage.introduce((false, false, false));
    Keys::introduce(&mut stage).serve();
    let mut client = stage.greeted();
    assert!(client.ask("MAIL FROM:<a@client.test>").starts_with("530 5.7.0"));
    let mut client = starttls(&stage);
    begin(&mut client, &mut filter);
}

#[test]
fn an_address_may_have_versions_suites_and_duties_of_its_own() {
    let own = |address| ListenerTls {
        address,
        tls12: false,
        tls13: true,
        suites: vec![0x1301],
        own_order: false,
        security_level: SecurityLevel::Encrypt,
        client_certificate: ClientCertificate::None,
    };
    let mut stage =
        Stage::start_with(|address| secured(ServerTls { listeners: vec![own(address)], ..tls() }));
    let mut filter = stage.introduce((false, false, false));
    Keys::introduce(&mut stage).serve();
    let other = submissions(&mut stage);
    // Here: TLS 1.3 with one suite, and nothing of a message before it.
    let mut plain = stage.greeted();
    assert!(plain.ask("EHLO client.test").contains("STARTTLS"));
    assert!(plain.ask("MAIL FROM:<a@client.test>").starts_with("530 5.7.0"));
    assert!(Secure::shake(&client_config(&TLS12), ready(&stage)).is_err(), "TLS 1.2 is not spoken here");
    let mut client = starttls(&stage);
    let facts = begin(&mut client, &mut filter).tls.expect("the filter is told");
    assert_eq!((facts.protocol.as_str(), facts.cipher.as_str()), ("TLSv1.3", "TLS_AES_128_GCM_SHA256"));
    // There: what holds for all.
    for version in [&TLS12, &TLS13] {
        let stream = TcpStream::connect(other).unwrap();
        assert_eq!(Secure::shake(&client_config(version), stream).unwrap().reply(), "220 mx.test ESMTP");
    }
}

#[test]
fn s7_a_ticket_goes_on_where_it_was_given_and_nowhere_else() {
    let (mut stage, _filter) = stage();
    let address = submissions(&mut stage);
    let config = client_config(&TLS13);
    let implicit = |address| {
        let mut client = Secure::shake(&config, TcpStream::connect(address).unwrap()).unwrap();
        // The ticket comes with the first words.
        client.reply();
        client
    };
    assert!(!implicit(address).is_resumed());
    assert!(implicit(address).is_resumed(), "the same place");
    let other = submissions(&mut stage);
    assert!(!implicit(other).is_resumed(), "another address");
    assert!(implicit(other).is_resumed());
    // The client remembers one session by name; what it has now is of submission.
    let client = Secure::shake(&config, ready(&stage)).unwrap();
    assert!(!client.is_resumed(), "the MX service takes no ticket of submission");
    stage.figure("handshakes_resumed", 2);
}

#[test]
fn tickets_of_another_receiver_and_of_the_secret_before_go_on() {
    let config = client_config(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shake = |secrets: Vec<[u8; 32]>| {
        let mut stage = Stage::start(&secured(tls()));
        let what = Listener::Smtp { address: "x".to_owned(), service: Service::Submissions };
        stage.tell(&ToChild::Listener(what), vec![listener.try_clone().unwrap().into()]);
        let _filter = stage.introduce((false, false, false));
        let mut keys = Keys::introduce(&mut stage);
        keys.say(&Answer::Tickets(secrets.into_iter().map(vsmtp_ipc::edge::receiver_keys::Secret).collect()));
        keys.serve();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut client = Secure::shake(&config, stream).unwrap();
        client.send("NOOP\r\n");
        client.reply();
        client.is_resumed()
    };
    assert!(!shake(vec![[1; 32]]));
    assert!(shake(vec![[1; 32]]), "another process, the same secret");
    assert!(shake(vec![[2; 32], [1; 32]]), "the secret before");
    assert!(shake(vec![[2; 32]]), "the ticket was given anew");
    assert!(!shake(vec![[3; 32]]));
}

#[test]
fn garbage_instead_of_a_hello_is_refused_and_logged() {
    let (mut stage, _filter) = stage();
    let address = submissions(&mut stage);
    for garbage in [&b"EHLO client.test\r\n"[..], &[0x16, 3, 3, 0xff, 0xff], &[0; 64]] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"220"), "{rest:?}");
    }
    stage.logged("event=tls-failed");
    stage.figure("sessions_open", 0);
}

#[test]
fn client_certificates_are_told_verified_or_not_and_required_where_it_says_so() {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_der = authority.self_signed(&authority_key).unwrap().der().to_vec();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let made = |signed: bool| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        let certificate =
            if signed { params.signed_by(&key, &issuer) } else { params.self_signed(&key) }.unwrap();
        let der: CertificateDer<'static> = certificate.der().clone();
        client_config_with(&der, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    let (known, stranger) = (made(true), made(false));

    for wanted in [ClientCertificate::Ask, ClientCertificate::Require] {
        let mut stage = Stage::start(&secured(ServerTls { client_certificate: wanted, ..tls() }));
        let mut filter = stage.introduce((false, false, false));
        Keys::with_authorities(&mut stage, vec![authority_der.clone()]).serve();
        let mut seen = |config| {
            let mut client = Secure::shake(config, ready(&stage)).ok()?;
            if !client.ask("EHLO client.test").starts_with("250") {
                return None;
            }
            let facts = begin(&mut client, &mut filter);
            client.ask("RSET");
            filter.expect_reset();
            drop(client);
            filter.expect_forget();
            Some(facts.tls?.client.map(|client| client.is_verified))
        };
        let is_required = wanted == ClientCertificate::Require;
        assert_eq!(seen(&known), Some(Some(true)), "{wanted:?}");
        assert_eq!(seen(&stranger), (!is_required).then_some(Some(false)), "{wanted:?}");
        assert_eq!(seen(&client_config(&TLS13)), (!is_required).then_some(None), "{wanted:?}");
    }
}

#[test]
fn idle_tls_sessions_are_small() {
    // Ten thousand where the machine has the time for their handshakes, as `.ci/run` asks for; each costs the same.
    let sessions =
        std::env::var("VSMTP_TEST_SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let descriptors = vsmtp_sys::fds::raise_nofile(2 * sessions as u64 + 500).unwrap();
    if descriptors < sessions as u64 + 500 {
        assert!(std::env::var_os("CI").is_none(), "{descriptors} descriptors are too few");
        return;
    }
    let mut open = secured(tls());
    open.client_count_max = None;
    // However long it takes until the last has come, the first is still there.
    let hour = Duration::from_secs(3600);
    open.timeouts = ClientTimeouts { connect: hour, helo: hour, ..open.timeouts };
    let mut stage = Stage::start(&open);
    let _filter = stage.introduce((false, false, false));
    Keys::introduce(&mut stage).serve();
    drop(starttls(&stage));
    stage.figure("sessions_open", 0);
    let Some(before) = crate::limits::pss(&stage) else { return };
    let config = client_config(&TLS13);
    let mut clients = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let mut client = Secure::shake(&config, ready(&stage)).unwrap();
        assert!(client.ask("EHLO client.test").starts_with("250"));
        clients.push(client);
    }
    stage.figure("sessions_open", sessions as u64);
    let each = (crate::limits::pss(&stage).unwrap() - before) / sessions;
    let _ = std::io::stderr().write_all(format!("an idle TLS session costs {each} octets\n").as_bytes());
    assert!(each < 40 * 1024, "{each} octets");
}
