//! What operators see of the brakes, and what they have forgotten.

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::master_child::Figure;
use vsmtp_ipc::wire::{BRAKES_LISTED, Braked, BrakesAnswer, BrakesRequest};

use super::Desk;

impl Desk {
    /// An operator asks.
    pub fn operate(&mut self, now_ms: u64, request: &BrakesRequest) -> BrakesAnswer {
        match request {
            BrakesRequest::List => BrakesAnswer::Listed(self.braked(now_ms)),
            BrakesRequest::ResetClient(client) => {
                let known = self.brakes.forget_client(now_ms, *client);
                Record::new("auth-reset").field("client", client).field("known", known).emit();
                BrakesAnswer::Reset(known)
            }
            BrakesRequest::ResetAccount(user) => {
                let known = self.brakes.forget_account(now_ms, user);
                Record::new("auth-reset").field("user", user).field("known", known).emit();
                BrakesAnswer::Reset(known)
            }
        }
    }

    fn braked(&self, now_ms: u64) -> Braked {
        let (per_client, per_account, window_ms) = self.brakes.terms();
        let (clients, accounts) = self.brakes.counted(now_ms);
        let tally = self.tally;
        let figures = [
            ("clients", clients as u64),
            ("accounts", accounts as u64),
            ("granted", tally.granted),
            ("denied", tally.denied),
            ("throttled", tally.throttled),
        ];
        Braked {
            window_ms,
            per_client,
            per_account,
            figures: figures.map(|(name, value)| Figure { name: name.to_owned(), value }).to_vec(),
            clients: self.brakes.clients(now_ms, BRAKES_LISTED),
            accounts: self.brakes.accounts(now_ms, BRAKES_LISTED),
        }
    }
}
