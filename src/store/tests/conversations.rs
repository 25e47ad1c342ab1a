//! Conversations and their items, responses that are still worked on, chat completions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn item(id: &str) -> Item {
    Item {
        id: id.to_owned(),
        body: json!({ "id": id, "type": "message" }),
        read_as: None,
    }
}

fn response(id: &str, owner: Option<String>) -> StoredResponse {
    StoredResponse {
        id: id.to_owned(),
        created_at: 1,
        body: json!({ "status": "queued" }),
        input: json!([]),
        previous_id: None,
        owner,
        is_streamed: true,
    }
}

fn ids(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.id.as_str()).collect()
}

#[tokio::test]
async fn items_keep_their_order_and_an_id_stands_once_in_a_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let first = vec![item("msg_a"), item("msg_b")];
    let conversation = store
        .create_conversation(BTreeMap::new(), first)
        .await
        .unwrap();
    let again = vec![item("msg_c"), item("msg_a")];
    let kept = store
        .add_conversation_items(&conversation.id, again)
        .await
        .unwrap();
    assert_ne!(kept[1].id, "msg_a");
    assert!(kept[1].id.starts_with("msg_"));
    assert_eq!(kept[1].body["id"], Value::from(kept[1].id.as_str()));
    drop(store);

    let store = open(dir.path()).await;
    let all = store.conversation_items(&conversation.id).await.unwrap();
    assert_eq!(ids(&all), ["msg_a", "msg_b", "msg_c", &kept[1].id]);
    let list = ListOptions {
        limit: 2,
        order: Order::Desc,
        after: Some("msg_c".into()),
        before: None,
    };
    let page = store
        .list_conversation_items(&conversation.id, list)
        .await
        .unwrap();
    assert_eq!(
        (ids(&page.items), page.has_more),
        (vec!["msg_b", "msg_a"], false)
    );
    store
        .delete_conversation_item(&conversation.id, "msg_b")
        .await
        .unwrap();
    assert!(store.item("msg_b").await.is_err());
    store.delete_conversation(&conversation.id).await.unwrap();
    assert!(store.item("msg_a").await.is_err());
    assert!(store.conversation_items(&conversation.id).await.is_err());
}

#[tokio::test]
async fn the_first_to_end_a_response_decides() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let owner = store.process_id().unwrap();
    let begun = response("resp_1", Some(owner));
    let conversation = store
        .create_conversation(BTreeMap::new(), vec![])
        .await
        .unwrap();
    store
        .begin_response(begun, vec![item("msg_in")])
        .await
        .unwrap();
    let running = json!({ "status": "in_progress" });
    assert!(store.update_response("resp_1", running).await.unwrap());
    let cancelled = json!({ "status": "cancelled" });
    assert!(
        store
            .end_response("resp_1", cancelled.clone(), Some("cancelled".into()))
            .await
            .unwrap()
    );
    let late = Written {
        response: Some(response("resp_1", None)),
        output: vec![item("msg_out")],
        conversation_id: Some(conversation.id.clone()),
        events: Some("completed".into()),
        ..Written::default()
    };
    assert!(!store.finish_response(late).await.unwrap());
    let again = Some("again".to_owned());
    assert!(
        !store
            .end_response("resp_1", json!({}), again)
            .await
            .unwrap()
    );
    let events = store.response_events("resp_1").await.unwrap();
    assert_eq!(events.as_deref(), Some("cancelled"));
    assert!(!store.update_response("resp_1", json!({})).await.unwrap());
    assert_eq!(store.response("resp_1").await.unwrap().body, cancelled);
    assert!(
        store
            .conversation_items(&conversation.id)
            .await
            .unwrap()
            .is_empty()
    );
    let given = store
        .input_items("resp_1", ListOptions::default())
        .await
        .unwrap();
    assert_eq!(ids(&given.items), ["msg_in"]);
    store.delete_response("resp_1").await.unwrap();
    assert_eq!(store.response_events("resp_1").await.unwrap(), None);
}

#[tokio::test]
async fn a_process_is_known_to_run_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()).await, open(dir.path()).await);
    let id = one.process_id().unwrap();
    assert_eq!(one.process_id().unwrap(), id);
    assert!(one.is_process_running(&id).unwrap());
    assert!(two.is_process_running(&id).unwrap());
    drop(one);
    assert!(!two.is_process_running(&id).unwrap());
    // As a process that was killed leaves it.
    std::fs::write(dir.path().join("processes").join("process_dead"), "").unwrap();
    assert!(!two.is_process_running("process_dead").unwrap());
}

#[tokio::test]
async fn completions_are_listed_by_model_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let words = |text: &str| BTreeMap::from([("to\"pic".to_owned(), text.to_owned())]);
    for (id, model, topic) in [("c1", "a", "x"), ("c2", "a", "y"), ("c3", "b", "x")] {
        let completion = StoredCompletion {
            id: id.into(),
            model: model.into(),
            metadata: words(topic),
            body: json!({}),
            messages: json!([]),
        };
        store.save_completion(completion).await.unwrap();
    }
    let list = async |model: Option<&str>, metadata| {
        let model = model.map(str::to_owned);
        let page = store.list_completions(model, metadata, ListOptions::default());
        let found = page.await.unwrap().items.into_iter();
        found.map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, BTreeMap::new()).await, ["c3", "c2", "c1"]);
    assert_eq!(list(Some("a"), BTreeMap::new()).await, ["c2", "c1"]);
    assert_eq!(list(None, words("x")).await, ["c3", "c1"]);
    store.update_completion("c3", words("z")).await.unwrap();
    assert_eq!(list(None, words("x")).await, ["c1"]);
    store.delete_completion("c1").await.unwrap();
    assert!(store.completion("c1").await.is_err());
}
