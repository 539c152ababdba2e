//! Rules that ask a real MariaDB: greylisting, accounts, clients that say SQL, a server that is away, and one that hangs.

use std::fs;
use std::io::Write;

use vsmtp_tests::{Client, MARIADB, MariaDb, Mta, Sink, needs_programs, needs_root, signal, wait_until};

use crate::settings;

const GREYLIST: &str = "create table mail.greylist (sender varchar(320) primary key, seen timestamp(3) not null default \
                        '2026-01-02 03:04:05.678', client varchar(64), score decimal(5,2) default 1.50, note text)";

/// As a site of 2.x has it: a service in a file of its own, made by a plugin.
const SERVICE: &str = r##"
    import "plugins/libvsmtp_plugin_mysql" as mysql;
    export const greylist = mysql::connect(#{ url: "URL", timeout: "4m", connections: 2 });
"##;

/// `careless@` makes a text of what the client has said, as examples of 2.x do.
const RULES: &str = r##"
    import "services/db" as services;
    service old db:mysql = #{ url: "SOCKET", timeout: "4m" };
    const accounts = mysql::connect("accounts");
    const table_of_old = table("mysql:maps/greylist.cf");
    fn known(sender) { services::greylist.query("select * from greylist where sender = ?", [sender]) }
    #{
        mail: [ rule "ask" || {
            let sender = ctx::mail_from();
            switch sender.domain.to_string() {
                "careless.test" => {
                    services::greylist.query(`select * from greylist where sender = '${sender.local_part}'`);
                    state::next()
                },
                "grey.test" => {
                    if known(sender) == [] {
                        services::greylist.query("insert into greylist (sender, client) values (?, ?)", [sender, ctx::client_ip()]);
                        return state::reject("451 4.7.1 come again");
                    }
                    let row = known(sender)[0];
                    state::reject(`550 5.7.1 ${row.seen} ${row.client} ${row.score} ${row.note == ()}`)
                },
                "socket.test" => state::reject(`550 5.7.1 ${old.query("select count(*) as n, ? as x from greylist", [7])[0]}`),
                "table.test" => {
                    let found = table_of_old.get(`${sender.local_part}@grey.test`);
                    if found == () { found = "nothing"; }
                    state::reject(`550 5.7.1 ${found} ${sender in table_of_old}`)
                },
                "many.test" => {
                    old.query("select a.seq from seq_1_to_100000 a");
                    state::next()
                },
                "wait.test" => {
                    let got = services::greylist.query("select get_lock('wait', 200) as got")[0].got;
                    state::reject(`550 5.7.1 ${got}`)
                },
                "accounts.test" => {
                    let said = "none";
                    try { said = accounts.query("select 1 + ? as two", [1])[0].two; } catch (why) { said = "caught"; }
                    state::reject(`550 5.7.1 ${said}`)
                },
                _ => state::next(),
            }
        } ],
        postq: [ action "seen" || {
            if ctx::mail_from().domain.to_string() == "later.test" {
                services::greylist.query("insert into greylist (sender) values (?)", [`seen ${ctx::mail_from()}`]);
            }
        } ],
    }"##;

fn prepare(server: &MariaDb, sink: &Sink) -> Mta {
    let [tcp, socket] = server.urls();
    // What fails for want of a database is for later, whatever is said of what fails.
    let config = format!(
        "config.filter.databases = #{{ accounts: #{{ url: \"{tcp}\", timeout: \"4m\", connections: 1 }} }};
         config.filter.timeout = \"5m\"; config.filter.on_error = \"deny\";"
    );
    let mta = Mta::prepare(&settings(&RULES.replace("SOCKET", &socket), sink, &config));
    let services = mta.root().join("etc/vsmtp/services");
    fs::create_dir_all(&services).unwrap();
    let maps = mta.root().join("etc/vsmtp/maps");
    fs::create_dir_all(&maps).unwrap();
    fs::write(
        maps.join("greylist.cf"),
        server.table("SELECT client, score FROM greylist WHERE sender = '%s'"),
    )
    .unwrap();
    fs::write(services.join("db.vsl"), SERVICE.replace("URL", &tcp)).unwrap();
    mta
}

fn mail_from(mta: &Mta, sender: &str) -> String {
    Client::hello(mta.port()).mail(sender, &["b@dst.test"], "Subject: x\r\n\r\nx\r\n").0
}

#[test]
fn rules_ask_mariadb_and_clients_do_not() {
    let name = "rules_ask_mariadb_and_clients_do_not";
    if !needs_programs(name, &MARIADB) {
        return;
    }
    let mut server = MariaDb::prepare();
    let sink = Sink::start();
    let mut mta = prepare(&server, &sink);
    // It is away at the start: that is no error of the configuration, and mail comes again later.
    mta.launch();
    assert!(mail_from(&mta, "a@grey.test").starts_with("451 "), "{}", mta.log());
    assert_eq!(mail_from(&mta, "a@accounts.test"), "550 5.7.1 caught", "{}", mta.log());
    assert!(mail_from(&mta, "a@src.test").starts_with("250"), "who asks nothing is not concerned");
    server.start();
    server.query(GREYLIST);
    assert_eq!(mail_from(&mta, "a@grey.test"), "451 4.7.1 come again", "{}", mta.log());
    let seen = "550 5.7.1 2026-01-02 03:04:05.678 127.0.0.1 1.50 true";
    assert_eq!(mail_from(&mta, "a@grey.test"), seen, "{}", mta.log());
    assert_eq!(mail_from(&mta, "a@socket.test"), "550 5.7.1 #{\"n\": \"1\", \"x\": \"7\"}", "{}", mta.log());
    assert_eq!(mail_from(&mta, "a@accounts.test"), "550 5.7.1 2", "{}", mta.log());
    assert_eq!(mail_from(&mta, "a@table.test"), "550 5.7.1 127.0.0.1,1.50 false", "{}", mta.log());
    assert_eq!(mail_from(&mta, "nobody@table.test"), "550 5.7.1 nothing false", "{}", mta.log());
    clients_that_say_sql(&mta, &server);
    too_much(&mta);
    one_that_hangs(&mta, &server);
    // After the queue too.
    assert!(mail_from(&mta, "a@later.test").starts_with("250"), "{}", mta.log());
    wait_until("the rules after the queue have asked", || {
        server.query("select count(*) from mail.greylist where sender = 'seen a@later.test'") == "1\n"
    });
    // It goes away under open connections, and comes back.
    server.stop();
    assert!(mail_from(&mta, "a@grey.test").starts_with("451 "), "{}", mta.log());
    assert!(mail_from(&mta, "a@table.test").starts_with("451 "), "{}", mta.log());
    server.start();
    assert_eq!(mail_from(&mta, "a@grey.test"), seen, "{}", mta.log());
    // So does whoever asks it.
    signal(&[mta.pid_of("database.0")], "KILL");
    wait_until("it is asked again", || mail_from(&mta, "a@grey.test") == seen);
    nobody_sees_the_password(&mta);
    it_has_a_user_of_its_own(&mta, name);
}

/// Neither a parameter nor a text that a rule puts together is a second statement; a parameter is not even a part of one.
fn clients_that_say_sql(mta: &Mta, server: &MariaDb) {
    for local in ["\"' or ''='\"", "\"'; drop table greylist; -- \"", "a'||'b", "\"\\\\' or 1=1 #\""] {
        let sender = format!("{local}@grey.test");
        assert_eq!(mail_from(mta, &sender), "451 4.7.1 come again", "{sender}: {}", mta.log());
        let known = mail_from(mta, &sender);
        assert!(known.starts_with("550 5.7.1 2026-01-02"), "{sender}: {known}");
    }
    assert_eq!(server.query("select count(*) from mail.greylist"), "5\n");
    let said = mail_from(mta, "\"x'; drop table greylist; -- \"@careless.test");
    assert!(said.starts_with("451 "), "{said} {}", mta.log());
    assert_eq!(server.query("select count(*) from mail.greylist"), "5\n", "nobody has dropped it");
}

fn too_much(mta: &Mta) {
    assert!(mail_from(mta, "a@many.test").starts_with("451 "), "{}", mta.log());
    mta.logged("larger than 1000 rows");
    assert!(
        mail_from(mta, "a@socket.test").starts_with("550 5.7.1 #{"),
        "the next one is asked: {}",
        mta.log()
    );
}

/// A question that waits keeps its own session waiting, and nobody else.
fn one_that_hangs(mta: &Mta, server: &MariaDb) {
    let mut holder = server.session();
    let mut orders = holder.stdin.take().unwrap();
    orders.write_all(b"select get_lock('wait', 100);\n").unwrap();
    let waits = |state: &str| {
        let sql = "select count(*) from information_schema.processlist where state = 'User lock'";
        wait_until("the lock is waited for", || server.query(sql).trim() == state);
    };
    wait_until("the lock is held", || server.query("select is_used_lock('wait') is not null") == "1\n");
    let mut waiting = Client::hello(mta.port());
    waiting.send(b"MAIL FROM:<a@wait.test>\r\n");
    waits("1");
    assert!(mail_from(mta, "a@src.test").starts_with("250"), "{}", mta.log());
    assert_eq!(mail_from(mta, "a@accounts.test"), "550 5.7.1 2", "{}", mta.log());
    assert!(mail_from(mta, "a@grey.test").starts_with("550"), "its other connection is free: {}", mta.log());
    orders.write_all(b"select release_lock('wait');\n").unwrap();
    let reply = waiting.reply();
    assert_eq!((reply.code(), reply.0.contains("5.7.1 1")), (550, true), "{}", mta.log());
    drop(orders);
    let _ = holder.wait();
    // What a rule has locked does not stay locked for the next one that gets its connection.
    assert_eq!(mail_from(mta, "b@wait.test"), "550 5.7.1 1", "{}", mta.log());
    assert_eq!(mail_from(mta, "c@wait.test"), "550 5.7.1 1", "{}", mta.log());
}

fn nobody_sees_the_password(mta: &Mta) {
    let config = String::from_utf8_lossy(&mta.ctl(&["config", "show"]).stdout).into_owned();
    assert!(config.contains("mysql://mail@127.0.0.1"), "{config}");
    for said in [config, mta.log()] {
        assert!(!said.contains("s3cret"), "{said}");
    }
}

fn it_has_a_user_of_its_own(mta: &Mta, name: &str) {
    if !needs_root(name) {
        return;
    }
    let rows = mta.ctl_rows(&["sandbox"]);
    let uids = |is_database: bool| {
        let is_it = |name: &str| name.starts_with("database") == is_database;
        let rows = rows.iter().filter(move |row| row["process"].as_str().is_some_and(is_it));
        rows.map(|row| row["uids"][0].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let [uid] = uids(true)[..] else { panic!("{rows:?}") };
    assert!(uid != 0 && !uids(false).contains(&uid));
}

#[test]
fn nobody_asks_databases_where_there_are_none_and_wrong_ones_do_not_load() {
    let sink = Sink::start();
    let mut mta = Mta::prepare(&settings("", &sink, ""));
    mta.launch();
    assert!(mta.processes().iter().all(|process| !process.name.starts_with("database")), "nobody wants it");
    for wrong in [
        "const a = mysql::connect(#{ url: \"mysql://a:w0rd-1@b/c\", timeout: \"1 year\" }); #{}",
        "const a = mysql::connect(\"nobody\"); #{}",
        "import \"plugins/libvsmtp_plugin_mongodb\" as db; #{}",
        "service a db:mysql = #{ url: \"mysql://a:w0rd-1@b/c\" }; service b db:mysql = #{ url: \"mysql://a:w0rd-2@b/c\" }; #{}",
    ] {
        mta.write_configuration(&settings(wrong, &sink, ""));
        let refused = mta.ctl(&["reload"]);
        assert!(!refused.status.success(), "{wrong}: {}", mta.log());
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("w0rd"), "{refused:?}");
    }
    // What is described where nobody collects it is not asked.
    let late = "#{ mail: [ rule \"late\" || {
        mysql::connect(#{ url: \"mysql://a@127.0.0.1:1/b\" }).query(\"select 1\"); state::next()
    } ] }";
    mta.write_configuration(&settings(late, &sink, ""));
    assert!(mta.ctl(&["reload"]).status.success(), "{}", mta.log());
    wait_until("the new rules count", || mail_from(&mta, "a@src.test").starts_with("451"));
    mta.logged("it is not declared so");
}
