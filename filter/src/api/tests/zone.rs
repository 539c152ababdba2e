//! What the tests' resolver and key holder know. No name is looked up, and no key is real.

use std::time::Duration;

use sha2::Digest;
use vsmtp_ipc::edge::client_resolver::{
    DmarcPolicy, DmarcQuestion, DmarcResult, DmarcVerdict, DnsError, Query, Records, SignatureAlgorithm,
    SignatureResult, SignatureVerdict, SpfQuestion, SpfResult, SpfVerdict,
};

use crate::names::Names;
use crate::signer::Signer;

/// All that the tests' resolver knows.
#[derive(Debug)]
pub struct Zone;

impl Names for Zone {
    fn ask(&self, queries: Vec<Query>, _: Duration) -> Vec<Result<Records, DnsError>> {
        queries.iter().map(answer).collect()
    }
}

fn answer(query: &Query) -> Result<Records, DnsError> {
    let addresses = |list: &[&str]| Records::Addresses(list.iter().map(|ip| ip.parse().unwrap()).collect());
    match query {
        Query::Addresses(host) if host == "mx.test" => Ok(addresses(&["192.0.2.1", "2001:db8::1"])),
        Query::Addresses(host) if host == "slow.test" => Err(DnsError::Temporary),
        Query::Addresses(host) if host == "forged.test" => Err(DnsError::Bogus),
        Query::Addresses(host) if host == "a b" => Err(DnsError::BadName),
        Query::Names(ip) if ip.to_string() == "192.0.2.1" => Ok(Records::Names(vec!["mx.test".into()])),
        Query::Mx(host) if host == "mx.test" => {
            Ok(Records::Mx(vec![(5, "a.test".into()), (9, "b.test".into())]))
        }
        Query::Mx(host) if host == "null.test" => Ok(Records::Mx(vec![(0, String::new())])),
        Query::Text(name) if name == "mx.test" => {
            Ok(Records::Text(vec![b"one".to_vec(), b"t\xffo".to_vec()]))
        }
        Query::Ipv4(name) if name == "7.1.168.192.bad.test" => Ok(addresses(&["127.0.0.4"])),
        Query::Ipv4(name) if name == "7.1.168.192.good.test" => Ok(addresses(&["127.0.0.2"])),
        Query::Ipv4(name) if name.ends_with(".dead.test") => Err(DnsError::Temporary),
        Query::Spf(question) => Ok(Records::Spf(spf(question))),
        // A signature of the tests' own key holder.
        Query::Signature(question) if question.selector == "echo" => {
            let result = match question.signature == sha2::Sha256::digest(&question.data).as_slice() {
                true => SignatureResult::Pass,
                false => SignatureResult::Fail,
            };
            Ok(Records::Signature(SignatureVerdict { result, reason: String::new(), testing: false }))
        }
        Query::Signature(question) => Ok(Records::Signature(signature(&question.selector))),
        Query::Dmarc(question) => Ok(Records::Dmarc(dmarc(question))),
        _ => Err(DnsError::NoSuchName),
    }
}

/// Every domain says what its first label is.
fn spf(question: &SpfQuestion) -> SpfVerdict {
    let domain = question.sender.as_ref().map_or(&question.helo, |(_, domain)| domain);
    let result = match domain.split('.').next().unwrap() {
        "pass" => SpfResult::Pass,
        "fail" | "words" => SpfResult::Fail,
        "softfail" => SpfResult::SoftFail,
        "neutral" => SpfResult::Neutral,
        "temperror" => SpfResult::TempError,
        "permerror" => SpfResult::PermError,
        _ => SpfResult::None,
    };
    let explanation = domain.starts_with("words").then(|| "go away".to_owned());
    SpfVerdict { result, by: "-all \"\r\nX: y".to_owned(), explanation }
}

/// Every selector is what becomes of its signatures.
fn signature(selector: &str) -> SignatureVerdict {
    let result = match selector {
        "pass" => SignatureResult::Pass,
        "fail" => SignatureResult::Fail,
        "temperror" => SignatureResult::TempError,
        _ => SignatureResult::PermError,
    };
    SignatureVerdict { result, reason: "because".to_owned(), testing: false }
}

/// Every author's domain asks for what its first label is.
fn dmarc(question: &DmarcQuestion) -> DmarcVerdict {
    let (spf_aligned, dkim_aligned) =
        (question.spf.as_ref() == Some(&question.author), question.dkim.contains(&question.author));
    let (policy, result) = match question.author.split('.').next().unwrap() {
        "nothing" => (DmarcPolicy::None, DmarcResult::None),
        "none" if spf_aligned || dkim_aligned => (DmarcPolicy::None, DmarcResult::Pass),
        _ if spf_aligned || dkim_aligned => (DmarcPolicy::Reject, DmarcResult::Pass),
        "reject" => (DmarcPolicy::Reject, DmarcResult::Fail),
        "quarantine" => (DmarcPolicy::Quarantine, DmarcResult::Fail),
        "temperror" | "unclear" => (DmarcPolicy::None, DmarcResult::TempError),
        _ => (DmarcPolicy::None, DmarcResult::Fail),
    };
    DmarcVerdict {
        result,
        published: policy,
        policy,
        // Where the policy is open, no record is named.
        found_at: if result == DmarcResult::TempError { String::new() } else { question.author.clone() },
        organisation: question.author.clone(),
        spf_aligned,
        dkim_aligned,
        report_to: Vec::new(),
    }
}

/// The tests' key holder: what it calls a signature is a hash. It has two keys.
#[derive(Debug)]
pub struct Holder;

impl Signer for Holder {
    fn keys(&self, domain: &str) -> Option<Vec<SignatureAlgorithm>> {
        let is_known = ["own.test", "example.com"].contains(&domain);
        is_known.then(|| vec![SignatureAlgorithm::RsaSha256, SignatureAlgorithm::Ed25519Sha256])
    }

    fn sign(&self, domain: &str, number: u32, data: Vec<u8>) -> Option<Vec<u8>> {
        let is_known = ["own.test", "example.com"].contains(&domain) && number < 2;
        is_known.then(|| sha2::Sha256::digest(&data).to_vec())
    }
}
