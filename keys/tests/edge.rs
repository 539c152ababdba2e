//! The key holder's binary, jailed as ever, between a scripted master and scripted receivers.
#![forbid(unsafe_code)]

use std::io::Write;
use std::os::fd::OwnedFd;

use rustls::pki_types::CertificateDer;
use vsmtp_config::{KeyPair, KeysSlice};
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
use vsmtp_ipc::edge::receiver_keys::{Answer, Ask, Certificate, ReceiverEnd, Secret};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId, Flushed, encode};
use vsmtp_stage::{Process, configure, next, say};

const ECDSA_P256: u16 = 0x0403;
const RSA_PSS: u16 = 0x0804;

struct Stage {
    process: Process,
}

/// A certificate and its key, in PEM.
type Pair = (String, String);

fn pair(name: &str) -> Pair {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn slice(domains: &[Option<&str>]) -> KeysSlice {
    let pair = |domain: &Option<&str>| KeyPair {
        certificate: "/c.pem".to_owned(),
        private_key: "/k.pem".to_owned(),
        domain: domain.map(str::to_owned),
    };
    KeysSlice { pairs: domains.iter().map(pair).collect(), mail_keys: Vec::new(), client_ca: None }
}

fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.into()
}

/// What a server of TLS 1.3 signs.
fn handshake() -> Vec<u8> {
    [&[0x20; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat()
}

impl Stage {
    fn start(slice: &KeysSlice, pairs: &[&Pair]) -> Stage {
        let configure = configure(Role::Keys, encode(slice).unwrap());
        let process = Process::start(env!("CARGO_BIN_EXE_vsmtp-keys"), &[], configure);
        let mut stage = Stage { process };
        stage.hand_over(pairs);
        stage
    }

    fn ready(slice: &KeysSlice, pairs: &[&Pair]) -> Stage {
        let mut stage = Stage::start(slice, pairs);
        assert!(matches!(
            stage.process.hear_master(|said| matches!(said, ToMaster::Ready | ToMaster::Fatal(_))),
            ToMaster::Ready
        ));
        stage
    }

    fn hand_over(&mut self, pairs: &[&Pair]) {
        for (certificate, key) in pairs {
            self.process.tell(&ToChild::File("/c.pem".to_owned()), vec![file(certificate)]);
            self.process.tell(&ToChild::File("/k.pem".to_owned()), vec![file(key)]);
        }
    }

    fn reload(&mut self, slice: &KeysSlice, pairs: &[&Pair]) {
        self.process.tell(&ToChild::Reconfigure(encode(slice).unwrap()), Vec::new());
        self.hand_over(pairs);
    }

    /// Introduces a receiver, which hears at once what there is.
    fn receiver(&mut self, instance: u32) -> Receiver {
        let ours = self.process.introduce(ProcessName { role: Role::Receiver, instance });
        let mut receiver = Receiver(ReceiverEnd::new(ours, EdgeId::ReceiverKeys));
        // Our own hello.
        assert_eq!(receiver.0.flush().unwrap(), Flushed::All);
        receiver
    }
}

struct Receiver(ReceiverEnd);

impl Receiver {
    fn certificates(&mut self) -> Vec<Certificate> {
        match next(&mut self.0).unwrap().message {
            Answer::Certificates { certificates, .. } => certificates,
            other => panic!("{other:?}"),
        }
    }

    fn secrets(&mut self) -> Vec<Secret> {
        match next(&mut self.0).unwrap().message {
            Answer::Tickets(secrets) => secrets,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, key: u32, scheme: u16, message: Vec<u8>) {
        say(&mut self.0, &Ask::Sign { ticket: 5, key, scheme, message }, Vec::new());
    }

    fn sign(&mut self, key: u32, message: Vec<u8>) -> Option<Vec<u8>> {
        self.ask(key, ECDSA_P256, message);
        match next(&mut self.0).unwrap().message {
            Answer::Signed { ticket: 5, signature } => signature,
            other => panic!("{other:?}"),
        }
    }

    fn is_dropped(&mut self) -> bool {
        matches!(next(&mut self.0), Err(ChannelError::Closed))
    }
}

fn verifies(certificate: &Certificate, message: &[u8], signature: &[u8]) -> bool {
    let der = CertificateDer::from_slice(&certificate.chain[0]);
    let certificate = webpki::EndEntityCert::try_from(&der).unwrap();
    certificate.verify_signature(webpki::aws_lc_rs::ECDSA_P256_SHA256, message, signature).is_ok()
}

#[test]
fn certificates_and_secrets_come_first_and_a_handshake_is_signed() {
    let (own, other) = (pair("mx.test"), pair("a.test"));
    let mut stage = Stage::ready(&slice(&[None, Some("a.test")]), &[&own, &other]);
    let mut receiver = stage.receiver(0);
    let certificates = receiver.certificates();
    let told: Vec<_> =
        certificates.iter().map(|c| (c.names.clone(), c.is_default, c.schemes.clone())).collect();
    assert_eq!(
        told,
        [
            (vec!["mx.test".to_owned()], true, vec![ECDSA_P256]),
            (vec!["a.test".to_owned()], false, vec![ECDSA_P256])
        ]
    );
    let secrets = receiver.secrets();
    assert_eq!(secrets.len(), 1);
    for certificate in &certificates {
        let signature = receiver.sign(certificate.key, handshake()).unwrap();
        assert!(verifies(certificate, &handshake(), &signature));
    }
    assert_eq!(receiver.sign(99, handshake()), None, "no such key");
    let mut second = stage.receiver(1);
    assert_eq!((second.certificates(), second.secrets()), (certificates, secrets), "all are told the same");
    assert!(!stage.process.log().contains("PRIVATE"));
}

#[test]
fn whoever_wants_anything_else_signed_loses_its_edge_and_the_master_hears_of_it() {
    let own = pair("mx.test");
    let mut stage = Stage::ready(&slice(&[None]), &[&own]);
    for (instance, (scheme, message)) in [
        (ECDSA_P256, b"from:a@b; dkim-signature:v=1".to_vec()),
        (ECDSA_P256, vec![0x20; 1000]),
        (RSA_PSS, handshake()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut receiver = stage.receiver(instance as u32);
        let key = receiver.certificates()[0].key;
        receiver.secrets();
        receiver.ask(key, scheme, message);
        let mut other = stage.receiver(100 + instance as u32);
        other.certificates();
        other.secrets();
        assert!(other.sign(key, handshake()).is_some(), "others are served");
        let accused = stage.process.hear_master(|said| matches!(said, ToMaster::Misbehaved(_)));
        assert!(matches!(accused, ToMaster::Misbehaved(name) if name.instance == instance as u32));
        assert!(receiver.is_dropped());
    }
}

#[test]
fn a_bad_pair_ends_the_start_and_names_the_file() {
    let (own, other) = (pair("mx.test"), pair("a.test"));
    let mixed = (own.0.clone(), other.1.clone());
    let mut stage = Stage::start(&slice(&[None]), &[&mixed]);
    match stage.process.hear_master(|said| matches!(said, ToMaster::Ready | ToMaster::Fatal(_))) {
        ToMaster::Fatal(text) => {
            assert_eq!(text, "/k.pem: does not belong to the certificate in /c.pem");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn new_files_are_told_to_all_and_handshakes_that_began_before_still_end() {
    let (old, new) = (pair("mx.test"), pair("mx.test"));
    let mut stage = Stage::ready(&slice(&[None]), &[&old]);
    let mut receiver = stage.receiver(0);
    let before = receiver.certificates();
    receiver.secrets();
    stage.reload(&slice(&[None]), &[&new]);
    let after = receiver.certificates();
    assert_ne!(before[0].chain, after[0].chain);
    assert_ne!(before[0].key, after[0].key);
    for certificate in [&before[0], &after[0]] {
        let signature = receiver.sign(certificate.key, handshake()).unwrap();
        assert!(verifies(certificate, &handshake(), &signature));
    }
    stage.reload(&slice(&[None]), &[&new]);
    receiver.certificates();
    assert_eq!(receiver.sign(before[0].key, handshake()), None, "two changes later the key is gone");
}

#[test]
fn bad_new_files_change_nothing() {
    let (old, other) = (pair("mx.test"), pair("mx.test"));
    let mut stage = Stage::ready(&slice(&[None]), &[&old]);
    let mut receiver = stage.receiver(0);
    let before = receiver.certificates();
    receiver.secrets();
    stage.reload(&slice(&[None]), &[&(old.0.clone(), other.1.clone())]);
    assert!(receiver.sign(before[0].key, handshake()).is_some());
    let mut late = stage.receiver(1);
    assert_eq!(late.certificates(), before);
    stage.process.logged("event=certificates-refused");
}
