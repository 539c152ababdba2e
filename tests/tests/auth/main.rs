//! AUTH from outside: each mechanism by clients that others wrote, each back-end with the real service behind it, and what
//! happens when one of them is wrong, away or killed.

mod back_ends;
mod brakes;
mod certificates;
mod file;
mod loss;
mod proxies;
mod rules;
mod senders;
mod tokens;
mod under_tls;

use std::process::Output;

use vsmtp_tests::{Client, Mta, ReplyText, Settings, Sink, free_port, python, run, said};

/// "pencil", as mkpasswd makes it.
const PENCIL: &str = "$5$rounds=1000$saltstring$IDMRVjjzM7pxdq5saV3T0Syncing1KAt3iS2GewFZH1";
/// "pencil" (RFC 7677 3).
const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

/// An MTA that trusts nobody for his address, with a port for submission, and the server where its mail goes.
struct Stage {
    mta: Mta,
    submission: u16,
    sink: Sink,
}

/// With this text as the file of passwords, and these lines of configuration.
fn stage(users: &str, config: &str, filter: &str) -> Stage {
    let (stage, settings) = prepare(config, filter);
    let mut stage = stage;
    stage.mta.write_configuration(&settings);
    std::fs::write(stage.mta.root().join("etc/vsmtp/users"), users).expect("write users");
    stage.mta.launch();
    stage
}

fn prepare(config: &str, filter: &str) -> (Stage, Settings) {
    let (sink, submission) = (Sink::start(), free_port());
    let config = format!(
        "config.server.interfaces.addr_submission = [\"127.0.0.1:{submission}\"];\n\
         config.server.relay_from = [\"192.0.2.0/24\"];\n\
         config.delivery.relayhost = \"[127.0.0.1]:{}\";\n\
         config.server.esmtp.auth.enable_dangerous_mechanism_in_clair = true;\n{config}",
        sink.port()
    );
    let settings = Settings { config, filter: filter.to_owned() };
    let mta = Mta::prepare(&settings);
    (Stage { mta, submission, sink }, settings)
}

const WITH_FILE: &str = "config.server.auth.backends = [\"file:users\"];";

fn plain(user: &str, password: &str) -> String {
    let script =
        "import base64,sys; print(base64.b64encode(f'\\0{sys.argv[1]}\\0{sys.argv[2]}'.encode()).decode())";
    format!("AUTH PLAIN {}", said(&python(script, &[user, password])).trim())
}

/// A client that has said who it is.
fn log_in(port: u16, user: &str, password: &str) -> (Client, ReplyText) {
    let mut client = Client::hello(port);
    let reply = client.say(&plain(user, password));
    (client, reply)
}

/// GNU SASL logs in as tim.
fn gsasl(port: u16, mechanism: &str, password: &str) -> Output {
    let (connect, password) = (format!("--connect=127.0.0.1:{port}"), format!("--password={password}"));
    let words = ["--smtp", "--no-starttls", "--mechanism", mechanism, "--authentication-id=tim"];
    run("gsasl", &[&words[..], &["--authorization-id=tim", &connect, &password]].concat())
}
