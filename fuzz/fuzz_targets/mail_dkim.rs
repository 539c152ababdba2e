//! A message with signatures, whole: reading them, what they cover, and the body as it is signed, however it is cut. What we
//! write ourselves is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_mail::dkim::{BodyCanon, Canon, Signature, Tags, Template, signed_data, without_value};
use vsmtp_mail::{Field, HeaderBlock, header_end};

fuzz_target!(|data: &[u8]| {
    let (block, body) = data.split_at(header_end(data));
    let header = HeaderBlock::parse(block);
    for field in header.fields().take(16) {
        let stripped = without_value(field.raw(), "b");
        assert!(stripped.len() <= field.raw().len());
        for canon in [Canon::Simple, Canon::Relaxed] {
            let line = canon.field(field.raw());
            assert_eq!(canon.field(&line), line, "made the same once is made the same for ever");
        }
        let Ok(text) = std::str::from_utf8(field.value()) else { continue };
        let _ = Tags::parse(text);
        let Ok(signature) = Signature::parse(text) else { continue };
        let signed = signed_data(&header, &signature.names, signature.canon.0, field.raw());
        assert!(!signed.ends_with(b"\r\n") && signed.len() <= 2 * block.len() + 16);
        rewritten(&signature);
    }
    for canon in [Canon::Simple, Canon::Relaxed] {
        let whole = made(canon, &[body]);
        let (a, b) = body.split_at(body.len() / 2);
        assert_eq!(made(canon, &[a, b]), whole);
        assert_eq!(made(canon, &[&whole]), whole);
        assert!(whole.is_empty() || whole.ends_with(b"\r\n"));
    }
});

fn made(canon: Canon, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut body = BodyCanon::new(canon, None);
    parts.iter().for_each(|part| body.update(part, &mut |octets| out.extend(octets)));
    body.finish(&mut |octets| out.extend(octets));
    out
}

fn rewritten(signature: &Signature) {
    let plain = |text: &str| text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet));
    if !signature.names.iter().chain([&signature.domain, &signature.selector]).all(|text| plain(text)) {
        return;
    }
    let template = Template {
        algorithm: signature.algorithm,
        canon: signature.canon,
        domain: signature.domain.clone(),
        selector: signature.selector.clone(),
        names: signature.names.clone(),
        made_s: signature.made_s.unwrap_or(0),
        body_hash: signature.body_hash.clone(),
    };
    let value = template.value(&signature.signature);
    let read = Signature::parse(&value).expect("what we write is a signature");
    assert_eq!((&read.names, &read.signature, &read.body_hash), (&signature.names, &signature.signature, &signature.body_hash));
    assert!(Field::new("DKIM-Signature", &value).is_some());
}
