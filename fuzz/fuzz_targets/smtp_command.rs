//! One command line. What is accepted can be written down again, and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_mail::{BodyType, Domain, Notify, Ret};
use vsmtp_smtp::{Extension, Extensions, HeloName, MailRequest, RcptRequest, Verb, encode_xtext};

fuzz_target!(|line: &[u8]| {
    let Ok((verb, arguments)) = Verb::split(line) else { return };
    assert!(!arguments.chars().any(char::is_control) && !arguments.ends_with(' '));
    let all = Extensions::of(&Extension::ALL);
    match verb {
        Verb::Helo | Verb::Ehlo | Verb::Lhlo => {
            if let Ok(name) = HeloName::parse(arguments) {
                assert!(
                    name.as_str().bytes().all(|b| (b'!'..=b'~').contains(&b) && !b"<>()\"\\".contains(&b))
                );
            }
        }
        Verb::Mail => {
            if let Ok(request) = MailRequest::parse(arguments, all) {
                assert_eq!(MailRequest::parse(&write_mail(&request), all), Ok(request));
            }
            if let Ok(plain) = MailRequest::parse(arguments, Extensions::NONE) {
                assert!(
                    plain.size.is_none() && plain.envid.is_none() && !plain.smtputf8 && plain.ret.is_none()
                );
            }
        }
        Verb::Rcpt => {
            let here = Domain::parse("mx.test").expect("a domain");
            for smtputf8 in [false, true] {
                if let Ok(mut request) = RcptRequest::parse(arguments, all, smtputf8, &here) {
                    assert!(smtputf8 || request.address.local_part().is_ascii());
                    // Encoded again it may take up to three times the octets, and then it is too long.
                    request.original = request.original.filter(|original| original.address.len() < 80);
                    let again = RcptRequest::parse(&write_rcpt(&request), all, smtputf8, &here);
                    assert_eq!(again, Ok(request));
                }
            }
        }
        _ => {}
    }
});

fn write_mail(request: &MailRequest) -> String {
    let mut out = format!("FROM:<{}>", request.reverse_path);
    if let Some(size) = request.size {
        out += &format!(" SIZE={size}");
    }
    match request.body {
        BodyType::SevenBit => {}
        BodyType::EightBitMime => out += " BODY=8BITMIME",
        BodyType::BinaryMime => out += " BODY=BINARYMIME",
    }
    if request.smtputf8 {
        out += " SMTPUTF8";
    }
    match request.ret {
        Some(Ret::Full) => out += " RET=FULL",
        Some(Ret::Headers) => out += " RET=HDRS",
        None => {}
    }
    if let Some(envid) = &request.envid {
        out += &format!(" ENVID={}", encode_xtext(envid));
    }
    out
}

fn write_rcpt(request: &RcptRequest) -> String {
    let mut out = format!("TO:<{}>", request.address);
    if let Some(notify) = request.notify {
        out += &format!(" NOTIFY={}", write_notify(notify));
    }
    if let Some(original) = &request.original {
        // The utf-8 form reads \x{} escapes in what xtext hid; a backslash that is none needs one itself.
        let utf8 = original.kind.eq_ignore_ascii_case("utf-8");
        let address =
            if utf8 { original.address.replace('\\', "\\x{5C}") } else { original.address.to_string() };
        let address = encode_xtext(&address);
        out += &format!(" ORCPT={};{address}", original.kind);
    }
    out
}

fn write_notify(notify: Notify) -> String {
    let words = [("SUCCESS", notify.success), ("FAILURE", notify.failure), ("DELAY", notify.delay)];
    let words: Vec<&str> = words.iter().filter(|(_, on)| *on).map(|(word, _)| *word).collect();
    if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
}
