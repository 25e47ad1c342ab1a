//! The rules of leaving, by example and by random operations against a plain list.

use proptest::prelude::*;

use super::*;

const KEEP_ALIVE: Duration = Duration::from_secs(300);

fn residency(max_loaded: Option<usize>, memory_bytes: u64) -> Residency {
    Residency::new(Limits {
        max_loaded,
        memory_bytes: Some(memory_bytes),
        keep_alive: Some(KEEP_ALIVE),
    })
}

/// On all processors.
fn room(needed_bytes: u64, free_bytes: Option<u64>) -> Room {
    Room {
        needed_bytes,
        free_bytes,
        processor: None,
    }
}

fn on(processor: usize, needed_bytes: u64, free_bytes: u64) -> Room {
    Room {
        processor: Some(processor),
        ..room(needed_bytes, Some(free_bytes))
    }
}

#[test]
fn the_least_recently_used_idle_model_leaves_first_and_no_more_than_needed() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut models = residency(None, 100);
    for (id, second) in [("a", 0), ("b", 1), ("c", 2)] {
        models.insert(id, 30, None, Stay::WhileUsed, at(second));
    }
    assert_eq!(models.room_for(&room(10, None)), Ok(vec![]));
    assert_eq!(models.room_for(&room(40, None)), Ok(vec!["a".to_string()]));
    models.lease("a", at(3));
    models.release("a", at(4));
    assert_eq!(models.room_for(&room(40, None)), Ok(vec!["b".to_string()]));
    models.lease("b", at(5));
    assert_eq!(
        models.room_for(&room(70, None)),
        Ok(vec!["c".to_string(), "a".to_string()])
    );
}

#[test]
fn what_does_not_fit_costs_nobody_their_place() {
    let now = Instant::now();
    let mut models = residency(None, 100);
    models.insert("documents", 20, None, Stay::Always, now);
    models.insert("busy", 30, None, Stay::UntilNeeded, now);
    models.insert("idle", 40, None, Stay::UntilNeeded, now);
    models.lease("busy", now);
    let no_room = models.room_for(&room(60, None)).unwrap_err();
    let expected = NoRoom::Memory {
        needed_bytes: 60,
        free_bytes: 50,
        busy_bytes: 30,
    };
    assert_eq!(no_room, expected);
    assert!(no_room.may_pass());
    // More than there is without the model that always stays.
    assert!(!models.room_for(&room(81, None)).unwrap_err().may_pass());
    // The machine has less than the plan says: somebody else took it.
    assert_eq!(
        models.room_for(&room(8, Some(5))),
        Ok(vec!["idle".to_string()])
    );
}

#[test]
fn only_models_loaded_on_demand_run_out_of_time_and_only_when_idle() {
    let start = Instant::now();
    let mut models = residency(None, 100);
    models.insert("documents", 1, None, Stay::Always, start);
    models.insert("named", 1, None, Stay::UntilNeeded, start);
    models.insert("asked", 1, None, Stay::WhileUsed, start);
    let late = start + KEEP_ALIVE;
    assert_eq!(models.next_expiry(), Some(late));
    assert!(models.expired(late - Duration::from_secs(1)).is_empty());
    assert_eq!(models.expired(late), ["asked"]);
    models.lease("asked", late);
    assert!(models.expired(late + KEEP_ALIVE).is_empty());
    assert!(models.release("asked", late + KEEP_ALIVE));
    assert_eq!(models.next_expiry(), Some(late + 2 * KEEP_ALIVE));
}

#[test]
fn places_are_counted_without_the_models_that_always_stay() {
    let now = Instant::now();
    let mut models = residency(Some(1), 100);
    models.insert("documents", 1, None, Stay::Always, now);
    assert_eq!(models.room_for(&room(1, None)), Ok(vec![]));
    models.insert("a", 1, None, Stay::WhileUsed, now);
    assert_eq!(models.room_for(&room(1, None)), Ok(vec!["a".to_string()]));
    models.lease("a", now);
    assert_eq!(
        models.room_for(&room(1, None)),
        Err(NoRoom::Count { max_loaded: 1 })
    );
}

/// Two processors with 24 each: one has 14 in use and 8 idle, the other the same.
fn two_processors() -> Residency {
    let now = Instant::now();
    let mut models = residency(None, 48);
    for (processor, busy, idle) in [(0, "a", "b"), (1, "c", "d")] {
        models.insert(busy, 14, Some(processor), Stay::WhileUsed, now);
        models.insert(idle, 8, Some(processor), Stay::WhileUsed, now);
        models.lease(busy, now);
    }
    models
}

#[test]
fn models_leave_from_the_processor_that_needs_their_memory() {
    let mut models = two_processors();
    let chosen = models.choose(&[on(0, 9, 2), on(1, 9, 2)]).unwrap();
    assert_eq!(chosen, (on(0, 9, 2), vec!["b".to_string()]));
    let chosen = models.choose(&[on(0, 9, 0), on(1, 9, 2)]).unwrap();
    assert_eq!(chosen, (on(1, 9, 2), vec!["d".to_string()]));
    // Neither has room for it with all idle models gone, which would free 16 together.
    let no_room = models.choose(&[on(0, 12, 2), on(1, 12, 2)]).unwrap_err();
    let expected = NoRoom::Memory {
        needed_bytes: 12,
        free_bytes: 10,
        busy_bytes: 14,
    };
    assert_eq!(no_room, expected);
    assert!(no_room.may_pass());
    // No more leave than must, wherever that is.
    models.remove("d");
    let chosen = models.choose(&[on(0, 9, 2), on(1, 9, 10)]).unwrap();
    assert_eq!(chosen, (on(1, 9, 10), vec![]));
}

#[test]
fn a_model_is_shared_only_where_no_processor_has_room_with_idle_models_gone() {
    let models = two_processors();
    let shared = |needed_bytes| room(needed_bytes, Some(4));
    let chosen = models
        .choose(&[on(0, 9, 2), on(1, 9, 2), shared(10)])
        .unwrap();
    assert_eq!(chosen, (on(0, 9, 2), vec!["b".to_string()]));
    let chosen = models
        .choose(&[on(0, 15, 2), on(1, 15, 2), shared(16)])
        .unwrap();
    assert_eq!(chosen, (shared(16), vec!["b".to_string(), "d".to_string()]));
    // Later there may be room on one.
    let no_room = models.choose(&[on(0, 24, 2), on(1, 24, 2), shared(49)]);
    assert!(no_room.unwrap_err().may_pass());
    let no_room = models.choose(&[on(0, 49, 2), on(1, 49, 2), shared(50)]);
    assert!(!no_room.unwrap_err().may_pass());
}

/// One thing that can happen, with numbers that are taken modulo what there is.
#[derive(Debug, Clone)]
enum Operation {
    Load { id: u8, num_bytes: u64, stay: u8 },
    Lease(u8),
    Release(u8),
    Pass(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0u8..8, 0u64..60, 0u8..5).prop_map(|(id, num_bytes, stay)| Operation::Load {
            id,
            num_bytes,
            stay
        }),
        (0u8..8).prop_map(Operation::Lease),
        (0u8..8).prop_map(Operation::Release),
        (0u64..200).prop_map(Operation::Pass),
    ]
}

/// What a plain reading of the rules remembers of a model.
struct Plain {
    id: String,
    num_bytes: u64,
    stay: Stay,
    num_leases: usize,
    last_used: Instant,
}

const MEMORY: u64 = 100;
const MAX_LOADED: usize = 4;

proptest! {
    #[test]
    fn random_operations_never_break_a_limit_nor_touch_a_model_in_use(
        operations in prop::collection::vec(operation(), 1..200)
    ) {
        let mut now = Instant::now();
        let mut models = residency(Some(MAX_LOADED), MEMORY);
        let mut plain: Vec<Plain> = Vec::new();
        for operation in operations {
            now += Duration::from_millis(1);
            match operation {
                Operation::Load { id, num_bytes, stay } => {
                    let id = id.to_string();
                    if plain.iter().any(|model| model.id == id) {
                        continue;
                    }
                    let stay = match stay {
                        0 => Stay::Always,
                        1 => Stay::UntilNeeded,
                        _ => Stay::WhileUsed,
                    };
                    let held = |plain: &[Plain]| plain.iter().map(|it| it.num_bytes).sum::<u64>();
                    let counted = |plain: &[Plain]| {
                        plain.iter().filter(|it| it.stay != Stay::Always).count()
                    };
                    let may_leave = |it: &Plain| it.num_leases == 0 && it.stay != Stay::Always;
                    match models.room_for(&room(num_bytes, None)) {
                        Ok(leaving) => {
                            for (at, gone) in leaving.iter().enumerate() {
                                // Whoever left before this one was not enough.
                                let is_enough = held(&plain) + num_bytes <= MEMORY
                                    && counted(&plain) < MAX_LOADED;
                                prop_assert!(!is_enough, "{gone} left for nothing");
                                let place = plain.iter().position(|it| it.id == *gone).unwrap();
                                let model = plain.remove(place);
                                prop_assert!(may_leave(&model), "{} was in use", model.id);
                                let older = plain
                                    .iter()
                                    .any(|it| may_leave(it) && it.last_used < model.last_used);
                                prop_assert!(!older, "{gone} left as number {at} before its turn");
                                models.remove(gone);
                            }
                            models.insert(&id, num_bytes, None, stay, now);
                            let last_used = now;
                            plain.push(Plain { id, num_bytes, stay, num_leases: 0, last_used });
                            prop_assert!(held(&plain) <= MEMORY);
                            // A model that always stays takes no place, but finds one when it comes.
                            prop_assert!(counted(&plain) <= MAX_LOADED);
                        }
                        Err(no_room) => {
                            plain.retain(|it| !may_leave(it));
                            let fits = held(&plain) + num_bytes <= MEMORY
                                && counted(&plain) < MAX_LOADED;
                            prop_assert!(!fits, "{no_room}");
                            // Nobody leaves for it: begin anew from the same state.
                            let stays = |id: &str| plain.iter().any(|it| it.id == id);
                            let gone: Vec<String> = models
                                .models
                                .keys()
                                .filter(|id| !stays(id))
                                .cloned()
                                .collect();
                            gone.iter().for_each(|id| models.remove(id));
                        }
                    }
                }
                Operation::Lease(id) => {
                    if let Some(model) = plain.iter_mut().find(|it| it.id == id.to_string()) {
                        model.num_leases += 1;
                        model.last_used = now;
                        models.lease(&model.id, now);
                    }
                }
                Operation::Release(id) => {
                    let found = plain.iter_mut().find(|it| it.id == id.to_string());
                    if let Some(model) = found.filter(|it| it.num_leases > 0) {
                        model.num_leases -= 1;
                        model.last_used = now;
                        prop_assert_eq!(models.release(&model.id, now), model.num_leases == 0);
                    }
                }
                Operation::Pass(seconds) => now += Duration::from_secs(seconds),
            }
            let mut expired: Vec<&str> = plain
                .iter()
                .filter(|it| it.stay == Stay::WhileUsed && it.num_leases == 0)
                .filter(|it| now.duration_since(it.last_used) >= KEEP_ALIVE)
                .map(|it| it.id.as_str())
                .collect();
            expired.sort_unstable();
            prop_assert_eq!(models.expired(now), expired);
            for model in &plain {
                prop_assert_eq!(models.idle_since(&model.id).is_some(), model.num_leases == 0);
            }
        }
    }
}
