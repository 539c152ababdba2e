//! Domains with rules of their own: whose rules run at each stage, and what becomes of a message that is several parts'.

use std::path::Path;

use super::*;
use crate::transaction::Peer;

/// A folder of the configuration with these files; every script marks the message with its name and the stage.
fn configured(root: &str, files: &[(&str, &str)]) -> Bench {
    load_in(root, files).unwrap_or_else(|error| panic!("{error}"))
}

fn load_in(root: &str, files: &[(&str, &str)]) -> Result<Bench, ScriptError> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
    };
    write("filter.vsl", root);
    fs::create_dir_all(dir.path().join("domain-enabled")).unwrap();
    for (name, text) in files {
        write(name, text);
    }
    let slice = FilterSlice {
        config_dir: dir.path().display().to_string(),
        filter_path: dir.path().join("filter.vsl").display().to_string(),
        domain_dir: Some(dir.path().join("domain-enabled").display().to_string()),
        timeout: Duration::from_secs(5),
        ..slice(&[])
    };
    let judge = Judge::load(&slice, &Surroundings::default())?;
    let transaction = Transaction::new(Arc::new(peer(Some("192.0.2.5"))), judge.max_recipients);
    Ok(Bench { judge, shared: Shared::new(transaction), _dir: dir })
}

/// A script that adds a field `X-By: NAME STAGE` at each stage.
fn marks(name: &str) -> String {
    let stages = ["connect", "helo", "mail", "rcpt", "preq", "postq", "delivery"];
    let mark = |stage: &&str| {
        format!("{stage}: [ action \"{stage}\" || msg::append_header(\"X-By\", \"{name} {stage}\") ]")
    };
    format!("#{{ {} }}", stages.iter().map(mark).collect::<Vec<_>>().join(",\n"))
}

/// The marks of each message that was made.
fn marked(judged: &Judged) -> String {
    let Judged::Store { messages, .. } = judged else { return show_message(judged) };
    let of = |stored: &Stored| {
        let header = match stored.pieces.first() {
            Some(Piece::Text(header)) => String::from_utf8_lossy(header).into_owned(),
            _ => String::new(),
        };
        let marks = header.lines().filter_map(|line| line.strip_prefix("X-By: "));
        let to = stored.envelope.recipients.iter().map(|r| r.address.to_string());
        format!("{} > {}", marks.collect::<Vec<_>>().join(", "), to.collect::<Vec<_>>().join(" "))
    };
    messages.iter().map(of).collect::<Vec<_>>().join(" | ")
}

fn two_domains() -> Bench {
    let scripts: Vec<(String, String)> = ["com", "org"]
        .into_iter()
        .flat_map(|tld| ["incoming", "outgoing", "internal"].map(|file| (tld, file)))
        .map(|(tld, file)| {
            (format!("domain-enabled/example.{tld}/{file}.vsl"), marks(&format!("{tld} {file}")))
        })
        .collect();
    let files: Vec<(&str, &str)> =
        scripts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    configured(&marks("root"), &files)
}

#[test]
fn each_message_meets_the_rules_of_its_own_domains() {
    for (sender, recipients, expected) in [
        (
            "a@elsewhere.net",
            "jane@example.com",
            "root mail, com incoming rcpt, com incoming preq > jane@example.com",
        ),
        ("", "jane@example.com", "root mail, com incoming rcpt, com incoming preq > jane@example.com"),
        ("a@elsewhere.net", "x@elsewhere.net", "root mail, root rcpt, root preq > x@elsewhere.net"),
        (
            "jane@example.com",
            "x@elsewhere.net",
            "com outgoing mail, com outgoing rcpt, com outgoing preq > x@elsewhere.net",
        ),
        (
            "jane@example.com",
            "joe@example.org",
            "com outgoing mail, com outgoing rcpt, com outgoing preq > joe@example.org",
        ),
        (
            "jane@example.com",
            "sales@example.com",
            "com outgoing mail, com internal rcpt, com internal preq > sales@example.com",
        ),
        (
            "jane@sub.example.com",
            "x@elsewhere.net",
            "com outgoing mail, com outgoing rcpt, com outgoing preq > x@elsewhere.net",
        ),
    ] {
        let bench = two_domains();
        assert_eq!(show(&bench.begin_as(sender)), "accept");
        for recipient in recipients.split(' ') {
            assert_eq!(bench.rcpt(recipient), "accept", "{sender} {recipient}");
        }
        assert_eq!(marked(&bench.message(MESSAGE)), expected, "{sender}");
    }
}

#[test]
fn mixed_recipients_become_a_message_for_each_part() {
    let bench = two_domains();
    bench.begin_as("jane@example.com");
    for recipient in ["sales@example.com", "x@elsewhere.net", "jane@example.com"] {
        assert_eq!(bench.rcpt(recipient), "accept");
    }
    let early = "com outgoing mail, com internal rcpt, com outgoing rcpt, com internal rcpt";
    assert_eq!(
        marked(&bench.message(MESSAGE)),
        format!(
            "{early}, com internal preq > sales@example.com jane@example.com | {early}, com outgoing preq > x@elsewhere.net"
        )
    );
    // From outside to two domains, to one of them twice, and to a third.
    bench.begin_as("a@elsewhere.net");
    for recipient in ["jane@example.com", "joe@example.org", "x@elsewhere.net"] {
        assert_eq!(bench.rcpt(recipient), "accept");
    }
    let early = "root mail, com incoming rcpt, org incoming rcpt, root rcpt";
    assert_eq!(
        marked(&bench.message(MESSAGE)),
        format!(
            "{early}, com incoming preq > jane@example.com | {early}, org incoming preq > joe@example.org | {early}, root preq > x@elsewhere.net"
        )
    );
}

#[test]
fn parts_that_make_the_same_of_a_message_stay_one_message() {
    let bench = configured(
        "#{}",
        &[
            ("domain-enabled/example.com/outgoing.vsl", "#{ preq: [ rule \"o\" || next() ] }"),
            (
                "domain-enabled/example.com/internal.vsl",
                "#{ preq: [ rule \"i\" || accept(\"250 2.0.0 inside\") ] }",
            ),
        ],
    );
    bench.begin_as("jane@example.com");
    bench.rcpt("sales@example.com");
    bench.rcpt("x@elsewhere.net");
    let judged = bench.message(MESSAGE);
    assert_eq!(marked(&judged), " > sales@example.com x@elsewhere.net");
    let Judged::Store { reply, .. } = judged else { panic!() };
    assert_eq!(reply.unwrap().to_string(), "250 2.0.0 inside");
}

#[test]
fn what_one_part_refuses_is_refused_and_a_verdict_of_one_is_not_the_others() {
    let internal = "domain-enabled/example.com/internal.vsl";
    let outgoing = "domain-enabled/example.com/outgoing.vsl";
    for (inside, outside, expected) in [
        ("#{ preq: [ rule \"i\" || deny() ] }", "#{}", "close 554"),
        ("#{}", "#{ preq: [ rule \"o\" || reject(\"550 no\") ] }", "refuse 550"),
        // An internal rule that skips all the rest skips nothing of what leaves the domain.
        ("#{ rcpt: [ rule \"i\" || faccept() ] }", "#{ preq: [ rule \"o\" || deny() ] }", "close 554"),
        (
            "#{ rcpt: [ rule \"i\" || quarantine(\"q\") ] }",
            "#{}",
            "Quarantine(\"q\") 1 recipients 0 pieces + Active 1 recipients 0 pieces",
        ),
        (
            "#{ preq: [ action \"e\" || for r in ctx::rcpt_list() { envelop::rm_rcpt(r); } ] }",
            "#{}",
            "refuse 554",
        ),
    ] {
        let bench = configured("#{}", &[(internal, inside), (outgoing, outside)]);
        bench.begin_as("jane@example.com");
        assert_eq!(bench.rcpt("sales@example.com"), "accept", "{inside}");
        assert_eq!(bench.rcpt("x@elsewhere.net"), "accept", "{inside}");
        assert_eq!(show_message(&bench.message(MESSAGE)), expected, "{inside} {outside}");
    }
}

#[test]
fn a_sender_that_anybody_can_write_skips_no_rules_and_opens_no_relay() {
    let open =
        "mail: [ rule \"m\" || MAIL ], rcpt: [ rule \"r\" || accept() ], preq: [ rule \"p\" || next() ]";
    let refused = "#{ rcpt: [ rule \"no\" || reject(\"550 no\") ] }";
    for mail in ["next()", "accept()", "faccept()"] {
        let outgoing = format!("#{{ {} }}", open.replace("MAIL", mail));
        let bench = configured(
            "#{}",
            &[
                ("domain-enabled/example.com/outgoing.vsl", outgoing.as_str()),
                ("domain-enabled/example.com/internal.vsl", "#{ rcpt: [ rule \"i\" || accept() ] }"),
                ("domain-enabled/example.com/incoming.vsl", refused),
                ("domain-enabled/example.org/incoming.vsl", refused),
            ],
        );
        let asked = ["sales@example.com", "joe@example.org", "x@elsewhere.net"];
        let as_client = |client: Peer| {
            *bench.shared.lock() = Transaction::new(Arc::new(client), bench.judge.max_recipients);
            assert_eq!(show(&bench.begin_as("jane@example.com")), "accept");
            asked.map(|recipient| bench.rcpt(recipient))
        };
        assert_eq!(
            as_client(peer(Some("203.0.113.5"))),
            ["refuse 550", "refuse 550", "refuse 554"],
            "{mail}"
        );
        // Who may send to anybody is believed, and so is who has logged in.
        let logged_in = Peer { was_authenticated: true, ..peer(Some("203.0.113.5")) };
        for client in [peer(Some("192.0.2.5")), peer(None), logged_in] {
            assert_eq!(as_client(client), ["accept"; 3], "{mail}");
        }
    }
}

#[test]
fn a_domain_that_says_nothing_lets_nothing_in_or_out() {
    let bench = configured("#{}", &[("domain-enabled/example.com/note.txt", "no rules")]);
    assert!(bench.judge.wants(Stage::Mail));
    assert_eq!(show(&bench.begin_as("jane@example.com")), "close 554");
    assert_eq!(show(&bench.begin_as("a@elsewhere.net")), "accept");
    // Only that recipient is refused; the session and the others go on.
    assert_eq!(bench.rcpt("jane@example.com"), "refuse 550");
    assert_eq!(bench.rcpt("joe@example.org"), "accept");
    assert_eq!(show_message(&bench.message(MESSAGE)), "Active 1 recipients 0 pieces");
    // Mail within a domain needs no file.
    let bench = configured("#{}", &[("domain-enabled/example.com/outgoing.vsl", "#{}")]);
    assert_eq!(show(&bench.begin_as("jane@example.com")), "accept");
    assert_eq!(bench.rcpt("sales@example.com"), "accept");
    assert_eq!(show_message(&bench.message(MESSAGE)), "Active 1 recipients 0 pieces");
}

#[test]
fn one_message_is_copied_for_a_few_domains_only() {
    let names: Vec<String> =
        (0..12).map(|n| format!("domain-enabled/d{n}.example.com/incoming.vsl")).collect();
    let files: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), "#{ rcpt: [ rule \"r\" || accept() ] }")).collect();
    let bench = configured("#{}", &files);
    bench.begin_as("a@elsewhere.net");
    let replies: Vec<String> = (0..12).map(|n| bench.rcpt(&format!("x@d{n}.example.com"))).collect();
    assert!(replies.iter().take(8).all(|reply| reply == "accept"), "{replies:?}");
    assert!(replies.iter().skip(8).all(|reply| reply == "refuse 452"), "{replies:?}");
    assert_eq!(bench.rcpt("y@d3.example.com"), "accept");
}

#[test]
fn folders_of_domains_may_be_links_and_other_things_in_the_folder_are_left_alone() {
    let bench = configured(
        "#{}",
        &[
            ("domain-enabled/README", "not a folder"),
            ("domain-enabled/not a domain/incoming.vsl", "broken ("),
            (
                "domain-enabled/example.org/incoming.vsl",
                "import \"objects/who\" as who; #{ rcpt: [ rule \"r\" || who::answer() ] }",
            ),
            ("objects/who.vsl", "fn answer() { state::reject(\"550 5.7.1 who\") }"),
        ],
    );
    bench.begin_as("a@elsewhere.net");
    assert_eq!(bench.rcpt("joe@example.org"), "refuse 550");

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("domain-available/example.com")).unwrap();
    fs::create_dir_all(dir.path().join("domain-enabled")).unwrap();
    fs::write(dir.path().join("domain-available/example.com/incoming.vsl"), "#{ rcpt: [] }").unwrap();
    let link = dir.path().join("domain-enabled/example.com");
    std::os::unix::fs::symlink("../domain-available/example.com", &link).unwrap();
    let slice = FilterSlice {
        config_dir: dir.path().display().to_string(),
        filter_path: dir.path().join("filter.vsl").display().to_string(),
        domain_dir: Some(dir.path().join("domain-enabled").display().to_string()),
        ..slice(&[])
    };
    let judge = Judge::load(&slice, &Surroundings::default()).unwrap();
    assert!(judge.scripts.has_domains() && !judge.wants(Stage::Rcpt));
    let missing = FilterSlice { domain_dir: Some("/nonexistent".to_owned()), ..slice };
    let error = Judge::load(&missing, &Surroundings::default()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent: cannot be listed"), "{error}");
}

#[test]
fn rules_that_cannot_be_looked_at_are_an_error_at_start_and_not_absent() {
    for (link, target, why) in [
        ("filter.vsl", "nowhere", "leads nowhere"),
        ("filter.vsl", "filter.vsl", "symbolic links"),
        ("rules", "rules", "symbolic links"),
        ("main.vsl", "nowhere", "leads nowhere"),
        ("domain-enabled", "nowhere", "leads nowhere"),
        ("domain-enabled/example.org", "nowhere", "leads nowhere"),
        ("domain-enabled/example.org", "../domain-enabled/example.com/incoming.vsl", "leads to no folder"),
        ("domain-enabled/example.com/internal.vsl", "nowhere", "leads nowhere"),
        ("domain-enabled/example.com/outgoing.vsl", "outgoing.vsl", "symbolic links"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        if link != "domain-enabled" {
            fs::create_dir_all(dir.path().join("domain-enabled/example.com")).unwrap();
            fs::write(dir.path().join("domain-enabled/example.com/incoming.vsl"), "#{}").unwrap();
        }
        std::os::unix::fs::symlink(target, dir.path().join(link)).unwrap();
        let slice = FilterSlice {
            config_dir: dir.path().display().to_string(),
            filter_path: dir.path().join("filter.vsl").display().to_string(),
            ..slice(&[])
        };
        let error = Judge::load(&slice, &Surroundings::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(link) && error.contains(why), "{link} -> {target}: {error}");
    }
}

#[test]
fn an_error_in_a_domains_script_is_an_error_at_start() {
    let broken =
        load_in("#{}", &[("domain-enabled/example.com/incoming.vsl", "#{\n  rcpts: [] }")]).unwrap_err();
    assert_eq!(broken.location.to_string(), "domain-enabled/example.com/incoming.vsl:1:1");
    assert!(broken.message.contains("'rcpts' does not exist"), "{broken}");
}

#[test]
fn the_shipped_rules_of_a_domain_load_and_let_its_mail_through() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/vsmtp/domain-available/example.com");
    let script = |name: &str| fs::read_to_string(format!("{folder}/{name}.vsl")).unwrap();
    let names = ["incoming", "outgoing", "internal"];
    let scripts = names.map(|name| (format!("domain-enabled/example.com/{name}.vsl"), script(name)));
    let files: Vec<(&str, &str)> =
        scripts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let bench = configured("#{}", &files);
    // A stranger writes as one of ours.
    assert_eq!(show(&bench.begin_as("jane@example.com")), "refuse 550");
    for (sender, recipient) in [
        ("a@elsewhere.net", "jane@example.com"),
        ("jane@example.com", "x@elsewhere.net"),
        ("jane@example.com", "sales@example.com"),
    ] {
        *bench.shared.lock() = Transaction::new(Arc::new(peer(None)), bench.judge.max_recipients);
        assert_eq!(show(&bench.begin_as(sender)), "accept");
        assert_eq!(bench.rcpt(recipient), "accept");
        assert_eq!(show_message(&bench.message(MESSAGE)), "Active 1 recipients 0 pieces");
    }
}

#[test]
fn the_examples_in_the_shipped_rules_of_a_domain_do_what_they_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/vsmtp/domain-available/example.com");
    let script = |name: &str| {
        fs::read_to_string(format!("{folder}/{name}.vsl")).unwrap().replace("        // ", "        ")
    };
    let (incoming, outgoing) = (script("incoming"), script("outgoing"));
    let bench = configured(
        "#{}",
        &[
            ("domain-enabled/example.com/incoming.vsl", &incoming),
            ("domain-enabled/example.com/outgoing.vsl", &outgoing),
        ],
    );
    // A stranger writes as one of ours; then somebody on this host, and from a private network.
    assert_eq!(show(&bench.begin_as("jane@example.com")), "refuse 550");
    for own in [None, Some("192.168.3.4")] {
        *bench.shared.lock() = Transaction::new(Arc::new(peer(own)), bench.judge.max_recipients);
        assert_eq!(show(&bench.begin_as("jane@example.com")), "accept", "{own:?}");
    }
    assert_eq!(show(&bench.begin_as("a@elsewhere.net")), "accept");
    assert_eq!(bench.rcpt("old@example.com"), "refuse 550");
    assert_eq!(bench.rcpt("jane@example.com"), "accept");
    let list = bench.message(b"List-Id: <l.elsewhere.net>\r\n\r\n");
    assert_eq!(show_message(&list), "Quarantine(\"lists\") 1 recipients 0 pieces");
}

/// The header as rules after the queue leave it.
fn after_the_queue(bench: &Bench, client: Option<&str>, envelope: vsmtp_mail::Envelope) -> String {
    use crate::judge::{PostJudged, PostMessage};
    let message = PostMessage {
        id: QueueIdMint::new(1, 1).next(1),
        stage: Some(Stage::Postq),
        is_report: false,
        reroute: false,
        envelope,
        peer: peer(client),
        helo: "client.test".to_owned(),
        arrived_ms: 0,
        resume: None,
        content: Arc::new(Inline(Arc::new(b"Subject: x\r\n\r\n".to_vec()))),
    };
    let PostJudged::Edit(edit) = bench.judge.post(message) else { panic!("nobody has edited it") };
    let Some(Piece::Text(header)) = edit.pieces.first() else { panic!("no header") };
    String::from_utf8_lossy(header).into_owned()
}

#[test]
fn the_domain_whose_rules_judged_before_the_queue_judges_after_it_whatever_was_rewritten() {
    let bench = two_domains();
    for (sender, to, expected) in [
        ("a@elsewhere.net", "jane@example.com", "com incoming"),
        ("a@elsewhere.net", "x@elsewhere.net", "root"),
        ("jane@example.com", "x@elsewhere.net", "com outgoing"),
    ] {
        bench.begin_as(sender);
        bench.shared.lock().recipients.clear();
        let spec =
            RcptSpec { address: Address::parse(to).unwrap(), original: None, notify: Notify::default() };
        {
            let mut transaction = bench.shared.lock();
            let sender = transaction.sender.as_ref();
            transaction.part = bench.judge.scripts.part_of_recipient(sender, true, spec.address.domain());
            transaction.add_client_recipient(spec).unwrap();
        }
        let mut envelope = only(bench.message(b"Subject: x\r\n\r\n")).envelope;
        // Rules and aliases may have made anything of it.
        envelope.reverse_path = ReversePath::parse("joe@example.org").unwrap();
        envelope.recipients[0].address = Address::parse("joe@example.org").unwrap();
        let header = after_the_queue(&bench, Some("203.0.113.5"), envelope.clone());
        assert!(header.contains(&format!("X-By: {expected} postq\r\n")), "{sender} {to}: {header}");
        // Where that domain has no rules any more, somebody's rules judge it all the same.
        let gone = vsmtp_mail::Domain::parse("gone.test").unwrap();
        envelope.terms.rules = Some(vsmtp_mail::RulesOf::Incoming(gone));
        let header = after_the_queue(&bench, Some("203.0.113.5"), envelope);
        assert!(header.contains("X-By: org incoming postq\r\n"), "{sender} {to}: {header}");
    }
}

#[test]
fn where_it_was_not_kept_rules_after_the_queue_are_those_of_the_messages_domain() {
    let bench = two_domains();
    let stranger = Some("203.0.113.5");
    for (client, sender, to, original, expected) in [
        (None, "a@elsewhere.net", "jane@example.com", None, "com incoming"),
        (None, "a@elsewhere.net", "x@elsewhere.net", None, "root"),
        (None, "", "joe@example.org", None, "org incoming"),
        (None, "jane@example.com", "sales@example.com", None, "com internal"),
        (None, "jane@example.com", "joe@example.org", None, "com outgoing"),
        // An alias led it out of the domain.
        (None, "a@elsewhere.net", "x@elsewhere.net", Some("jane@example.com"), "com incoming"),
        // Nothing vouches for the sender.
        (stranger, "jane@example.com", "sales@example.com", None, "com incoming"),
        (stranger, "jane@example.com", "joe@example.org", None, "org incoming"),
        (stranger, "jane@example.com", "x@elsewhere.net", None, "com outgoing"),
        (stranger, "jane@example.com", "x@elsewhere.net", Some("joe@example.org"), "org incoming"),
    ] {
        bench.begin_as(sender);
        bench.shared.lock().recipients.clear();
        let spec =
            RcptSpec { address: Address::parse(to).unwrap(), original: None, notify: Notify::default() };
        bench.shared.lock().add_client_recipient(spec).unwrap();
        let mut envelope = only(bench.message(b"Subject: x\r\n\r\n")).envelope;
        assert!(envelope.terms.rules.take().is_some());
        envelope.recipients[0].original = original
            .map(|address| vsmtp_mail::OriginalRecipient { kind: "rfc822".into(), address: address.into() });
        let header = after_the_queue(&bench, client, envelope);
        assert!(
            header.contains(&format!("X-By: {expected} postq\r\nX-By: {expected} delivery")),
            "{sender} {to}: {header}"
        );
    }
}
