//! Reports, read back by a reader that forgives nothing.

use vsmtp_mail::{OriginalRecipient, QueueIdMint};

use super::*;

type Fields = Vec<(String, String)>;

/// A report as a strict reader sees it.
struct Parsed {
    header: Fields,
    parts: Vec<(Fields, Vec<u8>)>,
}

impl Parsed {
    fn header(&self, name: &str) -> &str {
        one(&self.header, name)
    }
}

fn one<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    let found: Vec<&str> =
        fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect();
    assert_eq!(found.len(), 1, "{name} stands {} times", found.len());
    found[0]
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Fields until the empty line (or the end), unfolded.
fn read_fields(bytes: &[u8]) -> (Fields, &[u8]) {
    let (header, rest) = match find(bytes, b"\r\n\r\n") {
        Some(at) => (&bytes[..at + 2], &bytes[at + 4..]),
        None => (bytes, &b""[..]),
    };
    let text = std::str::from_utf8(header).unwrap();
    let mut fields = Fields::new();
    for line in text.strip_suffix("\r\n").unwrap().split("\r\n") {
        assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line:?}");
        if line.starts_with([' ', '\t']) {
            fields.last_mut().unwrap().1.push_str(&format!(" {}", line.trim_start()));
        } else {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name:?}");
            fields.push((name.to_owned(), value.to_owned()));
        }
    }
    (fields, rest)
}

fn parse(bytes: &[u8]) -> Parsed {
    for (at, byte) in bytes.iter().enumerate() {
        assert!(*byte != b'\n' || bytes[at - 1] == b'\r', "bare LF at {at}");
        assert!(*byte != b'\r' || bytes[at + 1] == b'\n', "bare CR at {at}");
    }
    let (header, body) = read_fields(bytes);
    let content_type = one(&header, "Content-Type");
    let boundary = content_type.split("boundary=\"").nth(1).unwrap().strip_suffix('"').unwrap();
    let delimiter = format!("--{boundary}\r\n");
    let end = format!("--{boundary}--\r\n");
    let body = body.strip_suffix(end.as_bytes()).expect("closing delimiter at the very end");
    assert!(find(body, end.as_bytes()).is_none(), "closed twice");
    let mut parts = Vec::new();
    let mut rest = &body[find(body, delimiter.as_bytes()).unwrap() + delimiter.len()..];
    loop {
        let next = find(rest, delimiter.as_bytes());
        let part = next.map_or(rest, |at| &rest[..at]);
        let (fields, content) = read_fields(part);
        parts.push((fields, content.strip_suffix(b"\r\n").unwrap().to_vec()));
        match next {
            Some(at) => rest = &rest[at + delimiter.len()..],
            None => break,
        }
    }
    Parsed { header, parts }
}

/// Groups of fields of a delivery-status part.
fn read_status(content: &[u8]) -> Vec<Fields> {
    let (mut groups, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let (fields, after) = read_fields(rest);
        groups.push(fields);
        rest = after;
    }
    groups
}

const MESSAGE: &[u8] = b"Received: from x\r\nFrom: a@src.test\r\nSubject: hi\r\n\r\nline one\r\nline two\r\n";

fn recipient(address: &str, hop: &str) -> Recipient {
    Recipient {
        chosen: false,
        address: Address::parse(address).unwrap(),
        original: None,
        notify: Notify::default(),
        class: RecipientClass::Other,
        next_hop: NextHop::parse(hop).unwrap(),
    }
}

fn envelope(sender: &str, recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        reverse_path: ReversePath::parse(sender).unwrap(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        demands: vsmtp_mail::Demands::default(),
        terms: vsmtp_mail::Terms::default(),
        recipients,
    }
}

fn said<'a>(recipient: &'a Recipient, text: &'a str) -> Reported<'a> {
    Reported {
        recipient,
        status: EnhancedCode(5, 1, 1),
        text,
        remote: "mx.dst.test[192.0.2.1]:25",
        at_ms: 1_000_000,
    }
}

fn write(kind: Kind, envelope: &Envelope, message: &[u8], reported: &[Reported<'_>]) -> Option<Report> {
    let reporter = Reporter { name: Domain::parse("mail.src.test").unwrap(), max_return: 1000 };
    let id = QueueIdMint::new(1, 2).next(3);
    let original = Original { id, envelope, arrived_ms: 0, size: message.len() as u64, start: message };
    let to =
        envelope.reverse_path.address().cloned().unwrap_or(Address::parse("postmaster@src.test").unwrap());
    let targets = [(to.clone(), NextHop::parse("smtp:src.test").unwrap())];
    let stamp = Stamp { id: QueueIdMint::new(4, 5).next(6), now_ms: 2_000_000, random: 0xabcd };
    reporter.report(kind, &original, reported, &to, &targets, stamp)
}

#[test]
fn one_report_tells_of_several_failures() {
    let mut envelope = envelope(
        "a@src.test",
        vec![recipient("b@dst.test", "smtp:dst.test"), recipient("c@dst.test", "maildir")],
    );
    envelope.envid = Some("QQ314159".into());
    envelope.terms.release = Some(vsmtp_mail::Release::At(1_795_324_249));
    envelope.recipients[0].original =
        Some(OriginalRecipient { kind: "rfc822".into(), address: "B@old.test".into() });
    let reported: Vec<Reported<'_>> =
        envelope.recipients.iter().map(|r| said(r, "550 5.1.1 no such user here")).collect();
    let report = write(Kind::Failure, &envelope, MESSAGE, &reported).unwrap();
    assert_eq!(report.envelope.reverse_path, ReversePath::Null);
    assert_eq!(report.envelope.recipients[0].address.to_string(), "a@src.test");
    assert_eq!(report.envelope.recipients[0].notify, Notify::NEVER);
    let parsed = parse(&report.bytes);
    assert_eq!(parsed.header("To"), "<a@src.test>");
    assert_eq!(parsed.header("From"), "Mail Delivery System <MAILER-DAEMON@mail.src.test>");
    assert_eq!(parsed.header("Auto-Submitted"), "auto-replied");
    assert!(parsed.header("Content-Type").starts_with("multipart/report; report-type=delivery-status;"));
    for name in ["Date", "Message-ID", "Subject", "MIME-Version", "Received"] {
        assert!(!parsed.header(name).is_empty());
    }
    assert_eq!(parsed.parts.len(), 3);
    assert_eq!(one(&parsed.parts[1].0, "Content-Type"), "message/delivery-status");
    let groups = read_status(&parsed.parts[1].1);
    assert_eq!(groups.len(), 3);
    assert_eq!(one(&groups[0], "Reporting-MTA"), "dns; mail.src.test");
    assert_eq!(one(&groups[0], "Original-Envelope-Id"), "QQ314159");
    assert_eq!(one(&groups[0], "Future-Release-Request"), "until;2026-11-22T05:10:49Z");
    assert_eq!(one(&groups[1], "Original-Recipient"), "rfc822; B@old.test");
    assert_eq!(one(&groups[1], "Final-Recipient"), "rfc822; b@dst.test");
    assert_eq!(one(&groups[2], "Action"), "failed");
    assert_eq!(one(&groups[2], "Status"), "5.1.1");
    assert_eq!(one(&groups[2], "Remote-MTA"), "dns; mx.dst.test");
    assert_eq!(one(&groups[2], "Diagnostic-Code"), "smtp; 550 5.1.1 no such user here");
    assert_eq!(one(&parsed.parts[2].0, "Content-Type"), "message/rfc822");
    assert_eq!(parsed.parts[2].1, MESSAGE);
}

#[test]
fn ret_and_size_decide_what_is_returned() {
    let mut envelope = envelope("a@src.test", vec![recipient("b@dst.test", "smtp:dst.test")]);
    let whole = |envelope: &Envelope, kind, message: &[u8]| {
        let report = write(kind, envelope, message, &[said(&envelope.recipients[0], "no")]).unwrap();
        let parsed = parse(&report.bytes);
        let content_type = one(&parsed.parts[2].0, "Content-Type").to_owned();
        assert!(parsed.parts[2].1.starts_with(b"Received: from x\r\nFrom: a@src.test\r\nSubject: hi\r\n"));
        (content_type == "message/rfc822", parsed.parts[2].1.len())
    };
    assert!(whole(&envelope, Kind::Failure, MESSAGE).0);
    let large = [MESSAGE, &[b'x'; 2000]].concat();
    assert_eq!(whole(&envelope, Kind::Failure, &large), (false, vsmtp_mail::header_end(MESSAGE)));
    envelope.ret = Some(Ret::Headers);
    assert!(!whole(&envelope, Kind::Failure, MESSAGE).0);
    envelope.ret = Some(Ret::Full);
    envelope.recipients[0].notify = Notify { success: true, failure: true, delay: true, stated: true };
    assert!(!whole(&envelope, Kind::Success, MESSAGE).0);
    assert!(!whole(&envelope, Kind::Delay { until_ms: 9 }, MESSAGE).0);
}

#[test]
fn only_those_who_asked_are_told_and_the_null_sender_never() {
    let mut loud = recipient("b@dst.test", "smtp:dst.test");
    loud.notify = Notify { success: true, failure: false, delay: false, stated: true };
    let mut silent = recipient("c@dst.test", "smtp:dst.test");
    silent.notify = Notify::NEVER;
    let envelope = envelope("a@src.test", vec![loud, silent, recipient("d@dst.test", "smtp:dst.test")]);
    let told = |kind| {
        let reported: Vec<Reported<'_>> = envelope.recipients.iter().map(|r| said(r, "x")).collect();
        let report = write(kind, &envelope, MESSAGE, &reported).unwrap();
        let groups = read_status(&parse(&report.bytes).parts[1].1);
        groups[1..].iter().map(|group| one(group, "Final-Recipient")[8..9].to_owned()).collect::<String>()
    };
    assert_eq!(told(Kind::Failure), "d");
    assert_eq!(told(Kind::Delay { until_ms: 9 }), "d");
    assert_eq!(told(Kind::Success), "b");
    assert!(write(Kind::Failure, &envelope, MESSAGE, &[said(&envelope.recipients[1], "x")]).is_none());
    let null = self::envelope("", vec![recipient("b@dst.test", "smtp:dst.test")]);
    assert!(write(Kind::Failure, &null, MESSAGE, &[said(&null.recipients[0], "x")]).is_none());
    let double = write(Kind::DoubleBounce, &null, MESSAGE, &[said(&null.recipients[0], "x")]).unwrap();
    assert_eq!(double.envelope.recipients[0].address.to_string(), "postmaster@src.test");
    assert_eq!(double.envelope.reverse_path, ReversePath::Null);
}

#[test]
fn actions_and_classes_agree() {
    let mut envelope = envelope(
        "a@src.test",
        vec![
            recipient("b@dst.test", "smtp:dst.test"),
            recipient("c@dst.test", "maildir"),
            recipient("d@e.test", "lmtp:unix:/x"),
        ],
    );
    for one in &mut envelope.recipients {
        one.notify = Notify { success: true, failure: true, delay: true, stated: true };
    }
    let fields = |kind, status| {
        let reported: Vec<Reported<'_>> =
            envelope.recipients.iter().map(|r| Reported { status, ..said(r, "x") }).collect();
        let report = write(kind, &envelope, MESSAGE, &reported).unwrap();
        let groups = read_status(&parse(&report.bytes).parts[1].1);
        groups[1..]
            .iter()
            .map(|group| format!("{} {}", one(group, "Action"), one(group, "Status")))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(
        fields(Kind::Success, EnhancedCode(2, 1, 5)),
        "relayed 2.1.5, delivered 2.1.5, delivered 2.1.5"
    );
    assert_eq!(
        fields(Kind::Success, EnhancedCode(5, 0, 0)),
        "relayed 2.0.0, delivered 2.0.0, delivered 2.0.0"
    );
    assert_eq!(fields(Kind::Failure, EnhancedCode(4, 4, 7)), "failed 4.4.7, failed 4.4.7, failed 4.4.7");
    assert_eq!(
        fields(Kind::Delay { until_ms: 0 }, EnhancedCode(5, 1, 1)),
        "delayed 4.0.0, delayed 4.0.0, delayed 4.0.0"
    );
}

#[test]
fn smtputf8_addresses_make_a_global_report() {
    let mut envelope = envelope("jörg@src.test", vec![recipient("bücher@dst.test", "smtp:dst.test")]);
    envelope.smtputf8 = true;
    let message = "From: jörg@src.test\r\n\r\nhé\r\n".as_bytes();
    let report =
        write(Kind::Failure, &envelope, message, &[said(&envelope.recipients[0], "unbekannt: bücher")])
            .unwrap();
    assert!(report.envelope.smtputf8 && report.envelope.body == BodyType::EightBitMime);
    let parsed = parse(&report.bytes);
    assert_eq!(one(&parsed.parts[1].0, "Content-Type"), "message/global-delivery-status");
    assert_eq!(one(&parsed.parts[2].0, "Content-Type"), "message/global");
    let groups = read_status(&parsed.parts[1].1);
    assert_eq!(one(&groups[1], "Final-Recipient"), "utf-8; bücher@dst.test");
    assert_eq!(one(&groups[1], "Diagnostic-Code"), "smtp; unbekannt: bücher");
}

#[test]
fn a_sender_who_said_nothing_of_utf8_is_told_in_ascii() {
    let mut envelope = envelope("a@src.test", vec![recipient("j\u{f6}+rg@dst.test", "smtp:dst.test")]);
    let original = OriginalRecipient { kind: "UTF-8".into(), address: "\u{7528}@old.test".into() };
    envelope.recipients[0].original = Some(original);
    let report =
        write(Kind::Failure, &envelope, MESSAGE, &[said(&envelope.recipients[0], "n\u{f6}")]).unwrap();
    assert!(report.bytes.is_ascii() && !report.envelope.smtputf8);
    let parsed = parse(&report.bytes);
    assert_eq!(one(&parsed.parts[1].0, "Content-Type"), "message/delivery-status");
    let groups = read_status(&parsed.parts[1].1);
    assert_eq!(one(&groups[1], "Final-Recipient"), "utf-8; j\\x{F6}\\x{2B}rg@dst.test");
    assert_eq!(one(&groups[1], "Original-Recipient"), "UTF-8; \\x{7528}@old.test");
    // Who said so, and wrote all in ASCII, is told as anybody else.
    let mut envelope = self::envelope("a@src.test", vec![recipient("b@dst.test", "smtp:dst.test")]);
    envelope.smtputf8 = true;
    let report = write(Kind::Failure, &envelope, MESSAGE, &[said(&envelope.recipients[0], "no")]).unwrap();
    assert_eq!(one(&parse(&report.bytes).parts[1].0, "Content-Type"), "message/delivery-status");
}

#[test]
fn an_expansion_says_what_was_expanded_and_promises_nothing() {
    let mut envelope = envelope("a@src.test", vec![recipient("all@src.test", "maildir")]);
    envelope.recipients[0].notify = Notify { success: true, ..Notify::NEVER };
    let one_of = |kind| write(kind, &envelope, MESSAGE, &[said(&envelope.recipients[0], "x")]).unwrap();
    let parsed = parse(&one_of(Kind::Expansion).bytes);
    let groups = read_status(&parsed.parts[1].1);
    assert_eq!((one(&groups[1], "Action"), one(&groups[1], "Status")), ("expanded", "2.0.0"));
    assert_eq!(one(&parsed.parts[2].0, "Content-Type"), "text/rfc822-headers");
}

#[test]
fn a_relay_is_told_of_unless_nothing_is_to_be_and_with_the_time_that_the_sender_has_named() {
    let mut envelope = envelope("a@src.test", vec![recipient("b@dst.test", "smtp:dst.test")]);
    envelope.terms.by = vsmtp_mail::DeliverBy::new(60, false, false);
    let one_of =
        |envelope: &Envelope| write(Kind::Relay, envelope, MESSAGE, &[said(&envelope.recipients[0], "x")]);
    let parsed = parse(&one_of(&envelope).unwrap().bytes);
    let groups = read_status(&parsed.parts[1].1);
    assert_eq!((one(&groups[1], "Action"), one(&groups[1], "Status")), ("relayed", "2.0.0"));
    assert!(one(&groups[0], "Deliver-By-Date").ends_with(" +0000"));
    assert_ne!(one(&groups[0], "Deliver-By-Date"), one(&groups[0], "Arrival-Date"));
    envelope.recipients[0].notify = Notify::NEVER;
    assert!(one_of(&envelope).is_none());
}

#[test]
fn an_ascii_report_stays_ascii_whatever_the_host_said() {
    let envelope = envelope("a@src.test", vec![recipient("b@dst.test", "smtp:dst.test")]);
    let report = write(Kind::Failure, &envelope, MESSAGE, &[said(&envelope.recipients[0], "nö")]).unwrap();
    assert!(report.bytes.is_ascii() && !report.envelope.smtputf8);
}

proptest::proptest! {
    /// Whatever a host says and whatever a message holds, a report has three parts, and its fields are ours.
    #[test]
    fn nobody_forges_a_part_or_a_field(
        text in "[\\PC\r\n\t\0]{0,300}|(\r\n--=_0000000000000000000000000000abcd\r\n){1,3}",
        remote in "[\\PC\r\n]{0,40}",
        message in proptest::collection::vec(proptest::prop_oneof![
            proptest::strategy::Just(b"--=_0000000000000000000000000000abcd\r\n".to_vec()),
            proptest::strategy::Just(b"--=_0000000000000000000000000000abcd--\r\n".to_vec()),
            proptest::strategy::Just(b"\r\n".to_vec()),
            proptest::strategy::Just(b"X: y\n".to_vec()),
            proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ], 0..12),
    ) {
        let message = message.concat();
        let envelope = envelope("a@src.test", vec![recipient("b@dst.test", "smtp:dst.test")]);
        let reported = Reported { remote: &remote, ..said(&envelope.recipients[0], &text) };
        let report = write(Kind::Failure, &envelope, &message, &[reported]).unwrap();
        let parsed = parse(&report.bytes);
        proptest::prop_assert_eq!(parsed.parts.len(), 3);
        let groups = read_status(&parsed.parts[1].1);
        proptest::prop_assert_eq!(groups.len(), 2);
        proptest::prop_assert_eq!(one(&groups[1], "Action"), "failed");
        proptest::prop_assert_eq!(one(&groups[1], "Final-Recipient"), "rfc822; b@dst.test");
    }
}

/// Python's reader agrees with ours.
#[test]
fn python_reads_the_same() {
    use std::io::Write;
    let envelope = envelope("a@src.test", vec![recipient("b@dst.test", "smtp:dst.test")]);
    let report =
        write(Kind::Failure, &envelope, MESSAGE, &[said(&envelope.recipients[0], "no\r\nsuch user")])
            .unwrap();
    let script = "import sys, email, email.policy\n\
        m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)\n\
        assert not m.defects and m.get_content_type() == 'multipart/report', m.defects\n\
        parts = list(m.iter_parts())\n\
        assert [p.get_content_type() for p in parts] == ['text/plain', 'message/delivery-status', 'message/rfc822']\n\
        groups = parts[1].get_payload()\n\
        assert groups[1]['Final-Recipient'] == 'rfc822; b@dst.test', groups[1].items()\n\
        assert groups[1]['Action'] == 'failed'\n\
        assert parts[2].get_payload()[0]['Subject'] == 'hi'\n";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).stdin(std::process::Stdio::piped());
    let mut python = match python.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "python3 is missing, and CI must not skip this");
            let _ = writeln!(std::io::stderr(), "skipped, needs python3: python_reads_the_same");
            return;
        }
        started => started.unwrap(),
    };
    python.stdin.take().unwrap().write_all(&report.bytes).unwrap();
    assert!(python.wait().unwrap().success());
}

#[test]
fn a_rule_words_a_report_of_failure_and_names_its_author() {
    let recipients = vec![recipient("b@dst.test", "smtp:dst.test")];
    let mut envelope = envelope("a@src.test", recipients.clone());
    envelope.terms.report_text = Some("Désolé.\n--=_0\nCall us.".into());
    envelope.terms.report_from = Some(Address::parse("help@src.test").unwrap());
    let report = write(Kind::Failure, &envelope, MESSAGE, &[said(&recipients[0], "550 no")]).unwrap();
    assert_eq!((report.envelope.body, report.envelope.smtputf8), (BodyType::EightBitMime, false));
    let text = String::from_utf8(report.bytes.clone()).unwrap();
    parse(&report.bytes);
    assert!(text.contains("\r\nFrom: Mail Delivery System <help@src.test>\r\n"), "{text}");
    assert!(text.contains("charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"), "{text}");
    assert!(text.contains("\r\nDésolé.\r\n--=_0\r\nCall us.\r\n\r\n  <b@dst.test>\r\n"), "{text}");
    assert!(!text.contains("could not be delivered"), "{text}");
    // Other reports have our own words.
    let report = write(Kind::Delay { until_ms: 9 }, &envelope, MESSAGE, &[said(&recipients[0], "451 no")]);
    let text = String::from_utf8(report.unwrap().bytes).unwrap();
    assert!(text.contains("attempts go on") && !text.contains("Désolé"), "{text}");
    // An author that the header cannot name is not named.
    envelope.terms.report_from = Some(Address::parse("é@src.test").unwrap());
    let report = write(Kind::Failure, &envelope, MESSAGE, &[said(&recipients[0], "550 no")]).unwrap();
    let text = String::from_utf8(report.bytes).unwrap();
    assert!(text.contains("<MAILER-DAEMON@mail.src.test>\r\n"), "{text}");
}
