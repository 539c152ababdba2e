//! `dkim::sign` in the forms of all versions. The key holder signs, with the keys that configuration names; scripts see
//! handles of them.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_ipc::edge::client_resolver::SignatureAlgorithm;
use vsmtp_ipc::edge::filter_keys::MAX_DATA;
use vsmtp_mail::dkim::{Algorithm, Canon, Template, signed_data};
use vsmtp_mail::{Domain, Field};

use crate::api::general::Surroundings;
use crate::api::registry::{Outcome, Registry, name};
use crate::dkim::{FIELD, body_hashes};
use crate::object::{Fault, Object};
use crate::process::cede;
use crate::signer::Signer;
use crate::stage::Stage;
use crate::transaction::Shared;

/// What is signed if a rule does not say it: a second From signs that there is none.
const NAMES: [&str; 5] = ["From", "To", "Date", "Subject", "From"];
/// How it is made the same if a rule does not say it.
const CANON: &str = "simple/relaxed";
/// Most names of fields that a rule may give.
const MAX_NAMES: usize = 100;

/// A key as scripts see it.
#[derive(Debug, Clone)]
pub(in crate::api) struct PrivateKey {
    domain: String,
    number: u32,
    /// What it signs with.
    pub algorithm: SignatureAlgorithm,
}

/// What a rule asks for.
struct Wanted {
    selector: String,
    key: PrivateKey,
    /// `d=`, if the rule says it.
    domain: Option<String>,
    names: Vec<String>,
    canon: (Canon, Canon),
}

/// Those who know keys.
#[derive(Clone)]
pub(in crate::api) struct Keys {
    signer: Arc<dyn Signer>,
    domains: Arc<[String]>,
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let engine = &mut *registry.engine;
    engine.register_type_with_name::<PrivateKey>("private_key");
    engine.register_fn("to_string", |key: &mut PrivateKey| key.shown());
    engine.register_fn("to_debug", |key: &mut PrivateKey| key.shown());
    let keys = Keys::of_surroundings(surroundings);
    let list = name("dkim", "get_private_keys", &[])
        .doc("(domain: string) -> array", "Handles of the keys that `server.virtual` or `server.dkim.private_key` has for the domain; the keys themselves stay with the key holder. Waits for it.")
        .errors("if the domain has none, or the key holder cannot be asked")
        .example("dkim::get_private_keys(\"own.test\").len() == 2");
    let of = keys.clone();
    registry.waits1(list, Stage::Preq, move |_, domain: ImmutableString| of.list(&domain));
    let of = keys.clone();
    registry.waits1(list, Stage::Preq, move |_, domain: Object| of.list(&domain.text()));

    let errors = "if a word makes no sense, From is not signed, the key may not sign for the domain, or the key holder does not sign";
    let sign = name("dkim", "sign", &[])
        .doc("(parameters: map)", "Signs the message as it is now, body and header: `selector`, `private_key` (a handle or a list of them), `sdid` (by default the server's name, or the key's domain), `headers_field` (by default From, To, Date, Subject and once more From) and `canonicalization` (by default `simple/relaxed`). Waits for the key holder.")
        .errors(errors)
        .example("dkim::sign(#{ selector: \"2026\", private_key: dkim::get_private_keys(\"own.test\")[0], sdid: \"own.test\" })");
    let with_key = sign
        .doc("(selector: string, private_key: private_key)", "The same with the defaults.")
        .example("dkim::sign(\"2026\", dkim::get_private_keys(\"own.test\")[0])");
    let with_names = sign
        .doc(
            "(selector: string, private_key: private_key, headers: array, canonicalization: string)",
            "The same.",
        )
        .example(
            "dkim::sign(\"2026\", dkim::get_private_keys(\"own.test\")[0], [\"From\", \"To\"], \"relaxed\")",
        );
    let of = keys.clone();
    registry.waits1(sign, Stage::Preq, move |shared, map: Map| of.sign(shared, from_map(&map)?));
    let of = keys.clone();
    registry.waits2(with_key, Stage::Preq, move |shared, selector: ImmutableString, key: Dynamic| {
        of.sign(shared, wanted(&selector, key_of(&key)?, None, CANON)?)
    });
    let of = keys.clone();
    registry.waits4(
        with_names,
        Stage::Preq,
        move |shared, selector: ImmutableString, key: Dynamic, names: Array, canon: ImmutableString| {
            of.sign(shared, wanted(&selector, key_of(&key)?, Some(&names), &canon)?)
        },
    );
    old(registry, &keys);
}

/// As vSL 1.x has it: the key is that of the sender's domain, or of the server.
fn old(registry: &mut Registry, keys: &Keys) {
    let sign = name("", "sign_dkim", &["sign_dkim"])
        .doc("(selector: string)", "Signs the message as vSL 1.x does: with the first key of the sender's domain, of one above it, or of the server. Waits for the key holder.")
        .errors("if there is no key, or as `dkim::sign` does")
        .example("sign_dkim(\"2026\")");
    let with_names = sign
        .doc("(selector: string, headers: array, canonicalization: string)", "The same.")
        .example("sign_dkim(\"2026\", [\"From\", \"Subject\"], \"relaxed/relaxed\")");
    let of = keys.clone();
    registry.waits1(sign, Stage::Preq, move |shared, selector: ImmutableString| {
        let key = of.of_sender(shared)?;
        of.sign(shared, wanted(&selector, key, None, CANON)?)
    });
    let of = keys.clone();
    registry.waits3(
        with_names,
        Stage::Preq,
        move |shared, selector: ImmutableString, names: Array, canon: ImmutableString| {
            let key = of.of_sender(shared)?;
            of.sign(shared, wanted(&selector, key, Some(&names), &canon)?)
        },
    );
    let oldest = name("", "dkim_sign", &["dkim_sign"])
        .doc("(selector: string, headers: array)", "As `sign_dkim`.")
        .errors("as `sign_dkim`")
        .example("dkim_sign(\"2026\", [\"From\", \"Subject\"])");
    let of = keys.clone();
    registry.waits2(oldest, Stage::Preq, move |shared, selector: ImmutableString, names: Array| {
        let key = of.of_sender(shared)?;
        of.sign(shared, wanted(&selector, key, Some(&names), CANON)?)
    });
}

impl PrivateKey {
    fn shown(&self) -> String {
        format!("key {} of {}", self.number, self.domain)
    }
}

impl Keys {
    /// Those that are known here.
    pub fn of_surroundings(surroundings: &Surroundings) -> Self {
        Keys { signer: surroundings.signer.clone(), domains: surroundings.dkim_domains.clone() }
    }

    /// The signature of these octets.
    pub fn signature(&self, key: &PrivateKey, data: Vec<u8>) -> Outcome<Vec<u8>> {
        if data.len() > MAX_DATA {
            return Err(Fault(format!("the fields to be signed are larger than {MAX_DATA} octets")));
        }
        let signature = self.signer.sign(&key.domain, key.number, data);
        signature.ok_or_else(|| Fault::new("the key holder did not sign the message"))
    }

    fn of(&self, domain: &str) -> Outcome<Vec<PrivateKey>> {
        let domain = domain.to_ascii_lowercase();
        if !self.domains.contains(&domain) {
            return Err(Fault(format!("there is no DKIM key of '{domain}': server.virtual has none")));
        }
        let algorithms = self.signer.keys(&domain).filter(|found| !found.is_empty());
        let algorithms =
            algorithms.ok_or_else(|| Fault::new("the key holder cannot be asked at the moment"))?;
        let key = |(number, algorithm)| PrivateKey { domain: domain.clone(), number, algorithm };
        Ok((0..).zip(algorithms).map(key).collect())
    }

    fn list(&self, domain: &str) -> Outcome<Array> {
        Ok(self.of(domain)?.into_iter().map(Dynamic::from).collect())
    }

    /// The first key of the sender's domain, of one above it, or of the server.
    fn of_sender(&self, shared: &Shared) -> Outcome<PrivateKey> {
        let (sender, server) = {
            let transaction = shared.lock();
            (transaction.sender_parts().map(|(_, domain)| domain), transaction.peer.server_name.to_string())
        };
        let candidates = sender.iter().chain([&server]);
        let found = candidates.flat_map(|domain| above(domain)).find(|domain| self.domains.contains(domain));
        let found = found
            .ok_or_else(|| Fault::new("there is no DKIM key of the sender's domain or of the server"))?;
        self.of(&found)?.into_iter().next().ok_or_else(|| Fault::new("there is no DKIM key"))
    }

    fn sign(&self, shared: &Shared, wanted: Wanted) -> Outcome<()> {
        let (header, content, offset, made_s, server) = {
            let transaction = shared.lock();
            let (content, offset) =
                transaction.body_now().ok_or_else(|| Fault::new("the message is not here"))?;
            let made_s = transaction.mail.as_ref().map_or(0, |mail| mail.at_ms / 1000);
            let server = transaction.peer.server_name.to_string();
            (transaction.header.clone(), content, offset, made_s, server)
        };
        let Wanted { selector, key, domain, names, canon } = wanted;
        cede();
        let hashes = body_hashes(&*content, offset, &[(canon.1, None)]);
        let hashes = hashes.map_err(|error| Fault(format!("the message cannot be read: {error}")))?;
        let template = Template {
            algorithm: match key.algorithm {
                SignatureAlgorithm::RsaSha256 => Algorithm::RsaSha256,
                SignatureAlgorithm::Ed25519Sha256 => Algorithm::Ed25519Sha256,
            },
            canon,
            domain: signing_domain(domain, &key, &server)?,
            selector,
            names,
            made_s,
            body_hash: hashes.into_iter().next().map(|(hash, _)| hash).unwrap_or_default(),
        };
        let own = Field::new(FIELD, &template.value(b""))
            .ok_or_else(|| Fault::new("the signature cannot be written"))?;
        let data = signed_data(&header, &template.names, canon.0, own.raw());
        let signature = self.signature(&key, data)?;
        shared.lock().prepend_header(FIELD, &template.value(&signature))
    }
}

/// A domain and all above it.
fn above(domain: &str) -> Vec<String> {
    let domain = domain.to_ascii_lowercase();
    let rest = domain.match_indices('.').filter_map(|(dot, _)| domain.get(dot + 1..));
    std::iter::once(domain.as_str()).chain(rest).map(str::to_owned).collect()
}

/// What the rule says, or the server's name if the key may sign for it, or the key's domain.
fn signing_domain(said: Option<String>, key: &PrivateKey, server: &str) -> Outcome<String> {
    let fits = |domain: &String| above(domain).contains(&key.domain);
    match said {
        Some(domain) if Domain::parse(&domain).is_ok() && fits(&domain) => Ok(domain.to_ascii_lowercase()),
        Some(domain) => Err(Fault(format!("'{domain}' is not a domain that {} may sign for", key.shown()))),
        None => Ok(Some(server.to_ascii_lowercase()).filter(fits).unwrap_or_else(|| key.domain.clone())),
    }
}

fn wanted(selector: &str, key: PrivateKey, names: Option<&Array>, canon: &str) -> Outcome<Wanted> {
    let is_selector = Domain::parse(selector).is_ok_and(|domain| domain.as_literal().is_none());
    if !is_selector {
        return Err(Fault(format!("'{selector}' cannot be a selector")));
    }
    let canon = Canon::pair(canon)
        .ok_or_else(|| Fault(format!("'{canon}' is not \"simple\" or \"relaxed\", or two of them")))?;
    let names = match names {
        Some(names) => names.iter().map(ToString::to_string).collect(),
        None => NAMES.map(str::to_owned).to_vec(),
    };
    let is_name = |name: &String| {
        !name.is_empty()
            && name.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b':' | b';'))
    };
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(Fault(format!("'{bad}' cannot be the name of a header field")));
    }
    let has_from = names.iter().any(|name| name.eq_ignore_ascii_case("from"));
    if !has_from || names.len() > MAX_NAMES {
        return Err(Fault(format!("From must be signed, and at most {MAX_NAMES} fields can be")));
    }
    Ok(Wanted { selector: selector.to_owned(), key, domain: None, names, canon })
}

fn key_of(value: &Dynamic) -> Outcome<PrivateKey> {
    let first = value.read_lock::<Array>().and_then(|list| list.first().cloned());
    let key = first.as_ref().unwrap_or(value).read_lock::<PrivateKey>().map(|key| key.clone());
    key.ok_or_else(|| Fault::new("a key comes from dkim::get_private_keys()"))
}

/// Selector, key and domain of a map, for those that need no more.
pub(in crate::api) fn wanted_of_map(map: &Map, server: &str) -> Outcome<(String, PrivateKey, String)> {
    let Wanted { selector, key, domain, .. } = from_map(map)?;
    let domain = signing_domain(domain, &key, server)?;
    Ok((selector, key, domain))
}

fn from_map(map: &Map) -> Outcome<Wanted> {
    let known = ["selector", "private_key", "sdid", "headers_field", "headers", "canonicalization"];
    if let Some(other) = map.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Fault(format!("dkim::sign knows {}, not '{other}'", known.join(", "))));
    }
    let needed = |key: &str| map.get(key).ok_or_else(|| Fault(format!("dkim::sign needs '{key}'")));
    let names = match map.get("headers_field").or_else(|| map.get("headers")) {
        Some(names) => {
            let list = names.read_lock::<Array>().map(|list| list.clone());
            Some(list.ok_or_else(|| Fault::new("'headers_field' is a list of names"))?)
        }
        None => None,
    };
    let canon = map.get("canonicalization").map_or(CANON.to_owned(), ToString::to_string);
    let key = key_of(needed("private_key")?)?;
    let wanted = wanted(&needed("selector")?.to_string(), key, names.as_ref(), &canon)?;
    Ok(Wanted { domain: map.get("sdid").map(ToString::to_string), ..wanted })
}
