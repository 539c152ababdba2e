//! The built-in development configuration of `make run`, and the words that tell a newcomer what to do with it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::layout::Layout;

/// Listens on 127.0.0.1:2525; every recipient in its domains has a Maildir.
const CONFIG: &str = include_str!("../../etc/dev/vsmtp.vsl");
const FILTER: &str = include_str!("../../etc/vsmtp/filter.vsl");
/// The rules of the demonstration's domain: those that are shipped as an example.
const DOMAIN: [(&str, &str); 4] = [
    ("incoming.vsl", include_str!("../../etc/vsmtp/domain-available/example.com/incoming.vsl")),
    ("outgoing.vsl", include_str!("../../etc/vsmtp/domain-available/example.com/outgoing.vsl")),
    ("internal.vsl", include_str!("../../etc/vsmtp/domain-available/example.com/internal.vsl")),
    ("config.vsl", include_str!("../../etc/vsmtp/domain-available/example.com/config.vsl")),
];
const DOMAIN_NAME: &str = "example.test";
const OPERATORS: &str = "vsmtpctl";

/// Writes the development configuration below the root, where there is none yet.
pub fn install(layout: &Layout) -> Result<(), Error> {
    let folder = layout.config_dir();
    write(folder, &[("vsmtp.vsl", CONFIG), ("filter.vsl", FILTER)])?;
    write(&folder.join("domain-available").join(DOMAIN_NAME), &DOMAIN)?;
    let enabled = folder.join("domain-enabled");
    write(&enabled, &[])?;
    let link = enabled.join(DOMAIN_NAME);
    if link.symlink_metadata().is_ok() {
        return Ok(());
    }
    let target = Path::new("../domain-available").join(DOMAIN_NAME);
    std::os::unix::fs::symlink(target, &link).map_err(Error::path("make", &link))
}

/// Writes files into a folder, where they are not there yet.
fn write(folder: &Path, files: &[(&str, &str)]) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::path("make", folder))?;
    for (name, text) in files {
        let path = folder.join(name);
        if !path.exists() {
            std::fs::write(&path, text).map_err(Error::path("write", &path))?;
        }
    }
    Ok(())
}

/// Says how to send a first message and where it lands.
pub fn greet(out: &mut impl Write, address: &str, mail_root: &str, root: &Path) -> io::Result<()> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "25"));
    writeln!(
        out,
        "\n\
         vSMTP is up on {address}. Send it a first message:\n\n\
         \x20 swaks --server {address} --from you@example.org --to friend@example.test\n\
         \x20 curl --crlf smtp://{address}/client.example.org --mail-from you@example.org --mail-rcpt friend@example.test -T README.md\n\
         \x20 python3 -c 'import smtplib; smtplib.SMTP(\"{host}\", {port}).sendmail(\
         \"you@example.org\", \"friend@example.test\", \"Subject: hi\\r\\n\\r\\nhello\\r\\n\")'\n\n\
         It lands in    {mail_root}/example.test/friend/new/\n\
         The queue:     {ctl} --root {root} queue list\n\
         Ctrl-C stops everything.\n",
        ctl = operators_program().display(),
        root = root.display(),
    )
}

/// vsmtpctl as it is to be called: after a build it lies beside this program and on nobody's `PATH`.
fn operators_program() -> PathBuf {
    let beside = std::env::current_exe().map(|own| own.with_file_name(OPERATORS)).ok();
    beside.filter(|path| path.is_file()).unwrap_or_else(|| OPERATORS.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_usual_one_and_what_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path()), None);
        install(&layout).unwrap();
        let etc = root.path().join("etc/vsmtp");
        std::fs::write(etc.join("filter.vsl"), "#{}").unwrap();
        install(&layout).unwrap();
        assert_eq!(std::fs::read_to_string(etc.join("filter.vsl")).unwrap(), "#{}");
        assert!(etc.join("domain-enabled/example.test/incoming.vsl").exists());
    }
}
