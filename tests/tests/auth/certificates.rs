//! EXTERNAL: a certificate instead of a password, by Python's client and openssl's certificates.

use std::path::Path;

use vsmtp_tests::{free_port, make_certificate, needs_programs, python, run, said, sign_certificate};

use crate::prepare;

/// Logs in by EXTERNAL with the certificate NAME of the folder, as the user that is named, or as whoever it is; prints what
/// AUTH is offered, the code, and the code of RCPT to somebody elsewhere.
const SCRIPT: &str = r#"
import base64, smtplib, ssl, sys
port, folder, name, user, door, version = int(sys.argv[1]), *sys.argv[2:7]
tls = ssl.create_default_context()
tls.minimum_version = tls.maximum_version = ssl.TLSVersion["TLSv" + version]
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
if name:
    tls.load_cert_chain(f"{folder}/{name}.pem", f"{folder}/{name}.key")
if door == "implicit":
    client = smtplib.SMTP_SSL("127.0.0.1", port, "client.test", timeout=30, context=tls)
else:
    client = smtplib.SMTP("127.0.0.1", port, "client.test", 30)
    client.starttls(context=tls)
client.ehlo("client.test")
offered = "EXTERNAL" in client.esmtp_features.get("auth", "").split()
code = client.docmd("AUTH", "EXTERNAL " + (base64.b64encode(user.encode()).decode() or "="))[0]
client.mail("a@src.test")
print(offered, code, client.rcpt("b@far.test")[0])
client.quit()
"#;

fn log_in(folder: &Path, port: u16, door: &str, version: &str, name: &str, user: &str) -> String {
    let folder = folder.display().to_string();
    said(&python(SCRIPT, &[&port.to_string(), &folder, name, user, door, version])).trim().to_owned()
}

#[test]
fn a_certificate_logs_its_owner_in_and_nobody_else() {
    if !needs_programs("a_certificate_logs_its_owner_in_and_nobody_else", &["openssl", "python3"]) {
        return;
    }
    let submissions = free_port();
    let listener = format!("config.server.interfaces.addr_submissions = [\"127.0.0.1:{submissions}\"];\n");
    let (mut stage, mut settings) = prepare(&listener, "");
    let folder = stage.mta.root().join("etc/vsmtp");
    for name in ["mx", "jane", "joe"] {
        make_certificate(&folder, name, &["mx.local.test"]);
    }
    let jane = folder.join("jane.pem").display().to_string();
    let print = said(&run("openssl", &["x509", "-in", &jane, "-noout", "-fingerprint", "-sha256"]));
    let print = print.trim().rsplit('=').next().expect("a fingerprint");
    settings.config.push_str(&format!(
        "config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";\n\
         config.server.tls.client_certificate = \"ask\";\n\
         config.server.auth.certificates = #{{ \"sha256:{print}\": \"jane\" }};\n"
    ));
    stage.mta.write_configuration(&settings);
    stage.mta.launch();
    let log_in = |name: &str, user: &str| log_in(&folder, stage.submission, "starttls", "1_3", name, user);
    assert_eq!(log_in("jane", ""), "True 235 250");
    assert_eq!(log_in("jane", "jane"), "True 235 250");
    // Submission takes nothing of who has not authenticated.
    assert_eq!(log_in("jane", "joe"), "True 535 503");
    assert_eq!(log_in("joe", ""), "False 504 503");
    assert_eq!(log_in("", "jane"), "False 504 503");
    let doors = [(stage.mta.port(), "starttls"), (stage.submission, "starttls"), (submissions, "implicit")];
    for (port, door) in doors {
        for version in ["1_2", "1_3"] {
            let log_in = |name, user| self::log_in(&folder, port, door, version, name, user);
            assert_eq!(log_in("jane", "jane"), "True 235 250", "{door} {version}");
            // At the port for servers a stranger may only not send elsewhere.
            let refused = if port == stage.mta.port() { 554 } else { 503 };
            assert_eq!(log_in("joe", ""), format!("False 504 {refused}"), "{door} {version}");
        }
    }
    stage.mta.logged("event=authenticated user=jane mechanism=EXTERNAL");
}

#[test]
fn a_name_in_a_certificate_of_a_trusted_authority_is_a_login() {
    let test = "a_name_in_a_certificate_of_a_trusted_authority_is_a_login";
    if !needs_programs(test, &["openssl", "python3"]) {
        return;
    }
    let (mut stage, mut settings) = prepare("", "");
    let folder = stage.mta.root().join("etc/vsmtp");
    make_certificate(&folder, "mx", &["mx.local.test"]);
    for authority in ["ca", "other"] {
        let path = |end: &str| folder.join(format!("{authority}.{end}")).display().to_string();
        let new = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
        ];
        let subject = format!("/CN={authority}");
        let files = ["-subj", &subject, "-keyout", &path("key"), "-out", &path("pem")];
        said(&run("openssl", &[&new[..], &files].concat()));
    }
    sign_certificate(&folder, "ca", "jane", "email:jane@src.test,DNS:jane.src.test");
    sign_certificate(&folder, "ca", "joe", "email:joe@staff.test");
    sign_certificate(&folder, "ca", "relay", "DNS:relay.src.test");
    sign_certificate(&folder, "ca", "nobody", "email:jane@other.test,DNS:src.test");
    sign_certificate(&folder, "other", "mallory", "email:jane@src.test");
    settings.config.push_str(
        "config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";\n\
         config.server.tls.client_certificate = \"ask\"; config.server.tls.client_ca = \"ca.pem\";\n\
         config.server.auth.certificates = #{ \"email:jane@src.test\": \"jane\", \"email:*@staff.test\": \"*\",\n\
             \"dns:relay.src.test\": \"relay\" };\n",
    );
    stage.mta.write_configuration(&settings);
    stage.mta.launch();
    let log_in = |name: &str, user: &str| log_in(&folder, stage.submission, "starttls", "1_3", name, user);
    assert_eq!(log_in("jane", ""), "True 235 250");
    assert_eq!(log_in("joe", "joe@staff.test"), "True 235 250");
    assert_eq!(log_in("relay", "relay"), "True 235 250");
    assert_eq!(log_in("relay", "jane"), "True 535 503");
    for stranger in ["nobody", "mallory"] {
        assert_eq!(log_in(stranger, ""), "False 504 503", "{stranger}");
    }
    for user in ["jane", "joe@staff.test", "relay"] {
        stage.mta.logged(&format!("event=authenticated user={user} mechanism=EXTERNAL"));
    }
}
