//! Which script judges what: the root script the session, the scripts of a domain its mail. A domain is handled if it, or
//! a domain above it, has a folder. Mail of a handled sender is outgoing, or internal where the recipient's domain is the
//! sender's own; mail of anybody else, and of nobody (bounces), is incoming at a handled recipient and the root's
//! elsewhere. Anybody can write a handled sender: from a client that nothing vouches for, its mail is incoming at a handled
//! recipient too. Pure but for the loading.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::Engine;
use vsmtp_mail::{Domain, EnhancedCode, Reply, ReversePath, RulesOf};

use crate::engine::{self, Directive, LoadedScript, Location, Root, ScriptError};
use crate::presence;
use crate::stage::Stage;
use crate::status::Status;

/// The folder of the domains' folders beside the configuration file, where none is named.
pub const DOMAIN_DIR: &str = "domain-enabled";
/// Most folders of domains.
const MAX_DOMAINS: usize = 10_000;

/// Whose rules judge; the domain is the one with the folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Part {
    /// The root script.
    #[default]
    Root,
    /// `outgoing.vsl` of the sender's domain.
    Outgoing(Arc<Domain>),
    /// `internal.vsl` of the domain of both.
    Internal(Arc<Domain>),
    /// `incoming.vsl` of the recipient's domain.
    Incoming(Arc<Domain>),
}

/// A sender whose domain is handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandledSender {
    /// The domain with the folder.
    scripts: Arc<Domain>,
    /// The sender's own.
    domain: Domain,
}

/// The scripts of one domain; `None` where the file is not there.
#[derive(Debug, Default)]
struct DomainScripts {
    incoming: Option<LoadedScript>,
    outgoing: Option<LoadedScript>,
    internal: Option<LoadedScript>,
}

impl DomainScripts {
    fn all(&self) -> impl Iterator<Item = &LoadedScript> {
        [&self.incoming, &self.outgoing, &self.internal].into_iter().flatten()
    }
}

/// All scripts of one generation.
#[derive(Debug)]
pub struct Scripts {
    root: LoadedScript,
    domains: HashMap<Arc<Domain>, DomainScripts>,
}

impl Scripts {
    /// Only a root script.
    pub fn new(root: LoadedScript) -> Self {
        Scripts { root, domains: HashMap::new() }
    }

    /// Adds the scripts of each domain with a folder in `folder`, which lies below the root of the configuration. What is
    /// no folder, or is not called as a domain, is left alone.
    ///
    /// # Errors
    /// The folder cannot be listed, what is called as a domain cannot be looked at or is a link that leads to no folder, or a
    /// script does not load.
    pub fn load_domains(&mut self, engine: &Engine, root: &Root, folder: &Path) -> Result<(), ScriptError> {
        for (domain, path) in domain_folders(root, folder)? {
            let load = |name: &str| {
                let file = path.join(name);
                let is_there = presence::is_there(&file)?;
                is_there.then(|| engine::load(engine, root, &file)).transpose()
            };
            let scripts = DomainScripts {
                incoming: load("incoming.vsl")?,
                outgoing: load("outgoing.vsl")?,
                internal: load("internal.vsl")?,
            };
            for (missing, file, effect) in [
                (scripts.incoming.is_none(), "incoming.vsl", "mail to this domain is refused"),
                (scripts.outgoing.is_none(), "outgoing.vsl", "mail from this domain is refused"),
            ] {
                if missing {
                    vsmtp_daemon::Record::at(log::Level::Warn, "script-missing")
                        .field("domain", &domain)
                        .field("file", file)
                        .field("effect", effect)
                        .emit();
                }
            }
            self.domains.insert(Arc::new(domain), scripts);
        }
        Ok(())
    }

    /// Directives of all scripts that give messages to services.
    pub fn delegates(&self) -> impl Iterator<Item = &Arc<Directive>> {
        let all = std::iter::once(&self.root).chain(self.domains.values().flat_map(DomainScripts::all));
        all.flat_map(LoadedScript::delegates)
    }

    /// The sender, if its domain is handled. The null sender is nobody's.
    pub fn sender(&self, sender: &ReversePath) -> Option<HandledSender> {
        let ReversePath::Address(address) = sender else { return None };
        let scripts = self.handled(address.domain())?;
        Some(HandledSender { scripts, domain: address.domain().clone() })
    }

    /// Whose rules judge the sender.
    pub fn part_of_sender(sender: Option<&HandledSender>) -> Part {
        sender.map_or(Part::Root, |sender| Part::Outgoing(Arc::clone(&sender.scripts)))
    }

    /// Whose rules judge a recipient; `is_trusted` if the client may send to anybody.
    pub fn part_of_recipient(
        &self,
        sender: Option<&HandledSender>,
        is_trusted: bool,
        recipient: &Domain,
    ) -> Part {
        match sender.filter(|_| is_trusted) {
            Some(sender) if sender.domain == *recipient => Part::Internal(Arc::clone(&sender.scripts)),
            Some(sender) => Part::Outgoing(Arc::clone(&sender.scripts)),
            None => self.handled(recipient).map_or_else(|| Self::part_of_sender(sender), Part::Incoming),
        }
    }

    /// How a part is kept with a message of the queue; `None` where there are only the rules of the root.
    pub fn kept(&self, part: &Part) -> Option<RulesOf> {
        if self.domains.is_empty() {
            return None;
        }
        Some(match part {
            Part::Root => RulesOf::Root,
            Part::Outgoing(domain) => RulesOf::Outgoing(Domain::clone(domain)),
            Part::Internal(domain) => RulesOf::Internal(Domain::clone(domain)),
            Part::Incoming(domain) => RulesOf::Incoming(Domain::clone(domain)),
        })
    }

    /// The part that was kept with a message; `None` if its domain has no folder any more.
    pub fn part_kept(&self, rules: &RulesOf) -> Option<Part> {
        let known = |domain: &Domain| self.domains.get_key_value(domain).map(|(known, _)| Arc::clone(known));
        match rules {
            RulesOf::Root => Some(Part::Root),
            RulesOf::Outgoing(domain) => known(domain).map(Part::Outgoing),
            RulesOf::Internal(domain) => known(domain).map(Part::Internal),
            RulesOf::Incoming(domain) => known(domain).map(Part::Incoming),
        }
    }

    /// The domain with a folder that stands for this one: itself, or the nearest above it.
    fn handled(&self, domain: &Domain) -> Option<Arc<Domain>> {
        if self.domains.is_empty() || domain.as_literal().is_some() {
            return None;
        }
        let mut name = domain.as_str();
        loop {
            let candidate = Domain::parse(name).ok()?;
            if let Some((known, _)) = self.domains.get_key_value(&candidate) {
                return Some(Arc::clone(known));
            }
            name = name.split_once('.')?.1;
        }
    }

    /// The rules of a part; `None` if their file is missing.
    pub fn of(&self, part: &Part) -> Option<&LoadedScript> {
        let (domain, pick): (_, fn(&DomainScripts) -> Option<&LoadedScript>) = match part {
            Part::Root => return Some(&self.root),
            Part::Outgoing(domain) => (domain, |scripts| scripts.outgoing.as_ref()),
            Part::Internal(domain) => (domain, |scripts| scripts.internal.as_ref()),
            Part::Incoming(domain) => (domain, |scripts| scripts.incoming.as_ref()),
        };
        self.domains.get(domain).and_then(pick)
    }

    /// What holds at a stage of a part whose file is missing: who handles a domain without saying what may come in or go
    /// out lets nothing through. A recipient is refused alone: the others may be another domain's. Mail within a domain needs
    /// no file.
    pub fn without_script(part: &Part, stage: Stage) -> Status {
        match (part, stage) {
            (Part::Incoming(_), Stage::Rcpt) => {
                let why = "Recipient address rejected: this domain takes no mail";
                Status::Reject(Reply::fixed(550, EnhancedCode(5, 7, 1), why))
            }
            (Part::Outgoing(_), Stage::Mail) => Status::deny_default(),
            _ => Status::Next,
        }
    }

    /// True if the part has rules at that stage.
    pub fn part_wants(&self, part: &Part, stage: Stage) -> bool {
        match self.of(part) {
            Some(script) => !script.stage(stage).is_empty(),
            None => Self::without_script(part, stage) != Status::Next,
        }
    }

    /// True if anybody has rules at that stage. Those of the session are the root's.
    pub fn want(&self, stage: Stage) -> bool {
        let own = !self.root.stage(stage).is_empty();
        if stage < Stage::Mail {
            return own;
        }
        let parts = |domain: &Arc<Domain>| {
            [Part::Outgoing, Part::Internal, Part::Incoming].map(|part| part(Arc::clone(domain)))
        };
        own || self.domains.keys().flat_map(parts).any(|part| self.part_wants(&part, stage))
    }

    /// True if there are domains with rules of their own.
    pub fn has_domains(&self) -> bool {
        !self.domains.is_empty()
    }
}

/// The folders of domains, sorted by domain. The folder itself may be a link, and so may they.
pub fn domain_folders(root: &Root, folder: &Path) -> Result<Vec<(Domain, PathBuf)>, ScriptError> {
    let fail = |message: String| {
        let file = root.display_name(folder);
        Err(ScriptError::at(Location { file, ..Location::default() }, message))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return fail(format!("cannot be listed: {error}")),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => return fail(format!("cannot be listed: {error}")),
        };
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| Domain::parse(name).ok());
        let name = name.filter(|domain| domain.as_literal().is_none());
        if let Some(domain) = name
            && presence::is_folder(&path)?
        {
            found.push((domain, path));
        }
        if found.len() > MAX_DOMAINS {
            return fail(format!("more than {MAX_DOMAINS} folders of domains"));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts() -> Scripts {
        let mut scripts = Scripts::new(LoadedScript::empty("filter.vsl"));
        for domain in ["example.com", "Example.org", "deep.example.org"] {
            scripts.domains.insert(Arc::new(Domain::parse(domain).unwrap()), DomainScripts::default());
        }
        scripts
    }

    fn show(part: &Part) -> String {
        match part {
            Part::Root => "root".to_owned(),
            Part::Outgoing(domain) => format!("outgoing {domain}"),
            Part::Internal(domain) => format!("internal {domain}"),
            Part::Incoming(domain) => format!("incoming {domain}"),
        }
    }

    #[test]
    fn whose_rules_judge_which_recipient_of_which_sender() {
        let scripts = scripts();
        for (sender, recipient, of_sender, of_recipient) in [
            ("<a@example.com>", "example.com", "outgoing example.com", "internal example.com"),
            ("<a@EXAMPLE.com>", "example.COM", "outgoing example.com", "internal example.com"),
            ("<a@example.com>", "example.org", "outgoing example.com", "outgoing example.com"),
            ("<a@example.com>", "elsewhere.net", "outgoing example.com", "outgoing example.com"),
            // A domain below counts as its parent, but is not the same domain.
            ("<a@x.example.com>", "example.com", "outgoing example.com", "outgoing example.com"),
            ("<a@x.example.com>", "x.example.com", "outgoing example.com", "internal example.com"),
            ("<a@example.com>", "x.example.com", "outgoing example.com", "outgoing example.com"),
            ("<a@elsewhere.net>", "example.com", "root", "incoming example.com"),
            ("<a@elsewhere.net>", "x.y.example.com", "root", "incoming example.com"),
            ("<a@elsewhere.net>", "x.deep.example.org", "root", "incoming deep.example.org"),
            ("<a@elsewhere.net>", "notexample.com", "root", "root"),
            ("<a@elsewhere.net>", "com", "root", "root"),
            ("<a@elsewhere.net>", "elsewhere.net", "root", "root"),
            ("<a@[192.0.2.1]>", "[192.0.2.1]", "root", "root"),
            // Bounces come in as any other mail of strangers.
            ("<>", "example.com", "root", "incoming example.com"),
            ("<>", "elsewhere.net", "root", "root"),
        ] {
            let path = ReversePath::parse(sender.trim_matches(['<', '>'])).unwrap();
            let handled = scripts.sender(&path);
            assert_eq!(
                show(&Scripts::part_of_sender(handled.as_ref())),
                of_sender.to_lowercase(),
                "{sender}"
            );
            let part = scripts.part_of_recipient(handled.as_ref(), true, &Domain::parse(recipient).unwrap());
            assert_eq!(show(&part).to_lowercase(), of_recipient, "{sender} to {recipient}");
        }
    }

    #[test]
    fn a_handled_sender_from_a_client_that_nothing_vouches_for_is_a_stranger_to_handled_recipients() {
        let scripts = scripts();
        for (sender, recipient, of_recipient) in [
            ("a@example.com", "example.com", "incoming example.com"),
            ("a@example.com", "example.org", "incoming example.org"),
            ("a@example.com", "x.deep.example.org", "incoming deep.example.org"),
            ("a@example.com", "elsewhere.net", "outgoing example.com"),
            ("a@elsewhere.net", "example.com", "incoming example.com"),
            ("a@elsewhere.net", "elsewhere.net", "root"),
        ] {
            let handled = scripts.sender(&ReversePath::parse(sender).unwrap());
            let part = scripts.part_of_recipient(handled.as_ref(), false, &Domain::parse(recipient).unwrap());
            assert_eq!(show(&part).to_lowercase(), of_recipient, "{sender} to {recipient}");
        }
    }

    #[test]
    fn a_missing_file_lets_nothing_in_or_out_but_mail_within_the_domain() {
        let scripts = scripts();
        let domain = || Arc::new(Domain::parse("example.com").unwrap());
        for stage in Stage::ALL {
            assert_eq!(scripts.part_wants(&Part::Incoming(domain()), stage), stage == Stage::Rcpt);
            assert_eq!(scripts.part_wants(&Part::Outgoing(domain()), stage), stage == Stage::Mail);
            assert!(!scripts.part_wants(&Part::Internal(domain()), stage));
            assert_eq!(scripts.want(stage), matches!(stage, Stage::Mail | Stage::Rcpt));
        }
    }
}
