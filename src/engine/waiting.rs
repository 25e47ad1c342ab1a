//! The sequences that have not been admitted yet: in order of arrival within a user, fair between users. Decides who is
//! next, never whether there is room.

use std::collections::{HashMap, VecDeque};

use super::sequence::{Sequence, SequenceId, User};

/// Serves the users in turn: a user who was served, or who comes anew, goes to the end of the line.
#[derive(Debug, Default)]
pub struct WaitingQueue {
    /// Users with waiting sequences; the front is next.
    line: VecDeque<User>,
    by_user: HashMap<User, VecDeque<Sequence>>,
}

impl WaitingQueue {
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub fn push(&mut self, sequence: Sequence) {
        let queue = self.by_user.entry(sequence.user.clone()).or_default();
        if queue.is_empty() {
            self.line.push_back(sequence.user.clone());
        }
        queue.push_back(sequence);
    }

    /// The user whose oldest sequence should be admitted next: of those with the fewest running sequences, the first in
    /// line. So whoever runs nothing waits for one turn of the others at most.
    pub fn next_user(&self, num_running: impl Fn(&User) -> usize) -> Option<User> {
        self.line
            .iter()
            .min_by_key(|user| num_running(user))
            .cloned()
    }

    pub fn front(&self, user: &User) -> Option<&Sequence> {
        self.by_user.get(user)?.front()
    }

    pub fn front_mut(&mut self, user: &User) -> Option<&mut Sequence> {
        self.by_user.get_mut(user)?.front_mut()
    }

    /// Takes the user's oldest sequence and sends the user to the end of the line.
    pub fn pop(&mut self, user: &User) -> Option<Sequence> {
        let queue = self.by_user.get_mut(user)?;
        let sequence = queue.pop_front()?;
        let has_more = !queue.is_empty();
        self.leave_line(user);
        if has_more {
            self.line.push_back(user.clone());
        }
        Some(sequence)
    }

    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let (user, index) = self.by_user.iter().find_map(|(user, queue)| {
            let index = queue.iter().position(|sequence| sequence.id == id)?;
            Some((user.clone(), index))
        })?;
        let queue = self.by_user.get_mut(&user)?;
        let sequence = queue.remove(index)?;
        if queue.is_empty() {
            self.leave_line(&user);
        }
        Some(sequence)
    }

    fn leave_line(&mut self, user: &User) {
        self.line.retain(|other| other != user);
        if self.by_user.get(user).is_some_and(VecDeque::is_empty) {
            self.by_user.remove(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(users: &str) -> WaitingQueue {
        let mut queue = WaitingQueue::default();
        for (id, user) in users.chars().enumerate() {
            queue.push(sequence(id as u64, user));
        }
        queue
    }

    fn sequence(id: u64, user: char) -> Sequence {
        Sequence::new(SequenceId(id), Some(user.to_string().into()), vec![1])
    }

    fn pop(queue: &mut WaitingQueue, num_running: impl Fn(&User) -> usize) -> Option<u64> {
        let user = queue.next_user(num_running)?;
        queue.pop(&user).map(|sequence| sequence.id.0)
    }

    fn drain(queue: &mut WaitingQueue) -> Vec<u64> {
        std::iter::from_fn(|| pop(queue, |_| 0)).collect()
    }

    #[test]
    fn one_user_is_served_in_order_of_arrival() {
        assert_eq!(drain(&mut queue("aaa")), [0, 1, 2]);
    }

    #[test]
    fn users_take_turns_however_much_one_of_them_asks_for() {
        assert_eq!(drain(&mut queue("aaaabbc")), [0, 4, 6, 1, 5, 2, 3]);
    }

    #[test]
    fn a_user_who_asks_again_and_again_does_not_overtake_one_who_waits() {
        let mut queue = queue("aa");
        let mut served = Vec::new();
        for id in 2..6 {
            queue.push(sequence(id, 'b'));
            served.extend(pop(&mut queue, |_| 0));
        }
        assert_eq!(served, [0, 2, 1, 3]);
    }

    #[test]
    fn the_user_with_the_fewest_running_sequences_is_next() {
        let mut queue = queue("ab");
        let num_running = |user: &User| usize::from(user.as_deref() == Some("a"));
        assert_eq!(pop(&mut queue, num_running), Some(1));
    }

    #[test]
    fn a_removed_sequence_is_not_served_and_leaves_no_empty_place_in_line() {
        let mut queue = queue("aba");
        assert!(queue.remove(SequenceId(1)).is_some());
        assert!(queue.remove(SequenceId(1)).is_none());
        assert_eq!(drain(&mut queue), [0, 2]);
        assert!(queue.is_empty());
        assert!(queue.by_user.is_empty());
    }
}
