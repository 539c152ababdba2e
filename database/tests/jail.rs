//! What a captured asker of databases would try fails under its table; what it is for works.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use vsmtp_config::{Database, Value};
use vsmtp_database::sandbox;
use vsmtp_stage::jail;
use vsmtp_sys::sandbox::{Landlock, Profile, apply};

const FOLDER: &str = "VSMTP_TEST_FOLDER";
/// All that is left: connections.
const POSSIBLE: [&str; 5] = ["unix socket", "tcp socket", "tcp6 socket", "udp socket", "connect"];

fn main() {
    match jail::word().as_deref() {
        Some("all") => drop(jail::try_all(profile("mysql://mail@127.0.0.1/mail"))),
        Some("connect") => connect(),
        Some("names") => names(),
        Some(_) => file(),
        None => {
            only_connections_can_be_made();
            databases_are_reached_and_no_file_is();
            names_are_found_where_a_database_has_one();
            a_file_of_sqlite_is_read_and_nothing_is_written();
        }
    }
}

fn profile(url: &str) -> Profile {
    let url = Value::Text(url.to_owned());
    let database = Database::read(&Value::Map([("url".to_owned(), url)].into())).unwrap();
    sandbox::prepare(std::slice::from_ref(&database));
    sandbox::profile(&[database])
}

fn only_connections_can_be_made() {
    assert_eq!(jail::possible(&jail::inside("all", &[])), POSSIBLE);
}

/// By TCP and by a Unix socket, with the waits of the client library.
fn connect() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (_local, tcp) = (UnixListener::bind(&path).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = tcp.local_addr().unwrap();
    apply(&profile("mysql://mail@127.0.0.1/mail")).unwrap();
    let mut ours = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
    ours.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    ours.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    ours.set_nodelay(true).unwrap();
    assert!(ours.read(&mut [0; 1]).is_err(), "every wait ends");
    ours.write_all(b"x").unwrap();
    let mut ours = UnixStream::connect(&path).unwrap();
    ours.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    ours.write_all(b"x").unwrap();
    assert!(std::fs::read("/etc/hosts").is_err() && std::fs::read("/proc/self/environ").is_err());
    // Nobody leaves anything behind: the folder cannot be removed either.
    assert!(std::fs::remove_file(&path).is_err());
    std::thread::spawn(|| {}).join().unwrap();
    writeln!(std::io::stdout().lock(), "{}", folder.keep().display()).unwrap();
}

fn databases_are_reached_and_no_file_is() {
    let folder = jail::inside("connect", &[]);
    std::fs::remove_dir_all(folder.trim_end()).unwrap();
}

fn names() {
    let applied = apply(&profile("mysql://mail@localhost/mail")).unwrap();
    let found: Vec<_> = ("localhost", 3306).to_socket_addrs().unwrap().collect();
    assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty(), "{found:?}");
    assert!(TcpListener::bind("127.0.0.1:0").is_err());
    if applied.landlock != Landlock::None {
        assert!(std::fs::read("/etc/passwd").is_err());
    }
}

fn names_are_found_where_a_database_has_one() {
    jail::inside("names", &[]);
}

/// With the library that reads such files, as the process itself does it.
fn file() {
    let folder = std::env::var(FOLDER).unwrap();
    let path = format!("{folder}/users.db");
    let applied = apply(&profile(&format!("sqlite:{path}"))).unwrap();
    let read = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let handle = rusqlite::Connection::open_with_flags(&path, flags)?;
        handle.query_row("select name from users where id = ?", [1], |row| row.get::<_, String>(0))
    };
    assert_eq!(read().unwrap(), "Jane");
    assert_eq!(sorted(&path).unwrap(), 1);
    // Another file in its place.
    assert!(std::fs::metadata(&path).is_ok());
    assert!(std::fs::write(&path, "x").is_err() && std::fs::remove_file(&path).is_err());
    assert!(std::fs::write(format!("{folder}/other"), "x").is_err());
    if applied.landlock != Landlock::None {
        assert!(std::fs::read("/etc/passwd").is_err());
    }
}

/// More than SQLite keeps in its cache, which would go to a temporary file otherwise.
fn sorted(path: &str) -> rusqlite::Result<i64> {
    let handle = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    handle.pragma_update(None, "temp_store", "memory")?;
    let many = "with recursive n(x) as (select 1 union all select x + 1 from n limit 60000) \
                select x from (select x, printf('%0200d', x) as y from n order by y) limit 1";
    handle.query_row(many, [], |row| row.get(0))
}

fn a_file_of_sqlite_is_read_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let handle = rusqlite::Connection::open(folder.path().join("users.db")).unwrap();
    handle
        .execute_batch("create table users (id integer, name text); insert into users values (1, 'Jane')")
        .unwrap();
    drop(handle);
    jail::inside("file", &[(FOLDER, folder.path().as_os_str())]);
}
