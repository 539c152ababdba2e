//! The sessions of this process, by number. A number is never used twice, so an event for a session that has ended, or an
//! answer to it, finds nothing.

mod answers;
mod asking;
mod client;
mod clock;
mod dialogue;
mod leaving;
mod limited;
mod login;
mod message;
mod naming;
mod security;
mod trusted;

pub use client::{Client, Fate, Who, Why};
pub use clock::DEADLINE_TIMER;

/// The number of a session is its place and how often that place was used; the latter is never 0.
const GENERATION_SHIFT: u32 = 32;

/// All sessions.
#[derive(Default)]
pub struct Sessions {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    generation: u32,
    client: Option<Box<Client>>,
}

impl Sessions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the session that `make` makes of its number.
    pub fn insert(&mut self, make: impl FnOnce(u64) -> Client) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, client: None });
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(place) = self.places.get_mut(index as usize) else { return 0 };
        place.generation = place.generation.wrapping_add(1).max(1);
        let number = u64::from(place.generation) << GENERATION_SHIFT | u64::from(index);
        place.client = Some(Box::new(make(number)));
        number
    }

    /// The session of that number, if it is still there.
    pub fn get(&mut self, number: u64) -> Option<&mut Client> {
        self.place(number)?.client.as_deref_mut()
    }

    /// Takes a session out.
    pub fn remove(&mut self, number: u64) -> Option<Box<Client>> {
        let client = self.place(number)?.client.take()?;
        self.free.push(number as u32);
        Some(client)
    }

    /// The numbers of all sessions for which this holds.
    pub fn select(&self, holds: impl Fn(&Client) -> bool) -> Vec<u64> {
        let clients = self.places.iter().filter_map(|place| place.client.as_deref());
        clients.filter(|client| holds(client)).map(Client::number).collect()
    }

    fn place(&mut self, number: u64) -> Option<&mut Place> {
        let generation = (number >> GENERATION_SHIFT) as u32;
        self.places.get_mut(number as u32 as usize).filter(|place| place.generation == generation)
    }
}
