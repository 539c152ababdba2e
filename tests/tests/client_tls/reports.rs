//! TLSRPT through the whole MTA: a day of sessions, a restart, and the report in the mailbox that the domain has named.

use std::path::PathBuf;

use vsmtp_tests::{Client, Mta, PLAIN, SIGNED, Settings, Unbound, needs_programs, needs_root, run, said};
use vsmtp_tests::{python, wait_until};

use crate::Certificates;

/// Takes the document out of a report: standard input has the message.
const UNPACK: &str = "
import email, email.policy, gzip, sys
message = email.message_from_file(open(sys.argv[1]), policy=email.policy.default)
assert message.get_content_type() == 'multipart/report' and message.get_param('report-type') == 'tlsrpt'
part = [part for part in message.walk() if part.get_content_type() == 'application/tlsrpt+gzip'][0]
print(gzip.decompress(part.get_content()).decode())
";

fn send(mta: &Mta, to: &str) {
    let mut client = Client::hello(mta.port());
    let rcpt = format!("RCPT TO:<b@{to}>");
    for (line, code) in [("MAIL FROM:<a@src.example>", 250), (rcpt.as_str(), 250), ("DATA", 354)] {
        assert_eq!(client.say(line).code(), code, "{line}");
    }
    client.send(b"From: a@src.example\r\nSubject: x\r\n\r\nbody\r\n");
    assert_eq!(client.say(".").code(), 250);
}

#[test]
fn a_domain_is_told_the_day_after_how_its_sessions_went() {
    let test = "a_domain_is_told_the_day_after_how_its_sessions_went";
    let programs = ["postfix", "postcat", "openssl", "unbound", "ldns-keygen", "ldns-signzone", "python3"];
    if !needs_programs(test, &programs) || !needs_root(test) {
        return;
    }
    let certificates = Certificates::for_names("DNS:elsewhere.example");
    let postfix = certificates.postfix("smtpd_tls_security_level = may");
    let (good, bad) = (format!("good.{PLAIN}"), format!("bad.{SIGNED}"));
    let host = |domain: &str| {
        format!(
            "{domain}. 60 IN MX 1 mx.{domain}.\nmx.{domain}. 60 IN A 127.0.0.1\n\
             _smtp._tls.{domain}. 60 IN TXT \"v=TLSRPTv1; rua=mailto:reports@local.test\"\n"
        )
    };
    let record = format!("_{}._tcp.mx.{bad}. 60 IN TLSA 3 1 1 {}\n", postfix.port(), "ab".repeat(32));
    let dns = Unbound::start(&format!("{}{record}", host(&bad)), &host(&good), &[]);
    let rows = [&good, &bad].map(|name| format!("\"{name}\": \"{name}:{}\"", postfix.port())).join(", ");
    let config = format!(
        "{}config.delivery.tls.level = \"dane\"; config.delivery.transport = #{{ {rows} }};\n\
         config.delivery.tls.reports.from = \"tls-reports@local.test\";\n",
        dns.config()
    );
    let mut mta = Mta::start(&Settings { config, ..Settings::default() });
    send(&mta, &good);
    wait_until("the mail is delivered", || mta.log().contains("event=delivered"));
    send(&mta, &bad);
    wait_until("the mail is deferred", || mta.log().contains("event=deferred"));
    let told = told_the_day_after(&mut mta, 2);
    let row = |domain: &str, kind: &str, good, bad, why: &str| {
        (domain.to_owned(), kind.to_owned(), good, bad, why.to_owned())
    };
    let expected = [row(&bad, "tlsa", 0, 1, "validation-failure"), row(&good, "no-policy-found", 1, 0, "")];
    assert_eq!(told, expected);
}

/// What a report says of one policy: domain, kind of policy, sessions that went well and that did not, and why not.
pub type Told = (String, String, u64, u64, String);

/// Has a day pass while the MTA does not run, and waits for so many reports; what they say, in order.
pub fn told_the_day_after(mta: &mut Mta, count: usize) -> Vec<Told> {
    mta.stop();

    // The day passes.
    let kept: PathBuf = mta.root().join("var/spool/vsmtp/queue/tls-reports.json");
    let text = std::fs::read_to_string(&kept).expect("the counts are kept");
    let mut counts: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for sheet in counts["sheets"].as_array_mut().expect("sheets") {
        let day = sheet["day"].as_u64().expect("a day");
        sheet["day"] = (day - 2).into();
    }
    std::fs::write(&kept, counts.to_string()).expect("write the counts");
    mta.launch();

    let mails = mta.wait_for_mail("local.test", "reports", count);
    wait_until("all are logged", || mta.log().matches("event=tls-report ").count() == count);
    let mut told: Vec<Told> = Vec::new();
    for (at, mail) in mails.iter().enumerate() {
        assert!(mail.contains("TLS-Report-Submitter: mx.local.test") && mail.contains("TLS-Required: No"));
        let path = mta.root().join(format!("report.{at}"));
        std::fs::write(&path, mail).expect("write the report");
        let document = said(&python(UNPACK, &[path.to_str().expect("a plain path")]));
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        for policy in document["policies"].as_array().expect("policies") {
            let count = |name: &str| policy["summary"][name].as_u64().expect("a count");
            let result = &policy["failure-details"][0]["result-type"];
            told.push((
                policy["policy"]["policy-domain"].as_str().unwrap_or_default().to_owned(),
                policy["policy"]["policy-type"].as_str().unwrap_or_default().to_owned(),
                count("total-successful-session-count"),
                count("total-failure-session-count"),
                result.as_str().unwrap_or_default().to_owned(),
            ));
        }
    }
    assert!(
        said(&run("ls", &[kept.parent().expect("a folder")])).lines().all(|name| name != "tls-reports.new")
    );
    told.sort();
    told
}
