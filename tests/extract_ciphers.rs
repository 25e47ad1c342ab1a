//! Encrypted PDFs of every cipher that `docs/ingestion.md` names, made here: opened by the user's and by the owner's
//! password, by the empty one where it is the user's, and by no other.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use inglenook::config::program_on_path;
use inglenook::rag::extract::{ExtractError, ExtractLimits, Original, extract};
use pdf_extract::encryption::crypt_filters::{Aes128CryptFilter, CryptFilter};
use pdf_extract::{Document, EncryptionState, EncryptionVersion, Object, Permissions};

const WORDS: &str = "The keeper winds the clockwork";

/// A page with these words, as a file without any cipher.
fn plain() -> Vec<u8> {
    let content = format!("BT /F 12 Tf 72 720 Td ({WORDS}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut file = "%PDF-1.7\n".to_owned();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        places.push(file.len());
        file += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    let xref = file.len();
    file += &format!("xref\n0 {}\n0000000000 65535 f \n", places.len() + 1);
    for place in &places {
        file += &format!("{place:010} 00000 n \n");
    }
    let size = places.len() + 1;
    file += &format!(
        "trailer\n<< /Size {size} /Root 1 0 R /ID [<0123456789abcdef> <0123456789abcdef>] >>\nstartxref\n{xref}\n%%EOF\n"
    );
    file.into_bytes()
}

async fn read(bytes: &[u8], password: Option<&str>) -> Result<String, ExtractError> {
    let limits = ExtractLimits::new(env!("CARGO_BIN_EXE_inglenook").into());
    let original = Original {
        password,
        ..Original::new(bytes.to_vec(), "locked.pdf")
    };
    Ok(extract(original, &limits).await?.text)
}

/// Opened by both passwords, and without one only if `user` is empty.
async fn check(cipher: &str, bytes: &[u8], user: &str, owner: &str) {
    for password in [user, owner] {
        let text = read(bytes, Some(password)).await;
        assert_eq!(text.as_deref(), Ok(WORDS), "{cipher}, {password:?}");
    }
    let (without, wrong) = (read(bytes, None).await, read(bytes, Some("no")).await);
    if user.is_empty() {
        assert_eq!(without.as_deref(), Ok(WORDS), "{cipher}");
        assert_eq!(wrong.as_deref(), Ok(WORDS), "{cipher}");
    } else {
        assert_eq!(without, Err(ExtractError::NeedsPassword), "{cipher}");
        assert_eq!(wrong, Err(ExtractError::WrongPassword), "{cipher}");
    }
}

/// As qpdf encrypts, another implementation; without it there is nothing to compare with.
#[tokio::test(flavor = "multi_thread")]
async fn what_qpdf_encrypts_is_opened() {
    let Some(qpdf) = program_on_path("qpdf") else {
        eprintln!("qpdf is not installed: not tested");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("plain.pdf");
    std::fs::write(&source, plain()).unwrap();
    for (cipher, bits, options) in [
        ("RC4, 40 bits", "40", vec![]),
        ("RC4, 128 bits", "128", vec!["--use-aes=n"]),
        (
            "RC4, 128 bits, revision 4",
            "128",
            vec!["--use-aes=n", "--force-V4"],
        ),
        ("AES, 128 bits", "128", vec!["--use-aes=y"]),
        (
            "AES, 128 bits, metadata not",
            "128",
            vec!["--use-aes=y", "--cleartext-metadata"],
        ),
        ("AES, 256 bits, revision 5", "256", vec!["--force-R5"]),
        ("AES, 256 bits, revision 6", "256", vec![]),
    ] {
        for (user, owner) in [("user", "owner"), ("", "owner"), ("süß", "größer")] {
            for streams in ["disable", "generate"] {
                let made = dir.path().join("locked.pdf");
                let mut command = Command::new(&qpdf);
                command.args([
                    "--allow-weak-crypto",
                    &format!("--object-streams={streams}"),
                ]);
                command
                    .args(["--encrypt", user, owner, bits])
                    .args(&options)
                    .arg("--");
                let status = command.arg(&source).arg(&made).status().unwrap();
                assert!(status.success(), "{cipher}");
                let bytes = std::fs::read(&made).unwrap();
                check(&format!("{cipher}, {streams}"), &bytes, user, owner).await;
            }
        }
    }
}

fn encrypted(version: impl Fn(&Document) -> EncryptionVersion<'_>) -> Document {
    let mut document = Document::load_mem(&plain()).unwrap();
    let state = EncryptionState::try_from(version(&document)).unwrap();
    document.encrypt(&state).unwrap();
    document
}

fn saved(mut document: Document, path: &Path) -> Vec<u8> {
    document.save(path).unwrap();
    std::fs::read(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_password_of_an_older_cipher_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("locked.pdf");
    let (user_password, owner_password) = ("user", "größer");
    let permissions = Permissions::all();
    let rc4_40 = encrypted(|document| EncryptionVersion::V1 {
        document,
        owner_password,
        user_password,
        permissions,
    });
    let rc4_128 = encrypted(|document| EncryptionVersion::V2 {
        document,
        owner_password,
        user_password,
        key_length: 128,
        permissions,
    });
    let aes_128 = encrypted(|document| {
        let filter: Arc<dyn CryptFilter> = Arc::new(Aes128CryptFilter);
        EncryptionVersion::V4 {
            document,
            encrypt_metadata: true,
            crypt_filters: BTreeMap::from([(b"StdCF".to_vec(), filter)]),
            stream_filter: b"StdCF".to_vec(),
            string_filter: b"StdCF".to_vec(),
            owner_password,
            user_password,
            permissions,
        }
    });
    for (cipher, document) in [
        ("RC4 40", rc4_40),
        ("RC4 128", rc4_128),
        ("AES 128", aes_128),
    ] {
        // The dictionary of the cipher as an object, and as some programs have it, in the trailer.
        let mut inline = document.clone();
        let id = inline
            .trailer
            .get(b"Encrypt")
            .unwrap()
            .as_reference()
            .unwrap();
        let dictionary = inline.objects.remove(&id).unwrap();
        inline.trailer.set("Encrypt", dictionary);
        assert!(matches!(
            inline.trailer.get(b"Encrypt"),
            Ok(Object::Dictionary(_))
        ));
        for (place, document) in [("object", document), ("trailer", inline)] {
            let bytes = saved(document, &path);
            check(
                &format!("{cipher}, {place}"),
                &bytes,
                user_password,
                owner_password,
            )
            .await;
        }
    }
}
