//! Which processors a model may be loaded onto, and what it takes there.

use std::path::Path;

use super::kv_cache;
use super::library::size_on_disk;
use crate::config::Settings;
use crate::device::ComputeDevice;
use crate::llm::{Decoder, LlmError, PartBytes, split};
use crate::rag::models::Room;

/// For a chat model: each processor, that with the most free memory first, and all GPUs together.
pub fn rooms_of_chat(
    path: &Path,
    device: &ComputeDevice,
    settings: &Settings,
) -> Result<Vec<Room>, LlmError> {
    let needs = kv_cache::needs(device, path, settings)?;
    let needed_bytes = needs.other_bytes.saturating_add(needs.least_cache_bytes);
    let gpus = device.on(None).free_bytes_of_each();
    let mut rooms = rooms_alone(device, &gpus, needed_bytes);
    if gpus.len() > 1
        && let Some(parts) = Decoder::part_bytes(path, &kv_cache::least_options(settings)?)?
    {
        rooms.push(room_of_all(&parts, &gpus));
    }
    Ok(rooms)
}

/// For an embedding or rerank model, which is always on one processor.
pub fn rooms_of_encoder(path: &Path, device: &ComputeDevice) -> std::io::Result<Vec<Room>> {
    let needed_bytes = size_on_disk(path)? + kv_cache::encoder_workspace_bytes(device);
    let gpus = device.on(None).free_bytes_of_each();
    Ok(rooms_alone(device, &gpus, needed_bytes))
}

/// The first that has room now, or else the first.
pub fn first_with_room(rooms: &[Room]) -> Option<&Room> {
    let has_room = |room: &&Room| room.free_bytes.is_none_or(|free| room.needed_bytes <= free);
    rooms.iter().find(has_room).or(rooms.first())
}

/// `gpus` have so many bytes free; without any there is the CPU.
fn rooms_alone(device: &ComputeDevice, gpus: &[u64], needed_bytes: u64) -> Vec<Room> {
    let free_bytes = match gpus.is_empty() {
        true => vec![device.memory().map(|memory| memory.available_bytes)],
        false => gpus.iter().copied().map(Some).collect(),
    };
    let room = |(index, free_bytes)| Room {
        needed_bytes,
        free_bytes,
        processor: Some(index),
    };
    let mut rooms: Vec<Room> = free_bytes.into_iter().enumerate().map(room).collect();
    rooms.sort_by_key(|room| std::cmp::Reverse(room.free_bytes));
    rooms
}

/// Where it cannot be split as things are, it needs more than there is.
fn room_of_all(parts: &PartBytes, free_bytes: &[u64]) -> Room {
    let needed_bytes = match split(parts, free_bytes) {
        Some(counts) => parts.sum(counts.iter().filter(|count| **count > 0).count()),
        None => parts.most(free_bytes.len()),
    };
    Room {
        needed_bytes,
        free_bytes: Some(free_bytes.iter().sum()),
        processor: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_share_a_model_whose_parts_fit() {
        let parts = PartBytes {
            layers: vec![10; 8],
            cache: 0,
            head: 15,
            each: 3,
        };
        let room = |needed_bytes, free_bytes| Room {
            needed_bytes,
            free_bytes: Some(free_bytes),
            processor: None,
        };
        assert_eq!(room_of_all(&parts, &[60, 60]), room(101, 120));
        assert_eq!(room_of_all(&parts, &[200, 0]), room(98, 200));
        // There are as many bytes, but in pieces that no layer fits into.
        let pieces = room_of_all(&parts, &[12; 10]);
        assert!(pieces.needed_bytes > 120, "{pieces:?}");
    }

    #[test]
    fn the_first_with_room_is_taken_or_else_the_first() {
        let room = |processor, free_bytes| Room {
            needed_bytes: 10,
            free_bytes,
            processor,
        };
        let small = room(Some(1), Some(9));
        let shared = room(None, Some(18));
        let unknown = room(Some(0), None);
        assert_eq!(first_with_room(&[small, shared]), Some(&shared));
        assert_eq!(first_with_room(&[small, small]), Some(&small));
        assert_eq!(first_with_room(&[unknown, shared]), Some(&unknown));
    }

    #[test]
    fn the_cpu_is_one_processor() {
        let cpu = ComputeDevice::select(crate::device::DeviceChoice::Cpu).unwrap();
        let rooms = rooms_alone(&cpu, &[], 7);
        assert_eq!(rooms.len(), 1);
        assert_eq!((rooms[0].needed_bytes, rooms[0].processor), (7, Some(0)));
        assert!(cpu.on(rooms[0].processor).is_cpu());
    }
}
