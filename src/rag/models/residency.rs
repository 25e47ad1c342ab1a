//! Which models stay in memory: who must leave so that another fits, and who has been idle for too long. Only decides;
//! knows no clock and no thread, and never lets a model go that is in use.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What all models together may take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Models at the same time, besides those that always stay.
    pub max_loaded: Option<usize>,
    /// Memory of all models together; `None` where it is not known.
    pub memory_bytes: Option<u64>,
    /// How long a model that was loaded on demand stays without requests; `None` for as long as there is room.
    pub keep_alive: Option<Duration>,
}

/// Somewhere that a model can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Memory that it will take there at least: weights, cache, and what it computes in.
    pub needed_bytes: u64,
    /// Memory that can be taken there now, where it is known.
    pub free_bytes: Option<u64>,
    /// Which of the processors; `None` for all of them together.
    pub processor: Option<usize>,
}

/// How long a model stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// To the end of the program.
    Always,
    /// Until another needs its memory while it is idle.
    UntilNeeded,
    /// As the one before, and no longer than it is used now and then.
    WhileUsed,
}

/// Why a model cannot be loaded now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error(
        "it needs {} of memory, but {} are free and {} are held by models that answer now; make its cache smaller \
         (--kv-cache-memory), take a smaller model, or try again later",
        mib(*.needed_bytes), mib(*.free_bytes), mib(*.busy_bytes)
    )]
    Memory {
        needed_bytes: u64,
        /// With all idle models gone.
        free_bytes: u64,
        /// Held by models in use that could go later.
        busy_bytes: u64,
    },
    #[error(
        "--max-loaded-models is {max_loaded}, and all loaded models answer requests now; try again later or raise it"
    )]
    Count { max_loaded: usize },
}

impl NoRoom {
    /// Whether there may be room when the requests of now are done.
    pub fn may_pass(&self) -> bool {
        match *self {
            NoRoom::Memory {
                needed_bytes,
                free_bytes,
                busy_bytes,
            } => needed_bytes <= free_bytes.saturating_add(busy_bytes),
            NoRoom::Count { .. } => true,
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// The models in memory.
#[derive(Debug)]
pub struct Residency {
    limits: Limits,
    models: BTreeMap<String, Resident>,
}

#[derive(Debug)]
struct Resident {
    num_bytes: u64,
    /// As in [`Room`].
    processor: Option<usize>,
    stay: Stay,
    num_leases: usize,
    /// When its last lease was taken or ended.
    last_used: Instant,
}

impl Resident {
    fn may_leave(&self) -> bool {
        self.num_leases == 0 && self.stay != Stay::Always
    }

    /// Whether some of its memory is where the room is.
    fn is_in(&self, room: &Room) -> bool {
        let both = self.processor.zip(room.processor);
        both.is_none_or(|(its, wanted)| its == wanted)
    }
}

impl Residency {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            models: BTreeMap::new(),
        }
    }

    /// Where to load a model, and the idle models that must leave before, the least recently used first. Of several rooms that
    /// for which the fewest must leave, the first of them; all processors together only where none alone has room.
    ///
    /// # Panics
    /// When there are no rooms.
    pub fn choose(&self, rooms: &[Room]) -> Result<(Room, Vec<String>), NoRoom> {
        let mut refused: Option<NoRoom> = None;
        let mut possible = Vec::new();
        for room in rooms {
            match self.room_for(room) {
                Ok(leaving) => possible.push((*room, leaving)),
                // Who may try again later is told so.
                Err(no_room) if refused.is_none_or(|it| !it.may_pass()) => refused = Some(no_room),
                Err(_) => {}
            }
        }
        let best = possible
            .into_iter()
            .min_by_key(|(room, leaving)| (room.processor.is_none(), leaving.len()));
        best.ok_or_else(|| refused.expect("there are rooms"))
    }

    /// The idle models that must leave before there is room, the least recently used first. When there would be none with all
    /// of them gone, none is named.
    fn room_for(&self, room: &Room) -> Result<Vec<String>, NoRoom> {
        let needed_bytes = room.needed_bytes;
        let mut idle: Vec<_> = self.models.iter().filter(|it| it.1.may_leave()).collect();
        idle.sort_by_key(|(_, model)| model.last_used);
        let mut free_bytes = self.free_bytes(room.free_bytes).unwrap_or(u64::MAX);
        let mut num_loaded = self.num_counted();
        let is_full = |num_loaded| self.limits.max_loaded.is_some_and(|max| num_loaded >= max);
        let mut leaving = Vec::new();
        for (id, model) in idle {
            let helps = free_bytes < needed_bytes && model.is_in(room);
            if !helps && !is_full(num_loaded) {
                continue;
            }
            if model.is_in(room) {
                free_bytes = free_bytes.saturating_add(model.num_bytes);
            }
            num_loaded -= 1;
            leaving.push(id.clone());
        }
        if let Some(max_loaded) = self.limits.max_loaded.filter(|_| is_full(num_loaded)) {
            return Err(NoRoom::Count { max_loaded });
        }
        if free_bytes < needed_bytes {
            let busy = self.models.values().filter(|model| model.is_in(room));
            let busy = busy.filter(|model| model.num_leases > 0 && model.stay != Stay::Always);
            return Err(NoRoom::Memory {
                needed_bytes,
                free_bytes,
                busy_bytes: busy.map(|model| model.num_bytes).sum(),
            });
        }
        Ok(leaving)
    }

    /// What may still be taken: a cache counts whole from the start, while the machine sees only what was written to.
    /// `None` where neither is known.
    pub fn free_bytes(&self, now: Option<u64>) -> Option<u64> {
        let held: u64 = self.models.values().map(|model| model.num_bytes).sum();
        let planned = self.limits.memory_bytes.map(|all| all.saturating_sub(held));
        now.into_iter().chain(planned).min()
    }

    fn num_counted(&self) -> usize {
        let models = self.models.values();
        models.filter(|model| model.stay != Stay::Always).count()
    }

    /// Takes in a model that is loaded now, without a lease; `processor` is that of its [`Room`].
    pub fn insert(
        &mut self,
        id: &str,
        num_bytes: u64,
        processor: Option<usize>,
        stay: Stay,
        now: Instant,
    ) {
        let model = Resident {
            num_bytes,
            processor,
            stay,
            num_leases: 0,
            last_used: now,
        };
        self.models.insert(id.to_owned(), model);
    }

    /// Forgets a model that has left.
    pub fn remove(&mut self, id: &str) {
        self.models.remove(id);
    }

    /// Notes a use that has begun.
    pub fn lease(&mut self, id: &str, now: Instant) {
        if let Some(model) = self.models.get_mut(id) {
            model.num_leases += 1;
            model.last_used = now;
        }
    }

    /// Notes the end of a use. True when it was the last of its model.
    pub fn release(&mut self, id: &str, now: Instant) -> bool {
        let Some(model) = self.models.get_mut(id) else {
            // Everything was unloaded at the end of the program.
            return false;
        };
        model.num_leases = model.num_leases.saturating_sub(1);
        model.last_used = now;
        model.num_leases == 0
    }

    pub fn num_leases(&self, id: &str) -> usize {
        self.models.get(id).map_or(0, |model| model.num_leases)
    }

    /// Whether the model may be unloaded because somebody wants it so.
    pub fn may_leave(&self, id: &str) -> bool {
        self.models.get(id).is_some_and(Resident::may_leave)
    }

    pub fn stays_always(&self, id: &str) -> bool {
        let model = self.models.get(id);
        model.is_some_and(|model| model.stay == Stay::Always)
    }

    /// When the last use ended of a model that has none now.
    pub fn idle_since(&self, id: &str) -> Option<Instant> {
        let model = self.models.get(id).filter(|model| model.num_leases == 0)?;
        Some(model.last_used)
    }

    /// When an idle model is to leave because nobody asks for it.
    pub fn expires_at(&self, id: &str) -> Option<Instant> {
        self.expiry(self.models.get(id)?)
    }

    fn expiry(&self, model: &Resident) -> Option<Instant> {
        match model.stay {
            Stay::WhileUsed if model.num_leases == 0 => {
                model.last_used.checked_add(self.limits.keep_alive?)
            }
            _ => None,
        }
    }

    /// The models whose time is over.
    pub fn expired(&self, now: Instant) -> Vec<String> {
        let models = self.models.iter();
        let expired = models.filter(|(_, model)| self.expiry(model).is_some_and(|at| at <= now));
        expired.map(|(id, _)| id.clone()).collect()
    }

    /// When the next model's time is over, if nothing happens before.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.models.values().filter_map(|it| self.expiry(it)).min()
    }
}

#[cfg(test)]
mod tests;
