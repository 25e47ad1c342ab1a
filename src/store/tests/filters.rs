//! Attribute filters, row by row.

use super::CompareOp::*;
use super::*;

const X: [f32; DIMENSIONS] = [1.0, 0.0, 0.0, 0.0];

fn value(json: serde_json::Value) -> AttributeValue {
    serde_json::from_value(json).unwrap()
}

fn compare(op: CompareOp, key: &str, json: serde_json::Value) -> AttributeFilter {
    let value = match json {
        serde_json::Value::Array(values) => {
            FilterValue::Many(values.into_iter().map(value).collect())
        }
        one => FilterValue::One(value(one)),
    };
    AttributeFilter::Compare {
        op,
        key: key.to_owned(),
        value,
    }
}

#[tokio::test]
async fn filters_choose_the_documents_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let vector_store = create_vector_store(&store, "a").await;
    let documents = [
        (
            "a",
            serde_json::json!({"year": 2020, "team": "legal", "draft": true, "we\"ird.$[0] ключ": "x"}),
        ),
        (
            "b",
            serde_json::json!({"year": 2021.5, "team": "sales", "draft": false}),
        ),
        ("c", serde_json::json!({"year": "2020", "team": "Legal"})),
        ("d", serde_json::json!({})),
        (
            "e",
            serde_json::json!({"year": 1, "team": "' OR 1=1 --", "draft": 1}),
        ),
    ];
    for (text, attributes) in &documents {
        let file = ingest(&store, &vector_store, &[(text, X)]).await;
        let attributes: Attributes = serde_json::from_value(attributes.clone()).unwrap();
        let document = store
            .update_attributes(&vector_store, &file, attributes.clone())
            .await
            .unwrap();
        assert_eq!(document.attributes, attributes);
    }
    let and = |filters: &[AttributeFilter]| AttributeFilter::And(filters.to_vec());
    let or = |filters: &[AttributeFilter]| AttributeFilter::Or(filters.to_vec());
    use serde_json::json;
    let table = [
        (compare(Eq, "year", json!(2020)), "a"),
        (compare(Eq, "year", json!(2020.0)), "a"),
        (compare(Eq, "year", json!("2020")), "c"),
        (compare(Ne, "year", json!(2020)), "bcde"),
        (compare(Gt, "year", json!(2020)), "b"),
        (compare(Gte, "year", json!(2020)), "ab"),
        (compare(Lt, "year", json!(2021.5)), "ae"),
        (compare(Lte, "year", json!(2021.5)), "abe"),
        (compare(In, "year", json!([2020, 1, "2020"])), "ace"),
        (compare(In, "year", json!([])), ""),
        (compare(Nin, "year", json!([2020, 1])), "bcd"),
        (compare(Nin, "year", json!([])), "abcde"),
        (compare(Eq, "team", json!("legal")), "a"),
        (compare(Gte, "team", json!("legal")), "ab"),
        (compare(Eq, "team", json!("' OR 1=1 --")), "e"),
        (compare(Eq, "draft", json!(true)), "a"),
        (compare(Eq, "draft", json!(1)), "e"),
        (compare(Ne, "draft", json!(true)), "bcde"),
        (compare(Eq, "we\"ird.$[0] ключ", json!("x")), "a"),
        (compare(Eq, "missing", json!("x")), ""),
        (compare(Lt, "missing", json!(9)), ""),
        (compare(Ne, "missing", json!("x")), "abcde"),
        (and(&[]), "abcde"),
        (or(&[]), ""),
        (
            and(&[
                compare(Gte, "year", json!(1)),
                compare(Ne, "draft", json!(true)),
            ]),
            "be",
        ),
        (
            or(&[
                compare(Eq, "team", json!("sales")),
                compare(Eq, "year", json!("2020")),
            ]),
            "bc",
        ),
        (
            and(&[
                or(&[
                    compare(Eq, "year", json!(1)),
                    compare(Eq, "year", json!(2020)),
                ]),
                or(&[compare(Eq, "draft", json!(1))]),
            ]),
            "e",
        ),
    ];
    for (filter, expected) in table {
        let scope = SearchScope {
            filter: Some(filter.clone()),
            ..within(&vector_store)
        };
        let mut found = vector_texts(&store, X, scope.clone()).await;
        found.sort();
        assert_eq!(found.concat(), expected, "{filter:?}");
        let mut found = keyword_texts(&store, "a b c d e", scope).await;
        found.sort();
        assert_eq!(found.concat(), expected, "{filter:?} by keyword");
    }
}

#[tokio::test]
async fn filters_that_make_no_sense_or_too_much_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let one = compare(Eq, "a", serde_json::json!(1));
    let mut deep = one.clone();
    for _ in 0..20 {
        deep = AttributeFilter::And(vec![deep]);
    }
    let wide = AttributeFilter::Or(vec![one; 300]);
    let list_for_one = compare(Eq, "a", serde_json::json!([1]));
    let one_for_list = compare(In, "a", serde_json::json!(1));
    let long = compare(
        In,
        "a",
        serde_json::Value::from((0..300).collect::<Vec<i32>>()),
    );
    for filter in [deep, wide, list_for_one, one_for_list, long] {
        let scope = SearchScope {
            filter: Some(filter),
            ..within("vs_x")
        };
        let found = store.vector_search(X.to_vec(), scope, 1).await;
        assert!(
            matches!(found, Err(StoreError::Invalid { .. })),
            "{found:?}"
        );
    }
}
