//! The attributes of a document as a filter reads them: without copying, for it reads those of every document.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute<'a> {
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
    /// Nothing that a filter can ask for.
    Other,
}

pub(super) struct ReadAttributes<'a>(Vec<(Cow<'a, str>, Attribute<'a>)>);

impl<'a> ReadAttributes<'a> {
    /// From a JSON object.
    pub(super) fn of(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Attribute<'a>> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }
}

impl Attribute<'_> {
    /// Only what is of one kind has an order.
    pub(super) fn compare(&self, other: &Attribute) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Attribute::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Attribute::Text(b)) => Some(a.cmp(b)),
            (Self::Integer(a), Attribute::Integer(b)) => Some(a.cmp(b)),
            (Self::Real(a), Attribute::Real(b)) => a.partial_cmp(b),
            (Self::Integer(a), Attribute::Real(b)) => compare_exactly(*a, *b),
            (Self::Real(a), Attribute::Integer(b)) => {
                compare_exactly(*b, *a).map(Ordering::reverse)
            }
            _ => None,
        }
    }
}

/// Not every whole number of 64 bits is a floating one.
fn compare_exactly(integer: i64, real: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if real.is_nan() {
        None
    } else if real >= BEYOND {
        Some(Ordering::Less)
    } else if real < -BEYOND {
        Some(Ordering::Greater)
    } else {
        let whole = real.trunc();
        Some(integer.cmp(&(whole as i64)).then(whole.total_cmp(&real)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ReadAttributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = ReadAttributes<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut read = Vec::new();
        while let Some((Attribute::Text(key), value)) = map.next_entry()? {
            read.push((key, value));
        }
        Ok(ReadAttributes(read))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Attribute<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AttributeVisitor)
    }
}

struct AttributeVisitor;

impl<'de> Visitor<'de> for AttributeVisitor {
    type Value = Attribute<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Attribute::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Attribute::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Attribute::Real(value as f64), Attribute::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Attribute::Real(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Attribute::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Attribute::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Attribute::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_and_only_like_ones_have_an_order() {
        let json = r#"{"a": 1, "b": 9007199254740993, "c": 1.5, "d": "x\"y", "e\n": true, "f": [1, {"g": 2}],
                       "h": {"a": 3}, "i": null, "j": 18446744073709551615, "k": -2.5}"#;
        let read = ReadAttributes::of(json).unwrap();
        let get = |key: &str| read.get(key).unwrap();
        assert_eq!(get("d"), &Attribute::Text("x\"y".into()));
        assert_eq!(get("e\n"), &Attribute::Bool(true));
        for other in ["f", "h", "i"] {
            assert_eq!(get(other), &Attribute::Other);
            assert_eq!(get(other).compare(get(other)), None);
        }
        assert_eq!(read.get("g"), None);
        use Attribute::{Integer, Real};
        for (left, right, order) in [
            (get("a"), Real(1.0), Some(Ordering::Equal)),
            (get("a"), Real(1.5), Some(Ordering::Less)),
            (get("c"), Integer(1), Some(Ordering::Greater)),
            (get("k"), Integer(-2), Some(Ordering::Less)),
            (
                get("b"),
                Real(9_007_199_254_740_992.0),
                Some(Ordering::Greater),
            ),
            (get("j"), Integer(i64::MAX), Some(Ordering::Greater)),
            (get("a"), Real(-1e300), Some(Ordering::Greater)),
            (get("a"), Real(f64::NAN), None),
            (get("a"), Attribute::Bool(true), None),
            (get("d"), Integer(1), None),
        ] {
            assert_eq!(left.compare(&right), order, "{left:?} and {right:?}");
        }
        assert!(ReadAttributes::of("[]").is_err());
    }
}
