//! Whose prompt is computed next when the token budget does not suffice for all: the user who was served longest ago.
//! Never remembers a user who runs nothing.

use std::collections::HashMap;

use crate::engine::sequence::User;

#[derive(Debug, Default)]
pub struct PrefillTurns {
    /// A lower place is served earlier.
    places: HashMap<User, u64>,
    next_place: u64,
}

impl PrefillTurns {
    /// Sends a user who comes anew to the end of the line; others keep their place.
    pub fn join(&mut self, user: &User) {
        if !self.places.contains_key(user) {
            self.served(user);
        }
    }

    /// Sends a user who was given a chunk to the end of the line.
    pub fn served(&mut self, user: &User) {
        self.places.insert(user.clone(), self.next_place);
        self.next_place += 1;
    }

    /// Takes out a user who runs nothing any more.
    pub fn forget(&mut self, user: &User) {
        self.places.remove(user);
    }

    pub fn place(&self, user: &User) -> u64 {
        self.places.get(user).copied().unwrap_or(u64::MAX)
    }
}
