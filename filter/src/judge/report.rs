//! Reports of our own that the queue-manager writes: they are routed and signed (RFC 8460 5.3), and no rule has anything to say
//! of them.
//!
//! On failure: a report waits for the key holder. One that is not what it should be goes on without a signature.

use std::io;
use std::sync::Arc;

use vsmtp_config::ReportSignature;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::client_resolver::SignatureAlgorithm;
use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::wire::Piece;
use vsmtp_mail::dkim::{Algorithm, Canon, Template, signed_data};
use vsmtp_mail::{Address, Field, HeaderBlock, ReversePath};

use super::Judge;
use super::message::read_header;
use super::post::{Edit, PostJudged, PostMessage};
use crate::api::Surroundings;
use crate::author;
use crate::dkim::{FIELD, body_hashes};
use crate::process::cede;
use crate::signer::Signer;

/// What is signed; a second From signs that there is none.
const NAMES: [&str; 11] = [
    "From",
    "From",
    "To",
    "Date",
    "Subject",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "TLS-Report-Domain",
    "TLS-Report-Submitter",
    "TLS-Required",
];
/// How it is made the same.
const CANON: Canon = Canon::Relaxed;

/// Signs reports, in the name of one domain.
#[derive(Debug)]
pub(super) struct ReportSigner {
    sender: ReversePath,
    /// Of the sender, in lower case.
    author: String,
    /// Has the key, and signs.
    domain: String,
    selector: String,
    signer: Arc<dyn Signer>,
}

/// Why there is no signature.
enum Unsigned {
    /// There may be one later.
    Yet(&'static str),
    /// There will be none.
    Ever(&'static str),
}

impl From<io::Error> for Unsigned {
    fn from(_: io::Error) -> Self {
        Unsigned::Yet("it cannot be read")
    }
}

impl Judge {
    /// What becomes of a report.
    pub(super) fn signed_report(&self, message: &PostMessage) -> PostJudged {
        let routed = self.rerouted(message);
        let Some(reports) = &self.reports else { return routed };
        let (envelope, expanded, disposition) = match routed {
            PostJudged::Keep { .. } => (message.envelope.clone(), Vec::new(), Disposition::Active),
            PostJudged::Edit(edit) => {
                let Edit { envelope, expanded, disposition, .. } = *edit;
                (envelope, expanded, disposition)
            }
            other => return other,
        };
        let field = match reports.signature(message, self.max_header) {
            Ok(field) => field,
            Err(Unsigned::Yet(why)) => {
                note(message, why);
                return PostJudged::Unavailable;
            }
            Err(Unsigned::Ever(why)) => {
                note(message, why);
                let (pieces, notices) = (Vec::new(), Vec::new());
                return PostJudged::Edit(Box::new(Edit { envelope, expanded, disposition, pieces, notices }));
            }
        };
        let rest = Piece::Original { offset: 0, len: message.content.len() };
        let pieces = vec![Piece::Text(field.raw().to_vec()), rest];
        PostJudged::Edit(Box::new(Edit { envelope, expanded, disposition, pieces, notices: Vec::new() }))
    }
}

fn note(message: &PostMessage, why: &str) {
    Record::at(log::Level::Warn, "report-unsigned").field("id", message.id).field("reason", why).emit();
}

impl ReportSigner {
    /// As configuration says.
    pub fn new(said: &ReportSignature, surroundings: &Surroundings) -> Self {
        let sender: &Address = &said.sender;
        ReportSigner {
            sender: ReversePath::Address(sender.clone()),
            author: sender.domain().to_string().to_ascii_lowercase(),
            domain: said.domain.clone(),
            selector: said.selector.clone(),
            signer: Arc::clone(&surroundings.signer),
        }
    }

    /// The field that signs a report: nobody else's mail is signed, whoever says that it is a report.
    fn signature(&self, message: &PostMessage, max_header: u64) -> Result<Field<'static>, Unsigned> {
        let content = &*message.content;
        let block = read_header(content, max_header)?.ok_or(Unsigned::Ever("its header is too large"))?;
        let header = HeaderBlock::parse(&block);
        let is_ours = message.envelope.reverse_path == self.sender
            && author::domain(&header).is_ok_and(|domain| domain == self.author);
        if !is_ours {
            return Err(Unsigned::Ever("it is of another sender"));
        }
        if header.named(FIELD).next().is_some() {
            return Err(Unsigned::Ever("it is signed already"));
        }
        let no_key = Unsigned::Yet("the key holder does not answer");
        let algorithm =
            self.signer.keys(&self.domain).and_then(|keys| keys.first().copied()).ok_or(no_key)?;
        cede();
        let hashes = body_hashes(content, block.len() as u64, &[(CANON, None)])?;
        let template = Template {
            algorithm: match algorithm {
                SignatureAlgorithm::RsaSha256 => Algorithm::RsaSha256,
                SignatureAlgorithm::Ed25519Sha256 => Algorithm::Ed25519Sha256,
            },
            canon: (CANON, CANON),
            domain: self.domain.clone(),
            selector: self.selector.clone(),
            names: NAMES.map(str::to_owned).to_vec(),
            made_s: message.arrived_ms / 1000,
            body_hash: hashes.into_iter().next().map(|(hash, _)| hash).unwrap_or_default(),
        };
        let field = |signature: &[u8]| {
            Field::new(FIELD, &template.value(signature)).ok_or(Unsigned::Ever("the field cannot be written"))
        };
        let data = signed_data(&header, &template.names, CANON, field(b"")?.raw());
        let signature = self.signer.sign(&self.domain, 0, data);
        field(&signature.ok_or(Unsigned::Yet("the key holder does not sign it"))?)
    }
}
