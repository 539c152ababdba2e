//! The reference of all keys, as `docs/configuration.md` holds it. A test compares the two.

use std::fmt::Write;

use crate::keys::GROUPS;
use crate::kind::plain;
use crate::legacy::{Fate, LEGACY};
use crate::table::{Key, Preset};

const HEAD: &str = "# Configuration keys

Every key of vSMTP's configuration, made from the table in `lib/config`. `on_config(config)` in `/etc/vsmtp/vsmtp.vsl`
receives a map with all defaults, changes what it wants, and returns it:

```
fn on_config(config) {
    config.server.name = \"mx.example.com\";
    config.server.domains = [\"example.com\"];
    config.delivery.mailboxes = [\"jane\", \"joe\"];
    config
}
```

What is left out has its default. A key that is not listed here is an error, and so is a value that does not fit.
Sizes are octets or texts such as `\"10MB\"` and `\"10MiB\"`; times are seconds or texts such as `\"90s\"`, `\"5m\"`, `\"1h30m\"`;
`()` stands for nothing. A relative path begins in the folder of `vsmtp.vsl`.
";

/// The reference in Markdown.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for (title, keys) in GROUPS {
        let _ = write!(text, "\n## {title}\n");
        for key in keys {
            entry(&mut text, key);
        }
    }
    other_versions(&mut text);
    text
}

fn entry(text: &mut String, key: &Key) {
    let readers: Vec<_> = key.readers.iter().map(|role| role.name()).collect();
    let _ = write!(
        text,
        "\n### `{}`\n\n{}\n\n* Type: {}.\n* Default: {}. Example: `{}`.\n* Read by: {}.\n",
        key.name,
        key.doc(),
        key.expected(),
        default(key),
        written(&key.example),
        readers.join(", "),
    );
}

fn default(key: &Key) -> String {
    match key.default {
        Preset::HostName => "the host's name".to_owned(),
        Preset::OwnDomains => "`server.name` and `\"localhost\"`".to_owned(),
        Preset::RelayFrom => "those of `server.relay_from`".to_owned(),
        _ => format!("`{}`", written(&key.default)),
    }
}

fn written(preset: &Preset) -> String {
    match preset.fixed() {
        Some(value) => plain(&value),
        None => "()".to_owned(),
    }
}

fn other_versions(text: &mut String) {
    text.push_str("\n## Keys of other versions\n\n| key | what becomes of it |\n| --- | --- |\n");
    for legacy in LEGACY {
        let fate = match legacy.fate {
            Fate::Renamed(name) => format!("called `{name}` now; works, with a warning"),
            Fate::Retired(why) => format!("no effect, with a warning: {why}"),
        };
        let _ = writeln!(text, "| `{}` | {fate} |", legacy.name);
    }
}
