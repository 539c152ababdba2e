//! Our accounts at next hops: who gets our credentials, and who does not.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use vsmtp_config::TlsPolicy;
use vsmtp_ipc::edge::queue_deliver::Result3;

use crate::harness::{Deliver, attempt, inline, results, start};
use crate::peer::Peer;
use crate::tls_peer::{Authority, Identity, OFFERS};

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";
const TO: &[&str] = &["b@dst.test"];
/// `\0jane\0secret` in base64.
const PLAIN: &str = "AGphbmUAc2VjcmV0";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    file
}

/// A process with this account at the peer.
fn with(account: &str, level: &str, authority: &Authority) -> (Deliver, [tempfile::NamedTempFile; 2]) {
    let files = [file(&authority.pem), file(account)];
    let path = |at: usize| Some(files[at].path().to_str().unwrap().to_owned());
    let deliver = start(|slice| {
        slice.tls.level = TlsPolicy::parse(level).unwrap().into();
        (slice.tls.ca_file, slice.credentials_file) = (path(0), path(1));
    });
    (deliver, files)
}

fn account(peer: &Peer, words: &str) -> String {
    format!("[127.0.0.1]:{} {words}jane:secret\n", peer.port())
}

/// The second EHLO, with AUTH behind it.
fn secure(peer: &Peer, identity: &Identity, auth: &str) -> crate::peer::Talk {
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n");
    identity.wrap(&mut talk);
    talk.hear_say("EHLO us.test", &format!("250-peer.test\r\n250 {auth}\r\n"));
    talk
}

#[test]
fn a_server_that_proved_itself_learns_who_we_are_once_per_connection() {
    let (authority, peer) = (Authority::new(), Peer::new());
    let (mut deliver, _files) = with(&account(&peer, ""), "may", &authority);
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = secure(&peer, &authority.identity(&["127.0.0.1"]), "AUTH LOGIN PLAIN");
    talk.hear_say(&format!("AUTH PLAIN {PLAIN}"), "235 2.7.0 welcome\r\n");
    talk.take_message("250 ok\r\n");
    assert!(deliver.outcome().tls.starts_with("verified"));
    deliver.lease(&attempt(2, &peer.next_hop(), TO, inline(MESSAGE)));
    talk.take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().lease, 2);
    let log = deliver.log();
    assert!(!log.contains("secret") && !log.contains(PLAIN), "{log}");
}

#[test]
fn a_stranger_learns_nothing_unless_the_operator_says_so() {
    let (authority, stranger, peer) = (Authority::new(), Authority::new(), Peer::new());
    let identity = stranger.identity(&["127.0.0.1"]);
    // The level is may: without an account the stranger would get the message.
    let (mut deliver, _files) = with(&account(&peer, ""), "may", &authority);
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n");
    identity.wrap(&mut talk);
    assert!(talk.ended());
    assert_eq!(results(&deliver.outcome())[0], (Result3::Deferred, (4, 7, 5)));
    // One without TLS neither.
    deliver.lease(&attempt(2, &peer.next_hop(), TO, inline(MESSAGE)));
    peer.accept().greet("250-peer.test\r\n250 AUTH PLAIN\r\n");
    assert_eq!(results(&deliver.outcome())[0], (Result3::Deferred, (4, 7, 4)));
    let (mut deliver, _files) = with(&account(&peer, "unverified "), "may", &authority);
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = secure(&peer, &identity, "AUTH PLAIN");
    talk.hear_say(&format!("AUTH PLAIN {PLAIN}"), "235 ok\r\n");
    talk.take_message("250 ok\r\n");
    assert_eq!(results(&deliver.outcome())[0].0, Result3::Delivered);
}

#[test]
fn a_refusal_of_our_credentials_fails_nobodys_mail() {
    let (authority, peer) = (Authority::new(), Peer::new());
    let (mut deliver, _files) = with(&account(&peer, ""), "verify", &authority);
    let identity = authority.identity(&["127.0.0.1"]);
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = secure(&peer, &identity, "AUTH PLAIN");
    talk.hear_say("AUTH PLAIN", &format!("535 5.7.8 {PLAIN} is wrong\r\n"));
    let outcome = deliver.outcome();
    assert_eq!(results(&outcome)[0], (Result3::Deferred, (4, 7, 8)));
    assert!(outcome.settled[0].text.contains("535 5.7.8") && !outcome.settled[0].text.contains(PLAIN));
    // A server that is satisfied before it has proved that it knows our password.
    deliver.lease(&attempt(2, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = secure(&peer, &identity, "AUTH PLAIN SCRAM-SHA-256");
    talk.hear_say("AUTH SCRAM-SHA-256 ", "235 2.7.0 fine\r\n");
    assert!(talk.ended());
    assert_eq!(results(&deliver.outcome())[0], (Result3::Deferred, (4, 7, 8)));
    assert!(!deliver.log().contains(PLAIN));
}
