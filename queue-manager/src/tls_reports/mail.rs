//! One report as a message (RFC 8460 5.3), and where it goes. Pure: the clock and the boundary's randomness are handed in.

use std::io::{self, Write};

use data_encoding::BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use vsmtp_mail::{Address, Domain, QueueId, Rfc5322Date};

use super::tally::{DAY_MS, Sheet};
use super::words;

/// Octets of base64 in one line (RFC 2045 6.8).
const LINE: usize = 76;

/// Who reports.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// This host; the submitter of reports.
    pub name: Domain,
    /// The sender.
    pub from: Address,
    /// In words.
    pub organization: String,
    /// Who can be asked.
    pub contact: Address,
}

/// What one report is about, and made with.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its own id.
    pub id: QueueId,
    /// Since 1970.
    pub day: u64,
    /// The mail domain.
    pub domain: &'a str,
    /// What was counted.
    pub sheet: &'a Sheet,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
    /// For the boundary.
    pub random: u128,
}

impl Reporter {
    /// The report itself, compressed.
    ///
    /// # Errors
    /// Never with memory to write to; what the compressor says is passed on.
    pub fn packed(&self, subject: Subject<'_>) -> io::Result<Vec<u8>> {
        let report_id = format!("{}@{}", subject.id, self.name);
        compressed(&self.document(subject, &report_id))
    }

    /// The message with a report in it.
    pub fn message(&self, subject: Subject<'_>, packed: &[u8], to: &[Address]) -> Vec<u8> {
        let Subject { id, day, domain, now_ms, random, .. } = subject;
        let (begin, end) = (day * DAY_MS / 1000, (day + 1) * DAY_MS / 1000 - 1);
        let (name, from) = (&self.name, &self.from);
        let report_id = format!("{id}@{name}");
        let (boundary, file) =
            (format!("{random:032x}"), format!("{name}!{domain}!{begin}!{end}!{id}.json.gz"));
        let to = to.iter().map(Address::to_string).collect::<Vec<_>>().join(",\r\n    ");
        let date = Rfc5322Date(now_ms / 1000);
        let span = (Rfc5322Date(begin).rfc3339(), Rfc5322Date(end).rfc3339());
        let mut out = format!(
            "From: {from}\r\nTo: {to}\r\nDate: {date}\r\nMessage-ID: <{report_id}>\r\n\
             Subject: Report Domain: {domain}\r\n    Submitter: {name}\r\n    Report-ID: <{report_id}>\r\n\
             MIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\n\
             TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {name}\r\nTLS-Required: No\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n    boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
             This is a report about TLS from {name} to servers of\r\n{domain}, as RFC 8460 describes it,\r\n\
             from {} to {}.\r\n\r\n\
             --{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n    filename=\"{file}\"\r\n\r\n",
            span.0, span.1,
        )
        .into_bytes();
        let body = BASE64.encode(packed);
        for line in body.as_bytes().chunks(LINE) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        out
    }

    fn document(&self, subject: Subject<'_>, report_id: &str) -> Vec<u8> {
        let begin = subject.day * DAY_MS / 1000;
        let end = begin + DAY_MS / 1000 - 1;
        let policies: Vec<_> = subject.sheet.policies.iter().map(words::policy).collect();
        json!({
            "organization-name": self.organization,
            "date-range": {
                "start-datetime": Rfc5322Date(begin).rfc3339(),
                "end-datetime": Rfc5322Date(end).rfc3339(),
            },
            "contact-info": self.contact.to_string(),
            "report-id": report_id,
            "policies": policies,
        })
        .to_string()
        .into_bytes()
    }
}

fn compressed(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text)?;
    encoder.finish()
}

/// The places of the web.
pub fn urls(rua: &[String]) -> impl Iterator<Item = &String> {
    rua.iter().filter(|uri| uri.starts_with("https:"))
}

/// The addresses of `mailto:` places (RFC 6068). What can only be written in UTF-8 gets no report.
pub fn addresses(rua: &[String]) -> Vec<Address> {
    let address = |uri: &String| {
        let rest = uri.strip_prefix("mailto:")?;
        let text = decoded(rest.split('?').next().unwrap_or_default())?;
        Address::parse(&text).ok().filter(|address| !address.needs_smtputf8())
    };
    let mut found: Vec<Address> = rua.iter().filter_map(address).collect();
    found.sort();
    found.dedup();
    found
}

/// Without the percent signs of a URI.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        octets.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use vsmtp_ipc::edge::queue_deliver::TlsResult;

    use super::super::tally::{Tally, tests::sessions};
    use super::*;

    fn reporter() -> Reporter {
        Reporter {
            name: Domain::parse("mail.src.test").unwrap(),
            from: Address::parse("tls-reports@src.test").unwrap(),
            organization: "Source \"Ltd\"".to_owned(),
            contact: Address::parse("postmaster@src.test").unwrap(),
        }
    }

    #[test]
    fn a_report_is_a_message_that_machines_can_read() {
        let mut tally = Tally::default();
        tally.add(20_000, &sessions("dst.test", None, 3));
        tally.add(20_000, &sessions("dst.test", Some(TlsResult::CertificateExpired), 2));
        let (day, domain, sheet) = tally.sheets().next().unwrap();
        let id = QueueId::from_bytes([7; 16]);
        let subject = Subject { id, day, domain, sheet, now_ms: 20_001 * DAY_MS, random: 9 };
        let to = [Address::parse("reports@dst.test").unwrap()];
        let packed = reporter().packed(subject).unwrap();
        let message = String::from_utf8(reporter().message(subject, &packed, &to)).unwrap();
        for line in [
            "From: tls-reports@src.test\r\n",
            "To: reports@dst.test\r\n",
            "TLS-Report-Domain: dst.test\r\n",
            "TLS-Report-Submitter: mail.src.test\r\n",
            "TLS-Required: No\r\n",
            "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n",
            "Content-Type: application/tlsrpt+gzip\r\n",
            &format!("filename=\"mail.src.test!dst.test!1728000000!1728086399!{id}.json.gz\"\r\n"),
        ] {
            assert!(message.contains(line), "{line} in {message}");
        }
        assert!(message.lines().all(|line| line.len() <= 998 && line.is_ascii()));
        let encoded = message.split("gz\"\r\n\r\n").nth(1).unwrap().split("\r\n\r\n").next().unwrap();
        assert_eq!(BASE64.decode(encoded.replace("\r\n", "").as_bytes()).unwrap(), packed);
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["organization-name"], "Source \"Ltd\"");
        assert_eq!(document["date-range"]["start-datetime"], "2024-10-04T00:00:00Z");
        assert_eq!(document["date-range"]["end-datetime"], "2024-10-04T23:59:59Z");
        assert_eq!(document["contact-info"], "postmaster@src.test");
        assert_eq!(document["report-id"], format!("{id}@mail.src.test"));
        assert_eq!(document["policies"][0]["summary"]["total-successful-session-count"], 3);
        assert_eq!(document["policies"][0]["failure-details"][0]["failed-session-count"], 2);
    }

    #[test]
    fn places_are_addresses_as_far_as_mail_goes_there() {
        let of = |rua: &[&str]| {
            let rua: Vec<String> = rua.iter().map(|uri| (*uri).to_owned()).collect();
            addresses(&rua).iter().map(Address::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&["mailto:a%2Bb@dst.test?subject=x", "https://dst.test/", "mailto:c@dst.test"]),
            ["a+b@dst.test", "c@dst.test"]
        );
        for bad in ["mailto:", "mailto:a@b%", "mailto:a%zz@dst.test", "mailto:a%0d%0a@dst.test", "mailto:x"] {
            assert!(of(&[bad]).is_empty(), "{bad}");
        }
    }
}
