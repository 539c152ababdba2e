//! `--role tool`: asks the DNS a few questions for vsmtpctl, in the resolver's jail, and ends. Nothing of it is remembered.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vsmtp_daemon::errand::{self, Answering};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::client_resolver::{DnsError, Records};
use vsmtp_ipc::edge::ctl_resolver::{Answer, MAX_NAMES, Request, Texts};

use crate::finding::{Finding, Key, Kind};
use crate::lookup::look_up;
use crate::upstream::Upstream;
use crate::{name, sandbox, surroundings};

/// Longest wait for one answer of a server.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often each server is asked.
const ATTEMPTS: u32 = 2;
/// Longest time for all questions together: the operator waits, for a little more than this.
const ALL: Duration = Duration::from_secs(40);

/// The whole process.
pub fn main() -> ExitCode {
    errand::answer_once("vsmtp-resolver", EdgeId::CtlResolver, |request: Request| {
        if request.names.len() > MAX_NAMES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let servers = match request.servers.as_slice() {
            [] => surroundings::servers_of_machine(),
            servers => servers.to_vec(),
        };
        let upstream = Arc::new(Upstream::new(servers, TIMEOUT, ATTEMPTS, false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answering: Answering<Answer> =
            Box::new(move || Answer(runtime.block_on(all(&upstream, &request.names))));
        Ok((sandbox::profile(), answering))
    })
}

/// One after the other, since there are few; what is not found out in time is unknown for now.
async fn all(upstream: &Arc<Upstream>, names: &[String]) -> Vec<Texts> {
    let begin = Instant::now();
    let mut found = Vec::new();
    for name in names {
        let left = ALL.saturating_sub(begin.elapsed());
        let texts = tokio::time::timeout(left, texts(upstream, name, begin)).await;
        found.push(texts.unwrap_or(Err(DnsError::Temporary)));
    }
    found
}

async fn texts(upstream: &Arc<Upstream>, name: &str, begin: Instant) -> Texts {
    let name = name::parse(name).ok_or(DnsError::BadName)?;
    let key = Key { name, kind: Kind::Txt };
    let Finding { result, .. } = look_up(Arc::clone(upstream), key, begin).await;
    match result? {
        Records::Text(texts) => Ok(texts),
        _ => Err(DnsError::NoRecords),
    }
}
