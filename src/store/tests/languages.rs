//! Keyword search in the languages of documents: small collections, each with questions in other forms of the words.

use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];

/// A language, documents of one passage each, and questions with the document that each is about.
type Collection = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, usize)],
);

const COLLECTIONS: &[Collection] = &[
    (
        "deu",
        &[
            "Die Wasserpumpe im Keller wurde im März gewartet. Die Techniker haben alle Dichtungen erneuert.",
            "Der Verein vermietet mehrere Häuser am See. Für Kinder ist der Eintritt frei.",
            "Die Bücherei öffnet dienstags um zehn Uhr und verleiht auch Zeitschriften.",
            "Nach dem Sturm lagen viele Bäume auf der Straße, und die Feuerwehr musste sägen.",
        ],
        &[
            ("Wartung der Dichtung", 0),
            ("ein Haus mieten", 1),
            ("Buch und Zeitschrift verleihen", 2),
            ("Baum strassen", 3),
        ],
    ),
    (
        "fra",
        &[
            "Le phare a été rénové par les ouvriers de la commune, et ses lampes sont désormais électriques.",
            "Les pêcheurs vendaient leurs poissons chaque matin sur le quai du port.",
            "L'école du village accueille les élèves des hameaux voisins depuis la rentrée.",
            "Les vendanges commenceront plus tôt cette année à cause de la chaleur.",
        ],
        &[
            ("rénovation lampe électrique", 0),
            ("un pêcheur vend du poisson", 1),
            ("ecole eleve", 2),
            ("vendange commence", 3),
        ],
    ),
    (
        "spa",
        &[
            "Las canciones antiguas se guardan en el archivo municipal, junto con las partituras.",
            "La bomba de agua fue reparada por los mecánicos durante la primavera.",
            "Los niños aprenden a nadar en la piscina del barrio todos los veranos.",
            "El año pasado se plantaron olivos en las colinas cercanas al pueblo.",
        ],
        &[
            ("canción archivada", 0),
            ("reparaciones mecánico", 1),
            ("nadando un niño", 2),
            ("plantar un olivo", 3),
        ],
    ),
    (
        "rus",
        &[
            "Насосы на станции обслуживают каждую весну, а клапаны проверяют вручную.",
            "Библиотека выдаёт книги на две недели, журналы читают только в зале.",
            "После бури упавшие деревья убирали пожарные и жители посёлка.",
            "Маяк построили рыбаки, и его фонарь видно за двадцать миль.",
        ],
        &[
            ("насос и клапан", 0),
            ("выдача журнала", 1),
            ("упавшее дерево в поселке", 2),
            ("рыбак у маяка", 3),
        ],
    ),
    (
        "cmn",
        &[
            "这座灯塔建于一八九八年，由当地渔民看守。",
            "图书馆每天上午九点开放，可以借阅杂志。",
            "水泵每年春天都要维修，阀门由人工检查。",
            "暴风雨过后，消防队清理了街上的树木。",
        ],
        &[
            ("谁看守灯塔？", 0),
            ("图书馆几点开放", 1),
            ("水泵的维修", 2),
            ("暴风雨", 3),
        ],
    ),
    (
        "jpn",
        &[
            "灯台は一八九八年に建てられ、地元の漁師が守っている。",
            "図書館は毎朝九時に開き、雑誌も借りることができます。",
            "ポンプは毎年春に点検され、弁は手で確認されます。",
            "嵐のあと、消防隊が道の木を片付けました。",
        ],
        &[
            ("灯台の漁師", 0),
            ("図書館で雑誌", 1),
            ("ポンプ点検", 2),
            ("消防隊", 3),
        ],
    ),
    (
        "kor",
        &[
            "등대는 천팔백구십팔년에 세워졌고 어부들이 지키고 있다.",
            "도서관은 매일 아침 아홉 시에 열고 잡지도 빌려 준다.",
        ],
        &[("등대를 지키는 어부", 0), ("도서관에서 잡지를", 1)],
    ),
    (
        "tha",
        &[
            "ประภาคารสร้างขึ้นในปี พ.ศ. 2441 และชาวประมงเป็นผู้ดูแล",
            "ห้องสมุดเปิดทุกวันเวลาเก้าโมงเช้า และให้ยืมนิตยสาร",
        ],
        &[("ใครดูแลประภาคาร", 0), ("ห้องสมุด", 1)],
    ),
];

/// Each document is a file of its own, so that its language is found by itself.
async fn stored(store: &Store, vector_store: &str) {
    for (_, texts, _) in COLLECTIONS {
        for text in *texts {
            ingest(store, vector_store, &[(text, X)]).await;
        }
    }
}

#[tokio::test]
async fn questions_in_other_forms_of_the_words_find_their_document_in_every_language() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "all").await;
    stored(&store, &vector_store).await;
    let mut wrong = Vec::new();
    for (language, texts, questions) in COLLECTIONS {
        for (question, expected) in *questions {
            let found = keyword_texts(&store, question, within(&vector_store)).await;
            if found.first().map(String::as_str) != Some(texts[*expected]) {
                wrong.push(format!("{language}: {question}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_language_of_each_document_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "all").await;
    stored(&store, &vector_store).await;
    let read = |tx: &rusqlite::Transaction| {
        let mut statement = tx.prepare("SELECT language FROM documents ORDER BY id")?;
        let found = statement.query_map([], |row| row.get(0))?;
        Ok(found.collect::<rusqlite::Result<Vec<String>>>()?)
    };
    let found = store.database().read(read).await.unwrap();
    let expected = COLLECTIONS
        .iter()
        .flat_map(|(language, texts, _)| texts.iter().map(|_| *language));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_letter_of_its_own_is_not_taken_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let texts = [
        "El año de la sequía fue muy duro para los agricultores del valle y para sus familias.",
        "La palabra ano designa una parte del cuerpo, según el diccionario que usan los médicos.",
    ];
    for text in texts {
        ingest(&store, &vector_store, &[(text, X)]).await;
    }
    let found = keyword_texts(&store, "año", within(&vector_store)).await;
    assert_eq!(found, [texts[0]]);
    let found = keyword_texts(&store, "sequia", within(&vector_store)).await;
    assert_eq!(found, [texts[0]]);
}

#[tokio::test]
async fn what_an_earlier_version_stored_is_found_by_the_words_of_its_language() {
    let dir = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(dir.path().join("inglenook.db")).unwrap();
    for migration in [
        include_str!("../migrations/0001_initial.sql"),
        include_str!("../migrations/0002_batches_uploads_expiry.sql"),
        include_str!("../migrations/0003_conversations.sql"),
        include_str!("../migrations/0004_files_in_pieces.sql"),
        include_str!("../migrations/0005_response_events.sql"),
    ] {
        db.execute_batch(migration).unwrap();
    }
    let (_, texts, questions) = COLLECTIONS[0];
    db.execute_batch(
        "PRAGMA user_version = 5;
         INSERT INTO vector_stores (id, name, metadata, created_at, last_active_at) VALUES ('vs_old', 'old', '{}', 1, 1);",
    )
    .unwrap();
    for (text, id) in texts.iter().zip(1_i64..) {
        db.execute(
            "INSERT INTO files (id, filename, purpose, media_type, num_bytes, sha256, created_at)
             VALUES ('file-' || ?1, 'old.txt', 'assistants', 'text/plain', 0, '', 1)",
            [id],
        )
        .unwrap();
        db.execute(
            "INSERT INTO documents (vector_store_row, file_row, status, attributes, max_chunk_tokens, chunk_overlap_tokens,
                                    created_at, embedder_hash, num_chunks)
             VALUES (1, ?1, 'completed', '{}', 256, 32, 1, ?2, 1)",
            rusqlite::params![id, "embedder"],
        )
        .unwrap();
        let vector: Vec<u8> = X.iter().flat_map(|value| value.to_le_bytes()).collect();
        db.execute(
            "INSERT INTO chunks (document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens, heading_path,
                                 text, vector)
             VALUES (?1, 0, 0, ?2, 1, 1, 3, '[\"Teil\"]', ?3, ?4)",
            rusqlite::params![id, text.len() as i64, text, vector],
        )
        .unwrap();
    }
    drop(db);
    let store = open(dir.path()).await;
    for (question, expected) in questions {
        let found = keyword_texts(&store, question, within("vs_old")).await;
        assert_eq!(found[0], texts[*expected], "{question}");
    }
    // And goes as what is stored now does.
    store.delete_file("file-1").await.unwrap();
    store.delete_file("file-2").await.unwrap();
    let counted = store.word_frequencies(vec!["Teile".into()]).await.unwrap();
    assert_eq!((counted.num_with_word[0], counted.num_chunks), (2, 2));
}
