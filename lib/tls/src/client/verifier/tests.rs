//! Certificates made on the spot, judged by each proof.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::client::danger::ServerCertVerifier as _;

use super::*;
use crate::client::TlsFault;

/// A day in 2027, within every certificate's time but those that are old on purpose.
const NOW: u64 = 1_800_000_000;

struct Made {
    key: KeyPair,
    params: CertificateParams,
    der: CertificateDer<'static>,
}

impl Made {
    fn authority(name: &str) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name));
        let der = params.self_signed(&key).unwrap().into();
        Made { key, params, der }
    }

    fn authority_below(&self, name: &str) -> Self {
        self.sign(authority(name))
    }

    fn server(&self, names: &[&str]) -> Self {
        self.sign(CertificateParams::new(owned(names)).unwrap())
    }

    fn old_server(&self, names: &[&str]) -> Self {
        let mut params = CertificateParams::new(owned(names)).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer).unwrap().into();
        Made { key, params, der }
    }

    /// A TLSA record about it, with whole data, SHA-256 or SHA-512.
    fn record(&self, usage: u8, selector: u8, matching: u8) -> Association {
        use aws_lc_rs::digest::{SHA256, SHA512, digest};
        let part = if selector == 0 { self.der.to_vec() } else { self.key.subject_public_key_info() };
        let data = match matching {
            0 => part,
            1 => digest(&SHA256, &part).as_ref().to_vec(),
            _ => digest(&SHA512, &part).as_ref().to_vec(),
        };
        Association::new(usage, selector, matching, &data).unwrap()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn exact(names: &[&str]) -> Vec<CertificateName> {
    names.iter().map(|name| CertificateName::Exact((*name).into())).collect()
}

fn judge(proof: Proof, roots: &[&Made], server: &Made, chain: &[&Made]) -> Result<(), TlsFault> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.der.clone()).unwrap();
    }
    let verifier = Verifier::new(proof, Arc::new(store), &crate::provider(&[]));
    let chain: Vec<_> = chain.iter().map(|made| made.der.clone()).collect();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW));
    let name = ServerName::try_from("whatever.test").unwrap();
    verifier
        .verify_server_cert(&server.der, &chain, &name, &[], now)
        .map(|_| ())
        .map_err(|error| crate::client::TlsFailure::from(error).fault)
}

fn dane(records: &[Association]) -> Proof {
    Proof::Dane(records.to_vec(), exact(&["mx.test", "dst.test"]))
}

#[test]
fn without_a_proof_anything_goes() {
    let (mut nobody, ca) = (Made::authority("a"), Made::authority("b"));
    assert_eq!(judge(Proof::Nothing, &[], &ca.old_server(&["x"]), &[]), Ok(()));
    nobody.der = CertificateDer::from(b"not a certificate".to_vec());
    assert_eq!(judge(Proof::Nothing, &[], &nobody, &[]), Ok(()));
    assert!(judge(Proof::Fingerprint(vec![[0; 32]]), &[], &nobody, &[]).is_err());
    assert!(judge(Proof::Authority(exact(&["x"])), &[&ca], &nobody, &[]).is_err());
}

#[test]
fn an_authority_counts_with_name_and_date() {
    let (ca, other) = (Made::authority("a"), Made::authority("b"));
    let middle = ca.authority_below("m");
    let server = middle.server(&["mx.test", "*.wild.test", "192.0.2.1"]);
    let ask = |names: Vec<CertificateName>, root: &Made, chain: &[&Made]| {
        judge(Proof::Authority(names), &[root], &server, chain)
    };
    assert_eq!(ask(exact(&["mx.test"]), &ca, &[&middle]), Ok(()));
    assert_eq!(ask(exact(&["no.test", "MX.test"]), &ca, &[&middle]), Ok(()));
    assert_eq!(ask(exact(&["a.wild.test"]), &ca, &[&middle]), Ok(()));
    assert_eq!(ask(exact(&["192.0.2.1"]), &ca, &[&middle]), Ok(()));
    for wrong in ["a.b.wild.test", "wild.test", "test", "192.0.2.2", "a b"] {
        assert_eq!(ask(exact(&[wrong]), &ca, &[&middle]), Err(TlsFault::OtherName), "{wrong}");
    }
    assert_eq!(ask(Vec::new(), &ca, &[&middle]), Err(TlsFault::OtherName));
    assert_eq!(ask(exact(&["mx.test"]), &ca, &[]), Err(TlsFault::NotTrusted));
    assert_eq!(ask(exact(&["mx.test"]), &other, &[&middle]), Err(TlsFault::NotTrusted));
    let old = ca.old_server(&["mx.test"]);
    assert_eq!(judge(Proof::Authority(exact(&["mx.test"])), &[&ca], &old, &[]), Err(TlsFault::Expired));
}

#[test]
fn names_below_a_domain() {
    let ca = Made::authority("a");
    let below = |domain: &str, names: &[&str]| {
        let proof = Proof::Authority(vec![CertificateName::Below(domain.into())]);
        judge(proof, &[&ca], &ca.server(names), &[]).is_ok()
    };
    assert!(below("dst.test", &["mx.dst.test"]) && below("dst.test", &["a.b.DST.test"]));
    assert!(below("dst.test", &["*.dst.test"]));
    for names in [&["dst.test"][..], &["xdst.test"], &["dst.test.evil"], &[".dst.test"][..0]] {
        assert!(!below("dst.test", names), "{names:?}");
    }
}

#[test]
fn a_fingerprint_is_of_the_certificate_or_of_its_key() {
    let ca = Made::authority("a");
    let server = ca.old_server(&["elsewhere.test"]);
    let print = |made: &Made, selector| made.record(3, selector, 1).data[..].try_into().unwrap();
    for selector in [0, 1] {
        let prints = vec![[0; 32], print(&server, selector)];
        assert_eq!(judge(Proof::Fingerprint(prints), &[], &server, &[]), Ok(()));
        let prints = vec![print(&ca, selector)];
        assert_eq!(judge(Proof::Fingerprint(prints), &[&ca], &server, &[&ca]), Err(TlsFault::NoAssociation));
    }
}

#[test]
fn dane_ee_asks_for_neither_name_nor_date_nor_authority() {
    let ca = Made::authority("a");
    let server = ca.old_server(&["elsewhere.test"]);
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            let record = server.record(3, selector, matching);
            assert_eq!(judge(dane(&[record]), &[], &server, &[]), Ok(()), "3 {selector} {matching}");
        }
    }
    // What is said of the server is not said of what is above it.
    assert_eq!(judge(dane(&[ca.record(3, 1, 1)]), &[], &server, &[&ca]), Err(TlsFault::NoAssociation));
    // Public authorities never count, also where no record matches.
    let good = ca.server(&["mx.test"]);
    assert_eq!(judge(dane(&[server.record(3, 1, 1)]), &[&ca], &good, &[&ca]), Err(TlsFault::NoAssociation));
}

#[test]
fn dane_ta_asks_for_a_chain_a_name_and_a_date() {
    let (ca, other) = (Made::authority("a"), Made::authority("b"));
    let middle = ca.authority_below("m");
    let server = middle.server(&["mx.test"]);
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            let (of_ca, of_middle) = (ca.record(2, selector, matching), middle.record(2, selector, matching));
            assert_eq!(judge(dane(&[of_ca]), &[], &server, &[&middle, &ca]), Ok(()));
            // The authority in the middle is enough, without the one above it.
            assert_eq!(judge(dane(&[of_middle]), &[], &server, &[&middle]), Ok(()));
        }
        // A record that matches only what the server does not send proves nothing, unless it holds all of it.
        assert!(judge(dane(&[ca.record(2, selector, 1)]), &[&ca], &server, &[&middle]).is_err());
        assert_eq!(judge(dane(&[ca.record(2, selector, 0)]), &[], &server, &[&middle]), Ok(()));
        assert_eq!(judge(dane(&[middle.record(2, selector, 0)]), &[], &server, &[]), Ok(()));
        // A key or certificate that signed nothing here.
        assert!(judge(dane(&[other.record(2, selector, 0)]), &[], &server, &[&middle, &ca]).is_err());
        assert!(judge(dane(&[other.record(2, selector, 1)]), &[], &server, &[&middle, &other]).is_err());
        // The server's own certificate is no authority (depth 0).
        assert!(judge(dane(&[server.record(2, selector, 1)]), &[], &server, &[]).is_err());
    }
    let record = || [ca.record(2, 0, 1)];
    for (name, expected) in [("dst.test", Ok(())), ("x.test", Err(TlsFault::OtherName))] {
        assert_eq!(judge(dane(&record()), &[], &ca.server(&[name]), &[&ca]), expected, "{name}");
    }
    let old = ca.old_server(&["mx.test"]);
    assert_eq!(judge(dane(&record()), &[], &old, &[&ca]), Err(TlsFault::Expired));
    // An authority that signed a server, shown with another server.
    assert!(judge(dane(&record()), &[], &other.server(&["mx.test"]), &[&ca]).is_err());
}

#[test]
fn dane_usages_are_alternatives() {
    let (ca, other) = (Made::authority("a"), Made::authority("b"));
    let server = ca.server(&["mx.test"]);
    let wrong = other.server(&["mx.test"]);
    let both = [wrong.record(3, 1, 1), ca.record(2, 0, 1)];
    assert_eq!(judge(dane(&both), &[], &server, &[&ca]), Ok(()));
    let both = [server.record(3, 1, 1), other.record(2, 0, 1)];
    assert_eq!(judge(dane(&both), &[], &server, &[&ca]), Ok(()));
}

#[test]
fn frames_of_der() {
    assert_eq!(content_of_sequence(&[0x30, 2, 1, 2]), Some(&[1, 2][..]));
    let long = [&[0x30, 0x81, 200][..], &[7; 200]].concat();
    assert_eq!(content_of_sequence(&long).map(<[u8]>::len), Some(200));
    let longer = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
    assert_eq!(content_of_sequence(&longer).map(<[u8]>::len), Some(256));
    for bad in
        [&[][..], &[0x30], &[0x31, 0], &[0x30, 1], &[0x30, 0, 9], &[0x30, 0x81], &[0x30, 0x83, 0, 0, 1, 9]]
    {
        assert_eq!(content_of_sequence(bad), None, "{bad:?}");
    }
}
