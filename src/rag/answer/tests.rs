use super::*;
use crate::rag::selection::Selection;
use crate::store::EmbedderId;

async fn shown(answer: &mut Answer, said: &[&str]) -> (String, Vec<(usize, usize)>) {
    for piece in said {
        let event = ReplyEvent::Text {
            text: (*piece).to_owned(),
            tokens: Vec::new(),
        };
        answer.read(event).await.unwrap();
    }
    let usage = Usage::default();
    let AnswerEvent::Reply(end) = finished(usage) else {
        unreachable!()
    };
    answer.read(end).await.unwrap();
    let (mut text, mut citations) = (String::new(), Vec::new());
    for event in answer.queue.drain(..) {
        match event {
            AnswerEvent::Reply(ReplyEvent::Text { text: piece, .. }) => text.push_str(&piece),
            AnswerEvent::Citation(citation) => citations.push((citation.number, citation.index)),
            _ => {}
        }
    }
    (text, citations)
}

#[tokio::test]
async fn a_marker_goes_with_its_citation_when_the_document_is_gone_at_the_last_moment() {
    let dir = tempfile::tempdir().unwrap();
    let embedder = EmbedderId {
        hash: "x".into(),
        dimensions: 2,
    };
    let store = Store::open(dir.path(), embedder).await.unwrap();
    let passage = |number: usize, file_id: &str| {
        let mut passage = Selection::alone("The tower is white.".into())
            .passages()
            .remove(0);
        passage.number = number;
        passage.chunk.file_id = file_id.into();
        passage
    };
    let answer = |numbers: &[usize]| {
        let mut answer = Answer::empty(&store);
        answer.passages = vec![passage(1, ""), passage(2, "file-deleted")];
        answer.reader = MarkerReader::new(numbers.iter().copied());
        answer
    };
    let said = ["It is white [1", "]. It is old [2]. Both [2, 1] [2][1]."];
    let (text, citations) = shown(&mut answer(&[1, 2]), &said).await;
    assert_eq!(text, "It is white [1]. It is old. Both [1] [1].");
    assert_eq!(citations, [(1, 12), (1, 33), (1, 37)]);
    for (number, index) in citations {
        let rest: String = text.chars().skip(index).collect();
        assert!(rest.starts_with(&format!("[{number}]")), "{rest}");
    }
    let (text, _) = shown(&mut answer(&[2]), &["Nothing [2]"]).await;
    assert_eq!(text, "Nothing");
}
