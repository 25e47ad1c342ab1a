//! Drafts: what may follow a decode is guessed, computed beside it, and kept as far as it was right.

use super::{Outbox, Worker, is_decode};
use crate::engine::pace::MAX_DRAFT;
use crate::engine::scheduler::{Plan, Slice};
use crate::engine::sequence::SequenceId;
use crate::engine::{Speculation, speculation};
use crate::llm::Logits;

impl Worker {
    /// Guesses for the decodes of a plan, as many as are worth checking.
    pub(super) fn draft(&mut self, plan: &Plan) -> Vec<Vec<u32>> {
        let num_rows = plan.slices.iter().filter(|slice| is_decode(slice)).count();
        let mut num_drafted = 0;
        let mut drafts = Vec::with_capacity(plan.slices.len());
        for slice in &plan.slices {
            let draft = self.draft_for(plan, slice, num_rows, num_drafted);
            num_drafted += draft.len();
            drafts.push(draft);
        }
        drafts
    }

    fn draft_for(
        &mut self,
        plan: &Plan,
        slice: &Slice,
        num_rows: usize,
        num_drafted: usize,
    ) -> Vec<u32> {
        if self.speculation == Speculation::Off || !is_decode(slice) {
            return Vec::new();
        }
        let id = slice.id;
        // A mask is made for one token at a time.
        if self.constraints.contains(id) {
            return Vec::new();
        }
        let Some(sequence) = self.scheduler.running(id) else {
            return Vec::new();
        };
        let Some(request) = self.requests.get_mut(&id) else {
            return Vec::new();
        };
        // Its block is about to be shared, and must hold no more than the prompt then.
        if !request.siblings.is_empty() {
            return Vec::new();
        }
        // The last token follows from the ones before without being computed.
        let num_left = request.max_tokens - sequence.num_generated();
        let draft = speculation::draft(&sequence.tokens, MAX_DRAFT.min(num_left - 1));
        if draft.is_empty() {
            return Vec::new();
        }
        let acceptance = request.acceptance.probability();
        let num_worth = match self.speculation {
            Speculation::Always => MAX_DRAFT,
            _ => self.pace.draft_length(num_rows + num_drafted, acceptance),
        };
        if num_worth == 0 {
            request.acceptance.pass();
        }
        let mut draft = draft[..num_worth.min(draft.len())].to_vec();
        let room = self
            .scheduler
            .make_room_for_draft(plan, id, draft.len(), num_drafted);
        draft.truncate(room);
        draft
    }

    /// Chooses a sequence's next token, and those after it as long as the draft was right. Each is chosen from the very
    /// logits that it would be chosen from without a draft.
    pub(super) fn extend_with_draft(
        &mut self,
        id: SequenceId,
        draft: &[u32],
        logits: &Logits,
        first_row: usize,
        outbox: &mut Outbox,
    ) {
        let mut num_accepted = 0;
        while self.extend(id, logits.given(first_row + num_accepted), outbox) {
            let sequence = self.scheduler.running(id);
            let chosen = sequence.and_then(|it| it.tokens.last().copied());
            if num_accepted == draft.len() || chosen != Some(draft[num_accepted]) {
                break;
            }
            self.scheduler.accept_draft(id);
            num_accepted += 1;
        }
        if draft.is_empty() {
            return;
        }
        self.scheduler.drop_draft(id);
        self.totals.num_drafted_tokens += draft.len() as u64;
        self.totals.num_accepted_tokens += num_accepted as u64;
        if let Some(request) = self.requests.get_mut(&id) {
            request.acceptance.observe(draft.len(), num_accepted);
        }
    }
}
