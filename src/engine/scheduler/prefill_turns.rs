//! Whose prompt is computed next when the token budget does not suffice for all: users in turn, by deficit round robin
//! (Shreedhar and Varghese 1995). A turn is worth a fixed number of tokens, over several sequences and steps if need be;
//! what somebody was given beyond it counts against the next one. So neither many short prompts nor a long one get more
//! than their share, and no step is left half empty.

use std::collections::VecDeque;

use crate::engine::sequence::User;

#[derive(Debug)]
pub struct PrefillTurns {
    /// Those who run something; the front has its turn.
    line: VecDeque<Turn>,
    /// Tokens of a turn.
    quantum: i64,
}

#[derive(Debug)]
struct Turn {
    user: User,
    /// Tokens left; negative: owed.
    credit: i64,
}

impl PrefillTurns {
    pub fn new(quantum: usize) -> Self {
        Self {
            line: VecDeque::new(),
            quantum: quantum as i64,
        }
    }

    /// Sends a user who comes anew to the end of the line; others keep their place.
    pub fn join(&mut self, user: &User) {
        if !self.line.iter().any(|turn| turn.user == *user) {
            self.line.push_back(Turn {
                user: user.clone(),
                credit: self.quantum,
            });
        }
    }

    /// Takes out a user who runs nothing any more.
    pub fn forget(&mut self, user: &User) {
        self.line.retain(|turn| turn.user != *user);
    }

    /// The user whose turn it is, of those who have something to compute. Whoever has nothing saves nothing up.
    pub fn next(&mut self, has_work: impl Fn(&User) -> bool) -> Option<User> {
        if !self.line.iter().any(|turn| has_work(&turn.user)) {
            return None;
        }
        loop {
            let front = self.line.front_mut()?;
            if !has_work(&front.user) {
                front.credit = front.credit.min(self.quantum);
            } else if front.credit > 0 {
                return Some(front.user.clone());
            }
            if front.credit <= 0 {
                front.credit += self.quantum;
            }
            self.line.rotate_left(1);
        }
    }

    /// Takes note that the user whose turn it is was given tokens.
    pub fn spend(&mut self, num_tokens: usize) {
        if let Some(front) = self.line.front_mut() {
            front.credit -= num_tokens as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(users: &[&str]) -> PrefillTurns {
        let mut turns = PrefillTurns::new(8);
        users.iter().for_each(|user| turns.join(&name(user)));
        turns
    }

    fn name(user: &str) -> User {
        Some(user.into())
    }

    /// Who is served, when a takes `pieces[0]` tokens a time and b `pieces[1]`.
    fn served(turns: &mut PrefillTurns, pieces: [usize; 2], num: usize) -> String {
        let mut order = String::new();
        for _ in 0..num {
            let user = turns.next(|_| true).unwrap().unwrap();
            turns.spend(pieces[usize::from(&*user == "b")]);
            order += &user;
        }
        order
    }

    #[test]
    fn a_turn_is_worth_the_same_in_many_pieces_or_in_one() {
        assert_eq!(served(&mut turns(&["a", "b"]), [2, 8], 10), "aaaabaaaab");
    }

    #[test]
    fn what_was_given_beyond_a_turn_is_paid_back() {
        // b takes two turns' worth at a time.
        assert_eq!(served(&mut turns(&["a", "b"]), [8, 16], 9), "abaabaaba");
    }

    #[test]
    fn whoever_has_nothing_to_do_is_passed_over_and_saves_nothing_up() {
        let mut turns = turns(&["a", "b"]);
        for _ in 0..5 {
            assert_eq!(turns.next(|user| *user == name("b")), Some(name("b")));
            turns.spend(8);
        }
        assert_eq!(turns.next(|_| false), None);
        assert_eq!(served(&mut turns, [8, 8], 6), "ababab");
    }

    #[test]
    fn a_forgotten_user_has_no_turn() {
        let mut turns = turns(&["a", "b"]);
        turns.forget(&name("a"));
        assert_eq!(turns.next(|_| true), Some(name("b")));
        turns.forget(&name("b"));
        assert_eq!(turns.next(|_| true), None);
    }
}
