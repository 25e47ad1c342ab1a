//! What a step costs, learned from the steps before, and what follows for the next one: how much of a prompt may be read
//! beside running streams, and how many drafted tokens are worth checking. Never changes what is generated, only when.

/// Prefill tokens beside decodes while nothing is known yet.
const FIRST_BUDGET: usize = 32;
/// Prefill tokens that a step has room for at least, so that prompts are read at all.
const MIN_BUDGET: usize = 4;
/// Steps in a row that prompts are read in beside decodes.
const MAX_MIXED: usize = 8;
/// Share of what is known that a new measurement leaves.
const MEMORY: f64 = 0.9;
/// What one more row is thought to cost before it is known, as a share of a step with one row.
const FIRST_ROW_COST: f64 = 0.1;
/// Tokens that are drafted at most.
pub const MAX_DRAFT: usize = 8;

/// Seconds of steps by what was in them.
#[derive(Debug)]
pub struct Pace {
    /// How many times as long as without it a step with prefill may take.
    max_stretch: f64,
    decodes: Line,
    /// Seconds that a prefill token adds to a step with decodes.
    prefill_token: Option<f64>,
    /// Steps with decodes and prefill since the last one without prefill.
    num_mixed: usize,
}

impl Pace {
    /// `max_stretch` is above 1; infinity for no limit.
    pub fn new(max_stretch: f64) -> Self {
        Self {
            max_stretch,
            decodes: Line::default(),
            prefill_token: None,
            num_mixed: 0,
        }
    }

    /// Takes note of a step: `num_rows` rows of decodes and drafts, and `num_prefill` tokens of prompts.
    pub fn observe(&mut self, num_rows: usize, num_prefill: usize, seconds: f64) {
        self.num_mixed = match num_prefill {
            0 => 0,
            _ => self.num_mixed + 1,
        };
        if num_prefill == 0 {
            self.decodes.observe(num_rows as f64, seconds);
        } else if num_rows > 0
            && let Some(alone) = self.decodes.at(num_rows as f64)
        {
            let cost = ((seconds - alone) / num_prefill as f64).max(0.0);
            let known = self.prefill_token.unwrap_or(cost);
            // What is dearer than thought is believed at once, what is cheaper by and by.
            let weight = if cost > known { 0.5 } else { 0.2 };
            self.prefill_token = Some(known + weight * (cost - known));
        }
    }

    /// Prefill tokens beside this many decodes that keep their pace.
    pub fn prefill_budget(&self, num_decodes: usize) -> usize {
        if self.max_stretch.is_infinite() {
            return usize::MAX;
        }
        // What decodes take alone changes, as contexts grow, and must be measured again.
        if self.num_mixed >= MAX_MIXED {
            return 0;
        }
        match (self.decodes.at(num_decodes as f64), self.prefill_token) {
            // The cast saturates.
            (Some(alone), Some(cost)) => {
                (((self.max_stretch - 1.0) * alone / cost) as usize).max(MIN_BUDGET)
            }
            _ => FIRST_BUDGET,
        }
    }

    /// How many tokens to draft for one sequence of a step with `num_rows` rows, when a drafted token is right with the
    /// probability `acceptance`: as many as make the whole step yield the most tokens a second.
    pub fn draft_length(&self, num_rows: usize, acceptance: f64) -> usize {
        let rate = |num_drafted: usize| {
            let seconds = self.decodes.at((num_rows + num_drafted) as f64)?;
            // The n-th drafted token counts when all before it are right too.
            let gain: f64 = (1..=num_drafted).map(|n| acceptance.powi(n as i32)).sum();
            Some((num_rows as f64 + gain) / seconds)
        };
        let best = (0..=MAX_DRAFT).filter_map(|n| Some((n, rate(n)?)));
        // Of equals the shortest.
        best.reduce(|best, other| if other.1 > best.1 { other } else { best })
            .map_or(0, |(n, _)| n)
    }
}

/// Seconds as a straight line over the number of rows: least squares in which older measurements count less and less.
#[derive(Debug, Default)]
struct Line {
    weight: f64,
    mean_rows: f64,
    mean_seconds: f64,
    /// Weighted sums of squares and products around the means.
    rows_rows: f64,
    rows_seconds: f64,
}

impl Line {
    fn observe(&mut self, rows: f64, seconds: f64) {
        self.weight = MEMORY * self.weight + 1.0;
        let (from_rows, from_seconds) = (rows - self.mean_rows, seconds - self.mean_seconds);
        self.mean_rows += from_rows / self.weight;
        self.mean_seconds += from_seconds / self.weight;
        self.rows_rows = MEMORY * self.rows_rows + from_rows * (rows - self.mean_rows);
        self.rows_seconds = MEMORY * self.rows_seconds + from_rows * (seconds - self.mean_seconds);
    }

    /// `None` before the first measurement.
    fn at(&self, rows: f64) -> Option<f64> {
        if self.weight == 0.0 {
            return None;
        }
        // A belief that counts like one measurement one row away from the mean: it steadies the slope while all steps
        // have had the same number of rows.
        let believed = FIRST_ROW_COST * self.mean_seconds;
        let slope = (self.rows_seconds + believed) / (self.rows_rows + 1.0);
        let slope = slope.max(0.01 * believed);
        let seconds = self.mean_seconds + slope * (rows - self.mean_rows);
        // Never less than what some of the rows cost.
        Some(seconds.max(0.2 * self.mean_seconds).max(f64::MIN_POSITIVE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose step costs 50 ms, 5 ms a row and 2 ms a prefill token.
    fn seconds(num_rows: usize, num_prefill: usize) -> f64 {
        0.050 + 0.005 * num_rows as f64 + 0.002 * num_prefill as f64
    }

    /// The budget of the next step with prefill.
    fn budget(pace: &mut Pace, num_decodes: usize) -> usize {
        if pace.prefill_budget(num_decodes) == 0 {
            pace.observe(num_decodes, 0, seconds(num_decodes, 0));
        }
        pace.prefill_budget(num_decodes)
    }

    fn learned() -> Pace {
        let mut pace = Pace::new(1.7);
        for step in 0..200 {
            let num_rows = 1 + step % 4;
            pace.observe(num_rows, 0, seconds(num_rows, 0));
        }
        pace
    }

    #[test]
    fn a_prompt_is_read_in_pieces_that_keep_the_streams_in_pace() {
        let mut pace = learned();
        let mut num_prefill = budget(&mut pace, 2);
        assert_eq!(num_prefill, FIRST_BUDGET);
        for _ in 0..50 {
            pace.observe(2, num_prefill, seconds(2, num_prefill));
            num_prefill = budget(&mut pace, 2);
        }
        let stretch = seconds(2, num_prefill) / seconds(2, 0);
        assert!((1.5..1.8).contains(&stretch), "{num_prefill}: {stretch}");
    }

    #[test]
    fn when_prefill_grows_dearer_there_is_less_of_it_but_never_none() {
        let mut pace = learned();
        (0..20).for_each(|_| pace.observe(1, 8, seconds(1, 8)));
        let before = budget(&mut pace, 1);
        (0..20).for_each(|_| pace.observe(1, 8, seconds(1, 16)));
        assert!(budget(&mut pace, 1) < before);
        (0..20).for_each(|_| pace.observe(1, 8, seconds(1, 8000)));
        assert_eq!(budget(&mut pace, 1), MIN_BUDGET);
    }

    #[test]
    fn prompts_are_read_again_when_the_streams_have_grown_slower() {
        let mut pace = learned();
        let slower = |num_prefill| 4.0 * seconds(1, num_prefill);
        let mut num_read = 0;
        for _ in 0..400 {
            let num_prefill = pace.prefill_budget(1);
            pace.observe(1, num_prefill, slower(num_prefill));
            if num_prefill > 0 {
                num_read = num_prefill;
            }
        }
        // What the slower machine allows, which is as much as the faster one did.
        assert!((12..=25).contains(&num_read), "{num_read}");
    }

    #[test]
    fn drafts_are_long_when_they_hit_and_none_when_they_cost_more_than_they_bring() {
        let pace = learned();
        assert_eq!(pace.draft_length(1, 0.99), MAX_DRAFT);
        assert_eq!(pace.draft_length(1, 0.0), 0);
        let middling = pace.draft_length(1, 0.5);
        assert!((1..MAX_DRAFT).contains(&middling), "{middling}");
        // With 200 rows a step's time is nearly all rows: a draft that misses half the time slows everyone.
        assert_eq!(pace.draft_length(200, 0.5), 0);
    }

    #[test]
    fn nothing_is_drafted_before_a_step_has_been_measured() {
        assert_eq!(Pace::new(1.7).draft_length(1, 1.0), 0);
    }
}
