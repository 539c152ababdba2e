//! Text that rules append to what messages show, as another program reads the result: Python's email package.

use std::fs;

use vsmtp_tests::{Client, Sink, needs_programs, python, said, wait_until};

use crate::start;

const TEXT: &str = "Confidentialit\u{e9} assur\u{e9}e";
const HTML: &str = "<p>5 &euro;</p>";

/// Says how one message differs from another, if not as it should.
const READER: &str = r#"
import email, email.policy, sys
read = lambda path: email.message_from_bytes(open(path, 'rb').read(), policy=email.policy.default)
old, new = read(sys.argv[1]), read(sys.argv[2])
lines = lambda part: part.get_content().replace('\r\n', '\n')
wanted = dict(zip(sys.argv[3::2], sys.argv[4::2]))
pairs = list(zip(old.walk(), new.walk(), strict=True))
for one, other in pairs:
    assert not other.defects, other.defects
    added = wanted.get(one.get_content_type())
    if added is not None and one.get_content_disposition() != 'attachment':
        del wanted[one.get_content_type()]
        text = lines(one)
        head, end, tail = text.rpartition('</body>') if '</body>' in text else (text, '', '')
        if not end and not head.endswith('\n'): head += '\n'
        expected = head + added + '\n' + end + tail
        assert lines(other).rstrip('\n') == expected.rstrip('\n'), (lines(other), expected)
    elif not one.is_multipart():
        same = one.get_payload(decode=True).strip() == other.get_payload(decode=True).strip()
        assert same and one.get_content_type() == other.get_content_type(), other.get_content_type()
assert not wanted, wanted
"#;

fn rules() -> String {
    format!(
        r##"#{{
            preq: [ action "text" || {{
                msg::append_header("X-Text", mime::append_text("{TEXT}").to_string());
            }} ],
            postq: [ action "html" || {{
                msg::append_header("X-Html", mime::append_html("{HTML}").to_string());
            }} ],
        }}"##
    )
}

fn typed(kind: &str, coding: &str, body: &str) -> String {
    format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {coding}\r\n\r\n{body}\r\n")
}

/// Messages, and what they get: text, HTML.
fn messages() -> Vec<(String, bool, bool)> {
    let plain = typed("text/plain; charset=iso-8859-1", "quoted-printable", "caf=E9, and a long =\r\nline");
    let html = typed("text/html; charset=us-ascii", "7bit", "<html><body>hello</body></html>");
    let both = format!(
        "Content-Type: multipart/alternative; boundary=\"a b\"\r\n\r\n--a b\r\n{plain}\r\n--a b\r\n{html}\r\n--a b--\r\n"
    );
    let large = "QUJD".repeat(18) + "\r\n";
    let file = format!(
        "Content-Disposition: attachment; filename=x.bin\r\n{}",
        typed("application/octet-stream", "base64", &large.repeat(20_000))
    );
    let mixed =
        format!("Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n{both}\r\n--m\r\n{file}--m--\r\n");
    let signed = format!(
        "Content-Type: multipart/signed; boundary=s; protocol=\"application/pgp-signature\"; micalg=pgp-sha256\r\n\r\n\
         --s\r\n{plain}--s\r\n{}--s--\r\n",
        typed("application/pgp-signature", "7bit", "x")
    );
    vec![
        ("Subject: x\r\n\r\nplain = ASCII\r\n".to_owned(), true, false),
        (plain.clone(), true, false),
        (typed("text/plain; charset=utf-8", "base64", "w6kgdGV4dA=="), true, false),
        (typed("text/html; charset=utf-8", "base64", "PHA+w6k8L3A+"), false, true),
        (both, true, true),
        (mixed, true, true),
        (signed, false, false),
        (typed("text/plain; charset=koi8-r", "base64", "8A=="), false, false),
        (typed("text/plain; charset=utf-16le", "base64", "YQBiAA=="), false, false),
    ]
}

#[test]
fn appended_text_is_read_by_others_as_it_was_meant() {
    if !needs_programs("appended_text_is_read_by_others_as_it_was_meant", &["python3"]) {
        return;
    }
    let (sink, folder) = (Sink::start(), tempfile::tempdir().unwrap());
    let mta = start(&rules(), &sink);
    for (number, (message, text, html)) in messages().into_iter().enumerate() {
        let message = format!("MIME-Version: 1.0\r\n{message}");
        let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test"], &message);
        assert_eq!(reply.code(), 250, "{reply:?} {}", mta.log());
        wait_until("it has arrived", || sink.count() > number);
        let octets = sink.messages()[number].octets.clone();
        let got = String::from_utf8_lossy(&octets);
        assert!(got.contains(&format!("X-Text: {text}\r\n")), "{number}: {got}");
        assert!(got.contains(&format!("X-Html: {html}\r\n")), "{number}: {got}");
        let (before, after) = (folder.path().join("before"), folder.path().join("after"));
        // The client ends a message with a line end of its own.
        fs::write(&before, format!("{message}\r\n")).unwrap();
        fs::write(&after, &octets).unwrap();
        let mut arguments = vec![before.to_str().unwrap(), after.to_str().unwrap()];
        arguments.extend(
            [(text, "text/plain", TEXT), (html, "text/html", HTML)]
                .into_iter()
                .flat_map(|(is_added, kind, added)| if is_added { vec![kind, added] } else { Vec::new() }),
        );
        said(&python(READER, &arguments));
    }
    assert!(!mta.log().contains("event=script-failed"), "{}", mta.log());
}
