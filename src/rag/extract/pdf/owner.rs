//! The owner's password of the older ciphers (revisions 2 to 4): it encrypts the user's password, and only that decrypts
//! the file. lopdf knows an owner's password when it sees one, but then decrypts as if it were the user's.

use md5::{Digest, Md5};
use pdf_extract::encryption::PasswordAlgorithm;
use pdf_extract::{Document, Object};

/// What a password of fewer than 32 bytes goes on with (ISO 32000-1, 7.6.3.3, algorithm 2).
const PADDING: [u8; 32] = [
    0x28, 0xbf, 0x4e, 0x5e, 0x4e, 0x75, 0x8a, 0x41, 0x64, 0x00, 0x4e, 0x56, 0xff, 0xfa, 0x01, 0x08,
    0x2e, 0x2e, 0x00, 0xb6, 0xd0, 0x68, 0x3e, 0x80, 0x2f, 0x0c, 0xa9, 0xfe, 0x64, 0x53, 0x69, 0x7a,
];

/// The user's password, padded, if `password` is the owner's and the cipher an older one (algorithm 7).
pub fn user_password(document: &Document, password: &str) -> Option<Vec<u8>> {
    let encryption = document.get_encrypted().ok()?;
    let number = |key: &[u8]| encryption.get(key).and_then(Object::as_i64).ok();
    let revision = number(b"R").filter(|revision| (2..=4).contains(revision))?;
    let mut user = encryption.get(b"O").ok()?.as_str().ok()?.to_vec();
    let key_bits = number(b"Length").filter(|_| revision > 2).unwrap_or(40);
    let key_len = usize::try_from(key_bits / 8)
        .ok()
        .filter(|len| (5..=16).contains(len))?;
    let algorithm = PasswordAlgorithm::try_from(document).ok()?;
    let password = algorithm.sanitize_password(password).ok()?;
    let key = key_of(&password, revision, key_len);
    let rounds = if revision > 2 { 19 } else { 0 };
    for round in (0..=rounds).rev() {
        let key: Vec<u8> = key.iter().map(|byte| byte ^ round).collect();
        apply_rc4(&key, &mut user);
    }
    document
        .authenticate_raw_user_password(&user)
        .is_ok()
        .then_some(user)
}

/// What the user's password is encrypted with (algorithm 3, steps a to d).
fn key_of(password: &[u8], revision: i64, key_len: usize) -> Vec<u8> {
    let padded = password.iter().chain(&PADDING).take(PADDING.len());
    let padded: Vec<u8> = padded.copied().collect();
    let mut hash = Md5::digest(padded);
    if revision > 2 {
        for _ in 0..50 {
            hash = Md5::digest(hash);
        }
    }
    hash[..key_len].to_vec()
}

/// Encrypts or decrypts, which is the same.
fn apply_rc4(key: &[u8], data: &mut [u8]) {
    let mut state: [u8; 256] = std::array::from_fn(|at| at as u8);
    let mut other = 0u8;
    for at in 0..256 {
        other = other
            .wrapping_add(state[at])
            .wrapping_add(key[at % key.len()]);
        state.swap(at, usize::from(other));
    }
    let (mut at, mut other) = (0u8, 0u8);
    for byte in data {
        at = at.wrapping_add(1);
        other = other.wrapping_add(state[usize::from(at)]);
        state.swap(usize::from(at), usize::from(other));
        let index = state[usize::from(at)].wrapping_add(state[usize::from(other)]);
        *byte ^= state[usize::from(index)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rc4_gives_the_published_stream() {
        // The vectors that everybody tests with, from the algorithm's first description.
        for (key, plain, cipher) in [
            ("Key", "Plaintext", "bbf316e8d940af0ad3"),
            ("Wiki", "pedia", "1021bf0420"),
        ] {
            let mut data = plain.as_bytes().to_vec();
            apply_rc4(key.as_bytes(), &mut data);
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, cipher, "{key}");
        }
    }
}
