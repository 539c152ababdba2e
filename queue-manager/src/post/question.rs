//! One question to a filter. What is amiss with one message keeps no other waiting.

use std::sync::Arc;

use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::queue_filter::{PostAsk, PostStage};
use vsmtp_ipc::wire;
use vsmtp_mail::QueueId;

use super::Post;
use super::asked::{self, Asked, Done};
use crate::content;
use crate::delegation;
use crate::ledger::{Clock, Ledger};
use crate::schedule::Standing;
use crate::store::{MessageState, ReadError};
use crate::tls_reports::TLS_REPORT;
use crate::trace;

impl Post {
    /// Asks about one message. If that cannot be done it is put off: what is amiss here is no fault of the filter, and
    /// the next message may fare better.
    pub(super) fn question(
        &mut self,
        token: usize,
        id: QueueId,
        stage: PostStage,
        known: Option<(Arc<MessageState>, Vec<Done>)>,
        ledger: &mut Ledger,
        clock: Clock,
    ) {
        let outgoing = match ledger.outgoing(id) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                trace::unreadable(id, &error);
                if matches!(error, ReadError::Disk(_)) {
                    ledger.put_off(id, clock);
                } else {
                    // Nothing can be judged. The first attempt finds the same and puts the message aside.
                    ledger.schedule.set_standing(id, Standing::Active);
                }
                return;
            }
        };
        let is_first = known.is_none();
        let reroute = is_first && ledger.rerouting.contains(&id);
        let (state, settled) = known.unwrap_or_else(|| asked::unsettled(outgoing.state));
        let resume = if is_first { delegation::resume(&state) } else { None };
        let (stage, resume) = resume.map_or((stage, None), |(stage, resume)| (stage, Some(resume)));
        let is_report = state.origin.protocol.as_str() == TLS_REPORT;
        let stage = if is_report { PostStage::Report } else { stage };
        let spare = ledger.mint(clock);
        let body = match stage {
            PostStage::Routing => Ok((wire::Body::Inline(Vec::new()), Vec::new())),
            _ => content::to_wire(&outgoing.parts, &ledger.store, spare).map_err(ChannelError::Io),
        };
        let ticket = self.last_ticket + 1;
        let sent = body.and_then(|(body, descriptors)| {
            let ask = PostAsk {
                ticket,
                id: id.into(),
                stage,
                reroute,
                envelope: wire::Envelope::from(&state.envelope),
                origin: origin(&state),
                arrived_ms: state.arrival_ms,
                resume,
                body,
            };
            let edge = self.edges.get_mut(&token).ok_or(ChannelError::Closed)?;
            edge.link.send(&ask, descriptors)?;
            let _ = edge.credits.take();
            Ok(())
        });
        if let Err(error) = sent {
            trace::not_asked(id, &error);
            return ledger.put_off(id, clock);
        }
        self.last_ticket = ticket;
        let size = content::len(&outgoing.parts);
        self.asked.insert(ticket, Asked { token, id, stage, state, settled, size });
    }
}

fn origin(state: &MessageState) -> wire::Origin {
    let origin = &state.origin;
    wire::Origin {
        session: origin.session.as_str().parse().unwrap_or(0),
        client: origin.client.map(|client| client.to_string()).unwrap_or_default(),
        helo: origin.helo.as_str().to_owned(),
        protocol: origin.protocol.as_str().to_owned(),
        service: origin.service.map(Into::into),
        uid: origin
            .identity
            .as_ref()
            .and_then(|identity| identity.as_str().strip_prefix("uid:")?.parse().ok()),
    }
}
