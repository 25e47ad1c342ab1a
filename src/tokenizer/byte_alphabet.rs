//! The alphabet in which byte-level vocabularies are spelled: one printable character for each byte
//! (`bytes_to_unicode` of GPT-2). Must stay a bijection.

use std::sync::LazyLock;

static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut chars = ['\0'; 256];
    let mut next_free = 0x100;
    for byte in 0..=255u8 {
        chars[usize::from(byte)] = if stands_for_itself(byte) {
            char::from(byte)
        } else {
            next_free += 1;
            char::from_u32(next_free - 1).expect("0x100 to 0x143 are characters")
        };
    }
    chars
});

/// The character that spells this byte.
pub(super) fn char_of(byte: u8) -> char {
    CHARS[usize::from(byte)]
}

/// The byte that this character spells.
pub(super) fn byte_of(char: char) -> Option<u8> {
    match u8::try_from(char) {
        Ok(byte) => stands_for_itself(byte).then_some(byte),
        Err(_) => (0x100..0x144).contains(&u32::from(char)).then(|| {
            let index = CHARS.iter().position(|&other| other == char);
            index.expect("every one of these characters spells a byte") as u8
        }),
    }
}

/// The bytes that a spelling stands for; `None` when it has a character that stands for none.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_of).collect()
}

fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
    }

    #[test]
    fn space_and_newline_are_spelled_as_gpt_2_spells_them() {
        assert_eq!(
            (char_of(b' '), char_of(b'\n'), char_of(0xAD)),
            ('Ġ', 'Ċ', 'Ń')
        );
        assert_eq!(bytes_of("ĠÃ©"), Some(" é".as_bytes().to_vec()));
        assert_eq!(bytes_of("▁"), None);
    }
}
