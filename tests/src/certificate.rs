//! Certificates for tests, made by openssl(1).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::program::{run, said};

/// Makes NAME.pem and NAME.key in a folder: self-signed, for these DNS names.
pub fn make_certificate(folder: &Path, name: &str, dns: &[&str]) {
    make(folder, name, dns, &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
}

/// The same with a key of RSA, for one name.
pub fn make_rsa_certificate(folder: &Path, name: &str, dns: &str) {
    make(folder, name, &[dns], &["rsa:2048"]);
}

fn make(folder: &Path, name: &str, dns: &[&str], kind: &[&str]) {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let names: Vec<String> = dns.iter().map(|dns| format!("DNS:{dns}")).collect();
    let subject = format!("/CN={}", dns.first().unwrap_or(&name));
    let alternative = format!("subjectAltName={}", names.join(","));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let words = [&["req", "-x509", "-newkey"], kind, &["-nodes", "-days", "30"]].concat();
    let files = ["-subj", &subject, "-addext", &alternative, "-out", &certificate, "-keyout", &key];
    said(&run("openssl", &[&words[..], &files[..]].concat()));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("protect the key");
}

/// Makes NAME.pem and NAME.key in a folder, signed by an authority that is there, with these names, such as `DNS:localhost`.
pub fn sign_certificate(folder: &Path, authority: &str, name: &str, names: &str) {
    let path = |file: String| folder.join(file).display().to_string();
    let (key, request, extensions) =
        (path(format!("{name}.key")), path(format!("{name}.csr")), path(format!("{name}.ext")));
    let new = [
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=x",
    ];
    said(&run("openssl", &[&new[..], &["-keyout", &key, "-out", &request]].concat()));
    fs::write(&extensions, format!("subjectAltName={names}\n")).expect("write the names");
    let (ca, ca_key) = (path(format!("{authority}.pem")), path(format!("{authority}.key")));
    let certificate = path(format!("{name}.pem"));
    let sign =
        ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "30"];
    said(&run("openssl", &[&sign[..], &["-extfile", &extensions, "-out", &certificate]].concat()));
}
