//! The reference of vSL, made of the table of functions: one page per module, and an index. It says what the registrations
//! say and nothing else, so it cannot disagree with them.

use std::fmt::Write;

use super::registry::{Form, Function};

/// Modules in the order of the index, with what each is for. Globals are those without a module.
const MODULES: &[(&str, &str)] = &[
    ("", "Functions without a module."),
    ("ctx", "What the client said and where it is. Reading only."),
    ("state", "Statuses: what a rule returns. A rule must end in one."),
    ("code", "Ready-made replies for `state::deny()` and the like."),
    ("envelop", "Who the message is from and to."),
    (
        "msg",
        "The header, byte-exact, and the text of the message. Fields that no function touches keep their bytes, order and folding.",
    ),
    ("mime", "The parts of the message: types, names, texts. Read once per message, within bounds."),
    (
        "transport",
        "How each recipient is delivered. Without a call the routing tables of the configuration decide.",
    ),
    ("queue", "What becomes of the message in the queue."),
    ("bounce", "How reports on the message are worded."),
    ("notify", "Mail about the message, to others than its sender."),
    ("dsn", "What the sender wants to hear about delivery (RFC 3461)."),
    ("auth", "Whether the client has authenticated, and as whom."),
    ("tls", "What the TLS handshake with the client has agreed on."),
    ("obj", "Typed values: constructors, properties, operators. The constructors are global too."),
    ("net", "Networks."),
    ("netset", "Sets of networks and addresses, from files that may change while the server runs."),
    ("table", "Lookup tables of the types that Postfix has."),
    ("srs", "The Sender Rewriting Scheme, for what is forwarded."),
    ("dns", "Questions to the DNS."),
    ("dnsbl", "Lists of hosts in the DNS (RFC 5782), with weights."),
    ("ratelimit", "How often something may happen in a time."),
    ("greylist", "Has whoever writes for the first time come again."),
    ("spf", "SPF (RFC 7208)."),
    ("dkim", "DKIM (RFC 6376, RFC 8463)."),
    ("dmarc", "DMARC (RFC 9989)."),
    ("arc", "ARC (RFC 8617)."),
    ("cmd", "Programs that rules run. A process of its own starts them, and none that is not declared."),
    ("mysql", "MySQL and MariaDB databases. A process of its own asks them, and none that is not declared."),
    (
        "redis",
        "Servers of Redis: values under names, which all hosts of a site share. A process of its own asks them, and none that is not declared.",
    ),
    (
        "memcached",
        "Servers of memcached: values under names, which are kept for a while. A process of its own asks them, and none that is not declared.",
    ),
    (
        "ldap",
        "Directories, which rules search. A process of its own asks them, and none that is not declared.",
    ),
    ("smtp", "Services that see messages and give them back: virus scanners and other content filters."),
    ("csv", "Tables in CSV files, which rules read and keep."),
    ("cfg", "The configuration, as far as the filter is told it. Reading only."),
    ("fs", "Files that rules write: messages, and what is known of them."),
    ("time", "The clock, in UTC."),
    ("utils", "The host, and small helpers."),
    ("unix", "The host, by the names of its own that some scripts use."),
    ("logging", "Lines for the log."),
];

/// All pages: file name and text.
pub fn pages(table: &[Function]) -> Vec<(String, String)> {
    let mut pages = Vec::new();
    let mut index = String::from(INDEX);
    for (module, about) in MODULES {
        let rows: Vec<&Function> =
            table.iter().filter(|row| row.module == *module && row.form != Form::Alias).collect();
        if rows.is_empty() {
            continue;
        }
        let file = format!("{}.md", if module.is_empty() { "globals" } else { module });
        let _ = writeln!(index, "| [{}]({file}) | {about} |", title(module));
        pages.push((file, page(module, about, &rows)));
    }
    pages.push(("README.md".to_owned(), index));
    pages
}

const INDEX: &str = "# Functions of vSL

One page per module, made from the functions as they are registered in the filter; every example runs as a test.
*Stages* says from which stage on a function may be called: before, it throws. Names of vSL 1.x are global functions.
[testing.md](testing.md) says how rules are checked and tested, [differences.md](differences.md) what differs from vSMTP 1.x and 2.x.

| module | for |
| --- | --- |
";

fn title(module: &str) -> String {
    if module.is_empty() { "globals".to_owned() } else { format!("{module}::") }
}

fn page(module: &str, about: &str, rows: &[&Function]) -> String {
    let mut out = format!("# {}\n\n{about}\n", title(module));
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.form as usize, row.name));
    let mut last = "";
    for row in rows {
        let heading = row.name;
        if heading != last {
            let _ = write!(out, "\n## {}\n", shown(row));
        }
        last = heading;
        entry(&mut out, row);
    }
    out
}

/// How a script writes the name.
fn shown(row: &Function) -> String {
    match row.form {
        Form::Property | Form::Method => format!(".{}", row.name),
        _ if row.module.is_empty() => row.name.to_owned(),
        _ => format!("{}::{}", row.module, row.name),
    }
}

fn entry(out: &mut String, row: &Function) {
    let doc = row.doc;
    let _ = write!(out, "\n```rust,ignore\n{}{}\n```\n\n{}\n", shown(row), doc.signature, doc.text);
    let stages = match row.from {
        Some(stage) if row.until == Some(stage) => Some(format!("`{stage}`")),
        Some(stage) if row.until.is_some() => row.until.map(|until| format!("from `{stage}` to `{until}`")),
        Some(stage) if stage == crate::stage::Stage::ALL[0] => Some("all".to_owned()),
        Some(stage) => Some(format!("from `{stage}` on")),
        None if row.form == Form::Function => Some("all, and while scripts are loaded".to_owned()),
        None => None,
    };
    let mut facts = Vec::new();
    if let Some(stages) = stages {
        facts.push(format!("* Stages: {stages}."));
    }
    if !doc.errors.is_empty() {
        facts.push(format!("* Throws {}.", doc.errors));
    }
    let old: Vec<String> = row.global.iter().map(|name| format!("`{name}`")).collect();
    if !old.is_empty() {
        facts.push(format!("* Global name: {}.", old.join(", ")));
    }
    if !facts.is_empty() {
        let _ = write!(out, "\n{}\n", facts.join("\n"));
    }
    if !doc.example.is_empty() {
        let _ = write!(out, "\n```rust,ignore\n{}\n```\n", doc.example);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::{at, engine, jane, run_example, table};
    use super::*;
    use crate::stage::Stage;

    #[test]
    fn the_reference_is_what_the_registrations_say() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vsl"));
        let rewrite = std::env::var_os("VSMTP_REWRITE_DOCS").is_some();
        for (file, text) in pages(&table()) {
            let path = folder.join(&file);
            if rewrite {
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(written == text, "docs/vsl/{file} is stale: run this test with VSMTP_REWRITE_DOCS=1");
        }
    }

    #[test]
    fn every_row_says_what_it_does_and_belongs_to_a_page() {
        for row in table().iter().filter(|row| row.form != Form::Alias) {
            let name = shown(row);
            assert!(MODULES.iter().any(|(module, _)| *module == row.module), "{name} has no page");
            assert!(!row.doc.text.is_empty() && !row.doc.signature.is_empty(), "{name} is not described");
            assert!(!row.doc.example.is_empty(), "{name} has no example");
            assert!(row.doc.text.ends_with('.') && !row.doc.errors.ends_with('.'), "{name}: full stops");
        }
    }

    #[test]
    fn every_example_works_at_its_first_stage() {
        let engine = engine();
        let mut failed = Vec::new();
        for row in table().iter().filter(|row| row.form != Form::Alias) {
            let stage = row.from.unwrap_or(Stage::Connect);
            // Values that an example needs may come later than the function itself: it says so.
            let stage = match row.doc.example.split_once("// from ") {
                Some((_, later)) => Stage::parse(later.split_whitespace().next().unwrap_or("")).unwrap(),
                None => stage,
            };
            let mut transaction = at(stage);
            if stage == Stage::Authenticate {
                transaction.identify(Some(jane()));
            }
            if let Err(error) = run_example(&engine, transaction, row.doc.example) {
                failed.push(format!("{} at {stage}: {}: {error}", shown(row), row.doc.example));
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}
