//! The recipes of `docs/vsl/cookbook.md` and `docs/migration.md`, each played against an MTA of its own as it stands there: its files, its session, and
//! what arrived. The format of a session is told at the top of the cookbook.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use vsmtp_tests::{
    Client, DIRECTORY, Directory, MARIADB, MariaDb, Mta, NameServer, Proxsmtp, RedisServer, ReplyText,
    Settings, Sink, free_port, make_sqlite, needs_programs, run, said,
};

/// Recipes played at once.
const PLAYERS: usize = 2;
/// Mail arrives within this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where a scanner for viruses is, and where it brings back what it has seen, in the words of a recipe.
const SCANNER: [&str; 2] = ["127.0.0.1:10026", "127.0.0.1:10025"];
/// The pages, and the fewest recipes of each: a reader that finds none must not pass.
const PAGES: [(&str, usize); 2] = [("vsl/cookbook.md", 30), ("migration.md", 2)];

/// The database of recipes that ask MySQL; the SQL that fills it is the block `sql mysql`.
const MYSQL: &str = "mysql://mail:secret@db.example.com/mail";
/// The directory of recipes that ask one; the block `ldif ldap` is what is in it.
const LDAP: &str = "ldap://ds.example.com";
/// The server of recipes that ask Redis; the block `text redis` has a command of one key and one value in each line.
const REDIS: &str = "redis://:secret@cache.example.com";

/// One recipe.
#[derive(Debug)]
struct Recipe {
    title: String,
    blocks: Vec<Block>,
}

/// What stands between two fences.
#[derive(Debug)]
struct Block {
    /// The first word behind the fence.
    kind: String,
    /// The second: where the text lies below `/etc/vsmtp`, or `dns`.
    path: String,
    text: String,
}

impl Recipe {
    fn block(&self, path: &str) -> Option<&str> {
        self.blocks.iter().find(|block| block.path == path).map(|block| block.text.as_str())
    }

    fn needs_scanner(&self) -> bool {
        self.blocks.iter().any(|block| block.text.contains(SCANNER[0]))
    }

    fn session(&self) -> &str {
        self.blocks.iter().find(|block| block.kind == "session").map_or("", |block| block.text.as_str())
    }
}

fn recipes(page: &str) -> Vec<Recipe> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = fs::read_to_string(path).expect("read the page");
    let (mut recipes, mut open): (Vec<Recipe>, Option<Block>) = (Vec::new(), None);
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```"), recipes.last_mut()) {
            (Some(_), Some(_), Some(recipe)) => recipe.blocks.extend(open.take()),
            (Some(block), None, _) => block.text.extend([line, "\n"]),
            (None, Some(info), Some(_)) => {
                let (kind, path) = info.split_once(' ').unwrap_or((info, ""));
                open = Some(Block { kind: kind.to_owned(), path: path.to_owned(), text: String::new() });
            }
            _ => {
                if let Some(title) = line.strip_prefix("### ") {
                    recipes.push(Recipe { title: title.to_owned(), blocks: Vec::new() });
                }
            }
        }
    }
    recipes
}

#[test]
fn every_recipe_does_what_it_says() {
    let mut recipes = Vec::new();
    for (page, fewest) in PAGES {
        let found = self::recipes(page);
        assert!(found.len() >= fewest, "{page}: {} recipes", found.len());
        recipes.extend(found);
    }
    let failed: Vec<String> = std::thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS)
            .map(|player| {
                let share = recipes.iter().skip(player).step_by(PLAYERS);
                scope.spawn(move || share.filter_map(|recipe| play(recipe).err()).collect::<Vec<String>>())
            })
            .collect();
        players.into_iter().flat_map(|player| player.join().expect("a player")).collect()
    });
    assert!(failed.is_empty(), "{} recipes fail:\n{}", failed.len(), failed.join("\n"));
}

/// Plays a recipe; what went wrong.
fn play(recipe: &Recipe) -> Result<(), String> {
    if recipe.needs_scanner() && !needs_programs(&recipe.title, &[Proxsmtp::PROGRAM]) {
        return Ok(());
    }
    let session = recipe.session();
    if recipe.block("mysql").is_some() && !needs_programs(&recipe.title, &MARIADB) {
        return Ok(());
    }
    if recipe.block("redis").is_some() && !needs_programs(&recipe.title, &RedisServer::PROGRAMS) {
        return Ok(());
    }
    if recipe.block("ldap").is_some() && !needs_programs(&recipe.title, &DIRECTORY) {
        return Ok(());
    }
    let mut stage = Stage::set(recipe);
    let problem = if session.is_empty() {
        Some("it has no session".to_owned())
    } else {
        session.lines().find_map(|line| stage.step(line).err().map(|problem| format!("{line}: {problem}")))
    };
    let log = stage.mta.log();
    match problem {
        None if log.contains("event=script-failed") => Err(format!("{}: a rule failed\n{log}", recipe.title)),
        None => Ok(()),
        Some(problem) => Err(format!("{}: {problem}\n{log}", recipe.title)),
    }
}

/// The MTA of one recipe, and who speaks with it.
struct Stage {
    mta: Mta,
    relay: Sink,
    _names: NameServer,
    _database: Option<MariaDb>,
    _redis: Option<RedisServer>,
    _directory: Option<Directory>,
    _scanner: Option<Proxsmtp>,
    client: Option<Client>,
    has_greeted: bool,
    has_sender: bool,
    message: String,
}

impl Stage {
    fn set(recipe: &Recipe) -> Stage {
        let relay = Sink::start();
        let port = relay.port().to_string();
        let names = names(recipe.block("dns").unwrap_or(""));
        let database = recipe.block("mysql").map(|sql| {
            let mut server = MariaDb::prepare();
            server.start();
            server.query(&format!("use mail; {sql}"));
            server
        });
        let url = database.as_ref().map_or_else(|| MYSQL.to_owned(), |server| server.urls()[0].clone());
        let directory = recipe.block("ldap").map(|ldif| {
            let mut directory = Directory::prepare(ldif);
            directory.start();
            directory
        });
        let ldap_url = directory.as_ref().map_or_else(|| LDAP.to_owned(), Directory::url);
        let redis = recipe.block("redis").map(redis);
        let redis_url = redis.as_ref().map_or_else(|| REDIS.to_owned(), |server| server.urls()[0].clone());
        let config = format!(
            "config.server.name = \"mx.example.com\"; config.server.domains = [\"example.com\"];\n\
             config.server.relay_from = [\"10.0.0.0/8\"]; config.server.interfaces.proxied = config.server.interfaces.addr;\n\
             config.server.interfaces.proxies = [\"127.0.0.1/32\"]; config.delivery.relayhost = \"[127.0.0.1]:{port}\"; config.server.receivers = 1;\n{}\n{}",
            names.config(),
            recipe
                .block("vsmtp.vsl")
                .unwrap_or("")
                .replace(MYSQL, &url)
                .replace(REDIS, &redis_url)
                .replace(LDAP, &ldap_url)
        );
        let filter = recipe.block("filter.vsl").unwrap_or("").replace("$RELAY", &port);
        let doors = [free_port(), free_port()];
        let at = |text: String| {
            let replace =
                |text: String, at: usize| text.replace(SCANNER[at], &format!("127.0.0.1:{}", doors[at]));
            replace(replace(text, 0), 1)
        };
        let (config, filter) = (at(config), at(filter));
        let mut mta = Mta::prepare(&Settings { config: config.clone(), filter: filter.clone() });
        let etc = mta.root().join("etc/vsmtp");
        let filter = filter.replace("sqlite:/etc/vsmtp", &format!("sqlite:{}", etc.display()));
        mta.write_configuration(&Settings { config, filter });
        for block in &recipe.blocks {
            lay_down(block, &etc);
        }
        mta.launch();
        let folder = mta.root().join("scanner");
        let scanner = recipe.needs_scanner().then(|| Proxsmtp::start(&folder, doors[0], doors[1]));
        Stage {
            mta,
            relay,
            _names: names,
            _database: database,
            _redis: redis,
            _directory: directory,
            _scanner: scanner,
            client: None,
            has_greeted: false,
            has_sender: false,
            message: String::new(),
        }
    }

    /// One line of a session.
    fn step(&mut self, line: &str) -> Result<(), String> {
        if let Some(text) = line.strip_prefix('|') {
            self.message.extend([text.strip_prefix(' ').unwrap_or(text), "\r\n"]);
            return Ok(());
        }
        let (step, expected) =
            line.split_once("=>").map_or((line, None), |(step, said)| (step, Some(said.trim())));
        let (word, rest) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
        let reply = match word {
            "client" => self.connect(rest)?,
            "helo" => self.hello(rest),
            "from" => self.begin(rest)?,
            "to" => self.say(&format!("RCPT TO:{rest}"))?,
            "sent" => self.send()?,
            "relay" => return self.relay_has(rest),
            "queue" => return self.queue_holds(rest),
            "file" => return self.file_has(rest),
            address => return self.mailbox_has(address, rest),
        };
        let is_good = match expected {
            Some(expected) => reply.0.starts_with(expected),
            None => (200..300).contains(&reply.code()),
        };
        if is_good { Ok(()) } else { Err(format!("the answer is {:?}", reply.0)) }
    }

    /// A client from elsewhere, as a load balancer tells it, or from here.
    fn connect(&mut self, from: &str) -> Result<ReplyText, String> {
        let mut client = Client::connect(self.mta.port());
        let from = if from.is_empty() { "127.0.0.1" } else { from };
        client.send(format!("PROXY TCP4 {from} 192.0.2.25 40000 25\r\n").as_bytes());
        let reply = client.reply();
        (self.client, self.has_greeted, self.has_sender) = (Some(client), false, false);
        Ok(reply)
    }

    fn hello(&mut self, name: &str) -> ReplyText {
        self.has_greeted = true;
        self.client.as_mut().map_or(ReplyText(String::new()), |client| client.say(&format!("EHLO {name}")))
    }

    /// Begins a transaction, whatever came before.
    fn begin(&mut self, sender: &str) -> Result<ReplyText, String> {
        if std::mem::replace(&mut self.has_sender, true) {
            self.say("RSET")?;
        }
        self.message.clear();
        self.say(&format!("MAIL FROM:{sender}"))
    }

    /// Says a command, after what must come before it.
    fn say(&mut self, command: &str) -> Result<ReplyText, String> {
        if self.client.is_none() {
            self.connect("")?;
        }
        if !self.has_greeted && self.hello("client.example.net").code() != 250 {
            return Err("EHLO is refused".to_owned());
        }
        Ok(self.client.as_mut().ok_or("nobody is there")?.say(command))
    }

    fn send(&mut self) -> Result<ReplyText, String> {
        let reply = self.say("DATA")?;
        if reply.code() != 354 {
            return Ok(reply);
        }
        let message = std::mem::take(&mut self.message);
        let client = self.client.as_mut().ok_or("nobody is there")?;
        client.send(message.as_bytes());
        Ok(client.say("."))
    }

    /// `ADDRESS gets LINE`, `gets no LINE`, `gets nothing`.
    fn mailbox_has(&self, address: &str, what: &str) -> Result<(), String> {
        let (local, domain) = address.split_once('@').ok_or("that is not a step")?;
        match what.strip_prefix("gets ").ok_or("that is not a step")? {
            "nothing" => {
                self.settle();
                let count = self.mta.mail_count(domain, local);
                if count == 0 { Ok(()) } else { Err(format!("there are {count} messages")) }
            }
            line => {
                within_reason(|| self.mta.mail_count(domain, local) > 0);
                judge(&self.mta.maildir(domain, local).concat(), line)
            }
        }
    }

    /// `relay gets LINE`, and of the envelope `gets from <…>` and `gets to <…>`.
    fn relay_has(&self, what: &str) -> Result<(), String> {
        within_reason(|| self.relay.count() > 0);
        let mut text = String::new();
        for message in self.relay.messages() {
            let _ = write!(text, "from <{}>\r\n", message.from);
            message.to.iter().for_each(|to| text.extend(["to <", to, ">\r\n"]));
            text.push_str(&message.data);
        }
        judge(&text, what.strip_prefix("gets ").ok_or("that is not a step")?)
    }

    /// `queue holds`, or `queue holds NAME` of a quarantine.
    fn queue_holds(&self, what: &str) -> Result<(), String> {
        let name = what.strip_prefix("holds").ok_or("that is not a step")?.trim();
        let id = |row: serde_json::Value| row["queue_id"].as_str().unwrap_or_default().to_owned();
        let ids = || self.mta.ctl_rows(&["queue", "list"]).into_iter().map(id).collect::<Vec<String>>();
        let is_it = |entry: &serde_json::Value| match name {
            "" => entry["queue_name"] == "held",
            name => entry["queue_name"] == "quarantined" && entry["quarantine"] == name,
        };
        let is_there = || {
            // One may leave while it is looked at.
            let rows = ids().into_iter().flat_map(|id| self.shown(&id));
            rows.into_iter().any(|entry| is_it(&entry))
        };
        within_reason(is_there);
        if is_there() { Ok(()) } else { Err(format!("there are {:?}", ids())) }
    }

    /// `file FOLDER has LINE`, `has no LINE`: of files that rules have written, which are there before the client hears so.
    fn file_has(&self, what: &str) -> Result<(), String> {
        let (folder, line) = what.split_once(" has ").ok_or("that is not a step")?;
        let folder = self.mta.root().join("var/spool/vsmtp/app").join(folder);
        let mut text = String::new();
        for entry in
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?.flatten()
        {
            let file = fs::read(entry.path()).map_err(|error| error.to_string())?;
            String::from_utf8_lossy(&file).lines().for_each(|line| text.extend([line.trim_start(), "\n"]));
        }
        judge(&text, line)
    }

    /// What `vsmtpctl` knows of one message, if it is there.
    fn shown(&self, id: &str) -> Option<serde_json::Value> {
        let output = self.mta.ctl(&["queue", "show", id, "--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until nothing is on its way any more.
    fn settle(&self) {
        within_reason(|| self.mta.ctl_rows(&["queue", "list", "--state", "active"]).is_empty());
    }
}

/// Waits until something holds, or is too late to come; whoever looks then says what is missing.
fn within_reason(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn judge(text: &str, wanted: &str) -> Result<(), String> {
    let has = |line: &str| text.lines().any(|there| there.starts_with(line));
    let is_good = wanted.strip_prefix("no ").map_or_else(|| has(wanted), |line| !has(line));
    if is_good { Ok(()) } else { Err(format!("there is\n{text}")) }
}

/// A server that knows what a recipe says.
fn redis(commands: &str) -> RedisServer {
    let mut server = RedisServer::prepare();
    server.start();
    for line in commands.lines() {
        server.command(&line.splitn(3, ' ').collect::<Vec<_>>());
    }
    server
}

/// Puts a file of a recipe in its place, or has it made.
fn lay_down(block: &Block, etc: &Path) {
    if block.path.is_empty()
        || ["dns", "mysql", "redis", "ldap", "vsmtp.vsl", "filter.vsl"].contains(&block.path.as_str())
    {
        return;
    }
    let path = etc.join(&block.path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("make its folder");
    if block.kind == "sql" {
        make_sqlite(&path, &block.text);
    } else if block.kind == "openssl" {
        let out = path.display().to_string();
        let words = block.text.split_whitespace().chain(["-out", &out]).collect::<Vec<_>>();
        said(&run("openssl", &words));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("hide the key");
    } else {
        fs::write(&path, &block.text).expect("write it");
    }
}

/// `NAME A ADDRESS` and `NAME TXT "TEXT"`.
fn names(text: &str) -> NameServer {
    let (mut addresses, mut texts) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(name), Some("A"), Some(address)) => {
                let address: std::net::Ipv4Addr = address.parse().expect("an address");
                addresses.push((name, address.octets()));
            }
            (Some(name), Some("TXT"), Some(text)) => texts.push((name, text.trim_matches('"'))),
            _ => panic!("not a record: {line}"),
        }
    }
    NameServer::serve_both(&addresses, &texts)
}
