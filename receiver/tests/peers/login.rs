//! AUTH with a scripted helper: what it may say, what it may not, and its death.

use std::time::{Duration, Instant};

use vsmtp_config::{
    ByText, CertificatePattern, ClientCertificate, ListenerEsmtp, Network, ReceiverSlice, ServerTls,
};
use vsmtp_ipc::edge::master_child::{Listener, ToChild};
use vsmtp_ipc::edge::receiver_auth::{Answer, Ask, AuthEnd, CREDITS, Denied, MAX_WAIT_MS, WRONG_MS};
use vsmtp_ipc::edge::receiver_filter::{self as filter, Decision};
use vsmtp_ipc::edge::receiver_limits::Ask::{Left, Note, Waited};
use vsmtp_ipc::edge::receiver_limits::{Entry, Kind, Wanted};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Blob, Grant};

use crate::keys::{Keys, Secure, client_config, client_config_with, tls};
use crate::stage::{Client, Filter, Stage, heard, introduce_helper, slice};

const HELPER: ProcessName = ProcessName { role: Role::Auth, instance: 0 };
const GRANT: Grant = Grant([3; 16]);

struct Helper(AuthEnd);

impl Helper {
    fn meet(stage: &mut Stage) -> Helper {
        let mut helper = Helper(introduce_helper(stage, HELPER));
        helper.say(&Answer::Offer(vec!["SCRAM-SHA-256".to_owned(), "PLAIN".to_owned()]));
        helper
    }

    fn say(&mut self, answer: &Answer) {
        self.0.send(answer, Vec::new()).unwrap();
        assert_eq!(self.0.flush().unwrap(), vsmtp_ipc::Flushed::All);
    }

    fn hear(&mut self) -> Ask {
        heard(&mut self.0).expect("the receiver keeps the edge")
    }

    /// The next question, whatever has ended before.
    fn hear_of_logins(&mut self) -> Ask {
        match self.hear() {
            Ask::End { .. } => self.hear_of_logins(),
            ask => ask,
        }
    }

    fn begun(&mut self) -> u64 {
        match self.hear() {
            Ask::Begin(begin) => begin.exchange,
            other => panic!("{other:?}"),
        }
    }
}

/// A client, when the offer has been heard.
fn client(stage: &Stage) -> Client {
    for _ in 0..200 {
        let mut client = stage.connect();
        client.reply();
        if client.ask("EHLO client.test").contains("AUTH SCRAM-SHA-256 PLAIN") {
            return client;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the offer is not heard");
}

#[test]
fn the_filter_is_shown_the_grant_once_it_counts() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut helper = Helper::meet(&mut stage);
    let mut client = client(&stage);
    client.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
    let Ask::Begin(begin) = helper.hear() else { panic!("no exchange") };
    assert_eq!((begin.mechanism.as_str(), begin.tls), ("PLAIN", None));
    assert_eq!(begin.initial, Some(Blob(b"\0tim\0pencil".to_vec())));
    helper.say(&Answer::Challenge { exchange: begin.exchange, challenge: Blob(b"?".to_vec()) });
    assert_eq!(client.reply(), "334 Pw==");
    client.say("IQ==");
    let response = Blob(b"!".to_vec());
    assert_eq!(helper.hear(), Ask::Continue { exchange: begin.exchange, response });
    let identity = "tim".to_owned();
    helper.say(&Answer::Granted { exchange: begin.exchange, grant: GRANT, identity });
    assert!(client.reply().starts_with("235"));
    assert_eq!(client.begin(&mut filter).grant, Some(GRANT));
    drop(client);
    assert_eq!(helper.hear(), Ask::End { grant: GRANT });
}

#[test]
fn where_rules_want_a_say_nothing_counts_before_they_have_said_yes() {
    let (mut stage, mut filter) = Stage::with_filter_that_judges();
    let mut helper = Helper::meet(&mut stage);
    let mut client = client(&stage);
    for accepts in [false, true] {
        client.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
        let exchange = helper.begun();
        helper.say(&Answer::Granted { exchange, grant: GRANT, identity: "tim".to_owned() });
        let (filter::Ask::Authenticate(facts), _) = filter.hear() else { panic!("not asked") };
        assert_eq!(facts.grant, Some(GRANT));
        let refusal = Decision::Refuse(crate::stage::reply("535 5.7.8 no"));
        let began = Instant::now();
        filter.decide(facts.session, if accepts { Decision::Accept(None) } else { refusal });
        assert!(client.reply().starts_with(if accepts { "235" } else { "535" }));
        if !accepts {
            assert!(began.elapsed() >= Duration::from_millis(WRONG_MS.into()), "guessing is slow");
            assert_eq!(helper.hear(), Ask::End { grant: GRANT });
            assert_eq!(client.begin(&mut filter).grant, None);
            assert!(client.ask("RSET").starts_with("250"));
            filter.expect_reset();
        }
    }
    assert_eq!(client.begin(&mut filter).grant, Some(GRANT));
}

#[test]
fn a_login_that_a_proxy_states_counts_when_the_helper_and_the_rules_have_said_yes() {
    let loopback = ByText::from(Network::parse("127.0.0.0/8").unwrap());
    let mut stage = Stage::start(&ReceiverSlice {
        xclient_from: vec![loopback.clone()],
        login_from: vec![loopback],
        ..slice()
    });
    let mut filter = stage.introduce_with((false, true, false), true);
    let mut helper = Helper::meet(&mut stage);
    for (granted, judged, greeting) in [
        (Err(Denied::Unsupported), None, "554 5.7.8"),
        (Err(Denied::Throttled), None, "421 4.3.0"),
        (Ok(()), Some("535 5.7.8 no"), "554 5.7.8"),
        (Ok(()), Some("454 4.7.0 later"), "421 4.3.0"),
        (Ok(()), None, "220 mx.test"),
    ] {
        let mut client = stage.connect();
        client.reply();
        client.say("EHLO proxy.test");
        let filter::Ask::Helo(facts) = filter.hear_of_sessions() else { panic!("no name") };
        filter.decide(facts.session, Decision::Accept(None));
        assert!(client.reply().contains("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"));
        client.say("XCLIENT ADDR=192.0.2.1 LOGIN=tim");
        let Ask::Vouch(vouch) = helper.hear_of_logins() else { panic!("not asked") };
        assert_eq!((vouch.login.as_str(), vouch.proxy.to_string().as_str()), ("tim", "127.0.0.1"));
        assert_eq!(vouch.client.unwrap().to_string(), "192.0.2.1");
        let exchange = vouch.exchange;
        match granted {
            Err(why) => helper.say(&Answer::Denied { exchange, why, wait_ms: 0 }),
            Ok(()) => {
                helper.say(&Answer::Granted { exchange, grant: GRANT, identity: "tim".to_owned() });
                let filter::Ask::Authenticate(facts) = filter.hear_of_sessions() else { panic!("not asked") };
                assert_eq!((facts.grant, facts.helo), (Some(GRANT), None));
                let refusal = judged.map(|text| Decision::Refuse(crate::stage::reply(text)));
                filter.decide(facts.session, refusal.unwrap_or(Decision::Accept(None)));
            }
        }
        let heard = client.reply();
        assert!(heard.starts_with(greeting), "{granted:?} {judged:?}: {heard}");
        if heard.starts_with("220") {
            client.say("EHLO client.test");
            let filter::Ask::Helo(facts) = filter.hear_of_sessions() else { panic!("no name") };
            assert_eq!(facts.grant, Some(GRANT));
            filter.decide(facts.session, Decision::Accept(None));
            assert!(!client.reply().contains("AUTH"));
            // The next client of the same proxy is somebody else.
            client.say("XCLIENT ADDR=192.0.2.2");
            assert_eq!(helper.hear(), Ask::End { grant: GRANT });
            assert!(client.reply().starts_with("220"));
        } else {
            assert!(client.is_closed());
        }
    }
    drop(helper);
    stage.logged("event=xclient");
}

#[test]
fn each_refusal_has_its_reply() {
    let (mut stage, _filter) = Stage::with_filter();
    let mut helper = Helper::meet(&mut stage);
    for (why, code) in [
        (Denied::Credentials, "535 5.7.8"),
        (Denied::Temporary, "454 4.7.0"),
        (Denied::Malformed, "501"),
        (Denied::NeedsTls, "538 5.7.11"),
        (Denied::Unsupported, "504 5.5.4"),
        (Denied::Throttled, "454 4.7.0 Too many"),
    ] {
        let mut client = client(&stage);
        client.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
        let exchange = helper.begun();
        helper.say(&Answer::Denied { exchange, why, wait_ms: 0 });
        let reply = client.reply();
        assert!(reply.starts_with(code), "{why:?}: {reply}");
    }
}

#[test]
fn clients_that_wait_to_hear_that_they_were_wrong_keep_nobody_else_from_asking() {
    const GUESSERS: usize = CREDITS as usize + 20;
    let (mut stage, mut filter) = Stage::with_filter();
    let mut helper = Helper::meet(&mut stage);
    let mut honest = client(&stage);
    let mut guessers = Vec::new();
    for at in 0..GUESSERS {
        let mut guesser = stage.greeted();
        guesser.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
        let exchange = helper.begun();
        let why = if at % 2 == 0 { Denied::Credentials } else { Denied::Throttled };
        helper.say(&Answer::Denied { exchange, why, wait_ms: MAX_WAIT_MS });
        guessers.push(guesser);
    }
    honest.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
    let exchange = helper.begun();
    helper.say(&Answer::Granted { exchange, grant: GRANT, identity: "tim".to_owned() });
    assert!(honest.reply().starts_with("235"));
    assert_eq!(honest.begin(&mut filter).grant, Some(GRANT));
}

#[test]
fn a_client_hears_late_that_it_was_wrong_and_is_not_asked_for_more_before() {
    const WAIT: Duration = Duration::from_millis(400);
    let (mut stage, _filter) = Stage::with_filter();
    let mut helper = Helper::meet(&mut stage);
    let mut client = client(&stage);
    // Whoever sends the next guess behind the first one wins nothing by it.
    client.say("AUTH PLAIN AHRpbQBwZW5jaWw=\r\nAUTH PLAIN AHRpbQB4");
    let exchange = helper.begun();
    let began = Instant::now();
    let wait_ms = u32::try_from(WAIT.as_millis()).unwrap();
    helper.say(&Answer::Denied { exchange, why: Denied::Credentials, wait_ms });
    let exchange = helper.begun();
    assert!(began.elapsed() >= WAIT);
    helper.say(&Answer::Denied { exchange, why: Denied::Temporary, wait_ms: 0 });
    assert!(client.reply().starts_with("535 5.7.8"));
    assert!(client.reply().starts_with("454 4.7.0"));
}

#[test]
fn an_address_may_have_no_auth_and_other_words() {
    let own = |address| ListenerEsmtp { address, auth: false, discard: vec!["CHUNKING".to_owned()] };
    let mut stage = Stage::start_with(|address| ReceiverSlice {
        chunking: true,
        eightbitmime: true,
        discard: vec!["DSN".to_owned()],
        listeners: vec![own(address)],
        ..slice()
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = listener.local_addr().unwrap();
    let door = Listener::Smtp { address: elsewhere.to_string(), service: vsmtp_ipc::wire::Service::Smtp };
    stage.tell(&ToChild::Listener(door), vec![listener.into()]);
    let mut filter = stage.introduce((false, false, false));
    let here = stage.address;
    // Elsewhere all is as everywhere, and the offer of the helper is heard.
    stage.address = elsewhere;
    let _helper = Helper::meet(&mut stage);
    let mut other = client(&stage);
    let words = other.ask("EHLO client.test");
    assert!(words.contains("CHUNKING") && words.contains("BINARYMIME") && !words.contains("DSN"), "{words}");
    stage.address = here;
    let mut client = stage.greeted();
    let words = client.ask("EHLO client.test");
    for absent in ["AUTH", "CHUNKING", "BINARYMIME"] {
        assert!(!words.contains(absent), "{words}");
    }
    assert!(words.contains("DSN"), "{words}");
    assert!(!client.ask("HELP").contains("AUTH"));
    assert!(client.ask("AUTH PLAIN AHRpbQBwZW5jaWw=").starts_with("502 5.5.1"));
    assert_eq!(client.begin(&mut filter).grant, None);
}

#[test]
fn who_has_authenticated_is_no_stranger_whatever_lists_and_tests_say() {
    let mut strict = slice();
    strict.exempt.clear();
    let mut stage = Stage::start(&strict);
    let mut filter = stage.introduce((false, false, false));
    let mut helper = Helper::meet(&mut stage);
    drop(client(&stage));
    let mut limiter = stage.introduce_limiter(Wanted { connect: true, ..Wanted::default() });
    for entry in [Entry::Condemn(crate::stage::reply("550 5.7.1 listed")), Entry::Test] {
        let mut client = stage.connect();
        let ticket = limiter.at_the_door();
        limiter.entry(ticket, Entry::Screen { wait_ms: 0 });
        assert_eq!(limiter.hear(), Waited { ticket, early: false });
        limiter.entry(ticket, entry);
        client.reply();
        assert!(client.ask("EHLO client.test").contains("AUTH"));
        client.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
        let exchange = loop {
            if let Ask::Begin(begin) = helper.hear() {
                break begin.exchange;
            }
        };
        helper.say(&Answer::Granted { exchange, grant: GRANT, identity: "tim".to_owned() });
        assert!(client.reply().starts_with("235"));
        client.begin(&mut filter);
        drop(client);
        // Nothing was said of tests that it passed.
        assert_eq!(limiter.hear(), Left { ticket });
        filter.expect_reset();
        filter.expect_forget();
    }
}

#[test]
fn a_helper_that_answers_what_nobody_asked_loses_its_edge_and_sessions_live() {
    let (mut stage, _filter) = Stage::with_filter();
    let lies: [fn(u64) -> Answer; 4] = [
        |exchange| Answer::Granted { exchange: exchange + 1, grant: GRANT, identity: "tim".to_owned() },
        |exchange| Answer::Granted { exchange, grant: GRANT, identity: "a\nb".to_owned() },
        |_| Answer::Offer(vec!["no mechanism".to_owned()]),
        |_| Answer::Offer(vec!["X".to_owned(); 100]),
    ];
    for lie in lies {
        let mut helper = Helper::meet(&mut stage);
        let mut client = client(&stage);
        client.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
        let exchange = helper.begun();
        helper.say(&lie(exchange));
        assert!(client.reply().starts_with("454 4.7.0"));
        assert!(heard(&mut helper.0).is_err(), "the edge is closed");
        assert!(client.ask("NOOP").starts_with("250"));
        assert!(client.ask("AUTH PLAIN AHRpbQBwZW5jaWw=").starts_with("454"));
    }
}

#[test]
fn a_client_that_leaves_or_gives_up_leaves_nothing_behind() {
    let (mut stage, _filter) = Stage::with_filter();
    let mut helper = Helper::meet(&mut stage);
    let mut one = client(&stage);
    one.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
    let exchange = helper.begun();
    drop(one);
    // That it has left is seen when the answer is to be sent.
    helper.say(&Answer::Granted { exchange, grant: GRANT, identity: "tim".to_owned() });
    assert_eq!(helper.hear(), Ask::End { grant: GRANT });
    let mut two = client(&stage);
    for gives_up in [true, false] {
        two.say("AUTH PLAIN");
        let exchange = helper.begun();
        helper.say(&Answer::Challenge { exchange, challenge: Blob(Vec::new()) });
        assert_eq!(two.reply(), "334");
        if gives_up {
            assert!(two.ask("*").starts_with("501"));
        } else {
            two.stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        assert_eq!(helper.hear(), Ask::Cancel { exchange });
    }
}

#[test]
fn who_is_refused_by_a_challenge_has_failed_once_whether_it_answers_or_gives_up() {
    let mut strict = slice();
    strict.exempt.clear();
    let mut stage = Stage::start(&strict);
    let mut limiter = stage.introduce_limiter(Wanted { auth_failures: true, ..Wanted::default() });
    let _filter = stage.introduce((false, false, false));
    let mut helper = Helper::meet(&mut stage);
    let mut client = client(&stage);
    let noted = Note { client: [127, 0, 0, 1].into(), kind: Kind::AuthFailures, count: 1 };
    for answer in ["IQ==", "*", "IQ=="] {
        client.say("AUTH PLAIN AHRpbQBwZW5jaWw=");
        let exchange = loop {
            if let Ask::Begin(begin) = helper.hear() {
                break begin.exchange;
            }
        };
        helper.say(&Answer::Refused { exchange, challenge: Blob(b"?".to_vec()) });
        assert_eq!(client.reply(), "334 Pw==");
        assert_eq!(limiter.hear(), noted);
        client.say(answer);
        if answer != "*" {
            let Ask::Continue { .. } = helper.hear() else { panic!("nothing said") };
            helper.say(&Answer::Denied { exchange, why: Denied::Credentials, wait_ms: 0 });
        }
        assert!(client.reply().starts_with(if answer == "*" { "501" } else { "535" }));
    }
    // The third failure of this session was the last.
    assert!(client.reply().starts_with("421"));
}

/// A client's certificate, and how it connects with it.
fn own_certificate() -> std::sync::Arc<rustls::ClientConfig> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    client_config_with(certificate.der(), key)
}

/// A receiver that asks for certificates, and knows these as logins.
fn asking(certificates: Vec<[u8; 32]>) -> (Stage, Filter) {
    let mut slice = slice();
    slice.tls = Some(ServerTls { client_certificate: ClientCertificate::Ask, ..tls() });
    slice.certificates = certificates
        .into_iter()
        .map(|print| (CertificatePattern::Fingerprint(print).into(), "tim".to_owned()))
        .collect();
    slice.xclient_from = slice.exempt.clone();
    let mut stage = Stage::start(&slice);
    let filter = stage.introduce((false, false, false));
    Keys::introduce(&mut stage).serve();
    (stage, filter)
}

fn secured(stage: &Stage, config: &std::sync::Arc<rustls::ClientConfig>) -> Secure {
    let mut client = stage.greeted();
    assert!(client.ask("STARTTLS").starts_with("220"));
    Secure::shake(config, client.stream).unwrap()
}

#[test]
fn external_is_offered_to_who_has_a_certificate_that_is_a_login_and_to_nobody_else() {
    let (mine, others) = (own_certificate(), own_certificate());
    let print = {
        let (stage, mut filter) = asking(Vec::new());
        let mut client = secured(&stage, &mine);
        client.ask("EHLO client.test");
        client.ask("MAIL FROM:<a@client.test>");
        client.send("RCPT TO:<b@mx.test>\r\n");
        filter.accept_recipients().0.tls.unwrap().client.unwrap().fingerprint
    };
    let (mut stage, _filter) = asking(vec![print]);
    let mut helper = Helper(introduce_helper(&mut stage, HELPER));
    helper.say(&Answer::Offer(vec!["PLAIN".to_owned(), "EXTERNAL".to_owned()]));
    // When the offer has been heard, those with the certificate see it.
    let mut client = (0..200)
        .find_map(|_| {
            let mut client = secured(&stage, &mine);
            let hello = client.ask("EHLO client.test");
            std::thread::sleep(std::time::Duration::from_millis(20));
            hello.contains("AUTH PLAIN EXTERNAL").then_some(client)
        })
        .expect("it is offered");
    client.send("AUTH EXTERNAL =\r\n");
    let Ask::Begin(begin) = helper.hear() else { panic!("no exchange") };
    assert_eq!((begin.mechanism.as_str(), begin.initial), ("EXTERNAL", Some(Blob(Vec::new()))));
    assert_eq!(begin.tls.unwrap().certificate, Some(print));
    let identity = "tim".to_owned();
    helper.say(&Answer::Granted { exchange: begin.exchange, grant: GRANT, identity });
    assert!(client.reply().starts_with("235"));
    // Another certificate, none, and that of a proxy are nobody's.
    assert!(!stage.greeted().ask("EHLO client.test").contains("EXTERNAL"));
    for config in [&others, &client_config(&rustls::version::TLS13)] {
        let mut client = secured(&stage, config);
        assert!(client.ask("EHLO client.test").contains("AUTH PLAIN"));
        assert!(client.ask("AUTH EXTERNAL =").starts_with("504"));
    }
    let mut proxy = secured(&stage, &mine);
    assert!(proxy.ask("EHLO client.test").contains("EXTERNAL"));
    assert!(proxy.ask("XCLIENT ADDR=192.0.2.7").starts_with("220"));
    assert!(!proxy.ask("EHLO client.test").contains("EXTERNAL"));
    assert!(proxy.ask("AUTH EXTERNAL =").starts_with("504"));
}
