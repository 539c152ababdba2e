//! Delivery reports about hostile mail. The input is a kind and texts between NULs: the message, what the next hop said,
//! its name, ENVID, ORCPT. Nothing of it ends a field, a part or the report.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::Fields;
use vsmtp_ipc::wire;
use vsmtp_mail::{
    Address, BodyType, Domain, EnhancedCode, Envelope, NextHop, Notify, QueueId, Recipient, RecipientClass,
    Ret, ReversePath, header_end,
};
use vsmtp_queue_manager::bounce::{Kind, Original, Report, Reported, Reporter, Stamp};

fuzz_target!(|input: &[u8]| {
    let mut fields = Fields(input);
    let options = fields.octet();
    let start = fields.until_nul();
    let (text, remote, envid) = (fields.text(), fields.text(), fields.text());
    let original = (fields.text(), fields.text());
    let recipient = Recipient {
        chosen: false,
        address: Address::parse(if options & 1 != 0 { "ü@b.test" } else { "r@b.test" }).expect("an address"),
        original: wire::original_recipient(&original).ok(),
        notify: Notify { success: true, failure: true, delay: true, stated: true },
        class: RecipientClass::Relay,
        next_hop: NextHop::parse("smtp:b.test").expect("a next hop"),
    };
    let envelope = Envelope {
        reverse_path: ReversePath::parse("s@a.test").expect("an address"),
        body: BodyType::EightBitMime,
        smtputf8: options & 2 != 0,
        ret: if options & 4 != 0 { Some(Ret::Headers) } else { None },
        envid: wire::envid(Some(&envid)).ok().flatten(),
        demands: vsmtp_mail::Demands { requiretls: options & 64 != 0 },
        terms: vsmtp_mail::Terms::default(),
        recipients: vec![recipient],
    };
    let kind = match options >> 4 & 3 {
        0 => Kind::Failure,
        1 => Kind::Delay { until_ms: 1_700_000_600_000 },
        2 if options & 128 != 0 => Kind::Expansion,
        2 => Kind::Success,
        _ => Kind::DoubleBounce,
    };
    let whole = options & 8 == 0;
    let message = Original {
        id: QueueId::from_bytes([7; 16]),
        envelope: &envelope,
        arrived_ms: 1_700_000_000_000,
        size: start.len() as u64 + u64::from(!whole),
        start,
    };
    let one = Reported {
        recipient: &envelope.recipients[0],
        status: EnhancedCode(5, 1, 1),
        text: &text,
        remote: &remote,
        at_ms: 1_700_000_300_000,
    };
    let to = Address::parse("s@a.test").expect("an address");
    let targets = [(to.clone(), NextHop::parse("smtp:a.test").expect("a next hop"))];
    let reporter = Reporter { name: Domain::parse("mx.test").expect("a domain"), max_return: 2000 };
    let stamp = Stamp { id: QueueId::from_bytes([8; 16]), now_ms: 1_700_000_400_000, random: 7 };
    let report = reporter.report(kind, &message, &[one, one], &to, &targets, stamp);
    check(&report.expect("a report is wanted and can be sent"));
});

fn check(report: &Report) {
    assert_eq!(report.envelope.reverse_path, ReversePath::Null);
    let bytes = &report.bytes;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    assert!(lines.iter().all(|line| line.ends_with(b"\r\n")), "a lone LF");
    assert!(lines.iter().all(|line| !line[..line.len() - 2].contains(&b'\r')), "a lone CR");
    let header = String::from_utf8_lossy(&bytes[..header_end(bytes)]).into_owned();
    let boundary =
        header.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a boundary");
    let mark = format!("--{boundary}");
    let starts: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with(mark.as_bytes())).collect();
    let [_, status, returned, end] = starts[..] else { panic!("{} borders instead of 4", starts.len()) };
    assert_eq!((end, lines[end]), (lines.len() - 1, format!("{mark}--\r\n").as_bytes()));
    check_status(&lines[status + 1..returned - 1]);
}

/// The part for machines: its own header, one group for the message and one for each of two recipients.
fn check_status(lines: &[&[u8]]) {
    let groups: Vec<&[&[u8]]> = lines.split(|line| *line == b"\r\n").collect();
    let [_, message, one, other] = groups[..] else { panic!("{} groups instead of 4", groups.len()) };
    assert_eq!(one, other);
    for (group, allowed) in [
        (message, &["Reporting-MTA", "Original-Envelope-Id", "X-vSMTP-Queue-ID", "Arrival-Date"][..]),
        (
            one,
            &[
                "Original-Recipient",
                "Final-Recipient",
                "Action",
                "Status",
                "Remote-MTA",
                "Diagnostic-Code",
                "Last-Attempt-Date",
                "Will-Retry-Until",
            ][..],
        ),
    ] {
        let mut names: Vec<&str> = Vec::new();
        for line in group {
            assert!(line.len() <= 1000, "a line that SMTP does not carry");
            assert!(!line[..line.len() - 2].iter().any(|b| b.is_ascii_control() && *b != b'\t'), "{line:?}");
            if line[0] == b' ' || line[0] == b'\t' {
                assert!(!names.is_empty());
                continue;
            }
            let text = std::str::from_utf8(line).expect("text");
            names.push(text.split_once(':').expect("a field").0);
        }
        assert!(names.iter().all(|name| allowed.contains(name)), "{names:?}");
        assert!((1..names.len()).all(|at| !names[..at].contains(&names[at])), "a field twice: {names:?}");
    }
}
