//! What becomes of the message itself: odd ones, edits, and the fields that are added to what users submit.

use super::*;

#[test]
fn a_header_of_too_many_fields_hides_nothing() {
    let message = |fields: usize| {
        [b"From: a@b.test\r\n".to_vec(), b"x:\r\n".repeat(fields), b"From: c@d.test\r\n\r\n".to_vec()]
            .concat()
    };
    let said = |fields: usize| {
        let bench = bench("#{ preq: [ rule \"r\" || next() ] }");
        bench.begin();
        bench.rcpt("jane@example.com");
        show_message(&bench.message(&message(fields)))
    };
    assert_eq!(said(vsmtp_mail::MAX_HEADER_FIELDS - 2), "Active 1 recipients 0 pieces");
    assert_eq!(said(vsmtp_mail::MAX_HEADER_FIELDS - 1), "refuse 552");
}

#[test]
fn edits_reach_the_queue() {
    let bench_early = bench(
        "#{ mail: [ action \"a\" || msg::append_header(\"X-Early\", \"1\") ],
            rcpt: [ action \"b\" || { transport::lmtp(ctx::rcpt(), \"unix:/run/l\"); bcc(\"archive@example.net\"); } ] }",
    );
    bench_early.begin();
    bench_early.rcpt("jane@example.com");
    let Stored { envelope, pieces, .. } = only(bench_early.message(MESSAGE));
    let hops: Vec<String> =
        envelope.recipients.iter().map(|r| format!("{}>{}", r.address, r.next_hop)).collect();
    assert_eq!(hops, ["jane@example.com>lmtp:unix:/run/l", "archive@example.net>smtp:example.net"]);
    assert_eq!(envelope.recipients[1].notify, Notify::NEVER);
    let header = b"X-Early: 1\r\nReceived: x\r\nSubject: hi\r\n\r\n".to_vec();
    assert_eq!(pieces, [Piece::Text(header), Piece::Original { offset: 28, len: 6 }]);

    let held = bench("#{ rcpt: [ action \"h\" || queue::hold() ] }");
    held.begin();
    held.rcpt("jane@example.com");
    assert_eq!(only(held.message(MESSAGE)).disposition, Disposition::Hold(String::new()));

    let emptied = bench("#{ preq: [ action \"e\" || for r in ctx::rcpt_list() { envelop::rm_rcpt(r); } ] }");
    emptied.begin();
    emptied.rcpt("jane@example.com");
    assert_eq!(show_message(&emptied.message(MESSAGE)), "refuse 554");
}

#[test]
fn what_users_submit_gets_a_date_and_a_message_id() {
    let submitted = |service, message: &[u8]| {
        let bench = bench("#{}");
        let client = crate::transaction::Peer { service: Some(service), ..peer(Some("192.0.2.5")) };
        *bench.shared.lock() = Transaction::new(Arc::new(client), 10);
        bench.begin();
        assert_eq!(bench.rcpt("jane@example.com"), "accept");
        only(bench.message(message)).pieces
    };
    use vsmtp_mail::Service::{Lmtp, Local, Smtp, Submission, Submissions};
    let id = QueueIdMint::new(1, 1).next(1);
    let added = format!(
        "Received: x\r\nSubject: hi\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <{id}@mx.example.com>\r\n\r\n"
    );
    for service in [Submission, Submissions, Local] {
        let pieces = submitted(service, MESSAGE);
        assert_eq!(pieces[0], Piece::Text(added.clone().into_bytes()), "{service}");
        assert_eq!(submitted(service, b"date: x\r\nMESSAGE-id:\r\n y\r\n\r\n"), []);
    }
    for service in [Smtp, Lmtp] {
        assert_eq!(submitted(service, MESSAGE), [], "{service}");
    }
}

#[test]
fn odd_messages_are_judged_too() {
    let script = "#{ preq: [ action \"a\" || msg::append_header(\"X\", `${msg::count_header(\"S\")}`) ] }";
    for (bytes, header, rest) in [
        (&b""[..], &b"X: 0\r\n"[..], None),
        (b"\r\nbody", b"X: 0\r\n\r\n", Some((2, 4))),
        (b"no field at all", b"no field at allX: 0\r\n", None),
        (b"S: 1\r\n\r\n", b"S: 1\r\nX: 1\r\n\r\n", None),
    ] {
        let bench = bench(script);
        bench.begin();
        bench.rcpt("jane@example.com");
        let pieces = only(bench.message(bytes)).pieces;
        let mut expected = vec![Piece::Text(header.to_vec())];
        expected.extend(rest.map(|(offset, len)| Piece::Original { offset, len }));
        assert_eq!(pieces, expected, "{:?}", String::from_utf8_lossy(bytes));
    }
    let bench = bench(script);
    bench.begin();
    bench.rcpt("jane@example.com");
    let huge = [b"S: ".to_vec(), vec![b'x'; 2 << 20]].concat();
    assert_eq!(show_message(&bench.message(&huge)), "refuse 552");
}
