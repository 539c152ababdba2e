//! What is done when it is known who asks, or when it cannot be known.

use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_auth as auth;
use vsmtp_ipc::edge::receiver_filter::{self as edge, Ask, Verdict};
use vsmtp_mail::{EnhancedCode, Reply};

use super::Session;
use super::answers::on_the_wire;
use super::facts;
use super::identities::Parked;
use super::seats::Key;
use crate::judge::{Decision, cannot_tell, wrong_credentials};
use crate::process::level_of_end;
use crate::stage::Stage;

impl Session {
    /// Hears all that an auth helper has to say.
    pub(super) fn hear_auth(&mut self, reactor: &mut Reactor, token: usize) {
        loop {
            match self.identities.hear(token) {
                Ok(Some((parked, identity))) => self.confirmed(reactor, *parked, &identity),
                Ok(None) => return,
                Err(error) => return self.close_auth(reactor, token, &error),
            }
        }
    }

    /// Sends what auth helpers are to be asked.
    pub(super) fn send_auth(&mut self, reactor: &mut Reactor) {
        for parked in self.identities.pump(reactor.now_ms()) {
            self.turn_away(parked, false);
        }
        for (token, error) in self.identities.flush(reactor) {
            self.close_auth(reactor, token, &error);
        }
    }

    fn close_auth(&mut self, reactor: &mut Reactor, token: usize, error: &ChannelError) {
        let Some(name) = self.identities.lose(token) else { return };
        Record::at(level_of_end(error, self.identities.waiting() == 0), "edge-closed")
            .field("peer", name)
            .field("error", error)
            .emit();
        reactor.accuse(name, error);
    }

    /// The helper knows the grant. Whether it makes an identity of it depends on who has judged it.
    fn confirmed(&mut self, reactor: &mut Reactor, parked: Parked, wire: &auth::Identity) {
        let by_rules = self.judge.wants(Stage::Authenticate);
        let is_good = match parked.ask {
            Ask::Authenticate(_) => by_rules || wire.vouched,
            _ if by_rules => wire.settled,
            _ => wire.vouched,
        };
        let identity = facts::identity(wire, parked.grant, self.identities.verifier());
        let Some(identity) = identity.filter(|_| is_good) else { return self.turn_away(parked, false) };
        let Parked { key, ask, descriptor, .. } = parked;
        let Some(receiver) = self.receivers.get_mut(&key.token) else { return };
        match receiver.unpark(key.session) {
            Some(false) => {}
            Some(true) => return self.say_refusal(key, &ask, &Decision::Refuse(cannot_tell())),
            None => return,
        }
        if let Err(error) = self.known(reactor, key.token, ask, descriptor, Some(identity)) {
            self.close_receiver(reactor, key.token, &error);
        }
    }

    /// It is not known who asks: `later` if the helper cannot be asked, otherwise because it knows nothing.
    pub(super) fn turn_away(&mut self, parked: Parked, later: bool) {
        let Parked { key, ask, .. } = parked;
        let unparked = self.receivers.get_mut(&key.token).and_then(|receiver| receiver.unpark(key.session));
        if unparked.is_none() {
            return;
        }
        let decision = match ask {
            Ask::Authenticate(_) if later => Decision::Refuse(cannot_tell()),
            Ask::Authenticate(_) => Decision::Refuse(wrong_credentials()),
            // It believes that it has authenticated, and must do it again.
            _ => Decision::Close(Reply::fixed(
                421,
                EnhancedCode(4, 7, 0),
                "Authentication is lost, connect again",
            )),
        };
        self.say_refusal(key, &ask, &decision);
    }

    fn say_refusal(&mut self, key: Key, ask: &Ask, decision: &Decision) {
        let (session, decision) = (key.session, on_the_wire(decision));
        let verdict = match ask {
            Ask::Recipients { recipients, .. } => {
                Verdict::Recipients { session, decisions: vec![decision; recipients.len()] }
            }
            _ => Verdict::Decided { session, decision },
        };
        self.tell(key, &verdict);
    }

    /// The rules have judged who authenticates.
    pub(super) fn authenticated(&mut self, key: Key, decision: &Decision) {
        let session = key.session;
        let seat = self.receivers.get_mut(&key.token).and_then(|receiver| receiver.seats.get_mut(&session));
        if let Some(seat) = seat {
            let accepted = matches!(decision, Decision::Accept(_));
            let mut transaction = seat.shared.lock();
            let grant = transaction.peer.identity.as_ref().map(|identity| identity.grant);
            if !accepted {
                transaction.identify(None);
            }
            drop(transaction);
            // What could not be judged now says nothing of the password, and must not count against the client.
            let is_judged = match decision {
                Decision::Refuse(reply) | Decision::Close(reply) => !reply.is_transient(),
                Decision::Accept(_) => true,
            };
            if is_judged {
                grant.into_iter().for_each(|grant| self.identities.settle(grant, accepted));
            }
        }
        let decision: edge::Decision = on_the_wire(decision);
        self.answer(key, &Verdict::Decided { session, decision });
    }
}
